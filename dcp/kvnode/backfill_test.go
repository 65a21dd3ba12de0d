package kvnode_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/shearpin/shearpin/dcp/kvnode"
	"github.com/shearpin/shearpin/dcp/mcbp"
)

// progress is what the node says of a stream of vbucket 7: status, estimate, and what is left on disk and in memory.
func (c *client) progress(connection string) string {
	c.t.Helper()
	pairs, status := c.stats("dcp-vbtakeover 7 " + connection)
	require.Equal(c.t, mcbp.StatusSuccess, status)
	return strings.Join([]string{pairs["status"], pairs["estimate"], pairs["backfillRemaining"], pairs["chk_items"]}, " ")
}

// History 14: an estimate has three forms. What is not counted yet is not the number 0.
func TestTheEstimateOfABackfillIsNotTheNumberAlone(t *testing.T) {
	n := startNode(t, "n0", func(o *kvnode.Options) { o.CheckpointItems = 3 })
	admin := login(t, n)
	admin.setVBucket(7, mcbp.VBucketActive)
	admin.setVBucket(8, mcbp.VBucketActive)
	admin.set(8, "k", "v")
	for i := range 10 {
		admin.set(7, fmt.Sprintf("k%d", i), "v")
	}
	p := openDCP(t, n, kvnode.RoleProducer, testLink, "")
	p.control("enable_sync_writes", "true")
	p.control("max_marker_version", "2.2")
	p.control("connection_buffer_size", "1") // one message at a time
	open := func(vb uint16, start uint64) {
		p.write(mcbp.StreamRequest{
			VBucket: vb, Opaque: mcbp.Opaque{byte(vb)}, Start: start, SnapStart: start, SnapEnd: start, End: mcbp.EndSeqnoForever,
			VBUUID: statUint(t, admin, "vbucket-seqno", vb, "uuid"),
		}.Append(nil))
		require.Equal(t, mcbp.StatusSuccess, p.read().Status())
	}
	open(8, 0)
	m, err := mcbp.ParseSnapshotMarker(p.read())
	require.NoError(t, err)
	assert.Equal(t, mcbp.MarkerV20, m.Version)
	assert.Equal(t, mcbp.SnapshotMemory|mcbp.SnapshotCheckpoint, m.Flags)

	open(7, 0)
	assert.Equal(t, "calculating-item-count 0 unknown 0", admin.progress(testLink), "the window is full: nobody has looked")
	next := func() mcbp.Frame {
		p.write(mcbp.BufferAck{Bytes: 1000}.Append(nil))
		return p.read()
	}
	nextOf7 := func() mcbp.Frame {
		for {
			if f := next(); f.VBucket() == 7 {
				return f
			}
		}
	}
	m, err = mcbp.ParseSnapshotMarker(nextOf7())
	require.NoError(t, err)
	assert.Equal(t, mcbp.SnapshotMarker{
		VBucket: 7, Opaque: mcbp.Opaque{7}, Version: mcbp.MarkerV22, End: 10, Flags: mcbp.SnapshotDisk | mcbp.SnapshotCheckpoint, MaxVisible: 10,
	}, m)
	assert.Equal(t, "backfilling 10 10 0", admin.progress(testLink))
	admin.set(7, "new", "v")
	assert.Equal(t, "backfilling 11 10 1", admin.progress(testLink), "what came since is in memory")
	for left := 9; left > 0; left-- {
		require.Equal(t, mcbp.OpDCPMutation, nextOf7().Opcode())
		assert.Equal(t, fmt.Sprintf("backfilling %d %d 1", left+1, left), admin.progress(testLink))
	}
	require.Equal(t, mcbp.OpDCPMutation, nextOf7().Opcode())
	assert.Equal(t, "in-memory 1 0 1", admin.progress(testLink))
	require.Equal(t, mcbp.OpDCPSnapshotMarker, nextOf7().Opcode())
	require.Equal(t, mcbp.OpDCPMutation, nextOf7().Opcode())
	assert.Equal(t, "in-memory 0 0 0", admin.progress(testLink))

	// A consumer that is too slow loses its place in memory.
	for i := range 4 {
		admin.set(7, fmt.Sprintf("late%d", i), "v")
	}
	m, err = mcbp.ParseSnapshotMarker(nextOf7())
	require.NoError(t, err)
	assert.Equal(t, mcbp.MarkerV22, m.Version)
	assert.Equal(t, "backfilling 4 4 0", admin.progress(testLink))
}

// A stream that needs no more than the checkpoints have begins in memory.
func TestAShortStreamNeedsNoBackfill(t *testing.T) {
	n := startNode(t, "n0", func(o *kvnode.Options) { o.CheckpointItems = 3 })
	admin := login(t, n)
	admin.setVBucket(7, mcbp.VBucketActive)
	for i := range 10 {
		admin.set(7, fmt.Sprintf("k%d", i), "v")
	}
	uuid := statUint(t, admin, "vbucket-seqno", 7, "uuid")
	for start, want := range map[uint64]uint32{
		10: 0, 7: mcbp.SnapshotMemory | mcbp.SnapshotCheckpoint, 6: mcbp.SnapshotDisk | mcbp.SnapshotCheckpoint,
	} {
		p := openDCP(t, n, kvnode.RoleProducer, "reader", "")
		p.write(mcbp.StreamRequest{VBucket: 7, Start: start, SnapStart: start, SnapEnd: start, End: mcbp.EndSeqnoForever, VBUUID: uuid}.Append(nil))
		require.Equal(t, mcbp.StatusSuccess, p.read().Status())
		if want == 0 {
			assert.Equal(t, "in-memory 0 0 0", admin.progress("reader"))
			continue
		}
		m, err := mcbp.ParseSnapshotMarker(p.read())
		require.NoError(t, err)
		assert.Equal(t, want, m.Flags, "from %d", start)
		assert.Equal(t, mcbp.MarkerV1, m.Version, "nobody enabled durable writes")
	}
}
