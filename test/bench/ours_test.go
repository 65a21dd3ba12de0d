package bench

import (
	"context"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/shearpin/shearpin/actors"
	"github.com/shearpin/shearpin/supervisor"
)

// oursWorld is actors and supervisor with their defaults.
type oursWorld struct{ sys *actors.System }

func openOurs() world { return &oursWorld{actors.NewSystem(actors.Options{})} }

func (w *oursWorld) close() int {
	left := len(w.sys.Processes())
	must(w.sys.Close(context.Background()))
	return left
}

func (w *oursWorld) start(p actors.Process) *actors.PID {
	pid, err := w.sys.Start(context.Background(), p)
	must(err)
	return pid
}

// server counts ticks and answers pings.
type server struct {
	actors.Base
	n int
}

func (s *server) HandleCast(*actors.Context, any) error {
	s.n++
	return nil
}

func (s *server) HandleCall(_ *actors.Context, from actors.From, msg any) error {
	switch msg.(type) {
	case ping:
		from.Reply(aPong)
	case total:
		from.Reply(s.n)
	}
	return nil
}

func (w *oursWorld) cast(senders, n int) int {
	pid := w.start(&server{})
	defer w.stop(pid)
	if senders == 1 {
		for range n {
			pid.Cast(aTick)
		}
	} else {
		var wg sync.WaitGroup
		for i := range senders {
			wg.Go(func() {
				for range share(n, senders, i) {
					pid.Cast(aTick)
				}
			})
		}
		wg.Wait()
	}
	counted, err := actors.Call[int](context.Background(), pid, aTotal)
	must(err)
	return counted
}

// within is a process that runs what it is called with.
type within struct{ actors.Base }

func (within) HandleCall(c *actors.Context, from actors.From, msg any) error {
	from.Reply(msg.(func(c *actors.Context) int)(c))
	return nil
}

func (w *oursWorld) within(do func(c *actors.Context) int) int {
	pid := w.start(within{})
	defer w.stop(pid)
	n, err := actors.Call[int](context.Background(), pid, do)
	must(err)
	return n
}

func (w *oursWorld) castWithin(n int) int {
	pid := w.start(&server{})
	defer w.stop(pid)
	return w.within(func(c *actors.Context) int {
		for range n {
			c.Cast(pid, aTick)
		}
		counted, err := c.Call(context.Background(), pid, aTotal)
		must(err)
		return counted.(int)
	})
}

func (w *oursWorld) call(bound time.Duration, n int, sw *stopwatch) (answered int) {
	pid := w.start(&server{})
	defer w.stop(pid)
	sw.start()
	for range n {
		ctx, cancel := context.Background(), func() {}
		if bound > 0 {
			ctx, cancel = context.WithTimeout(ctx, bound)
		}
		if v, err := pid.Call(ctx, aPing); err == nil && v == aPong {
			answered++
		}
		cancel()
		sw.lap()
	}
	return answered
}

func (w *oursWorld) callWithin(n int, sw *stopwatch) int {
	pid := w.start(&server{})
	defer w.stop(pid)
	return w.within(func(c *actors.Context) (answered int) {
		sw.start()
		for range n {
			if v, err := c.Call(context.Background(), pid, aPing); err == nil && v == aPong {
				answered++
			}
			sw.lap()
		}
		return answered
	})
}

func (w *oursWorld) stop(pid *actors.PID) bool {
	return pid.Stop(context.Background(), actors.Normal) == nil && !pid.Alive()
}

func (w *oursWorld) spawn(n int, sw *stopwatch) (dead int) {
	sw.start()
	for range n {
		if w.stop(w.start(&server{})) {
			dead++
		}
		sw.lap()
	}
	return dead
}

// An exit signal is obeyed at once by a process that does not trap it, so there is nothing to wait for.
func (w *oursWorld) spawnUnseen(n int) (dead int) {
	for range n {
		pid := w.start(&server{})
		pid.Exit(actors.Shutdown)
		if !pid.Alive() {
			dead++
		}
	}
	return dead
}

// fragile panics when it is told to, and says when it is there.
type fragile struct {
	actors.Base
	watch *stopwatch
	up    chan<- *actors.PID
}

func (f *fragile) Init(c *actors.Context) error {
	f.watch.lap()
	f.up <- c.Self()
	return nil
}

func (*fragile) HandleCast(_ *actors.Context, msg any) error { panic(msg) }

func (w *oursWorld) crash(period time.Duration, n int, sw *stopwatch) (restarted int) {
	up := make(chan *actors.PID, 1)
	sup := w.start(supervisor.New(supervisor.Spec{
		Intensity: manyRestarts,
		Period:    period,
		Children: []supervisor.ChildSpec{
			supervisor.Worker("fragile", func() actors.Process { return &fragile{watch: sw, up: up} }),
		},
	}))
	defer w.stop(sup)
	pid := <-up
	sw.reset()
	for range n {
		sw.start()
		pid.Cast(aBoom)
		next := <-up
		if next != pid && !pid.Alive() {
			restarted++
		}
		pid = next
	}
	return restarted
}

func (w *oursWorld) idle(n int) (stop func() int) {
	pids := make([]*actors.PID, n)
	for i := range pids {
		pids[i] = w.start(&server{})
	}
	return func() (stopped int) {
		for _, pid := range pids {
			if w.stop(pid) {
				stopped++
			}
		}
		return stopped
	}
}

// member is a child that is counted.
type member struct {
	actors.Base
	started *atomic.Int64
}

func (m *member) Init(*actors.Context) error {
	m.started.Add(1)
	return nil
}

func (w *oursWorld) family(n int) (int, func() int) {
	var started atomic.Int64
	fresh := func() actors.Process { return &member{started: &started} }
	children := make([]supervisor.ChildSpec, n)
	for i := range children {
		children[i] = supervisor.Worker(strconv.Itoa(i), fresh)
	}
	sup := w.start(supervisor.New(supervisor.Spec{Children: children}))
	return int(started.Load()), func() int {
		must(sup.Stop(context.Background(), actors.Shutdown))
		return n - len(w.sys.Processes())
	}
}
