package dcp

import (
	"slices"
	"time"

	"github.com/shearpin/shearpin/dcp/mcbp"
	"github.com/shearpin/shearpin/dcp/relay"
)

// consumerMachine is the protocol of one replication connection: which frames it sends, what the answers mean, and when
// the two ends are so far out of step that the connection must crash. It is pure: an event goes in with the time at which
// it happened, effects come out, and the process around it (consumer_conn.go) performs them.
//
// Its state is kept per vbucket, so that no vbucket ever waits for another one:
//
//	none ─add→ adding ─answer→ live ─close→ closing ─both answers→ none,
//	none ─takeover→ takeover ─add answer, active acknowledged→ none
//
// The rules are design §5.2's; the files consumer_ops.go (what callers ask for), consumer_frames.go (what the engines
// answer), consumer_end.go (STREAM_END) and consumer_deadline.go hold one part each.
type consumerMachine struct {
	limits  Limits
	phase   connPhase
	vbs     map[uint16]*vbucket
	calls   map[callID]*streamCall
	opaques opaqueTable
	// byStream finds the add or takeover that an answer to STREAM_REQ or SET_VBUCKET_STATE is about; they name no vbucket.
	byStream map[mcbp.Opaque]*streamOp
	// pending are the operations whose answer is awaited; each has a deadline.
	pending map[*streamOp]struct{}
	// starved wait for a free opaque, in order.
	starved []*streamOp
	shutBy  []callID
	counts  machineCounts
	// watchStale says that the set of watched vbuckets changed since it was last told.
	watchStale bool
	// changed is told of each change of a vbucket's state; nil tells nobody.
	changed func(vb uint16, from, to streamState)
	out     []effect
}

// connPhase is the state of the connection as a whole.
type connPhase uint8

const (
	// phaseConnecting: not both sockets are joined; calls are taken and wait.
	phaseConnecting connPhase = iota
	phaseOpen
	// phaseShutting: a planned stop has closed the streams at the consumer and waits for the answers.
	phaseShutting
	phaseShut
	phaseCrashed
)

var connPhaseNames = [...]string{"connecting", "open", "shutting", "shut", "crashed"}

func (p connPhase) String() string { return connPhaseNames[p] }

// streamState is the state of one vbucket on this connection.
type streamState uint8

const (
	streamNone streamState = iota
	streamAdding
	streamLive
	streamClosing
	streamTakeover
)

var streamStateNames = [...]string{"none", "adding", "live", "closing", "takeover"}

func (s streamState) String() string { return streamStateNames[s] }

// vbucket is what the machine knows of one vbucket.
type vbucket struct {
	vb    uint16
	state streamState
	// op is the operation in progress; queue holds those that follow.
	op    *streamOp
	queue []*streamOp
	// opaque is the stream opaque of the current stream or add, once a STREAM_REQ has shown it.
	opaque mcbp.Opaque
	known  bool
	// past holds the opaques of earlier streams of this vbucket, the latest last.
	past []mcbp.Opaque
	// bornIn is the call that brought the live stream up, while it is unanswered.
	bornIn *streamCall
	// heldTo are the unanswered calls whose add has settled because of the live stream: its birth's, and those that found it
	// there. If it ends before their answer, the answer says so.
	heldTo []*streamCall
}

// pastOpaques is how many earlier streams of a vbucket are remembered. An end arrives at most a few streams late: the
// engine sends it before it can accept as many new requests for the vbucket.
const pastOpaques = 16

// machineCounts counts what is tolerated.
type machineCounts struct {
	StaleEnds, LateAnswers, UnknownEnds uint64
}

// callID names one call of the machine's owner.
type callID uint64

// streamCall is a set of vbucket operations that is answered once, when all of them are settled.
type streamCall struct {
	id   callID
	open int
	errs map[uint16]error
	// added are the vbuckets that are held to this call.
	added []*vbucket
}

// opKind is what an operation does.
type opKind uint8

const (
	opAdd opKind = iota
	opClose
	opTakeover
)

// streamOp is one operation on one vbucket.
type streamOp struct {
	kind opKind
	vb   *vbucket
	call *streamCall
	// settled says that the call has its answer of this operation, though the operation itself may linger until the
	// engine has answered.
	settled bool

	// add and takeover
	addOpaque   mcbp.Opaque
	stream      mcbp.Opaque // of the last STREAM_REQ, and the key in byStream
	addAnswered bool
	accepted    bool
	rolledBack  bool
	rollbacks   int
	requested   mcbp.VBucketState
	active      bool

	// close
	consumerOpaque, producerOpaque mcbp.Opaque
	consumerDone, producerDone     bool
	closeErr                       *StreamStatusError
	closed                         bool

	began, moved time.Time
	progress     uint64
}

func newConsumerMachine(limits Limits) *consumerMachine {
	return &consumerMachine{
		limits:   limits.withDefaults(),
		vbs:      map[uint16]*vbucket{},
		calls:    map[callID]*streamCall{},
		opaques:  newOpaqueTable(),
		byStream: map[mcbp.Opaque]*streamOp{},
		pending:  map[*streamOp]struct{}{},
	}
}

// effect is something that the process around a machine has to do. Effects are performed in order.
type effect interface{ consumerEffect() }

type (
	// injectFrame writes our own frame to one of the sockets.
	injectFrame struct {
		to    relay.Side
		frame mcbp.Frame
	}
	// answerCall answers a caller; errs is nil if every vbucket is as asked for.
	answerCall struct {
		call callID
		errs map[uint16]error
	}
	// publishEnd tells that a live stream ended though no call of ours closed it.
	publishEnd struct {
		vb     uint16
		opaque mcbp.Opaque
		reason mcbp.EndReason
	}
	// watchStreams sets the vbuckets whose stream frames count as progress.
	watchStreams struct{ vbs []uint16 }
	// crashConn ends the process with the reason. Nothing follows it.
	crashConn struct{ reason error }
	// shutDone says that the planned stop is complete.
	shutDone struct{ call callID }
)

func (injectFrame) consumerEffect()  {}
func (answerCall) consumerEffect()   {}
func (publishEnd) consumerEffect()   {}
func (watchStreams) consumerEffect() {}
func (crashConn) consumerEffect()    {}
func (shutDone) consumerEffect()     {}

// take hands over the effects of the last event.
func (m *consumerMachine) take() []effect {
	if m.watchStale && m.phase != phaseCrashed {
		m.emit(watchStreams{vbs: m.watched()})
	}
	m.watchStale = false
	out := m.out
	m.out = nil
	return out
}

func (m *consumerMachine) emit(e effect) { m.out = append(m.out, e) }

// crash is the one way out when the ends are out of step: nothing is processed after it.
func (m *consumerMachine) crash(reason error) {
	if m.phase == phaseCrashed {
		return
	}
	m.phase = phaseCrashed
	m.emit(crashConn{reason: reason})
}

func (m *consumerMachine) vbucket(vb uint16) *vbucket {
	v, ok := m.vbs[vb]
	if !ok {
		v = &vbucket{vb: vb}
		m.vbs[vb] = v
	}
	return v
}

// setState moves a vbucket. When its stream is over, the opaque goes to the past: its end may still be under way.
func (m *consumerMachine) setState(v *vbucket, s streamState) {
	if m.changed != nil && v.state != s {
		m.changed(v.vb, v.state, s)
	}
	v.state = s
	if s != streamNone {
		return
	}
	v.bornIn, v.heldTo = nil, nil
	v.forget()
}

// forget makes the current stream opaque a past one.
func (v *vbucket) forget() {
	if !v.known {
		return
	}
	v.past = append(v.past, v.opaque)
	if len(v.past) > pastOpaques {
		v.past = slices.Delete(v.past, 0, len(v.past)-pastOpaques)
	}
	v.opaque, v.known = mcbp.Opaque{}, false
}

// streams lists the vbuckets with a live stream, sorted.
func (m *consumerMachine) streams() []uint16 {
	var live []uint16
	for vb, v := range m.vbs {
		if v.state == streamLive {
			live = append(live, vb)
		}
	}
	slices.Sort(live)
	return live
}

// adding lists the vbuckets whose ADD_STREAM is unanswered, sorted.
func (m *consumerMachine) adding() []uint16 {
	var vbs []uint16
	for op := range m.pending {
		if op.kind != opClose && !op.addAnswered {
			vbs = append(vbs, op.vb.vb)
		}
	}
	slices.Sort(vbs)
	return vbs
}
