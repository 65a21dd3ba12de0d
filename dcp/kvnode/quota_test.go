package kvnode_test

import (
	"fmt"
	"math"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/shearpin/shearpin/dcp/kvnode"
	"github.com/shearpin/shearpin/dcp/mcbp"
)

// smallBucket selects a bucket of that quota, in bytes.
func (c *client) smallBucket(quota int) {
	c.t.Helper()
	value := fmt.Sprintf("ep.so\x00max_size=%d;max_vbuckets=16", quota)
	c.ok(&mcbp.Packet{Opcode: mcbp.OpCreateBucket, Key: []byte("small"), Value: []byte(value)})
	c.ok(&mcbp.Packet{Opcode: mcbp.OpSelectBucket, Key: []byte("small")})
}

// documentOf takes that many bytes of a bucket's memory: 192 for itself.
func documentOf(key string, size int) *mcbp.Packet {
	return setPacket(7, key, strings.Repeat("x", size-192-len(key)))
}

func TestAFullBucketSaysWhetherWaitingMayHelp(t *testing.T) {
	c := login(t, startNode(t, "n0"))
	c.smallBucket(10_000)
	c.setVBucket(7, mcbp.VBucketActive)
	c.ok(documentOf("a", 9_000))
	c.ok(documentOf("b", 300))
	assert.Equal(t, mcbp.StatusTemporaryFailure, c.do(documentOf("c", 200)).Status(), "over 93 per cent")
	assert.Equal(t, mcbp.StatusTemporaryFailure, c.do(documentOf("c", 700)).Status(), "it would fit")
	assert.Equal(t, mcbp.StatusNoMemory, c.do(documentOf("c", 701)).Status(), "it would not")
	assert.Equal(t, mcbp.StatusNoMemory, c.do(documentOf("c", 20_000)).Status())
	c.del(7, "a") // a deletion always has room
	c.ok(documentOf("c", 8_000))
}

// A quota that no machine has is no quota: what is reckoned with it would not fit into a number.
func TestQuotasAreBounded(t *testing.T) {
	c := login(t, startNode(t, "n0"))
	create := func(quota int64) mcbp.Status {
		value := fmt.Sprintf("ep.so\x00max_size=%d;max_vbuckets=16", quota)
		return c.do(&mcbp.Packet{Opcode: mcbp.OpCreateBucket, Key: []byte("large"), Value: []byte(value)}).Status()
	}
	for _, quota := range []int64{-1, 1<<50 + 1, math.MaxInt64} {
		assert.Equal(t, mcbp.StatusInvalid, create(quota), "%d", quota)
	}
	require.Equal(t, mcbp.StatusSuccess, create(1<<50))
	c.ok(&mcbp.Packet{Opcode: mcbp.OpSelectBucket, Key: []byte("large")})
	c.setVBucket(7, mcbp.VBucketActive)
	c.ok(documentOf("k", 1000))
}

// fullReplica is a consumer with a stream of vbucket 7 into a bucket of 200 000 bytes. It has a buffer of 64 KiB.
func fullReplica(t *testing.T) (n *kvnode.Node, c *client, opaque mcbp.Opaque, send func(seqno uint64, key string, size int)) {
	t.Helper()
	n = startNode(t, "n1")
	c = login(t, n, replicationFeatures...)
	c.smallBucket(200_000)
	c.setVBucket(7, mcbp.VBucketReplica)
	c.write(mcbp.Open{Name: testLink, Flags: mcbp.OpenFlagsReplicaConsumer, ConsumerName: "n1"}.Append(nil))
	require.Equal(t, mcbp.StatusSuccess, c.read().Status())
	opaque = c.incoming(10_000)
	return n, c, opaque, func(seqno uint64, key string, size int) {
		m := mcbp.Mutation{VBucket: 7, Opaque: opaque, BySeqno: seqno, RevSeqno: seqno, Key: []byte("\x00" + key), Value: make([]byte, size)}
		_, _ = c.socket.Write(m.Append(nil)) // the node may have closed it
	}
}

func acknowledged(t *testing.T, frames []mcbp.Frame) (sum int) {
	t.Helper()
	for _, f := range frames {
		ack, err := mcbp.ParseBufferAck(f)
		require.NoError(t, err, "%v", f)
		sum += int(ack.Bytes)
	}
	return sum
}

// A consumer whose bucket is full acknowledges nothing, so that its producer stops at the buffer, and goes on when there is room.
func TestAFullReplicaAcknowledgesNothing(t *testing.T) {
	_, c, _, send := fullReplica(t)
	seqno := uint64(0)
	for range 9 {
		seqno++
		send(seqno, fmt.Sprint("k", seqno), 20_000)
	}
	require.Greater(t, acknowledged(t, c.untilQuiet()), 9*16_000, "there is room")
	for range 4 {
		seqno++
		send(seqno, fmt.Sprint("k", seqno), 20_000)
	}
	late := acknowledged(t, c.untilQuiet())
	assert.Less(t, late, 2*20_500, "what did not fit is not acknowledged")
	for key := range uint64(5) {
		seqno++
		send(seqno, fmt.Sprint("k", key+1), 1)
	}
	ack, err := mcbp.ParseBufferAck(c.read())
	require.NoError(t, err)
	assert.Greater(t, int(ack.Bytes), 3*20_000, "all that waited")
}

// Room that comes from elsewhere is noticed, though nothing comes from the producer.
func TestAFullReplicaGoesOnWhenThereIsRoom(t *testing.T) {
	n, c, _, send := fullReplica(t)
	admin := login(t, n)
	admin.ok(&mcbp.Packet{Opcode: mcbp.OpSelectBucket, Key: []byte("small")})
	admin.setVBucket(8, mcbp.VBucketActive)
	other := documentOf("other", 150_000)
	other.VBucket = 8
	admin.ok(other)
	for seqno := range uint64(3) {
		send(seqno+1, fmt.Sprint("k", seqno), 20_000)
	}
	early := acknowledged(t, c.untilQuiet())
	assert.Less(t, early, 3*20_000)
	admin.ok(&mcbp.Packet{Opcode: mcbp.OpDelVBucket, VBucket: 8})
	ack, err := mcbp.ParseBufferAck(c.read())
	require.NoError(t, err)
	assert.Greater(t, early+int(ack.Bytes), 3*20_000)
}

// A producer that does not stop loses its connection before the node has kept much more than the quota and the buffer.
func TestAProducerThatOverrunsAFullReplicaLosesItsConnection(t *testing.T) {
	_, c, _, send := fullReplica(t)
	for seqno := range uint64(30) {
		send(seqno+1, fmt.Sprint("k", seqno), 1<<20)
	}
	acknowledged(t, c.closed())
}

// The mark of an abort is kept as well, whether there was a prepare or not: it counts like a document.
func TestAbortsThatOverrunAFullReplicaLoseTheConnection(t *testing.T) {
	_, c, opaque, send := fullReplica(t)
	for seqno := range uint64(22) { // all but half a mebibyte of what may be kept
		send(seqno+1, fmt.Sprint("k", seqno), 1<<20)
	}
	for i := range uint64(4000) {
		key := fmt.Sprintf("\x00%0240d", i)
		m := mcbp.Completion{Opcode: mcbp.OpDCPAbort, VBucket: 7, Opaque: opaque, Prepared: 1, Seqno: 23 + i, Key: []byte(key)}
		_, _ = c.socket.Write(m.Append(nil)) // the node may have closed it
	}
	acknowledged(t, c.closed())
}
