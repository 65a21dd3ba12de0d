package supervisor

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing/synctest"
	"time"

	"github.com/shearpin/shearpin/actors"
)

// realWorld tells a story to real supervisors and processes, in a testing/synctest bubble.
//
// Processes run when they are told to. Every callback, those of supervisors included, waits for its turn before it
// begins, and so does a supervisor that goes on after a start; the story gives out the turns when everybody waits. So the
// order in which things happen is that of the story, and it can be any order that is possible.
type realWorld struct {
	*house
	plans *plans
	root  *actors.PID

	mu      sync.Mutex
	trace   []string
	waiting []*realProc // for their turn
	unseen  []*realProc // those whose death is not in the trace, in the order of their start
	procs   []*realProc // all there have been, in the order of their start
	byLabel map[string]*realProc
	byPID   map[*actors.PID]*realProc
	answers []callResult
}

// callResult is what a call came back with.
type callResult struct {
	call int
	text string
}

// realProc is a process.
type realProc struct {
	serial int
	label  string
	node   *node
	parent *realProc
	b      behaviour
	pid    *actors.PID
	turn   chan struct{}
	inside bool  // a callback runs or waits in the middle
	ending error // what a worker that takes its time ends with
}

// house is where one realWorld after the other is: a system costs more than a story.
type house struct {
	sys   *actors.System
	clock *stepClock
	tap   *actors.PID // has lived here all the time, for Bus.Forward
}

func newHouse() *house {
	h := &house{clock: newStepClock()}
	h.sys = actors.NewSystem(actors.Options{Clock: h.clock})
	h.tap, _ = h.sys.Start(context.Background(), actors.Base{})
	return h
}

func newRealWorld(h *house) *realWorld {
	h.clock.set(epoch)
	return &realWorld{
		house: h, plans: newPlans(), byLabel: map[string]*realProc{}, byPID: map[*actors.PID]*realProc{},
	}
}

func (w *realWorld) linef(format string, args ...any) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.trace = append(w.trace, fmt.Sprintf(format, args...))
}

// name is a process as it stands in the trace.
func (w *realWorld) name(pid *actors.PID) string {
	w.mu.Lock()
	defer w.mu.Unlock()
	if p := w.byPID[pid]; p != nil {
		return p.label
	}
	if pid != nil {
		return "stranger"
	}
	return "-"
}

// await lets p wait for its turn; false means that it died meanwhile.
func (w *realWorld) await(c *actors.Context, p *realProc) bool {
	w.mu.Lock()
	w.waiting = append(w.waiting, p)
	w.mu.Unlock()
	select {
	case <-p.turn:
		return true
	case <-c.Ctx().Done():
		w.mu.Lock()
		defer w.mu.Unlock()
		w.waiting = slices.DeleteFunc(w.waiting, func(q *realProc) bool { return p == q })
		return false
	}
}

// sleep lets time pass in a callback, and then waits for p's turn to go on.
func (w *realWorld) sleep(c *actors.Context, p *realProc, d time.Duration) bool {
	over := make(chan struct{})
	defer c.Clock().AfterFunc(d, func() { close(over) }).Stop()
	select {
	case <-over:
		return w.await(c, p)
	case <-c.Ctx().Done():
		return false
	}
}

// start is a startFor.
func (w *realWorld) start(n *node) func(c *actors.Context) (*actors.PID, error) {
	return func(c *actors.Context) (*actors.PID, error) {
		if !c.Self().Alive() {
			return nil, errStartAlone // killed in the middle of a restart
		}
		w.mu.Lock()
		parent := w.byPID[c.Self()]
		w.mu.Unlock()
		p, impl, opts, err := w.proc(n, parent)
		if impl == nil {
			return w.wrong(p, parent), err
		}
		pid, err := c.StartLink(&guard{w, p, impl}, opts...)
		if !w.await(c, parent) {
			return nil, errStartAlone
		}
		if err == nil && p.b.start == funcBoth {
			err = errFunc
		}
		return pid, err
	}
}

// wrong is the process that a start function returns which has started none.
func (w *realWorld) wrong(p, parent *realProc) *actors.PID {
	switch p.b.start {
	case funcOwn:
		return parent.pid
	case funcOther:
		for _, other := range w.unseen {
			if other.parent == parent && other.pid.Alive() {
				return other.pid
			}
		}
	}
	return nil
}

// proc makes the next process of n. Without an implementation, the start function starts nothing.
func (w *realWorld) proc(n *node, parent *realProc) (*realProc, actors.Process, []actors.StartOption, error) {
	w.mu.Lock()
	serial, label, b := w.plans.next(n)
	w.mu.Unlock()
	w.linef("start %s: %v", label, b)
	p := &realProc{serial: serial, label: label, node: n, parent: parent, b: b, turn: make(chan struct{})}
	switch b.start {
	case funcFails:
		return p, nil, nil, errFunc
	case funcIgnores:
		return p, nil, nil, actors.ErrIgnore
	case funcPanics:
		panic(funcPanicText)
	case funcTaken:
		return p, nil, nil, &actors.AlreadyStartedError{Name: n.path}
	case funcNil, funcOwn, funcOther:
		return p, nil, nil, nil
	}
	opts := []actors.StartOption{actors.WithInitTimeout(b.initLimit)}
	if n.named {
		opts = append(opts, actors.WithName(n.path))
	}
	if n.sup == nil {
		return p, &realWorker{w: w, p: p}, opts, nil
	}
	spec := n.supSpec(w.start)
	spec.Events = actors.NewBus[Event]()
	spec.Events.Forward(w.tap, func(e Event) any {
		if !p.pid.Alive() {
			w.linef("broken: %s is dead", p.label)
		}
		w.linef("%s", eventText(p.label, e, w.name(e.PID)))
		return nil
	})
	impl := NewFunc(func(*actors.Context) (Spec, error) { return spec, outcome(b) })
	return p, impl, []actors.StartOption{actors.WithInitTimeout(actors.NoInitTimeout)}, nil
}

// guard lets a process wait for its turn before every callback. Listings are for the test and wait for nothing.
type guard struct {
	w    *realWorld
	p    *realProc
	impl actors.Process
}

func (g *guard) inside(c *actors.Context, callback func() error) error {
	g.p.inside = true
	if !g.w.await(c, g.p) {
		return errStartAlone
	}
	err := callback()
	g.p.inside = false
	return err
}

func (g *guard) Init(c *actors.Context) error {
	g.w.mu.Lock()
	g.p.pid = c.Self()
	g.w.procs = append(g.w.procs, g.p)
	g.w.unseen = append(g.w.unseen, g.p)
	g.w.byLabel[g.p.label] = g.p
	g.w.byPID[g.p.pid] = g.p
	g.w.mu.Unlock()
	return g.inside(c, func() error { return g.impl.Init(c) })
}

func (g *guard) HandleCall(c *actors.Context, from actors.From, msg any) error {
	switch msg.(type) {
	case listRequest, countRequest:
		return g.impl.HandleCall(c, from, msg)
	}
	return g.inside(c, func() error { return g.impl.HandleCall(c, from, msg) })
}

func (g *guard) HandleCast(c *actors.Context, msg any) error {
	return g.inside(c, func() error { return g.impl.HandleCast(c, msg) })
}

func (g *guard) HandleInfo(c *actors.Context, msg any) error {
	return g.inside(c, func() error { return g.impl.HandleInfo(c, msg) })
}

func (g *guard) HandleStop(c *actors.Context, reason error) error {
	return g.inside(c, func() error { return g.impl.(actors.Drainer).HandleStop(c, reason) })
}

func (g *guard) Terminate(c *actors.Context, reason error) { g.impl.Terminate(c, reason) }

// realWorker does what its behaviour says, and what it is told.
type realWorker struct {
	actors.Base
	w *realWorld
	p *realProc
}

// What a worker is told.
type (
	dieNow    struct{ reason error }
	unlinkNow struct{}
	signalNow struct{ reason error }
	timeIsUp  struct{}
)

func (r *realWorker) Init(c *actors.Context) error {
	b := r.p.b
	if b.trap {
		c.TrapExits()
	}
	if b.initDelay > 0 && !r.w.sleep(c, r.p, b.initDelay) {
		return errStartAlone
	}
	if b.instant != nil {
		c.Send(c.Self(), dieNow{b.instant})
	}
	return outcome(b)
}

// outcome is that of an Init.
func outcome(b behaviour) error {
	switch b.start {
	case initFails:
		return errInit
	case initIgnores:
		return actors.ErrIgnore
	case initPanics:
		panic(initPanicText)
	}
	return nil
}

func (r *realWorker) HandleInfo(c *actors.Context, msg any) error {
	switch msg := msg.(type) {
	case dieNow:
		if errors.Is(msg.reason, errPanics) {
			panic(panicText)
		}
		return msg.reason
	case unlinkNow:
		c.Unlink(r.p.parent.pid)
	case signalNow:
		c.Exit(r.p.parent.pid, msg.reason)
	case timeIsUp:
		return r.p.ending
	}
	return nil
}

func (r *realWorker) HandleStop(c *actors.Context, reason error) error {
	switch r.p.b.stop {
	case stopComply:
		return reason
	case stopOther:
		return errOther
	case stopLate:
		if r.p.ending == nil {
			r.p.ending = reason
			c.SendAfter(r.p.b.stopDelay, timeIsUp{})
		}
	case stopStuck:
		r.w.sleep(c, r.p, r.p.b.stopDelay)
		return reason
	}
	return nil
}

// do lets o happen. Nobody has run because of it when it returns, except those whom an exit signal ended.
func (w *realWorld) do(o op) {
	w.mu.Lock()
	target, child := w.byLabel[o.target], w.byLabel[o.child]
	w.mu.Unlock()
	ctx := context.Background()
	switch o.kind {
	case opBoot:
		go func() {
			p, impl, opts, err := w.proc(o.node, nil)
			if impl != nil {
				w.root, err = w.sys.Start(ctx, &guard{w, p, impl}, opts...)
			}
			w.answer(o.call, w.root, err)
		}()
	case opDie:
		target.pid.Send(dieNow{o.reason})
	case opExit:
		target.pid.Exit(o.reason)
	case opKill:
		target.pid.Kill()
	case opStop:
		go func() { w.answer(o.call, nil, target.pid.Stop(ctx, o.reason)) }()
	case opUnlink:
		target.pid.Send(unlinkNow{})
	case opSignal:
		target.pid.Send(signalNow{o.reason})
	case opStart:
		go func() {
			pid, err := StartChild(ctx, target.pid, o.node.spec(w.start))
			w.answer(o.call, pid, err)
		}()
	case opFaulty:
		go func() {
			pid, err := StartChild(ctx, target.pid, o.node.child)
			w.answer(o.call, pid, err)
		}()
	case opStartWith:
		go func() {
			pid, err := StartChildWith(ctx, target.pid, o.id)
			w.answer(o.call, pid, err)
		}()
	case opTerm:
		go func() { w.answer(o.call, nil, TerminateChild(ctx, target.pid, o.id)) }()
	case opTermPID:
		go func() { w.answer(o.call, nil, TerminateChild(ctx, target.pid, child.pid)) }()
	case opWhich:
		go func() {
			info, err := WhichChild(ctx, target.pid, o.id)
			w.inform(o.call, infoText(info, w.name(info.PID)), err)
		}()
	case opWhichPID:
		go func() {
			info, err := WhichChild(ctx, target.pid, child.pid)
			w.inform(o.call, infoText(info, w.name(info.PID)), err)
		}()
	case opSpec:
		go func() {
			spec, err := GetChildSpec(ctx, target.pid, o.id)
			w.inform(o.call, specText(spec), err)
		}()
	case opSpecPID:
		go func() {
			spec, err := GetChildSpec(ctx, target.pid, child.pid)
			w.inform(o.call, specText(spec), err)
		}()
	case opRestart:
		go func() {
			pid, err := RestartChild(ctx, target.pid, o.id)
			w.answer(o.call, pid, err)
		}()
	case opDelete:
		go func() { w.answer(o.call, nil, DeleteChild(ctx, target.pid, o.id)) }()
	}
	synctest.Wait()
}

func (w *realWorld) answer(call int, pid *actors.PID, err error) {
	w.inform(call, w.name(pid), err)
}

// inform is the answer to a question.
func (w *realWorld) inform(call int, value string, err error) {
	if err != nil {
		value = "-"
	}
	t := answerText(call, w.clock.Now(), value, err)
	w.mu.Lock()
	defer w.mu.Unlock()
	w.answers = append(w.answers, callResult{call, t})
}

// ready returns how many wait for their turn.
func (w *realWorld) ready() int {
	slices.SortFunc(w.waiting, func(a, b *realProc) int { return a.serial - b.serial })
	return len(w.waiting)
}

// run gives the turn to one of those that ready counted.
func (w *realWorld) run(i int) {
	p := w.waiting[i]
	w.waiting = slices.Delete(w.waiting, i, i+1)
	w.linef("turn of %s", p.label)
	p.turn <- struct{}{}
	synctest.Wait()
}

// childrenOf names the processes that are or were children of a process.
func (w *realWorld) childrenOf(label string) (labels []string) {
	for _, p := range w.procs {
		if p.parent != nil && p.parent.label == label {
			labels = append(labels, p.label)
		}
	}
	return labels
}

func (w *realWorld) time() *stepClock { return w.clock }

func (w *realWorld) planned() *plans { return w.plans }

// fire lets the next timer fire.
func (w *realWorld) fire(t *stepTimer) {
	w.clock.fire(t)
	synctest.Wait()
}

// take returns the trace since the last take: what happened, and then who died, who was answered, and what can be listed.
// It is to be called at rest.
func (w *realWorld) take() []string {
	w.unseen = slices.DeleteFunc(w.unseen, func(p *realProc) bool {
		if p.pid.Alive() {
			return false
		}
		w.linef("dead %s: %s", p.label, text(p.pid.Reason()))
		return true
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

// list puts into the trace what the supervisors say of themselves. Those in the middle of a start say nothing.
func (w *realWorld) list() {
	if n := w.sys.Lingering(); n > 0 {
		w.linef("%d callbacks are lingering", n)
	}
	ctx := context.Background()
	busy := false
	var children []string
	for _, p := range w.unseen {
		if p.node.sup == nil {
			continue
		}
		if p.inside {
			busy = true
			continue
		}
		n, err := CountChildren(ctx, p.pid)
		w.linef("%s", countsText(p.label, n, err))
		infos, err := WhichChildren(ctx, p.pid)
		children = append(children, fmt.Sprintf("children of %s: %v", p.label, err))
		active := 0
		for _, i := range infos {
			children = append(children, listText(1, p.label, i, w.name(i.PID)))
			if i.PID != nil {
				active++
			}
		}
		if n.Active != active || n.Supervisors+n.Workers != len(infos) {
			w.linef("broken: %s counts %v but lists %d of %d", p.label, n, active, len(infos))
		}
	}
	if busy {
		w.trace = append(w.trace, children...)
		return
	}
	tree, err := Tree(ctx, w.root)
	if err != nil {
		w.linef("no tree: %v", err)
		return
	}
	w.linef("tree of %s since %v%s", tree.ID, tree.Since.Sub(epoch), supText(*tree.Supervisor))
	w.listNodes(tree, 1)
}

func (w *realWorld) listNodes(sup Node, depth int) {
	for _, n := range sup.Children {
		w.linef("%s%s%s", listText(depth, w.name(sup.PID), n.ChildInfo, w.name(n.PID)), nodeText(n.Supervisor), errText(n.Err))
		w.listNodes(n, depth+1)
	}
}

func nodeText(i *SupervisorInfo) string {
	if i == nil {
		return ""
	}
	return supText(*i)
}

func errText(err error) string {
	if err == nil {
		return ""
	}
	return " unknown: " + err.Error()
}

// end kills everybody who is left. Nothing is left of them then.
func (w *realWorld) end() error {
	for _, p := range w.sys.Processes() {
		if p != w.tap {
			p.Kill()
		}
	}
	synctest.Wait()
	if n, timers := w.sys.Lingering(), w.clock.due(); n > 0 || timers != nil || len(w.sys.Processes()) > 1 {
		return fmt.Errorf("%d callbacks, timer %v and %v are left", n, timers, w.sys.Processes())
	}
	return nil
}
