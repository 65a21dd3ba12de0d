package kvnode_test

import (
	"fmt"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/shearpin/shearpin/dcp/kvnode"
	"github.com/shearpin/shearpin/dcp/mcbp"
)

// pair is two nodes with a replication from the first to the second, and administrators on both.
type pair struct {
	n0, n1 *kvnode.Node
	a, b   *client
	r      *relay
}

// pairOf makes the vbuckets active on n0 and replica on n1.
func pairOf(t *testing.T, vbs ...uint16) *pair {
	t.Helper()
	p := &pair{n0: startNode(t, "n0"), n1: startNode(t, "n1")}
	p.a, p.b = login(t, p.n0), login(t, p.n1)
	for _, vb := range vbs {
		p.a.setVBucket(vb, mcbp.VBucketActive)
		p.b.setVBucket(vb, mcbp.VBucketReplica)
	}
	p.r = join(t, p.n0, p.n1, testLink)
	return p
}

// same waits until the replica equals the active.
func (p *pair) same(t testing.TB, vb uint16) {
	t.Helper()
	eventually(t, "replica equals active", func() bool {
		for _, key := range []string{"high_seqno", "digest", "uuid"} {
			if p.a.stat("vbucket-digest", vb, key) != p.b.stat("vbucket-digest", vb, key) {
				return false
			}
		}
		return true
	})
}

func (p *pair) stateOn(c *client, vb uint16) string { return c.stat("vbucket", vb, "") }

func TestReplicaEqualsActive(t *testing.T) {
	p := pairOf(t, 7)
	for i := range 100 {
		p.a.set(7, fmt.Sprintf("key-%d", i%60), fmt.Sprintf("value-%d", i))
	}
	p.r.open(7, 0)
	p.same(t, 7)
	p.a.del(7, "key-3")
	p.a.set(7, "live", "1")
	p.same(t, 7)
	assert.Equal(t, p.a.stat("vbucket-details", 7, "num_items"), p.b.stat("vbucket-details", 7, "num_items"))
	f, _ := p.r.await("the deletion", 0, isRequest(mcbp.OpDCPDeletion, 7))
	m, err := mcbp.ParseDeletion(f)
	require.NoError(t, err)
	assert.Equal(t, mcbp.DeletionV2, m.Version, "OPEN asked for delete times")
	assert.NotZero(t, m.DeleteTime)
}

// A closed stream resumes where it stopped: nothing is sent again.
func TestAStreamResumes(t *testing.T) {
	p := pairOf(t, 7)
	p.a.set(7, "one", "1")
	p.r.open(7, 0)
	p.same(t, 7)
	p.r.shutStream(7)
	p.a.set(7, "two", "2")
	at := p.r.position()
	p.r.open(7, 0)
	p.same(t, 7)
	for _, s := range p.r.frames(at) {
		if s.frame.Opcode() == mcbp.OpDCPMutation {
			assert.Equal(t, "\x00two", string(s.frame.Key()))
		}
	}
}

func TestTheEndOfAClosedStreamFollowsTheAnswer(t *testing.T) {
	p := pairOf(t, 7)
	p.r.open(7, 0)
	at := p.r.position()
	opaque := p.r.opaque()
	p.r.inject(kvnode.RoleProducer, mcbp.CloseStream{VBucket: 7, Opaque: opaque}.Append(nil))
	isAnswer := func(s seen) bool { return s.from == kvnode.RoleProducer && s.frame.Opaque() == opaque }
	f, at := p.r.await("close answer", at, isAnswer)
	assert.Equal(t, mcbp.StatusSuccess, f.Status())
	f, _ = p.r.await("end after it", at, isRequest(mcbp.OpDCPStreamEnd, 7))
	end, err := mcbp.ParseStreamEnd(f)
	require.NoError(t, err)
	assert.Equal(t, mcbp.StreamEnd{VBucket: 7, Opaque: mcbp.Opaque{1}, Reason: mcbp.EndClosed}, end)

	// The consumer dropped its stream when the end came: another may be added.
	eventually(t, "added again", func() bool {
		return p.r.answer(kvnode.RoleConsumer, p.r.add(7, 0)).Status() == mcbp.StatusSuccess
	})
}

func TestNoEndOnCloseUnlessAskedFor(t *testing.T) {
	n := startNode(t, "n0")
	login(t, n).setVBucket(7, mcbp.VBucketActive)
	p := openDCP(t, n, kvnode.RoleProducer, testLink, "")
	p.write(mcbp.StreamRequest{VBucket: 7, Opaque: mcbp.Opaque{1}, End: mcbp.EndSeqnoForever}.Append(nil))
	require.Equal(t, mcbp.StatusSuccess, p.read().Status())
	p.write(mcbp.CloseStream{VBucket: 7}.Append(nil))
	require.Equal(t, mcbp.OpDCPCloseStream, p.read().Opcode())
	p.write((&mcbp.Packet{Opcode: mcbp.OpDCPNoop}).Frame())
	assert.Equal(t, mcbp.OpDCPNoop, p.read().Opcode())
}

// Whatever ends a stream at the producer, the consumer's connection stays, and frees the vbucket.
func TestStateChangesEndStreams(t *testing.T) {
	for _, state := range []mcbp.VBucketState{mcbp.VBucketDead, mcbp.VBucketReplica, mcbp.VBucketPending} {
		p := pairOf(t, 7, 8)
		p.r.open(7, 0)
		p.r.open(8, 0)
		p.a.setVBucket(7, state)
		f, _ := p.r.await("end", 0, isRequest(mcbp.OpDCPStreamEnd, 7))
		end, err := mcbp.ParseStreamEnd(f)
		require.NoError(t, err)
		assert.Equal(t, mcbp.EndStateChanged, end.Reason, "%v", state)
		p.a.set(8, "k", "v")
		p.same(t, 8)
	}
}

func TestDeletingTheProducersVBucketEndsItsStreams(t *testing.T) {
	p := pairOf(t, 7)
	p.r.open(7, 0)
	p.a.ok(&mcbp.Packet{Opcode: mcbp.OpDelVBucket, VBucket: 7})
	f, _ := p.r.await("end", 0, isRequest(mcbp.OpDCPStreamEnd, 7))
	end, err := mcbp.ParseStreamEnd(f)
	require.NoError(t, err)
	assert.Equal(t, mcbp.EndStateChanged, end.Reason)
}

// A topology that is set again, or changed, is no change of state.
func TestSettingTheSameStateEndsNothing(t *testing.T) {
	p := pairOf(t, 7)
	p.r.open(7, 0)
	p.a.setVBucket(7, mcbp.VBucketActive)
	p.a.set(7, "k", "v")
	p.same(t, 7)
	for _, s := range p.r.frames(0) {
		assert.NotEqual(t, mcbp.OpDCPStreamEnd, s.frame.Opcode())
	}
}

func TestAConsumerWhoseVBucketIsGoneSaysSo(t *testing.T) {
	for name, cut := range map[string]func(p *pair){
		"active":  func(p *pair) { p.b.setVBucket(7, mcbp.VBucketActive) },
		"deleted": func(p *pair) { p.b.ok(&mcbp.Packet{Opcode: mcbp.OpDelVBucket, VBucket: 7}) },
	} {
		p := pairOf(t, 7)
		p.r.open(7, 0)
		cut(p)
		p.a.set(7, "k", "v")
		for _, op := range []mcbp.Opcode{mcbp.OpDCPSnapshotMarker, mcbp.OpDCPMutation} {
			f, _ := p.r.await("refusal of "+op.String(), 0, func(s seen) bool {
				return s.from == kvnode.RoleConsumer && s.frame.Opcode() == op
			})
			assert.Equal(t, mcbp.StatusStreamNotFound, f.Status(), "%s: %v", name, op)
			assert.Equal(t, mcbp.Opaque{1}, f.Opaque())
		}
	}
}

func TestTheEndOfAStreamThatWasCutOffIsRefused(t *testing.T) {
	p := pairOf(t, 7)
	p.r.open(7, 0)
	p.b.setVBucket(7, mcbp.VBucketActive)
	p.a.setVBucket(7, mcbp.VBucketDead)
	f, _ := p.r.await("refusal", 0, func(s seen) bool {
		return s.from == kvnode.RoleConsumer && s.frame.Opcode() == mcbp.OpDCPStreamEnd
	})
	assert.Equal(t, mcbp.StatusStreamNotFound, f.Status())
}

func TestAReplicaMayBeStreamedFrom(t *testing.T) {
	p := pairOf(t, 7)
	n2 := startNode(t, "n2")
	c := login(t, n2)
	c.setVBucket(7, mcbp.VBucketReplica)
	p.a.set(7, "before", "1")
	p.r.open(7, 0)
	second := join(t, p.n1, n2, "replication:n1->n2:default")
	second.open(7, 0)
	p.a.set(7, "after", "2")
	eventually(t, "the change passes through", func() bool {
		return c.stat("vbucket-digest", 7, "digest") == p.a.stat("vbucket-digest", 7, "digest")
	})
}

func TestStreamRequestsThatAreRefused(t *testing.T) {
	n := startNode(t, "n0")
	admin := login(t, n)
	for vb, state := range map[uint16]mcbp.VBucketState{
		1: mcbp.VBucketActive, 2: mcbp.VBucketReplica, 3: mcbp.VBucketPending, 4: mcbp.VBucketDead,
	} {
		admin.setVBucket(vb, state)
	}
	p := openDCP(t, n, kvnode.RoleProducer, testLink, "")
	ask := func(r mcbp.StreamRequest) mcbp.Status {
		p.write(r.Append(nil))
		f := p.read()
		require.Equal(t, mcbp.OpDCPStreamReq, f.Opcode())
		return f.Status()
	}
	forever := mcbp.EndSeqnoForever
	for name, c := range map[string]struct {
		want mcbp.Status
		r    mcbp.StreamRequest
	}{
		"missing":            {mcbp.StatusNotMyVBucket, mcbp.StreamRequest{VBucket: 9, End: forever}},
		"pending":            {mcbp.StatusNotMyVBucket, mcbp.StreamRequest{VBucket: 3, End: forever}},
		"dead":               {mcbp.StatusNotMyVBucket, mcbp.StreamRequest{VBucket: 4, End: forever}},
		"replica, if active": {mcbp.StatusNotMyVBucket, mcbp.StreamRequest{VBucket: 2, End: forever, Flags: 0x10}},
		"replica, takeover":  {mcbp.StatusNotMyVBucket, mcbp.StreamRequest{VBucket: 2, End: forever, Flags: 1}},
		"start over the end": {mcbp.StatusRange, mcbp.StreamRequest{VBucket: 1, Start: 5, SnapStart: 5, SnapEnd: 5, End: 4}},
		"before the snapshot": {
			mcbp.StatusRange, mcbp.StreamRequest{VBucket: 1, Start: 5, SnapStart: 6, SnapEnd: 7, End: forever},
		},
		"behind the snapshot": {
			mcbp.StatusRange, mcbp.StreamRequest{VBucket: 1, Start: 5, SnapStart: 3, SnapEnd: 4, End: forever},
		},
		"a filter":    {mcbp.StatusInvalid, mcbp.StreamRequest{VBucket: 1, End: forever, Value: []byte(`{"collections":["8"]}`)}},
		"a stream id": {mcbp.StatusInvalid, mcbp.StreamRequest{VBucket: 1, End: forever, Value: []byte(`{"sid":1}`)}},
		"no JSON":     {mcbp.StatusInvalid, mcbp.StreamRequest{VBucket: 1, End: forever, Value: []byte(`{`)}},
	} {
		assert.Equal(t, c.want, ask(c.r), name)
	}
	filtered := mcbp.StreamRequest{VBucket: 1, End: forever, Value: []byte(`{"collections":["0"],"purge_seqno":"0","later":1}`)}
	assert.Equal(t, mcbp.StatusSuccess, ask(filtered))
	assert.Equal(t, mcbp.StatusKeyExists, ask(mcbp.StreamRequest{VBucket: 1, End: forever}))
	p.write((&mcbp.Packet{Opcode: mcbp.OpDCPStreamReq, VBucket: 2, Extras: make([]byte, 47)}).Frame())
	assert.Equal(t, mcbp.StatusInvalid, p.read().Status())
}

// Other clients of DCP read up to a seqno and stop there.
func TestAStreamEndsAtItsEnd(t *testing.T) {
	n := startNode(t, "n0")
	admin := login(t, n)
	admin.setVBucket(1, mcbp.VBucketActive)
	for i := range 5 {
		admin.set(1, fmt.Sprintf("k%d", i), "v")
	}
	for name, c := range map[string]struct {
		request mcbp.StreamRequest
		last    uint64
	}{
		"end in the middle": {mcbp.StreamRequest{End: 3}, 3},
		"end at the start":  {mcbp.StreamRequest{End: 0}, 0},
	} {
		p := openDCP(t, n, kvnode.RoleProducer, testLink, "")
		c.request.VBucket, c.request.Opaque = 1, mcbp.Opaque{9}
		p.write(c.request.Append(nil))
		require.Equal(t, mcbp.StatusSuccess, p.read().Status(), name)
		var last uint64
		for f := p.read(); f.Opcode() != mcbp.OpDCPStreamEnd; f = p.read() {
			switch f.Opcode() {
			case mcbp.OpDCPSnapshotMarker:
				m, err := mcbp.ParseSnapshotMarker(f)
				require.NoError(t, err)
				assert.Equal(t, mcbp.MarkerV1, m.Version, "nobody enabled durable writes")
				assert.Equal(t, c.last, m.End, name)
			case mcbp.OpDCPMutation:
				m, err := mcbp.ParseMutation(f)
				require.NoError(t, err)
				last = m.BySeqno
			}
		}
		assert.Equal(t, c.last, last, name)
		admin.set(1, "k4", "again")
		assert.Empty(t, p.untilQuiet(), "%s: it has ended", name)
		c.request.Opaque = mcbp.Opaque{10}
		p.write(c.request.Append(nil))
		assert.Equal(t, mcbp.StatusSuccess, p.read().Status(), "%s: another may follow", name)
	}
}

func TestAStreamUpToTheLatestEndsThere(t *testing.T) {
	n := startNode(t, "n0")
	admin := login(t, n)
	admin.setVBucket(1, mcbp.VBucketActive)
	admin.set(1, "k", "v")
	p := openDCP(t, n, kvnode.RoleProducer, testLink, "")
	p.write(mcbp.StreamRequest{VBucket: 1, End: mcbp.EndSeqnoForever, Flags: 4}.Append(nil))
	for _, op := range []mcbp.Opcode{
		mcbp.OpDCPStreamReq, mcbp.OpDCPSnapshotMarker, mcbp.OpDCPMutation, mcbp.OpDCPStreamEnd,
	} {
		assert.Equal(t, op, p.read().Opcode())
	}
}

// A replica in the middle of a snapshot has not got a state that a consumer could stop at: it passes the snapshot's end on.
func TestAPartialSnapshotIsPassedOnAsSuch(t *testing.T) {
	n := startNode(t, "n1")
	login(t, n).setVBucket(7, mcbp.VBucketReplica)
	in := openDCP(t, n, kvnode.RoleConsumer, testLink, "")
	in.write(mcbp.AddStream{VBucket: 7, Opaque: mcbp.Opaque{0xff, 0, 1, 0xff}}.Append(nil))
	answerNegotiation(t, in)
	in.write(mcbp.StreamRequestAnswer{Opaque: mcbp.Opaque{1}, Log: []mcbp.FailoverEntry{{UUID: 1}}}.Append(nil))
	in.agreeUntil(mcbp.OpDCPAddStream)
	out := openDCP(t, n, kvnode.RoleProducer, "replication:n1->n2:default", "")
	out.write(mcbp.StreamRequest{VBucket: 7, Opaque: mcbp.Opaque{9}, End: mcbp.EndSeqnoForever}.Append(nil))
	require.Equal(t, mcbp.StatusSuccess, out.read().Status())

	marker := func(start, end uint64) {
		in.write(mcbp.SnapshotMarker{VBucket: 7, Opaque: mcbp.Opaque{1}, Start: start, End: end, Flags: mcbp.SnapshotMemory}.Append(nil))
	}
	mutation := func(seqno uint64) {
		m := mcbp.Mutation{VBucket: 7, Opaque: mcbp.Opaque{1}, BySeqno: seqno, RevSeqno: 1, Key: []byte(fmt.Sprintf("\x00k%d", seqno))}
		in.write(m.Append(nil))
	}
	expectMarker := func(start, end uint64) {
		t.Helper()
		m, err := mcbp.ParseSnapshotMarker(out.read())
		require.NoError(t, err)
		assert.Equal(t, [2]uint64{start, end}, [2]uint64{m.Start, m.End})
	}
	expectMutation := func(seqno uint64) {
		t.Helper()
		m, err := mcbp.ParseMutation(out.read())
		require.NoError(t, err)
		assert.Equal(t, seqno, m.BySeqno)
	}
	marker(0, 9)
	mutation(2)
	expectMarker(0, 9)
	expectMutation(2)
	mutation(5)
	expectMutation(5)
	mutation(9)
	expectMutation(9)
	marker(10, 12)
	mutation(12)
	expectMarker(12, 12)
	expectMutation(12)
}

func TestTakeoverEstimates(t *testing.T) {
	p := pairOf(t, 7)
	for i := range 10 {
		p.a.set(7, fmt.Sprintf("k%d", i), "v")
	}
	estimate := func(args string) (string, string) {
		pairs, status := p.a.stats("dcp-vbtakeover " + args)
		require.Equal(t, mcbp.StatusSuccess, status)
		return pairs["status"], pairs["estimate"]
	}
	expect := func(status, items, args string) {
		t.Helper()
		s, e := estimate(args)
		assert.Equal(t, status, s)
		assert.Equal(t, items, e)
	}
	expect("connection_does_not_exist", "0", "7 nobody")
	expect("does_not_exist", "10", "7")
	expect("stream_does_not_exist", "0", "7 "+testLink)
	p.r.open(7, 0)
	eventually(t, "everything sent", func() bool {
		s, e := estimate("7 " + testLink)
		return s == "in-memory" && e == "0"
	})
	p.b.setVBucket(9, mcbp.VBucketReplica)
	openDCP(t, p.n0, kvnode.RoleConsumer, "replication:n1->n0:default", "n0")
	expect("connection_does_not_exist", "0", "7 replication:n1->n0:default")
}
