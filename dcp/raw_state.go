package dcp

import (
	"slices"
	"strconv"
	"time"

	"github.com/shearpin/shearpin/dcp/mcbp"
)

// RawNames gives short names to what the machines tell apart and never interpret, so that two states that differ in
// nothing else are written alike. A negative name says that the value can occur nowhere else any more.
type RawNames struct {
	Opaque func(mcbp.Opaque) int
	Call   func(RawCall) int
}

// RawVBucket is what the connection machine knows of one vbucket, as a value of its own.
type RawVBucket struct {
	// State is none, adding, live, closing or takeover.
	State string
	// Known says that Stream is the opaque of the current stream or add: a STREAM_REQ has shown it.
	Known  bool
	Stream mcbp.Opaque
	// Born says that a call waits in which the live stream came up, Held that one waits whose answer depends on it.
	Born, Held bool
	// Busy says that an operation is under way; Queued is how many wait behind it.
	Busy   bool
	Queued int
	// Settled says that the call has its answer of the operation, which goes on by itself.
	Settled bool

	// Of an add or takeover: its ADD_STREAM, the producer's acceptance of its STREAM_REQ or demand of a rollback, and the
	// answers; Requested is the state that the producer last asked for and the consumer has not acknowledged.
	Accepted, RolledBack, Answered, Active bool
	Requested                              mcbp.VBucketState

	// Of a close: who has answered, and whether the stream is known to be gone.
	ConsumerDone, ProducerDone, Closed bool
}

// VBucket tells what the machine knows of a vbucket.
func (c *RawConsumer) VBucket(vb uint16) RawVBucket {
	v, ok := c.machine.vbs[vb]
	if !ok {
		return RawVBucket{State: streamNone.String()}
	}
	raw := RawVBucket{State: v.state.String(), Known: v.known, Stream: v.opaque, Born: v.bornIn != nil, Held: len(v.heldTo) > 0, Queued: len(v.queue)}
	if op := v.op; op != nil {
		raw.Busy, raw.Settled = true, op.settled
		raw.Accepted, raw.RolledBack, raw.Answered, raw.Active = op.accepted, op.rolledBack, op.addAnswered, op.active
		raw.Requested = op.requested
		raw.ConsumerDone, raw.ProducerDone, raw.Closed = op.consumerDone, op.producerDone, op.closed
	}
	return raw
}

// Phase is connecting, open, shutting, shut or crashed.
func (c *RawConsumer) Phase() string { return c.machine.phase.String() }

// Tolerated counts what was let pass: ends of earlier streams, answers to requests that had one, and ends of streams
// never heard of.
func (c *RawConsumer) Tolerated() (staleEnds, lateAnswers, unknownEnds uint64) {
	n := c.machine.counts
	return n.StaleEnds, n.LateAnswers, n.UnknownEnds
}

// AppendState writes everything that can bear on what the machine will do, in one form for all states that behave alike:
// times as ages, opaques and calls by their names. Left out are only the values of opaques that are free or resting.
func (c *RawConsumer) AppendState(b []byte, now time.Time, seen RawTraffic, names RawNames) []byte {
	w := stateWriter{b: b, now: now, names: names}
	m := c.machine
	w.word(c.Phase())
	for _, v := range m.sorted() {
		w.vbucket(v, seen)
	}
	ids := make([]callID, 0, len(m.calls))
	for id := range m.calls {
		ids = append(ids, id)
	}
	slices.Sort(ids)
	for _, id := range ids {
		w.call(m.calls[id])
	}
	for _, id := range m.shutBy {
		w.word("shut-by")
		w.number(int64(names.Call(id)))
	}
	for _, op := range m.starved {
		w.word("starved")
		w.number(int64(op.vb.vb))
	}
	w.requests(m)
	return w.b
}

// stateWriter writes states as words with a space before each.
type stateWriter struct {
	b     []byte
	now   time.Time
	names RawNames
}

func (w *stateWriter) word(s string) { w.b = append(append(w.b, ' '), s...) }

func (w *stateWriter) flag(on bool, s string) {
	if on {
		w.word(s)
	}
}

func (w *stateWriter) number(n int64) { w.b = strconv.AppendInt(append(w.b, ' '), n, 10) }

func (w *stateWriter) age(t time.Time) { w.number(w.now.Sub(t).Milliseconds()) }

func (w *stateWriter) opaque(o mcbp.Opaque) {
	n := w.names.Opaque(o)
	if n < 0 {
		w.word("#-")
		return
	}
	w.b = strconv.AppendInt(append(w.b, " #"...), int64(n), 10)
}

func (w *stateWriter) vbucket(v *vbucket, seen RawTraffic) {
	var past []mcbp.Opaque
	for _, o := range v.past {
		if w.names.Opaque(o) >= 0 {
			past = append(past, o)
		}
	}
	if v.state == streamNone && v.op == nil && len(v.queue) == 0 && !v.known && len(past) == 0 {
		return
	}
	w.word("; vb")
	w.number(int64(v.vb))
	w.word(v.state.String())
	if v.known {
		w.opaque(v.opaque)
	}
	for _, o := range past {
		w.word("past")
		w.opaque(o)
	}
	if v.bornIn != nil {
		w.word("born-in")
		w.number(int64(w.names.Call(v.bornIn.id)))
	}
	if v.op != nil {
		w.op(v.op, seen)
	}
	for _, call := range v.heldTo {
		w.word("held-to")
		w.number(int64(w.names.Call(call.id)))
	}
	for _, op := range v.queue {
		w.word("then")
		w.kind(op)
	}
}

func (w *stateWriter) kind(op *streamOp) {
	w.word([...]string{opAdd: "add", opClose: "close", opTakeover: "takeover"}[op.kind])
	w.flag(op.settled, "settled")
	if !op.settled {
		w.number(int64(w.names.Call(op.call.id)))
	}
}

func (w *stateWriter) op(op *streamOp, seen RawTraffic) {
	w.kind(op)
	if op.kind == opClose {
		w.flag(op.closed, "closed")
		w.flag(op.closeErr != nil, "refused")
		if !op.consumerDone {
			w.word("consumer")
			w.opaque(op.consumerOpaque)
		}
		if !op.producerDone {
			w.word("producer")
			w.opaque(op.producerOpaque)
		}
	} else {
		w.flag(op.addAnswered, "answered")
		if !op.addAnswered {
			w.opaque(op.addOpaque)
		}
		w.flag(op.rolledBack, "rolled-back")
		if op.rollbacks > 0 && !op.addAnswered {
			w.number(int64(min(op.rollbacks, rollbacksBelieved+1)))
		}
		w.flag(op.active, "active")
		w.number(int64(op.requested))
		if op.accepted && !op.addAnswered {
			w.word("accepted")
			w.age(op.began)
		}
	}
	w.word("age")
	w.age(op.moved)
	w.flag(op.progress != seen.progress(op.vb.vb), "moves")
}

func (w *stateWriter) call(call *streamCall) {
	w.word("; call")
	w.number(int64(w.names.Call(call.id)))
	w.number(int64(call.open))
	vbs := make([]uint16, 0, len(call.errs))
	for vb := range call.errs {
		vbs = append(vbs, vb)
	}
	slices.Sort(vbs)
	for _, vb := range vbs {
		w.word("failed")
		w.number(int64(vb))
	}
}

// requests writes which operations wait for the answer of a STREAM_REQ.
func (w *stateWriter) requests(m *consumerMachine) {
	type request struct {
		vb   uint16
		name int
	}
	open := make([]request, 0, len(m.byStream))
	for o, op := range m.byStream {
		open = append(open, request{op.vb.vb, w.names.Opaque(o)})
	}
	slices.SortFunc(open, func(a, b request) int {
		if a.vb != b.vb {
			return int(a.vb) - int(b.vb)
		}
		return a.name - b.name
	})
	for _, r := range open {
		w.word("; requested")
		w.number(int64(r.vb))
		w.number(int64(r.name))
	}
}

// AppendState writes everything that can bear on what the machine will do, as [RawConsumer.AppendState] does.
func (r *RawReplicator) AppendState(b []byte, now time.Time, names RawNames) []byte {
	w := stateWriter{b: b, now: now, names: names}
	m := r.machine
	w.flag(m.shut, "shut")
	w.flag(m.joined, "joined")
	w.flag(m.crashed != nil, "crashed")
	w.flag(m.refused != nil, "refused")
	for _, side := range []connection{m.consumer, m.producer} {
		switch {
		case side.pid == nil:
			w.word("down")
		case side.open:
			w.word("open")
		default:
			w.word("connecting")
		}
	}
	for _, call := range m.sortedCalls() {
		w.word("; call")
		w.number(int64(names.Call(call.id)))
		if call.forwarded {
			continue
		}
		w.word("waits")
		w.age(call.expires)
		for _, change := range call.changes {
			w.number(int64(change.VB))
			w.number(int64(change.Kind))
		}
	}
	for _, f := range m.fences {
		w.word("; fence")
		w.number(int64(names.Call(f.id)))
		w.number(int64(f.after) - int64(m.incarnation))
	}
	return w.b
}
