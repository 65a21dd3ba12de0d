package kvnode_test

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"github.com/xdg-go/scram"

	"github.com/shearpin/shearpin/dcp/kvnode"
	"github.com/shearpin/shearpin/dcp/mcbp"
)

var scramHashes = map[string]scram.HashGeneratorFcn{
	"SCRAM-SHA512": scram.SHA512, "SCRAM-SHA256": scram.SHA256, "SCRAM-SHA1": scram.SHA1,
}

func sasl(op mcbp.Opcode, mechanism, message string) *mcbp.Packet {
	return &mcbp.Packet{Opcode: op, Key: []byte(mechanism), Value: []byte(message)}
}

// challenge begins a login and returns the node's challenge.
func (c *client) challenge(mechanism string, steps *scram.ClientConversation) string {
	c.t.Helper()
	first, err := steps.Step("")
	require.NoError(c.t, err)
	f := c.do(sasl(mcbp.OpSASLAuth, mechanism, first))
	require.Equal(c.t, mcbp.StatusAuthContinue, f.Status())
	return string(f.Value())
}

func scramClient(t testing.TB, mechanism, user, password, authzID string) *scram.ClientConversation {
	t.Helper()
	c, err := scramHashes[mechanism].NewClientUnprepped(user, password, authzID)
	require.NoError(t, err)
	return c.NewConversation()
}

// scramLogin goes through both steps and returns the answer to the second.
func (c *client) scramLogin(mechanism, user, password, authzID string) (last mcbp.Frame, steps *scram.ClientConversation) {
	c.t.Helper()
	steps = scramClient(c.t, mechanism, user, password, authzID)
	proof, err := steps.Step(c.challenge(mechanism, steps))
	require.NoError(c.t, err)
	return c.do(sasl(mcbp.OpSASLStep, mechanism, proof)), steps
}

// in reports whether the connection has been let in.
func (c *client) in() bool {
	c.t.Helper()
	return c.do(&mcbp.Packet{Opcode: mcbp.OpListBuckets}).Status() == mcbp.StatusSuccess
}

func TestScramLetsInWhoKnowsThePassword(t *testing.T) {
	n := startNode(t, "n0")
	for mechanism := range scramHashes {
		t.Run(mechanism, func(t *testing.T) {
			c := connect(t, n)
			f, steps := c.scramLogin(mechanism, testUser, testPassword, "")
			require.Equal(t, mcbp.StatusSuccess, f.Status())
			_, err := steps.Step(string(f.Value()))
			require.NoError(t, err)
			assert.True(t, steps.Valid(), "the node knows the password too")
			assert.True(t, c.in())

			f, _ = connect(t, n).scramLogin(mechanism, testUser, testPassword, testUser)
			assert.Equal(t, mcbp.StatusSuccess, f.Status(), "as oneself")
		})
	}
}

func TestScramTakesNamesAndPasswordsAsTheyAre(t *testing.T) {
	for _, words := range []string{"a=b,c=2C", "soft\u00adhyphen", "thin\u2009space", "\u0627a"} {
		n := startNode(t, "n0", func(o *kvnode.Options) { o.User, o.Password = "u"+words, "p"+words })
		f, _ := connect(t, n).scramLogin("SCRAM-SHA256", "u"+words, "p"+words, "")
		assert.Equal(t, mcbp.StatusSuccess, f.Status(), "%q", words)
	}
}

func TestScramKeepsOthersOut(t *testing.T) {
	n := startNode(t, "n0")
	for mechanism := range scramHashes {
		for name, who := range map[string][3]string{
			"password": {testUser, "wrong", ""}, "user": {"nobody", testPassword, ""}, "neither": {"", "", ""},
			"as another": {testUser, testPassword, "admin"},
		} {
			c := connect(t, n)
			f, _ := c.scramLogin(mechanism, who[0], who[1], who[2])
			assert.Equal(t, mcbp.StatusAuthError, f.Status(), "%s, wrong %s", mechanism, name)
			assert.Empty(t, f.Value())
			assert.False(t, c.in())
		}
	}
}

// saltOf is the salt, and the iterations, that a name is asked to use.
func saltOf(t *testing.T, n *kvnode.Node, mechanism, user string) string {
	t.Helper()
	c := connect(t, n)
	_, salt, _ := strings.Cut(c.challenge(mechanism, scramClient(t, mechanism, user, "", "")), ",")
	return salt
}

// Who asks for a name learns nothing about whether there is such a user.
func TestScramNamesCannotBeProbed(t *testing.T) {
	n := startNode(t, "n0")
	seen := map[string]bool{}
	for mechanism := range scramHashes {
		for _, user := range []string{testUser, "nobody", "somebody"} {
			salt := saltOf(t, n, mechanism, user)
			assert.Equal(t, salt, saltOf(t, n, mechanism, user), "the same each time")
			assert.Regexp(t, `^s=[A-Za-z0-9+/]{22}==,i=4096$`, salt)
			assert.False(t, seen[salt], "to everybody his own")
			seen[salt] = true
		}
	}
	assert.NotEqual(t, saltOf(t, n, "SCRAM-SHA1", testUser), saltOf(t, startNode(t, "n1"), "SCRAM-SHA1", testUser))
}

func TestAConversationEndsWithTheFirstMistake(t *testing.T) {
	const mechanism = "SCRAM-SHA256"
	n := startNode(t, "n0")
	for name, disturb := range map[string]func(c *client, proof string) mcbp.Status{
		"a wrong proof": func(c *client, proof string) mcbp.Status {
			return c.do(sasl(mcbp.OpSASLStep, mechanism, proof[:len(proof)-8]+"AAAAAAA=")).Status()
		},
		"no proof": func(c *client, _ string) mcbp.Status { return c.do(sasl(mcbp.OpSASLStep, mechanism, "")).Status() },
		"another mechanism": func(c *client, proof string) mcbp.Status {
			return c.do(sasl(mcbp.OpSASLStep, "SCRAM-SHA1", proof)).Status()
		},
		"a long proof": func(c *client, proof string) mcbp.Status {
			return c.do(sasl(mcbp.OpSASLStep, mechanism, "x="+strings.Repeat("x", 4096)+","+proof)).Status()
		},
		"extras": func(c *client, proof string) mcbp.Status {
			p := sasl(mcbp.OpSASLStep, mechanism, proof)
			p.Extras = []byte{0}
			return c.do(p).Status()
		},
		"another beginning": func(c *client, _ string) mcbp.Status { return c.do(sasl(mcbp.OpSASLAuth, mechanism, "n,,")).Status() },
	} {
		t.Run(name, func(t *testing.T) {
			c := connect(t, n)
			steps := scramClient(t, mechanism, testUser, testPassword, "")
			proof, err := steps.Step(c.challenge(mechanism, steps))
			require.NoError(t, err)
			assert.Equal(t, mcbp.StatusAuthError, disturb(c, proof))
			assert.Equal(t, mcbp.StatusAuthError, c.do(sasl(mcbp.OpSASLStep, mechanism, proof)).Status(), "the right proof comes too late")
			assert.False(t, c.in())
			f, _ := c.scramLogin(mechanism, testUser, testPassword, "")
			assert.Equal(t, mcbp.StatusSuccess, f.Status(), "but one may begin again")
		})
	}
	c := connect(t, n)
	steps := scramClient(t, mechanism, testUser, testPassword, "")
	proof, err := steps.Step(c.challenge(mechanism, steps))
	require.NoError(t, err)
	c.ok(sasl(mcbp.OpSASLStep, mechanism, proof))
	assert.Equal(t, mcbp.StatusAuthError, c.do(sasl(mcbp.OpSASLStep, mechanism, proof)).Status(), "no proof is good for two logins")
}

func TestMalformedLoginsAreRefused(t *testing.T) {
	n := startNode(t, "n0")
	for name, p := range map[string]*mcbp.Packet{
		"a token":         sasl(mcbp.OpSASLAuth, "OAUTHBEARER", "n,,\x01auth=Bearer x\x01\x01"),
		"no mechanism":    sasl(mcbp.OpSASLAuth, "", "n,,n=a,r=b"),
		"no message":      sasl(mcbp.OpSASLAuth, "SCRAM-SHA1", ""),
		"channel binding": sasl(mcbp.OpSASLAuth, "SCRAM-SHA1", "p=tls-exporter,,n=a,r=b"),
		"not text":        sasl(mcbp.OpSASLAuth, "SCRAM-SHA1", "\x00\xff\xfe"),
		"a long message":  sasl(mcbp.OpSASLAuth, "SCRAM-SHA1", "n,,n="+testUser+",r="+strings.Repeat("r", 4096)),
		"a step only":     sasl(mcbp.OpSASLStep, "SCRAM-SHA1", "c=biws,r=r,p=AAAA"),
		"plain, in steps": sasl(mcbp.OpSASLStep, "PLAIN", "\x00"+testUser+"\x00"+testPassword),
	} {
		c := connect(t, n)
		assert.Equal(t, mcbp.StatusAuthError, c.do(p).Status(), name)
		assert.False(t, c.in(), name)
	}
}

func TestOnlyTheMechanismsOfTheOptionsAreTaken(t *testing.T) {
	plain := sasl(mcbp.OpSASLAuth, "PLAIN", "\x00"+testUser+"\x00"+testPassword)
	c := connect(t, startNode(t, "n0", func(o *kvnode.Options) { o.Mechanisms = []string{"SCRAM-SHA1", "SCRAM-SHA512"} }))
	assert.Equal(t, "SCRAM-SHA512 SCRAM-SHA1", string(c.ok(&mcbp.Packet{Opcode: mcbp.OpSASLListMechs}).Value()))
	assert.Equal(t, mcbp.StatusAuthError, c.do(plain).Status())
	assert.Equal(t, mcbp.StatusAuthError, c.do(sasl(mcbp.OpSASLAuth, "SCRAM-SHA256", "n,,n="+testUser+",r=r")).Status())
	assert.False(t, c.in())
	f, _ := c.scramLogin("SCRAM-SHA512", testUser, testPassword, "")
	assert.Equal(t, mcbp.StatusSuccess, f.Status())

	c = connect(t, startNode(t, "n1", func(o *kvnode.Options) { o.Mechanisms = []string{"PLAIN"} }))
	assert.Equal(t, "PLAIN", string(c.ok(&mcbp.Packet{Opcode: mcbp.OpSASLListMechs}).Value()))
	assert.Equal(t, mcbp.StatusAuthError, c.do(sasl(mcbp.OpSASLAuth, "SCRAM-SHA512", "n,,n="+testUser+",r=r")).Status())
	c.ok(plain)

	_, err := kvnode.Start(kvnode.Options{Name: "n2", Mechanisms: []string{"PLAIN", "LOGIN"}})
	require.ErrorContains(t, err, `"LOGIN"`)
}
