package dcp

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/shearpin/shearpin/dcp/mcbp"
)

// Sentinels that errors.Is finds in the errors of this package.
var (
	// ErrSuperseded answers a call that a newer epoch has overtaken.
	ErrSuperseded = errors.New("superseded by a newer epoch")
	// ErrShut answers a call that a planned stop of its connection has overtaken.
	ErrShut = errors.New("replication is shut")
	// ErrSocketClosed is the cause when a peer closed its socket.
	ErrSocketClosed = errors.New("socket closed")
	// ErrFenced is the reason of a connection that was closed so that its name could be opened again.
	ErrFenced = errors.New("connection fenced")
	// ErrStreamOpen refuses a takeover of a vbucket whose stream is still open.
	ErrStreamOpen = errors.New("takeover of a vbucket with an open stream")
	// ErrNoLink says that no link of that producer and number runs.
	ErrNoLink = errors.New("no such link")
	// ErrUnknownNode says that a node is not in the directory of endpoints.
	ErrUnknownNode = errors.New("unknown node")
	// ErrDeadline answers a call whose own deadline ran out before its connection was there.
	ErrDeadline = errors.New("deadline exceeded")
)

// SocketClosedError says in which way a peer closed its socket. errors.Is finds [ErrSocketClosed] in it.
type SocketClosedError struct{ Err error }

func (e *SocketClosedError) Error() string { return fmt.Sprintf("%v: %v", ErrSocketClosed, e.Err) }

func (e *SocketClosedError) Unwrap() error { return e.Err }

// Is makes every way of closing one thing.
func (e *SocketClosedError) Is(target error) bool { return target == ErrSocketClosed }

// NotConnectedError answers a call whose link did not come up in time: no engine has seen it.
type NotConnectedError struct{ Err error }

func (e *NotConnectedError) Error() string { return fmt.Sprintf("not connected: %v", e.Err) }

func (e *NotConnectedError) Unwrap() error { return e.Err }

// NameInUseError says that somebody else uses a link's connection name: a peer closed the connection right after its OPEN,
// several times in a row, as an engine does when the name is opened again. The link is left alone for a while.
type NameInUseError struct {
	// Name is the DCP connection name, Node the peer that closed it, Kicks how often.
	Name, Node string
	Kicks      int
	Err        error
}

func (e *NameInUseError) Error() string {
	return fmt.Sprintf("name_in_use: %s closed %q right after its OPEN, %d times: %v", e.Node, e.Name, e.Kicks, e.Err)
}

func (e *NameInUseError) Unwrap() error { return e.Err }

// OverloadedError refuses what is beyond a bound of [Limits].
type OverloadedError struct {
	What  string
	Limit int
}

func (e *OverloadedError) Error() string {
	return fmt.Sprintf("too many %s, the limit is %d", e.What, e.Limit)
}

// UnfencedError refuses a new epoch: takeovers that failed may still be under way at the consumer's engine, because its
// connection could not be opened again. Which node is active for these vbuckets is unknown until it has been.
type UnfencedError struct {
	VBs []uint16
	Err error
}

func (e *UnfencedError) Error() string {
	return fmt.Sprintf("takeovers not fenced: vb=%s: %v", joinVBs(e.VBs), e.Err)
}

func (e *UnfencedError) Unwrap() error { return e.Err }

// LinkError says on which replication something went wrong.
type LinkError struct {
	Producer, Consumer string
	Conn               int
	Err                error
}

func (e *LinkError) Error() string {
	return fmt.Sprintf("replication %s→%s/%d: %v", e.Producer, e.Consumer, e.Conn, e.Err)
}

func (e *LinkError) Unwrap() error { return e.Err }

// Roles of the two connections of a replication.
const (
	RoleConsumer = "consumer"
	RoleProducer = "producer"
)

// CrashError is the exit of a connection process that could not go on.
type CrashError struct {
	// Role is [RoleConsumer] or [RoleProducer].
	Role string
	Err  error
	// Flight is what went on last on the connection, the oldest event first: [Limits].Flight events at most, and never a
	// document. It is not part of the error's text, and does not travel with the error to another process. A connection
	// process that ends by a panic has none; its exit reason has the stack.
	Flight []FlightEvent
}

func (e *CrashError) Error() string { return fmt.Sprintf("%s connection crashed: %v", e.Role, e.Err) }

func (e *CrashError) Unwrap() error { return e.Err }

// UnexpectedStreamEnd is the crash of the seed's third rule: the producer ended a stream before the consumer answered
// its ADD_STREAM, so that the two ends no longer agree.
type UnexpectedStreamEnd struct {
	VB        uint16
	AddOpaque mcbp.Opaque
	// StreamOpaque is the one that the STREAM_END carried.
	StreamOpaque mcbp.Opaque
	Reason       mcbp.EndReason
}

func (e *UnexpectedStreamEnd) Error() string {
	return fmt.Sprintf("unexpected_stream_end: STREAM_END (%v) before ADD_STREAM was answered: vb=%d add_opaque=%v stream_opaque=%v code=%d",
		e.Reason, e.VB, e.AddOpaque, e.StreamOpaque, uint32(e.Reason))
}

// AddStreamTimeout is the crash of a connection whose ADD_STREAMs made no progress within their limit. The slices run
// in parallel and are sorted by vbucket; StreamOpaques has nil where no STREAM_REQ was seen.
type AddStreamTimeout struct {
	VBs           []uint16
	AddOpaques    []mcbp.Opaque
	StreamOpaques []*mcbp.Opaque
}

func (e *AddStreamTimeout) Error() string {
	return "add_stream_timeout: ADD_STREAM made no progress: " + describePending(e.VBs, e.AddOpaques, e.StreamOpaques)
}

// CloseStreamTimeout is the crash of a connection whose CLOSE_STREAMs were not answered within their limit.
type CloseStreamTimeout struct{ VBs []uint16 }

func (e *CloseStreamTimeout) Error() string {
	return fmt.Sprintf("close_stream_timeout: CLOSE_STREAM was not answered: vb=%s", joinVBs(e.VBs))
}

// TakeoverTimeout is the crash of a connection on which an accepted takeover made no progress within its limit.
type TakeoverTimeout struct{ VBs []uint16 }

func (e *TakeoverTimeout) Error() string {
	return fmt.Sprintf("takeover_timeout: takeover made no progress: vb=%s", joinVBs(e.VBs))
}

// describedPending bounds how many vbuckets an error text spells out; the fields hold all of them.
const describedPending = 4

func describePending(vbs []uint16, adds []mcbp.Opaque, streams []*mcbp.Opaque) string {
	var b strings.Builder
	for i, vb := range vbs {
		if i == describedPending {
			fmt.Fprintf(&b, " and %d more", len(vbs)-i)
			break
		}
		if i > 0 {
			b.WriteString("; ")
		}
		add, stream := "-", "-" // also if the error came from elsewhere and is not complete
		if i < len(adds) {
			add = adds[i].String()
		}
		if i < len(streams) && streams[i] != nil {
			stream = streams[i].String()
		}
		fmt.Fprintf(&b, "vb=%d add_opaque=%s stream_opaque=%s", vb, add, stream)
	}
	return b.String()
}

func joinVBs(vbs []uint16) string {
	parts := make([]string, 0, len(vbs))
	for i, vb := range vbs {
		if i == describedPending {
			parts = append(parts, fmt.Sprintf("… (%d in all)", len(vbs)))
			break
		}
		parts = append(parts, fmt.Sprint(vb))
	}
	return strings.Join(parts, ",")
}

// UnknownOpaque is the crash of the seed's fourth rule: an answer to a request that was never sent.
type UnknownOpaque struct {
	Opcode mcbp.Opcode
	Opaque mcbp.Opaque
	Role   string
	// VBs are the vbuckets whose streams were being set up, sorted; they are the suspects, since the answer names none.
	VBs []uint16
}

func (e *UnknownOpaque) Error() string {
	vb, suspects := "-", ""
	switch len(e.VBs) {
	case 0:
	case 1:
		vb = fmt.Sprint(e.VBs[0])
	default:
		suspects = fmt.Sprintf(" (being added: vb %s)", joinVBs(e.VBs))
	}
	return fmt.Sprintf("unknown_opaque: %s answered a %v that was never sent: vb=%s add_opaque=%v stream_opaque=-%s",
		e.Role, e.Opcode, vb, e.Opaque, suspects)
}

// MalformedFrame is the crash of a connection that got a frame with an impossible layout.
type MalformedFrame struct {
	Role   string
	Header [mcbp.HeaderLen]byte
	Why    string
}

func (e *MalformedFrame) Error() string {
	return fmt.Sprintf("malformed frame from %s: %s (header %x)", e.Role, e.Why, e.Header)
}

// StreamStatusError is the ordinary refusal of one vbucket's request; the connection is fine.
type StreamStatusError struct {
	Op     mcbp.Opcode
	VB     uint16
	Role   string
	Status mcbp.Status
	// Gone says of a CLOSE_STREAM that was refused that the stream has ended all the same: the other node has closed it, or the
	// producer has ended it. [Manager.Apply] then leaves the vbucket wanted as before, and without a stream.
	Gone bool
}

func (e *StreamStatusError) Error() string {
	return fmt.Sprintf("%v of vb %d refused by %s: %v", e.Op, e.VB, e.Role, e.Status)
}

func (e *StreamStatusError) Unwrap() error { return e.Status }

// StreamEndedError answers the caller whose stream came up and ended again before its call was answered, or whose
// takeover stream ended before the consumer was active.
type StreamEndedError struct {
	VB     uint16
	Reason mcbp.EndReason
}

func (e *StreamEndedError) Error() string {
	return fmt.Sprintf("stream of vb %d ended: %v (code %d)", e.VB, e.Reason, uint32(e.Reason))
}

// ApplyError holds the vbuckets of one call that failed; those not in it are as asked for.
type ApplyError struct{ ByVB map[uint16]error }

func (e *ApplyError) Error() string {
	vbs := make([]uint16, 0, len(e.ByVB))
	for vb := range e.ByVB {
		vbs = append(vbs, vb)
	}
	slices.Sort(vbs)
	if len(vbs) == 0 {
		return "no vbucket failed"
	}
	if len(vbs) == 1 {
		return e.ByVB[vbs[0]].Error()
	}
	return fmt.Sprintf("%d vbuckets failed, the first: %v", len(vbs), e.ByVB[vbs[0]])
}

// Unwrap gives errors.Is and errors.As the causes in vbucket order.
func (e *ApplyError) Unwrap() []error {
	vbs := make([]uint16, 0, len(e.ByVB))
	for vb := range e.ByVB {
		vbs = append(vbs, vb)
	}
	slices.Sort(vbs)
	errs := make([]error, len(vbs))
	for i, vb := range vbs {
		errs[i] = e.ByVB[vb]
	}
	return errs
}

// StaleEpoch refuses a request that does not carry the current epoch. Current is the last that was asked for; 0 if there is none,
// or if the request carries it and its Prepare has not succeeded.
type StaleEpoch struct{ Got, Current uint64 }

func (e *StaleEpoch) Error() string {
	return fmt.Sprintf("stale epoch %d, current is %d", e.Got, e.Current)
}

// NamedVBuckets lists the vbuckets that a crash reason names, sorted; empty if it names none.
func NamedVBuckets(reason error) []uint16 {
	var (
		ended *UnexpectedStreamEnd
		added *AddStreamTimeout
		shut  *CloseStreamTimeout
		taken *TakeoverTimeout
		alien *UnknownOpaque
	)
	switch {
	case errors.As(reason, &ended):
		return []uint16{ended.VB}
	case errors.As(reason, &added):
		return slices.Clone(added.VBs)
	case errors.As(reason, &shut):
		return slices.Clone(shut.VBs)
	case errors.As(reason, &taken):
		return slices.Clone(taken.VBs)
	case errors.As(reason, &alien) && len(alien.VBs) == 1:
		return slices.Clone(alien.VBs)
	}
	return nil
}
