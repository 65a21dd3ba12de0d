package kvnode_test

import (
	"fmt"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/shearpin/shearpin/dcp/kvnode"
	"github.com/shearpin/shearpin/dcp/mcbp"
)

// A copy that has gone its own way comes back to the active's history, whatever it wrote meanwhile.
func TestADivergedCopyRollsBack(t *testing.T) {
	for name, write := range map[string]func(c *client){
		"new documents":     func(c *client) { c.set(7, "own-1", "x"); c.set(7, "own-2", "x") },
		"changed documents": func(c *client) { c.set(7, "k1", "changed"); c.del(7, "k2") },
		"nothing":           func(*client) {},
	} {
		p := pairOf(t, 7)
		for i := range 5 {
			p.a.set(7, fmt.Sprintf("k%d", i), "v")
		}
		p.r.open(7, 0)
		p.same(t, 7)
		p.r.shutStream(7)
		p.b.setVBucket(7, mcbp.VBucketActive)
		write(p.b)
		p.b.setVBucket(7, mcbp.VBucketReplica)
		p.a.set(7, "k9", "v")
		at := p.r.position()
		p.r.open(7, 0)
		p.same(t, 7)

		var requests []mcbp.Opaque
		for _, s := range p.r.frames(at) {
			if s.frame.Opcode() == mcbp.OpDCPStreamReq && !s.frame.IsResponse() {
				requests = append(requests, s.frame.Opaque())
			}
		}
		require.Len(t, requests, 2, name)
		assert.Equal(t, requests[0], requests[1], "%s: the same opaque again", name)
	}
}

// After a failover the old active has writes that the new one never saw. It loses just those.
func TestTheOldActiveRollsBackToWhereTheNewOneBegan(t *testing.T) {
	p := pairOf(t, 7)
	p.a.set(7, "both", "1")
	p.r.open(7, 0)
	p.same(t, 7)
	p.r.shutStream(7)
	p.b.setVBucket(7, mcbp.VBucketActive)
	p.a.set(7, "lost", "1")
	p.a.setVBucket(7, mcbp.VBucketReplica)
	p.b.set(7, "kept", "1")

	back := join(t, p.n1, p.n0, "replication:n1->n0:default")
	back.open(7, 0)
	p.same(t, 7)
	answer, _ := back.await("rollback", 0, func(s seen) bool {
		return s.frame.Opcode() == mcbp.OpDCPStreamReq && s.frame.IsResponse()
	})
	m, err := mcbp.ParseStreamRequestAnswer(answer)
	require.NoError(t, err)
	assert.Equal(t, mcbp.StreamRequestAnswer{Opaque: mcbp.Opaque{1}, Status: mcbp.StatusRollback, Rollback: 1}, m)
	for _, s := range back.frames(0) {
		if s.frame.Opcode() == mcbp.OpDCPMutation {
			assert.Equal(t, "\x00kept", string(s.frame.Key()), "what both have is not sent again")
		}
	}
	p.a.setVBucket(7, mcbp.VBucketActive)
	assert.Equal(t, mcbp.StatusKeyNotFound, p.a.get(7, "lost").Status())
}

// Streams from a copy that rolls back end first: their consumers have what is about to vanish.
func TestStreamsFromACopyThatRollsBackEnd(t *testing.T) {
	n := startNode(t, "n1")
	admin := login(t, n)
	admin.setVBucket(7, mcbp.VBucketActive)
	admin.set(7, "own", "x")
	admin.setVBucket(7, mcbp.VBucketReplica)
	p := openDCP(t, n, kvnode.RoleProducer, "replication:n1->n2:default", "")
	p.write(mcbp.StreamRequest{VBucket: 7, Opaque: mcbp.Opaque{5}, End: mcbp.EndSeqnoForever, Start: 0}.Append(nil))
	for p.read().Opcode() != mcbp.OpDCPMutation {
	}
	c := openDCP(t, n, kvnode.RoleConsumer, testLink, "")
	c.write(mcbp.AddStream{VBucket: 7, Opaque: mcbp.Opaque{0xff, 0, 1, 0xff}}.Append(nil))
	answerNegotiation(t, c)
	c.write(mcbp.StreamRequestAnswer{Opaque: mcbp.Opaque{1}, Status: mcbp.StatusRollback}.Append(nil))
	end, err := mcbp.ParseStreamEnd(p.read())
	require.NoError(t, err)
	assert.Equal(t, mcbp.StreamEnd{VBucket: 7, Opaque: mcbp.Opaque{5}, Reason: mcbp.EndRollback}, end)
	again := answerNegotiation(t, c)
	assert.Equal(t, mcbp.Opaque{1}, again.Opaque())
}

// A producer that always asks for a rollback gets no more than its chances.
func TestARollbackThatLeadsNowhereIsAnError(t *testing.T) {
	n := startNode(t, "n1")
	admin := login(t, n)
	admin.setVBucket(7, mcbp.VBucketReplica)
	c := openDCP(t, n, kvnode.RoleConsumer, testLink, "")
	c.write(mcbp.AddStream{VBucket: 7, Opaque: mcbp.Opaque{0xff, 0, 1, 0xff}}.Append(nil))
	answerNegotiation(t, c)
	c.write(mcbp.StreamRequestAnswer{Opaque: mcbp.Opaque{1}, Status: mcbp.StatusRollback}.Append(nil))
	f := c.read()
	assert.Equal(t, mcbp.OpDCPAddStream, f.Opcode())
	assert.Equal(t, mcbp.StatusRange, f.Status())
	c.write(mcbp.AddStream{VBucket: 7, Opaque: mcbp.Opaque{0xff, 0, 2, 0xff}}.Append(nil))
	assert.Equal(t, mcbp.OpDCPStreamReq, c.read().Opcode(), "the vbucket is free for another stream")
}

// A copy whose stream broke off inside a snapshot says so when it asks for the rest.
func TestAStreamResumesInsideASnapshot(t *testing.T) {
	n := startNode(t, "n1")
	admin := login(t, n)
	admin.setVBucket(7, mcbp.VBucketReplica)
	c, r := addStream(t, n, mcbp.FailoverEntry{UUID: 77})
	assert.Equal(t, mcbp.StreamRequest{VBucket: 7, Opaque: mcbp.Opaque{1}, End: mcbp.EndSeqnoForever, Value: []byte{}}, r)
	mutation := func(seqno uint64) []byte {
		m := mcbp.Mutation{VBucket: 7, Opaque: mcbp.Opaque{1}, BySeqno: seqno, RevSeqno: 1, CAS: seqno, Key: []byte(fmt.Sprintf("\x00k%d", seqno))}
		return m.Append(nil)
	}
	marker := func(start, end uint64) []byte {
		return mcbp.SnapshotMarker{VBucket: 7, Opaque: mcbp.Opaque{1}, Start: start, End: end, Flags: mcbp.SnapshotMemory}.Append(nil)
	}
	c.write(marker(0, 3))
	c.write(mutation(1))
	c.write(mutation(3))
	c.write(marker(4, 9))
	c.write(mutation(5))
	eventually(t, "received", func() bool { return statUint(t, admin, "vbucket-seqno", 7, "high_seqno") == 5 })

	_, r = addStream(t, n, mcbp.FailoverEntry{UUID: 77})
	assert.EqualValues(t, 5, r.Start)
	assert.EqualValues(t, 3, r.SnapStart, "the end of the last complete snapshot")
	assert.EqualValues(t, 9, r.SnapEnd)
	assert.EqualValues(t, 77, r.VBUUID)
}

func TestMessagesThatDoNotFitAreRefused(t *testing.T) {
	n := startNode(t, "n1")
	admin := login(t, n)
	admin.setVBucket(7, mcbp.VBucketReplica)
	c := openDCP(t, n, kvnode.RoleConsumer, testLink, "")
	c.write(mcbp.AddStream{VBucket: 7, Opaque: mcbp.Opaque{0xff, 0, 1, 0xff}}.Append(nil))
	answerNegotiation(t, c)
	c.write(mcbp.StreamRequestAnswer{Opaque: mcbp.Opaque{1}, Log: []mcbp.FailoverEntry{{UUID: 77}}}.Append(nil))
	c.agreeUntil(mcbp.OpDCPAddStream)
	send := func(f []byte) mcbp.Status {
		c.write(f)
		got := c.read()
		require.Equal(t, f[1], byte(got.Opcode()))
		return got.Status()
	}
	mutation := func(opaque byte, seqno uint64, key string) []byte {
		m := mcbp.Mutation{VBucket: 7, Opaque: mcbp.Opaque{opaque}, BySeqno: seqno, RevSeqno: 1, Key: []byte(key)}
		return m.Append(nil)
	}
	assert.Equal(t, mcbp.StatusRange, send(mutation(1, 1, "\x00k")), "outside a snapshot")
	c.write(mcbp.SnapshotMarker{VBucket: 7, Opaque: mcbp.Opaque{1}, Start: 1, End: 5, Flags: mcbp.SnapshotMemory}.Append(nil))
	assert.Equal(t, mcbp.StatusOpaqueNoMatch, send(mutation(9, 1, "\x00k")))
	assert.Equal(t, mcbp.StatusUnknownCollection, send(mutation(1, 1, "\x08k")))
	assert.Equal(t, mcbp.StatusInvalid, send(mutation(1, 1, "\x00")))
	assert.Equal(t, mcbp.StatusRange, send(mutation(1, 6, "\x00k")), "behind the snapshot")
	c.write(mutation(1, 2, "\x00k"))
	assert.Equal(t, mcbp.StatusRange, send(mutation(1, 2, "\x00k")), "not forward")
	assert.Equal(t, mcbp.StatusRange, send(mcbp.SnapshotMarker{VBucket: 7, Opaque: mcbp.Opaque{1}, Start: 1, End: 1}.Append(nil)), "in the past")
	assert.Equal(t, mcbp.StatusStreamNotFound, send(mcbp.StreamEnd{VBucket: 8, Opaque: mcbp.Opaque{1}}.Append(nil)))
	assert.Equal(t, mcbp.StatusOpaqueNoMatch, send(mcbp.StreamEnd{VBucket: 7, Opaque: mcbp.Opaque{2}}.Append(nil)), "a stale end")
	assert.Equal(t, mcbp.StatusNotSupported, send((&mcbp.Packet{Opcode: mcbp.OpDCPPrepare, VBucket: 7, Extras: make([]byte, 31), Key: []byte("k")}).Frame()))
	c.write(mcbp.SeqnoMessage{Opcode: mcbp.OpDCPSeqnoAdvanced, VBucket: 7, Opaque: mcbp.Opaque{1}, Seqno: 4}.Append(nil))
	eventually(t, "advanced", func() bool { return statUint(t, admin, "vbucket-seqno", 7, "high_seqno") == 4 })
}
