package integration

import (
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/shearpin/shearpin/dcp"
	"github.com/shearpin/shearpin/dcp/kvnode/fault"
	"github.com/shearpin/shearpin/dcp/mcbp"
)

func all() []uint16 {
	vbs := make([]uint16, vbuckets)
	for i := range vbs {
		vbs[i] = uint16(i)
	}
	return vbs
}

func TestReplicationFollowsTheActive(t *testing.T) {
	p := newPair(t, healthy, dcp.Limits{})
	p.write(3, 100)
	require.NoError(t, p.apply(all()...))
	p.write(4, 100)
	p.requireReplicated(3)
	p.requireReplicated(4)
	assert.Equal(t, all(), p.streams())
	assert.Equal(t, 1, p.incarnation())

	require.NoError(t, p.manager.Apply(p.ctx, 1, "", map[uint16]string{3: ""}))
	assert.NotContains(t, p.streams(), uint16(3))
}

// A crash answers the whole call at once, tells who watches, restarts the connections, and brings the other streams back.
func crashes(t *testing.T, kind fault.Kind, limits dcp.Limits, child string, check func(t *testing.T, err error, record fault.Record)) {
	t.Helper()
	p := newPair(t, kind, limits)
	require.NoError(t, p.apply(0, 1, 2), "before the fault")
	p.plan.Arm()
	err := p.apply(10, 11, 12)
	require.Error(t, err)
	record := p.record()
	assert.Contains(t, []uint16{10, 11, 12}, record.VB)
	check(t, err, record)

	var link *dcp.LinkError
	require.ErrorAs(t, err, &link)
	assert.Equal(t, producer, link.Producer)
	assert.Equal(t, consumer, link.Consumer)
	p.eventually("the crash is published", func() bool { return len(p.crashes()) == 1 })
	check(t, p.crashes()[0].Reason, record)
	assert.EqualValues(t, 1, p.crashes()[0].Incarnation)
	p.eventually("the supervisor sees it", func() bool { return len(p.exited()) > 0 })
	first := p.exited()[0]
	assert.Equal(t, child, first.ID, "the true cause exits first")
	check(t, first.Reason, record)

	p.eventually("the other streams come back", func() bool { return assert.ObjectsAreEqual([]uint16{0, 1, 2}, p.streams()) })
	assert.Equal(t, 2, p.incarnation())
	require.NoError(t, p.apply(10, 11, 12), "the fault is over")
	p.write(10, 10)
	p.requireReplicated(10)
	assert.Len(t, p.crashes(), 1)
}

func TestRule3EarlyStreamEnd(t *testing.T) {
	for _, kind := range []fault.Kind{fault.EarlyStreamEnd, fault.LateAnswer} {
		t.Run(kind.String(), func(t *testing.T) {
			crashes(t, kind, dcp.Limits{}, "consumer connection", func(t *testing.T, err error, record fault.Record) {
				t.Helper()
				var end *dcp.UnexpectedStreamEnd
				require.ErrorAs(t, err, &end)
				assert.Equal(t, record.VB, end.VB)
				assert.Equal(t, record.StreamOpaque, end.StreamOpaque)
				assert.Equal(t, record.AddOpaque, end.AddOpaque)
				assert.Equal(t, mcbp.EndStateChanged, end.Reason)
			})
		})
	}
}

func TestRule1NoAddResponse(t *testing.T) {
	crashes(t, fault.NoAddResponse, dcp.Limits{Add: 200 * time.Millisecond}, "consumer connection", func(t *testing.T, err error, record fault.Record) {
		t.Helper()
		var timeout *dcp.AddStreamTimeout
		require.ErrorAs(t, err, &timeout)
		assert.Contains(t, timeout.VBs, record.VB)
		assert.Contains(t, timeout.AddOpaques, record.AddOpaque)
	})
}

func TestRule4UnknownOpaque(t *testing.T) {
	crashes(t, fault.UnknownOpaque, dcp.Limits{}, "consumer connection", func(t *testing.T, err error, record fault.Record) {
		t.Helper()
		var unknown *dcp.UnknownOpaque
		require.ErrorAs(t, err, &unknown)
		assert.Equal(t, record.MadeUp, unknown.Opaque)
	})
}

func TestASocketClosesDuringTheSetUp(t *testing.T) {
	for kind, child := range map[fault.Kind]string{
		fault.DropConsumer: "consumer connection",
		fault.DropProducer: "producer connection",
	} {
		t.Run(kind.String(), func(t *testing.T) {
			crashes(t, kind, dcp.Limits{}, child, func(t *testing.T, err error, _ fault.Record) {
				t.Helper()
				require.ErrorIs(t, err, dcp.ErrSocketClosed)
				var crash *dcp.CrashError
				require.ErrorAs(t, err, &crash)
				assert.Equal(t, child, crash.Role+" connection")
			})
		})
	}
}

func TestAnAddErrorIsOrdinary(t *testing.T) {
	p := newPair(t, fault.AddError, dcp.Limits{})
	p.plan.Arm()
	err := p.apply(10, 11, 12)
	require.ErrorIs(t, err, mcbp.StatusNotMyVBucket)
	var apply *dcp.ApplyError
	require.ErrorAs(t, err, &apply)
	assert.Len(t, apply.ByVB, 1)
	assert.Contains(t, apply.ByVB, p.record().VB)
	assert.Len(t, p.streams(), 2)
	assert.Empty(t, p.crashes())
	assert.Equal(t, 1, p.incarnation())
	require.NoError(t, p.apply(10, 11, 12))
}

func TestRule2AndAStaleEndDuringATakeover(t *testing.T) {
	p := newPair(t, fault.StaleStreamEnd, dcp.Limits{})
	require.NoError(t, p.apply(5))
	p.write(5, 50)
	p.plan.Arm()
	require.NoError(t, p.manager.Takeover(p.ctx, 1, "move", 5, producer))
	assert.EqualValues(t, 5, p.record().VB)
	assert.Empty(t, p.crashes())
	assert.Equal(t, 1, p.incarnation())

	states := map[string]mcbp.VBucketState{}
	for node, client := range p.clients {
		info, err := client.VBuckets(p.ctx)
		require.NoError(t, err)
		states[node] = info[5].State
	}
	assert.Equal(t, map[string]mcbp.VBucketState{producer: mcbp.VBucketDead, consumer: mcbp.VBucketActive}, states)
	_, err := p.clients[producer].Set(p.ctx, 5, "late", nil, 0, 0, 0)
	require.ErrorIs(t, err, mcbp.StatusNotMyVBucket)
	_, err = p.clients[consumer].Get(p.ctx, 5, "key-5-49")
	require.NoError(t, err)
}
