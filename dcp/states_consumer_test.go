package dcp

import (
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/shearpin/shearpin/dcp/mcbp"
	"github.com/shearpin/shearpin/dcp/relay"
)

// The reference's consumer proxy (2.6 of its state tables): its calls, the frames it tracks, what its producer proxy casts to it, and
// when a call is complete.

// Differs: a stream that is being closed is not in the set.
func TestState_2_6_calls_any_get_partitions(t *testing.T) {
	s := newScript(t)
	assert.Empty(t, s.m.streams())
	s.live(2, 1)
	s.live(1, 2)
	s.call(opAdd, 4)
	s.call(opTakeover, 5)
	assert.Equal(t, []uint16{1, 2}, s.m.streams())
	s.call(opClose, 2)
	assert.Equal(t, []uint16{1}, s.m.streams())
	s.stop(99)
	assert.Equal(t, []uint16{1}, s.m.streams(), "abandoned, and shut")
}

func TestState_2_6_calls_idle_set_streams(t *testing.T) {
	s := newScript(t)
	s.ok(s.request())
	s.live(2, 1)
	s.forget()
	id := s.request(streamChange{1, opAdd}, streamChange{2, opClose})
	assert.Equal(t, []uint16{1}, s.asked(relay.Consumer, mcbp.OpDCPAddStream))
	assert.Equal(t, []uint16{2}, s.asked(relay.Consumer, mcbp.OpDCPCloseStream))
	assert.Equal(t, []uint16{2}, s.asked(relay.Producer, mcbp.OpDCPCloseStream))
	s.unanswered(id)
}

func TestState_2_6_calls_idle_maybe_close(t *testing.T) {
	s := newScript(t)
	s.ok(s.call(opClose, 3))
	assert.Empty(t, s.sent, "there was no stream")
	s.live(3, 1)
	id := s.call(opClose, 3)
	s.closed(3, mcbp.StatusSuccess, mcbp.StatusSuccess)
	s.ok(id)
}

func TestState_2_6_calls_idle_takeover_open(t *testing.T) {
	s := newScript(t)
	s.live(3, 1)
	require.ErrorIs(t, s.answers[s.call(opTakeover, 3)][3], ErrStreamOpen)
	assert.Equal(t, []uint16{3}, s.m.streams())
}

func TestState_2_6_calls_idle_takeover(t *testing.T) {
	s := newScript(t)
	s.unanswered(s.call(opTakeover, 3))
	assert.Equal(t, []byte{0, 0, 0, 1}, s.last(relay.Consumer, mcbp.OpDCPAddStream, 3).Extras())
	assert.Equal(t, streamTakeover, s.m.vbs[3].state)
}

func TestState_2_6_calls_idle_shut_empty(t *testing.T) {
	s := newScript(t)
	s.stop(99)
	assert.Equal(t, []callID{99}, s.shut)
	assert.Equal(t, phaseShut, s.m.phase)
}

func TestState_2_6_calls_idle_shut(t *testing.T) {
	s := newScript(t)
	s.live(1, 1)
	s.stop(99)
	assert.Equal(t, []uint16{1}, s.asked(relay.Consumer, mcbp.OpDCPCloseStream))
	assert.Empty(t, s.sent[relay.Producer])
	assert.Empty(t, s.shut)
}

// Differs: the earlier caller is answered, and a stream being added is abandoned, not closed.
func TestState_2_6_calls_streams_shut(t *testing.T) {
	s := newScript(t)
	s.live(1, 1)
	id := s.call(opAdd, 2)
	s.forget()
	s.stop(99)
	require.ErrorIs(t, s.answers[id][2], ErrShut)
	assert.Equal(t, []callID{99}, s.shut)
	assert.Empty(t, s.sent)
}

// Differs: nobody is refused.
func TestState_2_6_calls_takeover_or_shut_shut(t *testing.T) {
	s := newScript(t)
	id := s.call(opTakeover, 3)
	s.stop(98)
	s.stop(99)
	assert.Equal(t, []callID{98, 99}, s.shut)
	require.ErrorIs(t, s.answers[id][3], ErrShut)
}

// Differs: calls are taken while others are under way; only after a stop are they refused, with an error of their own.
func TestState_2_6_calls_other_refused(t *testing.T) {
	s := newScript(t)
	s.call(opTakeover, 3)
	s.unanswered(s.call(opAdd, 4))
	s.unanswered(s.call(opClose, 4))
	s.stop(99)
	for _, kind := range []opKind{opAdd, opClose, opTakeover} {
		require.ErrorIs(t, s.answers[s.call(kind, 9)][9], ErrShut)
	}
}

func TestState_2_6_calls_errors_stay(t *testing.T) {
	s := newScript(t)
	id := s.call(opAdd, 1, 2)
	s.addAnswer(2, mcbp.StatusNotMyVBucket)
	s.addAnswer(1, mcbp.StatusSuccess)
	s.refused(id, 2, mcbp.OpDCPAddStream, RoleConsumer, mcbp.StatusNotMyVBucket)
	assert.Equal(t, []uint16{1}, s.m.streams(), "nobody rolls back")
}

// Differs: nothing waits for ever. What the engines owe has a limit without progress, and then the connection crashes.
func TestState_2_6_calls_infinite_timeouts(t *testing.T) {
	limits := Limits{}.withDefaults()
	for name, is := range map[string]struct {
		begin func(*script)
		limit time.Duration
		crash any
	}{
		"add":      {func(s *script) { s.call(opAdd, 1) }, limits.Add, new(*AddStreamTimeout)},
		"rollback": {func(s *script) { s.call(opAdd, 1); s.streamReq(1, 1); s.reqAnswer(1, mcbp.StatusRollback) }, limits.AddAfterRollback, new(*AddStreamTimeout)},
		"close":    {func(s *script) { s.live(1, 1); s.call(opClose, 1) }, limits.Close, new(*CloseStreamTimeout)},
		"takeover": {func(s *script) { s.call(opTakeover, 3); s.streamReq(3, 1) }, limits.Add, new(*AddStreamTimeout)},
		"states": {func(s *script) {
			s.call(opTakeover, 3)
			s.streamReq(3, 1)
			s.addAnswer(3, mcbp.StatusSuccess)
		}, limits.Takeover, new(*TakeoverTimeout)},
		"shut": {func(s *script) { s.live(1, 1); s.stop(99) }, limits.Close, new(*CloseStreamTimeout)},
	} {
		s := newScript(t)
		is.begin(s)
		assert.True(t, s.m.awaits(), name)
		s.pass(is.limit - 1)
		require.NoError(t, s.crash, name)
		s.pass(1)
		require.ErrorAs(t, s.crash, is.crash, name)
	}
}

func TestState_2_6_frames_streams_add_answer(t *testing.T) {
	s := newScript(t)
	id := s.call(opAdd, 1, 2)
	assert.Equal(t, relay.Drop, s.addAnswer(1, mcbp.StatusSuccess))
	assert.Equal(t, relay.Drop, s.addAnswer(2, mcbp.StatusKeyExists))
	assert.Equal(t, []uint16{1}, s.m.streams())
	s.refused(id, 2, mcbp.OpDCPAddStream, RoleConsumer, mcbp.StatusKeyExists)
	assert.Equal(t, relay.Drop, s.stray(relay.Consumer, mcbp.OpDCPAddStream, alien, mcbp.StatusSuccess))
	s.crashedWithOpaque(alien)
}

func TestState_2_6_frames_takeover_add_answer(t *testing.T) {
	s, id := taking(t)
	assert.Equal(t, relay.Drop, s.addAnswer(3, mcbp.StatusSuccess))
	s.unanswered(id)

	s, id = taking(t)
	assert.Equal(t, relay.Drop, s.addAnswer(3, mcbp.StatusKeyExists))
	s.refused(id, 3, mcbp.OpDCPAddStream, RoleConsumer, mcbp.StatusKeyExists)
	assert.Equal(t, streamNone, s.m.vbs[3].state)
}

// Differs: the STREAM_REQ of another vbucket does not crash; and the opaque is learned from every one.
func TestState_2_6_frames_takeover_stream_req(t *testing.T) {
	s := newScript(t)
	s.call(opTakeover, 3)
	assert.Equal(t, relay.Pass, s.streamReq(3, 7))
	assert.Equal(t, streamOpaque(7), s.m.vbs[3].opaque)
	assert.Equal(t, relay.Pass, s.streamReq(4, 8))
	require.NoError(t, s.crash)
	assert.Equal(t, streamOpaque(8), s.m.vbs[4].opaque)
	assert.Equal(t, streamOpaque(7), s.m.vbs[3].opaque)
}

// Differs: 0x0a, which current engines say, is success as well.
func TestState_2_6_frames_streams_close_answer(t *testing.T) {
	for _, status := range []mcbp.Status{mcbp.StatusSuccess, mcbp.StatusKeyNotFound, mcbp.StatusStreamNotFound} {
		s := newScript(t)
		s.live(1, 1)
		id := s.call(opClose, 1)
		assert.Equal(t, relay.Drop, s.closeAnswer(relay.Consumer, 1, status))
		assert.Equal(t, relay.Drop, s.closeAnswer(relay.Producer, 1, status))
		s.ok(id)
	}
	s := newScript(t)
	s.live(1, 1)
	id := s.call(opClose, 1)
	s.closed(1, mcbp.StatusBusy, mcbp.StatusSuccess)
	s.refused(id, 1, mcbp.OpDCPCloseStream, RoleConsumer, mcbp.StatusBusy)
	s.stray(relay.Consumer, mcbp.OpDCPCloseStream, alien, mcbp.StatusSuccess)
	s.crashedWithOpaque(alien)
}

func TestState_2_6_frames_takeover_state_answer(t *testing.T) {
	s, id := taking(t)
	s.addAnswer(3, mcbp.StatusSuccess)
	s.acknowledged(1, mcbp.VBucketPending)
	assert.Equal(t, mcbp.VBucketMissing, s.m.vbs[3].op.requested, "none is requested any more")
	s.unanswered(id)
	s.acknowledged(1, mcbp.VBucketActive)
	s.ok(id)
}

// Differs: a failure fails the takeover. An answer with another opaque, or to no request, is nothing here either.
func TestState_2_6_frames_takeover_state_answer_other(t *testing.T) {
	s, id := taking(t)
	s.addAnswer(3, mcbp.StatusSuccess)
	assert.Equal(t, relay.Pass, s.stateAnswer(1, mcbp.StatusSuccess), "nothing was requested")
	s.state(1, mcbp.VBucketActive)
	assert.Equal(t, relay.Pass, s.stateAnswer(5, mcbp.StatusSuccess), "another opaque")
	s.unanswered(id)
	assert.Equal(t, relay.Pass, s.stateAnswer(1, mcbp.StatusBusy))
	s.refused(id, 3, mcbp.OpDCPSetVBucketState, RoleConsumer, mcbp.StatusBusy)
}

func TestState_2_6_frames_shut_anything(t *testing.T) {
	s := newScript(t)
	s.stop(99)
	for _, op := range []mcbp.Opcode{mcbp.OpDCPAddStream, mcbp.OpDCPCloseStream, mcbp.OpDCPSetVBucketState} {
		assert.Equal(t, relay.Drop, s.stray(relay.Consumer, op, alien, mcbp.StatusSuccess))
	}
	assert.Equal(t, relay.Drop, s.streamReq(1, 1))
	require.NoError(t, s.crash)
}

// Differs: an ADD_STREAM answer to nothing crashes (d3); all else of the consumer's passes here too.
func TestState_2_6_frames_else_anything(t *testing.T) {
	s := newScript(t)
	assert.Equal(t, relay.Pass, s.streamReq(1, 1))
	assert.Equal(t, relay.Pass, s.stateAnswer(1, mcbp.StatusSuccess))
	assert.Equal(t, relay.Pass, s.frame(relay.Consumer, &mcbp.Packet{Opcode: mcbp.OpDCPControl}))
	s.stray(relay.Consumer, mcbp.OpDCPAddStream, alien, mcbp.StatusSuccess)
	s.crashedWithOpaque(alien)
}

// Differs: what the reference only warns of while it stops (and crashes on) is a late answer.
func TestState_2_6_casts_streams_close_answer(t *testing.T) {
	s := newScript(t)
	s.live(1, 1)
	id := s.call(opClose, 1)
	s.closeAnswer(relay.Consumer, 1, mcbp.StatusSuccess)
	s.unanswered(id)
	s.closeAnswer(relay.Producer, 1, mcbp.StatusStreamNotFound)
	s.ok(id)

	s = newScript(t)
	s.live(1, 1)
	s.call(opClose, 1)
	s.stop(99)
	assert.Equal(t, relay.Drop, s.closeAnswer(relay.Producer, 1, mcbp.StatusSuccess))
	require.NoError(t, s.crash)
	assert.EqualValues(t, 1, s.m.counts.LateAnswers)

	s = newScript(t)
	s.live(1, 1)
	s.call(opClose, 1)
	s.stray(relay.Producer, mcbp.OpDCPCloseStream, alien, mcbp.StatusSuccess)
	assert.Equal(t, RoleProducer, s.crashedWithOpaque(alien).Role)
}

func TestState_2_6_casts_takeover_state_request(t *testing.T) {
	s, _ := taking(t)
	assert.Equal(t, relay.Pass, s.state(8, mcbp.VBucketActive))
	assert.Equal(t, mcbp.VBucketMissing, s.m.vbs[3].op.requested, "another opaque")
	assert.Equal(t, relay.Pass, s.state(1, mcbp.VBucketPending))
	assert.Equal(t, mcbp.VBucketPending, s.m.vbs[3].op.requested)
}

func TestState_2_6_casts_shut_end(t *testing.T) {
	s := newScript(t)
	s.live(1, 1)
	s.stop(99)
	s.closeAnswer(relay.Consumer, 1, mcbp.StatusSuccess)
	s.end(1, 1, mcbp.EndClosed)
	require.NoError(t, s.crash)
	assert.Empty(t, s.ended)
}

// Differs: the opaque is the stream's, so that it fires with real engines.
func TestState_2_6_casts_streams_end(t *testing.T) {
	s := newScript(t)
	s.live(1, 1)
	s.call(opAdd, 2)
	s.streamReq(2, 2)
	s.end(1, 1, mcbp.EndStateChanged)
	assert.Empty(t, s.m.streams(), "a live one is removed")
	s.end(9, 2, mcbp.EndStateChanged)
	require.NoError(t, s.crash, "another's is ignored")
	s.end(2, 2, mcbp.EndStateChanged)
	s.crashedWithEndOf(2)
}

// Differs: an end that nobody caused is published; that of a takeover's stream is not ignored (f8).
func TestState_2_6_casts_idle_or_takeover_end(t *testing.T) {
	s := newScript(t)
	s.live(1, 1)
	s.live(2, 2)
	s.end(1, 1, mcbp.EndStateChanged)
	assert.Equal(t, []uint16{2}, s.m.streams())
	s.call(opTakeover, 3)
	s.streamReq(3, 3)
	s.end(2, 2, mcbp.EndStateChanged)
	assert.Empty(t, s.m.streams())
	assert.Len(t, s.ended, 2)
	s.end(4, 9, mcbp.EndStateChanged)
	require.NoError(t, s.crash)
	s.end(3, 3, mcbp.EndStateChanged)
	s.crashedWithEndOf(3)
}

func TestState_2_6_casts_other(t *testing.T) {
	s := newScript(t)
	s.live(1, 1)
	assert.Equal(t, relay.Pass, s.state(1, mcbp.VBucketActive))
	assert.Equal(t, relay.Pass, s.stray(relay.Producer, mcbp.OpDCPStreamReq, streamOpaque(99), mcbp.StatusRollback))
	require.NoError(t, s.crash)
	assert.Equal(t, []uint16{1}, s.m.streams())
}

func TestState_2_6_completion_streams(t *testing.T) {
	s := newScript(t)
	s.live(2, 1)
	id := s.request(streamChange{1, opAdd}, streamChange{2, opClose})
	for _, last := range []func(){
		func() { s.closeAnswer(relay.Consumer, 2, mcbp.StatusSuccess) },
		func() { s.addAnswer(1, mcbp.StatusSuccess) },
		func() { s.closeAnswer(relay.Producer, 2, mcbp.StatusSuccess) },
	} {
		s.unanswered(id)
		last()
	}
	s.ok(id)
}

func TestState_2_6_completion_takeover(t *testing.T) {
	for _, answerFirst := range []bool{false, true} {
		s, id := taking(t)
		steps := []func(){
			func() { s.acknowledged(1, mcbp.VBucketActive) },
			func() { s.addAnswer(3, mcbp.StatusSuccess) },
		}
		if answerFirst {
			steps[0], steps[1] = steps[1], steps[0]
		}
		steps[0]()
		s.unanswered(id)
		steps[1]()
		s.ok(id)
		assert.Equal(t, streamNone, s.m.vbs[3].state)
	}
}
