package dcp

import (
	"encoding/binary"
	"fmt"
	"sync"
	"time"

	"github.com/shearpin/shearpin/actors"
	"github.com/shearpin/shearpin/dcp/mcbp"
	"github.com/shearpin/shearpin/dcp/relay"
)

// A connection that has crashed is gone, and with it what its two engines said to each other. The flight recorder keeps the
// last of it, so that who reads of the crash sees how it came about. It is fed with the frames that the connection process
// decides about and never sees a document; of a frame it keeps header fields and a number, never a key, a value or a body.

// Bounds of [Limits].Flight.
const (
	defaultFlight = 256
	maxFlight     = 1 << 16
)

// FlightKind says what a [FlightEvent] is about.
type FlightKind uint8

const (
	// FlightRead is a control frame that was read from a node and judged.
	FlightRead FlightKind = iota
	// FlightInjected is a frame of ours, queued for a node.
	FlightInjected
	// FlightVBucket is a change of a vbucket's state on the connection.
	FlightVBucket
	// FlightConnection is a change of the connection's own state.
	FlightConnection
)

// FlightEvent is one control event of a replication connection. It is plain data; String makes a line of it.
type FlightEvent struct {
	// At is when the connection process took the event in hand; what it did at once has the same time.
	At   time.Time
	Kind FlightKind
	// Role is whom the frame came from, or goes to: [RoleConsumer] or [RoleProducer].
	Role     string
	Opcode   mcbp.Opcode
	Response bool
	// VB is the vbucket, -1 if none is known. An answer names none; it has that of the last request with its opaque, if that
	// is still in the record.
	VB int
	// Opaque is the raw opaque of the frame.
	Opaque mcbp.Opaque
	// Code is the status of a response, the reason of a STREAM_END, the flags of an ADD_STREAM or STREAM_REQ, or the state
	// of a SET_VBUCKET_STATE; 0 for other frames.
	Code uint32
	// Verdict is what became of a frame that was read: pass, drop or crash.
	Verdict string
	// From and To are the states of a change.
	From, To string
}

// String is the event on one line, without a line feed.
func (e FlightEvent) String() string {
	at := e.At.UTC().Format("15:04:05.000000")
	switch e.Kind {
	case FlightVBucket:
		return fmt.Sprintf("%s vb=%d: %s → %s", at, e.VB, e.From, e.To)
	case FlightConnection:
		return fmt.Sprintf("%s connection: %s → %s", at, e.From, e.To)
	case FlightInjected:
		return fmt.Sprintf("%s to %s: %s", at, e.Role, e.frame())
	case FlightRead:
	}
	return fmt.Sprintf("%s from %s: %s: %s", at, e.Role, e.frame(), e.Verdict)
}

func (e FlightEvent) frame() string {
	kind, vb := "request", "-"
	if e.Response {
		kind = "response"
	}
	if e.VB >= 0 {
		vb = fmt.Sprint(e.VB)
	}
	return fmt.Sprintf("%v %s vb=%s opaque=%v%s", e.Opcode, kind, vb, e.Opaque, e.code())
}

func (e FlightEvent) code() string {
	switch {
	case e.Response:
		return fmt.Sprintf(" status=%v", mcbp.Status(e.Code))
	case e.Opcode == mcbp.OpDCPStreamEnd:
		return fmt.Sprintf(" reason=%v (%d)", mcbp.EndReason(e.Code), e.Code)
	case e.Opcode == mcbp.OpDCPAddStream, e.Opcode == mcbp.OpDCPStreamReq:
		return fmt.Sprintf(" flags=%#x", e.Code)
	case e.Opcode == mcbp.OpDCPSetVBucketState:
		return fmt.Sprintf(" state=%v", mcbp.VBucketState(e.Code))
	}
	return ""
}

// flightRecorder keeps the last events of one connection in slots that are made once. It is written by the connection
// process and may be read by anybody.
type flightRecorder struct {
	mu    sync.Mutex
	start time.Time
	slots []flightSlot
	// count is how many events there were in all; event n is in slot n mod len(slots), the next one in slot head.
	count uint64
	head  int
}

// flightSlot is an event in 32 bytes. The states of a change stand in for the fields of a frame.
type flightSlot struct {
	at       time.Duration
	code     uint32
	opaque   mcbp.Opaque
	vb       uint16
	kind     FlightKind
	side     relay.Side
	opcode   mcbp.Opcode
	response bool
	verdict  flightVerdict
	from, to uint8
}

type flightVerdict uint8

const (
	flightPassed flightVerdict = iota
	flightDropped
	flightCrashed
)

var flightVerdictNames = [...]string{"pass", "drop", "crash"}

func newFlightRecorder(size int, now time.Time) *flightRecorder {
	return &flightRecorder{start: now, slots: make([]flightSlot, size)}
}

// next takes the slot of the next event. The caller holds the lock.
func (r *flightRecorder) next(now time.Time, kind FlightKind) *flightSlot {
	slot := &r.slots[r.head]
	r.count++
	if r.head++; r.head == len(r.slots) {
		r.head = 0
	}
	*slot = flightSlot{at: now.Sub(r.start), kind: kind}
	return slot
}

// read notes a frame before it is decided, and returns what judged needs.
func (r *flightRecorder) read(now time.Time, from relay.Side, f mcbp.Frame) (event uint64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.next(now, FlightRead).frame(from, f)
	return r.count - 1
}

// judged notes what became of a frame, unless so much has followed it that it is in the record no longer.
func (r *flightRecorder) judged(event uint64, verdict flightVerdict) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.count-event <= uint64(len(r.slots)) {
		r.slots[event%uint64(len(r.slots))].verdict = verdict
	}
}

func (r *flightRecorder) injected(now time.Time, to relay.Side, f mcbp.Frame) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.next(now, FlightInjected).frame(to, f)
}

func (r *flightRecorder) vbucket(now time.Time, vb uint16, from, to streamState) {
	r.mu.Lock()
	defer r.mu.Unlock()
	slot := r.next(now, FlightVBucket)
	slot.vb, slot.from, slot.to = vb, uint8(from), uint8(to)
}

func (r *flightRecorder) connection(now time.Time, from, to connPhase) {
	r.mu.Lock()
	defer r.mu.Unlock()
	slot := r.next(now, FlightConnection)
	slot.from, slot.to = uint8(from), uint8(to)
}

// frame keeps what the record may know of a frame. The frame need not be well formed; its header is.
func (s *flightSlot) frame(side relay.Side, f mcbp.Frame) {
	s.side, s.opcode, s.opaque, s.response = side, f.Opcode(), f.Opaque(), f.IsResponse()
	if s.response {
		s.code = uint32(f.Status())
		return
	}
	s.vb = f.VBucket()
	switch extras := f.Extras(); {
	case s.opcode == mcbp.OpDCPSetVBucketState && len(extras) > 0:
		s.code = uint32(extras[0])
	case s.hasWord() && len(extras) >= 4:
		s.code = binary.BigEndian.Uint32(extras)
	}
}

// hasWord reports whether the extras of a request begin with flags or a reason.
func (s *flightSlot) hasWord() bool {
	return s.opcode == mcbp.OpDCPStreamEnd || s.opcode == mcbp.OpDCPAddStream || s.opcode == mcbp.OpDCPStreamReq
}

// events is the record as plain data, the oldest first.
func (r *flightRecorder) events() []FlightEvent {
	if r == nil {
		return nil
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	size := uint64(len(r.slots))
	first := r.count - min(r.count, size)
	events := make([]FlightEvent, 0, r.count-first)
	asked := map[mcbp.Opaque]uint16{}
	for n := first; n < r.count; n++ {
		slot := &r.slots[n%size]
		e := slot.event(r.start)
		if slot.kind == FlightRead || slot.kind == FlightInjected {
			if !slot.response {
				asked[slot.opaque] = slot.vb
			} else if vb, ok := asked[slot.opaque]; ok {
				e.VB = int(vb)
			}
		}
		events = append(events, e)
	}
	return events
}

func (s *flightSlot) event(start time.Time) FlightEvent {
	e := FlightEvent{At: start.Add(s.at), Kind: s.kind, VB: int(s.vb)}
	switch s.kind {
	case FlightVBucket:
		e.From, e.To = streamState(s.from).String(), streamState(s.to).String()
		return e
	case FlightConnection:
		e.VB, e.From, e.To = -1, connPhase(s.from).String(), connPhase(s.to).String()
		return e
	case FlightRead:
		e.Verdict = flightVerdictNames[s.verdict]
	case FlightInjected:
	}
	e.Role, e.Opcode, e.Response, e.Opaque, e.Code = roleOf(s.side), s.opcode, s.response, s.opaque, s.code
	if s.response {
		e.VB = -1
	}
	return e
}

// flightRequest asks the manager for the record of a link; the answer is a []FlightEvent.
type flightRequest struct{ key linkKey }

func (p *managerProcess) flight(from actors.From, key linkKey) {
	l, ok := p.running[key]
	if !ok {
		from.Fail(p.machine.linkOf(key).wrap(ErrNoLink))
		return
	}
	from.Reply(l.env.flight.Load().events())
}
