package actortest

import (
	"container/heap"
	"sync"
	"time"

	"github.com/shearpin/shearpin/actors"
)

// Clock is an actors.Clock that stands still until it is told to go on. All methods may be called from any goroutine.
type Clock struct {
	mu     sync.Mutex
	now    time.Time
	timers timers
	made   uint64
}

var _ actors.Clock = (*Clock)(nil)

// NewClock returns a clock that shows now.
func NewClock(now time.Time) *Clock { return &Clock{now: now} }

// Now returns the time the clock shows.
func (c *Clock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

// AfterFunc calls f when the clock has been advanced by d, in the goroutine that advances it. A timer of no or negative
// duration fires with the next Advance.
func (c *Clock) AfterFunc(d time.Duration, f func()) actors.Stopper {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.made++
	t := &timer{clock: c, at: c.now.Add(max(d, 0)), made: c.made, f: f}
	heap.Push(&c.timers, t)
	return t
}

// Advance moves the clock on by d and calls what becomes due, in the order of time, and of AfterFunc where that is equal.
// While a function runs the clock shows the time it was due at; what it sets up within d is called as well.
func (c *Clock) Advance(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	end := c.now.Add(d)
	for len(c.timers) > 0 && !c.timers[0].at.After(end) {
		t := heap.Pop(&c.timers).(*timer)
		c.now = t.at
		c.mu.Unlock()
		t.f()
		c.mu.Lock()
	}
	c.now = end
}

// Pending returns how many timers have neither fired nor been stopped.
func (c *Clock) Pending() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.timers)
}

type timer struct {
	clock *Clock
	at    time.Time
	made  uint64
	f     func()
	index int // in timers, -1 when out of it
}

// Stop implements actors.Stopper.
func (t *timer) Stop() bool {
	t.clock.mu.Lock()
	defer t.clock.mu.Unlock()
	if t.index < 0 {
		return false
	}
	heap.Remove(&t.clock.timers, t.index)
	return true
}

// timers is a heap by time, then by age.
type timers []*timer

func (h timers) Len() int { return len(h) }

func (h timers) Less(i, j int) bool {
	if !h[i].at.Equal(h[j].at) {
		return h[i].at.Before(h[j].at)
	}
	return h[i].made < h[j].made
}

func (h timers) Swap(i, j int) {
	h[i], h[j] = h[j], h[i]
	h[i].index, h[j].index = i, j
}

func (h *timers) Push(x any) {
	t := x.(*timer)
	t.index = len(*h)
	*h = append(*h, t)
}

func (h *timers) Pop() any {
	last := len(*h) - 1
	t := (*h)[last]
	(*h)[last] = nil
	*h = (*h)[:last]
	t.index = -1
	return t
}
