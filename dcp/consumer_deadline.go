package dcp

import (
	"slices"
	"time"

	"github.com/shearpin/shearpin/dcp/mcbp"
	"github.com/shearpin/shearpin/dcp/relay"
)

// patience is how many times its limit an accepted add may take in all. Its own stream's frames are progress, and a
// vbucket under constant writes makes some for ever, so without it such an add would never time out.
const patience = 20

// rollbacksBelieved is how many rollbacks of one add count as progress. Engines need one, or one for each older entry of
// their failover logs; a loop of them is none.
const rollbacksBelieved = 25

// progressed restarts the deadline of an add whose request moved.
func (op *streamOp) progressed(now time.Time) {
	if op.rollbacks <= rollbacksBelieved {
		op.moved = now
	}
}

// awaits reports whether an answer is awaited, so that ticks are needed.
func (m *consumerMachine) awaits() bool {
	return (len(m.pending) > 0 || len(m.starved) > 0) && m.phase != phaseCrashed
}

// traffic is what a tick knows of the relay.
type traffic interface {
	// progress is a number that grows when the connection's controls or the vbucket's stream move.
	progress(vb uint16) uint64
	// unwritten says that requests of ours wait for a socket: until they are written nobody owes an answer.
	unwritten(side relay.Side) bool
}

// tick looks at every awaited answer. An operation without progress for its limit crashes the connection: the answer is
// owed, and only a fresh connection makes the engines agree again.
func (m *consumerMachine) tick(now time.Time, seen traffic) {
	if m.phase == phaseCrashed {
		return
	}
	var adds, closes, takeovers []*streamOp
	for op := range m.pending {
		if n := seen.progress(op.vb.vb); n != op.progress {
			op.progress, op.moved = n, now
		}
		if seen.unwritten(relay.Consumer) || op.kind == opClose && seen.unwritten(relay.Producer) {
			op.moved = now
		}
		if !m.expired(op, now) {
			continue
		}
		switch {
		case op.kind == opClose:
			closes = append(closes, op)
		case !op.addAnswered:
			adds = append(adds, op)
		default:
			takeovers = append(takeovers, op)
		}
	}
	switch {
	case len(adds) > 0:
		m.crash(addTimeout(adds))
	case len(takeovers) > 0:
		m.crash(&TakeoverTimeout{VBs: vbsOf(takeovers)})
	case len(closes) > 0:
		m.crash(&CloseStreamTimeout{VBs: vbsOf(closes)})
	default:
		m.feedStarved(now)
	}
}

func (m *consumerMachine) expired(op *streamOp, now time.Time) bool {
	limit := m.limits.Add
	switch {
	case op.kind == opClose:
		limit = m.limits.Close
	case op.rolledBack:
		limit = m.limits.AddAfterRollback
	case op.kind == opTakeover && op.addAnswered:
		limit = m.limits.Takeover
	}
	if now.Sub(op.moved) >= limit {
		return true
	}
	return op.accepted && !op.addAnswered && now.Sub(op.began) >= patience*m.limits.Add
}

func addTimeout(ops []*streamOp) error {
	sortOps(ops)
	e := &AddStreamTimeout{VBs: vbsOf(ops)}
	for _, op := range ops {
		var stream *mcbp.Opaque
		if op.vb.known {
			opaque := op.vb.opaque
			stream = &opaque
		}
		e.AddOpaques = append(e.AddOpaques, op.addOpaque)
		e.StreamOpaques = append(e.StreamOpaques, stream)
	}
	return e
}

func vbsOf(ops []*streamOp) []uint16 {
	sortOps(ops)
	vbs := make([]uint16, len(ops))
	for i, op := range ops {
		vbs[i] = op.vb.vb
	}
	return vbs
}

func sortOps(ops []*streamOp) {
	slices.SortFunc(ops, func(a, b *streamOp) int { return int(a.vb.vb) - int(b.vb.vb) })
}

// watched lists the vbuckets whose frames count as progress, sorted.
func (m *consumerMachine) watched() []uint16 {
	vbs := make([]uint16, 0, len(m.pending))
	for op := range m.pending {
		if op.kind != opClose {
			vbs = append(vbs, op.vb.vb)
		}
	}
	slices.Sort(vbs)
	return vbs
}
