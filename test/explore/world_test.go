package explore

import (
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/shearpin/shearpin/actors"
	"github.com/shearpin/shearpin/dcp"
	"github.com/shearpin/shearpin/dcp/mcbp"
	"github.com/shearpin/shearpin/dcp/relay"
)

// world is one state of everything: two engines, four queues of frames, the processes of one link with the machines that
// ship, and the callers. What can happen next is listed by actions; do makes it happen.
type world struct {
	cfg   *config
	tally *tally
	now   int // in steps
	// faults counts what engines and sockets did that they need not have done, if that is limited.
	faults int

	consumer consumerEngine
	producer producerEngine
	// Frames on their way from the relay to the engines and back. An empty frame is the end of the bytes.
	to, from [2][]mcbp.Frame
	// gone are the engines that have closed their sockets.
	gone [2]bool
	// held are frames that were decided and are not yet written to the other side, by the side they were read from.
	held [2][]mcbp.Frame

	// The machines that ship. They are shared with the worlds that this one was copied from or into until the first event:
	// use machineR and machineC to send one.
	replicator *dcp.RawReplicator
	conn       *dcp.RawConsumer
	ownR, ownC bool
	procs      [2]process
	// started counts the consumer connections.
	started uint64
	// known are the connections that the replicator has heard of last.
	known [2]*dcp.RawConn
	// open are the calls that the connection machine was told of and has not answered.
	open []dcp.RawCall
	// restart is what the supervisor does next.
	restart []restartStep
	// toldUp and toldLost are the news of this incarnation so far.
	toldUp, toldLost bool
	// lost is set when the producer's socket failed: its connection exits first.
	lost bool
	// toConn and toReplicator are messages between the two processes.
	toConn, toReplicator []message
	// seen counts the stream frames that the relay has seen of each vbucket.
	seen [maxVBs]uint64

	callers [maxCallers]caller
	stopper caller
	fencer  caller
	// stopped says that the planned stop is over; closed that the link is gone.
	stopped, closed bool
	nextCall        dcp.RawCall

	referee referee
	// cause is what the action in hand does that may be an error's reason for every caller.
	cause cause
	// hearing says that the frame in hand is the end of a live stream, hearingOf of which vbucket, and heard that it was
	// told.
	hearing, heard bool
	hearingOf      int
	broken         *violation
	scratch        []byte
}

// process is a connection process.
type process struct {
	conn   *dcp.RawConn
	opened bool
}

// restartStep is one thing that a supervisor does when a connection has died.
type restartStep struct {
	start bool
	role  relay.Side
}

// caller is somebody who waits for an answer.
type caller struct {
	waiting bool
	id      dcp.RawCall
	changes []dcp.RawChange
	since   int
	// alone says that nobody else has asked for anything that concerns the same vbuckets meanwhile.
	alone bool
	// told says that the connection machine has answered, or, of a stop, that it was asked.
	told bool
	// causes is what has happened meanwhile that may be an error's reason, by vbucket.
	causes [maxVBs]cause
	// fenced is the last incarnation whose streams a fence is about.
	fenced uint64
}

// message is one between the replicator and its connections.
type message struct {
	kind    messageKind
	role    relay.Side
	conn    *dcp.RawConn
	call    dcp.RawCall
	changes []dcp.RawChange
	errs    map[uint16]error
	reason  error
}

type messageKind uint8

const (
	mailJoin messageKind = iota
	mailRequest
	mailShut
	mailAnswer
	mailShutDone
	mailStarted
	mailOpened
	mailRefused
	mailDown
)

var (
	errReset = &dcp.SocketClosedError{Err: errors.New("connection reset")}
	errBusy  = errors.New("connection refused")
	theLink  = dcp.Link{Bucket: "orders", Producer: "n0", Consumer: "n1"}
)

func newWorld(cfg *config, tally *tally) *world {
	w := &world{cfg: cfg, tally: tally, replicator: dcp.NewRawReplicator(theLink, limits), ownR: true}
	w.restart = []restartStep{{start: true, role: relay.Producer}, {start: true, role: relay.Consumer}}
	return w
}

// copy is a world of its own with the same future.
func (w *world) copy() *world {
	w.ownR, w.ownC = false, false
	c := *w
	c.scratch = nil
	for side := range 2 {
		c.to[side], c.from[side], c.held[side] = slices.Clip(c.to[side]), slices.Clip(c.from[side]), slices.Clip(c.held[side])
	}
	c.restart, c.toConn, c.toReplicator = slices.Clip(c.restart), slices.Clip(c.toConn), slices.Clip(c.toReplicator)
	c.open = slices.Clip(c.open)
	for vb := range c.referee.vbs {
		v := &c.referee.vbs[vb]
		v.earlier = slices.Clip(v.earlier)
	}
	return &c
}

func (w *world) machineR() *dcp.RawReplicator {
	if !w.ownR {
		w.replicator, w.ownR = deepCopy(w.replicator), true
	}
	return w.replicator
}

func (w *world) machineC() *dcp.RawConsumer {
	if !w.ownC {
		w.conn, w.ownC = deepCopy(w.conn), true
	}
	return w.conn
}

func (w *world) time() time.Time { return time.Unix(0, 0).Add(time.Duration(w.now) * step) }

func (w *world) sayf(format string, args ...any) {
	if w.tally.story != nil {
		w.tally.story(fmt.Sprintf(format, args...))
	}
}

func role(side relay.Side) string {
	if side == relay.Consumer {
		return dcp.RoleConsumer
	}
	return dcp.RoleProducer
}

func (w *world) joined() bool { return w.conn != nil && w.conn.Phase() != "connecting" && !w.lost }

// traffic is what a tick sees when nothing but seen has moved.
func (w *world) traffic(full bool) dcp.RawTraffic {
	return dcp.RawTraffic{
		Progress:  func(vb uint16) uint64 { return w.seen[vb] },
		Unwritten: func(relay.Side) bool { return full },
	}
}

// The processes.

// restartNext carries out the supervisor's next step. A connection that is to be taken down may fall by itself just before.
func (w *world) restartNext(byItself bool) {
	s := w.restart[0]
	w.restart = w.restart[1:]
	if !s.start {
		w.sayf("the supervisor takes the %v connection down", s.role)
		if !byItself {
			w.endProcess(s.role, actors.Shutdown)
			return
		}
		w.endProcess(s.role, &dcp.CrashError{Role: role(s.role), Err: errReset})
		return
	}
	w.sayf("the supervisor starts the %v connection", s.role)
	w.procs[s.role] = process{conn: dcp.NewRawConn()}
	if s.role == relay.Consumer {
		w.conn, w.ownC = dcp.NewRawConsumer(limits), true
		w.started++
	}
	w.mailToReplicator(message{kind: mailStarted, role: s.role, conn: w.procs[s.role].conn})
}

// endProcess ends one connection process: both sockets close, whatever was on its way in them is gone.
func (w *world) endProcess(side relay.Side, reason error) {
	p := w.procs[side]
	w.procs[side] = process{}
	w.consumer.disconnect(w.started)
	w.producer.disconnect()
	w.clearSockets()
	w.seen = [maxVBs]uint64{}
	if side == relay.Consumer {
		w.conn, w.lost = nil, false
		w.toConn, w.open = nil, nil
		w.referee = referee{}
	}
	if p.conn != nil {
		w.mailToReplicator(message{kind: mailDown, role: side, conn: p.conn, reason: reason})
	}
}

func (w *world) clearSockets() {
	w.to, w.from, w.held, w.gone = [2][]mcbp.Frame{}, [2][]mcbp.Frame{}, [2][]mcbp.Frame{}, [2]bool{}
}

// carry brings a frame to an engine, if it still reads.
func (w *world) carry(to relay.Side, f mcbp.Frame) {
	if !w.gone[to] && !w.lost {
		w.to[to] = append(w.to[to], f)
	}
}

// crash is the abnormal exit of a connection process; its supervisor takes the other one down and starts both afresh.
func (w *world) crash(side relay.Side, reason error) {
	w.sayf("the %v connection exits: %v", side, reason)
	w.cause |= causeCrash
	w.endProcess(side, reason)
	sibling := side.Other()
	w.restart = nil
	if w.procs[sibling].conn != nil {
		w.restart = append(w.restart, restartStep{role: sibling})
	}
	w.restart = append(w.restart,
		restartStep{start: true, role: relay.Producer}, restartStep{start: true, role: relay.Consumer})
}

// The mail.

func (w *world) mailToReplicator(m message) { w.toReplicator = append(w.toReplicator, m) }

// mailToConn is lost if the connection that the replicator knows is dead.
func (w *world) mailToConn(m message) {
	if conn := w.procs[relay.Consumer].conn; conn != nil && conn == w.known[relay.Consumer] {
		w.toConn = append(w.toConn, m)
	}
}

// deliver hands over all messages, unless they take their time.
func (w *world) deliver() {
	for !w.cfg.mail && w.broken == nil && len(w.toReplicator)+len(w.toConn) > 0 {
		if len(w.toReplicator) > 0 {
			w.deliverToReplicator()
		} else {
			w.deliverToConn()
		}
	}
}

func (w *world) deliverToReplicator() {
	m := w.toReplicator[0]
	w.toReplicator = w.toReplicator[1:]
	switch m.kind {
	case mailStarted:
		w.cellR("started " + role(m.role))
		w.known[m.role] = m.conn
		w.performR(w.machineR().Started(role(m.role), m.conn, w.time()))
	case mailOpened:
		w.cellR("opened " + role(m.role))
		w.performR(w.machineR().Opened(role(m.role), m.conn, w.time()))
	case mailRefused:
		w.cellR("refused")
		w.performR(w.machineR().Refused(errBusy))
	case mailDown:
		w.cause |= causeCrash
		w.cellR(w.downEvent(m))
		w.performR(w.machineR().Down(role(m.role), m.conn, m.reason, w.time()))
		w.tally.count(invNews)
		if !errors.Is(m.reason, actors.Shutdown) && !w.toldLost {
			w.failf(invNews, "nobody is told that the link is lost")
		}
		if m.role == relay.Consumer && w.stopper.waiting && w.stopper.told {
			w.answerStop(m.reason)
		}
	case mailAnswer:
		if w.waits(m.call) {
			w.cellR("answered")
		} else {
			w.cellR("answered late")
		}
		w.performR(w.machineR().Answered(m.call, m.errs))
	case mailShutDone:
		w.answerStop(nil)
	default:
		w.failf(invOnce, "message %d to the replicator", m.kind)
	}
}

func (w *world) downEvent(m message) string {
	kind := "crashed"
	switch {
	case errors.Is(m.reason, actors.Shutdown):
		kind = "taken down"
	case errors.Is(m.reason, dcp.ErrFenced):
		kind = "fenced"
	}
	return role(m.role) + " " + kind
}

func (w *world) deliverToConn() {
	m := w.toConn[0]
	w.toConn = w.toConn[1:]
	switch m.kind {
	case mailJoin:
		w.goesOn(w.performC(w.machineC().Opened(w.time())))
	case mailRequest:
		for _, change := range m.changes {
			w.cellC(change.VB, askEvents[change.Kind])
		}
		w.open = append(w.open, m.call)
		w.goesOn(w.performC(w.machineC().Request(m.call, m.changes, w.time())))
	case mailShut:
		for vb := range w.cfg.vbs {
			w.cellC(uint16(vb), "a stop is asked for")
		}
		w.cause |= causeShut
		w.goesOn(w.performC(w.machineC().Shut(m.call, w.time())))
		w.referee.stop(w)
	default:
		w.failf(invOnce, "message %d to the connection", m.kind)
	}
}

// The effects.

func (w *world) performR(effects []dcp.RawEffect) {
	for _, e := range effects {
		switch e := e.(type) {
		case dcp.RawJoin:
			w.mailToConn(message{kind: mailJoin})
		case dcp.RawForward:
			w.mailToConn(message{kind: mailRequest, call: e.Call, changes: e.Changes})
		case dcp.RawReply:
			w.reply(e)
		case dcp.RawPublish:
			w.sayf("the replicator publishes %T", e.Event)
			w.published(e.Event)
		case dcp.RawCloseConsumer:
			w.tally.count(invCrash)
			if !w.fencer.waiting {
				w.failf(invCrash, "the replicator closes the connection, and nobody has asked for a fence: %v", e.Reason)
			}
			if conn := w.procs[relay.Consumer].conn; conn != nil && conn == w.known[relay.Consumer] {
				w.crash(relay.Consumer, e.Reason)
			}
		default:
			w.failf(invOnce, "unknown effect %T", e)
		}
	}
}

// published is news of the link: it is up once, and lost once, in each incarnation.
func (w *world) published(e dcp.Event) {
	w.tally.count(invNews)
	told := &w.toldLost
	switch e.(type) {
	case dcp.ConsumerStarted:
		w.toldUp, w.toldLost = false, false
		return
	case dcp.LinkUp:
		told = &w.toldUp
	}
	if *told {
		w.failf(invNews, "%T is told twice", e)
	}
	*told = true
}

// performC carries out what the connection machine wants. It reports whether the machine has crashed.
func (w *world) performC(effects []dcp.RawEffect) (reason error) {
	for i, e := range effects {
		switch e := e.(type) {
		case dcp.RawInject:
			w.sayf("   the connection sends %v to the %v", inWords(e.Frame), e.To)
			w.referee.injected(w, e.To, e.Frame)
			w.carry(e.To, e.Frame)
		case dcp.RawAnswer:
			w.closeCall(e.Call)
			w.referee.answered(w, e)
			w.mailToReplicator(message{kind: mailAnswer, call: e.Call, errs: e.Errs})
		case dcp.RawStreamEnded:
			w.sayf("   the connection tells that the stream of vb %d ended: %v", e.VB, e.Reason)
			w.referee.published(w, e)
		case dcp.RawWatch:
		case dcp.RawShutDone:
			w.mailToReplicator(message{kind: mailShutDone, call: e.Call})
		case dcp.RawCrash:
			w.tally.count(invLast)
			if i != len(effects)-1 {
				w.failf(invLast, "%T follows the crash", effects[i+1])
			}
			reason = e.Reason
		default:
			w.failf(invOnce, "unknown effect %T", e)
		}
	}
	return reason
}

// closeCall is the answer of the connection to one of the calls that it was told of.
func (w *world) closeCall(id dcp.RawCall) {
	w.tally.count(invOnce)
	i := slices.Index(w.open, id)
	if i < 0 {
		w.failf(invOnce, "the connection answers call %d, which it does not have or has answered", id)
		return
	}
	w.open = slices.Delete(slices.Clone(w.open), i, i+1)
}

// goesOn is for what is never a reason to crash.
func (w *world) goesOn(reason error) {
	w.tally.count(invCrash)
	if reason != nil {
		w.failf(invCrash, "no reason to crash: %v", reason)
	}
}

// The callers.

func (w *world) ask(n int, changes []dcp.RawChange) {
	w.nextCall++
	c := &w.callers[n]
	*c = caller{waiting: true, id: w.nextCall, changes: changes, alone: true, since: w.now}
	for i := range w.callers {
		if other := &w.callers[i]; i != n && other.waiting && overlap(other.changes, changes) {
			other.alone, c.alone = false, false
		}
	}
	if w.stopper.waiting || w.stopped {
		w.cause |= causeShut
	}
	for _, change := range changes {
		if v := &w.referee.vbs[change.VB]; c.alone {
			v.tookOver = false
		}
	}
	w.sayf("caller %d asks: %s", n, describeChanges(changes))
	w.cellR("request")
	w.performR(w.machineR().Request(c.id, changes, w.time()))
}

func overlap(a, b []dcp.RawChange) bool {
	for _, x := range a {
		for _, y := range b {
			if x.VB == y.VB {
				return true
			}
		}
	}
	return false
}

func (w *world) stop() {
	w.nextCall++
	w.stopper = caller{waiting: true, id: w.nextCall}
	w.cause |= causeShut
	w.sayf("the manager asks for a planned stop")
	w.cellR("a stop is asked for")
	w.performR(w.machineR().BeginShut())
	if !w.replicator.Joined() {
		w.answerStop(nil)
		return
	}
	w.stopper.told = true
	w.mailToConn(message{kind: mailShut, call: w.stopper.id})
}

func (w *world) answerStop(err error) {
	w.tally.count(invOnce)
	if !w.stopper.waiting {
		w.failf(invOnce, "the stop is answered twice")
		return
	}
	w.sayf("the stop is answered: %v", err)
	w.stopper.waiting = false
	w.stopped = true
}

// close ends the link: the manager terminates it after its stop, or its supervisor gives up.
func (w *world) close(why string) {
	w.sayf("the link is gone: %s", why)
	w.closed = true
	w.restart, w.toConn, w.toReplicator = nil, nil, nil
	w.conn, w.open = nil, nil
	w.procs = [2]process{}
	w.consumer.disconnect(w.started)
	w.producer.disconnect()
	w.clearSockets()
	w.referee = referee{}
	w.callers, w.fencer, w.stopper = [maxCallers]caller{}, caller{}, caller{}
}

func (w *world) fenceOff(current bool) {
	w.nextCall++
	w.fencer = caller{waiting: true, id: w.nextCall}
	if current {
		w.sayf("somebody asks for a fence")
		w.cellR("fence")
		w.fencer.fenced = w.started
		w.performR(w.machineR().Fence(w.fencer.id))
		return
	}
	w.sayf("somebody asks for a fence of the incarnation before")
	w.cellR("fence after an older incarnation")
	w.fencer.fenced = max(w.replicator.Incarnation(), 1) - 1
	w.performR(w.machineR().FenceAfter(w.fencer.id, w.fencer.fenced))
}

func (w *world) waits(id dcp.RawCall) bool {
	for _, c := range w.callers {
		if c.waiting && c.id == id {
			return true
		}
	}
	return false
}

// reply is the replicator's answer to somebody.
func (w *world) reply(e dcp.RawReply) {
	w.tally.count(invOnce)
	if w.fencer.waiting && w.fencer.id == e.Call {
		w.sayf("the fence is answered")
		w.tally.count(invFence)
		if w.consumer.leftOver && w.consumer.leftOf <= w.fencer.fenced {
			w.failf(invFence, "the fence is answered, but streams of an older connection live at the consumer")
		}
		w.fencer.waiting = false
		return
	}
	for i := range w.callers {
		c := &w.callers[i]
		if !c.waiting || c.id != e.Call {
			continue
		}
		c.waiting = false
		w.sayf("caller %d is answered: %s", i, describeReply(e))
		w.tally.count(invCause)
		switch {
		case e.Err == nil && !c.told:
			w.failf(invTruth, "caller %d is told what the connection did not say", i)
		case e.Err != nil && reasonOfAll(e.Err)&w.cause == 0:
			w.failf(invCause, "caller %d gets an error without its cause: %v", i, e.Err)
		}
		*c = caller{}
		return
	}
	w.failf(invOnce, "an answer that nobody waits for: call %d", e.Call)
}
