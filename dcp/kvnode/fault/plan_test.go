package fault

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/shearpin/shearpin/dcp/kvnode"
	"github.com/shearpin/shearpin/dcp/mcbp"
)

// What the faults do on real connections is tested beside the node, in kvnode.

func TestKindsHaveNames(t *testing.T) {
	require.Len(t, Kinds(), 8)
	for _, k := range Kinds() {
		again, err := ParseKind(k.String())
		require.NoError(t, err)
		assert.Equal(t, k, again)
	}
	assert.Equal(t, EarlyStreamEnd, Kinds()[0])
	assert.Equal(t, StaleStreamEnd, Kinds()[7])
	for _, bad := range []string{"", "none", "fault 9"} {
		_, err := ParseKind(bad)
		assert.ErrorContains(t, err, "early-stream-end", "%q", bad)
	}
	assert.Equal(t, "fault 0", Kind(0).String())
	assert.Equal(t, "fault 9", Kind(9).String())
	assert.Panics(t, func() { New(Options{}) })
	assert.Panics(t, func() { New(Options{Kind: 9}) })
}

func TestTheMadeUpOpaqueIsOneThatNobodyUsed(t *testing.T) {
	p := New(Options{Kind: UnknownOpaque, VB: AnyVBucket})
	require.Equal(t, mcbp.Opaque{0xff, 0x7e, 0x7e, 0xff}, p.makeUp())

	seen := p.For("n1")
	c := kvnode.Connection{Bucket: "b", Name: "l", Role: kvnode.RoleConsumer}
	add := mcbp.AddStream{VBucket: 1, Opaque: mcbp.Opaque{0xff, 0x7e, 0x7e, 0xff}}.Append(nil)
	assert.Zero(t, seen.Received(c, 1, add))
	c.Role = kvnode.RoleProducer
	assert.Zero(t, seen.Received(c, 1, mcbp.CloseStream{VBucket: 1, Opaque: mcbp.Opaque{0xff, 0x7e, 0x7f, 0xff}}.Append(nil)))
	assert.Equal(t, mcbp.Opaque{0xff, 0x7e, 0x80, 0xff}, p.makeUp())

	for n := range 1 << 16 {
		p.note(mcbp.Opaque{0xff, byte(n >> 8), byte(n), 0xff})
	}
	assert.Equal(t, mcbp.Opaque{0xfe, 0x7e, 0x7e, 0xff}, p.makeUp())
}

// An interceptor of a plan for one vbucket lets the others be, and a plan for any takes the first.
func TestThePlanChoosesItsVBucket(t *testing.T) {
	c := kvnode.Connection{Bucket: "b", Name: "l", Role: kvnode.RoleConsumer}
	add := func(p *Plan, vb uint16, flags uint32) kvnode.Action {
		return p.For("n1").Received(c, vb, mcbp.AddStream{VBucket: vb, Flags: flags, Opaque: mcbp.Opaque{0xff, 0, byte(vb), 0xff}}.Append(nil))
	}
	p := New(Options{Kind: NoAddResponse, VB: 5})
	assert.Zero(t, add(p, 5, 0), "not armed")
	p.Arm()
	assert.Zero(t, add(p, 4, 0))
	assert.Zero(t, add(p, 5, mcbp.StreamFlagTakeover), "a takeover is not the set-up of a replication")
	assert.Equal(t, kvnode.Action{Drop: true}, add(p, 5, 0))
	assert.Zero(t, add(p, 5, 0), "once")
	p.Arm()
	assert.Zero(t, add(p, 5, 0), "once, however often it is armed")

	p = New(Options{Kind: NoAddResponse, VB: AnyVBucket})
	p.Arm()
	assert.Equal(t, kvnode.Action{Drop: true}, add(p, 4, 0))
	r, ok := p.Record()
	require.True(t, ok)
	assert.EqualValues(t, 4, r.VB)
	assert.Empty(t, r.Producer, "it was never seen to open")
}
