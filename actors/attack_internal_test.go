package actors

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// Tables are what a system knows of its processes: the names, those who have not taken the last step of their exit, those
// in Proto.Actor's registry.
func (s *System) Tables() (names, enrolled, registered int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, shard := range s.engine.ProcessRegistry.LocalPIDs.LocalPIDs {
		registered += shard.Count()
	}
	return len(s.names), s.processes.n, registered
}

// Relations counts what a process knows of others and others of it: watchers and callers, links, what it owns.
func (p *PID) Relations() [3]int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return [3]int{p.watchers.n, p.links.n, p.owned.n}
}

// InboxRoom is for how many messages a process holds memory.
func (p *PID) InboxRoom() int {
	p.inbox.mu.Lock()
	defer p.inbox.mu.Unlock()
	return cap(p.inbox.in)
}

// dying marks a process dead without burying it: the moment between the steps of an exit that a test wants to look at.
func dying(t *testing.T, p *PID, reason error) {
	t.Helper()
	p.mu.Lock()
	require.True(t, p.markDead(reason))
	p.mu.Unlock()
}

func startActing(t *testing.T, s *System, opts ...StartOption) *PID {
	t.Helper()
	p, err := s.Start(t.Context(), acting{}, opts...)
	require.NoError(t, err)
	return p
}

func linkInternally(t *testing.T, a, b *PID) {
	t.Helper()
	_, err := a.Call(t.Context(), func(c *Context) { c.Link(b) })
	require.NoError(t, err)
}

// After Unlink the other's death is no signal any more, though the other is dying already and has begun to tell its links.
func TestUnlinkFromADyingProcess(t *testing.T) {
	s := NewSystem(Options{})
	p, other, victim := startActing(t, s), startActing(t, s), startActing(t, s)
	linkInternally(t, p, other) // p's list is the longer one
	linkInternally(t, p, victim)
	dying(t, victim, Killed)
	k, ok := next(victim, &victim.links)
	require.True(t, ok)
	p.context.Unlink(victim)
	require.False(t, k.snap(victim, false))
	require.True(t, p.Alive())
	require.Equal(t, [3]int{0, 1, 0}, p.Relations())
	bury(victim)
	require.NoError(t, s.Close(t.Context()))
}

// A process that is dead but whose callback goes on cannot cut a link whose signal is still to come.
func TestTheDeadDoNotUnlink(t *testing.T) {
	s := NewSystem(Options{})
	p, victim := startActing(t, s), startActing(t, s)
	linkInternally(t, p, victim)
	dying(t, victim, Killed)
	victim.context.Unlink(p)
	bury(victim)
	require.Equal(t, Killed, p.Reason())
	require.NoError(t, s.Close(t.Context()))
}

// Who monitors a process that is dying hears NoProcess at once; its name is free by then.
func TestNameOfADyingProcessIsFree(t *testing.T) {
	s := NewSystem(Options{})
	victim := startActing(t, s, WithName("x"))
	dying(t, victim, Killed)
	require.Nil(t, s.Whereis("x"))
	second := startActing(t, s, WithName("x"))
	require.Same(t, second, s.Whereis("x"))
	bury(victim)
	require.Same(t, second, s.Whereis("x"))
	require.NoError(t, s.Close(t.Context()))
}

// starting starts a process that kills its starter as the last thing in its Init: the start succeeds and the starter dies
// at the same moment.
type starting struct {
	Base
	starter *PID
}

func (s starting) Init(*Context) error {
	s.starter.Kill()
	return nil
}

// A start of a process that dies while it waits is no start, whichever of the two is noticed first.
func TestStartOfADyingProcess(t *testing.T) {
	s := NewSystem(Options{})
	for range 200 {
		starter := startActing(t, s)
		pids, errs := make(chan *PID, 1), make(chan error, 1)
		_, err := starter.Call(t.Context(), func(c *Context) {
			pid, err := c.Start(starting{starter: c.Self()}, WithName("x"))
			pids <- pid
			errs <- err
		})
		require.ErrorIs(t, err, Killed)
		require.Nil(t, <-pids)
		require.ErrorIs(t, <-errs, Killed)
		require.Nil(t, s.Whereis("x"))
	}
	require.NoError(t, s.Close(t.Context()))
}

// What a process gave to Continue and did not live to handle is not kept.
func TestTheDeadDoNotContinue(t *testing.T) {
	s := NewSystem(Options{})
	for _, end := range []func(*Context){
		func(c *Context) { c.Exit(c.Self(), Killed) },
		func(*Context) { panic("x") },
	} {
		p := startActing(t, s)
		_, err := p.Call(t.Context(), func(c *Context) {
			c.Continue("x")
			end(c)
		})
		require.Error(t, err)
		require.Eventually(t, func() bool {
			p.mu.Lock()
			defer p.mu.Unlock()
			return p.state.Load()&running == 0 && p.context.later == nil
		}, 10*time.Second, time.Millisecond)
	}
	require.NoError(t, s.Close(t.Context()))
}
