package actors_test

import (
	"context"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/shearpin/shearpin/actors"
	"github.com/shearpin/shearpin/actors/actortest"
)

// stuck puts a probe into a callback that ends when release is called, and then runs after.
func stuck(pid *actors.PID, after actortest.Func) (release func()) {
	inside, leave := make(chan struct{}), make(chan struct{})
	pid.Send(actortest.Func(func(c *actors.Context) error {
		close(inside)
		<-leave
		return after(c)
	}))
	<-inside
	return func() { close(leave) }
}

func nothing(*actors.Context) error { return nil }

// A process whose callback never returns is dead for everybody at the moment it is killed.
func TestKilledInACallbackThatDoesNotReturn(t *testing.T) {
	sys := newSystem(t)
	probe, watcher := start(t, sys, true)
	victim, pid := start(t, sys, true, actors.WithName("x"))
	var ctx context.Context
	actortest.Do(t, pid, func(c *actors.Context) error { ctx = c.Ctx(); return nil })
	ref := monitor(t, watcher, pid)
	link(t, watcher, pid)
	release := stuck(pid, func(*actors.Context) error { return errBoom })
	pid.Send("never handled")
	answered := make(chan error, 1)
	go func() {
		_, err := pid.Call(context.Background(), "never answered")
		answered <- err
	}()
	actortest.Eventually(t, func() bool { return pid.MailboxLen() == 3 }) // with the one in hand

	pid.Kill()
	require.False(t, pid.Alive())
	require.ErrorIs(t, pid.Reason(), actors.Killed)
	require.ErrorIs(t, ctx.Err(), context.Canceled)
	require.ErrorIs(t, context.Cause(ctx), actors.Killed)
	require.ErrorIs(t, <-answered, actors.Killed)
	probe.Expect(t, actors.Down{Ref: ref, PID: pid, Reason: actors.Killed}, actors.Exit{PID: pid, Reason: actors.Killed})
	require.Equal(t, 1, sys.Lingering())
	require.Zero(t, pid.MailboxLen())
	_, second := start(t, sys, false, actors.WithName("x"))
	require.Same(t, second, sys.Whereis("x"))

	release()
	actortest.Eventually(t, func() bool { return sys.Lingering() == 0 })
	require.Empty(t, victim.Received(), "neither Terminate nor what was in the mailbox")
	require.Same(t, second, sys.Whereis("x"))
}

// After its death a process reaches nobody by anything it does, however long its callback goes on.
func TestDeadProcessReachesNobody(t *testing.T) {
	sys := newSystem(t)
	observer, other := start(t, sys, true)
	victim, pid := start(t, sys, false)
	var timer actors.Timer
	helped := atomic.Bool{}
	release := stuck(pid, func(c *actors.Context) error {
		c.Send(other, "x")
		c.Cast(other, "x")
		c.Exit(other, errBoom)
		c.Exit(other, actors.Killed)
		c.Link(other)
		c.Monitor(other)
		c.Unlink(other)
		c.TrapExits()
		c.Continue("x")
		c.Request(other, time.Nanosecond, "x", "x")
		timer = c.SendAfter(0, "x")
		c.Go(func(context.Context) any { helped.Store(true); return "x" })
		_, err := c.Call(context.Background(), other, "x")
		assert.ErrorIs(t, err, actors.Killed)
		_, err = other.Call(c.Ctx(), "x")
		assert.ErrorIs(t, err, actors.Killed)
		return nil
	})
	pid.Kill()
	release()
	actortest.Eventually(t, func() bool { return sys.Lingering() == 0 })
	settle(t, other)
	require.True(t, other.Alive())
	require.Empty(t, observer.Received())
	require.Empty(t, victim.Received())
	require.False(t, timer.Stop())
	require.False(t, helped.Load())
}

// Whatever a process sends while it is being killed either arrives before its Down or not at all.
func TestNothingArrivesAfterDown(t *testing.T) {
	sys := newSystem(t)
	for range 300 {
		probe, observer := start(t, sys, true)
		_, pid := start(t, sys, false)
		monitor(t, observer, pid)
		pid.Send(actortest.Func(func(c *actors.Context) error {
			for i := 0; c.Ctx().Err() == nil || i < 20; i++ {
				c.Send(observer, "x")
			}
			return nil
		}))
		actortest.Eventually(t, func() bool { return len(probe.Received()) > 0 })
		pid.Kill()
		actortest.Eventually(t, func() bool { return sys.Lingering() == 0 })
		settle(t, observer)
		got := probe.Received()
		require.IsType(t, actors.Down{}, got[len(got)-1])
		require.Len(t, downs(got), 1)
		observer.Kill()
	}
}

func downs(received []any) (downs []actors.Down) {
	for _, msg := range received {
		if d, ok := msg.(actors.Down); ok {
			downs = append(downs, d)
		}
	}
	return downs
}

// The answers of a dead process are sends like others: once one observer has heard of the death, no caller is answered.
func TestNoAnswerAfterDown(t *testing.T) {
	sys := newSystem(t)
	for range 300 {
		heard := make(chan struct{})
		observer, err := sys.Start(t.Context(), &hearer{on: func() { close(heard) }})
		require.NoError(t, err)
		keeper := &keeper{froms: make(chan actors.From, 1)}
		pid, err := sys.Start(t.Context(), keeper)
		require.NoError(t, err)
		_, err = observer.Call(t.Context(), pid) // monitors, and is therefore told before the caller
		require.NoError(t, err)
		answer := make(chan error, 1)
		go func() {
			_, err := pid.Call(context.Background(), "x")
			answer <- err
		}()
		from := <-keeper.froms
		go pid.Kill()
		<-heard
		from.Reply("too late")
		require.ErrorIs(t, <-answer, actors.Killed)
		observer.Kill()
	}
}

// keeper keeps the calls it gets.
type keeper struct {
	actors.Base
	froms chan actors.From
}

func (k *keeper) HandleCall(_ *actors.Context, from actors.From, _ any) error {
	k.froms <- from
	return nil
}

// A process that is waiting in a call is woken up by its own death.
func TestKilledWhileItCalls(t *testing.T) {
	sys := newSystem(t)
	keeper := &keeper{froms: make(chan actors.From, 2)}
	callee, err := sys.Start(t.Context(), keeper)
	require.NoError(t, err)
	for _, call := range []func(c *actors.Context) (any, error){
		func(c *actors.Context) (any, error) { return c.Call(context.Background(), callee, "x") },
		func(c *actors.Context) (any, error) { return callee.Call(c.Ctx(), "x") },
	} {
		_, pid := start(t, sys, false)
		failed := make(chan error, 1)
		pid.Send(actortest.Func(func(c *actors.Context) error {
			_, err := call(c)
			failed <- err
			return nil
		}))
		from := <-keeper.froms
		require.Same(t, pid, from.PID())
		pid.Kill()
		require.ErrorIs(t, <-failed, actors.Killed)
		from.Reply("nobody is there")
	}
}

func TestLingeringCountsHelpers(t *testing.T) {
	sys := newSystem(t)
	_, pid := start(t, sys, false)
	leave := make(chan struct{})
	actortest.Do(t, pid, func(c *actors.Context) error {
		for range 3 {
			c.Go(func(context.Context) any { <-leave; return nil })
		}
		return nil
	})
	require.Zero(t, sys.Lingering())
	release := stuck(pid, nothing)
	pid.Kill()
	require.Equal(t, 4, sys.Lingering())
	release()
	actortest.Eventually(t, func() bool { return sys.Lingering() == 3 })
	close(leave)
	actortest.Eventually(t, func() bool { return sys.Lingering() == 0 })
}

// A process that ends by itself never counts as lingering, whatever ends it at the same moment.
func TestLingeringReturnsToZero(t *testing.T) {
	sys := newSystem(t)
	for range 500 {
		_, pid := start(t, sys, false)
		pid.Send(actortest.Func(func(*actors.Context) error { return errBoom }))
		pid.Kill()
	}
	actortest.Eventually(t, func() bool { return sys.Lingering() == 0 && len(sys.Processes()) == 0 })
}
