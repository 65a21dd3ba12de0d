package supervisor_test

import (
	"errors"
	"flag"
	"math/rand/v2"
	"runtime"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/shearpin/shearpin/actors"
	"github.com/shearpin/shearpin/actors/actortest"
	"github.com/shearpin/shearpin/supervisor"
)

// A million takes about a minute: go test ./supervisor -run TestCycles -cycles 1000000 -v -timeout 1h.
var cycles = flag.Int("cycles", 3000, "how many crash-and-restart cycles TestCycles runs")

// Named children of a real supervisor are brought down in every way there is, one or several at a time, over and over:
// each death is told once and with the right process, each restart gets the name, and nothing stays behind.
func TestCycles(t *testing.T) {
	for _, strategy := range []supervisor.Strategy{
		supervisor.OneForOne, supervisor.OneForAll, supervisor.RestForOne, supervisor.SimpleOneForOne,
	} {
		t.Run(strategy.String(), func(t *testing.T) {
			goroutines := runtime.NumGoroutine()
			r := newCycleRun(t, strategy)
			total := max(*cycles/4, 100)
			r.until(total / 10)
			before := heapInUse()
			r.until(total)
			after := heapInUse()
			require.Less(t, after, before+2<<20+registryRoom(total), "nothing is kept of a cycle")
			require.Len(t, r.sys.Processes(), len(r.children)+2, "they, their supervisor and the book")
			require.NoError(t, r.sup.Stop(t.Context(), actors.Shutdown))
			actortest.Eventually(t, func() bool { return len(r.sys.Processes()) == 1 && r.sys.Lingering() == 0 })
			for _, c := range r.children {
				require.Nil(t, r.sys.Whereis(c.name))
			}
			exits, failed := r.counts()
			require.GreaterOrEqual(t, exits, total)
			require.Positive(t, failed)
			require.NoError(t, r.sys.Close(t.Context()))
			actortest.Eventually(t, func() bool { return runtime.NumGoroutine() <= goroutines })
			t.Logf("%d exits, %d starts that failed, heap %d KiB, after a tenth %d KiB", exits, failed, after>>10, before>>10)
		})
	}
}

// registryRoom is what Proto.Actor's registry takes for good when that many processes have come and gone: a map in each of
// its 32768 shards, made when the shard is first used.
func registryRoom(processes int) uint64 { return 320 * uint64(min(2*processes, 1<<15)) }

func heapInUse() uint64 {
	runtime.GC()
	runtime.GC() // what had a cleanup or was pooled goes with the second
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}

// cycleRun is a supervisor, its children, and the one who brings them down.
type cycleRun struct {
	t        *testing.T
	sys      *actors.System
	sup      *actors.PID
	book     *actors.PID
	ready    chan []*actors.PID
	children []*cycleChild
	rng      *rand.Rand
}

func newCycleRun(t *testing.T, strategy supervisor.Strategy) *cycleRun {
	t.Helper()
	const children = 4
	r := &cycleRun{
		t: t, sys: actors.NewSystem(actors.Options{}), ready: make(chan []*actors.PID, 1), rng: rand.New(rand.NewPCG(1, uint64(strategy))),
	}
	bus := actors.NewBus[supervisor.Event]()
	var err error
	r.book, err = r.sys.Start(t.Context(), newCycleBook(t, children, r.ready))
	require.NoError(t, err)
	bus.Forward(r.book, nil)
	var specs []supervisor.ChildSpec
	for i := range children {
		c := &cycleChild{name: string(rune('a' + i)), trap: i%2 == 1}
		r.children = append(r.children, c)
		specs = append(specs, supervisor.Worker(c.name, func() actors.Process { return c.fresh() }, actors.WithName(c.name)))
	}
	if strategy == supervisor.SimpleOneForOne {
		specs = []supervisor.ChildSpec{{ID: "template", StartWith: func(c *actors.Context, arg any) (*actors.PID, error) {
			child := arg.(*cycleChild)
			return c.StartLink(child.fresh(), actors.WithName(child.name))
		}}}
	}
	r.sup = start(t, r.sys, supervisor.Spec{
		Strategy: strategy, Intensity: 1 << 30, Period: time.Millisecond, Events: bus, Children: specs,
	})
	if strategy == supervisor.SimpleOneForOne {
		for _, c := range r.children {
			_, err := supervisor.StartChildWith(t.Context(), r.sup, c)
			require.NoError(t, err)
		}
	}
	return r
}

// until runs cycles until so many deaths have been told since the beginning.
func (r *cycleRun) until(total int) {
	for {
		var alive []*actors.PID
		select {
		case alive = <-r.ready:
		case <-time.After(time.Minute):
			tree, err := supervisor.Tree(r.t.Context(), r.sup)
			require.Failf(r.t, "the children do not come back", "%v %v", tree, err)
		}
		if exits, _ := r.counts(); exits >= total {
			r.ready <- alive
			return
		}
		r.rng.Shuffle(len(alive), func(i, j int) { alive[i], alive[j] = alive[j], alive[i] })
		victims := alive[:1+r.rng.IntN(len(alive))]
		if r.rng.IntN(2) == 0 {
			victims = alive[:1]
		}
		for _, c := range r.children {
			if r.rng.IntN(4) == 0 {
				c.failInit.Store(int32(1 + r.rng.IntN(len(endings))))
			}
		}
		for _, pid := range alive {
			require.Same(r.t, pid, r.sys.Whereis(pid.Name()))
		}
		r.book.Cast(victims)
		for _, pid := range victims {
			r.bringDown(pid)
		}
	}
}

func (r *cycleRun) counts() (exits, failed int) {
	n, err := actors.Call[[2]int](r.t.Context(), r.book, nil)
	require.NoError(r.t, err)
	return n[0], n[1]
}

func (r *cycleRun) bringDown(pid *actors.PID) {
	switch way := r.rng.IntN(len(endings) + 4); way {
	case len(endings):
		pid.Kill()
	case len(endings) + 1:
		pid.Exit(errBoom) // a trapping child gets it as a message and ends by itself
	case len(endings) + 2:
		pid.Cast(stuckInCallback{})
		runtime.Gosched()
		pid.Kill()
	case len(endings) + 3:
		// Several at a time want different deaths.
		done := make(chan struct{})
		go func() { defer close(done); pid.Exit(actors.Killed) }()
		pid.Cast(endings[r.rng.IntN(len(endings))])
		pid.Cast(endings[r.rng.IntN(len(endings))])
		<-done
	default:
		pid.Cast(endings[way])
	}
}

// ending is a way in which a callback ends its process.
type ending func(c *actors.Context) error

var endings = []ending{
	func(*actors.Context) error { return errBoom },
	func(*actors.Context) error { panic(errBoom) },
	func(*actors.Context) error { runtime.Goexit(); return nil },
	func(c *actors.Context) error { c.Exit(c.Self(), actors.Killed); return nil },
	func(c *actors.Context) error { c.Exit(c.Self(), errBoom); return errBoom },
	func(c *actors.Context) error {
		// It dies with somebody whom it is linked to.
		_, err := c.StartLink(&actortest.Probe{OnInit: func(c *actors.Context) error {
			c.Self().Send(actortest.Func(func(*actors.Context) error { return errBoom }))
			return nil
		}})
		return err
	},
}

// stuckInCallback makes a child wait for its own death.
type stuckInCallback struct{}

// cycleChild is what the incarnations of a child have in common.
type cycleChild struct {
	name     string
	trap     bool
	failInit atomic.Int32 // how the next Init ends, less one
}

func (c *cycleChild) fresh() actors.Process { return &cycleProcess{child: c} }

type cycleProcess struct {
	actors.Base
	child *cycleChild
}

func (p *cycleProcess) Init(c *actors.Context) error {
	if way := p.child.failInit.Swap(0); way > 0 {
		if err := endings[way-1](c); err != nil {
			return err
		}
		return errBoom // it is about to die of another's death
	}
	if p.child.trap {
		c.TrapExits()
	}
	return nil
}

func (p *cycleProcess) HandleCast(c *actors.Context, msg any) error {
	if _, ok := msg.(stuckInCallback); ok {
		<-c.Ctx().Done()
		return errBoom
	}
	return msg.(ending)(c)
}

func (*cycleProcess) HandleInfo(_ *actors.Context, msg any) error { return msg.(actors.Exit).Reason }

func (p *cycleProcess) Terminate(*actors.Context, error) {
	if p.child.trap {
		panic(errBoom)
	}
}

// cycleBook keeps the book of the children: it is told what the supervisor tells, says when all are up again, and finds
// fault with a story that cannot be true.
type cycleBook struct {
	actors.Base
	t           *testing.T
	children    int
	ready       chan<- []*actors.PID
	running     map[string]*actors.PID
	incarnation map[string]int
	victims     map[*actors.PID]bool // brought down, and not yet told dead
	told        bool                 // that all are up, and nobody has been brought down since
	exits       int
	failed      int
}

func newCycleBook(t *testing.T, children int, ready chan<- []*actors.PID) *cycleBook {
	t.Helper()
	return &cycleBook{
		t: t, children: children, ready: ready,
		running: map[string]*actors.PID{}, incarnation: map[string]int{}, victims: map[*actors.PID]bool{},
	}
}

func (b *cycleBook) HandleCall(_ *actors.Context, from actors.From, _ any) error {
	from.Reply([2]int{b.exits, b.failed})
	return nil
}

func (b *cycleBook) HandleCast(_ *actors.Context, msg any) error {
	for _, pid := range msg.([]*actors.PID) {
		b.victims[pid] = true
	}
	b.told = false
	return nil
}

func (b *cycleBook) HandleInfo(_ *actors.Context, msg any) error {
	e := msg.(supervisor.Event)
	for _, fault := range b.enter(e) {
		assert.Fail(b.t, fault, "%v of %s/%d: %v", e.Kind, e.ID, e.Incarnation, e.Reason)
	}
	if len(b.running) == b.children && len(b.victims) == 0 && !b.told {
		b.told = true
		var alive []*actors.PID
		for _, pid := range b.running {
			alive = append(alive, pid)
		}
		b.ready <- alive
	}
	return nil
}

// enter takes an event into the book and returns what is wrong with it.
func (b *cycleBook) enter(e supervisor.Event) (faults []string) {
	must := func(ok bool, fault string) {
		if !ok {
			faults = append(faults, fault)
		}
	}
	if e.PID.Name() != "" {
		e.ID = e.PID.Name() // dynamic children have that of their template
	}
	running := b.running[e.ID]
	switch e.Kind {
	case supervisor.ChildStarted:
		must(running == nil, "started while it was running")
		must(e.PID != nil, "started without a process")
		must(e.Incarnation == b.incarnation[e.ID]+1, "an incarnation was left out")
		b.running[e.ID], b.incarnation[e.ID] = e.PID, e.Incarnation
	case supervisor.ChildExited:
		must(running != nil && running == e.PID, "the exit of somebody else")
		must(!e.PID.Alive(), "the exit of a living process")
		must(e.Reason != nil && errors.Is(e.Reason, e.PID.Reason()), "not the reason")
		must(e.Incarnation == b.incarnation[e.ID], "the exit of another incarnation")
		delete(b.running, e.ID)
		delete(b.victims, e.PID)
		b.exits++
	case supervisor.ChildStartFailed:
		must(running == nil, "failed to start while it was running")
		must(!errors.As(e.Reason, new(*actors.AlreadyStartedError)), "the name was not free")
		b.failed++
	case supervisor.ChildRestarting:
		must(running == nil, "restarted while it was running")
	default:
		must(false, "unexpected event")
	}
	return faults
}

// The book finds the faults that TestCycles is about.
func TestCycleBookFindsFaults(t *testing.T) {
	sys := newSystem(t)
	alive := probeProcess(t, sys)
	first, second := probeProcess(t, sys), probeProcess(t, sys)
	first.Kill()
	second.Exit(errBoom)
	event := func(kind supervisor.EventKind, pid *actors.PID, incarnation int, reason error) supervisor.Event {
		return supervisor.Event{Kind: kind, ID: "a", PID: pid, Incarnation: incarnation, Reason: reason}
	}
	started, exited, failed := supervisor.ChildStarted, supervisor.ChildExited, supervisor.ChildStartFailed
	clash := &supervisor.StartError{Err: &actors.AlreadyStartedError{Name: "a"}}
	for _, c := range []struct {
		fault string
		story []supervisor.Event
	}{
		{"", []supervisor.Event{
			event(started, first, 1, nil), event(exited, first, 1, actors.Killed), event(supervisor.ChildRestarting, nil, 1, errBoom),
			event(failed, nil, 1, errBoom), event(started, second, 2, nil), event(exited, second, 2, errBoom),
		}},
		{"started while it was running", []supervisor.Event{event(started, first, 1, nil), event(started, second, 2, nil)}},
		{"an incarnation was left out", []supervisor.Event{event(started, first, 1, nil), event(exited, first, 1, actors.Killed), event(started, second, 3, nil)}},
		{"the exit of somebody else", []supervisor.Event{event(started, first, 1, nil), event(exited, second, 1, errBoom)}},
		{"the exit of somebody else", []supervisor.Event{
			event(started, first, 1, nil), event(exited, first, 1, actors.Killed), event(exited, first, 1, actors.Killed),
		}},
		{"the exit of a living process", []supervisor.Event{event(started, alive, 1, nil), event(exited, alive, 1, errBoom)}},
		{"not the reason", []supervisor.Event{event(started, first, 1, nil), event(exited, first, 1, actors.NoProcess)}},
		{"the name was not free", []supervisor.Event{event(failed, nil, 0, clash)}},
		{"unexpected event", []supervisor.Event{event(supervisor.GaveUp, nil, 0, nil)}},
	} {
		b := newCycleBook(t, 1, nil)
		var faults []string
		for _, e := range c.story {
			require.Empty(t, faults, "only the last event is wrong")
			faults = b.enter(e)
		}
		if c.fault == "" {
			require.Empty(t, faults)
		} else {
			require.Contains(t, faults, c.fault)
		}
	}
}

func probeProcess(t *testing.T, sys *actors.System) *actors.PID {
	t.Helper()
	return actortest.NewProbe().Start(t, sys)
}
