package dcp

import (
	"encoding/binary"
	"errors"
	"io"
	"maps"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/shearpin/shearpin/dcp/mcbp"
	"github.com/shearpin/shearpin/dcp/relay"
)

// script drives one machine like the two engines and a caller would, and keeps what came out.
type script struct {
	t       *testing.T
	m       *consumerMachine
	now     time.Time
	sent    map[relay.Side][]mcbp.Frame
	answers map[callID]map[uint16]error
	ended   []publishEnd
	watched []uint16
	shut    []callID
	crash   error
	calls   callID
	seen    map[uint16]uint64
	stuck   map[relay.Side]bool
}

func newScript(t *testing.T) *script {
	t.Helper()
	s := &script{
		t: t, m: newConsumerMachine(Limits{}), now: time.Unix(0, 0),
		sent: map[relay.Side][]mcbp.Frame{}, answers: map[callID]map[uint16]error{}, seen: map[uint16]uint64{}, stuck: map[relay.Side]bool{},
	}
	s.m.opened(s.now)
	s.perform()
	return s
}

func (s *script) perform() {
	for _, e := range s.m.take() {
		require.NoError(s.t, s.crash, "nothing may follow a crash")
		switch e := e.(type) {
		case injectFrame:
			s.sent[e.to] = append(s.sent[e.to], e.frame)
		case answerCall:
			_, twice := s.answers[e.call]
			require.False(s.t, twice, "call %d answered twice", e.call)
			s.answers[e.call] = maps.Clone(e.errs)
		case publishEnd:
			s.ended = append(s.ended, e)
		case watchStreams:
			s.watched = e.vbs
		case shutDone:
			s.shut = append(s.shut, e.call)
		case crashConn:
			s.crash = e.reason
		}
	}
}

func (s *script) call(kind opKind, vbs ...uint16) callID {
	changes := make([]streamChange, len(vbs))
	for i, vb := range vbs {
		changes[i] = streamChange{VB: vb, Kind: kind}
	}
	return s.request(changes...)
}

func (s *script) request(changes ...streamChange) callID {
	s.calls++
	s.m.request(s.calls, changes, s.now)
	s.perform()
	return s.calls
}

func (s *script) frame(from relay.Side, p *mcbp.Packet) relay.Verdict {
	v := s.m.frame(from, p.Frame(), s.now)
	s.perform()
	return v
}

// last is the newest frame of an opcode that we sent to a side for a vbucket.
func (s *script) last(to relay.Side, op mcbp.Opcode, vb uint16) mcbp.Frame {
	for i := len(s.sent[to]) - 1; i >= 0; i-- {
		if f := s.sent[to][i]; f.Opcode() == op && f.VBucket() == vb {
			return f
		}
	}
	require.Failf(s.t, "not sent", "%v for vb %d to %v", op, vb, to)
	return nil
}

// The engines' frames. Stream opaques are little-endian counters, as on x86.
func streamOpaque(n uint32) (o mcbp.Opaque) {
	binary.LittleEndian.PutUint32(o[:], n)
	return o
}

// answerTo is an engine's answer: one to an ADD_STREAM names the stream if there is one.
func answerTo(request mcbp.Frame, status mcbp.Status) *mcbp.Packet {
	p := mcbp.Response(request, status)
	if p.Opcode == mcbp.OpDCPAddStream && status == mcbp.StatusSuccess {
		p.Extras = []byte{0, 0, 0, 1}
	}
	return p
}

// answerOf is an answer to a request that may never have been made.
func answerOf(op mcbp.Opcode, opaque mcbp.Opaque, status mcbp.Status) *mcbp.Packet {
	return answerTo((&mcbp.Packet{Opcode: op, Opaque: opaque}).Frame(), status)
}

func (s *script) addAnswer(vb uint16, status mcbp.Status) relay.Verdict {
	add := s.last(relay.Consumer, mcbp.OpDCPAddStream, vb)
	return s.frame(relay.Consumer, answerTo(add, status))
}

func (s *script) streamReq(vb uint16, n uint32) relay.Verdict {
	return s.frame(relay.Consumer, &mcbp.Packet{
		Opcode: mcbp.OpDCPStreamReq, VBucket: vb, Opaque: streamOpaque(n), Extras: make([]byte, 48),
	})
}

func (s *script) reqAnswer(n uint32, status mcbp.Status) {
	s.frame(relay.Producer, &mcbp.Packet{
		Magic: mcbp.MagicResponse, Opcode: mcbp.OpDCPStreamReq, Opaque: streamOpaque(n), Status: status,
	})
}

func (s *script) end(vb uint16, n uint32, reason mcbp.EndReason) relay.Verdict {
	extras := binary.BigEndian.AppendUint32(nil, uint32(reason))
	return s.frame(relay.Producer, &mcbp.Packet{Opcode: mcbp.OpDCPStreamEnd, VBucket: vb, Opaque: streamOpaque(n), Extras: extras})
}

func (s *script) closeAnswer(from relay.Side, vb uint16, status mcbp.Status) relay.Verdict {
	return s.frame(from, answerTo(s.last(from, mcbp.OpDCPCloseStream, vb), status))
}

// state is the producer's SET_VBUCKET_STATE of vbucket 3, which these tests take over.
func (s *script) state(n uint32, state mcbp.VBucketState) relay.Verdict {
	return s.frame(relay.Producer, &mcbp.Packet{
		Opcode: mcbp.OpDCPSetVBucketState, VBucket: 3, Opaque: streamOpaque(n), Extras: []byte{byte(state)},
	})
}

func (s *script) stateAnswer(n uint32, status mcbp.Status) relay.Verdict {
	return s.frame(relay.Consumer, &mcbp.Packet{
		Magic: mcbp.MagicResponse, Opcode: mcbp.OpDCPSetVBucketState, Opaque: streamOpaque(n), Status: status,
	})
}

// live brings a stream up.
func (s *script) live(vb uint16, n uint32) {
	id := s.call(opAdd, vb)
	s.streamReq(vb, n)
	s.reqAnswer(n, mcbp.StatusSuccess)
	s.addAnswer(vb, mcbp.StatusSuccess)
	require.Contains(s.t, s.answers, id)
	require.Empty(s.t, s.answers[id])
}

func (s *script) pass(d time.Duration) {
	s.now = s.now.Add(d)
	s.m.tick(s.now, s)
	s.perform()
}

func (s *script) progress(vb uint16) uint64 { return s.seen[vb] }

func (s *script) unwritten(side relay.Side) bool { return s.stuck[side] }

func (s *script) unanswered(id callID) { assert.NotContains(s.t, s.answers, id) }

func (s *script) failed(id callID, vb uint16, target any) {
	require.Contains(s.t, s.answers, id)
	require.Error(s.t, s.answers[id][vb])
	assert.ErrorAs(s.t, s.answers[id][vb], target)
}

func (s *script) ok(id callID) {
	require.Contains(s.t, s.answers, id)
	assert.Empty(s.t, s.answers[id])
}

func TestRule1AddHasTwoOutcomes(t *testing.T) {
	s := newScript(t)
	id := s.call(opAdd, 7)
	s.streamReq(7, 1)
	s.reqAnswer(1, mcbp.StatusSuccess)
	s.unanswered(id)
	assert.Equal(t, relay.Drop, s.addAnswer(7, mcbp.StatusSuccess), "the answer is ours and not passed on")
	s.ok(id)
	assert.Equal(t, []uint16{7}, s.m.streams())

	t.Run("or the connection is broken", func(t *testing.T) {
		s := newScript(t)
		id := s.call(opAdd, 7)
		s.pass(Limits{}.withDefaults().Add)
		var timeout *AddStreamTimeout
		require.ErrorAs(t, s.crash, &timeout)
		assert.Equal(t, []uint16{7}, timeout.VBs)
		assert.Contains(t, timeout.Error(), "vb=7 add_opaque=ff0001ff stream_opaque=-")
		s.unanswered(id)
	})
}

func TestRule2EndAfterTheAnswerIsTheEndOfALiveStream(t *testing.T) {
	s := newScript(t)
	s.live(7, 1)
	assert.Equal(t, relay.Pass, s.end(7, 1, mcbp.EndStateChanged))
	require.NoError(t, s.crash)
	assert.Equal(t, []publishEnd{{vb: 7, opaque: streamOpaque(1), reason: mcbp.EndStateChanged}}, s.ended)
	assert.Empty(t, s.m.streams())
}

func TestRule3EndBeforeTheAnswerCrashesAtOnce(t *testing.T) {
	for _, answered := range []bool{false, true} {
		s := newScript(t)
		id := s.call(opAdd, 17, 18)
		s.streamReq(17, 1)
		s.streamReq(18, 2)
		if answered {
			s.reqAnswer(1, mcbp.StatusSuccess)
		}
		assert.Equal(t, relay.Drop, s.end(17, 1, mcbp.EndStateChanged), "no further packet is processed")
		var end *UnexpectedStreamEnd
		require.ErrorAs(t, s.crash, &end)
		assert.Equal(t, UnexpectedStreamEnd{
			VB: 17, AddOpaque: mcbp.Opaque{0xff, 0, 1, 0xff}, StreamOpaque: streamOpaque(1), Reason: mcbp.EndStateChanged,
		}, *end)
		assert.Contains(t, end.Error(), "vb=17 add_opaque=ff0001ff stream_opaque=01000000")
		s.unanswered(id)
		assert.Equal(t, relay.Drop, s.addAnswer(18, mcbp.StatusSuccess))
		s.unanswered(id)
	}
}

func TestRule3EndWithAnOpaqueNeverSeenCrashesAnAdd(t *testing.T) {
	s := newScript(t)
	s.call(opAdd, 17)
	s.streamReq(17, 5)
	s.end(17, 9, mcbp.EndStateChanged)
	var end *UnexpectedStreamEnd
	require.ErrorAs(t, s.crash, &end)
	assert.Equal(t, streamOpaque(9), end.StreamOpaque)
}

func TestRule4UnknownOpaqueCrashes(t *testing.T) {
	for name, prepare := range map[string]func(*script){
		"open":   func(*script) {},
		"adding": func(s *script) { s.call(opAdd, 1) },
		"live":   func(s *script) { s.live(1, 1) },
	} {
		for opcode, from := range map[mcbp.Opcode][]relay.Side{
			mcbp.OpDCPAddStream:   {relay.Consumer},
			mcbp.OpDCPCloseStream: {relay.Consumer, relay.Producer},
		} {
			for _, side := range from {
				t.Run(name, func(t *testing.T) {
					s := newScript(t)
					prepare(s)
					alien := mcbp.Opaque{0xff, 0x7e, 0x7e, 0xff}
					s.frame(side, answerOf(opcode, alien, mcbp.StatusSuccess))
					var unknown *UnknownOpaque
					require.ErrorAs(t, s.crash, &unknown)
					assert.Equal(t, alien, unknown.Opaque)
					assert.Contains(t, unknown.Error(), "add_opaque=ff7e7eff")
				})
			}
		}
	}
}

func TestAnAnswerOfTheWrongKindIsUnknown(t *testing.T) {
	s := newScript(t)
	s.call(opAdd, 1)
	add := s.last(relay.Consumer, mcbp.OpDCPAddStream, 1)
	s.frame(relay.Producer, &mcbp.Packet{Magic: mcbp.MagicResponse, Opcode: mcbp.OpDCPCloseStream, Opaque: add.Opaque()})
	var unknown *UnknownOpaque
	require.ErrorAs(t, s.crash, &unknown)
}

func TestALateAnswerIsDroppedAndCounted(t *testing.T) {
	s := newScript(t)
	s.live(1, 1)
	assert.Equal(t, relay.Drop, s.addAnswer(1, mcbp.StatusSuccess))
	require.NoError(t, s.crash)
	assert.EqualValues(t, 1, s.m.counts.LateAnswers)
}

func TestTheReplyIsTheTruth(t *testing.T) {
	s := newScript(t)
	id := s.call(opAdd, 1, 2)
	s.streamReq(1, 1)
	s.streamReq(2, 2)
	s.addAnswer(1, mcbp.StatusSuccess)
	s.end(1, 1, mcbp.EndStateChanged)
	require.NoError(t, s.crash)
	s.unanswered(id)
	s.addAnswer(2, mcbp.StatusSuccess)
	var ended *StreamEndedError
	s.failed(id, 1, &ended)
	assert.Equal(t, mcbp.EndStateChanged, ended.Reason)
	assert.NotContains(t, s.answers[id], uint16(2))
	assert.Empty(t, s.ended, "the caller has been told")
	assert.Equal(t, []uint16{2}, s.m.streams())
}

func TestAStaleEndCrashesNothing(t *testing.T) {
	s := newScript(t)
	s.live(7, 1)
	closing := s.call(opClose, 7)
	s.closeAnswer(relay.Consumer, 7, mcbp.StatusSuccess)
	s.closeAnswer(relay.Producer, 7, mcbp.StatusSuccess)
	s.ok(closing)
	taking := s.call(opTakeover, 7)
	assert.Equal(t, relay.Pass, s.end(7, 1, mcbp.EndClosed), "before the new STREAM_REQ")
	s.streamReq(7, 2)
	assert.Equal(t, relay.Pass, s.end(7, 1, mcbp.EndClosed), "after it")
	require.NoError(t, s.crash)
	s.unanswered(taking)
	assert.EqualValues(t, 2, s.m.counts.StaleEnds)
	assert.Empty(t, s.ended)
}

func TestRollbackRepeatsTheStreamRequest(t *testing.T) {
	limits := Limits{}.withDefaults()
	s := newScript(t)
	id := s.call(opAdd, 7)
	s.streamReq(7, 1)
	s.reqAnswer(1, mcbp.StatusRollback)
	s.pass(limits.AddAfterRollback - time.Second)
	require.NoError(t, s.crash)
	s.streamReq(7, 1)
	s.reqAnswer(1, mcbp.StatusSuccess)
	s.addAnswer(7, mcbp.StatusSuccess)
	s.ok(id)

	t.Run("also with another opaque", func(t *testing.T) {
		s := newScript(t)
		s.call(opAdd, 7)
		s.streamReq(7, 1)
		s.reqAnswer(1, mcbp.StatusRollback)
		s.streamReq(7, 2)
		s.end(7, 1, mcbp.EndRollback)
		require.NoError(t, s.crash, "the first request's stream is past")
		s.end(7, 2, mcbp.EndRollback)
		require.Error(t, s.crash)
	})
}

func TestAnErrorStatusIsAnOrdinaryError(t *testing.T) {
	for _, status := range []mcbp.Status{mcbp.StatusNotMyVBucket, mcbp.StatusKeyExists, mcbp.StatusRollback} {
		s := newScript(t)
		id := s.call(opAdd, 1, 2)
		s.addAnswer(1, status)
		s.unanswered(id)
		s.streamReq(2, 1)
		s.addAnswer(2, mcbp.StatusSuccess)
		var refused *StreamStatusError
		s.failed(id, 1, &refused)
		require.ErrorIs(t, refused, status)
		require.NoError(t, s.crash)
		assert.Equal(t, []uint16{2}, s.m.streams())
		again := s.call(opAdd, 1)
		s.streamReq(1, 2)
		s.addAnswer(1, mcbp.StatusSuccess)
		s.ok(again)
	}
}

func TestCloseIsClosedWhateverSaysSo(t *testing.T) {
	for _, status := range []mcbp.Status{mcbp.StatusSuccess, mcbp.StatusKeyNotFound, mcbp.StatusStreamNotFound} {
		s := newScript(t)
		s.live(7, 1)
		id := s.call(opClose, 7)
		assert.NotEqual(t, s.last(relay.Consumer, mcbp.OpDCPCloseStream, 7).Opaque(), s.last(relay.Producer, mcbp.OpDCPCloseStream, 7).Opaque())
		assert.Equal(t, relay.Drop, s.closeAnswer(relay.Producer, 7, status))
		s.unanswered(id)
		s.end(7, 1, mcbp.EndClosed)
		s.unanswered(id)
		assert.Equal(t, relay.Drop, s.closeAnswer(relay.Consumer, 7, status))
		s.ok(id)
		assert.Empty(t, s.ended)
	}
}

func TestARefusedCloseIsAnErrorAndTheStreamStays(t *testing.T) {
	s := newScript(t)
	s.live(7, 1)
	id := s.call(opClose, 7)
	s.closeAnswer(relay.Consumer, 7, mcbp.StatusBusy)
	s.closeAnswer(relay.Producer, 7, mcbp.StatusBusy)
	var refused *StreamStatusError
	s.failed(id, 7, &refused)
	assert.Equal(t, []uint16{7}, s.m.streams())
}

func TestAnEndSettlesARefusedClose(t *testing.T) {
	s := newScript(t)
	s.live(7, 1)
	id := s.call(opClose, 7)
	s.end(7, 1, mcbp.EndStateChanged)
	assert.Empty(t, s.ended, "we are closing it")
	s.closeAnswer(relay.Consumer, 7, mcbp.StatusBusy)
	s.unanswered(id)
	s.closeAnswer(relay.Producer, 7, mcbp.StatusBusy)
	var refused *StreamStatusError
	s.failed(id, 7, &refused)
	assert.Empty(t, s.m.streams())
}

func TestAStreamBeingAddedIsNeverClosed(t *testing.T) {
	s := newScript(t)
	add := s.call(opAdd, 7)
	closing := s.call(opClose, 7)
	assert.Len(t, s.sent[relay.Consumer], 1)
	s.streamReq(7, 1)
	s.addAnswer(7, mcbp.StatusSuccess)
	s.ok(add)
	s.unanswered(closing)
	s.closeAnswer(relay.Consumer, 7, mcbp.StatusSuccess)
	s.closeAnswer(relay.Producer, 7, mcbp.StatusSuccess)
	s.ok(closing)
}

func TestVBucketsDoNotWaitForEachOther(t *testing.T) {
	s := newScript(t)
	taking := s.call(opTakeover, 1)
	s.streamReq(1, 1)
	s.live(2, 2)
	closing := s.call(opClose, 2)
	s.closeAnswer(relay.Consumer, 2, mcbp.StatusSuccess)
	s.closeAnswer(relay.Producer, 2, mcbp.StatusSuccess)
	s.ok(closing)
	s.unanswered(taking)
}

func TestTakeover(t *testing.T) {
	begin := func(t *testing.T) (*script, callID) {
		t.Helper()
		s := newScript(t)
		id := s.call(opTakeover, 3)
		assert.Equal(t, []byte{0, 0, 0, 1}, s.last(relay.Consumer, mcbp.OpDCPAddStream, 3).Extras())
		assert.Equal(t, relay.Pass, s.streamReq(3, 1))
		return s, id
	}
	t.Run("answer first", func(t *testing.T) {
		s, id := begin(t)
		s.addAnswer(3, mcbp.StatusSuccess)
		assert.Equal(t, relay.Pass, s.state(1, mcbp.VBucketPending))
		assert.Equal(t, relay.Pass, s.stateAnswer(1, mcbp.StatusSuccess))
		s.unanswered(id)
		s.state(1, mcbp.VBucketActive)
		s.stateAnswer(1, mcbp.StatusSuccess)
		s.ok(id)
		assert.Equal(t, relay.Pass, s.end(3, 1, mcbp.EndOK))
		require.NoError(t, s.crash)
		assert.Empty(t, s.ended)
		assert.Empty(t, s.m.streams(), "a takeover leaves no stream")
	})
	t.Run("answer last", func(t *testing.T) {
		s, id := begin(t)
		s.state(1, mcbp.VBucketPending)
		s.stateAnswer(1, mcbp.StatusSuccess)
		s.state(1, mcbp.VBucketActive)
		s.stateAnswer(1, mcbp.StatusSuccess)
		s.end(3, 1, mcbp.EndOK)
		require.NoError(t, s.crash, "active is acknowledged: the end is the normal one")
		s.unanswered(id)
		s.addAnswer(3, mcbp.StatusSuccess)
		s.ok(id)
	})
	t.Run("end before answer and active crashes", func(t *testing.T) {
		s, _ := begin(t)
		s.end(3, 1, mcbp.EndStateChanged)
		var end *UnexpectedStreamEnd
		require.ErrorAs(t, s.crash, &end)
	})
	t.Run("end after answer and before active fails the takeover", func(t *testing.T) {
		s, id := begin(t)
		s.addAnswer(3, mcbp.StatusSuccess)
		s.state(1, mcbp.VBucketPending)
		s.end(3, 1, mcbp.EndStateChanged)
		require.NoError(t, s.crash)
		var ended *StreamEndedError
		s.failed(id, 3, &ended)
	})
	t.Run("refused state fails the takeover", func(t *testing.T) {
		s, id := begin(t)
		s.state(1, mcbp.VBucketPending)
		s.stateAnswer(1, mcbp.StatusNotMyVBucket)
		var refused *StreamStatusError
		s.failed(id, 3, &refused)
		assert.Equal(t, streamTakeover, s.m.vbs[3].state, "the add is still owed an answer")
		s.addAnswer(3, mcbp.StatusSuccess)
		assert.Equal(t, streamNone, s.m.vbs[3].state)
	})
	t.Run("another vbucket's STREAM_REQ and another stream's states are not its own", func(t *testing.T) {
		s, id := begin(t)
		s.call(opAdd, 4)
		s.streamReq(4, 2)
		s.addAnswer(3, mcbp.StatusSuccess)
		s.state(9, mcbp.VBucketActive)
		s.stateAnswer(9, mcbp.StatusSuccess)
		require.NoError(t, s.crash)
		s.unanswered(id)
	})
	t.Run("no progress after the answer crashes", func(t *testing.T) {
		s, _ := begin(t)
		s.addAnswer(3, mcbp.StatusSuccess)
		s.pass(Limits{}.withDefaults().Takeover)
		var timeout *TakeoverTimeout
		require.ErrorAs(t, s.crash, &timeout)
	})
	t.Run("on an open stream is refused", func(t *testing.T) {
		s := newScript(t)
		s.live(3, 1)
		id := s.call(opTakeover, 3)
		require.ErrorIs(t, s.answers[id][3], ErrStreamOpen)
	})
	t.Run("close and takeover in one call", func(t *testing.T) {
		s := newScript(t)
		s.live(3, 1)
		id := s.request(streamChange{VB: 3, Kind: opClose}, streamChange{VB: 3, Kind: opTakeover})
		s.closeAnswer(relay.Consumer, 3, mcbp.StatusSuccess)
		s.closeAnswer(relay.Producer, 3, mcbp.StatusSuccess)
		s.streamReq(3, 2)
		s.end(3, 1, mcbp.EndClosed)
		s.addAnswer(3, mcbp.StatusSuccess)
		s.state(2, mcbp.VBucketActive)
		s.stateAnswer(2, mcbp.StatusSuccess)
		s.ok(id)
	})
}

func TestProgressKeepsAnAddAlive(t *testing.T) {
	limit := Limits{}.withDefaults().Add
	s := newScript(t)
	s.call(opAdd, 7)
	for range 5 {
		s.seen[7]++
		s.pass(limit - time.Second)
		require.NoError(t, s.crash)
	}
	s.pass(limit)
	require.Error(t, s.crash)

	t.Run("but not for ever", func(t *testing.T) {
		s := newScript(t)
		s.call(opAdd, 7)
		s.streamReq(7, 1)
		s.reqAnswer(1, mcbp.StatusSuccess)
		for range patience {
			s.seen[7]++
			s.pass(limit - time.Second)
		}
		s.seen[7]++
		s.pass(limit)
		var timeout *AddStreamTimeout
		require.ErrorAs(t, s.crash, &timeout)
		assert.Contains(t, timeout.Error(), "stream_opaque=01000000")
	})
}

func TestDeadlinesRunFromTheLastByteWritten(t *testing.T) {
	limits := Limits{}.withDefaults()
	s := newScript(t)
	s.live(1, 1)
	s.call(opClose, 1)
	s.call(opAdd, 2)
	s.stuck[relay.Consumer] = true
	s.pass(2 * limits.Add)
	s.stuck[relay.Consumer] = false
	s.pass(limits.Add - 1)
	require.NoError(t, s.crash)
	s.pass(1)
	require.Error(t, s.crash)

	t.Run("on both sockets for a close", func(t *testing.T) {
		s := newScript(t)
		s.live(1, 1)
		s.call(opClose, 1)
		s.stuck[relay.Producer] = true
		s.pass(2 * limits.Close)
		require.NoError(t, s.crash)
	})
}

func TestALoopOfRollbacksIsNoProgress(t *testing.T) {
	limits := Limits{}.withDefaults()
	s := newScript(t)
	s.call(opAdd, 7)
	for range rollbacksBelieved {
		s.streamReq(7, 1)
		s.reqAnswer(1, mcbp.StatusRollback)
		s.pass(limits.AddAfterRollback - 1)
		require.NoError(t, s.crash)
	}
	for range 3 {
		s.streamReq(7, 1)
		s.reqAnswer(1, mcbp.StatusRollback)
		if s.crash == nil {
			s.pass(limits.AddAfterRollback / 2)
		}
	}
	var timeout *AddStreamTimeout
	require.ErrorAs(t, s.crash, &timeout)
}

func TestAnUnansweredCloseCrashes(t *testing.T) {
	s := newScript(t)
	s.live(7, 1)
	s.call(opClose, 7)
	s.closeAnswer(relay.Consumer, 7, mcbp.StatusSuccess)
	s.pass(Limits{}.withDefaults().Close)
	var timeout *CloseStreamTimeout
	require.ErrorAs(t, s.crash, &timeout)
	assert.Equal(t, []uint16{7}, timeout.VBs)
}

func TestShut(t *testing.T) {
	t.Run("closes live streams at the consumer only", func(t *testing.T) {
		s := newScript(t)
		s.live(1, 1)
		s.live(2, 2)
		s.m.shut(99, s.now)
		s.perform()
		assert.Empty(t, s.shut)
		assert.Empty(t, s.sent[relay.Producer])
		s.closeAnswer(relay.Consumer, 1, mcbp.StatusSuccess)
		s.closeAnswer(relay.Consumer, 2, mcbp.StatusStreamNotFound)
		assert.Equal(t, []callID{99}, s.shut)
		id := s.call(opAdd, 3)
		require.ErrorIs(t, s.answers[id][3], ErrShut)
	})
	t.Run("with an add under way is done at once and answers its caller", func(t *testing.T) {
		s := newScript(t)
		id := s.call(opAdd, 1)
		s.m.shut(99, s.now)
		s.perform()
		assert.Equal(t, []callID{99}, s.shut)
		require.ErrorIs(t, s.answers[id][1], ErrShut)
		assert.Equal(t, relay.Drop, s.addAnswer(1, mcbp.StatusSuccess))
	})
	t.Run("twice answers both", func(t *testing.T) {
		s := newScript(t)
		s.live(1, 1)
		s.m.shut(98, s.now)
		s.m.shut(99, s.now)
		s.perform()
		s.closeAnswer(relay.Consumer, 1, mcbp.StatusSuccess)
		assert.Equal(t, []callID{98, 99}, s.shut)
	})
	t.Run("an unknown opaque while shutting is only counted", func(t *testing.T) {
		s := newScript(t)
		s.live(1, 1)
		s.m.shut(99, s.now)
		s.frame(relay.Consumer, answerOf(mcbp.OpDCPAddStream, mcbp.Opaque{1}, mcbp.StatusSuccess))
		require.NoError(t, s.crash)
	})
}

func TestCallsBeforeTheSocketsAreJoinedWait(t *testing.T) {
	s := &script{t: t, m: newConsumerMachine(Limits{}), now: time.Unix(0, 0), sent: map[relay.Side][]mcbp.Frame{}, answers: map[callID]map[uint16]error{}}
	id := s.call(opAdd, 2, 1)
	assert.Empty(t, s.sent)
	s.m.opened(s.now)
	s.perform()
	require.Len(t, s.sent[relay.Consumer], 2)
	s.unanswered(id)
}

func TestMalformedEndCrashes(t *testing.T) {
	s := newScript(t)
	s.frame(relay.Producer, &mcbp.Packet{Opcode: mcbp.OpDCPStreamEnd, VBucket: 1, Opaque: streamOpaque(1)})
	var bad *MalformedFrame
	require.ErrorAs(t, s.crash, &bad)
	assert.Contains(t, bad.Error(), "8055")
}

func TestOpaquesAreOutOfTheEnginesReach(t *testing.T) {
	table := newOpaqueTable()
	now := time.Unix(0, 0)
	for range maxOutstanding {
		o, ok := table.issue(pendingAnswer{}, now)
		require.True(t, ok)
		require.EqualValues(t, 0xff, o[0])
		require.EqualValues(t, 0xff, o[3])
	}
	_, ok := table.issue(pendingAnswer{}, now)
	require.False(t, ok, "more than %d outstanding queue", maxOutstanding)
	first := encodeOpaque(1)
	table.retire(first, now)
	_, fate := table.lookup(first, 0, "")
	assert.Equal(t, opaqueRetired, fate)
	_, fate = table.lookup(encodeOpaque(maxOutstanding+5), 0, "")
	assert.Equal(t, opaqueNeverIssued, fate)
	for range 1<<16 - maxOutstanding {
		o, ok := table.issue(pendingAnswer{}, now.Add(time.Second))
		require.True(t, ok)
		require.NotEqual(t, first, o, "a retired value rests for a minute")
		table.retire(o, now.Add(time.Second))
	}
	_, ok = table.issue(pendingAnswer{}, now.Add(time.Second))
	require.False(t, ok, "every value is outstanding or rests")
	o, ok := table.issue(pendingAnswer{}, now.Add(opaqueRest))
	require.True(t, ok)
	require.Equal(t, first, o)
}

func TestStarvedOperationsGoOnWhenOpaquesFreeUp(t *testing.T) {
	s := newScript(t)
	all := make([]uint16, maxOutstanding+1)
	for i := range all {
		all[i] = uint16(i)
	}
	id := s.call(opAdd, all...)
	require.Len(t, s.sent[relay.Consumer], maxOutstanding)
	s.addAnswer(0, mcbp.StatusNotMyVBucket)
	require.Len(t, s.sent[relay.Consumer], maxOutstanding+1)
	s.unanswered(id)
}

// A close needs two opaques. One that has to wait for the second must not use up the first: what frees up one by one would
// never be enough.
func TestACloseThatWaitsForItsOpaquesUsesUpNone(t *testing.T) {
	s := newScript(t)
	s.live(7, 1) // its first opaque is free again a second before the others
	s.now = s.now.Add(time.Second)
	for o, ok := s.m.opaques.issue(pendingAnswer{}, s.now); ok; o, ok = s.m.opaques.issue(pendingAnswer{}, s.now) {
		s.m.opaques.retire(o, s.now)
	}
	closing := s.call(opClose, 7)
	s.pass(opaqueRest - time.Second)
	assert.Empty(t, s.sent[relay.Producer])
	s.call(opAdd, 8)
	assert.EqualValues(t, 8, s.last(relay.Consumer, mcbp.OpDCPAddStream, 8).VBucket(), "one is enough for it")
	s.pass(time.Second)
	s.closed(7, mcbp.StatusSuccess, mcbp.StatusSuccess)
	s.ok(closing)
}

// Who knows which stream is gone is the connection. It tells, for whoever thinks that a refused close leaves a stream.
func TestARefusedCloseSaysWhetherTheStreamIsGone(t *testing.T) {
	for name, is := range map[string]struct {
		consumer, producer mcbp.Status
		end, gone          bool
	}{
		"consumer refuses":      {mcbp.StatusBusy, mcbp.StatusSuccess, false, true},
		"producer refuses":      {mcbp.StatusSuccess, mcbp.StatusBusy, false, true},
		"both refuse":           {mcbp.StatusBusy, mcbp.StatusBusy, false, false},
		"both, but it ended":    {mcbp.StatusBusy, mcbp.StatusBusy, true, true},
		"consumer's is no more": {mcbp.StatusStreamNotFound, mcbp.StatusBusy, false, true},
	} {
		t.Run(name, func(t *testing.T) {
			s := newScript(t)
			s.live(7, 1)
			id := s.call(opClose, 7)
			if is.end {
				s.end(7, 1, mcbp.EndStateChanged)
			}
			s.closed(7, is.consumer, is.producer)
			var refused *StreamStatusError
			s.failed(id, 7, &refused)
			assert.Equal(t, is.gone, refused.Gone)
			assert.Equal(t, is.gone, len(s.m.streams()) == 0)
		})
	}
}

func TestErrorsNameWhatHappened(t *testing.T) {
	inner := &UnexpectedStreamEnd{VB: 17, AddOpaque: mcbp.Opaque{0xff, 0, 0x11, 0xff}, StreamOpaque: streamOpaque(1), Reason: mcbp.EndStateChanged}
	err := Link{Bucket: "orders", Producer: "n0", Consumer: "n3"}.wrap(&CrashError{Role: RoleConsumer, Err: inner})
	assert.Equal(t, "replication n0→n3/0: consumer connection crashed: unexpected_stream_end: STREAM_END (state changed) before ADD_STREAM "+
		"was answered: vb=17 add_opaque=ff0011ff stream_opaque=01000000 code=2", err.Error())
	assert.Equal(t, []uint16{17}, NamedVBuckets(err))
	var crash *CrashError
	require.ErrorAs(t, err, &crash)
	assert.Equal(t, "unknown_opaque: consumer answered a DCP_ADD_STREAM that was never sent: vb=- add_opaque=ff7e7eff stream_opaque=- (being added: vb 3,4)",
		(&UnknownOpaque{Opcode: mcbp.OpDCPAddStream, Opaque: mcbp.Opaque{0xff, 0x7e, 0x7e, 0xff}, Role: RoleConsumer, VBs: []uint16{3, 4}}).Error())
	require.ErrorIs(t, &SocketClosedError{Err: io.EOF}, ErrSocketClosed)
	require.ErrorIs(t, &SocketClosedError{Err: io.EOF}, io.EOF)
	joined := &ApplyError{ByVB: map[uint16]error{2: errors.New("b"), 1: ErrShut}}
	require.ErrorIs(t, joined, ErrShut)
	assert.Contains(t, joined.Error(), "2 vbuckets failed")
}
