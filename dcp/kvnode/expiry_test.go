package kvnode_test

import (
	"encoding/binary"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/shearpin/shearpin/dcp/kvnode"
	"github.com/shearpin/shearpin/dcp/mcbp"
)

// hand is a clock that tests turn.
type hand struct{ unix atomic.Int64 }

func newHand() *hand {
	h := &hand{}
	h.unix.Store(2_000_000_000)
	return h
}

func (h *hand) now() time.Time { return time.Unix(h.unix.Load(), 0) }

// clocked starts a node that goes by the hand. Its pager comes by only if the hand is turned by an hour.
func (h *hand) clocked(t testing.TB, name string) *kvnode.Node {
	return startNode(t, name, func(o *kvnode.Options) { o.Now, o.ExpiryInterval = h.now, time.Hour })
}

func expiring(key string, expiry uint32) *mcbp.Packet {
	p := setPacket(7, key, "v")
	binary.BigEndian.PutUint32(p.Extras[4:], expiry)
	return p
}

func TestAnExpiredDocumentIsGone(t *testing.T) {
	const day = 24 * 60 * 60
	h := newHand()
	start := uint32(h.unix.Load())
	c := login(t, h.clocked(t, "n0"))
	c.setVBucket(7, mcbp.VBucketActive)
	for name, v := range map[string]struct {
		expiry uint32
		lives  int64 // seconds; -1 for ever
	}{
		"none":            {0, -1},
		"relative":        {10, 10},
		"thirty days":     {30 * day, 30 * day},
		"a time":          {start + 100, 100},
		"a time long ago": {30*day + 1, 0},
	} {
		h.unix.Store(int64(start))
		c.ok(expiring(name, v.expiry))
		if v.lives > 0 {
			h.unix.Store(int64(start) + v.lives - 1)
			assert.Equal(t, mcbp.StatusSuccess, c.get(7, name).Status(), "%s: a second before", name)
		}
		if v.lives < 0 {
			h.unix.Store(int64(start) + 365*day)
			assert.Equal(t, mcbp.StatusSuccess, c.get(7, name).Status(), name)
			continue
		}
		h.unix.Store(int64(start) + v.lives)
		before := statUint(t, c, "vbucket-seqno", 7, "high_seqno")
		assert.Equal(t, mcbp.StatusKeyNotFound, c.get(7, name).Status(), name)
		assert.Equal(t, before+1, statUint(t, c, "vbucket-seqno", 7, "high_seqno"), "%s: that it is gone is a change", name)
		assert.Equal(t, mcbp.StatusKeyNotFound, c.get(7, name).Status(), name)
		assert.Equal(t, before+1, statUint(t, c, "vbucket-seqno", 7, "high_seqno"), "%s: one", name)
	}
	assert.Equal(t, "1", c.stat("vbucket-details", 7, "num_items"))
}

func TestWritesMeetNoExpiredDocument(t *testing.T) {
	h := newHand()
	c := login(t, h.clocked(t, "n0"))
	c.setVBucket(7, mcbp.VBucketActive)
	as := func(op mcbp.Opcode, key string) *mcbp.Packet {
		p := setPacket(7, key, "w")
		p.Opcode = op
		return p
	}
	cas := map[string]uint64{}
	for _, key := range []string{"replace", "delete", "cas", "add", "set"} {
		cas[key] = c.ok(expiring(key, 1)).CAS()
	}
	h.unix.Add(1)
	high := func() uint64 { return statUint(t, c, "vbucket-seqno", 7, "high_seqno") }
	assert.EqualValues(t, 5, high())
	assert.Equal(t, mcbp.StatusKeyNotFound, c.do(as(mcbp.OpReplace, "replace")).Status())
	assert.Equal(t, mcbp.StatusKeyNotFound, c.do(deletePacket(7, "delete")).Status())
	assert.Equal(t, mcbp.StatusKeyNotFound, c.do(withCAS(as(mcbp.OpSet, "cas"), cas["cas"])).Status())
	assert.EqualValues(t, 8, high(), "each has found out that its document is gone")
	c.ok(as(mcbp.OpAdd, "add"))
	c.ok(as(mcbp.OpSet, "set"))
	assert.EqualValues(t, 10, high(), "what takes the place of an expired document does not delete it first")
	assert.Equal(t, "w", string(c.get(7, "add").Value()))
}

// Whoever has negotiated it is told of an expiration, others of a deletion in the layout that they asked for.
func TestStreamsTellOfExpirations(t *testing.T) {
	h := newHand()
	n := h.clocked(t, "n0")
	admin := login(t, n)
	admin.setVBucket(7, mcbp.VBucketActive)
	admin.ok(expiring("k", 5))
	h.unix.Add(5)
	require.Equal(t, mcbp.StatusKeyNotFound, admin.get(7, "k").Status())
	admin.set(7, "d", "v")
	admin.del(7, "d")
	for name, v := range map[string]struct {
		flags   uint32
		control string
		want    mcbp.DeletionVersion
	}{
		"expirations":  {mcbp.OpenFlagsReplicaProducer, "true", mcbp.DeletionByExpiry},
		"switched off": {mcbp.OpenFlagsReplicaProducer, "false", mcbp.DeletionV2},
		"delete times": {mcbp.OpenFlagsReplicaProducer, "", mcbp.DeletionV2},
		"neither":      {mcbp.OpenFlagProducer, "", mcbp.DeletionV1},
	} {
		p := login(t, n, replicationFeatures...)
		p.write(mcbp.Open{Name: "reader", Flags: v.flags}.Append(nil))
		require.Equal(t, mcbp.StatusSuccess, p.read().Status())
		if v.control != "" {
			p.control("enable_expiry_opcode", v.control)
		}
		p.write(mcbp.StreamRequest{VBucket: 7, End: mcbp.EndSeqnoForever}.Append(nil))
		require.Equal(t, mcbp.OpDCPStreamReq, p.read().Opcode())
		require.Equal(t, mcbp.OpDCPSnapshotMarker, p.read().Opcode())
		m, err := mcbp.ParseDeletion(p.read())
		require.NoError(t, err, name)
		assert.Equal(t, "\x00k", string(m.Key), name)
		assert.Equal(t, v.want, m.Version, name)
		assert.EqualValues(t, 2, m.BySeqno, name)
		assert.EqualValues(t, 2, m.RevSeqno, name)
		if v.want != mcbp.DeletionV1 {
			assert.EqualValues(t, h.unix.Load(), m.DeleteTime, name)
		}
		m, err = mcbp.ParseDeletion(p.read())
		require.NoError(t, err, name)
		assert.NotEqual(t, mcbp.DeletionByExpiry, m.Version, "%s: somebody deleted it", name)
	}
}

// The pager finds what nobody asks for. A replica expires nothing by itself; it is told, and tells others as it was told.
func TestThePagerExpiresOnTheActiveOnly(t *testing.T) {
	h := newHand()
	n0, n1 := h.clocked(t, "n0"), h.clocked(t, "n1")
	a, b := login(t, n0), login(t, n1)
	a.setVBucket(7, mcbp.VBucketActive)
	b.setVBucket(7, mcbp.VBucketReplica)
	r := join(t, n0, n1, testLink)
	r.open(7, 0)
	a.ok(expiring("soon", 10))
	a.ok(expiring("later", 10_000))
	a.set(7, "stays", "v")
	high := func(c *client) uint64 { return statUint(t, c, "vbucket-seqno", 7, "high_seqno") }
	eventually(t, "replicated", func() bool { return high(b) == 3 })
	h.unix.Add(3600)
	eventually(t, "the pager has come by", func() bool { return high(a) == 4 })
	f, _ := r.await("the expiration", 0, isRequest(mcbp.OpDCPExpiration, 7))
	assert.Equal(t, "\x00soon", string(f.Key()))
	eventually(t, "replicated", func() bool { return high(b) == 4 })
	assert.Equal(t, "2", b.stat("vbucket-details", 7, "num_items"))

	p := openDCP(t, n1, kvnode.RoleProducer, "reader", "")
	p.control("enable_expiry_opcode", "true")
	p.write(mcbp.StreamRequest{VBucket: 7, End: mcbp.EndSeqnoForever}.Append(nil))
	for f = p.read(); string(f.Key()) != "\x00soon"; f = p.read() {
	}
	assert.Equal(t, mcbp.OpDCPExpiration, f.Opcode())

	r.close()
	h.unix.Add(9 * 3600)
	eventually(t, "the pager has come by", func() bool { return high(a) == 5 })
	assert.EqualValues(t, 4, high(b), "a replica waits to be told")
	b.setVBucket(7, mcbp.VBucketActive)
	h.unix.Add(3600)
	eventually(t, "active, it expires by itself", func() bool { return high(b) == 5 })
}

// While the end of a takeover keeps writes out, an expired document is gone for readers, and no change is made of that.
func TestNothingExpiresAtTheEndOfATakeover(t *testing.T) {
	h := newHand()
	n := startNode(t, "n0", func(o *kvnode.Options) {
		o.Now, o.ExpiryInterval, o.TakeoverMaxTime = h.now, time.Second, time.Nanosecond
	})
	c := login(t, n)
	c.setVBucket(7, mcbp.VBucketActive)
	c.ok(expiring("k", 5))
	c.setVBucket(8, mcbp.VBucketActive)
	other := expiring("other", 5)
	other.VBucket = 8
	c.ok(other)
	p := takeoverStream(t, n)
	require.Equal(t, mcbp.OpDCPSnapshotMarker, p.read().Opcode())
	require.Equal(t, mcbp.StatusTemporaryFailure, c.do(setPacket(7, "x", "v")).Status())
	h.unix.Add(5)
	assert.Equal(t, mcbp.StatusKeyNotFound, c.get(7, "k").Status())
	eventually(t, "the pager has come by", func() bool { return c.stat("vbucket-seqno", 8, "high_seqno") == "2" })
	assert.Equal(t, "1", c.stat("vbucket-seqno", 7, "high_seqno"))
}
