package fault

import (
	"errors"
	"fmt"
)

// errClosed ends a connection that a rule closes.
var errClosed = errors.New("fault: closed by a rule")

// How a connection is closed.
type How uint8

// The ways.
const (
	// FIN: the peer reads all that was sent before, and then the end of the stream.
	FIN How = iota
	// RST: the peer reads an error, and may lose what was sent before.
	RST
	// Half: the peer reads the end of the stream, but may go on writing, and the node goes on reading. What the node has to say
	// from then on is lost.
	Half
)

var howNames = [...]string{FIN: "FIN", RST: "RST", Half: "half"}

// String is the way's name in rules and records.
func (h How) String() string { return nameOf(howNames[:], h) }

// Close closes the connection of a frame that is neither acted on nor sent, except that a half-closed connection still acts
// on what it receives.
type Close struct {
	How How
}

func (c Close) String() string { return fmt.Sprintf("close (%v)", c.How) }

func (c Close) check(Match) error {
	if int(c.How) >= len(howNames) {
		return &RuleError{"Do.How", c.How, "there is no such way"}
	}
	return nil
}

func (c Close) close(t *tap) error {
	switch c.How {
	case FIN:
		t.s.Finish()
	case RST:
		t.s.Reset()
		return errClosed
	case Half:
		t.s.HalfClose()
	}
	return nil
}

func (c Close) received(t *tap, _ *Fault, s *sight) error {
	t.s.Settle()
	if err := c.close(t); err != nil || c.How == FIN {
		return err
	}
	return t.pass(s)
}

func (c Close) sent(t *tap, _ *Fault, _ *sight) error { return c.close(t) }

// Cut resets every connection that fits, at once, and every new one as soon as it is known to fit, until the rule is
// removed. What a rule says of frames must not be set.
type Cut struct{}

func (Cut) String() string { return "cut" }

func (Cut) check(m Match) error { return m.checkNoFrames("a cut is for connections, not for frames") }

func (Cut) adapt(m *Match) { m.Direction = Received }

func (Cut) received(t *tap, _ *Fault, _ *sight) error {
	t.s.Reset()
	return errClosed
}

func (Cut) sent(t *tap, _ *Fault, s *sight) error { return t.pass(s) }

// cut resets a connection that is there, if it fits.
func (f *Fault) cut(t *tap) bool {
	who := t.who.Load()
	if !f.match.fitsConnection(who) {
		return false
	}
	s := sight{who: who}
	if f.strike(s.connection()) == 0 {
		return false
	}
	t.s.Reset()
	return true
}

// connection is the record of a fault that no frame has brought about.
func (s *sight) connection() Strike {
	return Strike{
		Node: s.who.node, Bucket: s.who.bucket, Connection: s.who.name, Peer: s.who.peer, Role: s.who.role, VBucket: -1,
	}
}
