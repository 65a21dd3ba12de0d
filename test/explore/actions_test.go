package explore

import (
	"fmt"
	"strings"

	"github.com/shearpin/shearpin/dcp"
	"github.com/shearpin/shearpin/dcp/mcbp"
	"github.com/shearpin/shearpin/dcp/relay"
)

// action is one thing that can happen in a world; what a and b mean depends on its kind.
type action struct{ kind, a, b uint8 }

const (
	actAsk          uint8 = iota // caller a asks for its call b
	actStop                      // the planned stop
	actTerminate                 // the manager ends the link after its stop
	actGiveUp                    // the supervisor gives the link up
	actFence                     // a fence, of an older incarnation if a is 1
	actCancel                    // waiting calls are called off
	actRestart                   // the supervisor's next step; if a is 1, what it wants to take down falls by itself
	actOpen                      // the connection of side a opens its socket
	actRefused                   // the connection of side a is refused
	actConsumer                  // the consumer's engine takes a frame and chooses a
	actProducer                  // the producer's engine takes a frame and chooses a
	actAnswer                    // the consumer's engine answers the ADD_STREAM of vbucket a
	actTakeover                  // the producer's engine sends the first state of vbucket a's takeover
	actEnd                       // the producer's engine ends the stream of vbucket a
	actLateEnd                   // the producer's engine ends the closed stream of vbucket a
	actStrange                   // an engine sends the strange frame a about vbucket b, and the relay reads it
	actRead                      // the relay reads a frame from side a
	actWrite                     // the relay writes what it holds from side a
	actClose                     // the engine of side a closes its socket
	actReset                     // the engine of side a resets its connection
	actExit                      // the producer's connection exits: the relay has lost its socket
	actToConn                    // the connection takes a message
	actToReplicator              // the replicator takes a message
	actTick                      // time moves, and deadlines are looked at; a says what has moved: see the ticks
)

// ticks
const (
	tickQuiet uint8 = iota
	tickProgress
	tickFull
)

// actions lists what can happen next, always in the same order.
func (w *world) actions(all []action) []action {
	all = all[:0]
	if w.closed || w.broken != nil {
		return all
	}
	cfg := w.cfg
	perfect := cfg.faults > 0 && w.faults == cfg.faults
	on := func(may bool, kind, a, b uint8) {
		if a := (action{kind, a, b}); may && !(perfect && a.fault()) {
			all = append(all, a)
		}
	}
	for side := range uint8(2) {
		on(len(w.from[side]) > 0 && w.joined(), actRead, side, 0)
		on(len(w.held[side]) > 0, actWrite, side, 0)
	}
	if len(w.to[relay.Consumer]) > 0 {
		for _, c := range w.consumerChoices(w.to[relay.Consumer][0]) {
			on(true, actConsumer, uint8(c), 0)
		}
	}
	if len(w.to[relay.Producer]) > 0 {
		for _, c := range w.producerChoices(w.to[relay.Producer][0]) {
			on(true, actProducer, uint8(c), 0)
		}
	}
	for vb := range uint8(cfg.vbs) {
		passive, active := w.consumer.streams[vb].state, w.producer.streams[vb].state
		on(passive == passiveAccepted || passive == passiveGhost, actAnswer, vb, 0)
		on(active == activeTaking, actTakeover, vb, 0)
		on(cfg.ends && active != activeNone, actEnd, vb, 0)
		on(w.producer.late[vb] != nil, actLateEnd, vb, 0)
	}
	on(len(w.restart) > 0, actRestart, 0, 0)
	on(len(w.restart) > 0 && cfg.drop && !w.restart[0].start, actRestart, 1, 0)
	for side := range uint8(2) {
		p := w.procs[side]
		connecting := p.conn != nil && !p.opened
		on(connecting, actOpen, side, 0)
		on(cfg.refused && connecting, actRefused, side, 0)
		on(cfg.eof && w.linked(), actClose, side, 0)
		on(cfg.drop && w.linked(), actReset, side, 0)
	}
	on(w.lost && w.procs[relay.Producer].conn != nil, actExit, 0, 0)
	on(len(w.toConn) > 0, actToConn, 0, 0)
	on(len(w.toReplicator) > 0, actToReplicator, 0, 0)
	w.ownersActions(on)
	w.strangeActions(on)
	// A connection that is lost is taken down at once, as time is counted here.
	if cfg.time && !w.lost {
		waits := w.replicator.Waits()
		awaits := w.joined() && w.conn.Awaits()
		on(waits || awaits, actTick, tickQuiet, 0)
		on(cfg.progress && awaits, actTick, tickProgress, 0)
		on(cfg.progress && awaits, actTick, tickFull, 0)
	}
	return all
}

// fault reports whether an engine or a socket does what it need not do.
func (a action) fault() bool {
	switch a.kind {
	case actEnd, actClose, actReset, actStrange:
		return true
	case actRestart:
		return a.a == 1
	case actConsumer, actProducer:
		switch choice(a.a) {
		case chooseRefuse, chooseRollback, chooseMute, chooseEnd, chooseLateEnd:
			return true
		case chooseOK, chooseGhost, chooseForget:
		}
	}
	return false
}

// linked reports whether both sockets are joined and none is being lost already.
func (w *world) linked() bool { return w.joined() && !w.endsOfBytes(0) && !w.endsOfBytes(1) }

func (w *world) endsOfBytes(side int) bool {
	n := len(w.from[side])
	return n > 0 && len(w.from[side][n-1]) == 0
}

func (w *world) ownersActions(on func(may bool, kind, a, b uint8)) {
	cfg := w.cfg
	for n, calls := range cfg.calls {
		for i := range calls {
			on(!w.callers[n].waiting, actAsk, uint8(n), uint8(i))
		}
	}
	on(cfg.stop && !w.stopper.waiting && !w.stopped, actStop, 0, 0)
	on(w.stopped, actTerminate, 0, 0)
	on(cfg.giveUp && len(w.restart) > 0, actGiveUp, 0, 0)
	on(cfg.fence && !w.fencer.waiting, actFence, 0, 0)
	on(cfg.fence && !w.fencer.waiting, actFence, 1, 0)
	on(cfg.cancel, actCancel, 0, 0)
}

// strangeActions lists the frames that no engine should send.
func (w *world) strangeActions(on func(may bool, kind, a, b uint8)) {
	cfg := w.cfg
	if !w.linked() {
		return
	}
	one := func(may bool, s strange) { on(may, actStrange, uint8(s), 0) }
	for s := alienAdd; s <= alienCloseProducer; s++ {
		one(cfg.alien, s)
	}
	one(cfg.alien, alienStateAnswer)
	one(cfg.alien, alienRequestAnswer)
	for s := repeatedAdd; s <= repeatedCloseProducer; s++ {
		one(cfg.repeat && w.referee.retired(firstOpaque), s)
	}
	for vb := range uint8(cfg.vbs) {
		on(cfg.alien, actStrange, uint8(alienEnd), vb)
		on(cfg.alien, actStrange, uint8(alienState), vb)
		on(cfg.malformed, actStrange, uint8(shortEnd), vb)
		on(cfg.malformed, actStrange, uint8(shortState), vb)
	}
}

// retired reports whether an opaque of ours was given out and has its answer.
func (r *referee) retired(o mcbp.Opaque) bool {
	for _, v := range r.vbs {
		if v.add && v.addOpaque == o || v.closing[0] && v.closeOpaque[0] == o || v.closing[1] && v.closeOpaque[1] == o {
			return false
		}
	}
	return r.issued > 0
}

// do makes an action happen, with everything that follows at once.
func (w *world) do(a action) {
	w.cause = 0
	if w.cfg.faults > 0 && a.fault() {
		w.faults++
	}
	switch a.kind {
	case actAsk:
		w.ask(int(a.a), w.cfg.calls[a.a][a.b])
	case actStop:
		w.stop()
	case actTerminate:
		w.terminate()
	case actGiveUp:
		w.close("its supervisor gives up")
	case actFence:
		w.fenceOff(a.a == 0)
	case actCancel:
		w.cancelCalls()
	case actRestart:
		w.restartNext(a.a == 1)
	case actOpen, actRefused:
		w.connect(relay.Side(a.a), a.kind == actOpen)
	case actConsumer:
		w.consumerTakes(choice(a.a))
	case actProducer:
		w.producerTakes(choice(a.a))
	case actAnswer:
		w.consumerAnswers(int(a.a))
	case actTakeover:
		w.producerTakesOver(int(a.a))
	case actEnd:
		w.sayf("the producer's vbucket %d changes", a.a)
		w.producerEnds(int(a.a), mcbp.EndStateChanged)
	case actLateEnd:
		w.producerEndsLate(int(a.a))
	case actStrange:
		w.sendStrange(strange(a.a), int(a.b))
	case actRead:
		w.read(relay.Side(a.a))
	case actWrite:
		w.write(relay.Side(a.a))
	case actClose:
		w.sayf("the %v's engine closes its socket", relay.Side(a.a))
		w.closeSocket(relay.Side(a.a))
	case actReset:
		w.sayf("the %v's engine resets its connection", relay.Side(a.a))
		w.socketLost(relay.Side(a.a))
	case actExit:
		w.crash(relay.Producer, &dcp.CrashError{Role: dcp.RoleProducer, Err: errReset})
	case actToConn:
		w.deliverToConn()
	case actToReplicator:
		w.deliverToReplicator()
	case actTick:
		w.tick(a.a)
	default:
		w.failf(invOnce, "unknown action %v", a)
	}
	w.deliver()
	if w.broken == nil && !w.closed {
		w.look()
	}
}

// terminate is the manager ending the link after its planned stop: by then nobody waits.
func (w *world) terminate() {
	w.tally.count(invOnce)
	for i, c := range w.callers {
		if c.waiting {
			w.failf(invOnce, "caller %d is not answered by the planned stop", i)
			return
		}
	}
	w.close("terminated")
}

func (w *world) cancelCalls() {
	w.cause |= causeCancelled
	w.sayf("the calls that wait are called off")
	w.cellR("waiting calls are called off")
	w.performR(w.machineR().CancelWaiting(dcp.ErrSuperseded))
}

func (w *world) connect(side relay.Side, opened bool) {
	if !opened {
		w.sayf("the %v connection is refused", side)
		w.mailToReplicator(message{kind: mailRefused})
		return
	}
	w.sayf("the %v connection is open", side)
	w.procs[side].opened = true
	if side == relay.Consumer {
		w.consumer.openAgain()
	}
	w.mailToReplicator(message{kind: mailOpened, role: side, conn: w.procs[side].conn})
}

// read is the relay reading one frame, asking about it if it must, and passing it on or not.
func (w *world) read(side relay.Side) {
	f := w.from[side][0]
	w.from[side] = w.from[side][1:]
	w.sayf("the relay reads %v from the %v", inWords(f), side)
	if len(f) == 0 {
		w.socketLost(side)
		return
	}
	if tables[side].Action(f.Magic(), f.Opcode()) != relay.ActionAsk || w.readFrame(side, f) {
		w.pass(side, f)
	}
}

// readFrame asks about a frame, compares the answer with the referee's, and reports whether the frame is passed on.
func (w *world) readFrame(side relay.Side, f mcbp.Frame) (pass bool) {
	shut := w.conn.Phase() == "shut"
	want := verdict{vb: -1, event: "any frame", opaque: f.Opaque()}
	if !shut {
		want = w.referee.judge(w, side, f)
	}
	if want.vb >= 0 {
		w.cellC(uint16(want.vb), want.event)
	} else {
		w.cellOfAll(want.event)
	}
	w.hearing, w.heard, w.hearingOf = want.hears, false, want.vb
	got, effects := relay.Pass, []dcp.RawEffect(nil)
	if shown := w.shown(f); shown != nil {
		got, effects = w.machineC().Frame(side, shown, w.time())
	}
	reason := w.performC(effects)
	w.referee.crashed(w, want, reason)
	if want.hears {
		w.tally.count(invHeard)
		if !w.heard && !w.willHear(want.vb) {
			w.failf(invHeard, "nobody hears that the stream of vb %d has ended", want.vb)
		}
	}
	w.hearing = false
	switch {
	case reason != nil:
		w.crash(relay.Consumer, &dcp.CrashError{Role: dcp.RoleConsumer, Err: reason})
	case (got == relay.Pass) != want.pass:
		w.failf(invTraps, "%v from the %v: verdict %d", inWords(f), side, got)
	default:
		return got == relay.Pass
	}
	return false
}

// shown is the frame as the machine gets to see it: as it is, unless a mistake stands in between.
func (w *world) shown(f mcbp.Frame) mcbp.Frame {
	if w.cfg.misread == nil || f.Opcode() != mcbp.OpDCPStreamEnd || f.IsResponse() {
		return f
	}
	return w.cfg.misread(w.conn.VBucket(f.VBucket()), f)
}

var tables = [2]*relay.Table{relay.DefaultTable(relay.Consumer), relay.DefaultTable(relay.Producer)}

// willHear reports whether a caller waits who asked for the stream that has ended.
func (w *world) willHear(vb int) bool {
	for _, c := range w.callers {
		for _, change := range c.changes {
			if c.waiting && !c.told && int(change.VB) == vb && change.Kind == dcp.RawAdd {
				return true
			}
		}
	}
	return false
}

// pass writes a frame to the other side, or holds it if injected frames may overtake it.
func (w *world) pass(from relay.Side, f mcbp.Frame) {
	if w.cfg.overtake {
		w.held[from] = append(w.held[from], f)
		return
	}
	w.carry(from.Other(), f)
}

func (w *world) write(from relay.Side) {
	w.sayf("the relay writes to the %v", from.Other())
	for _, f := range w.held[from] {
		w.carry(from.Other(), f)
	}
	w.held[from] = nil
}

// closeSocket is an engine's last act on its connection. What it has sent before can still be read.
func (w *world) closeSocket(side relay.Side) {
	w.from[side] = append(w.from[side], mcbp.Frame{})
	w.to[side], w.gone[side] = nil, true
	if side == relay.Consumer {
		w.consumer.disconnect(w.started)
	} else {
		w.producer.disconnect()
	}
}

// socketLost is the relay's end. If the producer's socket was the reason, the producer connection exits first.
func (w *world) socketLost(side relay.Side) {
	if side == relay.Producer && w.procs[relay.Producer].conn != nil {
		w.lost = true
		w.consumer.disconnect(w.started)
		w.producer.disconnect()
		w.clearSockets()
		return
	}
	w.crash(relay.Consumer, &dcp.CrashError{Role: dcp.RoleConsumer, Err: errReset})
}

// tick lets time move and looks at the deadlines of both machines, of each that needs it.
func (w *world) tick(how uint8) {
	w.now++
	w.sayf("time moves: %d s%s", int(step.Seconds()), [...]string{"", ", frames pass", ", our frames wait for the sockets"}[how])
	if w.replicator.Waits() {
		w.cause |= causeLate
		w.cellR("a tick")
		w.performR(w.machineR().Tick(w.time()))
	}
	if w.joined() && w.conn.Awaits() {
		w.tickConn(how)
	}
	w.deliver()
	w.lookForOverdue()
}

// lookForOverdue sees whether something waits that no deadline has ended.
func (w *world) lookForOverdue() {
	for vb := range w.cfg.vbs {
		w.tally.count(invTimer)
		if w.joined() && w.referee.busy(vb) && w.now-w.referee.vbs[vb].moved > rollbackSteps {
			w.failf(invTimer, "time moves, nothing else does, and vb %d waits", vb)
		}
	}
	mail := len(w.toConn)+len(w.toReplicator) > 0
	for i, c := range w.callers {
		w.tally.count(invTimer)
		if c.waiting && !w.joined() && w.now-c.since > shortSteps && !mail {
			w.failf(invTimer, "caller %d waits for a connection longer than its deadline", i)
		}
	}
}

func (w *world) tickConn(how uint8) {
	if how == tickProgress {
		for vb := range w.cfg.vbs {
			w.seen[vb]++
		}
	}
	if how == tickFull {
		for vb := range w.cfg.vbs {
			w.referee.vbs[vb].moved = w.now
		}
	}
	// What was counted before an operation began looks like progress to its first tick.
	for vb := range w.cfg.vbs {
		if v := &w.referee.vbs[vb]; w.referee.busy(vb) && v.ticked != w.seen[vb] {
			v.ticked, v.moved = w.seen[vb], w.now
		}
	}
	adds, takeovers, closes := w.referee.expired(w)
	for vb := range w.cfg.vbs {
		if w.referee.busy(vb) {
			w.cellC(uint16(vb), w.tickEvent(how, len(adds)+len(takeovers)+len(closes) > 0))
		}
	}
	reason := w.performC(w.machineC().Tick(w.time(), w.traffic(how == tickFull)))
	w.referee.ticked(w, adds, takeovers, closes, reason)
	if reason != nil {
		w.crash(relay.Consumer, &dcp.CrashError{Role: dcp.RoleConsumer, Err: reason})
	}
}

func (w *world) tickEvent(how uint8, expired bool) string {
	if expired {
		return "a deadline runs out"
	}
	return [...]string{"a tick", "a tick, frames passed", "a tick, sockets full"}[how]
}

// someoneWaits reports whether somebody waits for what only a peer can bring about.
func (w *world) someoneWaits() bool {
	waits := w.stopper.waiting
	for _, c := range w.callers {
		waits = waits || c.waiting
	}
	return waits
}

// look checks what must be true of every state.
func (w *world) look() {
	w.tally.count(invTimer)
	moving := len(w.restart)+len(w.toConn)+len(w.toReplicator) > 0 || w.lost
	timer := moving || w.replicator.Waits() || w.joined() && w.conn.Awaits()
	if w.someoneWaits() && !timer {
		w.failf(invTimer, "somebody waits without a timer")
	}
	for vb := range w.cfg.vbs {
		if w.joined() && w.conn.Phase() != "shut" && w.referee.busy(vb) && !w.conn.Awaits() {
			w.failf(invTimer, "vb %d waits for an engine without a timer", vb)
		}
	}
	connecting := !w.procs[relay.Consumer].opened
	if w.fencer.waiting && !moving && !connecting {
		w.failf(invTimer, "a fence waits, and nothing is connecting")
	}
	if w.quiet() {
		w.lookQuiet()
	}
}

// quiet reports whether nothing is on its way and no engine will say anything by itself.
func (w *world) quiet() bool {
	if !w.joined() || len(w.restart) > 0 || len(w.toConn)+len(w.toReplicator) > 0 || w.owes() {
		return false
	}
	for side := range 2 {
		if len(w.to[side])+len(w.from[side])+len(w.held[side]) > 0 {
			return false
		}
	}
	return true
}

func (w *world) lookQuiet() {
	if !w.consumer.mute && !w.producer.mute {
		w.tally.count(invHang)
		for i, c := range w.callers {
			if c.waiting {
				w.failf(invHang, "both engines have said all they will, and caller %d waits", i)
			}
		}
		if w.conn.Awaits() {
			w.failf(invHang, "both engines have said all they will, and the connection waits")
		}
	}
	if w.conn.Awaits() || w.conn.Phase() != "open" {
		return
	}
	w.tally.count(invStreams)
	for vb := range w.cfg.vbs {
		if w.referee.vbs[vb].apart {
			continue
		}
		ours := w.conn.VBucket(uint16(vb)).State == "live"
		passive := w.consumer.streams[vb].state == passiveLive
		active := w.producer.streams[vb].state != activeNone
		if ours != passive || ours != active {
			w.failf(invStreams, "vb %d: live here %t, at the consumer %t, at the producer %t", vb, ours, passive, active)
		}
	}
	w.lookForResidue()
}

func (w *world) lookForResidue() {
	w.tally.count(invResidue)
	text := string(w.appendConn(nil, &namer{}))
	for _, word := range []string{"requested", "call", "starved"} {
		if strings.Contains(text, word) {
			w.failf(invResidue, "the machine still holds: %s", text)
		}
	}
}

func (a action) String() string { return fmt.Sprintf("%d/%d/%d", a.kind, a.a, a.b) }
