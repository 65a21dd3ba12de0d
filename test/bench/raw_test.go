package bench

import (
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/asynkron/protoactor-go/actor"
)

// rawWorld is Proto.Actor by itself.
type rawWorld struct {
	sys  *actor.ActorSystem
	root *actor.RootContext
	left atomic.Int64 // actors that have handled Started and not Stopped
}

func openRaw() world {
	silent := slog.New(slog.DiscardHandler)
	sys := actor.NewActorSystem(actor.WithLoggerFactory(func(*actor.ActorSystem) *slog.Logger { return silent }))
	return &rawWorld{sys: sys, root: sys.Root}
}

func (w *rawWorld) close() int {
	w.sys.Shutdown()
	return int(w.left.Load())
}

// rawServer is server.
type rawServer struct {
	w *rawWorld
	n int
}

func (s *rawServer) Receive(c actor.Context) {
	switch c.Message().(type) {
	case tick:
		s.n++
	case ping:
		c.Respond(aPong)
	case total:
		c.Respond(s.n)
	default:
		s.w.census(c)
	}
}

// census counts the living.
func (w *rawWorld) census(c actor.Context) {
	switch c.Message().(type) {
	case *actor.Started:
		w.left.Add(1)
	case *actor.Stopped:
		w.left.Add(-1)
	}
}

func (w *rawWorld) server() *actor.Props {
	return actor.PropsFromProducer(func() actor.Actor { return &rawServer{w: w} })
}

// forever is the timeout of a future without one.
const forever = -1

// ask is a request of an actor, or of nobody, without bound.
func ask(c interface {
	RequestFuture(pid *actor.PID, msg any, timeout time.Duration) *actor.Future
}, pid *actor.PID, msg any,
) any {
	v, err := c.RequestFuture(pid, msg, forever).Result()
	must(err)
	return v
}

func (w *rawWorld) cast(senders, n int) int {
	pid := w.root.Spawn(w.server())
	defer w.stop(pid)
	if senders == 1 {
		for range n {
			w.root.Send(pid, aTick)
		}
	} else {
		var wg sync.WaitGroup
		for i := range senders {
			// A PID keeps the process it has found; goroutines must not share it.
			pid := actor.NewPID(pid.Address, pid.Id)
			wg.Go(func() {
				for range share(n, senders, i) {
					w.root.Send(pid, aTick)
				}
			})
		}
		wg.Wait()
	}
	return ask(w.root, pid, aTotal).(int)
}

// within runs do in an actor.
func (w *rawWorld) within(do func(c actor.Context) int) int {
	pid := w.root.Spawn(actor.PropsFromFunc(func(c actor.Context) {
		if _, ok := c.Message().(ping); ok {
			c.Respond(do(c))
		}
		w.census(c)
	}))
	defer w.stop(pid)
	return ask(w.root, pid, aPing).(int)
}

func (w *rawWorld) castWithin(n int) int {
	pid := w.root.Spawn(w.server())
	defer w.stop(pid)
	return w.within(func(c actor.Context) int {
		for range n {
			c.Send(pid, aTick)
		}
		return ask(c, pid, aTotal).(int)
	})
}

func (w *rawWorld) call(bound time.Duration, n int, sw *stopwatch) (answered int) {
	pid := w.root.Spawn(w.server())
	defer w.stop(pid)
	if bound == 0 {
		bound = forever
	}
	sw.start()
	for range n {
		if v, err := w.root.RequestFuture(pid, aPing, bound).Result(); err == nil && v == aPong {
			answered++
		}
		sw.lap()
	}
	return answered
}

func (w *rawWorld) callWithin(n int, sw *stopwatch) int {
	pid := w.root.Spawn(w.server())
	defer w.stop(pid)
	return w.within(func(c actor.Context) (answered int) {
		sw.start()
		for range n {
			if v, err := c.RequestFuture(pid, aPing, forever).Result(); err == nil && v == aPong {
				answered++
			}
			sw.lap()
		}
		return answered
	})
}

func (w *rawWorld) stop(pid *actor.PID) bool { return w.root.StopFuture(pid).Wait() == nil }

func (w *rawWorld) spawn(n int, sw *stopwatch) (dead int) {
	props := w.server()
	sw.start()
	for range n {
		if w.stop(w.root.Spawn(props)) {
			dead++
		}
		sw.lap()
	}
	return dead
}

func (w *rawWorld) spawnUnseen(n int) int {
	var ended sync.WaitGroup
	ended.Add(n)
	props := actor.PropsFromProducer(func() actor.Actor { return &rawMember{w: w, ended: &ended} })
	for range n {
		w.root.Stop(w.root.Spawn(props))
	}
	ended.Wait()
	return n - int(w.left.Load())
}

// rawFragile is fragile.
type rawFragile struct {
	watch *stopwatch
	up    chan<- *rawFragile
}

func (f *rawFragile) Receive(c actor.Context) {
	switch msg := c.Message().(type) {
	case *actor.Started:
		f.watch.lap()
		f.up <- f
	case boom:
		panic(msg)
	}
}

func (w *rawWorld) crash(period time.Duration, n int, sw *stopwatch) (restarted int) {
	up := make(chan *rawFragile, 1)
	child := actor.PropsFromProducer(func() actor.Actor { return &rawFragile{watch: sw, up: up} })
	pids := make(chan *actor.PID, 1)
	oneForOne := actor.NewOneForOneStrategy(manyRestarts, period, actor.DefaultDecider)
	parent := w.root.Spawn(actor.PropsFromFunc(func(c actor.Context) {
		if _, ok := c.Message().(*actor.Started); ok {
			pids <- c.Spawn(child)
		}
	}, actor.WithSupervisor(oneForOne)))
	defer w.stop(parent)
	pid, last := <-pids, <-up
	sw.reset()
	for range n {
		sw.start()
		w.root.Send(pid, aBoom)
		next := <-up
		if next != last {
			restarted++
		}
		last = next
	}
	return restarted
}

// rawMember is an actor that says when it has started and, if anybody wants to know, when it has ended.
type rawMember struct {
	w              *rawWorld
	started, ended *sync.WaitGroup
}

func (m *rawMember) Receive(c actor.Context) {
	m.w.census(c)
	switch c.Message().(type) {
	case *actor.Started:
		if m.started != nil {
			m.started.Done()
		}
	case *actor.Stopped:
		if m.ended != nil {
			m.ended.Done()
		}
	}
}

func (w *rawWorld) idle(n int) (stop func() int) {
	var started sync.WaitGroup
	started.Add(n)
	props := actor.PropsFromProducer(func() actor.Actor { return &rawMember{w: w, started: &started} })
	pids := make([]*actor.PID, n)
	for i := range pids {
		pids[i] = w.root.Spawn(props)
	}
	started.Wait()
	return func() (stopped int) {
		for _, pid := range pids {
			if w.stop(pid) {
				stopped++
			}
		}
		return stopped
	}
}

func (w *rawWorld) family(n int) (int, func() int) {
	var started sync.WaitGroup
	started.Add(n)
	child := actor.PropsFromProducer(func() actor.Actor { return &rawMember{w: w, started: &started} })
	parent := w.root.Spawn(actor.PropsFromFunc(func(c actor.Context) {
		if _, ok := c.Message().(*actor.Started); ok {
			for range n {
				c.Spawn(child)
			}
		}
	}))
	started.Wait()
	return int(w.left.Load()), func() int {
		w.stop(parent)
		return n - int(w.left.Load())
	}
}
