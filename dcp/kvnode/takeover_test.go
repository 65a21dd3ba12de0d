package kvnode_test

import (
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/shearpin/shearpin/dcp/kvnode"
	"github.com/shearpin/shearpin/dcp/mcbp"
)

func TestTakeoverMovesTheVBucketAndItsHistory(t *testing.T) {
	p := pairOf(t, 7)
	for i := range 10 {
		p.a.set(7, fmt.Sprintf("k%d", i), "v")
	}
	p.r.open(7, 0)
	p.r.shutStream(7)
	p.a.set(7, "tail", "1")
	log := p.a.ok(&mcbp.Packet{Opcode: mcbp.OpGetFailoverLog, VBucket: 7}).Value()

	at := p.r.position()
	p.r.open(7, mcbp.StreamFlagTakeover)
	end, _ := p.r.await("the takeover's end", at, isRequest(mcbp.OpDCPStreamEnd, 7))
	m, err := mcbp.ParseStreamEnd(end)
	require.NoError(t, err)
	if m.Reason == mcbp.EndClosed { // of the stream before, whose answer was not waited for
		end, _ = p.r.await("the takeover's own end", at, func(s seen) bool {
			return isRequest(mcbp.OpDCPStreamEnd, 7)(s) && s.frame.Opaque() != m.Opaque
		})
		m, err = mcbp.ParseStreamEnd(end)
		require.NoError(t, err)
	}
	assert.Equal(t, mcbp.EndOK, m.Reason)
	assert.Equal(t, "dead", p.stateOn(p.a, 7))
	assert.Equal(t, "active", p.stateOn(p.b, 7))
	assert.Equal(t, mcbp.StatusNotMyVBucket, p.a.do(setPacket(7, "k", "v")).Status())
	assert.Equal(t, "1", string(p.b.get(7, "tail").Value()))
	assert.Equal(t, log, p.b.ok(&mcbp.Packet{Opcode: mcbp.OpGetFailoverLog, VBucket: 7}).Value(), "no new entry")
	p.same(t, 7)
	p.b.set(7, "after", "1")
	p.b.setVBucket(7, mcbp.VBucketActive)
	assert.Equal(t, log, p.b.ok(&mcbp.Packet{Opcode: mcbp.OpGetFailoverLog, VBucket: 7}).Value(), "it is active already")
}

// The states go out in order, each only after the one before was answered, and the tail between them.
func TestTakeoverOrder(t *testing.T) {
	p := pairOf(t, 7)
	p.a.set(7, "k", "v")
	at := p.r.position()
	p.r.open(7, mcbp.StreamFlagTakeover)
	p.r.await("end", at, isRequest(mcbp.OpDCPStreamEnd, 7))
	var story []string
	for _, s := range p.r.frames(at) {
		switch s.frame.Opcode() {
		case mcbp.OpDCPMutation, mcbp.OpDCPSnapshotMarker, mcbp.OpDCPStreamEnd:
			story = append(story, fmt.Sprintf("%v %v", s.from, s.frame.Opcode()))
		case mcbp.OpDCPSetVBucketState:
			story = append(story, fmt.Sprintf("%v %v %x", s.from, s.frame.Opcode(), s.frame.Extras()))
		}
	}
	assert.Equal(t, []string{
		"producer DCP_SNAPSHOT_MARKER", "producer DCP_MUTATION", "consumer DCP_SNAPSHOT_MARKER",
		"producer DCP_SET_VBUCKET_STATE 03", "consumer DCP_SET_VBUCKET_STATE ",
		"producer DCP_SET_VBUCKET_STATE 01", "consumer DCP_SET_VBUCKET_STATE ",
		"producer DCP_STREAM_END",
	}, story)
}

// No write that was acknowledged is lost while the vbucket changes hands.
func TestTakeoverUnderWritesLosesNothing(t *testing.T) {
	p := pairOf(t, 7)
	p.r.open(7, 0)
	acknowledged := make(chan int)
	writer := login(t, p.n0)
	go func() {
		last := -1
		for i := range 1_000_000 {
			f := writer.do(setPacket(7, "counter", fmt.Sprint(i)))
			if f.Status() != mcbp.StatusSuccess {
				break
			}
			last = i
		}
		acknowledged <- last
	}()
	eventually(t, "some writes", func() bool { return statUint(t, p.a, "vbucket-seqno", 7, "high_seqno") > 100 })
	p.r.shutStream(7)
	p.r.open(7, mcbp.StreamFlagTakeover)
	last := <-acknowledged
	eventually(t, "active", func() bool { return p.stateOn(p.b, 7) == "active" })
	assert.Equal(t, fmt.Sprint(last), string(p.b.get(7, "counter").Value()))
	p.same(t, 7)
}

// The takeover's own switch to dead ends no stream; other replicas of the vbucket keep theirs.
func TestTakeoverLeavesOtherStreamsAlone(t *testing.T) {
	p := pairOf(t, 7)
	n2 := startNode(t, "n2")
	login(t, n2).setVBucket(7, mcbp.VBucketReplica)
	other := join(t, p.n0, n2, "replication:n0->n2:default")
	other.open(7, 0)
	p.r.open(7, mcbp.StreamFlagTakeover)
	eventually(t, "taken over", func() bool { return p.stateOn(p.b, 7) == "active" })
	for _, s := range other.frames(0) {
		assert.NotEqual(t, mcbp.OpDCPStreamEnd, s.frame.Opcode())
	}
	p.a.setVBucket(7, mcbp.VBucketReplica)
	other.await("the end that SET_VBUCKET brings", 0, isRequest(mcbp.OpDCPStreamEnd, 7))
}

// producerOf opens a producer's end with a takeover stream of vbucket 7 that has nothing to send.
func takeoverStream(t *testing.T, n *kvnode.Node) *client {
	t.Helper()
	p := openDCP(t, n, kvnode.RoleProducer, testLink, "")
	p.write(mcbp.StreamRequest{
		VBucket: 7, Opaque: mcbp.Opaque{1}, Flags: mcbp.StreamFlagTakeover, End: mcbp.EndSeqnoForever,
	}.Append(nil))
	require.Equal(t, mcbp.StatusSuccess, p.read().Status())
	return p
}

func stateAnswer(status mcbp.Status) mcbp.Frame {
	return (&mcbp.Packet{Magic: mcbp.MagicResponse, Opcode: mcbp.OpDCPSetVBucketState, Opaque: mcbp.Opaque{1}, Status: status}).Frame()
}

func TestATakeoverThatIsRefusedEnds(t *testing.T) {
	for name, c := range map[string]struct {
		answers []mcbp.Status
		state   string
	}{
		"pending": {[]mcbp.Status{mcbp.StatusStreamNotFound}, "active"},
		"active":  {[]mcbp.Status{mcbp.StatusSuccess, mcbp.StatusInternalError}, "dead"},
	} {
		n := startNode(t, "n0")
		admin := login(t, n)
		admin.setVBucket(7, mcbp.VBucketActive)
		p := takeoverStream(t, n)
		for _, status := range c.answers {
			require.Equal(t, mcbp.OpDCPSetVBucketState, p.read().Opcode(), name)
			p.write(stateAnswer(status))
		}
		end, err := mcbp.ParseStreamEnd(p.read())
		require.NoError(t, err)
		assert.Equal(t, mcbp.EndDisconnected, end.Reason, name)
		assert.Equal(t, c.state, admin.stat("vbucket", 7, ""), name)
	}
}

func TestAStateSetDuringATakeoverEndsIt(t *testing.T) {
	n := startNode(t, "n0")
	admin := login(t, n)
	admin.setVBucket(7, mcbp.VBucketActive)
	p := takeoverStream(t, n)
	require.Equal(t, mcbp.OpDCPSetVBucketState, p.read().Opcode())
	admin.setVBucket(7, mcbp.VBucketReplica)
	end, err := mcbp.ParseStreamEnd(p.read())
	require.NoError(t, err)
	assert.Equal(t, mcbp.EndStateChanged, end.Reason)
	p.write(stateAnswer(mcbp.StatusSuccess))
	p.write((&mcbp.Packet{Opcode: mcbp.OpDCPNoop}).Frame())
	require.Equal(t, mcbp.OpDCPNoop, p.read().Opcode())
	assert.Equal(t, "replica", admin.stat("vbucket", 7, ""), "the late answer changes nothing")
}

// A takeover that cannot keep up with the writers refuses them after a while, and lets them go on if it ends.
func TestTakeoverBackup(t *testing.T) {
	n := startNode(t, "n0", func(o *kvnode.Options) { o.TakeoverMaxTime = time.Nanosecond })
	admin := login(t, n)
	admin.setVBucket(7, mcbp.VBucketActive)
	p := takeoverStream(t, n)
	require.Equal(t, mcbp.OpDCPSetVBucketState, p.read().Opcode())
	assert.Equal(t, mcbp.StatusTemporaryFailure, admin.do(setPacket(7, "k", "v")).Status())
	assert.Equal(t, mcbp.StatusKeyNotFound, admin.get(7, "k").Status(), "reads go on")
	p.write(mcbp.CloseStream{VBucket: 7}.Append(nil))
	require.Equal(t, mcbp.OpDCPCloseStream, p.read().Opcode())
	admin.set(7, "k", "v")

	p = takeoverStream(t, n)
	require.Equal(t, mcbp.OpDCPSnapshotMarker, p.read().Opcode())
	admin.setVBucket(7, mcbp.VBucketReplica)
	admin.setVBucket(7, mcbp.VBucketActive)
	admin.set(7, "k", "v")

	p = takeoverStream(t, n)
	p.socket.Close()
	eventually(t, "the connection is gone", func() bool { return admin.do(setPacket(7, "k", "v")).Status() == mcbp.StatusSuccess })
}

// Opening a consumer under the name of one that is taking over is the fence: when the OPEN has been answered, the old
// connection cannot make the vbucket active any more.
func TestOpeningTheNameFencesATakeover(t *testing.T) {
	n := startNode(t, "n1")
	admin := login(t, n)
	changed := 0
	for range 100 {
		admin.setVBucket(7, mcbp.VBucketReplica)
		c := openDCP(t, n, kvnode.RoleConsumer, testLink, "")
		c.write(mcbp.AddStream{VBucket: 7, Opaque: mcbp.Opaque{0xff, 0, 1, 0xff}, Flags: mcbp.StreamFlagTakeover}.Append(nil))
		answerNegotiation(t, c)
		c.write(mcbp.StreamRequestAnswer{Opaque: mcbp.Opaque{1}, Log: []mcbp.FailoverEntry{{UUID: 1}}}.Append(nil))
		c.agreeUntil(mcbp.OpDCPAddStream)

		newer := login(t, n, replicationFeatures...)
		active := mcbp.SetVBucketState{VBucket: 7, Opaque: mcbp.Opaque{1}, State: mcbp.VBucketActive}.Append(nil)
		written := make(chan struct{})
		go func() {
			defer close(written)
			_, _ = c.socket.Write(active) // the node may have closed it already
		}()
		newer.write(mcbp.Open{Name: testLink, Flags: mcbp.OpenFlagsReplicaConsumer}.Append(nil))
		require.Equal(t, mcbp.StatusSuccess, newer.read().Status())
		state := admin.stat("vbucket", 7, "")
		<-written
		c.closed()
		require.Equal(t, state, admin.stat("vbucket", 7, ""), "it changed after the fence")
		if state == "active" {
			changed++
		}
	}
	t.Logf("active before the fence in %d of 100 rounds", changed)
}

// stall is an interceptor that stops a consumer in the middle of acting on a SET_VBUCKET_STATE, until the test has looked at
// what came of it, or for so long that the test must be waiting.
type stall struct {
	reached, looked chan struct{}
}

func (s *stall) Received(_ kvnode.Connection, _ uint16, f mcbp.Frame) kvnode.Action {
	if f.Opcode() == mcbp.OpDCPSetVBucketState {
		close(s.reached)
		select {
		case <-s.looked:
		case <-time.After(100 * time.Millisecond):
		}
	}
	return kvnode.Action{}
}

func (s *stall) Sending(kvnode.Connection, uint16, mcbp.Frame) kvnode.Action { return kvnode.Action{} }

// The OPEN is answered only when the older connection has finished with the frame that it is acting on.
func TestTheFenceWaitsForAFrameInTheWorks(t *testing.T) {
	s := &stall{reached: make(chan struct{}), looked: make(chan struct{})}
	n := startNode(t, "n1", func(o *kvnode.Options) { o.Hooks = s })
	admin := login(t, n)
	admin.setVBucket(7, mcbp.VBucketReplica)
	c := openDCP(t, n, kvnode.RoleConsumer, testLink, "")
	c.write(mcbp.AddStream{VBucket: 7, Opaque: mcbp.Opaque{0xff, 0, 1, 0xff}, Flags: mcbp.StreamFlagTakeover}.Append(nil))
	answerNegotiation(t, c)
	c.write(mcbp.StreamRequestAnswer{Opaque: mcbp.Opaque{1}, Log: []mcbp.FailoverEntry{{UUID: 1}}}.Append(nil))
	c.agreeUntil(mcbp.OpDCPAddStream)
	c.write(mcbp.SetVBucketState{VBucket: 7, Opaque: mcbp.Opaque{1}, State: mcbp.VBucketActive}.Append(nil))
	<-s.reached
	openDCP(t, n, kvnode.RoleConsumer, testLink, "")
	assert.Equal(t, "active", admin.stat("vbucket", 7, ""))
	close(s.looked)
}

// dawdle is an interceptor that holds a consumer up at the first of many ADD_STREAMs until somebody else opens its name, so that
// the others are still unread when it loses that.
type dawdle struct {
	opens  atomic.Int32
	second chan struct{} // of each two
}

func (d *dawdle) Received(_ kvnode.Connection, vb uint16, f mcbp.Frame) kvnode.Action {
	switch {
	case f.Opcode() == mcbp.OpDCPOpen:
		if d.opens.Add(1)%2 == 0 {
			d.second <- struct{}{}
		} else if len(d.second) > 0 {
			<-d.second // nobody was held up
		}
	case f.Opcode() == mcbp.OpDCPAddStream && vb == 0 && d.opens.Load()%2 == 1:
		select {
		case <-d.second:
		case <-time.After(patience):
		}
	}
	return kvnode.Action{}
}

func (*dawdle) Sending(kvnode.Connection, uint16, mcbp.Frame) kvnode.Action { return kvnode.Action{} }

// Whatever the older connection was told just before it lost its name, it does not keep the vbucket.
func TestAReplacedConnectionLeavesNoStreamBehind(t *testing.T) {
	const vbuckets = 1000
	n := startNode(t, "n1", func(o *kvnode.Options) { o.Hooks = &dawdle{second: make(chan struct{}, 1)} })
	admin := login(t, n)
	var adds []byte
	for vb := range uint16(vbuckets) {
		admin.setVBucket(vb, mcbp.VBucketReplica)
		adds = mcbp.AddStream{VBucket: vb, Opaque: mcbp.Opaque{0xff, byte(vb >> 8), byte(vb), 0xff}}.Append(adds)
	}
	open := mcbp.Open{Name: testLink, Flags: mcbp.OpenFlagsReplicaConsumer}.Append(nil)
	for range 20 {
		older := openDCP(t, n, kvnode.RoleConsumer, testLink, "")
		newer := login(t, n, replicationFeatures...)
		older.write(adds)
		newer.write(open)
		require.Equal(t, mcbp.StatusSuccess, newer.read().Status())
		newer.write(adds)
		require.Equal(t, mcbp.OpGetErrorMap, newer.read().Opcode(), "the first word is no refusal")
		require.Empty(t, newer.untilQuiet(), "nor is any other")
		newer.socket.Close()
		older.closed()
		eventually(t, "the newer is gone too", func() bool { pairs, _ := admin.stats("dcp"); return len(pairs) == 0 })
	}
}

// answerNegotiation plays a producer that agrees to everything, until the STREAM_REQ.
func answerNegotiation(t testing.TB, c *client) mcbp.Frame {
	t.Helper()
	return c.agreeUntil(mcbp.OpDCPStreamReq)
}

// addStream has a node's replica of vbucket 7 ask for a stream, and plays the producer that has this history.
func addStream(t testing.TB, n *kvnode.Node, log ...mcbp.FailoverEntry) (*client, mcbp.StreamRequest) {
	t.Helper()
	c := openDCP(t, n, kvnode.RoleConsumer, testLink, "")
	c.write(mcbp.AddStream{VBucket: 7, Opaque: mcbp.Opaque{0xff, 0, 1, 0xff}}.Append(nil))
	r, err := mcbp.ParseStreamRequest(answerNegotiation(t, c))
	require.NoError(t, err)
	c.write(mcbp.StreamRequestAnswer{Opaque: r.Opaque, Log: log}.Append(nil))
	c.agreeUntil(mcbp.OpDCPAddStream)
	return c, r
}

func TestStatesAreSetOnTakeoverStreamsOnly(t *testing.T) {
	n := startNode(t, "n1")
	admin := login(t, n)
	admin.setVBucket(7, mcbp.VBucketReplica)
	c := openDCP(t, n, kvnode.RoleConsumer, testLink, "")
	set := func(opaque byte, state mcbp.VBucketState) mcbp.Status {
		c.write(mcbp.SetVBucketState{VBucket: 7, Opaque: mcbp.Opaque{opaque}, State: state}.Append(nil))
		return c.read().Status()
	}
	assert.Equal(t, mcbp.StatusKeyNotFound, set(1, mcbp.VBucketActive), "no stream, and no status codes were negotiated")
	c.write(mcbp.AddStream{VBucket: 7, Opaque: mcbp.Opaque{0xff, 0, 1, 0xff}}.Append(nil))
	answerNegotiation(t, c)
	c.write(mcbp.StreamRequestAnswer{Opaque: mcbp.Opaque{1}, Log: []mcbp.FailoverEntry{{UUID: 1}}}.Append(nil))
	c.agreeUntil(mcbp.OpDCPAddStream)
	assert.Equal(t, mcbp.StatusInvalid, set(1, mcbp.VBucketActive))
	assert.Equal(t, mcbp.StatusOpaqueNoMatch, set(2, mcbp.VBucketActive))
	assert.Equal(t, "replica", admin.stat("vbucket", 7, ""))
}
