package explore

import (
	"encoding/binary"

	"github.com/shearpin/shearpin/dcp/mcbp"
	"github.com/shearpin/shearpin/dcp/relay"
)

// The engines are as free as real ones were seen to be, and a little freer where the config says so. Each keeps its frames
// in order; nothing orders the frames of one engine against those of the other.

// consumerEngine is the KV that receives the documents.
type consumerEngine struct {
	// counter gives out stream opaques, in the byte order of its host.
	counter uint32
	streams [maxVBs]passiveStream
	// mute says that it has swallowed a request, so that it owes an answer that will never come.
	mute bool
	// leftOver says that streams of a connection that is gone may still live here; the next OPEN of the name ends them.
	leftOver bool
	// leftOf is the oldest incarnation that has left some.
	leftOf uint64
}

// passiveStream is a stream at the consumer. One whose ADD_STREAM it has not answered is already there.
type passiveStream struct {
	state     passiveState
	opaque    mcbp.Opaque
	add       mcbp.Frame
	rollbacks int
	// active says that it has agreed to make its vbucket active.
	active bool
}

type passiveState uint8

const (
	passiveNone passiveState = iota
	// passiveRequested: its STREAM_REQ is out.
	passiveRequested
	// passiveAccepted: the producer has accepted; the ADD_STREAM is answered in a while, data may come first.
	passiveAccepted
	// passiveGhost: the end came before the ADD_STREAM was answered, and the answer follows all the same.
	passiveGhost
	passiveLive
)

// producerEngine is the KV that holds the active copy.
type producerEngine struct {
	streams [maxVBs]activeStream
	// late are the ends of closed streams that it has not sent yet.
	late [maxVBs]mcbp.Frame
	mute bool
}

// activeStream is a stream at the producer.
type activeStream struct {
	state  activeState
	opaque mcbp.Opaque
}

type activeState uint8

const (
	activeNone activeState = iota
	activeOpen
	// activeTaking: a takeover's stream, whose states are still to be sent.
	activeTaking
	activePending // SET_VBUCKET_STATE(pending) is out
	activeActive  // SET_VBUCKET_STATE(active) is out
	// activeStuck: the consumer has refused a state.
	activeStuck
)

// disconnect is the end of an incarnation's socket. The engine may notice later.
func (e *consumerEngine) disconnect(incarnation uint64) {
	left := consumerEngine{leftOver: e.leftOver, leftOf: e.leftOf}
	for _, s := range e.streams {
		if s.state != passiveNone && !left.leftOver {
			left.leftOver, left.leftOf = true, incarnation
		}
	}
	*e = left
}

func (e *producerEngine) disconnect() { *e = producerEngine{} }

// openAgain is a DCP OPEN: it ends what an older connection of the name has left.
func (e *consumerEngine) openAgain() { e.leftOver, e.leftOf = false, 0 }

// owes reports whether an engine will yet say something of its own.
func (w *world) owes() bool {
	for vb := range w.cfg.vbs {
		if s := w.consumer.streams[vb].state; s == passiveAccepted || s == passiveGhost {
			return true
		}
		if w.producer.streams[vb].state == activeTaking || w.producer.late[vb] != nil {
			return true
		}
	}
	return false
}

// choice is what an engine makes of a frame.
type choice uint8

const (
	chooseOK choice = iota
	chooseRefuse
	chooseRollback
	chooseMute
	// chooseGhost answers the ADD_STREAM of a stream that has ended, chooseForget never does.
	chooseGhost
	chooseForget
	// chooseEnd ends the stream now, chooseLateEnd later.
	chooseEnd
	chooseLateEnd
)

var choiceNames = [...]string{
	"says yes", "refuses", "asks for a rollback", "never answers", "will answer for the dead stream", "forgets its answer",
	"ends the stream", "will end the stream later",
}

// consumerChoices lists what the consumer's engine may make of its next frame.
func (w *world) consumerChoices(f mcbp.Frame) []choice {
	if len(f) == 0 {
		return []choice{chooseOK}
	}
	cfg, s := w.cfg, &w.consumer.streams[vbOf(f)]
	choices := []choice{chooseOK}
	switch {
	case f.Opcode() == mcbp.OpDCPAddStream && s.state == passiveNone:
		choices = maybe(choices, cfg.refuse, chooseRefuse)
		choices = maybe(choices, cfg.mute, chooseMute)
	case f.Opcode() == mcbp.OpDCPCloseStream:
		choices = maybe(choices, cfg.refuseClose && s.state != passiveNone, chooseRefuse)
		choices = maybe(choices, cfg.mute, chooseMute)
	case f.Opcode() == mcbp.OpDCPStreamReq && f.Status() == mcbp.StatusSuccess:
		choices = maybe(choices, cfg.mute, chooseMute)
	case f.Opcode() == mcbp.OpDCPStreamEnd && s.state == passiveAccepted && s.opaque == f.Opaque():
		choices = []choice{chooseGhost, chooseForget}
	case f.Opcode() == mcbp.OpDCPSetVBucketState && s.state >= passiveAccepted && s.opaque == f.Opaque():
		choices = maybe(choices, cfg.refuse, chooseRefuse)
		choices = maybe(choices, cfg.mute, chooseMute)
	}
	return choices
}

func maybe(choices []choice, may bool, c choice) []choice {
	if may {
		choices = append(choices, c)
	}
	return choices
}

// vbOf is the vbucket that a frame is about. Answers name none; those of the engines here are found by their opaque.
func vbOf(f mcbp.Frame) uint16 {
	if f.IsResponse() {
		return 0
	}
	return min(f.VBucket(), maxVBs-1)
}

func (w *world) answer(side relay.Side, request mcbp.Frame, status mcbp.Status, extras []byte) {
	p := mcbp.Response(request, status)
	p.Extras = extras
	w.send(side, p.Frame())
}

// send is an engine writing to its socket.
func (w *world) send(side relay.Side, f mcbp.Frame) {
	w.sayf("   the %v's engine sends %v", side, inWords(f))
	w.from[side] = append(w.from[side], f)
}

// consumerTakes is the consumer's engine handling the next frame in its socket.
func (w *world) consumerTakes(c choice) {
	f := w.to[relay.Consumer][0]
	w.to[relay.Consumer] = w.to[relay.Consumer][1:]
	w.sayf("the consumer's engine takes %v and %s", inWords(f), choiceNames[c])
	e := &w.consumer
	e.mute = e.mute || c == chooseMute
	switch {
	case f.Opcode() == mcbp.OpDCPAddStream:
		w.consumerAdds(f, c)
	case f.Opcode() == mcbp.OpDCPCloseStream:
		s := &e.streams[f.VBucket()]
		w.tally.count(invTraps)
		switch {
		case s.state == passiveRequested || s.state == passiveAccepted:
			w.failf(invTraps, "CLOSE_STREAM of vb %d meets its unanswered ADD_STREAM at the consumer's engine", f.VBucket())
		case c == chooseMute:
		case c == chooseRefuse:
			w.answer(relay.Consumer, f, mcbp.StatusTemporaryFailure, nil)
		case s.state == passiveNone:
			w.answer(relay.Consumer, f, mcbp.StatusStreamNotFound, nil)
		default:
			*s = passiveStream{}
			w.answer(relay.Consumer, f, mcbp.StatusSuccess, nil)
		}
	case f.Opcode() == mcbp.OpDCPStreamReq:
		w.consumerIsAnswered(f, c)
	case f.Opcode() == mcbp.OpDCPStreamEnd:
		s := &e.streams[f.VBucket()]
		switch {
		case s.state == passiveNone || s.opaque != f.Opaque():
		case c == chooseGhost:
			s.state = passiveGhost
		default:
			// A takeover that is complete has only its ADD_STREAM's answer to wait for, and nothing tells that it was forgotten.
			e.mute = e.mute || c == chooseForget && s.active
			*s = passiveStream{}
		}
	case f.Opcode() == mcbp.OpDCPSetVBucketState:
		s := &e.streams[f.VBucket()]
		switch {
		case s.state < passiveAccepted || s.opaque != f.Opaque():
			w.answer(relay.Consumer, f, mcbp.StatusStreamNotFound, nil)
		case c == chooseRefuse:
			w.answer(relay.Consumer, f, mcbp.StatusNotMyVBucket, nil)
		case c == chooseOK:
			s.active = len(f.Extras()) == 1 && mcbp.VBucketState(f.Extras()[0]) == mcbp.VBucketActive
			w.answer(relay.Consumer, f, mcbp.StatusSuccess, nil)
		}
	default:
		w.failf(invTraps, "unknown frame %v at the consumer's engine", f)
	}
}

func (w *world) consumerAdds(f mcbp.Frame, c choice) {
	e := &w.consumer
	s := &e.streams[f.VBucket()]
	switch {
	case s.state != passiveNone:
		w.answer(relay.Consumer, f, mcbp.StatusKeyExists, nil)
	case c == chooseRefuse:
		w.answer(relay.Consumer, f, mcbp.StatusNotMyVBucket, nil)
	case c == chooseOK:
		e.counter++
		var opaque mcbp.Opaque
		binary.LittleEndian.PutUint32(opaque[:], e.counter)
		*s = passiveStream{state: passiveRequested, opaque: opaque, add: f}
		w.send(relay.Consumer, w.streamRequest(f.VBucket()))
	}
}

// streamRequest is the STREAM_REQ of a stream; a rollback repeats it.
func (w *world) streamRequest(vb uint16) mcbp.Frame {
	s := &w.consumer.streams[vb]
	extras := append(s.add.Extras()[:4:4], make([]byte, 44)...)
	return (&mcbp.Packet{Opcode: mcbp.OpDCPStreamReq, VBucket: vb, Opaque: s.opaque, Extras: extras}).Frame()
}

func (w *world) consumerIsAnswered(f mcbp.Frame, c choice) {
	for vb := range w.cfg.vbs {
		s := &w.consumer.streams[vb]
		if s.state != passiveRequested || s.opaque != f.Opaque() {
			continue
		}
		switch {
		case f.Status() == mcbp.StatusRollback:
			s.rollbacks++
			w.send(relay.Consumer, w.streamRequest(uint16(vb)))
		case f.Status() != mcbp.StatusSuccess:
			w.answerAdd(s, f.Status())
			*s = passiveStream{}
		case c == chooseMute:
			s.state = passiveLive
		default:
			s.state = passiveAccepted
		}
		return
	}
	w.failf(invTraps, "a STREAM_REQ's answer that the consumer's engine does not wait for")
}

// answerAdd answers the ADD_STREAM of a stream that was requested; the extras carry the opaque in network order.
func (w *world) answerAdd(s *passiveStream, status mcbp.Status) {
	extras := binary.BigEndian.AppendUint32(nil, binary.LittleEndian.Uint32(s.opaque[:]))
	w.answer(relay.Consumer, s.add, status, extras)
}

// consumerAnswers is the ADD_STREAM's answer that was due.
func (w *world) consumerAnswers(vb int) {
	s := &w.consumer.streams[vb]
	w.sayf("the consumer's engine answers the ADD_STREAM of vb %d", vb)
	w.answerAdd(s, mcbp.StatusSuccess)
	if s.state == passiveGhost {
		*s = passiveStream{}
		return
	}
	s.state = passiveLive
}

// producerChoices lists what the producer's engine may make of its next frame.
func (w *world) producerChoices(f mcbp.Frame) []choice {
	if len(f) == 0 {
		return []choice{chooseOK}
	}
	cfg, choices := w.cfg, []choice{chooseOK}
	switch {
	case f.Opcode() == mcbp.OpDCPStreamReq && w.producer.streams[f.VBucket()].state == activeNone:
		choices = maybe(choices, cfg.refuse, chooseRefuse)
		choices = maybe(choices, w.consumer.streams[f.VBucket()].rollbacks < cfg.rollback, chooseRollback)
		choices = maybe(choices, cfg.mute, chooseMute)
	case f.Opcode() == mcbp.OpDCPCloseStream:
		open := w.producer.streams[f.VBucket()].state != activeNone
		choices = maybe(choices, cfg.lateEnds && open && w.producer.late[f.VBucket()] == nil, chooseLateEnd)
		choices = maybe(choices, cfg.refuseClose && open, chooseRefuse)
		choices = maybe(choices, cfg.mute, chooseMute)
	case f.Opcode() == mcbp.OpDCPSetVBucketState && f.Status() != mcbp.StatusSuccess:
		choices = maybe(choices, cfg.ends, chooseEnd)
	}
	return choices
}

// producerTakes is the producer's engine handling the next frame in its socket.
func (w *world) producerTakes(c choice) {
	f := w.to[relay.Producer][0]
	w.to[relay.Producer] = w.to[relay.Producer][1:]
	w.sayf("the producer's engine takes %v and %s", inWords(f), choiceNames[c])
	e := &w.producer
	e.mute = e.mute || c == chooseMute
	switch {
	case f.Opcode() == mcbp.OpDCPStreamReq:
		s := &e.streams[f.VBucket()]
		switch {
		case c == chooseMute:
		case s.state != activeNone:
			w.answer(relay.Producer, f, mcbp.StatusKeyExists, nil)
		case c == chooseRefuse:
			w.answer(relay.Producer, f, mcbp.StatusNotMyVBucket, nil)
		case c == chooseRollback:
			w.answer(relay.Producer, f, mcbp.StatusRollback, nil)
		default:
			*s = activeStream{state: activeOpen, opaque: f.Opaque()}
			if binary.BigEndian.Uint32(f.Extras())&mcbp.StreamFlagTakeover != 0 {
				s.state = activeTaking
			}
			w.answer(relay.Producer, f, mcbp.StatusSuccess, nil)
		}
	case f.Opcode() == mcbp.OpDCPCloseStream:
		s := &e.streams[f.VBucket()]
		w.lookForOvertaken(f.VBucket())
		switch {
		case c == chooseMute:
		case c == chooseRefuse:
			w.answer(relay.Producer, f, mcbp.StatusTemporaryFailure, nil)
		case s.state == activeNone:
			w.answer(relay.Producer, f, mcbp.StatusKeyNotFound, nil)
		default:
			if c == chooseLateEnd {
				e.late[f.VBucket()] = endFrame(f.VBucket(), s.opaque, mcbp.EndClosed)
			}
			*s = activeStream{}
			w.answer(relay.Producer, f, mcbp.StatusSuccess, nil)
		}
	case f.Opcode() == mcbp.OpDCPSetVBucketState:
		w.producerIsAcknowledged(f, c)
	default:
		w.failf(invTraps, "unknown frame %v at the producer's engine", f)
	}
}

// lookForOvertaken sees whether a CLOSE_STREAM has come before the STREAM_REQ of its stream.
func (w *world) lookForOvertaken(vb uint16) {
	w.tally.count(invTraps)
	for _, queue := range [][]mcbp.Frame{w.from[relay.Consumer], w.held[relay.Consumer], w.to[relay.Producer]} {
		for _, f := range queue {
			if len(f) > 0 && f.Opcode() == mcbp.OpDCPStreamReq && !f.IsResponse() && f.VBucket() == vb {
				w.failf(invTraps, "CLOSE_STREAM of vb %d has overtaken a STREAM_REQ", vb)
			}
		}
	}
}

// producerIsAcknowledged goes on with a takeover.
func (w *world) producerIsAcknowledged(f mcbp.Frame, c choice) {
	for vb := range w.cfg.vbs {
		s := &w.producer.streams[vb]
		if s.state < activePending || s.opaque != f.Opaque() {
			continue
		}
		switch {
		case c == chooseEnd:
			w.producerEnds(vb, mcbp.EndStateChanged)
		case f.Status() != mcbp.StatusSuccess:
			s.state = activeStuck
		case s.state == activePending:
			s.state = activeActive
			w.sendState(vb, mcbp.VBucketActive)
		case s.state == activeActive:
			w.producerEnds(vb, mcbp.EndOK)
		}
		return
	}
}

func (w *world) sendState(vb int, state mcbp.VBucketState) {
	w.send(relay.Producer, (&mcbp.Packet{
		Opcode: mcbp.OpDCPSetVBucketState, VBucket: uint16(vb), Opaque: w.producer.streams[vb].opaque, Extras: []byte{byte(state)},
	}).Frame())
}

// producerTakesOver sends the first state of a takeover, when all documents are over.
func (w *world) producerTakesOver(vb int) {
	w.sayf("the producer's engine has sent all of vb %d", vb)
	w.producer.streams[vb].state = activePending
	w.sendState(vb, mcbp.VBucketPending)
}

func (w *world) producerEnds(vb int, reason mcbp.EndReason) {
	s := &w.producer.streams[vb]
	w.send(relay.Producer, endFrame(uint16(vb), s.opaque, reason))
	*s = activeStream{}
}

func (w *world) producerEndsLate(vb int) {
	w.sayf("the producer's engine ends the stream of vb %d that was closed", vb)
	w.send(relay.Producer, w.producer.late[vb])
	w.producer.late[vb] = nil
}

func endFrame(vb uint16, opaque mcbp.Opaque, reason mcbp.EndReason) mcbp.Frame {
	return (&mcbp.Packet{
		Opcode: mcbp.OpDCPStreamEnd, VBucket: vb, Opaque: opaque, Extras: binary.BigEndian.AppendUint32(nil, uint32(reason)),
	}).Frame()
}

// Opaques that nobody has given out: neither a request of ours nor a stream carries them.
var (
	alienAnswer = mcbp.Opaque{0xff, 0xff, 0xf0, 0xff}
	alienStream = mcbp.Opaque{0xee, 0, 0, 0}
	firstOpaque = mcbp.Opaque{0xff, 0, 1, 0xff}
)

// strange are the frames that no engine should send. They have to do with nothing else that is on its way, so they are read
// as soon as they are sent; the other engine throws them away.
type strange uint8

const (
	alienAdd strange = iota
	alienCloseConsumer
	alienCloseProducer
	alienEnd
	alienState
	alienStateAnswer
	alienRequestAnswer
	repeatedAdd
	repeatedCloseConsumer
	repeatedCloseProducer
	shortEnd
	shortState
)

var strangeNames = [...]string{
	"answers an ADD_STREAM that was never sent", "answers a CLOSE_STREAM that was never sent (consumer)",
	"answers a CLOSE_STREAM that was never sent (producer)", "ends a stream that was never requested",
	"sets the state of a stream that was never requested", "answers a state that was never set",
	"answers a STREAM_REQ that was never sent",
	"answers an ADD_STREAM again", "answers a CLOSE_STREAM again (consumer)", "answers a CLOSE_STREAM again (producer)",
	"sends a STREAM_END without extras", "sends a SET_VBUCKET_STATE without extras",
}

func (w *world) sendStrange(s strange, vb int) {
	w.sayf("an engine %s (vb %d)", strangeNames[s], vb)
	resp := func(side relay.Side, op mcbp.Opcode, o mcbp.Opaque) {
		p := &mcbp.Packet{Magic: mcbp.MagicResponse, Opcode: op, Opaque: o}
		if op == mcbp.OpDCPAddStream {
			p.Extras = []byte{0, 0, 0, 1}
		}
		w.readFrame(side, p.Frame())
	}
	req := func(op mcbp.Opcode, o mcbp.Opaque, extras ...byte) {
		w.readFrame(relay.Producer, (&mcbp.Packet{Opcode: op, VBucket: uint16(vb), Opaque: o, Extras: extras}).Frame())
	}
	switch s {
	case alienAdd:
		resp(relay.Consumer, mcbp.OpDCPAddStream, alienAnswer)
	case alienCloseConsumer:
		resp(relay.Consumer, mcbp.OpDCPCloseStream, alienAnswer)
	case alienCloseProducer:
		resp(relay.Producer, mcbp.OpDCPCloseStream, alienAnswer)
	case alienEnd:
		req(mcbp.OpDCPStreamEnd, alienStream, 0, 0, 0, 0)
	case alienState:
		req(mcbp.OpDCPSetVBucketState, alienStream, byte(mcbp.VBucketActive))
	case alienStateAnswer:
		resp(relay.Consumer, mcbp.OpDCPSetVBucketState, alienStream)
	case alienRequestAnswer:
		resp(relay.Producer, mcbp.OpDCPStreamReq, alienStream)
	case repeatedAdd:
		resp(relay.Consumer, mcbp.OpDCPAddStream, firstOpaque)
	case repeatedCloseConsumer:
		resp(relay.Consumer, mcbp.OpDCPCloseStream, firstOpaque)
	case repeatedCloseProducer:
		resp(relay.Producer, mcbp.OpDCPCloseStream, firstOpaque)
	case shortEnd:
		req(mcbp.OpDCPStreamEnd, w.ownOr(vb))
	case shortState:
		req(mcbp.OpDCPSetVBucketState, w.ownOr(vb))
	}
}

// ownOr is the opaque of the producer's stream, or a strange one.
func (w *world) ownOr(vb int) mcbp.Opaque {
	if s := w.producer.streams[vb]; s.state != activeNone {
		return s.opaque
	}
	return alienStream
}
