package kv_test

import (
	"bytes"
	"encoding/base64"
	"fmt"
	"net"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/shearpin/shearpin/dcp/kv"
	"github.com/shearpin/shearpin/dcp/mcbp"
)

// overTheNet makes connections look as if they led to another machine, unencrypted.
func (s *server) overTheNet() {
	s.wrap = func(near, far net.Conn) (net.Conn, net.Conn) { return farAway{near}, far }
}

// logins are the requests of opcodes that belong to a login, as opcode and key.
func (s *server) logins() (all []string) {
	for _, f := range s.seen() {
		switch f.Opcode() {
		case mcbp.OpSASLListMechs, mcbp.OpSASLAuth, mcbp.OpSASLStep:
			all = append(all, strings.TrimSpace(f.Opcode().String()+" "+string(f.Key())))
		}
	}
	return all
}

// requireSilence fails if the password, plain or as a file or a URL might have it, was in anything that was sent.
func (s *server) requireSilence() {
	for _, f := range s.seen() {
		require.NotContains(s.t, string(f), password)
		require.NotContains(s.t, string(f), base64.StdEncoding.EncodeToString([]byte(password)))
	}
}

func TestScramLogsInByEachHash(t *testing.T) {
	for _, m := range []kv.Mechanism{kv.ScramSHA1, kv.ScramSHA256, kv.ScramSHA512} {
		t.Run(string(m), func(t *testing.T) {
			s := newServer(t)
			s.overTheNet()
			s.scram(m)
			s.connect()
			s.requireSilence()
			assert.Equal(t, []string{"SASL_LIST_MECHS", "SASL_AUTH " + string(m), "SASL_STEP " + string(m)}, s.logins())
		})
	}
}

// RFC 5802 §5.1: a comma and an equals sign in a name are escaped.
func TestScramEscapesTheUsersName(t *testing.T) {
	s := newServer(t)
	s.user = "a=b,c=2C"
	s.scram(kv.ScramSHA256)
	s.connect()
}

// Engines do not prepare names and passwords, and neither do we: these would change, or be refused.
func TestScramTakesNamesAndPasswordsAsTheyAre(t *testing.T) {
	for _, words := range []string{"soft\u00adhyphen", "\u2168", "thin\u2009space", "\U0001f512", "\u0627a", "tab\there", "\xff\xfe"} {
		s := newServer(t)
		s.user, s.password = "u-"+words, "p-"+words
		s.scram(kv.ScramSHA1)
		s.connect()
		assert.Contains(t, string(s.seen()[1].Value()), "n=u-"+words+",")
	}
}

func TestScramWithAWrongPasswordIsRefused(t *testing.T) {
	for _, m := range []kv.Mechanism{kv.ScramSHA1, kv.ScramSHA256, kv.ScramSHA512} {
		for name, who := range map[string]kv.Credentials{
			"password": {User: "user", Password: password + "!"}, "user": {User: "nobody", Password: password},
		} {
			t.Run(string(m)+"/"+name, func(t *testing.T) {
				s := newServer(t)
				s.scram(m, kv.Plain)
				ep := s.endpoint()
				ep.Credentials = who
				_, err := kv.Connect(t.Context(), ep, "orders")
				assert.Equal(t, kv.StepSASL, step(t, err))
				assert.ErrorIs(t, err, mcbp.StatusAuthError)
				var failed *kv.AuthError
				require.ErrorAs(t, err, &failed)
				assert.Equal(t, m, failed.Mechanism)
				assert.Equal(t, who.User, failed.User)
			})
		}
	}
}

// A login that was refused is not tried again with something weaker: whoever sits in between would only have to refuse.
func TestARefusedLoginIsNotTriedAgainWithAWeakerMechanism(t *testing.T) {
	for _, op := range []mcbp.Opcode{mcbp.OpSASLAuth, mcbp.OpSASLStep} {
		for _, refusal := range []mcbp.Status{mcbp.StatusAuthError, mcbp.StatusAuthStale, mcbp.StatusUnknownCommand, mcbp.StatusNotSupported} {
			s := newServer(t)
			s.scram(kv.DefaultMechanisms()...)
			s.on(op, status(refusal))
			_, err := kv.Connect(t.Context(), s.endpoint(), "orders")
			assert.Equal(t, kv.StepSASL, step(t, err))
			assert.ErrorIs(t, err, refusal)
			assert.Equal(t, op, s.last().Opcode())
			s.requireSilence()
		}
	}
}

func TestTheStrongestMechanismThatTheNodeListsIsTaken(t *testing.T) {
	all := kv.DefaultMechanisms()
	for _, c := range []struct {
		listed string
		use    []kv.Mechanism // nil: the defaults
		want   kv.Mechanism
	}{
		{"SCRAM-SHA512 SCRAM-SHA256 SCRAM-SHA1 PLAIN", nil, kv.ScramSHA512},
		{"PLAIN SCRAM-SHA1 SCRAM-SHA256 SCRAM-SHA512", nil, kv.ScramSHA512},
		{"PLAIN SCRAM-SHA1 SCRAM-SHA256", nil, kv.ScramSHA256},
		{"PLAIN SCRAM-SHA1", nil, kv.ScramSHA1},
		{"PLAIN", nil, kv.Plain},
		{" OAUTHBEARER  PLAIN\n", nil, kv.Plain},
		{"SCRAM-SHA-512 scram-sha512 XSCRAM-SHA512 SCRAM-SHA512-PLUS SCRAM-SHA1", nil, kv.ScramSHA1},
		{"SCRAM-SHA512 SCRAM-SHA256 SCRAM-SHA1 PLAIN", []kv.Mechanism{kv.ScramSHA1, kv.ScramSHA512}, kv.ScramSHA1},
		{"SCRAM-SHA512 PLAIN", []kv.Mechanism{kv.ScramSHA1, kv.ScramSHA512}, kv.ScramSHA512},
		{"SCRAM-SHA512 PLAIN", []kv.Mechanism{kv.Plain, kv.ScramSHA512}, kv.Plain},
	} {
		t.Run(fmt.Sprintf("%q of %v", c.listed, c.use), func(t *testing.T) {
			s := newServer(t)
			s.scram(all...)
			if c.want == kv.Plain {
				s.on(mcbp.OpSASLAuth, status(mcbp.StatusSuccess))
			}
			s.on(mcbp.OpSASLListMechs, value([]byte(c.listed)))
			ep := s.endpoint()
			ep.Mechanisms = c.use
			client, err := kv.Connect(t.Context(), ep, "orders")
			require.NoError(t, err)
			require.NoError(t, client.Close())
			assert.Equal(t, "SASL_AUTH "+string(c.want), s.logins()[1])
		})
	}
}

func TestASingleMechanismIsUsedWithoutAsking(t *testing.T) {
	for _, m := range kv.DefaultMechanisms() {
		s := newServer(t)
		s.scram(m)
		if m == kv.Plain {
			s.on(mcbp.OpSASLAuth, status(mcbp.StatusSuccess))
		}
		ep := s.endpoint()
		ep.Mechanisms = []kv.Mechanism{m}
		client, err := kv.Connect(t.Context(), ep, "orders")
		require.NoError(t, err)
		require.NoError(t, client.Close())
		assert.Equal(t, "SASL_AUTH "+string(m), s.logins()[0])
	}
}

// A node that does not know the command that lists them is older than SCRAM.
func TestANodeThatListsNoMechanismsSpeaksPlain(t *testing.T) {
	for _, refusal := range []mcbp.Status{mcbp.StatusUnknownCommand, mcbp.StatusNotSupported} {
		s := newServer(t)
		s.on(mcbp.OpSASLListMechs, status(refusal))
		s.connect()
		assert.Equal(t, []string{"SASL_LIST_MECHS", "SASL_AUTH PLAIN"}, s.logins())
	}
}

// Where others could listen, the password is not sent in plain, whatever the node, or who claims to be it, lists.
func TestNothingTalksUsIntoPlainWhereOthersCanListen(t *testing.T) {
	for _, listed := range []string{"PLAIN", "PLAIN PLAIN", "SCRAM-SHA-512 PLAIN", "", "OAUTHBEARER", "\x00\xff PLAIN"} {
		for _, use := range [][]kv.Mechanism{nil, {kv.Plain, kv.ScramSHA1}, {kv.ScramSHA512, kv.ScramSHA256}} {
			s := newServer(t)
			s.overTheNet()
			s.on(mcbp.OpSASLListMechs, value([]byte(listed)))
			ep := s.endpoint()
			ep.Mechanisms = use
			_, err := kv.Connect(t.Context(), ep, "orders")
			assert.Equal(t, kv.StepSASL, step(t, err))
			var none *kv.MechanismError
			require.ErrorAs(t, err, &none)
			assert.NotContains(t, none.Allowed, kv.Plain)
			meant := strings.Contains(listed, "PLAIN") && len(use) != 2 || strings.Contains(listed, "PLAIN") && use[0] == kv.Plain
			assert.Equal(t, meant, none.PlainRefused)
			if meant {
				assert.ErrorIs(t, err, kv.ErrPlainRefused)
			} else {
				assert.NotErrorIs(t, err, kv.ErrPlainRefused)
			}
			assert.Equal(t, []string{"SASL_LIST_MECHS"}, s.logins())
			assert.NotContains(t, err.Error(), "OAUTH", "the node's words are not repeated")
		}
	}
	for _, refusal := range []mcbp.Status{mcbp.StatusUnknownCommand, mcbp.StatusNotSupported} {
		s := newServer(t)
		s.overTheNet()
		s.on(mcbp.OpSASLListMechs, status(refusal))
		_, err := kv.Connect(t.Context(), s.endpoint(), "orders")
		assert.Equal(t, kv.StepSASL, step(t, err))
		assert.ErrorIs(t, err, kv.ErrPlainRefused)
		assert.Equal(t, []string{"SASL_LIST_MECHS"}, s.logins())
	}
}

func TestPlainThatIsAllowedStillComesAfterScram(t *testing.T) {
	s := newServer(t)
	s.overTheNet()
	s.scram(kv.Plain, kv.ScramSHA1)
	ep := s.endpoint()
	ep.AllowPlainAuth = true
	client, err := kv.Connect(t.Context(), ep, "orders")
	require.NoError(t, err)
	require.NoError(t, client.Close())
	assert.Equal(t, "SASL_AUTH SCRAM-SHA1", s.logins()[1])
	s.requireSilence()

	s = newServer(t)
	s.overTheNet()
	s.on(mcbp.OpSASLListMechs, value([]byte("PLAIN")))
	ep.Dial = s.dial
	client, err = kv.Connect(t.Context(), ep, "orders")
	require.NoError(t, err, "what the operator allows is done")
	require.NoError(t, client.Close())
}

// Success is worth nothing from a node that has not shown that it knows the password: it may be anybody.
func TestANodeThatDoesNotProveItselfIsRefused(t *testing.T) {
	proof := func(text string) reply { return value([]byte(text)) }
	type lie struct {
		to   mcbp.Opcode
		with reply
		want error
	}
	for name, l := range map[string]lie{
		"nothing":             {mcbp.OpSASLStep, proof(""), kv.ErrServerUnproven},
		"no proof":            {mcbp.OpSASLStep, proof("v="), kv.ErrServerUnproven},
		"not base64":          {mcbp.OpSASLStep, proof("v=?"), kv.ErrServerUnproven},
		"another's":           {mcbp.OpSASLStep, proof("v=" + base64.StdEncoding.EncodeToString(make([]byte, 20))), kv.ErrServerUnproven},
		"an error":            {mcbp.OpSASLStep, proof("e=other-error"), kv.ErrServerUnproven},
		"ours back":           {mcbp.OpSASLStep, func(_ net.Conn, r mcbp.Frame) [][]byte { return answer(r, mcbp.Packet{Value: r.Value()}) }, kv.ErrServerUnproven},
		"more than there is":  {mcbp.OpSASLStep, proof(strings.Repeat("v=", 1000)), kv.ErrServerUnproven},
		"without a challenge": {mcbp.OpSASLAuth, status(mcbp.StatusSuccess), kv.ErrServerUnproven},
		"a step too many":     {mcbp.OpSASLStep, status(mcbp.StatusAuthContinue), mcbp.StatusAuthContinue},
	} {
		t.Run(name, func(t *testing.T) {
			s := newServer(t)
			s.scram(kv.ScramSHA1)
			s.on(l.to, l.with)
			_, err := kv.Connect(t.Context(), s.endpoint(), "orders")
			assert.Equal(t, kv.StepSASL, step(t, err))
			assert.ErrorIs(t, err, l.want)
		})
	}
}

// A challenge that is not one ends the attempt before any key is derived, and our proof is not sent.
func TestABadChallengeIsNotAnswered(t *testing.T) {
	const salt = "c2FsdA=="
	challenge := func(text func(nonce string) string) reply {
		return func(_ net.Conn, request mcbp.Frame) [][]byte {
			_, nonce, _ := bytes.Cut(request.Value(), []byte(",r="))
			return answer(request, mcbp.Packet{Status: mcbp.StatusAuthContinue, Value: []byte(text(string(nonce)))})
		}
	}
	for name, c := range map[string]struct {
		text func(nonce string) string
		why  string
	}{
		"empty":               {func(string) string { return "" }, "malformed"},
		"two fields":          {func(n string) string { return "r=" + n + "x,s=" + salt }, "malformed"},
		"another order":       {func(n string) string { return "s=" + salt + ",r=" + n + "x,i=4096" }, "malformed"},
		"an extension first":  {func(n string) string { return "m=1,r=" + n + "x,s=" + salt + ",i=4096" }, "malformed"},
		"another's nonce":     {func(string) string { return "r=xyz,s=" + salt + ",i=4096" }, "nonce"},
		"our nonce only":      {func(n string) string { return "r=" + n + ",s=" + salt + ",i=4096" }, "nonce"},
		"no nonce":            {func(string) string { return "r=,s=" + salt + ",i=4096" }, "nonce"},
		"no salt":             {func(n string) string { return "r=" + n + "x,s=,i=4096" }, "salt"},
		"salt not base64":     {func(n string) string { return "r=" + n + "x,s=?,i=4096" }, "salt"},
		"no iterations":       {func(n string) string { return "r=" + n + "x,s=" + salt + ",i=" }, "iterations"},
		"negative iterations": {func(n string) string { return "r=" + n + "x,s=" + salt + ",i=-4096" }, "iterations"},
		"too few iterations":  {func(n string) string { return "r=" + n + "x,s=" + salt + ",i=4095" }, "4095 iterations"},
		"one iteration":       {func(n string) string { return "r=" + n + "x,s=" + salt + ",i=1" }, "1 iterations"},
		"too many iterations": {func(n string) string { return "r=" + n + "x,s=" + salt + ",i=1048577" }, "1048577 iterations"},
		"a year of them":      {func(n string) string { return "r=" + n + "x,s=" + salt + ",i=4294967295" }, "4294967295 iterations"},
		"more than a number":  {func(n string) string { return "r=" + n + "x,s=" + salt + ",i=99999999999999999999" }, "iterations"},
		"not text":            {func(string) string { return "\x00\xff\xfe" }, "malformed"},
	} {
		t.Run(name, func(t *testing.T) {
			s := newServer(t)
			s.scram(kv.ScramSHA512)
			s.on(mcbp.OpSASLAuth, challenge(c.text))
			_, err := kv.Connect(t.Context(), s.endpoint(), "orders")
			assert.Equal(t, kv.StepSASL, step(t, err))
			var protocol *kv.ProtocolError
			require.ErrorAs(t, err, &protocol)
			assert.Contains(t, protocol.Why, c.why)
			assert.Equal(t, mcbp.OpSASLAuth, s.last().Opcode())
		})
	}
}

// The challenge may go on with extensions (RFC 5802 §5.1).
func TestAChallengeMayHaveExtensions(t *testing.T) {
	s := newServer(t)
	s.scram(kv.ScramSHA1)
	s.on(mcbp.OpSASLAuth, func(_ net.Conn, request mcbp.Frame) [][]byte {
		_, nonce, _ := bytes.Cut(request.Value(), []byte(",r="))
		return answer(request, mcbp.Packet{Status: mcbp.StatusAuthContinue, Value: []byte("r=" + string(nonce) + "x,s=c2FsdA==,i=4096,x=1")})
	})
	s.on(mcbp.OpSASLStep, status(mcbp.StatusAuthError))
	_, err := kv.Connect(t.Context(), s.endpoint(), "orders")
	assert.Equal(t, kv.StepSASL, step(t, err))
	assert.Equal(t, mcbp.OpSASLStep, s.last().Opcode())
}

// Without a user there is no login, not even a question about it.
func TestWithoutAUserThereIsNoLogin(t *testing.T) {
	s := newServer(t)
	s.overTheNet()
	ep := s.endpoint()
	ep.Credentials = kv.Credentials{}
	client, err := kv.Connect(t.Context(), ep, "orders")
	require.NoError(t, err)
	require.NoError(t, client.Close())
	assert.Empty(t, s.logins())
}

func TestAListOfMechanismsThatFailsIsAnError(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newServer(t)
		s.on(mcbp.OpSASLListMechs, status(mcbp.StatusBusy))
		_, err := kv.Connect(t.Context(), s.endpoint(), "orders")
		assert.Equal(t, kv.StepSASL, step(t, err))
		assert.ErrorIs(t, err, mcbp.StatusBusy)
		assert.Equal(t, []string{"SASL_LIST_MECHS"}, s.logins())
	})
}
