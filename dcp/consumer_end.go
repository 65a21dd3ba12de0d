package dcp

import (
	"slices"
	"time"

	"github.com/shearpin/shearpin/dcp/mcbp"
)

// streamEnd decides a STREAM_END. It is the place where the seed's third rule lives.
//
// An end counts only if it carries the opaque of the vbucket's current stream or add. Any other end whose opaque an
// earlier STREAM_REQ of that vbucket showed is stale: real producers send the end of a closed stream after both close
// answers, exactly when a takeover adds the vbucket again. An end with an opaque never seen, for a vbucket being added,
// means that the ends are out of step.
func (m *consumerMachine) streamEnd(f mcbp.Frame, now time.Time) {
	end, err := mcbp.ParseStreamEnd(f)
	if err != nil {
		m.crash(malformed(RoleProducer, f, err))
		return
	}
	reason := end.Reason
	v, ok := m.vbs[f.VBucket()]
	if !ok {
		m.counts.UnknownEnds++
		return
	}
	own := v.known && v.opaque == f.Opaque()
	switch {
	case own:
		m.ownEnd(v, f.Opaque(), reason, now)
	case slices.Contains(v.past, f.Opaque()):
		m.counts.StaleEnds++
	case v.beingAdded():
		m.crash(&UnexpectedStreamEnd{VB: v.vb, AddOpaque: v.op.addOpaque, StreamOpaque: f.Opaque(), Reason: reason})
	default:
		m.counts.UnknownEnds++
	}
}

// endsIn says what a STREAM_END is going to end: the state of the vbucket whose stream it names, stale if that had ended before,
// or unknown.
func (m *consumerMachine) endsIn(f mcbp.Frame) string {
	v, ok := m.vbs[f.VBucket()]
	switch {
	case ok && v.known && v.opaque == f.Opaque() && v.state != streamNone:
		return v.state.String()
	case ok && (v.known && v.opaque == f.Opaque() || slices.Contains(v.past, f.Opaque())):
		return "stale"
	}
	return "unknown"
}

// beingAdded reports whether an ADD_STREAM of the vbucket is on the wire and unanswered.
func (v *vbucket) beingAdded() bool {
	return (v.state == streamAdding || v.state == streamTakeover) && v.op != nil && !v.op.addAnswered && !v.op.active
}

// ownEnd applies the verdicts of design §5.2's table to the end of the vbucket's current stream or add.
func (m *consumerMachine) ownEnd(v *vbucket, opaque mcbp.Opaque, reason mcbp.EndReason, now time.Time) {
	switch v.state {
	case streamAdding:
		m.crash(&UnexpectedStreamEnd{VB: v.vb, AddOpaque: v.op.addOpaque, StreamOpaque: opaque, Reason: reason})
	case streamLive:
		v.endHeld(nil, reason)
		if v.bornIn == nil {
			m.emit(publishEnd{vb: v.vb, opaque: opaque, reason: reason})
		}
		m.setState(v, streamNone)
	case streamClosing:
		// Removed; the answers to our CLOSE_STREAMs are still awaited, so the vbucket stays busy.
		v.op.closed = true
		v.forget()
	case streamTakeover:
		m.takeoverEnd(v, opaque, reason, now)
	case streamNone:
		m.counts.StaleEnds++
		v.forget()
	}
}

// endHeld makes the calls whose answer is held to the live stream say that it ended, but not the call that closed it.
func (v *vbucket) endHeld(closer *streamCall, reason mcbp.EndReason) {
	for _, call := range v.heldTo {
		if call != closer {
			call.fail(v.vb, &StreamEndedError{VB: v.vb, Reason: reason})
		}
	}
}

func (m *consumerMachine) takeoverEnd(v *vbucket, opaque mcbp.Opaque, reason mcbp.EndReason, now time.Time) {
	op := v.op
	switch {
	case op.active:
		// The normal end of a takeover; only its add answer may be missing.
		v.forget()
	case !op.addAnswered:
		m.crash(&UnexpectedStreamEnd{VB: v.vb, AddOpaque: op.addOpaque, StreamOpaque: opaque, Reason: reason})
	default:
		m.setState(v, streamNone)
		m.proceed(op, &StreamEndedError{VB: v.vb, Reason: reason}, now)
	}
}
