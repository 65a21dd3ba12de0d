package dcp

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/shearpin/shearpin/dcp/mcbp"
	"github.com/shearpin/shearpin/dcp/relay"
)

// Ends, closes and planned stops: the rows e, i and the machine's part of g. The rows g4 to g6 are about processes.

// Differs: the end must carry the stream's opaque, and it is published.
func TestReference_e1(t *testing.T) {
	s := newScript(t)
	s.live(0, 1)
	s.live(1, 2)
	assert.Equal(t, relay.Pass, s.end(0, 7, mcbp.EndStateChanged))
	assert.Equal(t, []uint16{0, 1}, s.m.streams(), "not the stream's opaque")
	assert.Equal(t, relay.Pass, s.end(0, 1, mcbp.EndStateChanged))
	assert.Equal(t, []uint16{1}, s.m.streams())
	assert.Len(t, s.ended, 1)
	s.forget()
	s.call(opAdd, 0, 1)
	assert.Equal(t, []uint16{0}, s.asked(relay.Consumer, mcbp.OpDCPAddStream), "asked again, just that one")
}

func TestReference_e2(t *testing.T) {
	s := newScript(t)
	s.live(0, 1)
	assert.Equal(t, relay.Pass, s.end(9, 1, mcbp.EndStateChanged))
	assert.Equal(t, []uint16{0}, s.m.streams())
	assert.Empty(t, s.ended)
}

func TestReference_e3(t *testing.T) {
	s := newScript(t)
	s.live(0, 1)
	id := s.call(opAdd, 1)
	assert.Equal(t, relay.Pass, s.end(0, 1, mcbp.EndStateChanged))
	s.addAnswer(1, mcbp.StatusSuccess)
	s.ok(id)
	assert.Equal(t, []uint16{1}, s.m.streams())
}

func TestReference_e4(t *testing.T) {
	s := newScript(t)
	s.live(0, 1)
	id := s.call(opClose, 0)
	assert.Equal(t, relay.Pass, s.end(0, 1, mcbp.EndClosed))
	s.closeAnswer(relay.Producer, 0, mcbp.StatusKeyNotFound)
	s.unanswered(id)
	s.closeAnswer(relay.Consumer, 0, mcbp.StatusKeyNotFound)
	s.ok(id)
	assert.Empty(t, s.m.streams())
}

// Differs: after the planned stop nothing is passed on, for the sockets close.
func TestReference_e5(t *testing.T) {
	s := newScript(t)
	s.live(0, 1)
	s.stop(99)
	assert.Equal(t, relay.Pass, s.end(0, 1, mcbp.EndClosed), "while its close is under way")
	s.closeAnswer(relay.Consumer, 0, mcbp.StatusSuccess)
	require.Equal(t, []callID{99}, s.shut)
	assert.Equal(t, relay.Drop, s.end(0, 1, mcbp.EndClosed))
	require.NoError(t, s.crash)
	assert.Empty(t, s.ended)
}

func TestReference_i1(t *testing.T) {
	for _, missing := range []relay.Side{relay.Consumer, relay.Producer} {
		s := newScript(t)
		s.live(1, 1)
		id := s.call(opClose, 1)
		s.closeAnswer(missing, 1, mcbp.StatusKeyNotFound)
		s.closeAnswer(missing.Other(), 1, mcbp.StatusSuccess)
		s.ok(id)
	}
}

func TestReference_i2(t *testing.T) {
	s := newScript(t)
	s.live(1, 1)
	id := s.call(opClose, 1)
	s.closed(1, mcbp.StatusNotMyVBucket, mcbp.StatusSuccess)
	s.refused(id, 1, mcbp.OpDCPCloseStream, RoleConsumer, mcbp.StatusNotMyVBucket)
	assert.Empty(t, s.m.streams())
}

func TestReference_i3(t *testing.T) {
	s := newScript(t)
	s.live(1, 1)
	id := s.call(opClose, 1)
	s.closed(1, mcbp.StatusSuccess, mcbp.StatusTemporaryFailure)
	s.refused(id, 1, mcbp.OpDCPCloseStream, RoleProducer, mcbp.StatusTemporaryFailure)
	assert.Empty(t, s.m.streams())
}

// Differs: of two refusals the first is told.
func TestReference_i4(t *testing.T) {
	s := newScript(t)
	s.live(1, 1)
	id := s.call(opClose, 1)
	s.closed(1, mcbp.StatusNotMyVBucket, mcbp.StatusTemporaryFailure)
	s.refused(id, 1, mcbp.OpDCPCloseStream, RoleConsumer, mcbp.StatusNotMyVBucket)
	assert.Equal(t, []uint16{1}, s.m.streams(), "neither has closed it")
}

func TestReference_i5_i6(t *testing.T) {
	for _, from := range []relay.Side{relay.Consumer, relay.Producer} {
		s := newScript(t)
		s.live(1, 1)
		id := s.call(opClose, 1)
		s.stray(from, mcbp.OpDCPCloseStream, mcbp.Opaque{0, 0, 0, 9}, mcbp.StatusSuccess)
		assert.Equal(t, roleOf(from), s.crashedWithOpaque(mcbp.Opaque{0, 0, 0, 9}).Role)
		s.unanswered(id)
	}
}

// Differs: an answer to nothing crashes also when nothing is under way; one that comes late is dropped.
func TestReference_i7(t *testing.T) {
	for _, from := range []relay.Side{relay.Consumer, relay.Producer} {
		s := newScript(t)
		s.live(1, 1)
		s.call(opClose, 1)
		s.closed(1, mcbp.StatusSuccess, mcbp.StatusSuccess)
		assert.Equal(t, relay.Drop, s.closeAnswer(from, 1, mcbp.StatusSuccess), "never passed on")
		require.NoError(t, s.crash)
		s.stray(from, mcbp.OpDCPCloseStream, alien, mcbp.StatusSuccess)
		s.crashedWithOpaque(alien)
	}
}

// Differs: a second stop is answered too, and calls are refused with a typed error.
func TestReference_g1(t *testing.T) {
	s := newScript(t)
	s.stop(98)
	s.stop(99)
	assert.Equal(t, []callID{98, 99}, s.shut)
	for _, kind := range []opKind{opAdd, opTakeover, opClose} {
		require.ErrorIs(t, s.answers[s.call(kind, 1)][1], ErrShut)
	}
	assert.Empty(t, s.sent)
}

func TestReference_g2(t *testing.T) {
	s := newScript(t)
	s.live(0, 1)
	s.live(1, 2)
	s.stop(99)
	assert.Equal(t, []uint16{0, 1}, s.asked(relay.Consumer, mcbp.OpDCPCloseStream))
	assert.Empty(t, s.sent[relay.Producer])
	s.closeAnswer(relay.Consumer, 0, mcbp.StatusSuccess)
	assert.Empty(t, s.shut)
	s.closeAnswer(relay.Consumer, 1, mcbp.StatusKeyNotFound)
	assert.Equal(t, []callID{99}, s.shut)
	assert.Empty(t, s.m.streams())
}

// Differs: a refused close does not fail the stop. The socket closes next, which ends what is left.
func TestReference_g2b(t *testing.T) {
	s := newScript(t)
	s.live(0, 1)
	s.live(1, 2)
	s.stop(99)
	s.closeAnswer(relay.Consumer, 0, mcbp.StatusSuccess)
	s.closeAnswer(relay.Consumer, 1, mcbp.StatusNotMyVBucket)
	assert.Equal(t, []callID{99}, s.shut)
	assert.Equal(t, []uint16{1}, s.m.streams())
}

// Differs: the stuck caller is answered, nothing is closed in place, and the stop is complete at once: the connection is
// abandoned. g3b, the error of the add, has no later answer to be in.
func TestReference_g3_g3b(t *testing.T) {
	s := newScript(t)
	s.live(0, 1)
	s.live(1, 2)
	id := s.call(opAdd, 2)
	s.forget()
	s.stop(99)
	assert.Empty(t, s.sent)
	assert.Equal(t, []callID{99}, s.shut)
	require.ErrorIs(t, s.answers[id][2], ErrShut)
	assert.Equal(t, relay.Drop, s.stray(relay.Consumer, mcbp.OpDCPAddStream, mcbp.Opaque{0xff, 0, 3, 0xff}, mcbp.StatusNotMyVBucket))
	require.NoError(t, s.crash)
}

// Differs: producer packets that are asked about are dropped as well.
func TestReference_g7(t *testing.T) {
	s := newScript(t)
	s.live(0, 1)
	s.stop(99)
	s.closeAnswer(relay.Consumer, 0, mcbp.StatusSuccess)
	require.Equal(t, []callID{99}, s.shut)
	assert.Equal(t, relay.Drop, s.streamReq(4, 9))
	assert.Equal(t, relay.Drop, s.state(1, mcbp.VBucketActive))
	assert.Equal(t, relay.Drop, s.stateAnswer(1, mcbp.StatusSuccess))
	require.NoError(t, s.crash)
}

// A close was under way when the stop came: the producer's answer is not waited for, and does no harm when it comes.
// Differs: the reference crashes on it, over a log line with too few arguments.
func TestReference_g8(t *testing.T) {
	s := newScript(t)
	s.live(0, 1)
	s.live(1, 2)
	closing := s.call(opClose, 1)
	s.stop(99)
	require.ErrorIs(t, s.answers[closing][1], ErrShut)
	assert.Equal(t, []uint16{1, 0}, s.asked(relay.Consumer, mcbp.OpDCPCloseStream), "each once")
	s.closeAnswer(relay.Consumer, 0, mcbp.StatusSuccess)
	assert.Empty(t, s.shut)
	s.closeAnswer(relay.Consumer, 1, mcbp.StatusSuccess)
	assert.Equal(t, []callID{99}, s.shut, "the producer may be the reason for the stop")
	assert.Equal(t, relay.Drop, s.closeAnswer(relay.Producer, 1, mcbp.StatusSuccess))
	require.NoError(t, s.crash)

	t.Run("the consumer had answered before", func(t *testing.T) {
		s := newScript(t)
		s.live(1, 2)
		s.call(opClose, 1)
		s.closeAnswer(relay.Consumer, 1, mcbp.StatusSuccess)
		s.stop(99)
		assert.Equal(t, []callID{99}, s.shut)
	})
	t.Run("the producer answers before the consumer", func(t *testing.T) {
		s := newScript(t)
		s.live(1, 2)
		s.call(opClose, 1)
		s.stop(99)
		assert.Equal(t, relay.Drop, s.closeAnswer(relay.Producer, 1, mcbp.StatusSuccess))
		assert.Empty(t, s.shut)
		s.closeAnswer(relay.Consumer, 1, mcbp.StatusSuccess)
		assert.Equal(t, []callID{99}, s.shut)
		require.NoError(t, s.crash)
	})
}

func TestReference_g9(t *testing.T) {
	s := newScript(t)
	s.live(0, 1)
	s.stop(99)
	assert.Equal(t, relay.Pass, s.end(0, 1, mcbp.EndStateChanged))
	assert.Empty(t, s.shut, "the answer is still awaited")
	s.closeAnswer(relay.Consumer, 0, mcbp.StatusKeyNotFound)
	assert.Equal(t, []callID{99}, s.shut)
}
