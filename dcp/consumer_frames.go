package dcp

import (
	"errors"
	"fmt"
	"time"

	"github.com/shearpin/shearpin/dcp/mcbp"
	"github.com/shearpin/shearpin/dcp/relay"
)

// frame decides one frame that the relay asks about and says whether it is passed on. Frames come in the order in which
// they were read on each socket. After a crash, and after a planned stop, everything is dropped.
func (m *consumerMachine) frame(from relay.Side, f mcbp.Frame, now time.Time) relay.Verdict {
	if m.phase == phaseCrashed || m.phase == phaseShut {
		return relay.Drop
	}
	verdict := relay.Pass
	switch {
	case f.Opcode() == mcbp.OpDCPAddStream && f.IsResponse() && from == relay.Consumer:
		m.addAnswer(f, now)
		verdict = relay.Drop
	case f.Opcode() == mcbp.OpDCPCloseStream && f.IsResponse():
		m.closeAnswer(from, f, now)
		verdict = relay.Drop
	case f.Opcode() == mcbp.OpDCPStreamReq && !f.IsResponse() && from == relay.Consumer:
		m.streamRequest(f, now)
	case f.Opcode() == mcbp.OpDCPStreamReq && f.IsResponse() && from == relay.Producer:
		m.streamRequestAnswer(f, now)
	case f.Opcode() == mcbp.OpDCPStreamEnd && !f.IsResponse() && from == relay.Producer:
		m.streamEnd(f, now)
	case f.Opcode() == mcbp.OpDCPSetVBucketState && !f.IsResponse() && from == relay.Producer:
		m.stateRequest(f, now)
	case f.Opcode() == mcbp.OpDCPSetVBucketState && f.IsResponse() && from == relay.Consumer:
		m.stateAnswer(f, now)
	}
	m.feedStarved(now)
	if m.phase == phaseCrashed {
		return relay.Drop
	}
	return verdict
}

// known finds the operation that an answer belongs to. An answer to a retired opaque is dropped and counted; one to an
// opaque that was never issued means that the ends are out of step (rule 4). While the connection shuts down, nothing
// can be out of step any more.
func (m *consumerMachine) known(from relay.Side, f mcbp.Frame) *streamOp {
	op, fate := m.opaques.lookup(f.Opaque(), f.Opcode(), roleOf(from))
	switch fate {
	case opaqueOutstanding:
		return op
	case opaqueRetired:
		m.counts.LateAnswers++
	case opaqueNeverIssued:
		if m.phase == phaseShutting {
			m.counts.LateAnswers++
			break
		}
		m.crash(&UnknownOpaque{Opcode: f.Opcode(), Opaque: f.Opaque(), Role: roleOf(from), VBs: m.adding()})
	}
	return nil
}

func roleOf(side relay.Side) string {
	if side == relay.Consumer {
		return RoleConsumer
	}
	return RoleProducer
}

// addAnswer is the consumer's answer to an ADD_STREAM. What its extras say is never looked at: they repeat the stream opaque
// in another byte order.
func (m *consumerMachine) addAnswer(f mcbp.Frame, now time.Time) {
	if _, err := mcbp.ParseAddStreamAnswer(f); err != nil {
		m.crash(malformed(RoleConsumer, f, err))
		return
	}
	op := m.known(relay.Consumer, f)
	if op == nil {
		return
	}
	m.opaques.retire(op.addOpaque, now)
	op.addAnswered, op.moved = true, now
	if f.Status() != mcbp.StatusSuccess {
		err := &StreamStatusError{Op: mcbp.OpDCPAddStream, VB: op.vb.vb, Role: RoleConsumer, Status: f.Status()}
		m.setState(op.vb, streamNone)
		m.proceed(op, err, now)
		return
	}
	if op.kind == opTakeover {
		m.takeoverMoved(op, now)
		return
	}
	m.setState(op.vb, streamLive)
	if !op.settled {
		op.vb.bornIn = op.call
		op.vb.hold(op)
	}
	m.proceed(op, nil, now)
}

// takeoverMoved completes a takeover when its add is answered and the consumer has acknowledged active, in either order.
// A takeover that failed earlier lingers until its add is answered: a stream being added is never given up in place.
func (m *consumerMachine) takeoverMoved(op *streamOp, now time.Time) {
	switch {
	case !op.addAnswered:
	case op.settled, op.active:
		m.setState(op.vb, streamNone)
		m.proceed(op, nil, now)
	}
}

// closeAnswer is either engine's answer to a CLOSE_STREAM. A stream that was gone already is closed: the producer's end
// may have overtaken our close (history 3).
func (m *consumerMachine) closeAnswer(from relay.Side, f mcbp.Frame, now time.Time) {
	if _, err := mcbp.ParseStatusAnswer(f); err != nil {
		m.crash(malformed(roleOf(from), f, err))
		return
	}
	op := m.known(from, f)
	if op == nil {
		return
	}
	m.opaques.retire(f.Opaque(), now)
	if from == relay.Consumer {
		op.consumerDone = true
	} else {
		op.producerDone = true
	}
	op.moved = now
	switch f.Status() {
	case mcbp.StatusSuccess, mcbp.StatusKeyNotFound, mcbp.StatusStreamNotFound:
		op.closed = true
	default:
		if op.closeErr == nil {
			op.closeErr = &StreamStatusError{Op: mcbp.OpDCPCloseStream, VB: op.vb.vb, Role: roleOf(from), Status: f.Status()}
		}
	}
	m.closeMoved(op, now)
}

// closeMoved completes a close when no answer is missing.
func (m *consumerMachine) closeMoved(op *streamOp, now time.Time) {
	if !op.consumerDone || !op.producerDone {
		return
	}
	if op.closed {
		op.vb.endHeld(op.call, mcbp.EndClosed)
		m.setState(op.vb, streamNone)
	} else {
		m.setState(op.vb, streamLive)
	}
	if op.closeErr == nil {
		m.proceed(op, nil, now)
		return
	}
	op.closeErr.Gone = op.closed
	m.proceed(op, op.closeErr, now)
}

// streamRequest is the consumer's STREAM_REQ on its way to the producer: it shows which stream opaque belongs to the
// add. A rollback repeats the request.
func (m *consumerMachine) streamRequest(f mcbp.Frame, now time.Time) {
	v := m.vbucket(f.VBucket())
	if v.known && v.opaque != f.Opaque() {
		v.forget()
	}
	v.opaque, v.known = f.Opaque(), true
	if op := v.op; op != nil && op.kind != opClose {
		op.progressed(now)
		m.unlist(op)
		op.stream = f.Opaque()
		m.byStream[op.stream] = op
	}
}

// unlist takes an operation out of byStream.
func (m *consumerMachine) unlist(op *streamOp) {
	if m.byStream[op.stream] == op {
		delete(m.byStream, op.stream)
	}
}

// streamRequestAnswer is the producer's answer; a rollback gives the consumer time to roll back and ask again.
func (m *consumerMachine) streamRequestAnswer(f mcbp.Frame, now time.Time) {
	op, ok := m.byStream[f.Opaque()]
	if !ok || op.vb.opaque != f.Opaque() || op.addAnswered {
		return
	}
	op.progressed(now)
	switch f.Status() {
	case mcbp.StatusRollback:
		op.rolledBack = true
		op.rollbacks++
	case mcbp.StatusSuccess:
		op.rolledBack = false
		op.accepted = true
		op.began = now
	}
}

// stateRequest is the producer's SET_VBUCKET_STATE: how far a takeover has come.
func (m *consumerMachine) stateRequest(f mcbp.Frame, now time.Time) {
	v, ok := m.vbs[f.VBucket()]
	if !ok || v.op == nil || v.op.kind != opTakeover || !v.known || v.opaque != f.Opaque() {
		return
	}
	request, err := mcbp.ParseSetVBucketState(f)
	if err != nil {
		m.crash(malformed(RoleProducer, f, err))
		return
	}
	v.op.requested = request.State
	v.op.moved = now
}

// stateAnswer is the consumer's answer to it. The request passed through us before, so it is known which state this
// acknowledges.
func (m *consumerMachine) stateAnswer(f mcbp.Frame, now time.Time) {
	op, ok := m.byStream[f.Opaque()]
	if !ok || op.kind != opTakeover || !op.vb.known || op.vb.opaque != f.Opaque() || op.requested == mcbp.VBucketMissing {
		return
	}
	if _, err := mcbp.ParseStatusAnswer(f); err != nil {
		m.crash(malformed(RoleConsumer, f, err))
		return
	}
	op.moved = now
	requested := op.requested
	op.requested = mcbp.VBucketMissing
	if f.Status() != mcbp.StatusSuccess {
		m.settle(op, &StreamStatusError{Op: mcbp.OpDCPSetVBucketState, VB: op.vb.vb, Role: RoleConsumer, Status: f.Status()})
	} else if requested == mcbp.VBucketActive {
		op.active = true
	}
	m.takeoverMoved(op, now)
}

// malformed is the crash because of a frame whose decoder refuses it.
func malformed(role string, f mcbp.Frame, refusal error) error {
	e := &MalformedFrame{Role: role, Why: refusal.Error()}
	var layout *mcbp.LayoutError
	if errors.As(refusal, &layout) {
		e.Why = fmt.Sprintf("%v: %s", f.Opcode(), layout.Why)
	}
	copy(e.Header[:], f)
	return e
}
