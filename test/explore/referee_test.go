package explore

import (
	"encoding/binary"
	"errors"
	"slices"

	"github.com/shearpin/shearpin/dcp"
	"github.com/shearpin/shearpin/dcp/mcbp"
	"github.com/shearpin/shearpin/dcp/relay"
)

// referee sees what a connection's machine sees, frame by frame, and says what design §5.2 makes of it. It knows nothing of
// the machine: what it keeps is what was sent and read on this connection, no more.
type referee struct {
	vbs [maxVBs]record
	// issued is how many opaques of ours were given out.
	issued int
	// stopping says that a planned stop has begun.
	stopping bool
}

// record is what was sent and read about one vbucket.
type record struct {
	// add says that an ADD_STREAM is sent and not answered, takeover that what is under way is a takeover: it goes on until
	// the consumer has acknowledged active and answered the ADD_STREAM, or until it has failed.
	add, takeover bool
	addOpaque     mcbp.Opaque
	// answered: the takeover's ADD_STREAM; acked: active.
	answered, acked, failed bool
	asked                   mcbp.VBucketState
	// current is the opaque of the last STREAM_REQ since the ADD_STREAM; earlier those of streams before.
	known   bool
	current mcbp.Opaque
	earlier []mcbp.Opaque
	// live says that the ADD_STREAM was answered with ok, and that no close was answered and no end read since.
	live bool
	// closing are the sides whose CLOSE_STREAM is not answered.
	closing     [2]bool
	closeOpaque [2]mcbp.Opaque
	gone        bool
	refused     bool
	// tookOver says that the last takeover has succeeded.
	tookOver bool
	// apart says that the engines cannot be expected to agree: one of them has refused to close, or a takeover was refused
	// half-way. Only a fence helps.
	apart bool

	// moved is when something last came of what is awaited.
	moved, accepted    int
	rolled, isAccepted bool
	// ticked is how many stream frames the last tick has seen.
	ticked uint64
}

// cause is a set of reasons for an error.
type cause uint8

const (
	causeRefused cause = 1 << iota
	causeEnded
	causeOpen
	causeShut
	causeCrash
	causeLate
	causeCancelled
)

func (r *referee) closing(vb int) bool { return r.vbs[vb].closing[0] || r.vbs[vb].closing[1] }

// busy reports whether an answer is awaited.
func (r *referee) busy(vb int) bool { return r.vbs[vb].add || r.vbs[vb].takeover || r.closing(vb) }

func (v *record) past() {
	if v.known {
		v.earlier = append(v.earlier, v.current)
	}
	v.known, v.current = false, mcbp.Opaque{}
}

// blame notes a reason for an error of every call that is about the vbucket.
func (w *world) blame(vb int, c cause) {
	for i := range w.callers {
		w.callers[i].causes[vb] |= c
	}
}

// blameOthers notes that a stream was closed, for the calls that may not have been alone in asking for it.
func (w *world) blameOthers(vb int) {
	for i := range w.callers {
		if !w.callers[i].alone {
			w.callers[i].causes[vb] |= causeEnded
		}
	}
}

// injected is a frame of ours going out.
func (r *referee) injected(w *world, to relay.Side, f mcbp.Frame) {
	vb := int(f.VBucket())
	v := &r.vbs[vb]
	o := f.Opaque()
	if o[0] != 0xff || o[3] != 0xff {
		w.failf(invOpaques, "our request carries the opaque %v", o)
	}
	w.tally.count(invOpaques)
	for _, other := range r.vbs {
		if other.add && other.addOpaque == o || other.closing[0] && other.closeOpaque[0] == o || other.closing[1] && other.closeOpaque[1] == o {
			w.failf(invOpaques, "the opaque %v is in use", o)
		}
	}
	r.issued = max(r.issued, int(binary.BigEndian.Uint16(o[1:3])))
	w.tally.count(invTraps)
	switch f.Opcode() {
	case mcbp.OpDCPAddStream:
		if r.busy(vb) || v.live {
			w.failf(invTraps, "ADD_STREAM of vb %d while its stream is live or an answer is awaited", vb)
		}
		v.past()
		v.add, v.addOpaque = true, o
		v.takeover = binary.BigEndian.Uint32(f.Extras())&mcbp.StreamFlagTakeover != 0
		v.answered, v.acked, v.failed, v.asked = false, false, false, 0
		v.tookOver, v.rolled, v.isAccepted = false, false, false
		v.moved, v.ticked = w.now, 0
	case mcbp.OpDCPCloseStream:
		if v.add || v.takeover {
			w.failf(invTraps, "CLOSE_STREAM of vb %d while it is being added", vb)
		}
		if !v.live || v.closing[to] {
			w.failf(invTraps, "CLOSE_STREAM of vb %d, which is not live", vb)
		}
		if !r.closing(vb) {
			v.gone, v.refused = false, false
			v.ticked = 0
		}
		v.closing[to], v.closeOpaque[to] = true, o
		v.moved = w.now
	default:
		w.failf(invTraps, "we sent %v", f.Opcode())
	}
}

// crashKind is the crash that a frame must cause.
type crashKind uint8

const (
	noCrash crashKind = iota
	crashOfUnknownOpaque
	crashOfMalformedFrame
	crashOfEnd
)

// verdict is what must come of a frame.
type verdict struct {
	crash  crashKind
	pass   bool
	event  string
	vb     int  // -1 if it is about none in particular
	hears  bool // somebody must hear that a live stream has ended
	opaque mcbp.Opaque
}

// judge says what must come of a frame, and takes note of it.
func (r *referee) judge(w *world, from relay.Side, f mcbp.Frame) verdict {
	out := verdict{pass: true, vb: -1, opaque: f.Opaque()}
	switch {
	case f.Opcode() == mcbp.OpDCPAddStream:
		out.pass = false
		r.judgeAdd(w, f, &out)
	case f.Opcode() == mcbp.OpDCPCloseStream:
		out.pass = false
		r.judgeClose(w, from, f, &out)
	case f.Opcode() == mcbp.OpDCPStreamReq && !f.IsResponse():
		out.vb, out.event = int(f.VBucket()), "STREAM_REQ"
		v := &r.vbs[out.vb]
		if v.known && v.current != f.Opaque() {
			v.past()
		}
		v.known, v.current = true, f.Opaque()
		if v.add || v.takeover {
			v.moved = w.now
		}
	case f.Opcode() == mcbp.OpDCPStreamReq:
		r.judgeRequestAnswer(w, f, &out)
	case f.Opcode() == mcbp.OpDCPStreamEnd:
		r.judgeEnd(w, f, &out)
	case f.Opcode() == mcbp.OpDCPSetVBucketState && !f.IsResponse():
		r.judgeState(w, f, &out)
	case f.Opcode() == mcbp.OpDCPSetVBucketState:
		r.judgeStateAnswer(w, f, &out)
	}
	return out
}

// unknownOpaque decides on an answer whose request is not outstanding.
func (r *referee) unknownOpaque(f mcbp.Frame, out *verdict) (event string) {
	o := f.Opaque()
	if o[0] == 0xff && o[3] == 0xff && int(binary.BigEndian.Uint16(o[1:3])) <= r.issued {
		return "repeated"
	}
	if !r.stopping {
		out.crash = crashOfUnknownOpaque
	}
	return "never sent"
}

func (r *referee) judgeAdd(w *world, f mcbp.Frame, out *verdict) {
	for vb := range w.cfg.vbs {
		v := &r.vbs[vb]
		if !v.add || v.addOpaque != f.Opaque() {
			continue
		}
		out.vb, out.event = vb, "ADD_STREAM answered"
		v.add = false
		switch {
		case f.Status() != mcbp.StatusSuccess:
			out.event = "ADD_STREAM refused"
			w.blame(vb, causeRefused)
			v.takeover = false
			v.past()
		case !v.takeover:
			v.live = true
		default:
			v.answered = true
			v.moved = w.now
			r.takeoverMoved(w, vb)
		}
		return
	}
	out.event = "ADD_STREAM answer " + r.unknownOpaque(f, out)
}

// takeoverMoved ends a takeover if it is over.
func (r *referee) takeoverMoved(w *world, vb int) {
	v := &r.vbs[vb]
	if !v.answered || !v.acked && !v.failed {
		return
	}
	v.takeover = false
	v.tookOver = v.acked && !v.failed
	v.apart = v.apart || v.failed
	v.past()
}

func (r *referee) judgeClose(w *world, from relay.Side, f mcbp.Frame, out *verdict) {
	for vb := range w.cfg.vbs {
		v := &r.vbs[vb]
		if !v.closing[from] || v.closeOpaque[from] != f.Opaque() {
			continue
		}
		out.vb, out.event = vb, "CLOSE_STREAM answered by the "+role(from)
		v.closing[from] = false
		v.moved = w.now
		switch f.Status() {
		case mcbp.StatusSuccess, mcbp.StatusKeyNotFound, mcbp.StatusStreamNotFound:
			v.gone = true
		default:
			out.event = "CLOSE_STREAM refused by the " + role(from)
			v.refused = true
			w.blame(vb, causeRefused)
		}
		r.closeMoved(w, vb)
		return
	}
	out.event = "CLOSE_STREAM answer " + r.unknownOpaque(f, out) + ", " + role(from)
}

func (r *referee) closeMoved(w *world, vb int) {
	v := &r.vbs[vb]
	if r.closing(vb) || !v.gone {
		return
	}
	v.live = false
	w.blameOthers(vb)
	v.apart = v.apart || v.refused
	v.past()
}

func (r *referee) judgeRequestAnswer(w *world, f mcbp.Frame, out *verdict) {
	out.event = "STREAM_REQ answered"
	switch f.Status() {
	case mcbp.StatusRollback:
		out.event = "STREAM_REQ answered with a rollback"
	case mcbp.StatusSuccess:
	default:
		out.event = "STREAM_REQ refused"
	}
	for vb := range w.cfg.vbs {
		v := &r.vbs[vb]
		if !v.known || v.current != f.Opaque() {
			continue
		}
		out.vb = vb
		if !v.add {
			return
		}
		v.moved = w.now
		switch f.Status() {
		case mcbp.StatusRollback:
			v.rolled = true
		case mcbp.StatusSuccess:
			v.rolled, v.isAccepted, v.accepted = false, true, w.now
		}
		return
	}
	if f.Opaque() == alienStream {
		out.event = "STREAM_REQ answer never asked for"
	}
}

const endOfEarlier = "STREAM_END of an earlier stream"

// judgeEnd is the table of design §5.2.
func (r *referee) judgeEnd(w *world, f mcbp.Frame, out *verdict) {
	vb := int(f.VBucket())
	v := &r.vbs[vb]
	out.vb = vb
	if len(f.Extras()) != 4 {
		out.event, out.crash = "STREAM_END malformed", crashOfMalformedFrame
		return
	}
	if !v.known || v.current != f.Opaque() {
		out.event = endOfEarlier
		if slices.Contains(v.earlier, f.Opaque()) {
			w.tally.count(invStale)
			return
		}
		out.event = "STREAM_END never heard of"
		if v.add && !v.acked {
			out.crash = crashOfEnd
		}
		return
	}
	out.event = "STREAM_END"
	switch {
	case v.takeover && v.acked:
		v.past()
	case v.add:
		out.crash = crashOfEnd
	case v.takeover:
		w.blame(vb, causeEnded)
		v.takeover = false
		v.past()
	case r.closing(vb):
		v.gone = true
		v.past()
	case v.live:
		w.blame(vb, causeEnded)
		out.hears = true
		v.live = false
		v.past()
	default:
		v.past()
	}
}

func (r *referee) judgeState(w *world, f mcbp.Frame, out *verdict) {
	vb := int(f.VBucket())
	v := &r.vbs[vb]
	out.vb = vb
	own := v.known && v.current == f.Opaque() && v.takeover
	switch {
	case !own:
		out.event = "SET_VBUCKET_STATE of another stream"
	case len(f.Extras()) != 1:
		out.event, out.crash = "SET_VBUCKET_STATE malformed", crashOfMalformedFrame
	default:
		v.asked = mcbp.VBucketState(f.Extras()[0])
		v.moved = w.now
		out.event = "SET_VBUCKET_STATE " + v.asked.String()
	}
}

func (r *referee) judgeStateAnswer(w *world, f mcbp.Frame, out *verdict) {
	for vb := range w.cfg.vbs {
		v := &r.vbs[vb]
		if !v.takeover || !v.known || v.current != f.Opaque() || v.asked == 0 {
			continue
		}
		out.vb, out.event = vb, v.asked.String()+" acknowledged"
		asked := v.asked
		v.asked, v.moved = 0, w.now
		switch {
		case f.Status() != mcbp.StatusSuccess:
			out.event = asked.String() + " refused"
			w.blame(vb, causeRefused)
			v.failed = true
		case asked == mcbp.VBucketActive:
			v.acked = true
		}
		r.takeoverMoved(w, vb)
		return
	}
	out.event = "SET_VBUCKET_STATE answer of another stream"
}

// stop is the beginning of a planned stop: what the producer has to say to a close is not waited for, since it may be the
// reason for the stop (history 4 and 6).
func (r *referee) stop(w *world) {
	r.stopping = true
	for vb := range w.cfg.vbs {
		if v := &r.vbs[vb]; v.closing[relay.Producer] {
			v.closing[relay.Producer] = false
			r.closeMoved(w, vb)
		}
	}
}

// expired lists what has waited too long, by the kind of crash that must follow: adds before takeovers before closes.
func (r *referee) expired(w *world) (adds, takeovers, closes []uint16) {
	for vb := range w.cfg.vbs {
		v := &r.vbs[vb]
		limit := shortSteps
		if v.add && v.rolled {
			limit = rollbackSteps
		}
		late := w.now-v.moved >= limit || v.add && v.isAccepted && w.now-v.accepted >= patienceSteps
		switch {
		case !late || !r.busy(vb):
		case v.add:
			adds = append(adds, uint16(vb))
		case v.takeover:
			takeovers = append(takeovers, uint16(vb))
		default:
			closes = append(closes, uint16(vb))
		}
	}
	return adds, takeovers, closes
}

// ticked looks at the crash, or at its absence, after a tick.
func (r *referee) ticked(w *world, adds, takeovers, closes []uint16, reason error) {
	w.tally.count(invCrash)
	var (
		add    *dcp.AddStreamTimeout
		taking *dcp.TakeoverTimeout
		ended  *dcp.CloseStreamTimeout
	)
	switch {
	case len(adds) > 0:
		if !errors.As(reason, &add) || !slices.Equal(add.VBs, adds) {
			w.failf(invCrash, "adds of %v have expired, and the connection says: %v", adds, reason)
		}
	case len(takeovers) > 0:
		if !errors.As(reason, &taking) || !slices.Equal(taking.VBs, takeovers) {
			w.failf(invCrash, "takeovers of %v have expired, and the connection says: %v", takeovers, reason)
		}
	case len(closes) > 0:
		if !errors.As(reason, &ended) || !slices.Equal(ended.VBs, closes) {
			w.failf(invCrash, "closes of %v have expired, and the connection says: %v", closes, reason)
		}
	case reason != nil:
		w.failf(invCrash, "nothing has expired, and the connection crashes: %v", reason)
	}
}

// crashed compares a crash, or its absence, with the verdict on a frame.
func (r *referee) crashed(w *world, want verdict, reason error) {
	w.tally.count(invCrash)
	var (
		unknown   *dcp.UnknownOpaque
		malformed *dcp.MalformedFrame
		ended     *dcp.UnexpectedStreamEnd
	)
	same := false
	switch want.crash {
	case noCrash:
		same = reason == nil
	case crashOfUnknownOpaque:
		same = errors.As(reason, &unknown) && unknown.Opaque == want.opaque
	case crashOfMalformedFrame:
		same = errors.As(reason, &malformed)
	case crashOfEnd:
		same = errors.As(reason, &ended) && int(ended.VB) == want.vb && ended.StreamOpaque == want.opaque &&
			ended.AddOpaque == r.vbs[want.vb].addOpaque
	}
	switch {
	case same:
	case want.crash != noCrash:
		w.failf(invCrash, "%s must crash the connection, and it says: %v", want.event, reason)
	case want.event == endOfEarlier:
		w.failf(invStale, "%s is no reason to crash: %v", want.event, reason)
	default:
		w.failf(invCrash, "%s is no reason to crash: %v", want.event, reason)
	}
}

// published is the news of an end.
func (r *referee) published(w *world, e dcp.RawStreamEnded) {
	w.tally.count(invHeard)
	if !w.hearing || w.heard || int(e.VB) != w.hearingOf {
		w.failf(invHeard, "an end of vb %d is told that nobody must hear", e.VB)
	}
	w.heard = true
}

// answered is the connection's answer to a call: what it says must be true.
func (r *referee) answered(w *world, e dcp.RawAnswer) {
	w.sayf("   the connection answers call %d: %s", e.Call, describeErrors(e.Errs))
	for i := range w.callers {
		c := &w.callers[i]
		if !c.waiting || c.id != e.Call {
			continue
		}
		w.tally.count(invOnce)
		if c.told {
			w.failf(invOnce, "the connection answers caller %d twice", i)
		}
		c.told = true
		r.answeredCaller(w, c, e.Errs)
		return
	}
}

func (r *referee) answeredCaller(w *world, c *caller, errs map[uint16]error) {
	for vb := range errs {
		if !slices.ContainsFunc(c.changes, func(change dcp.RawChange) bool { return change.VB == vb }) {
			w.failf(invTruth, "an error for vb %d, which was not asked about", vb)
		}
	}
	last := map[uint16]dcp.RawKind{}
	for _, change := range c.changes {
		last[change.VB] = change.Kind
	}
	for vb, kind := range last {
		v := &r.vbs[vb]
		if err := errs[vb]; err != nil {
			w.tally.count(invCause)
			causes := c.causes[vb] | w.cause
			if v.live {
				causes |= causeOpen
			}
			if reasonOf(err)&causes == 0 {
				w.failf(invCause, "an error of vb %d without a cause: %v", vb, err)
			}
			continue
		}
		w.tally.count(invTruth)
		closing := r.closing(int(vb))
		// The answer about one vbucket is given at once. That about several waits for all, and meanwhile somebody else may have
		// had a closed stream opened again; but one that is told to live must live.
		now := c.alone || len(last) == 1
		switch {
		case kind == dcp.RawAdd && (!v.live || now && closing):
			w.failf(invTruth, "vb %d is told to be streaming, and is not", vb)
		case kind == dcp.RawClose && now && (v.live || v.add || closing):
			w.failf(invTruth, "vb %d is told to be closed, and is not", vb)
		case kind == dcp.RawTakeover && now && !v.tookOver:
			w.failf(invTruth, "vb %d is told to be taken over, and is not", vb)
		}
	}
}

// reasonOfAll is what must have happened for a call to fail as a whole.
func reasonOfAll(err error) cause {
	var late *dcp.NotConnectedError
	switch {
	case errors.Is(err, dcp.ErrShut):
		return causeShut
	case errors.Is(err, dcp.ErrSuperseded):
		return causeCancelled
	case errors.As(err, &late):
		return causeLate
	}
	return causeCrash
}

// reasonOf is what must have happened for an error of a vbucket to be given.
func reasonOf(err error) cause {
	var (
		refused *dcp.StreamStatusError
		ended   *dcp.StreamEndedError
	)
	switch {
	case errors.As(err, &refused):
		return causeRefused
	case errors.As(err, &ended):
		return causeEnded
	case errors.Is(err, dcp.ErrStreamOpen):
		return causeOpen
	case errors.Is(err, dcp.ErrShut):
		return causeShut
	}
	return 0
}
