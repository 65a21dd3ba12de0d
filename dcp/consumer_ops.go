package dcp

import (
	"slices"
	"time"

	"github.com/shearpin/shearpin/dcp/mcbp"
	"github.com/shearpin/shearpin/dcp/relay"
)

// streamChange is one operation of a call.
type streamChange struct {
	VB   uint16
	Kind opKind
}

// opened says that both sockets are joined; the calls that waited start.
func (m *consumerMachine) opened(now time.Time) {
	if m.phase != phaseConnecting {
		return
	}
	m.phase = phaseOpen
	waiting := make([]*vbucket, 0, len(m.vbs))
	for _, v := range m.vbs {
		waiting = append(waiting, v)
	}
	slices.SortFunc(waiting, func(a, b *vbucket) int { return int(a.vb) - int(b.vb) })
	for _, v := range waiting {
		m.startNext(v, now)
	}
}

// request takes a call. It is answered exactly once, unless the connection crashes: then its caller learns of the crash.
// Operations on one vbucket run in the order in which they were asked for; different vbuckets do not wait for each other.
func (m *consumerMachine) request(id callID, changes []streamChange, now time.Time) {
	if m.phase == phaseShutting || m.phase == phaseShut {
		m.refuse(id, changes, ErrShut)
		return
	}
	call := &streamCall{id: id, open: len(changes)}
	m.calls[id] = call
	for _, change := range changes {
		v := m.vbucket(change.VB)
		v.queue = append(v.queue, &streamOp{kind: change.Kind, vb: v, call: call})
	}
	if m.phase == phaseOpen {
		for _, change := range changes {
			m.startNext(m.vbucket(change.VB), now)
		}
	}
	if len(changes) == 0 {
		m.answer(call)
	}
}

func (m *consumerMachine) refuse(id callID, changes []streamChange, err error) {
	errs := map[uint16]error{}
	for _, change := range changes {
		errs[change.VB] = err
	}
	m.emit(answerCall{call: id, errs: errs})
}

// startNext begins the next operation of a vbucket; those that have nothing to do settle at once.
func (m *consumerMachine) startNext(v *vbucket, now time.Time) {
	for v.op == nil && len(v.queue) > 0 && m.phase == phaseOpen {
		op := v.queue[0]
		v.queue = slices.Delete(v.queue, 0, 1)
		v.op = op
		op.began, op.moved = now, now
		switch {
		case op.kind == opClose && v.state == streamNone:
			m.finish(op, nil)
		case op.kind == opAdd && v.state == streamLive:
			v.hold(op)
			m.finish(op, nil)
		case op.kind == opTakeover && v.state != streamNone:
			m.finish(op, ErrStreamOpen)
		case op.kind == opTakeover && op.call.errs[v.vb] != nil:
			// The close before it failed; its error is the answer.
			m.finish(op, op.call.errs[v.vb])
		default:
			m.send(op, now)
		}
	}
}

// send writes the request of an operation, or queues it while no opaque is free.
func (m *consumerMachine) send(op *streamOp, now time.Time) {
	switch op.kind {
	case opAdd, opTakeover:
		opaque, ok := m.opaques.issue(pendingAnswer{op: op, opcode: mcbp.OpDCPAddStream, role: RoleConsumer}, now)
		if !ok {
			m.starved = append(m.starved, op)
			return
		}
		op.addOpaque = opaque
		state, flags := streamAdding, uint32(0)
		if op.kind == opTakeover {
			state, flags = streamTakeover, mcbp.StreamFlagTakeover
		}
		op.vb.forget()
		m.watchStale = true
		m.setState(op.vb, state)
		m.emit(injectFrame{to: relay.Consumer, frame: addStreamFrame(op.vb.vb, opaque, flags)})
	case opClose:
		if !m.opaques.room(2, now) {
			m.starved = append(m.starved, op)
			return
		}
		consumer, _ := m.opaques.issue(pendingAnswer{op: op, opcode: mcbp.OpDCPCloseStream, role: RoleConsumer}, now)
		producer, _ := m.opaques.issue(pendingAnswer{op: op, opcode: mcbp.OpDCPCloseStream, role: RoleProducer}, now)
		op.consumerOpaque, op.producerOpaque = consumer, producer
		m.setState(op.vb, streamClosing)
		m.emit(injectFrame{to: relay.Consumer, frame: closeStreamFrame(op.vb.vb, consumer)})
		m.emit(injectFrame{to: relay.Producer, frame: closeStreamFrame(op.vb.vb, producer)})
	}
	m.pending[op] = struct{}{}
}

// feedStarved gives freed opaques to the operations that wait for one.
func (m *consumerMachine) feedStarved(now time.Time) {
	if len(m.starved) == 0 || m.phase != phaseOpen {
		return
	}
	waiting := m.starved
	m.starved = nil
	for _, op := range waiting {
		m.send(op, now)
	}
}

// settle gives the call its answer of the operation; the operation may stay in progress.
func (m *consumerMachine) settle(op *streamOp, err error) {
	if op.settled {
		return
	}
	op.settled = true
	if err != nil {
		op.call.fail(op.vb.vb, err)
	}
	op.call.open--
	if op.call.open == 0 {
		m.answer(op.call)
	}
}

// hold makes the answer of an add's call depend on the live stream until it is given.
func (v *vbucket) hold(op *streamOp) {
	if !op.settled {
		v.heldTo = append(v.heldTo, op.call)
		op.call.added = append(op.call.added, v)
	}
}

func (c *streamCall) fail(vb uint16, err error) {
	if c.errs == nil {
		c.errs = map[uint16]error{}
	}
	if c.errs[vb] == nil {
		c.errs[vb] = err
	}
}

func (m *consumerMachine) answer(call *streamCall) {
	delete(m.calls, call.id)
	for _, v := range call.added {
		if v.bornIn == call {
			v.bornIn = nil
		}
		v.heldTo = slices.DeleteFunc(v.heldTo, func(c *streamCall) bool { return c == call })
	}
	m.emit(answerCall{call: call.id, errs: call.errs})
}

// finish settles the operation and frees its vbucket; the caller then starts the next one.
func (m *consumerMachine) finish(op *streamOp, err error) {
	delete(m.pending, op)
	m.unlist(op)
	m.watchStale = m.watchStale || op.kind != opClose
	if op.vb.op == op {
		op.vb.op = nil
	}
	m.settle(op, err)
}

// proceed finishes an operation and goes on with its vbucket.
func (m *consumerMachine) proceed(op *streamOp, err error, now time.Time) {
	m.finish(op, err)
	m.startNext(op.vb, now)
	m.shutIfQuiet()
}

// shut begins the planned stop: what is live is closed at the consumer only, because the producer may be the reason for
// the stop (history 6); nor is its answer to an earlier close waited for. An add or takeover under way cannot be closed
// (design §5.2), so it is abandoned: the stop is then complete at once and the sockets close.
func (m *consumerMachine) shut(id callID, now time.Time) {
	switch m.phase {
	case phaseShut:
		m.emit(shutDone{call: id})
		return
	case phaseShutting:
		m.shutBy = append(m.shutBy, id)
		return
	case phaseConnecting, phaseOpen, phaseCrashed:
	}
	m.shutBy = append(m.shutBy, id)
	abandon := m.phase == phaseConnecting || len(m.adding()) > 0
	for _, v := range m.sorted() {
		abandon = abandon || v.state == streamTakeover
	}
	m.failCalls(ErrShut)
	m.phase = phaseShutting
	if !abandon {
		for _, v := range m.sorted() {
			if v.state == streamLive {
				m.closeAtConsumer(v, now)
			}
		}
		m.leaveProducer(now)
	} else {
		m.pending = map[*streamOp]struct{}{}
	}
	m.shutIfQuiet()
}

// closeAtConsumer closes one live stream at the consumer alone.
func (m *consumerMachine) closeAtConsumer(v *vbucket, now time.Time) {
	op := &streamOp{kind: opClose, vb: v, call: &streamCall{}, settled: true, producerDone: true, began: now, moved: now}
	opaque, ok := m.opaques.issue(pendingAnswer{op: op, opcode: mcbp.OpDCPCloseStream, role: RoleConsumer}, now)
	if !ok {
		// The socket closes right after; the engine then ends what is left.
		return
	}
	op.consumerOpaque = opaque
	v.op = op
	m.setState(v, streamClosing)
	m.pending[op] = struct{}{}
	m.emit(injectFrame{to: relay.Consumer, frame: closeStreamFrame(v.vb, opaque)})
}

// leaveProducer goes on with the closes that are under way as if the producer had answered them.
func (m *consumerMachine) leaveProducer(now time.Time) {
	for _, v := range m.sorted() {
		if v.state != streamClosing || v.op.producerDone {
			continue
		}
		m.opaques.retire(v.op.producerOpaque, now)
		v.op.producerDone = true
		m.closeMoved(v.op, now)
	}
}

func (m *consumerMachine) shutIfQuiet() {
	if m.phase != phaseShutting || len(m.pending) > 0 {
		return
	}
	m.phase = phaseShut
	for _, id := range m.shutBy {
		m.emit(shutDone{call: id})
	}
	m.shutBy = nil
}

// failCalls answers every open call; what is on the wire goes on without anybody waiting.
func (m *consumerMachine) failCalls(err error) {
	ids := make([]callID, 0, len(m.calls))
	for id := range m.calls {
		ids = append(ids, id)
	}
	slices.Sort(ids)
	for _, v := range m.vbs {
		for _, op := range v.queue {
			op.call.fail(v.vb, err)
			op.settled = true
		}
		v.queue = nil
		if v.op != nil && !v.op.settled {
			v.op.call.fail(v.vb, err)
			v.op.settled = true
		}
	}
	for _, op := range m.starved {
		op.vb.op = nil
	}
	m.starved = nil
	for _, id := range ids {
		m.answer(m.calls[id])
	}
}

func (m *consumerMachine) sorted() []*vbucket {
	all := make([]*vbucket, 0, len(m.vbs))
	for _, v := range m.vbs {
		all = append(all, v)
	}
	slices.SortFunc(all, func(a, b *vbucket) int { return int(a.vb) - int(b.vb) })
	return all
}

func addStreamFrame(vb uint16, opaque mcbp.Opaque, flags uint32) mcbp.Frame {
	extras := []byte{byte(flags >> 24), byte(flags >> 16), byte(flags >> 8), byte(flags)}
	return (&mcbp.Packet{Opcode: mcbp.OpDCPAddStream, VBucket: vb, Opaque: opaque, Extras: extras}).Frame()
}

func closeStreamFrame(vb uint16, opaque mcbp.Opaque) mcbp.Frame {
	return (&mcbp.Packet{Opcode: mcbp.OpDCPCloseStream, VBucket: vb, Opaque: opaque}).Frame()
}
