package supervisor

import (
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/shearpin/shearpin/actors"
)

// modelWorld tells a story to the machines alone. What they need of processes is reduced here to what design.md §3 says
// of them: mailboxes, exit signals, links, monitors, names, starts that wait, timers. It runs in one goroutine; a callback
// that has to wait leaves behind what is to be done next.
type modelWorld struct {
	clock   *stepClock
	plans   *plans
	root    *modelProc
	names   map[string]*modelProc
	procs   []*modelProc // that may be alive, in the order of their start
	unseen  []*modelProc // those whose death is not in the trace
	byLabel map[string]*modelProc
	byPID   map[*actors.PID]*modelProc
	trace   []string
	answers []callResult
}

// modelProc is a process.
type modelProc struct {
	w      *modelWorld
	serial int
	label  string
	node   *node
	b      behaviour
	pid    *actors.PID // no more than an identity
	parent *modelProc

	dead   bool
	reason error
	trap   bool
	inbox  []any
	links  []*modelProc
	// watchers hear of the death: monitors, and those who wait for an answer.
	watchers []*modelWatcher
	timers   []*stepTimer

	inside bool   // a callback has begun and waits
	next   func() // what the callback goes on with, once it is its turn
	// decide tells the starter the outcome, once.
	decide   func(err error)
	starting *modelProc // what this process waits for to start
	doomed   func()     // called at the death, by a supervisor that waits in its Init

	sup    *modelSup // of a supervisor
	ending error     // what a worker that takes its time ends with
}

// modelWatcher is a monitor or a call, until it is taken back.
type modelWatcher struct {
	over bool
	down func(reason error)
}

// What is in a mailbox, besides what realWorker is told.
type (
	modelBoot   struct{}
	modelSignal struct {
		from   *modelProc
		reason error
	}
	modelDown struct {
		of *modelProc
		m  *modelWatcher
	}
	modelStop  struct{ reason error }
	modelTimer struct {
		t   *modelTimeout
		msg any
	}
	modelTimeout struct{ over bool }
)

func newModelWorld() *modelWorld {
	return &modelWorld{
		clock: newStepClock(), plans: newPlans(), names: map[string]*modelProc{},
		byLabel: map[string]*modelProc{}, byPID: map[*actors.PID]*modelProc{},
	}
}

func (w *modelWorld) linef(format string, args ...any) {
	w.trace = append(w.trace, fmt.Sprintf(format, args...))
}

func (w *modelWorld) name(pid *actors.PID) string {
	if p := w.byPID[pid]; p != nil {
		return p.label
	}
	return "-"
}

// found is how a start function of this world, called with nil, tells whose it is.
type found struct{ n *node }

func (found) Error() string { return "found" }

// start is a startFor.
func (w *modelWorld) start(n *node) func(c *actors.Context) (*actors.PID, error) {
	return func(*actors.Context) (*actors.PID, error) { return nil, found{n} }
}

// startChild starts a process for its parent and goes on with then, when the parent gets its turn after the decision; at
// once if there is nothing to wait for.
func (w *modelWorld) startChild(parent *modelProc, n *node, then func(p *modelProc, err error)) {
	serial, label, b := w.plans.next(n)
	w.linef("start %s: %v", label, b)
	switch b.start {
	case funcFails:
		then(nil, errFunc)
		return
	case funcIgnores:
		then(nil, actors.ErrIgnore)
		return
	case funcPanics:
		then(nil, &actors.PanicError{Value: funcPanicText})
		return
	case funcNil:
		then(nil, errNoPID)
		return
	case funcOwn:
		then(nil, errOwnPID)
		return
	case funcOther:
		for _, other := range w.procs {
			if other.parent == parent {
				then(other, nil)
				return
			}
		}
		then(nil, errNoPID)
		return
	case funcTaken:
		then(nil, &actors.AlreadyStartedError{Name: n.path})
		return
	}
	p := &modelProc{w: w, serial: serial, label: label, node: n, b: b, pid: new(actors.PID), parent: parent}
	decided := func(err error) {
		p.decide = nil
		if parent == nil {
			then(p, err)
			return
		}
		parent.starting = nil
		parent.next = func() { then(p, err) }
	}
	if parent != nil {
		parent.starting = p
		link(parent, p)
	}
	if n.named {
		if w.names[n.path] != nil {
			unlink(parent, p)
			decided(&actors.AlreadyStartedError{Name: n.path})
			return
		}
		w.names[n.path] = p
	}
	w.procs = append(w.procs, p)
	w.unseen = append(w.unseen, p)
	w.byLabel[label] = p
	w.byPID[p.pid] = p
	p.inbox = append(p.inbox, modelBoot{})
	p.decide = decided
	if n.sup == nil {
		limit := b.initLimit
		if limit == 0 {
			limit = actors.DefaultInitTimeout
		}
		late := false
		t := w.clock.AfterFunc(limit, func() { late = true; p.abortStart() })
		p.decide = func(err error) {
			t.Stop()
			if late && errors.Is(err, actors.Killed) {
				err = actors.ErrInitTimeout
			}
			decided(err)
		}
	}
}

func link(a, b *modelProc) {
	if !slices.Contains(a.links, b) {
		a.links = append(a.links, b)
		b.links = append(b.links, a)
	}
}

func unlink(a, b *modelProc) bool {
	if a == nil || b == nil || !slices.Contains(a.links, b) {
		return false
	}
	is := func(p *modelProc) func(*modelProc) bool { return func(q *modelProc) bool { return p == q } }
	a.links = slices.DeleteFunc(a.links, is(b))
	b.links = slices.DeleteFunc(b.links, is(a))
	return true
}

func (p *modelProc) abortStart() {
	if p.decide != nil && !p.dead {
		p.exit(actors.Killed)
	}
}

// exit is the death of p, and of all who die of it.
func (p *modelProc) exit(reason error) {
	if p.dead {
		return
	}
	p.dead, p.reason = true, reason
	p.fall()
}

// fall buries p, which is dead, and all who die of it.
func (p *modelProc) fall() {
	for dying := []*modelProc{p}; len(dying) > 0; dying = dying[1:] {
		dying = append(dying, dying[0].bury()...)
	}
}

// bury does what follows a death, and returns those who die of it.
func (p *modelProc) bury() (dying []*modelProc) {
	w := p.w
	if w.names[p.node.path] == p {
		delete(w.names, p.node.path)
	}
	w.procs = slices.DeleteFunc(w.procs, func(q *modelProc) bool { return p == q })
	p.inbox, p.next = nil, nil
	for _, m := range p.watchers {
		if !m.over {
			m.over = true
			m.down(p.reason)
		}
	}
	for _, peer := range slices.Clone(p.links) {
		if unlink(p, peer) && !peer.dead && !(p.decide != nil && peer == p.parent) && peer.hear(p, p.reason) {
			dying = append(dying, peer)
		}
	}
	for _, t := range p.timers {
		t.Stop()
	}
	if p.decide != nil {
		p.decide(p.reason)
	}
	if p.starting != nil {
		p.starting.abortStart()
	}
	if p.doomed != nil {
		p.doomed()
	}
	return dying
}

// hear takes an exit signal that can be trapped; true means that p has died of it, and is still to be buried.
func (p *modelProc) hear(from *modelProc, reason error) bool {
	switch {
	case p.trap:
		p.post(modelSignal{from, reason})
		return false
	case from != p && errors.Is(reason, actors.Normal):
		return false
	}
	p.dead, p.reason = true, reason
	return true
}

// signal sends an exit signal, from nobody if from is nil.
func (p *modelProc) signal(from *modelProc, reason error) {
	switch {
	case p.dead, from != nil && from.dead:
	case errors.Is(reason, actors.Killed):
		p.exit(reason)
	case from == nil && p.parent == nil && p.trap:
		p.post(modelStop{reason})
	default:
		if p.hear(from, reason) {
			p.fall()
		}
	}
}

func (p *modelProc) post(msg any) {
	if !p.dead {
		p.inbox = append(p.inbox, msg)
	}
}

// monitor lets p hear of the death of another process.
func (p *modelProc) monitor(of *modelProc) *modelWatcher {
	m := &modelWatcher{}
	m.down = func(error) { p.post(modelDown{of, m}) }
	if of.dead {
		m.down(nil)
	} else {
		of.watchers = append(of.watchers, m)
	}
	return m
}

// sendAfter is a timer of p; its message is handled unless it is stopped.
func (p *modelProc) sendAfter(d time.Duration, msg any) func() {
	over := &modelTimeout{}
	stop := p.after(d, func() { p.post(modelTimer{over, msg}) })
	return func() { over.over = true; stop() }
}

// after calls f after d unless p is dead.
func (p *modelProc) after(d time.Duration, f func()) (stop func()) {
	t := p.w.clock.AfterFunc(d, f).(*stepTimer)
	p.timers = append(p.timers, t)
	return func() { t.Stop() }
}

// handle lets p handle its oldest message.
func (p *modelProc) handle() {
	msg := p.inbox[0]
	p.inbox = p.inbox[1:]
	if p.node.sup != nil {
		p.handleSup(msg)
	} else {
		p.handleWorker(msg)
	}
}

// mute reports whether the oldest message has been taken back.
func (p *modelProc) mute() bool {
	switch m := p.inbox[0].(type) {
	case modelDown:
		return p.sup != nil && p.sup.demonitored[m.m]
	case modelTimer:
		return m.t.over
	}
	return false
}

func (p *modelProc) handleWorker(msg any) {
	switch m := msg.(type) {
	case modelBoot:
		p.trap = p.b.trap
		if p.b.initDelay > 0 {
			p.sleep(p.b.initDelay, p.initWorker)
		} else {
			p.initWorker()
		}
	case modelSignal:
		if m.from != nil && m.from == p.parent {
			p.told(m.reason)
		}
	case modelStop:
		p.told(m.reason)
	case modelTimer:
		m.t.over = true
		p.exit(p.ending)
	case dieNow:
		if errors.Is(m.reason, errPanics) {
			p.exit(&actors.PanicError{Value: panicText})
		} else {
			p.exit(m.reason)
		}
	case unlinkNow:
		unlink(p, p.parent)
	case signalNow:
		p.parent.signal(p, m.reason)
	}
}

// sleep goes on with next when d is over and p gets its turn.
func (p *modelProc) sleep(d time.Duration, next func()) {
	p.inside = true
	p.after(d, func() { p.next = next })
}

func (p *modelProc) initWorker() {
	if p.b.instant != nil {
		p.post(dieNow{p.b.instant})
	}
	if err := modelOutcome(p.b); err != nil {
		p.exit(err)
	} else {
		p.decide(nil)
	}
}

// modelOutcome is that of an Init, as the starter sees it.
func modelOutcome(b behaviour) error {
	switch b.start {
	case initFails:
		return errInit
	case initIgnores:
		return actors.ErrIgnore
	case initPanics:
		return &actors.PanicError{Value: initPanicText}
	}
	return nil
}

// told is what a worker does when it is told to end.
func (p *modelProc) told(reason error) {
	switch p.b.stop {
	case stopComply:
		p.exit(reason)
	case stopOther:
		p.exit(errOther)
	case stopLate:
		if p.ending == nil {
			p.ending = reason
			p.sendAfter(p.b.stopDelay, timeIsUp{})
		}
	case stopStuck:
		p.sleep(p.b.stopDelay, func() { p.exit(reason) })
	}
}

func (w *modelWorld) do(o op) {
	p := w.byLabel[o.target]
	switch o.kind {
	case opBoot:
		w.startChild(nil, o.node, func(p *modelProc, err error) {
			if err != nil {
				w.answer(o.call, nil, err)
				return
			}
			w.root = p
			w.answer(o.call, p.pid, nil)
		})
	case opDie:
		p.post(dieNow{o.reason})
	case opExit:
		p.signal(nil, o.reason)
	case opKill:
		p.signal(nil, actors.Killed)
	case opStop:
		w.call(p, o.call, modelStop{o.reason}, func(reason error) error {
			if errors.Is(reason, o.reason) {
				return nil
			}
			return reason
		})
	case opUnlink:
		p.post(unlinkNow{})
	case opSignal:
		p.post(signalNow{o.reason})
	case opStart:
		w.request(p, o.call, adminRequest{kind: evStart, spec: o.node.spec(w.start)})
	case opFaulty:
		w.request(p, o.call, adminRequest{kind: evStart, spec: o.node.child})
	case opStartWith:
		w.request(p, o.call, adminRequest{kind: evStartWith, arg: o.id})
	case opTerm:
		w.request(p, o.call, adminRequest{kind: evTerminate, key: keyOf(o.id)})
	case opTermPID:
		w.request(p, o.call, adminRequest{kind: evTerminate, key: keyOf(w.byLabel[o.child].pid)})
	case opRestart:
		w.request(p, o.call, adminRequest{kind: evRestart, key: keyOf(o.id)})
	case opDelete:
		w.request(p, o.call, adminRequest{kind: evDelete, key: keyOf(o.id)})
	case opWhich:
		w.request(p, o.call, whichRequest(keyOf(o.id)))
	case opSpec:
		w.request(p, o.call, specRequest(keyOf(o.id)))
	case opSpecPID:
		w.request(p, o.call, specRequest(keyOf(w.byLabel[o.child].pid)))
	case opWhichPID:
		w.request(p, o.call, whichRequest(keyOf(w.byLabel[o.child].pid)))
	}
}

// modelRequest is a request and who waits for the answer.
type modelRequest struct {
	what any
	from *modelCaller
}

type modelCaller struct {
	w    *modelWorld
	call int
	at   *modelWatcher
}

func (w *modelWorld) request(p *modelProc, call int, r any) {
	from := &modelCaller{w, call, nil}
	from.at = w.call(p, call, modelRequest{r, from}, func(reason error) error { return reason })
}

// call sends msg and waits for an answer or for p's death, whose reason asAnswer turns into the answer.
func (w *modelWorld) call(p *modelProc, call int, msg any, asAnswer func(error) error) *modelWatcher {
	if p.dead {
		w.answer(call, nil, actors.NoProcess)
		return nil
	}
	m := &modelWatcher{down: func(reason error) { w.answer(call, nil, asAnswer(reason)) }}
	p.watchers = append(p.watchers, m)
	p.post(msg)
	return m
}

func (k *modelCaller) reply(value string, err error) {
	if !k.at.over {
		k.at.over = true
		k.w.answers = append(k.w.answers, callResult{k.call, answerText(k.call, k.w.clock.Now(), value, err)})
	}
}

func (w *modelWorld) answer(call int, pid *actors.PID, err error) {
	w.answers = append(w.answers, callResult{call, answerText(call, w.clock.Now(), w.name(pid), err)})
}

// canRun returns those whose turn it may be.
func (w *modelWorld) canRun() (ready []*modelProc) {
	for _, p := range w.procs {
		for !p.inside && len(p.inbox) > 0 && p.mute() {
			p.inbox = p.inbox[1:]
		}
		if p.next != nil || !p.inside && len(p.inbox) > 0 {
			ready = append(ready, p)
		}
	}
	return ready
}

func (w *modelWorld) ready() int { return len(w.canRun()) }

func (w *modelWorld) run(i int) {
	p := w.canRun()[i]
	w.linef("turn of %s", p.label)
	if next := p.next; next != nil {
		p.next, p.inside = nil, false
		next()
	} else {
		p.handle()
	}
}

func (w *modelWorld) time() *stepClock { return w.clock }

func (w *modelWorld) planned() *plans { return w.plans }

func (w *modelWorld) fire(t *stepTimer) { w.clock.fire(t) }

func (w *modelWorld) take() []string {
	w.unseen = slices.DeleteFunc(w.unseen, func(p *modelProc) bool {
		if p.dead {
			w.linef("dead %s: %s", p.label, text(p.reason))
		}
		return p.dead
	})
	slices.SortFunc(w.answers, func(a, b callResult) int { return a.call - b.call })
	for _, a := range w.answers {
		w.linef("%s", a.text)
	}
	w.answers = nil
	w.list()
	t := w.trace
	w.trace = nil
	return t
}

func (w *modelWorld) list() {
	busy := false
	for _, p := range w.unseen {
		switch {
		case p.node.sup == nil:
		case p.inside:
			busy = true
		default:
			p.sup.checkIdle()
			w.linef("%s", countsText(p.label, p.sup.m.count(), nil))
		}
	}
	if busy {
		for _, p := range w.unseen {
			if p.node.sup != nil && !p.inside {
				w.linef("children of %s: %v", p.label, nil)
				for _, i := range slices.Backward(p.sup.list()) {
					w.linef("%s", listText(1, p.label, i, w.name(i.PID)))
				}
			}
		}
		return
	}
	switch {
	case w.root == nil, w.root.dead:
		w.linef("no tree: %v", actors.NoProcess)
	default:
		w.linef("tree of %s since %v%s", w.root.node.path, w.root.sup.since.Sub(epoch), w.root.sup.text())
		w.listChildren(w.root, 1)
	}
}

func (w *modelWorld) listChildren(p *modelProc, depth int) {
	for _, i := range p.sup.list() {
		line := listText(depth, p.label, i, w.name(i.PID))
		below := w.byPID[i.PID]
		switch {
		case i.Type != TypeSupervisor || below == nil:
			w.linef("%s", line)
		case below.dead:
			w.linef("%s%s", line, errText(actors.NoProcess))
		default:
			w.linef("%s%s", line, below.sup.text())
			w.listChildren(below, depth+1)
		}
	}
}
