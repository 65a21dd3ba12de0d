package actortest

import (
	"context"
	"reflect"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/shearpin/shearpin/actors"
)

// Probe is a process that records what it gets. A call is recorded as [Called] and answered with its message; a cast is
// recorded as [Casted], the end as [Terminated], and everything else as it is. A [Func], sent in any of the three ways,
// is run and not recorded. The fields may be set before the start.
type Probe struct {
	// Trap makes it trap exits.
	Trap bool
	// OnInit runs in Init; its error is that of Init.
	OnInit func(c *actors.Context) error
	// OnTerminate runs in Terminate.
	OnTerminate func(c *actors.Context, reason error)

	mu       sync.Mutex
	received []any
}

// Func is run by a Probe in its own name. Its error ends the process, as in any callback.
type Func func(c *actors.Context) error

// What a Probe records, besides plain messages as they are.
type (
	// Called is a message that came by a call.
	Called struct{ Msg any }
	// Casted is a message that came by a cast.
	Casted struct{ Msg any }
	// Terminated is the call of Terminate.
	Terminated struct{ Reason error }
)

// NewProbe returns a probe that does not trap exits.
func NewProbe() *Probe { return &Probe{} }

// Start starts the probe and fails the test if that fails. The process is killed when the test ends.
func (p *Probe) Start(t testing.TB, sys *actors.System, opts ...actors.StartOption) *actors.PID {
	t.Helper()
	pid, err := sys.Start(context.Background(), p, opts...)
	if err != nil {
		t.Fatalf("starting a probe: %v", err)
	}
	t.Cleanup(pid.Kill)
	return pid
}

// Received returns what has been recorded, oldest first.
func (p *Probe) Received() []any {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.Clone(p.received)
}

// Await waits until a message that equals msg has been recorded.
func (p *Probe) Await(t testing.TB, msg any) {
	t.Helper()
	Eventually(t, func() bool {
		return slices.ContainsFunc(p.Received(), func(got any) bool { return equal(got, msg) })
	}, "awaiting", msg)
}

// Expect waits until as many messages have been recorded as there are in want, and fails the test if they are not those,
// in that order.
func (p *Probe) Expect(t testing.TB, want ...any) {
	t.Helper()
	Eventually(t, func() bool { return len(p.Received()) >= len(want) }, "expecting", want)
	if got := p.Received(); !slices.EqualFunc(got, want, equal) {
		t.Fatalf("recorded %v, want %v", got, want)
	}
}

// equal compares by == where that is possible: looking into a process would be a race.
func equal(a, b any) bool {
	if va, vb := reflect.ValueOf(a), reflect.ValueOf(b); va.IsValid() && vb.IsValid() && va.Comparable() && vb.Comparable() {
		return a == b
	}
	return reflect.DeepEqual(a, b)
}

// Do runs f in a Probe's process and returns when it has run.
func Do(t testing.TB, pid *actors.PID, f Func) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	if _, err := pid.Call(ctx, f); err != nil {
		t.Fatalf("function in %v: %v", pid, err)
	}
}

// Crash makes a Probe's process end with reason and returns when it is dead.
func Crash(t testing.TB, pid *actors.PID, reason error) {
	t.Helper()
	pid.Send(Func(func(*actors.Context) error { return reason }))
	AwaitDeath(t, pid)
}

// AwaitDeath returns when the process is dead.
func AwaitDeath(t testing.TB, pid *actors.PID) {
	t.Helper()
	select {
	case <-pid.Done():
	case <-time.After(patience):
		t.Fatalf("%v is still alive after %v", pid, patience)
	}
}

func (p *Probe) record(msg any) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.received = append(p.received, msg)
}

// Init implements actors.Process.
func (p *Probe) Init(c *actors.Context) error {
	if p.Trap {
		c.TrapExits()
	}
	if p.OnInit != nil {
		return p.OnInit(c)
	}
	return nil
}

// HandleCall implements actors.Process.
func (p *Probe) HandleCall(c *actors.Context, from actors.From, msg any) error {
	if f, ok := msg.(Func); ok {
		err := f(c)
		if err == nil {
			from.Reply(nil)
		}
		return err
	}
	p.record(Called{msg})
	from.Reply(msg)
	return nil
}

// HandleCast implements actors.Process.
func (p *Probe) HandleCast(c *actors.Context, msg any) error {
	if f, ok := msg.(Func); ok {
		return f(c)
	}
	p.record(Casted{msg})
	return nil
}

// HandleInfo implements actors.Process.
func (p *Probe) HandleInfo(c *actors.Context, msg any) error {
	if f, ok := msg.(Func); ok {
		return f(c)
	}
	p.record(msg)
	return nil
}

// Terminate implements actors.Process.
func (p *Probe) Terminate(c *actors.Context, reason error) {
	p.record(Terminated{reason})
	if p.OnTerminate != nil {
		p.OnTerminate(c, reason)
	}
}
