package workers

import (
	"context"
	"sync/atomic"
	"testing"
	"time"

	"github.com/shearpin/shearpin/actors"
)

// Ignore is the Outcome of a worker that is never needed.
func Ignore(*actors.Context) error { return actors.ErrIgnore }

// Fail is the Outcome of a worker that can never start.
func Fail(*actors.Context) error { return ErrStart }

// Sequence returns an Outcome that gives each start, in turn, one of errs; the last one is that of all starts that follow.
func Sequence(errs ...error) func(*actors.Context) error {
	var starts atomic.Int64
	return func(*actors.Context) error {
		n := min(int(starts.Add(1)), len(errs))
		return errs[n-1]
	}
}

// Once returns the Outcome of a worker that starts the first time and never again.
func Once() func(*actors.Context) error { return Sequence(nil, ErrStart) }

// Flag keeps workers from starting while it is set. Its zero value is not set. Any goroutine may use it.
type Flag struct {
	// Pause is how long a start takes to fail. In a bubble of virtual time it must not be zero: a supervisor that tries
	// again and again would never let the time go on.
	Pause time.Duration
	set   atomic.Bool
}

// Set makes starts fail with ErrStart.
func (f *Flag) Set() { f.set.Store(true) }

// Clear lets starts succeed again.
func (f *Flag) Clear() { f.set.Store(false) }

// Outcome is that of the workers. A start that has begun to fail does so, even if the flag is cleared meanwhile.
func (f *Flag) Outcome(c *actors.Context) error {
	if !f.set.Load() {
		return nil
	}
	pause(c, f.Pause)
	return ErrStart
}

// Gate lets a test decide what each start comes to, and look around while the start waits for it. It is open at first: all
// starts succeed at once.
type Gate struct {
	shut     atomic.Bool
	arrivals chan *Arrival
}

// Arrival is a start that waits at a Gate.
type Arrival struct {
	// PID is the new process, in its Init.
	PID      *actors.PID
	decision chan error
}

// NewGate returns an open gate.
func NewGate() *Gate { return &Gate{arrivals: make(chan *Arrival)} }

// Shut makes all later starts wait.
func (g *Gate) Shut() { g.shut.Store(true) }

// Open lets all later starts pass. Those that wait still want their decision.
func (g *Gate) Open() { g.shut.Store(false) }

// Outcome is that of the workers.
func (g *Gate) Outcome(c *actors.Context) error {
	if !g.shut.Load() {
		return nil
	}
	a := &Arrival{PID: c.Self(), decision: make(chan error, 1)}
	gone := c.Ctx()
	select {
	case g.arrivals <- a:
	case <-gone.Done():
		return context.Cause(gone)
	}
	select {
	case err := <-a.decision:
		return err
	case <-gone.Done():
		return context.Cause(gone)
	}
}

// Next returns the start that waits, when there is one.
func (g *Gate) Next(t testing.TB) *Arrival {
	t.Helper()
	select {
	case a := <-g.arrivals:
		return a
	case <-time.After(patience):
		t.Fatalf("nobody came to the gate within %v", patience)
		return nil
	}
}

// Return ends the wait: Init returns err. It is to be called once.
func (a *Arrival) Return(err error) { a.decision <- err }
