package kvnode_test

import (
	"encoding/binary"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/shearpin/shearpin/dcp/kvnode"
	"github.com/shearpin/shearpin/dcp/mcbp"
)

// A copy that got a document in place of a prepare does not pass it on as that prepare's commit: it may be another's value.
func TestADocumentThatReplacedAPrepareIsNotItsCommit(t *testing.T) {
	p := durablePair(t, `[["n0","n1"],["n0","n3"]]`)
	n2 := startNode(t, "n2")
	c := login(t, n2)
	c.setVBucket(7, mcbp.VBucketReplica)
	r := join(t, p.n0, n2, "replication:n0->n2:default")
	r.open(7, 0)
	login(t, p.n0, durableFeatures...).begin(durably(setPacket(7, "k", "prepared"), majority, time.Hour))
	for _, copyOf := range []*client{p.b, c} {
		eventually(t, "prepared", func() bool { return p.prepared(copyOf) == 1 })
	}
	r.shutStream(7)
	p.r.shutStream(7)
	p.a.topology(7, `[["n0"]]`)
	p.a.set(7, "k", "newer")
	p.r.open(7, 0)
	p.same(t, 7)
	p.b.setVBucket(7, mcbp.VBucketActive)
	join(t, p.n1, n2, "replication:n1->n2:default").open(7, 0)
	eventually(t, "the other replica equals the new active", func() bool {
		return p.b.stat("vbucket-digest", 7, "digest") == c.stat("vbucket-digest", 7, "digest") &&
			p.b.stat("vbucket-digest", 7, "high_seqno") == c.stat("vbucket-digest", 7, "high_seqno")
	})
}

// An abort of what comes after it, or of itself, is no abort: what a copy knows of its writes would be ahead of its seqnos.
func TestAnAbortIsOfWhatWasBefore(t *testing.T) {
	n := startNode(t, "n1", func(o *kvnode.Options) { o.Dir, o.DiskNoSync = t.TempDir(), true })
	admin := login(t, n)
	admin.setVBucket(7, mcbp.VBucketReplica)
	c := openDCP(t, n, kvnode.RoleConsumer, testLink, "n1")
	opaque := c.incoming(5)
	for _, before := range []uint64{3, 4, 1 << 60} {
		c.write(mcbp.Completion{
			Opcode: mcbp.OpDCPAbort, VBucket: 7, Opaque: opaque, Prepared: before, Seqno: 3, Key: []byte("\x00k"),
		}.Append(nil))
		assert.Equal(t, mcbp.StatusInvalid, c.agreeUntil(mcbp.OpDCPAbort).Status(), before)
	}
	assert.EqualValues(t, 0, statUint(t, admin, "vbucket-seqno", 7, "high_completed_seqno"))
}

// A durable deletion is as old on its replicas as on its active.
func TestADurableDeletionHasOneTime(t *testing.T) {
	h := newHand()
	clocked := func(o *kvnode.Options) { o.Now = h.now }
	p := durablePair(t, `[["n0","n1"]]`, clocked)
	p.a.set(7, "k", "v")
	h.unix.Add(1000)
	q := durably(&mcbp.Packet{Opcode: mcbp.OpDelete, VBucket: 7, Key: []byte("k")}, majority, 0)
	require.Equal(t, mcbp.StatusSuccess, p.a.do(q).Status())
	p.same(t, 7)
	h.unix.Add(1000)
	p.b.setVBucket(7, mcbp.VBucketActive)
	deleted := func(c *client) (at uint32) {
		f := c.ok(&mcbp.Packet{Opcode: mcbp.OpGetMeta, VBucket: 7, Key: []byte("k")})
		require.EqualValues(t, 1, binary.BigEndian.Uint32(f.Extras()))
		return binary.BigEndian.Uint32(f.Extras()[8:])
	}
	assert.NotZero(t, deleted(p.a))
	assert.Equal(t, deleted(p.a), deleted(p.b))
}

// How far readers see goes back with a copy, and forward where there is nothing to see.
func TestReadersSeeNoFurtherThanTheCopy(t *testing.T) {
	p := durablePair(t, `[["n0","n1"]]`)
	p.a.set(7, "k", "v")
	p.same(t, 7)
	p.r.hold(true)
	p.a.set(7, "gone", "v")
	p.b.setVBucket(7, mcbp.VBucketActive)
	p.a.setVBucket(7, mcbp.VBucketReplica)
	join(t, p.n1, p.n0, "replication:n1->n0:default").open(7, 0)
	p.same(t, 7)
	assert.EqualValues(t, 1, statUint(t, p.a, "vbucket-seqno", 7, "max_visible_seqno"))

	n := startNode(t, "n1")
	admin := login(t, n)
	admin.setVBucket(7, mcbp.VBucketReplica)
	c := openDCP(t, n, kvnode.RoleConsumer, testLink, "")
	opaque := c.incoming(5)
	c.write(mcbp.SeqnoMessage{Opcode: mcbp.OpDCPSeqnoAdvanced, VBucket: 7, Opaque: opaque, Seqno: 5}.Append(nil))
	eventually(t, "it sees as far", func() bool { return statUint(t, admin, "vbucket-seqno", 7, "max_visible_seqno") == 5 })
}
