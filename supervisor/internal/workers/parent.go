package workers

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/shearpin/shearpin/actors"
	"github.com/shearpin/shearpin/actors/actortest"
	"github.com/shearpin/shearpin/supervisor"
)

// Parent stands for the process of a test case in OTP: it traps exits and starts what is linked to it.
type Parent struct {
	PID   *actors.PID
	probe actortest.Probe
}

// NewParent starts a parent. It is killed when the test ends.
func NewParent(t testing.TB, sys *actors.System) *Parent {
	t.Helper()
	p := &Parent{}
	p.probe.Trap = true
	p.PID = p.probe.Start(t, sys)
	return p
}

// StartLink is Context.StartLink in the parent.
func (p *Parent) StartLink(t testing.TB, impl actors.Process, opts ...actors.StartOption) (pid *actors.PID, err error) {
	t.Helper()
	actortest.Do(t, p.PID, func(c *actors.Context) error {
		pid, err = c.StartLink(impl, opts...)
		return nil
	})
	return pid, err
}

// Supervisor starts a supervisor, which must succeed.
func (p *Parent) Supervisor(t testing.TB, spec supervisor.Spec) *actors.PID {
	t.Helper()
	pid, err := p.StartLink(t, supervisor.New(spec))
	require.NoError(t, err)
	return pid
}

// Exit sends an exit signal as a parent does, and does not wait for what comes of it.
func (p *Parent) Exit(t testing.TB, pid *actors.PID, reason error) {
	t.Helper()
	actortest.Do(t, p.PID, func(c *actors.Context) error {
		c.Exit(pid, reason)
		return nil
	})
}

// Shutdown tells a supervisor to end, which must be the next of its children that dies, and waits until it has, with
// reason actors.Shutdown.
func (p *Parent) Shutdown(t testing.TB, sup *actors.PID) {
	t.Helper()
	before := len(p.probe.Received())
	p.Exit(t, sup, actors.Shutdown)
	actortest.AwaitDeath(t, sup)
	actortest.Eventually(t, func() bool { return len(p.probe.Received()) > before }, "the exit signal of", sup)
	exit := p.probe.Received()[before].(actors.Exit)
	require.Same(t, sup, exit.PID)
	require.Equal(t, actors.Shutdown, exit.Reason)
}

// Exits returns the exit signals that the parent has got, oldest first. Those that were sent before the call are among
// them.
func (p *Parent) Exits(t testing.TB) []actors.Exit {
	t.Helper()
	actortest.Do(t, p.PID, func(*actors.Context) error { return nil })
	var exits []actors.Exit
	for _, msg := range p.probe.Received() {
		exits = append(exits, msg.(actors.Exit))
	}
	return exits
}

// RequireCounts checks what a supervisor counts, in OTP's order.
func RequireCounts(t testing.TB, sup *actors.PID, specs, active, supervisors, workers int) {
	t.Helper()
	got, err := supervisor.CountChildren(t.Context(), sup)
	require.NoError(t, err)
	require.Equal(t, supervisor.Counts{Specs: specs, Active: active, Supervisors: supervisors, Workers: workers}, got)
}
