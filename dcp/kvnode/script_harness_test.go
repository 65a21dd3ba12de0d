package kvnode_test

import (
	"context"
	"os"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/shearpin/shearpin/dcp/kvnode"
	"github.com/shearpin/shearpin/dcp/kvnode/fault"
	"github.com/shearpin/shearpin/dcp/mcbp"
)

// victim is the name of the connection that rules of tests are for.
const victim = "victim"

// stage is a scripted node with an active vbucket 7, somebody whom the rules leave alone, and the victim.
type stage struct {
	t      *testing.T
	script *fault.Script
	node   *kvnode.Node
	admin  *client
	victim *client
}

func stageFor(t *testing.T) *stage {
	t.Helper()
	s := &stage{t: t, script: fault.NewScript(1)}
	s.node = startNode(t, "n0", scripted(s.script))
	s.admin = login(t, s.node)
	s.admin.setVBucket(7, mcbp.VBucketActive)
	s.victim = s.loginVictim()
	return s
}

func scripted(script *fault.Script) func(*kvnode.Options) {
	return func(o *kvnode.Options) { o.Faults = script }
}

func (s *stage) loginVictim() *client {
	s.t.Helper()
	c := login(s.t, s.node)
	c.ok(&mcbp.Packet{Opcode: mcbp.OpHello, Key: []byte(victim)})
	return c
}

// add adds a rule for the victim, if it names no other connection.
func (s *stage) add(r fault.Rule) *fault.Fault {
	s.t.Helper()
	if r.Match.Connection == "" {
		r.Match.Connection = victim
	}
	return addRule(s.t, s.script, r)
}

func addRule(t testing.TB, script *fault.Script, r fault.Rule) *fault.Fault {
	t.Helper()
	f, err := script.Add(r)
	require.NoError(t, err)
	t.Cleanup(f.Remove)
	return f
}

// happened waits until a fault has happened that many times.
func happened(t testing.TB, f *fault.Fault, times int) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	require.NoError(t, f.Wait(ctx, times))
}

// send writes a request under an opaque of its own and does not wait for the answer.
func (c *client) send(p *mcbp.Packet) mcbp.Opaque {
	c.t.Helper()
	c.opaque++
	p.Opaque = mcbp.OpaqueFromUint32(c.opaque)
	c.write(p.Frame())
	return p.Opaque
}

// aWhile is how long tests listen for what must not come. Hearing nothing can be luck; hearing something is a mistake.
const aWhile = 30 * time.Millisecond

// silent checks that nothing comes for a while.
func (c *client) silent() {
	c.t.Helper()
	require.Empty(c.t, c.buf)
	require.NoError(c.t, c.socket.SetReadDeadline(time.Now().Add(aWhile)))
	var b [1]byte
	n, err := c.socket.Read(b[:])
	assert.Zero(c.t, n, "something came")
	assert.ErrorIs(c.t, err, os.ErrDeadlineExceeded)
}

// expect reads the answer with that opaque.
func (c *client) expect(opaque mcbp.Opaque, status mcbp.Status) mcbp.Frame {
	c.t.Helper()
	f := c.read()
	require.Equal(c.t, opaque, f.Opaque(), "%v", f)
	require.Equal(c.t, status, f.Status(), "%v", f)
	return f
}

// ping checks that the connection works, and that nothing has come that was not read.
func (c *client) ping() {
	c.t.Helper()
	c.ok(noop())
}

func noop() *mcbp.Packet { return &mcbp.Packet{Opcode: mcbp.OpNoop} }

// value is the document that somebody else reads; "" is none.
func (s *stage) value(key string) string {
	s.t.Helper()
	f := s.admin.get(7, key)
	if f.Status() == mcbp.StatusKeyNotFound {
		return ""
	}
	require.Equal(s.t, mcbp.StatusSuccess, f.Status())
	return string(f.Value())
}

func (s *stage) seqno() uint64 { return statUint(s.t, s.admin, "vbucket-seqno", 7, "high_seqno") }

// scriptedPair is pairOf with a script for both nodes.
func scriptedPair(t *testing.T, vbs ...uint16) (*pair, *fault.Script) {
	t.Helper()
	script := fault.NewScript(1)
	p := &pair{n0: startNode(t, "n0", scripted(script)), n1: startNode(t, "n1", scripted(script))}
	p.a, p.b = login(t, p.n0), login(t, p.n1)
	for _, vb := range vbs {
		p.a.setVBucket(vb, mcbp.VBucketActive)
		p.b.setVBucket(vb, mcbp.VBucketReplica)
	}
	p.r = join(t, p.n0, p.n1, testLink)
	return p, script
}
