package actortest

import (
	"cmp"
	"math/rand/v2"
	"slices"
	"sync"
	"testing/synctest"

	"github.com/shearpin/shearpin/actors"
)

// Simulation is a dispatcher that runs the processes of a system one at a time, in an order that depends on nothing but a
// seed and the program: with the same seed everything happens again in the same order. It works inside a bubble of
// testing/synctest only, because there it can be told when nobody goes on by himself.
//
// Nothing runs until it is told to: [Simulation.Run] lets the processes run until all are idle or wait, and
// [Simulation.Do] runs a function among them, as a plain goroutine that may start, call and stop processes. Time should come
// from a [Clock], to be advanced between two runs: timers of the bubble that are due at the same moment have no order.
// Processes must not wait for each other by means of their own without telling it: see actors.Context.Resumed.
//
//	synctest.Test(t, func(t *testing.T) {
//		sim := actortest.NewSimulation(seed)
//		clock := actortest.NewClock(time.Unix(0, 0))
//		sys := actors.NewSystem(actors.Options{Dispatcher: sim, Clock: clock})
//		sim.Do(func() { … start, call … })
//		clock.Advance(time.Minute)
//		sim.Run()
//		sim.Do(func() { sys.Close(ctx) })
//	})
type Simulation struct {
	rng *rand.Rand

	mu       sync.Mutex
	runnable []turn
	made     uint64
	steps    int
}

var _ actors.Resumer = (*Simulation)(nil)

// turn is somebody who could run. Those who were scheduled are told apart by the order of it, those who have waited by who
// they are: they come round in an order of their own.
type turn struct {
	waited bool
	key    uint64
	begin  chan struct{}
}

// NewSimulation returns a dispatcher for one system.
func NewSimulation(seed uint64) *Simulation {
	return &Simulation{rng: rand.New(rand.NewPCG(seed, 0))}
}

// Schedule implements actors.Dispatcher.
func (s *Simulation) Schedule(fn func()) {
	s.mu.Lock()
	s.made++
	begin := s.queue(false, s.made)
	s.mu.Unlock()
	go func() {
		<-begin
		fn()
	}()
}

// Throughput implements actors.Dispatcher.
func (s *Simulation) Throughput() int { return 1 << 30 }

// Resume implements actors.Resumer.
func (s *Simulation) Resume(who uint64) {
	s.mu.Lock()
	begin := s.queue(true, who)
	s.mu.Unlock()
	<-begin
}

// queue is called with mu held.
func (s *Simulation) queue(waited bool, key uint64) (begin chan struct{}) {
	begin = make(chan struct{})
	s.runnable = append(s.runnable, turn{waited, key, begin})
	return begin
}

// Run lets everybody run who can, one at a time, until nobody can. It must not be called from within the simulation.
func (s *Simulation) Run() {
	for {
		synctest.Wait() // for the one who runs to end or to wait, and for those whom that has woken up to say so
		next, ok := s.pick()
		if !ok {
			return
		}
		close(next.begin)
	}
}

func (s *Simulation) pick() (turn, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.runnable) == 0 {
		return turn{}, false
	}
	slices.SortFunc(s.runnable, func(a, b turn) int {
		if a.waited != b.waited {
			if a.waited {
				return 1
			}
			return -1
		}
		return cmp.Compare(a.key, b.key)
	})
	i := s.rng.IntN(len(s.runnable))
	next := s.runnable[i]
	s.runnable = slices.Delete(s.runnable, i, i+1)
	s.steps++
	return next, true
}

// Do runs f among the processes, and returns when nobody can run any more; f must have returned by then.
func (s *Simulation) Do(f func()) {
	done := false
	s.Schedule(func() {
		f()
		done = true
	})
	s.Run()
	if !done {
		panic("actortest: a function in a simulation waits for something that does not come")
	}
}

// Steps counts the turns that have been given.
func (s *Simulation) Steps() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.steps
}
