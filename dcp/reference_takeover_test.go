package dcp

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/shearpin/shearpin/dcp/mcbp"
	"github.com/shearpin/shearpin/dcp/relay"
)

// Takeovers: the rows f of the recording.

func TestReference_f1(t *testing.T) {
	s := newScript(t)
	id := s.request(streamChange{3, opClose}, streamChange{3, opTakeover})
	assert.Empty(t, s.asked(relay.Consumer, mcbp.OpDCPCloseStream), "not streaming: there is nothing to close")
	assert.Equal(t, []byte{0, 0, 0, 1}, s.last(relay.Consumer, mcbp.OpDCPAddStream, 3).Extras())
	assert.Equal(t, relay.Pass, s.streamReq(3, 1))
	assert.Equal(t, relay.Drop, s.addAnswer(3, mcbp.StatusSuccess))
	s.acknowledged(1, mcbp.VBucketPending)
	s.unanswered(id)
	s.acknowledged(1, mcbp.VBucketActive)
	s.ok(id)
	assert.Empty(t, s.m.streams())
	assert.Equal(t, relay.Pass, s.end(3, 1, mcbp.EndOK))
	assert.Empty(t, s.ended)
	require.NoError(t, s.crash)
}

func TestReference_f2(t *testing.T) {
	s, id := taking(t)
	s.acknowledged(1, mcbp.VBucketPending)
	s.acknowledged(1, mcbp.VBucketActive)
	s.unanswered(id)
	s.addAnswer(3, mcbp.StatusSuccess)
	s.ok(id)
}

func TestReference_f3_f3b(t *testing.T) {
	for _, status := range []mcbp.Status{mcbp.StatusNotMyVBucket, mcbp.StatusRollback} {
		s, id := taking(t)
		s.addAnswer(3, status)
		s.refused(id, 3, mcbp.OpDCPAddStream, RoleConsumer, status)
		require.NoError(t, s.crash)
		assert.Equal(t, streamNone, s.m.vbs[3].state)
	}
}

func TestReference_f4_f4b(t *testing.T) {
	for _, status := range []mcbp.Status{mcbp.StatusSuccess, mcbp.StatusNotMyVBucket} {
		s, id := taking(t)
		s.stray(relay.Consumer, mcbp.OpDCPAddStream, mcbp.Opaque{0, 0, 0, 4}, status)
		assert.Equal(t, []uint16{3}, s.crashedWithOpaque(mcbp.Opaque{0, 0, 0, 4}).VBs)
		s.unanswered(id)
	}
}

func TestReference_f5(t *testing.T) {
	s := newScript(t)
	s.live(3, 1)
	s.forget()
	require.ErrorIs(t, s.answers[s.call(opTakeover, 3)][3], ErrStreamOpen)
	assert.Empty(t, s.sent)
}

func TestReference_f5b(t *testing.T) {
	s := newScript(t)
	s.live(3, 1)
	s.forget()
	s.request(streamChange{3, opClose}, streamChange{3, opTakeover})
	assert.Equal(t, []uint16{3}, s.asked(relay.Consumer, mcbp.OpDCPCloseStream))
	assert.Equal(t, []uint16{3}, s.asked(relay.Producer, mcbp.OpDCPCloseStream))
	s.closeAnswer(relay.Producer, 3, mcbp.StatusSuccess)
	assert.Empty(t, s.asked(relay.Consumer, mcbp.OpDCPAddStream))
	s.closeAnswer(relay.Consumer, 3, mcbp.StatusSuccess)
	assert.Equal(t, []uint16{3}, s.asked(relay.Consumer, mcbp.OpDCPAddStream))
}

// Differs: the caller is told why the close failed, not what followed from it.
func TestReference_f5c(t *testing.T) {
	s := newScript(t)
	s.live(3, 1)
	s.forget()
	id := s.request(streamChange{3, opClose}, streamChange{3, opTakeover})
	s.closed(3, mcbp.StatusNotMyVBucket, mcbp.StatusTemporaryFailure)
	s.refused(id, 3, mcbp.OpDCPCloseStream, RoleConsumer, mcbp.StatusNotMyVBucket)
	assert.Empty(t, s.asked(relay.Consumer, mcbp.OpDCPAddStream))
	assert.Equal(t, []uint16{3}, s.m.streams())

	s = newScript(t)
	s.live(3, 1)
	s.forget()
	id = s.request(streamChange{3, opClose}, streamChange{3, opTakeover})
	s.closed(3, mcbp.StatusNotMyVBucket, mcbp.StatusSuccess)
	s.refused(id, 3, mcbp.OpDCPCloseStream, RoleConsumer, mcbp.StatusNotMyVBucket)
	assert.Empty(t, s.asked(relay.Consumer, mcbp.OpDCPAddStream), "also if the other end has closed it")
}

// Differs: a state that the consumer refuses fails the takeover at once; the reference waits for ever.
func TestReference_f6(t *testing.T) {
	s, id := taking(t)
	s.addAnswer(3, mcbp.StatusSuccess)
	s.acknowledged(1, mcbp.VBucketPending)
	assert.Equal(t, relay.Pass, s.state(1, mcbp.VBucketActive))
	assert.Equal(t, relay.Pass, s.stateAnswer(1, mcbp.StatusNotMyVBucket))
	s.refused(id, 3, mcbp.OpDCPSetVBucketState, RoleConsumer, mcbp.StatusNotMyVBucket)
	require.NoError(t, s.crash)
}

// Differs: the STREAM_REQ of another vbucket is not this takeover's business; the reference crashes.
func TestReference_f7(t *testing.T) {
	s := newScript(t)
	id := s.call(opTakeover, 3)
	assert.Equal(t, relay.Pass, s.streamReq(4, 1))
	require.NoError(t, s.crash)
	assert.Equal(t, relay.Pass, s.streamReq(3, 2))
	s.addAnswer(3, mcbp.StatusSuccess)
	s.acknowledged(2, mcbp.VBucketActive)
	s.ok(id)
}

// Differs: the end of the takeover's own stream crashes the connection or fails the takeover; the reference waits for ever.
func TestReference_f8(t *testing.T) {
	s, id := taking(t)
	s.end(3, 1, mcbp.EndStateChanged)
	s.crashedWithEndOf(3)
	s.unanswered(id)

	s, id = taking(t)
	s.addAnswer(3, mcbp.StatusSuccess)
	assert.Equal(t, relay.Pass, s.end(3, 1, mcbp.EndStateChanged))
	require.NoError(t, s.crash)
	var ended *StreamEndedError
	s.failed(id, 3, &ended)
	assert.Equal(t, mcbp.EndStateChanged, ended.Reason)
}

// Differs: nothing is refused. Other vbuckets do not wait, the same one queues, and a stop abandons the takeover.
func TestReference_f9(t *testing.T) {
	s, id := taking(t)
	s.live(4, 2)
	same := s.call(opAdd, 3)
	closing := s.call(opClose, 4)
	s.closed(4, mcbp.StatusSuccess, mcbp.StatusSuccess)
	s.ok(closing)
	s.unanswered(same)
	assert.Empty(t, s.m.streams())
	s.stop(99)
	assert.Equal(t, []callID{99}, s.shut)
	require.ErrorIs(t, s.answers[id][3], ErrShut)
	require.ErrorIs(t, s.answers[same][3], ErrShut)

	s, id = taking(t)
	s.live(4, 2)
	s.addAnswer(3, mcbp.StatusSuccess)
	s.forget()
	s.stop(99)
	assert.Equal(t, []callID{99}, s.shut, "also when its add has been answered")
	assert.Empty(t, s.sent)
	require.ErrorIs(t, s.answers[id][3], ErrShut)
}

func TestReference_f10_f12(t *testing.T) {
	idle := newScript(t)
	assert.Equal(t, relay.Pass, idle.state(1, mcbp.VBucketActive))
	assert.Equal(t, relay.Pass, idle.stateAnswer(1, mcbp.StatusSuccess))
	require.NoError(t, idle.crash)

	s := newScript(t)
	id := s.call(opTakeover, 3)
	assert.Equal(t, relay.Pass, s.state(1, mcbp.VBucketActive))
	s.streamReq(3, 1)
	s.addAnswer(3, mcbp.StatusSuccess)
	assert.Equal(t, relay.Pass, s.stateAnswer(1, mcbp.StatusSuccess))
	s.unanswered(id)
	require.NoError(t, s.crash)
	s.acknowledged(1, mcbp.VBucketActive)
	s.ok(id)
}

func TestReference_f11(t *testing.T) {
	s, id := taking(t)
	s.addAnswer(3, mcbp.StatusSuccess)
	s.acknowledged(9, mcbp.VBucketActive)
	s.unanswered(id)
	assert.Equal(t, relay.Pass, s.state(1, mcbp.VBucketActive))
	assert.Equal(t, relay.Pass, s.stateAnswer(9, mcbp.StatusSuccess))
	s.unanswered(id)
	s.stateAnswer(1, mcbp.StatusSuccess)
	s.ok(id)
}
