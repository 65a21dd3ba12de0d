package kvnode_test

import (
	"encoding/binary"
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/shearpin/shearpin/dcp/kvnode"
	"github.com/shearpin/shearpin/dcp/mcbp"
)

var durableFeatures = []mcbp.Feature{
	mcbp.FeatureAltRequest, mcbp.FeatureSyncReplication, mcbp.FeatureMutationSeqno, mcbp.FeatureJSON,
}

const majority = mcbp.DurabilityMajority

// durably makes a request one of a durable write.
func durably(p *mcbp.Packet, level mcbp.DurabilityLevel, timeout time.Duration) *mcbp.Packet {
	p.Magic = mcbp.MagicFramingRequest
	p.FramingExtras = mcbp.Durability{Level: level, Timeout: timeout}.AppendInfo(nil)
	return p
}

// topology makes a copy the active of chains.
func (c *client) topology(vb uint16, chains string) {
	c.t.Helper()
	c.ok(&mcbp.Packet{
		Opcode: mcbp.OpSetVBucket, VBucket: vb, Extras: []byte{byte(mcbp.VBucketActive)}, Datatype: mcbp.DatatypeJSON,
		Value: []byte(`{"topology":` + chains + `}`),
	})
}

// begin sends a request and returns where to find its answer.
func (c *client) begin(p *mcbp.Packet) <-chan mcbp.Frame {
	c.t.Helper()
	c.opaque++
	p.Opaque = mcbp.OpaqueFromUint32(c.opaque)
	c.write(p.Frame())
	answer := make(chan mcbp.Frame, 1)
	go func() {
		f, _ := c.tryRead()
		answer <- f
	}()
	return answer
}

// durablePair is vbucket 7 on two nodes, replicated.
func durablePair(t *testing.T, chains string, change ...func(*kvnode.Options)) *pair {
	t.Helper()
	p := &pair{n0: startNode(t, "n0", change...), n1: startNode(t, "n1", change...)}
	p.a, p.b = login(t, p.n0, durableFeatures...), login(t, p.n1, durableFeatures...)
	p.a.topology(7, chains)
	p.b.setVBucket(7, mcbp.VBucketReplica)
	p.r = join(t, p.n0, p.n1, testLink)
	p.r.open(7, 0)
	return p
}

func (p *pair) prepared(c *client) uint64 {
	return statUint(p.a.t, c, "vbucket-durability-state", 7, "high_prepared_seqno")
}

func TestADurableWriteIsPreparedAcknowledgedAndCommitted(t *testing.T) {
	p := durablePair(t, `[["n0","n1"]]`)
	w := login(t, p.n0, durableFeatures...)
	p.a.set(7, "k", "old")
	p.same(t, 7)
	p.r.hold(true)
	digest := p.a.stat("vbucket-digest", 7, "digest")
	answer := w.begin(durably(setPacket(7, "k", "new"), majority, 0))
	eventually(t, "prepared", func() bool { return p.prepared(p.a) == 2 })
	assert.Equal(t, digest, p.a.stat("vbucket-digest", 7, "digest"), "the documents are what they were")
	assert.Equal(t, "old", string(p.a.get(7, "k").Value()), "nobody reads what has no end")
	assert.Equal(t, mcbp.StatusSyncWriteInProgress, p.a.do(setPacket(7, "k", "other")).Status())
	assert.Equal(t, mcbp.StatusSyncWriteInProgress, p.a.do(durably(setPacket(7, "k", "other"), majority, 0)).Status())
	assert.Equal(t, "2", p.a.stat("vbucket-seqno", 7, "high_seqno"))
	assert.Equal(t, "1", p.a.stat("vbucket-seqno", 7, "max_visible_seqno"))
	assert.Equal(t, "0", p.a.stat("vbucket-seqno", 7, "high_completed_seqno"))
	assert.Equal(t, "1", p.a.stat("vbucket-details", 7, "num_items"))
	p.a.set(7, "other", "v")
	assert.Empty(t, answer)
	p.r.hold(false)
	f := <-answer
	require.Equal(t, mcbp.StatusSuccess, f.Status())
	assert.Len(t, f.Extras(), 16)
	assert.Equal(t, f.CAS(), p.a.get(7, "k").CAS())
	assert.Equal(t, "new", string(p.a.get(7, "k").Value()))
	p.same(t, 7)
	for _, c := range []*client{p.a, p.b} {
		assert.Equal(t, "4", c.stat("vbucket-seqno", 7, "high_seqno"))
		assert.Equal(t, "2", c.stat("vbucket-seqno", 7, "high_prepared_seqno"))
		assert.Equal(t, "2", c.stat("vbucket-seqno", 7, "high_completed_seqno"))
		assert.Equal(t, "4", c.stat("vbucket-details", 7, "max_visible_seqno"))
	}
	prepare, at := p.r.await("the prepare", 0, isRequest(mcbp.OpDCPPrepare, 7))
	m, err := mcbp.ParsePrepare(prepare)
	require.NoError(t, err)
	assert.Equal(t, "\x00k new", string(m.Key)+" "+string(m.Value))
	assert.Equal(t, []uint64{2, 2}, []uint64{m.BySeqno, m.RevSeqno})
	assert.Equal(t, majority, m.Level)
	ack, at := p.r.await("the acknowledgement", at, isRequest(mcbp.OpDCPSeqnoAcknowledged, 7))
	assert.Equal(t, m.Opaque, ack.Opaque())
	commit, _ := p.r.await("the commit", at, isRequest(mcbp.OpDCPCommit, 7))
	c, err := mcbp.ParseCompletion(commit)
	require.NoError(t, err)
	assert.Equal(t, []uint64{2, 4}, []uint64{c.Prepared, c.Seqno})
}

// A durable write has the conditions of any other, and may be a deletion.
func TestDurableWritesHaveConditions(t *testing.T) {
	p := durablePair(t, `[["n0","n1"]]`)
	durable := func(op mcbp.Opcode, key string, cas uint64) mcbp.Frame {
		q := setPacket(7, key, "v")
		if q.Opcode, q.CAS = op, cas; op == mcbp.OpDelete {
			q.Extras, q.Value = nil, nil
		}
		return p.a.do(durably(q, majority, time.Second))
	}
	assert.Equal(t, mcbp.StatusKeyNotFound, durable(mcbp.OpReplace, "k", 0).Status())
	assert.Equal(t, mcbp.StatusKeyNotFound, durable(mcbp.OpDelete, "k", 0).Status())
	first := durable(mcbp.OpAdd, "k", 0)
	require.Equal(t, mcbp.StatusSuccess, first.Status())
	assert.Equal(t, mcbp.StatusKeyExists, durable(mcbp.OpAdd, "k", 0).Status())
	assert.Equal(t, mcbp.StatusKeyExists, durable(mcbp.OpSet, "k", first.CAS()+1).Status())
	assert.Equal(t, mcbp.StatusSuccess, durable(mcbp.OpReplace, "k", first.CAS()).Status())
	assert.Equal(t, mcbp.StatusSuccess, durable(mcbp.OpDelete, "k", 0).Status())
	assert.Equal(t, mcbp.StatusKeyNotFound, p.a.get(7, "k").Status())
	assert.Equal(t, "0", p.a.stat("vbucket-details", 7, "num_items"))
	p.same(t, 7)
	assert.Equal(t, "0", p.b.stat("vbucket-details", 7, "num_items"))
}

// What depends on the present version is durable too: it is made of the version that there is, and a counter is counted once.
func TestDurableUpdates(t *testing.T) {
	p := durablePair(t, `[["n0","n1"]]`)
	durable := func(q *mcbp.Packet) mcbp.Frame {
		q.VBucket = 7
		return p.a.ok(durably(q, mcbp.DurabilityPersistToMajority, 0))
	}
	p.a.set(7, "k", "b")
	f := durable(request(mcbp.OpAppend, "k", "c"))
	assert.Len(t, f.Extras(), 16)
	assert.Equal(t, f.CAS(), p.a.get(7, "k").CAS())
	assert.EqualValues(t, 3, binary.BigEndian.Uint64(f.Extras()[8:]), "where it was committed")
	durable(request(mcbp.OpPrepend, "k", "a"))
	assert.Equal(t, "abc", string(p.a.get(7, "k").Value()))
	for i, q := range []*mcbp.Packet{
		counter(mcbp.OpIncrement, "n", 2, 7, 0), counter(mcbp.OpIncrement, "n", 2, 7, 0), counter(mcbp.OpDecrement, "n", 3, 7, 0),
	} {
		assert.Equal(t, []uint64{7, 9, 6}[i], binary.BigEndian.Uint64(durable(q).Value()))
	}
	assert.Equal(t, mcbp.StatusNotStored, p.a.do(durably(setPacketOf(mcbp.OpAppend, "none", "v"), majority, 0)).Status())
	p.same(t, 7)
	p.r.hold(true)
	w := login(t, p.n0, durableFeatures...)
	answer := w.begin(durably(setPacketOf(mcbp.OpAppend, "k", "d"), majority, 0))
	eventually(t, "prepared", func() bool { return p.prepared(p.a) > 10 })
	assert.Equal(t, mcbp.StatusSyncWriteInProgress, p.a.do(durably(setPacketOf(mcbp.OpAppend, "k", "e"), majority, 0)).Status())
	assert.Equal(t, mcbp.StatusSyncWriteInProgress, p.a.do(setPacketOf(mcbp.OpAppend, "k", "e")).Status())
	p.r.hold(false)
	assert.Equal(t, mcbp.StatusSuccess, (<-answer).Status())
	assert.Equal(t, "abcd", string(p.a.get(7, "k").Value()))
	p.same(t, 7)
}

// setPacketOf is a request of vbucket 7 with a key and a value only.
func setPacketOf(op mcbp.Opcode, key, value string) *mcbp.Packet {
	return &mcbp.Packet{Opcode: op, VBucket: 7, Key: []byte(key), Value: []byte(value)}
}

func TestDurableWritesThatAreImpossible(t *testing.T) {
	n := startNode(t, "n0")
	c := login(t, n, durableFeatures...)
	request := func() *mcbp.Packet { return durably(setPacket(7, "k", "v"), majority, time.Minute) }
	assert.Equal(t, mcbp.StatusNotMyVBucket, c.do(request()).Status())
	for _, chains := range []string{`null`, `[["n0",null]]`, `[["n0",null,null]]`, `[["n0"],["n1",null]]`} {
		c.topology(7, chains)
		assert.Equal(t, mcbp.StatusDurabilityImpossible, c.do(request()).Status(), chains)
	}
	c.topology(7, `[["n0"]]`)
	assert.Equal(t, mcbp.StatusSuccess, c.do(request()).Status(), "one is a majority of one")
	for name, framing := range map[string][]byte{
		"no such level": {0x11, 4}, "level 0": {0x11, 0}, "a timeout of 0": {0x13, 1, 0, 0}, "a reserved timeout": {0x13, 1, 0xff, 0xff}, "cut short": {0x13, 1},
	} {
		q, want := setPacket(7, "k", "v"), mcbp.StatusDurabilityInvalidLevel
		if name == "cut short" {
			want = mcbp.StatusInvalid
		}
		q.Magic, q.FramingExtras = mcbp.MagicFramingRequest, framing
		assert.Equal(t, want, c.do(q).Status(), name)
	}
	for _, without := range [][]mcbp.Feature{nil, {mcbp.FeatureSyncReplication}, {mcbp.FeatureAltRequest}} {
		assert.Equal(t, mcbp.StatusNotSupported, login(t, n, without...).do(request()).Status(), "%v", without)
	}
	c.topology(7, `[["n0","n1"]]`)
	answer := c.begin(request())
	admin := login(t, n, durableFeatures...)
	eventually(t, "prepared", func() bool { return admin.stat("vbucket-seqno", 7, "high_prepared_seqno") != "1" })
	admin.topology(7, `[["n0",null]]`)
	assert.Equal(t, mcbp.StatusSyncWriteAmbiguous, (<-answer).Status(), "it became impossible")
}

// A write that nobody acknowledges in time is aborted, also if its client has gone, and replicas hear of it.
func TestADurableWriteWhoseTimeIsOverIsAborted(t *testing.T) {
	p := durablePair(t, `[["n0","n1","n2","n3"]]`)
	p.a.set(7, "k", "old")
	assert.Equal(t, mcbp.StatusSyncWriteAmbiguous, p.a.do(durably(setPacket(7, "k", "new"), majority, time.Millisecond)).Status())
	assert.Equal(t, "old", string(p.a.get(7, "k").Value()))
	abort, _ := p.r.await("the abort", 0, isRequest(mcbp.OpDCPAbort, 7))
	m, err := mcbp.ParseCompletion(abort)
	require.NoError(t, err)
	assert.Equal(t, []uint64{2, 3}, []uint64{m.Prepared, m.Seqno})
	p.same(t, 7)
	assert.Equal(t, "2", p.b.stat("vbucket-seqno", 7, "high_completed_seqno"))
	p.a.set(7, "k", "newer")

	gone := login(t, p.n0, durableFeatures...)
	gone.write(durably(setPacket(7, "k", "new"), majority, 100*time.Millisecond).Frame())
	eventually(t, "prepared", func() bool { return p.prepared(p.a) == 5 })
	gone.socket.Close()
	eventually(t, "aborted", func() bool { return p.b.stat("vbucket-seqno", 7, "high_completed_seqno") == "5" })
	p.a.set(7, "k", "newest")
	p.same(t, 7)
	assert.Equal(t, "newest", string(p.a.get(7, "k").Value()))
}

// The levels say on whose disk a write has to be.
func TestTheLevelsWaitForTheirDisks(t *testing.T) {
	for _, l := range []struct {
		level  mcbp.DurabilityLevel
		active bool
	}{
		{mcbp.DurabilityMajorityAndPersist, true}, {mcbp.DurabilityPersistToMajority, true}, {mcbp.DurabilityPersistToMajority, false},
	} {
		p := durablePair(t, `[["n0","n1"]]`, func(o *kvnode.Options) { o.Dir, o.DiskNoSync = t.TempDir(), true })
		p.a.settled()
		p.b.settled()
		slow := p.n1
		if l.active {
			slow = p.n0
		}
		slow.SetDiskRate(kvnode.DiskStalled)
		require.Equal(t, mcbp.StatusSuccess, p.a.do(durably(setPacket(7, "free", "v"), majority, 0)).Status())
		answer := login(t, p.n0, durableFeatures...).begin(durably(setPacket(7, "k", "v"), l.level, 0))
		p.r.await("the prepare", 0, func(s seen) bool {
			m, err := mcbp.ParsePrepare(s.frame)
			return err == nil && m.Level == l.level
		})
		assert.Equal(t, mcbp.StatusKeyNotFound, p.a.get(7, "k").Status())
		assert.Equal(t, mcbp.StatusSyncWriteInProgress, p.a.do(setPacket(7, "k", "w")).Status())
		assert.Empty(t, answer)
		slow.SetDiskRate(0)
		assert.Equal(t, mcbp.StatusSuccess, (<-answer).Status())
		p.same(t, 7)
	}
}

// With an old and a new chain both have to have the write.
func TestBothChainsMustHaveAWrite(t *testing.T) {
	p := durablePair(t, `[["n0","n1"],["n0","n2"]]`)
	n2 := startNode(t, "n2")
	c := login(t, n2)
	c.setVBucket(7, mcbp.VBucketReplica)
	answer := login(t, p.n0, durableFeatures...).begin(durably(setPacket(7, "k", "v"), majority, 0))
	_, at := p.r.await("one chain's acknowledgement", 0, isRequest(mcbp.OpDCPSeqnoAcknowledged, 7))
	p.a.set(7, "later", "v")
	p.r.await("what comes later", at, isRequest(mcbp.OpDCPMutation, 7))
	assert.Equal(t, mcbp.StatusKeyNotFound, p.a.get(7, "k").Status())
	r := join(t, p.n0, n2, "replication:n0->n2:default")
	r.open(7, 0)
	assert.Equal(t, mcbp.StatusSuccess, (<-answer).Status())
	p.same(t, 7)
	eventually(t, "the second replica equals the active", func() bool {
		return p.a.stat("vbucket-digest", 7, "digest") == c.stat("vbucket-digest", 7, "digest")
	})
}

// A replica that is promoted commits what was prepared, because the old active may have told somebody that it was; until then nobody
// may read the key.
func TestAPromotedReplicaCommitsWhatWasPrepared(t *testing.T) {
	p := durablePair(t, `[["n0","n1","n2"]]`)
	p.r.hold(true)
	answer := login(t, p.n0, durableFeatures...).begin(durably(setPacket(7, "k", "v"), mcbp.DurabilityPersistToMajority, time.Hour))
	eventually(t, "prepared", func() bool { return p.prepared(p.a) == 1 })
	p.a.topology(7, `[["n0","n1","n2","n3"]]`) // n1 is no majority any more
	p.r.hold(false)
	p.r.await("the acknowledgement", 0, isRequest(mcbp.OpDCPSeqnoAcknowledged, 7))
	p.b.topology(7, `[["n1","n0"]]`)
	assert.Equal(t, mcbp.StatusSyncWriteRecommitInProgress, p.b.get(7, "k").Status())
	assert.Equal(t, mcbp.StatusSyncWriteRecommitInProgress, p.b.do(&mcbp.Packet{Opcode: mcbp.OpGetMeta, VBucket: 7, Key: []byte("k")}).Status())
	assert.Equal(t, mcbp.StatusSyncWriteInProgress, p.b.do(setPacket(7, "k", "w")).Status())
	p.a.setVBucket(7, mcbp.VBucketReplica)
	assert.Equal(t, mcbp.StatusSyncWriteAmbiguous, (<-answer).Status(), "nobody knows here any more")
	r := join(t, p.n1, p.n0, "replication:n1->n0:default")
	r.open(7, 0)
	eventually(t, "committed", func() bool { return p.b.get(7, "k").Status() == mcbp.StatusSuccess })
	assert.Equal(t, "v", string(p.b.get(7, "k").Value()))
	p.same(t, 7)
}

// A takeover carries what is prepared over, and the new active commits it as soon as it has a topology.
func TestATakeoverCarriesPrepares(t *testing.T) {
	p := durablePair(t, `[["n0","n1","n2","n3"]]`)
	answer := login(t, p.n0, durableFeatures...).begin(durably(setPacket(7, "k", "v"), majority, time.Hour))
	p.r.await("the acknowledgement", 0, isRequest(mcbp.OpDCPSeqnoAcknowledged, 7))
	p.r.shutStream(7)
	at := p.r.position()
	p.r.open(7, mcbp.StreamFlagTakeover)
	eventually(t, "taken over", func() bool { return p.stateOn(p.b, 7) == "active" })
	assert.Equal(t, mcbp.StatusSyncWriteAmbiguous, (<-answer).Status())
	assert.Equal(t, mcbp.StatusSyncWriteRecommitInProgress, p.b.get(7, "k").Status())
	assert.Equal(t, mcbp.StatusDurabilityImpossible, p.b.do(durably(setPacket(7, "l", "v"), majority, 0)).Status(), "no topology yet")
	p.r.await("the takeover's end", at, isRequest(mcbp.OpDCPStreamEnd, 7))
	p.b.topology(7, `[["n1"]]`)
	assert.Equal(t, "v", string(p.b.get(7, "k").Value()))
	assert.Equal(t, mcbp.StatusSuccess, p.b.do(durably(setPacket(7, "l", "v"), majority, 0)).Status())
}

// Prepares survive a restart, and so does what was prepared and completed.
func TestPreparesSurviveARestart(t *testing.T) {
	p := durablePair(t, `[["n0","n1"]]`, func(o *kvnode.Options) { o.Dir, o.DiskNoSync = t.TempDir(), true })
	require.Equal(t, mcbp.StatusSuccess, p.a.do(durably(setPacket(7, "first", "v"), majority, 0)).Status())
	assert.Equal(t, mcbp.StatusSyncWriteAmbiguous, func() mcbp.Status {
		p.a.topology(7, `[["n0","n1","n2","n3"]]`)
		return p.a.do(durably(setPacket(7, "k", "lost"), majority, time.Millisecond)).Status()
	}())
	w := login(t, p.n0, durableFeatures...)
	w.begin(durably(setPacket(7, "k", "v"), mcbp.DurabilityMajorityAndPersist, time.Hour))
	eventually(t, "prepared and on disk", func() bool { return p.prepared(p.a) == 5 })
	eventually(t, "on the replica", func() bool { return p.prepared(p.b) == 5 })
	p.b.settled()
	p.n0.Kill()
	p.n1.Kill()
	p.a, p.b = restart(t, p.n0), restart(t, p.n1)
	for _, c := range []*client{p.a, p.b} {
		assert.Equal(t, "5", c.stat("vbucket-seqno", 7, "high_prepared_seqno"))
		assert.Equal(t, "3", c.stat("vbucket-seqno", 7, "high_completed_seqno"))
		assert.Equal(t, "2", c.stat("vbucket-seqno", 7, "max_visible_seqno"))
		assert.Equal(t, "1", c.stat("vbucket-details", 7, "num_items"))
	}
	assert.Equal(t, mcbp.StatusSyncWriteRecommitInProgress, p.a.get(7, "k").Status())
	assert.Equal(t, "v", string(p.a.get(7, "first").Value()))
	login(t, p.n0, durableFeatures...).topology(7, `[["n0","n1"]]`)
	r := join(t, p.n0, p.n1, testLink)
	r.open(7, 0)
	f, at := r.await("what the replica has", 0, isRequest(mcbp.OpDCPSeqnoAcknowledged, 7))
	m, err := mcbp.ParseSeqnoMessage(f)
	require.NoError(t, err)
	assert.EqualValues(t, 5, m.Seqno, "said when the stream is accepted")
	r.await("a commit", at, isRequest(mcbp.OpDCPCommit, 7))
	p.same(t, 7)
	assert.Equal(t, "v", string(p.a.get(7, "k").Value()))
	eventually(t, "the commit is on disk", func() bool { return p.a.persist(7, 6) == mcbp.StatusSuccess })
	p.n0.Kill()
	p.a = restart(t, p.n0)
	assert.Equal(t, "v", string(p.a.get(7, "k").Value()))
	assert.Equal(t, "2", p.a.stat("vbucket-details", 7, "num_items"))
	assert.Equal(t, mcbp.StatusSuccess, p.a.do(setPacket(7, "k", "w")).Status(), "nothing is pending")
	again := login(t, p.n0, durableFeatures...).do(durably(setPacket(7, "k", "x"), majority, time.Millisecond))
	assert.Equal(t, mcbp.StatusSyncWriteAmbiguous, again.Status(), "it knows its topology, of which nobody is there")
}

// A replica that was away hears of the end of what it has, and gets as a document what it does not have.
func TestAReplicaThatWasAwayHearsOfTheEnd(t *testing.T) {
	p := durablePair(t, `[["n0","n1","n2","n3"]]`)
	for i, key := range []string{"committed", "also", "replaced"} {
		login(t, p.n0, durableFeatures...).begin(durably(setPacket(7, key, "v"), majority, time.Hour))
		eventually(t, key, func() bool { return p.prepared(p.a) == uint64(i)+1 })
	}
	eventually(t, "on the replica", func() bool { return p.prepared(p.b) == 3 })
	p.r.shutStream(7)
	p.a.topology(7, `[["n0"]]`)
	eventually(t, "committed", func() bool { return p.a.stat("vbucket-seqno", 7, "high_completed_seqno") == "3" })
	p.a.set(7, "replaced", "w")
	require.Equal(t, mcbp.StatusSuccess, p.a.do(durably(setPacket(7, "new", "v"), majority, 0)).Status())
	p.a.topology(7, `[["n0","n4"]]`)
	require.Equal(t, mcbp.StatusSyncWriteAmbiguous, p.a.do(durably(setPacket(7, "lost", "v"), majority, time.Millisecond)).Status())
	at := p.r.position()
	p.r.open(7, 0)
	p.same(t, 7)
	ends := map[string]string{}
	for _, s := range p.r.frames(at) {
		switch s.frame.Opcode() {
		case mcbp.OpDCPMutation, mcbp.OpDCPPrepare, mcbp.OpDCPCommit, mcbp.OpDCPAbort:
			ends[string(s.frame.Key()[1:])] += s.frame.Opcode().String()
		}
	}
	assert.Equal(t, map[string]string{
		"committed": "DCP_COMMIT", "also": "DCP_COMMIT", "replaced": "DCP_MUTATION", "new": "DCP_MUTATION", "lost": "DCP_ABORT",
	}, ends)
	assert.Equal(t, p.a.stat("vbucket-seqno", 7, "high_completed_seqno"), p.b.stat("vbucket-seqno", 7, "high_completed_seqno"))
	p.b.setVBucket(7, mcbp.VBucketActive)
	for _, key := range []string{"committed", "also", "replaced", "new", "lost"} {
		p.b.set(7, key, "nothing is pending")
	}
}

// A consumer that does not know of durable writes sees documents only, and hears of seqnos at which there are none.
func TestOtherConsumersSeeDocumentsOnly(t *testing.T) {
	n := startNode(t, "n0")
	c := login(t, n, durableFeatures...)
	c.topology(7, `[["n0"]]`)
	require.Equal(t, mcbp.StatusSuccess, c.do(durably(setPacket(7, "k", "v"), majority, 0)).Status())
	c.topology(7, `[["n0","n1"]]`)
	require.Equal(t, mcbp.StatusSyncWriteAmbiguous, c.do(durably(setPacket(7, "k", "w"), majority, time.Millisecond)).Status())
	all := &mcbp.Packet{Opcode: mcbp.OpGetAllVBSeqnos}
	assert.EqualValues(t, 4, binary.BigEndian.Uint64(c.ok(all).Value()[2:]))
	assert.EqualValues(t, 2, binary.BigEndian.Uint64(login(t, n).ok(all).Value()[2:]))
	d := openDCP(t, n, kvnode.RoleProducer, "a client", "")
	d.write(mcbp.StreamRequest{VBucket: 7, Opaque: mcbp.Opaque{1}, End: mcbp.EndSeqnoForever}.Append(nil))
	require.Equal(t, mcbp.StatusSuccess, d.read().Status())
	m, err := mcbp.ParseSnapshotMarker(d.read())
	require.NoError(t, err)
	assert.Equal(t, []uint64{0, 4}, []uint64{m.Start, m.End})
	mutation, err := mcbp.ParseMutation(d.read())
	require.NoError(t, err)
	assert.EqualValues(t, 2, mutation.BySeqno)
	advanced, err := mcbp.ParseSeqnoMessage(d.read())
	require.NoError(t, err)
	assert.EqualValues(t, 4, advanced.Seqno)
	c.set(7, "l", "v")
	m, err = mcbp.ParseSnapshotMarker(d.read())
	require.NoError(t, err)
	assert.Equal(t, []uint64{5, 5}, []uint64{m.Start, m.End})
}

// Rolled back to where a write was still prepared, a copy starts again: it does not keep what it would need.
func TestRollbackOfPrepares(t *testing.T) {
	p := durablePair(t, `[["n0","n1"]]`)
	require.Equal(t, mcbp.StatusSuccess, p.a.do(durably(setPacket(7, "k", "v"), majority, 0)).Status())
	p.same(t, 7)
	p.r.hold(true)
	w := login(t, p.n0, durableFeatures...)
	answer := w.begin(durably(setPacket(7, "l", "v"), majority, time.Hour))
	eventually(t, "prepared", func() bool { return p.prepared(p.a) == 3 })
	p.b.topology(7, `[["n1","n0"]]`) // it begins a history in which there is no l
	p.b.set(7, "m", "v")
	p.a.setVBucket(7, mcbp.VBucketReplica)
	assert.Equal(t, mcbp.StatusSyncWriteAmbiguous, (<-answer).Status())
	r := join(t, p.n1, p.n0, "replication:n1->n0:default")
	r.open(7, 0)
	p.same(t, 7)
	assert.Equal(t, "2", p.a.stat("vbucket-seqno", 7, "high_prepared_seqno"), "the prepare is gone")
	require.Equal(t, mcbp.StatusSuccess, p.b.do(durably(setPacket(7, "l", "w"), majority, 0)).Status())
	p.same(t, 7)
}

// openStream opens a producer's end as a consumer that knows of durable writes, under a name in topologies if there is one, and a stream of
// vbucket 7 from a position.
func openStream(t *testing.T, n *kvnode.Node, consumer string, uuid, start, snapStart, snapEnd uint64) *client {
	t.Helper()
	d := openDCP(t, n, kvnode.RoleProducer, "stream of "+t.Name(), "")
	settings := map[string]string{"enable_sync_writes": "true", "consumer_name": consumer}
	if consumer == "" {
		delete(settings, "consumer_name")
	}
	for key, value := range settings {
		d.write(mcbp.Control{Key: key, Value: value}.Append(nil))
		require.Equal(t, mcbp.StatusSuccess, d.read().Status())
	}
	d.write(mcbp.StreamRequest{
		VBucket: 7, Opaque: mcbp.Opaque{1}, Start: start, End: mcbp.EndSeqnoForever, VBUUID: uuid, SnapStart: snapStart, SnapEnd: snapEnd,
	}.Append(nil))
	require.Equal(t, mcbp.StatusSuccess, d.read().Status())
	return d
}

// Who stopped within a snapshot may lack prepares that ended in it.
func TestACommitIsForThoseWhoHaveThePrepare(t *testing.T) {
	for _, c := range []struct {
		start, snapStart, snapEnd uint64
		want                      mcbp.Opcode
	}{
		{0, 0, 0, mcbp.OpDCPMutation}, {1, 1, 1, mcbp.OpDCPCommit}, {1, 0, 1, mcbp.OpDCPCommit}, {1, 0, 2, mcbp.OpDCPMutation},
	} {
		n := startNode(t, "n0")
		a := login(t, n, durableFeatures...)
		a.topology(7, `[["n0"]]`)
		require.Equal(t, mcbp.StatusSuccess, a.do(durably(setPacket(7, "k", "v"), majority, 0)).Status())
		d := openStream(t, n, "n1", a.failoverLog(7)[0].UUID, c.start, c.snapStart, c.snapEnd)
		require.Equal(t, mcbp.OpDCPSnapshotMarker, d.read().Opcode())
		assert.Equal(t, c.want, d.read().Opcode(), "%+v", c)
	}
}

// Only a consumer that has a name of the topology has a say.
func TestAcknowledgementsAreThoseOfMembers(t *testing.T) {
	for name, counts := range map[string]bool{"": false, "n2": false, "n1": true} {
		n := startNode(t, "n0")
		a := login(t, n, durableFeatures...)
		a.topology(7, `[["n0","n1"]]`)
		d := openStream(t, n, name, 0, 0, 0, 0)
		answer := login(t, n, durableFeatures...).begin(durably(setPacket(7, "k", "v"), majority, time.Hour))
		require.Equal(t, mcbp.OpDCPSnapshotMarker, d.read().Opcode())
		require.Equal(t, mcbp.OpDCPPrepare, d.read().Opcode())
		ack := mcbp.SeqnoMessage{Opcode: mcbp.OpDCPSeqnoAcknowledged, VBucket: 7, Opaque: mcbp.Opaque{1}, Seqno: 1}
		late := ack
		late.Opaque = mcbp.Opaque{2}
		d.write(late.Append(nil))
		d.write(mcbp.SeqnoMessage{Opcode: mcbp.OpDCPSeqnoAcknowledged, VBucket: 8, Opaque: mcbp.Opaque{1}, Seqno: 1}.Append(nil))
		d.write(mcbp.Control{Key: "set_priority", Value: "high"}.Append(nil))
		require.Equal(t, mcbp.OpDCPControl, d.read().Opcode(), "the acknowledgements have been looked at")
		assert.Equal(t, mcbp.StatusKeyNotFound, a.get(7, "k").Status(), "those of other streams are no matter")
		d.write(ack.Append(nil))
		if counts {
			assert.Equal(t, mcbp.StatusSuccess, (<-answer).Status())
			continue
		}
		d.write(mcbp.Control{Key: "set_priority", Value: "high"}.Append(nil))
		require.Equal(t, mcbp.OpDCPControl, d.read().Opcode())
		assert.Equal(t, mcbp.StatusKeyNotFound, a.get(7, "k").Status(), "of %q", name)
	}
}

// An acknowledgement is worth as much as its stream: who has gone has to say again what he has.
func TestWhoHasGoneHasAcknowledgedNothing(t *testing.T) {
	n := startNode(t, "n0")
	a := login(t, n, durableFeatures...)
	a.topology(7, `[["n0","n1","n2","n3"]]`)
	d := openStream(t, n, "n1", 0, 0, 0, 0)
	answer := login(t, n, durableFeatures...).begin(durably(setPacket(7, "k", "v"), majority, time.Hour))
	require.Equal(t, mcbp.OpDCPSnapshotMarker, d.read().Opcode())
	require.Equal(t, mcbp.OpDCPPrepare, d.read().Opcode())
	ack := mcbp.SeqnoMessage{Opcode: mcbp.OpDCPSeqnoAcknowledged, VBucket: 7, Opaque: mcbp.Opaque{1}, Seqno: 1}.Append(nil)
	d.write(ack)
	d.write(mcbp.CloseStream{VBucket: 7, Opaque: mcbp.Opaque{9}}.Append(nil))
	require.Equal(t, mcbp.OpDCPCloseStream, d.read().Opcode())
	a.topology(7, `[["n0","n1"]]`)
	assert.Equal(t, mcbp.StatusKeyNotFound, a.get(7, "k").Status())
	d.write(mcbp.StreamRequest{
		VBucket: 7, Opaque: mcbp.Opaque{1}, Start: 1, SnapStart: 1, SnapEnd: 1, End: mcbp.EndSeqnoForever, VBUUID: a.failoverLog(7)[0].UUID,
	}.Append(nil))
	require.Equal(t, mcbp.StatusSuccess, d.read().Status())
	d.write(ack)
	assert.Equal(t, mcbp.StatusSuccess, (<-answer).Status())
}

// A commit of what was not prepared here is out of step: going on would lose the document.
func TestACommitOfNothingEndsTheConnection(t *testing.T) {
	n := startNode(t, "n1")
	admin := login(t, n)
	admin.setVBucket(7, mcbp.VBucketReplica)
	c := openDCP(t, n, kvnode.RoleConsumer, testLink, "n1")
	opaque := c.incoming(5)
	prepare := mcbp.Prepare{VBucket: 7, Opaque: opaque, BySeqno: 1, RevSeqno: 1, Level: majority, Key: []byte("\x00k")}
	c.write(prepare.Append(nil))
	c.write(mcbp.Completion{
		Opcode: mcbp.OpDCPAbort, VBucket: 7, Opaque: opaque, Prepared: 2, Seqno: 3, Key: []byte("\x00unheard of"),
	}.Append(nil))
	eventually(t, "the abort is taken", func() bool { return statUint(t, admin, "vbucket-seqno", 7, "high_seqno") == 3 })
	assert.EqualValues(t, 0, statUint(t, admin, "vbucket-seqno", 7, "high_prepared_seqno"), "the snapshot is not whole")
	c.write(mcbp.Completion{Opcode: mcbp.OpDCPCommit, VBucket: 7, Opaque: opaque, Prepared: 2, Seqno: 4, Key: []byte("\x00k")}.Append(nil))
	c.closed()
	assert.EqualValues(t, 3, statUint(t, admin, "vbucket-seqno", 7, "high_seqno"))
}

// Flow control counts a PREPARE with two bytes more than it has.
func TestAPrepareCostsTwoBytesMore(t *testing.T) {
	n := startNode(t, "n0")
	a := login(t, n, durableFeatures...)
	a.topology(7, `[["n0","n1"]]`)
	d := openStream(t, n, "n1", 0, 0, 0, 0)
	control := func(key, value string) {
		d.write(mcbp.Control{Key: key, Value: value}.Append(nil))
		require.Equal(t, mcbp.OpDCPControl, d.read().Opcode())
	}
	const marker, prepare = 24 + 1 + 36, 24 + 31 + 2 + 1
	control("connection_buffer_size", fmt.Sprint(marker+prepare+1))
	login(t, n, durableFeatures...).begin(durably(setPacket(7, "k", "v"), majority, time.Hour))
	require.Len(t, d.read(), marker)
	require.Len(t, d.read(), prepare)
	a.set(7, "l", "v")
	for range 2 {
		control("set_priority", "high") // the answer is the next that comes
		d.write(mcbp.BufferAck{Bytes: 1}.Append(nil))
	}
	assert.Equal(t, mcbp.OpDCPSnapshotMarker, d.read().Opcode())
}

// A document that has expired, and that a durable write is about to replace, becomes no deletion under it.
func TestNothingExpiresUnderADurableWrite(t *testing.T) {
	h := newHand()
	n := h.clocked(t, "n0")
	a := login(t, n, durableFeatures...)
	a.topology(7, `[["n0","n1"]]`)
	a.ok(expiring("k", 10))
	a.ok(expiring("l", 10))
	login(t, n, durableFeatures...).begin(durably(setPacket(7, "k", "w"), majority, time.Hour))
	eventually(t, "prepared", func() bool { return statUint(t, a, "vbucket-seqno", 7, "high_prepared_seqno") == 3 })
	h.unix.Add(20)
	assert.Equal(t, mcbp.StatusKeyNotFound, a.get(7, "k").Status())
	assert.EqualValues(t, 3, statUint(t, a, "vbucket-seqno", 7, "high_seqno"))
	h.unix.Add(2 * 60 * 60)
	eventually(t, "the pager has come", func() bool { return statUint(t, a, "vbucket-seqno", 7, "high_seqno") == 4 })
	a.topology(7, `[["n0"]]`)
	assert.Equal(t, "w", string(a.get(7, "k").Value()))
}

// What was answered is kept if the active dies at once, whether its replica has heard of the commit or not.
func TestAnAcknowledgedDurableWriteOutlivesItsActive(t *testing.T) {
	for range 10 {
		p := durablePair(t, `[["n0","n1",null]]`)
		for i := range 20 {
			require.Equal(t, mcbp.StatusSuccess, p.a.do(durably(setPacket(7, fmt.Sprint(i), "v"), majority, 0)).Status())
		}
		p.n0.Kill()
		p.b.topology(7, `[["n1"]]`)
		for i := range 20 {
			require.Equal(t, "v", string(p.b.get(7, fmt.Sprint(i)).Value()))
		}
	}
}

// A consumer without a name has nothing to say about what was prepared.
func TestAConsumerWithoutANameAcknowledgesNothing(t *testing.T) {
	for name, says := range map[string]bool{"": false, "n1": true} {
		p := durablePair(t, `[["n0","n1"]]`)
		require.Equal(t, mcbp.StatusSuccess, p.a.do(durably(setPacket(7, "k", "v"), majority, 0)).Status())
		p.same(t, 7)
		p.r.shutStream(7)
		c := openDCP(t, p.n1, kvnode.RoleConsumer, "another", name)
		c.write(mcbp.AddStream{VBucket: 7, Opaque: mcbp.Opaque{0xff, 0, 1, 0xff}}.Append(nil))
		request := c.agreeUntil(mcbp.OpDCPStreamReq)
		c.write(mcbp.StreamRequestAnswer{
			Opaque: request.Opaque(), Log: []mcbp.FailoverEntry{{UUID: p.a.failoverLog(7)[0].UUID}},
		}.Append(nil))
		if says {
			c.agreeUntil(mcbp.OpDCPSeqnoAcknowledged)
		}
		c.agreeUntil(mcbp.OpDCPAddStream)
	}
}
