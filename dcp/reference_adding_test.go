package dcp

import (
	"encoding/hex"
	"errors"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/shearpin/shearpin/actors"
	"github.com/shearpin/shearpin/dcp/mcbp"
	"github.com/shearpin/shearpin/dcp/relay"
)

// Adding streams: the rows a, b, c, d and j of the recording.

// Differs in the opaque: ours is not the vbucket's number.
func TestReference_a1_a2(t *testing.T) {
	s := newScript(t)
	id := s.call(opAdd, 0, 1, 2, 3)
	assert.Equal(t, []uint16{0, 1, 2, 3}, s.asked(relay.Consumer, mcbp.OpDCPAddStream), "nothing waits in between")
	assert.Equal(t, "805100000400000300000004ff0004ff000000000000000000000000", hex.EncodeToString(s.sent[relay.Consumer][3]))
	for vb := range uint16(4) {
		assert.Equal(t, relay.Pass, s.streamReq(vb, uint32(vb)+1))
		assert.Equal(t, relay.Pass, s.stray(relay.Producer, mcbp.OpDCPStreamReq, streamOpaque(uint32(vb)+1), mcbp.StatusSuccess))
		s.unanswered(id)
		assert.Equal(t, relay.Drop, s.addAnswer(vb, mcbp.StatusSuccess))
	}
	s.ok(id)
	assert.Equal(t, []uint16{0, 1, 2, 3}, s.m.streams())
	assert.Empty(t, s.sent[relay.Producer])
}

// Differs: a call is a set of changes, not the whole set; and a vbucket leaves the set when its close is sent.
func TestReference_a3(t *testing.T) {
	s := newScript(t)
	for vb := range uint16(4) {
		s.live(vb, uint32(vb)+1)
	}
	s.forget()
	s.ok(s.call(opAdd, 3, 2, 1, 0))
	assert.Empty(t, s.sent, "the same set again: no packet")

	id := s.request(streamChange{4, opAdd}, streamChange{0, opClose}, streamChange{1, opClose})
	assert.Equal(t, []uint16{4}, s.asked(relay.Consumer, mcbp.OpDCPAddStream))
	assert.Equal(t, []uint16{0, 1}, s.asked(relay.Consumer, mcbp.OpDCPCloseStream))
	assert.Equal(t, []uint16{0, 1}, s.asked(relay.Producer, mcbp.OpDCPCloseStream))
	assert.Equal(t, []uint16{2, 3}, s.m.streams())
	assert.Empty(t, s.last(relay.Producer, mcbp.OpDCPCloseStream, 1).Extras())
	s.closed(0, mcbp.StatusSuccess, mcbp.StatusSuccess)
	s.streamReq(4, 5)
	s.addAnswer(4, mcbp.StatusSuccess)
	assert.Equal(t, relay.Drop, s.closeAnswer(relay.Consumer, 1, mcbp.StatusSuccess))
	s.unanswered(id)
	assert.Equal(t, relay.Drop, s.closeAnswer(relay.Producer, 1, mcbp.StatusSuccess))
	s.ok(id)
	assert.Equal(t, []uint16{2, 3, 4}, s.m.streams())
}

func TestReference_a4(t *testing.T) {
	s := newScript(t)
	id := s.call(opAdd, 0, 1)
	s.addAnswer(0, mcbp.StatusSuccess)
	answer := answerTo(s.last(relay.Consumer, mcbp.OpDCPAddStream, 1), mcbp.StatusSuccess)
	answer.Extras = []byte{0, 0, 0, 9}
	assert.Equal(t, relay.Drop, s.frame(relay.Consumer, answer))
	s.ok(id)
	assert.False(t, s.m.vbs[1].known, "the opaque in the answer is in another byte order and is not learned")
}

// Differs: a second call is taken. It does not disturb the first.
func TestReference_a5(t *testing.T) {
	s := newScript(t)
	first := s.call(opAdd, 0, 1)
	second := s.call(opAdd, 1, 2)
	assert.Equal(t, []uint16{0, 1, 2}, s.asked(relay.Consumer, mcbp.OpDCPAddStream), "vb 2 does not wait, vb 1 is being added already")
	for vb := range uint16(3) {
		s.addAnswer(vb, mcbp.StatusSuccess)
	}
	s.ok(first)
	s.ok(second)
}

// Differs: the second call does not queue behind the first, and what streams there are is answered meanwhile.
func TestReference_a6(t *testing.T) {
	p := newPost(t)
	p.open()
	p.request(1)
	p.request(2)
	assert.Equal(t, []callID{1, 2}, p.forwarded)
	d := newDesk(t)
	d.live("n1", 7)
	id := d.apply(1, "", map[uint16]string{8: "n1"})
	assert.Equal(t, []uint16{7}, d.m.status().Links[0].Streams)
	assert.NotContains(t, d.answers, id)
}

// Differs: the second ADD_STREAM of a vbucket is not sent, since the stream is there by then.
func TestReference_a7(t *testing.T) {
	s := newScript(t)
	id := s.call(opAdd, 0, 0)
	s.addAnswer(0, mcbp.StatusSuccess)
	s.ok(id)
	assert.Equal(t, []uint16{0}, s.asked(relay.Consumer, mcbp.OpDCPAddStream))
}

func TestReference_a8(t *testing.T) {
	s := newScript(t)
	s.call(opAdd, 3, 1, 2)
	assert.Equal(t, []uint16{3, 1, 2}, s.asked(relay.Consumer, mcbp.OpDCPAddStream))
	for _, vb := range []uint16{2, 3, 1} {
		s.addAnswer(vb, mcbp.StatusSuccess)
	}
	assert.Equal(t, []uint16{1, 2, 3}, s.m.streams())
}

func TestReference_b1_b2_b3(t *testing.T) {
	for _, status := range []mcbp.Status{mcbp.StatusRollback, mcbp.StatusNotMyVBucket, mcbp.StatusKeyExists} {
		s := newScript(t)
		id := s.call(opAdd, 0, 1, 2, 3)
		s.addAnswer(1, status)
		s.addAnswer(0, mcbp.StatusSuccess)
		s.addAnswer(2, mcbp.StatusSuccess)
		s.unanswered(id)
		s.addAnswer(3, mcbp.StatusSuccess)
		require.NoError(t, s.crash)
		assert.Len(t, s.answers[id], 1)
		s.refused(id, 1, mcbp.OpDCPAddStream, RoleConsumer, status)
		assert.Equal(t, []uint16{0, 2, 3}, s.m.streams())

		s.forget()
		again := s.call(opAdd, 0, 1, 2, 3)
		assert.Equal(t, []uint16{1}, s.asked(relay.Consumer, mcbp.OpDCPAddStream))
		s.addAnswer(1, mcbp.StatusSuccess)
		s.ok(again)

		p := newPost(t)
		p.open()
		p.request(1)
		p.m.answered(1, map[uint16]error{1: status})
		p.perform()
		require.NoError(t, p.answers[1].err)
		require.ErrorIs(t, p.answers[1].errs[1], status, "through the replicator too")
	}
}

// Differs: errors are kept by vbucket, not as a list with the latest first.
func TestReference_b4(t *testing.T) {
	s := newScript(t)
	id := s.call(opAdd, 0, 1, 3)
	s.addAnswer(1, mcbp.StatusNotMyVBucket)
	s.addAnswer(3, mcbp.StatusKeyExists)
	s.addAnswer(0, mcbp.StatusSuccess)
	assert.Len(t, s.answers[id], 2)
	s.refused(id, 1, mcbp.OpDCPAddStream, RoleConsumer, mcbp.StatusNotMyVBucket)
	s.refused(id, 3, mcbp.OpDCPAddStream, RoleConsumer, mcbp.StatusKeyExists)
}

// Differs: the caller of the manager gets an ApplyError with a cause for each vbucket.
func TestReference_b5(t *testing.T) {
	d := newDesk(t)
	id := d.apply(1, "", map[uint16]string{1: "n1", 2: "n1", 3: "n1"})
	d.linkAnswer(map[uint16]error{2: mcbp.StatusKeyExists, 1: mcbp.StatusNotMyVBucket}, nil)
	var failed *ApplyError
	require.ErrorAs(t, d.answer(id), &failed)
	assert.Equal(t, map[uint16]error{1: mcbp.StatusNotMyVBucket, 2: mcbp.StatusKeyExists}, failed.ByVB)
}

// Differs: a connection that is not there is started.
func TestReference_b6(t *testing.T) {
	d := newDesk(t)
	d.m.conns = 2
	d.apply(1, "", map[uint16]string{0: "n1", 1: "n1"})
	assert.Equal(t, []linkKey{{"n1", 0}, {"n1", 1}}, d.started)
	assert.Equal(t, []streamChange{{1, opAdd}}, d.sent[1].changes)
}

// Differs: the error is one for all links and names what failed on which.
func TestReference_m1(t *testing.T) {
	d := newDesk(t)
	id := d.apply(1, "", map[uint16]string{0: "n1", 1: "n1", 2: "n1", 3: "n1"})
	d.linkAnswer(map[uint16]error{2: d.m.linkOf(linkKey{producer: "n1"}).wrap(mcbp.StatusNotMyVBucket)}, nil)
	require.EqualError(t, d.answer(id), "replication n1→n9/0: "+mcbp.StatusNotMyVBucket.Error())
	assert.Equal(t, []uint16{0, 1, 3}, d.m.status().Links[0].Streams, "the good ones stay")
}

// c1 is the same through all processes: see reference_process_test.go.
//
// Differs: the opaque is the stream's own, not that of the ADD_STREAM; and the STREAM_END is not passed on.
func TestReference_c2(t *testing.T) {
	s := newScript(t)
	id := s.call(opAdd, 0, 1)
	s.streamReq(0, 0x1000)
	assert.Equal(t, relay.Drop, s.end(0, 0x1000, mcbp.EndLostPrivileges))
	end := s.crashedWithEndOf(0)
	assert.Equal(t, mcbp.EndLostPrivileges, end.Reason)
	s.unanswered(id)

	p := newPost(t)
	p.open()
	p.request(1)
	p.down(RoleConsumer, &CrashError{Role: RoleConsumer, Err: &end})
	require.ErrorIs(t, p.answers[1].err, error(&end), "its caller has the reason with the process's death")
}

// Differs: this is the reference's gap. The engine's own stream opaque is the one that counts.
func TestReference_c3(t *testing.T) {
	s := newScript(t)
	id := s.call(opAdd, 0, 1)
	s.streamReq(0, 0x1000)
	s.streamReq(1, 0x1001)
	s.end(0, 0x1000, mcbp.EndStateChanged)
	assert.Equal(t, streamOpaque(0x1000), s.crashedWithEndOf(0).StreamOpaque)
	s.addAnswer(0, mcbp.StatusSuccess)
	s.addAnswer(1, mcbp.StatusSuccess)
	s.unanswered(id)
	assert.Empty(t, s.m.streams(), "no ghost")
}

// Differs: the vbucket decides as well as the opaque.
func TestReference_c4(t *testing.T) {
	s := newScript(t)
	s.call(opAdd, 0)
	s.streamReq(0, 1)
	assert.Equal(t, relay.Pass, s.end(9, 0, mcbp.EndStateChanged))
	assert.Equal(t, relay.Pass, s.end(9, 1, mcbp.EndStateChanged))
	require.NoError(t, s.crash)
	assert.EqualValues(t, 2, s.m.counts.UnknownEnds)
}

func TestReference_c5(t *testing.T) {
	s := newScript(t)
	id := s.call(opAdd, 0, 1)
	s.streamReq(0, 1)
	s.streamReq(1, 2)
	s.addAnswer(0, mcbp.StatusSuccess)
	s.end(1, 2, mcbp.EndStateChanged)
	s.crashedWithEndOf(1)
	s.unanswered(id)
}

// e6 is the same in the other states. Differs there: a malformed frame crashes its connection whatever is going on.
func TestReference_c6_e6(t *testing.T) {
	for name, prepare := range map[string]func(*script){
		"adding":   func(s *script) { s.call(opAdd, 0) },
		"idle":     func(*script) {},
		"live":     func(s *script) { s.live(0, 1) },
		"takeover": func(s *script) { s.call(opTakeover, 0) },
	} {
		for _, vb := range []uint16{0, 9} {
			s := newScript(t)
			prepare(s)
			bad := &mcbp.Packet{Opcode: mcbp.OpDCPStreamEnd, VBucket: vb, Opaque: streamOpaque(1)}
			assert.Equal(t, relay.Drop, s.frame(relay.Producer, bad))
			var malformed *MalformedFrame
			require.ErrorAs(t, s.crash, &malformed, name)
			assert.Equal(t, []byte(bad.Frame()[:mcbp.HeaderLen]), malformed.Header[:])
		}
	}
}

func TestReference_d1_d2_d6(t *testing.T) {
	for _, status := range []mcbp.Status{mcbp.StatusSuccess, mcbp.StatusRollback, mcbp.StatusNotMyVBucket} {
		s := newScript(t)
		id := s.call(opAdd, 0, 1)
		assert.Equal(t, relay.Drop, s.stray(relay.Consumer, mcbp.OpDCPAddStream, mcbp.Opaque{0, 0, 0, 77}, status))
		unknown := s.crashedWithOpaque(mcbp.Opaque{0, 0, 0, 77})
		assert.Equal(t, []uint16{0, 1}, unknown.VBs, "the pending ones")
		s.unanswered(id)
	}
}

// Differs: it crashes. Nothing was asked for, so the ends are out of step; it is not passed on to a producer.
func TestReference_d3(t *testing.T) {
	s := newScript(t)
	assert.Equal(t, relay.Drop, s.stray(relay.Consumer, mcbp.OpDCPAddStream, alien, mcbp.StatusSuccess))
	assert.Empty(t, s.crashedWithOpaque(alien).VBs)
}

func TestReference_d4(t *testing.T) {
	s := newScript(t)
	s.stop(99)
	require.Equal(t, []callID{99}, s.shut)
	assert.Equal(t, relay.Drop, s.stray(relay.Consumer, mcbp.OpDCPAddStream, alien, mcbp.StatusSuccess))
	require.NoError(t, s.crash)
}

// Differs: a second answer to a request of ours is late, not unknown.
func TestReference_d5(t *testing.T) {
	s := newScript(t)
	id := s.call(opAdd, 0, 1)
	s.addAnswer(0, mcbp.StatusSuccess)
	assert.Equal(t, relay.Drop, s.addAnswer(0, mcbp.StatusSuccess))
	require.NoError(t, s.crash)
	assert.EqualValues(t, 1, s.m.counts.LateAnswers)
	s.addAnswer(1, mcbp.StatusSuccess)
	s.ok(id)
}

func TestReference_j1_j2(t *testing.T) {
	for _, opaque := range []uint32{5, 0xdeadbeef} {
		s := newScript(t)
		id := s.call(opAdd, 0, 1)
		assert.Equal(t, relay.Pass, s.end(9, opaque, mcbp.EndStateChanged))
		s.addAnswer(0, mcbp.StatusSuccess)
		s.addAnswer(1, mcbp.StatusSuccess)
		s.ok(id)
	}
}

// Differs: there is one shape of the error, and it keeps every layer of the story.
func TestReference_0_reason(t *testing.T) {
	cause := &UnexpectedStreamEnd{VB: 0, AddOpaque: mcbp.Opaque{0xff, 0, 1, 0xff}, StreamOpaque: streamOpaque(1), Reason: mcbp.EndStateChanged}
	for _, inFlight := range []int{1, 3} {
		p := newPost(t)
		p.open()
		for id := range inFlight {
			p.request(callID(id + 1))
		}
		p.down(RoleConsumer, &CrashError{Role: RoleConsumer, Err: cause})
		for id := range inFlight {
			err := p.answers[callID(id+1)].err
			var (
				link  *LinkError
				crash *CrashError
				end   *UnexpectedStreamEnd
			)
			require.True(t, errors.As(err, &link) && errors.As(err, &crash) && errors.As(err, &end), "%v", err)
			assert.Same(t, cause, end)
		}
		p.down(RoleProducer, actors.Killed)
		require.Len(t, p.crashes(), 1, "the other's end says nothing new, however it ends")
		require.ErrorIs(t, p.crashes()[0].Reason, error(cause))
	}
}
