package kvnode

import (
	"bytes"
	"crypto/subtle"
	"slices"
	"strings"

	"github.com/xdg-go/scram"

	"github.com/shearpin/shearpin/dcp/mcbp"
)

// maxSASLMessage bounds a client's message, in bytes: names, passwords and nonces are far shorter.
const maxSASLMessage = 4 << 10

// mechPlain sends the password itself.
const mechPlain = "PLAIN"

// saslMechanisms are those that there are, the strongest first.
func saslMechanisms() []string {
	names := make([]string, 0, len(scramMechanisms)+1)
	for _, m := range scramMechanisms {
		names = append(names, m.name)
	}
	return append(names, mechPlain)
}

// offers says whether clients may log in by a mechanism.
func (o *Options) offers(mechanism string) bool {
	return len(o.Mechanisms) == 0 || slices.Contains(o.Mechanisms, mechanism)
}

// login is the SCRAM conversation that a connection is in. A connection has one at a time, and only between the answer to its AUTH
// and its next SASL message.
type login struct {
	mechanism string
	steps     *scram.ServerConversation
}

// saslList answers SASL_LIST_MECHS.
func (c *conn) saslList(f mcbp.Frame) {
	offered := slices.DeleteFunc(saslMechanisms(), func(name string) bool { return !c.node.opts.offers(name) })
	p := mcbp.Response(f, mcbp.StatusSuccess)
	p.Value = []byte(strings.Join(offered, " "))
	c.reply(p)
}

// saslAuth answers SASL_AUTH, which begins a login, whatever went before.
func (c *conn) saslAuth(f mcbp.Frame) {
	c.login = nil
	name := string(f.Key())
	switch {
	case f.ExtrasLen() != 0 || len(f.Value()) > maxSASLMessage:
		c.authFailed(f)
	case name == mechPlain && c.node.opts.offers(mechPlain):
		c.authPlain(f)
	default:
		c.authScram(name, f)
	}
}

// authPlain takes authorization identity, user and password, with a NUL between them.
func (c *conn) authPlain(f mcbp.Frame) {
	parts := bytes.Split(f.Value(), []byte{0})
	if len(parts) != 3 {
		c.authFailed(f)
		return
	}
	user := subtle.ConstantTimeCompare(parts[1], []byte(c.node.opts.User))
	password := subtle.ConstantTimeCompare(parts[2], []byte(c.node.opts.Password))
	if user&password != 1 {
		c.authFailed(f)
		return
	}
	c.letIn(mcbp.Response(f, mcbp.StatusSuccess))
}

// authScram answers the first message of SCRAM with a challenge.
func (c *conn) authScram(mechanism string, f mcbp.Frame) {
	account := c.node.scram[mechanism]
	if account == nil {
		c.authFailed(f)
		return
	}
	steps, err := account.conversation()
	if err != nil {
		c.authFailed(f)
		return
	}
	challenge, err := steps.Step(string(f.Value()))
	if err != nil {
		c.authFailed(f)
		return
	}
	c.login = &login{mechanism, steps}
	p := mcbp.Response(f, mcbp.StatusAuthContinue)
	p.Value = []byte(challenge)
	c.reply(p)
}

// saslStep answers SASL_STEP, the client's proof, with the node's own. Whatever is wrong ends the conversation.
func (c *conn) saslStep(f mcbp.Frame) {
	l := c.login
	c.login = nil
	if l == nil || string(f.Key()) != l.mechanism || f.ExtrasLen() != 0 || len(f.Value()) > maxSASLMessage {
		c.authFailed(f)
		return
	}
	final, err := l.steps.Step(string(f.Value()))
	other := l.steps.AuthzID() != "" && l.steps.AuthzID() != l.steps.Username()
	if err != nil || !l.steps.Valid() || other || l.steps.Username() != c.node.opts.User {
		c.authFailed(f)
		return
	}
	p := mcbp.Response(f, mcbp.StatusSuccess)
	p.Value = []byte(final)
	c.letIn(p)
}

// letIn answers a client that has proved to have the account. Announcements come behind.
func (c *conn) letIn(p *mcbp.Packet) {
	c.authenticated = true
	c.reply(p)
	c.announce()
}

// authFailed says no, and nothing about why.
func (c *conn) authFailed(f mcbp.Frame) {
	c.node.log.Info("authentication_failed", "peer", c.socket.RemoteAddr().String())
	c.answer(f, mcbp.StatusAuthError)
}
