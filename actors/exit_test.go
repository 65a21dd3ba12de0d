package actors_test

import (
	"context"
	"fmt"
	"runtime"
	"sync"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/shearpin/shearpin/actors"
	"github.com/shearpin/shearpin/actors/actortest"
)

func TestReasons(t *testing.T) {
	detailed := actors.ShutdownWith(errBoom)
	for _, normal := range []error{nil, actors.Normal, actors.Shutdown, detailed, fmt.Errorf("wrapped: %w", detailed)} {
		require.True(t, actors.IsNormal(normal), "%v", normal)
	}
	for _, abnormal := range []error{errBoom, actors.Killed, actors.NoProcess, actors.ErrGoexit, actors.NewPanicError("x")} {
		require.False(t, actors.IsNormal(abnormal), "%v", abnormal)
	}
	require.ErrorIs(t, detailed, actors.Shutdown)
	require.ErrorIs(t, detailed, errBoom)
	require.NotErrorIs(t, detailed, actors.Normal)
	require.Equal(t, "shutdown: boom", detailed.Error())
	require.Same(t, actors.Shutdown, actors.ShutdownWith(nil))
	require.Equal(t, "panic: 7", actors.NewPanicError(7).Error())
	require.NoError(t, actors.NewPanicError(7).Unwrap())
}

// callbacks lets one callback of a process do something.
type callbacks struct {
	actors.Base
	call, cast, info, terminate func() error
	told                        chan error // what Terminate was told
}

func run(f func() error) error {
	if f == nil {
		return nil
	}
	return f()
}

func (p *callbacks) HandleCall(*actors.Context, actors.From, any) error { return run(p.call) }
func (p *callbacks) HandleCast(*actors.Context, any) error              { return run(p.cast) }
func (p *callbacks) HandleInfo(*actors.Context, any) error              { return run(p.info) }
func (p *callbacks) Terminate(_ *actors.Context, reason error) {
	p.told <- reason
	_ = run(p.terminate)
}

// OTP's semantics 5 and 6. Every way of ending in every callback gives the reason to monitors,
// links, callers and Terminate; Init is in TestOTP_loop_start_fail.
func TestEndsOfCallbacks(t *testing.T) {
	ends := map[string]struct {
		do    func() error
		check func(*testing.T, error)
	}{
		"error":  {func() error { return errBoom }, is(errBoom)},
		"normal": {func() error { return actors.Normal }, is(actors.Normal)},
		"panic":  {func() error { panic(errBoom) }, isPanicIn("exit_test.go")},
		"goexit": {func() error { runtime.Goexit(); return nil }, is(actors.ErrGoexit)},
	}
	triggers := map[string]func(*callbacks, func() error) func(*actors.PID){
		"call": func(p *callbacks, f func() error) func(*actors.PID) {
			p.call = f
			return func(pid *actors.PID) { _, _ = pid.Call(context.Background(), "x") }
		},
		"cast": func(p *callbacks, f func() error) func(*actors.PID) {
			p.cast = f
			return func(pid *actors.PID) { pid.Cast("x") }
		},
		"info": func(p *callbacks, f func() error) func(*actors.PID) {
			p.info = f
			return func(pid *actors.PID) { pid.Send("x") }
		},
	}
	for where, trigger := range triggers {
		for how, end := range ends {
			t.Run(where+"/"+how, func(t *testing.T) {
				sys := newSystem(t)
				probe, watcher := start(t, sys, true)
				p := &callbacks{told: make(chan error, 1)}
				fire := trigger(p, end.do)
				pid, err := sys.Start(t.Context(), p, actors.WithName("x"))
				require.NoError(t, err)
				ref := monitor(t, watcher, pid)
				link(t, watcher, pid)
				fire(pid)
				actortest.AwaitDeath(t, pid)
				end.check(t, pid.Reason())
				end.check(t, <-p.told)
				probe.Expect(t,
					actors.Down{Ref: ref, PID: pid, Reason: pid.Reason()},
					actors.Exit{PID: pid, Reason: pid.Reason()})
				require.Nil(t, sys.Whereis("x"))
				require.Zero(t, sys.Lingering())
			})
		}
	}
}

// While Terminate runs the process is alive: it has its name and can send.
func TestTerminateRunsInALivingProcess(t *testing.T) {
	sys := newSystem(t)
	other, otherPID := start(t, sys, false)
	probe := &actortest.Probe{OnTerminate: func(c *actors.Context, _ error) {
		assert.Same(t, c.Self(), sys.Whereis("x"))
		assert.NoError(t, c.Ctx().Err())
		c.Send(otherPID, "last words")
	}}
	pid := probe.Start(t, sys, actors.WithName("x"))
	require.NoError(t, pid.Stop(t.Context(), actors.Shutdown))
	other.Await(t, "last words")
}

// A stop whose process dies of something else or does not end.
func TestStopThatFails(t *testing.T) {
	sys := newSystem(t)
	probe := &actortest.Probe{OnTerminate: func(*actors.Context, error) { panic(errBoom) }}
	pid := probe.Start(t, sys)
	require.ErrorIs(t, pid.Stop(t.Context(), actors.Shutdown), errBoom)

	stuck := make(chan struct{})
	_, pid = start(t, sys, false)
	pid.Send(actortest.Func(func(*actors.Context) error { <-stuck; return nil }))
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(errBoom)
	require.ErrorIs(t, pid.Stop(ctx, actors.Shutdown), errBoom)
	require.ErrorAs(t, pid.Stop(ctx, errBoom), new(*actors.WaitError), "a context that ends for the same reason is not the end")
	require.True(t, pid.Alive())
	close(stuck)

	actortest.Do(t, pid, func(c *actors.Context) error {
		assert.ErrorIs(t, c.Self().Stop(c.Ctx(), nil), actors.ErrCallingSelf)
		return nil
	})
}

// drainer goes on after it was told to stop, until it gets a message.
type drainer struct {
	actors.Base
	told     chan error
	stopping error
}

func (d *drainer) HandleStop(_ *actors.Context, reason error) error {
	d.stopping = reason
	d.told <- reason
	return nil
}

func (d *drainer) HandleCall(_ *actors.Context, from actors.From, _ any) error {
	from.Reply("still here")
	return nil
}

func (d *drainer) HandleInfo(*actors.Context, any) error { return d.stopping }

func TestDrainer(t *testing.T) {
	sys := newSystem(t)
	for _, name := range []string{"stop", "parent"} {
		t.Run(name, func(t *testing.T) {
			d := &drainer{told: make(chan error, 1)}
			_, parent := start(t, sys, true)
			var pid *actors.PID
			actortest.Do(t, parent, func(c *actors.Context) (err error) {
				pid, err = c.StartLink(&trapping{d})
				if name == "parent" {
					c.Exit(pid, errBoom)
				}
				return err
			})
			if name == "stop" {
				go func() { _ = pid.Stop(context.Background(), errBoom) }()
			}
			require.Equal(t, errBoom, <-d.told)
			v, err := pid.Call(t.Context(), "are you there")
			require.NoError(t, err)
			require.Equal(t, "still here", v)
			pid.Send("go now")
			requireReason(t, pid, errBoom)
		})
	}
}

// trapping makes a drainer trap exits.
type trapping struct{ *drainer }

func (trapping) Init(c *actors.Context) error {
	c.TrapExits()
	return nil
}

// OTP's exit/2: what a signal does to processes that trap exits and to those that do not.
func TestExitSignals(t *testing.T) {
	cases := []struct {
		reason    error
		trap      bool
		dies      error // or nil
		message   bool
		fromOther bool
	}{
		{reason: actors.Normal, trap: false, fromOther: true},
		{reason: nil, trap: false, fromOther: true},
		{reason: errBoom, trap: false, fromOther: true, dies: errBoom},
		{reason: actors.Shutdown, trap: false, fromOther: true, dies: actors.Shutdown},
		{reason: actors.Killed, trap: false, fromOther: true, dies: actors.Killed},
		{reason: actors.Normal, trap: true, fromOther: true, message: true},
		{reason: errBoom, trap: true, fromOther: true, message: true},
		{reason: actors.Killed, trap: true, fromOther: true, dies: actors.Killed},
		{reason: actors.Normal, trap: false},
		{reason: errBoom, trap: false, dies: errBoom},
		{reason: actors.Killed, trap: true, dies: actors.Killed},
		// It has no parent, and nobody tells it to stop.
		{reason: errBoom, trap: true, dies: errBoom},
	}
	for _, c := range cases {
		t.Run(fmt.Sprintf("%v/trap=%v/from=%v", c.reason, c.trap, c.fromOther), func(t *testing.T) {
			sys := newSystem(t)
			_, sender := start(t, sys, true)
			probe, pid := start(t, sys, c.trap)
			if c.fromOther {
				actortest.Do(t, sender, func(x *actors.Context) error { x.Exit(pid, c.reason); return nil })
			} else {
				pid.Exit(c.reason)
			}
			if c.dies != nil {
				requireReason(t, pid, c.dies)
				if !c.trap || c.dies == actors.Killed {
					require.Empty(t, probe.Received(), "no Terminate")
				} else {
					probe.Expect(t, actortest.Terminated{Reason: c.dies})
				}
				return
			}
			settle(t, pid)
			if c.message {
				probe.Expect(t, actors.Exit{PID: sender, Reason: c.reason})
			} else {
				require.Empty(t, probe.Received())
			}
		})
	}
}

func TestExitToOneself(t *testing.T) {
	sys := newSystem(t)
	for _, reason := range []error{actors.Normal, errBoom, actors.Killed} {
		_, pid := start(t, sys, false)
		pid.Send(actortest.Func(func(c *actors.Context) error {
			c.Exit(c.Self(), reason)
			assert.False(t, c.Self().Alive())
			return nil
		}))
		requireReason(t, pid, reason)

		probe, pid := start(t, sys, true)
		pid.Send(actortest.Func(func(c *actors.Context) error {
			c.Exit(c.Self(), reason)
			return nil
		}))
		if reason == actors.Killed {
			requireReason(t, pid, reason)
		} else {
			probe.Await(t, actors.Exit{PID: pid, Reason: reason})
		}
	}
}

// OTP semantics 4: a parent's exit ends a process that traps exits, with Terminate, after what was sent before.
func TestParentsExit(t *testing.T) {
	for _, signal := range []error{actors.Normal, actors.Shutdown, errBoom} {
		sys := newSystem(t)
		_, parent := start(t, sys, true)
		child := &actortest.Probe{Trap: true}
		var pid *actors.PID
		actortest.Do(t, parent, func(c *actors.Context) error {
			var err error
			pid, err = c.StartLink(child)
			c.Cast(pid, "before")
			c.Exit(pid, signal)
			c.Cast(pid, "after")
			return err
		})
		requireReason(t, pid, signal)
		child.Expect(t, actortest.Casted{Msg: "before"}, actortest.Terminated{Reason: signal})
	}
}

func TestParentsDeath(t *testing.T) {
	sys := newSystem(t)
	_, parent := start(t, sys, false)
	child := &actortest.Probe{Trap: true}
	var pid *actors.PID
	actortest.Do(t, parent, func(c *actors.Context) (err error) {
		pid, err = c.StartLink(child)
		return err
	})
	parent.Kill()
	requireReason(t, pid, actors.Killed)
	child.Expect(t, actortest.Terminated{Reason: actors.Killed})
}

// The exit happens once, whoever wants it and how many at a time.
func TestExitHappensOnce(t *testing.T) {
	sys := newSystem(t)
	for range 200 {
		probe, watcher := start(t, sys, true)
		_, pid := start(t, sys, false, actors.WithName("x"))
		ref := monitor(t, watcher, pid)
		link(t, watcher, pid)
		var wg sync.WaitGroup
		for _, end := range []func(){
			pid.Kill,
			func() { pid.Exit(errBoom) },
			func() { _ = pid.Stop(context.Background(), errBoom) },
			func() { pid.Send(actortest.Func(func(*actors.Context) error { panic("x") })) },
		} {
			wg.Go(end)
		}
		wg.Wait()
		actortest.AwaitDeath(t, pid)
		reason := pid.Reason()
		probe.Expect(t, actors.Down{Ref: ref, PID: pid, Reason: reason}, actors.Exit{PID: pid, Reason: reason})
	}
}

// At the moment anybody hears of a death, the name is free and the context has ended, with the reason as its cause.
func TestNameIsFreeBeforeAnybodyHears(t *testing.T) {
	sys := newSystem(t)
	for range 200 {
		var ctx context.Context
		_, pid := start(t, sys, false, actors.WithName("x"))
		actortest.Do(t, pid, func(c *actors.Context) error { ctx = c.Ctx(); return nil })
		checked := make(chan struct{})
		heard := &hearer{on: func() {
			defer close(checked)
			assert.Nil(t, sys.Whereis("x"))
			assert.ErrorIs(t, context.Cause(ctx), errBoom)
		}}
		watcher, err := sys.Start(t.Context(), heard)
		require.NoError(t, err)
		_, err = watcher.Call(t.Context(), pid)
		require.NoError(t, err)
		pid.Exit(errBoom)
		<-checked
		watcher.Kill()
	}
}

// hearer monitors whom it is given and does something when that dies.
type hearer struct {
	actors.Base
	on func()
}

func (h *hearer) HandleCall(c *actors.Context, from actors.From, msg any) error {
	c.Monitor(msg.(*actors.PID))
	from.Reply(nil)
	return nil
}

func (h *hearer) HandleInfo(*actors.Context, any) error {
	h.on()
	return nil
}
