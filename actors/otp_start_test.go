package actors_test

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/shearpin/shearpin/actors"
	"github.com/shearpin/shearpin/actors/actortest"
)

// A server works when its start has returned; a name is held until its end; who started it hears of the end what the start
// function promises, and nothing else. A start that fails says why, and leaves no message.
func TestOTP_start(t *testing.T) {
	for _, way := range starts {
		for _, name := range []string{"", "my_test_name"} {
			t.Run(way.name+"/"+name, func(t *testing.T) {
				sys := newSystem(t)
				probe, starter := start(t, sys, true)
				pid, ref, err := way.start(t, starter, newServer(), actors.WithName(name))
				require.NoError(t, err)
				started(t, pid)
				if name != "" {
					require.Same(t, pid, sys.Whereis(name))
					for _, again := range starts {
						_, _, err := again.start(t, starter, newServer(), actors.WithName(name))
						require.Equal(t, &actors.AlreadyStartedError{Name: name, PID: pid}, err, again.name)
					}
				}
				v, err := pid.Call(t.Context(), "stop")
				require.NoError(t, err)
				require.Equal(t, "ok", v)
				requireReason(t, pid, errStopped)
				wantDead(t, pid)
				wantDead(t, sys.Whereis(name))
				if way.end == nil {
					heard(t, probe, starter)
				} else {
					heard(t, probe, starter, way.end(pid, ref, errStopped)...)
				}
			})
		}
		t.Run(way.name+"/fails", func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				sys := newSystem(t)
				probe, starter := start(t, sys, true)
				for want, init := range map[error]func(c *actors.Context) error{
					actors.ErrIgnore:      func(*actors.Context) error { return actors.ErrIgnore },
					errStopped:            func(*actors.Context) error { return errStopped },
					actors.ErrInitTimeout: func(c *actors.Context) error { <-c.Ctx().Done(); return nil },
				} {
					var half *actors.PID
					s := newServer()
					s.onInit = func(c *actors.Context) error { half = c.Self(); return init(c) }
					pid, ref, err := way.start(t, starter, s, actors.WithName("x"), actors.WithInitTimeout(time.Second))
					require.Same(t, want, err)
					require.Nil(t, pid)
					require.Zero(t, ref)
					require.False(t, half.Alive())
					require.Nil(t, sys.Whereis("x"))
				}
				heard(t, probe, starter)
				require.NoError(t, sys.Close(t.Context()))
			})
		})
	}
}

// Every way in which a start can fail, with every function that starts, five times in a row: each returns its own error,
// and what the process held is free when it returns. OTP looks at a named table that the process owned; here it is the name
// and what hangs on the process' context.
func TestOTP_loop_start_fail(t *testing.T) {
	for name, f := range failures {
		for _, way := range starts {
			for _, trap := range []bool{true, false} {
				t.Run(name+"/"+way.name, func(t *testing.T) {
					synctest.Test(t, func(t *testing.T) {
						loopStartFail(t, way, f.init, f.check, trap)
					})
				})
			}
		}
	}
}

func loopStartFail(t *testing.T, way starting, init func(*actors.Context) error, check func(*testing.T, error), trap bool) {
	t.Helper()
	sys := newSystem(t)
	probe, starter := start(t, sys, trap)
	for range 5 {
		var held context.Context
		child := &actortest.Probe{OnInit: func(c *actors.Context) error {
			held = c.Ctx()
			return init(c)
		}}
		pid, ref, err := way.start(t, starter, child, actors.WithName("x"), actors.WithInitTimeout(time.Second))
		require.Nil(t, pid)
		require.Zero(t, ref)
		check(t, err)
		require.Nil(t, sys.Whereis("x"))
		require.Error(t, held.Err())
		require.Equal(t, []*actors.PID{starter}, sys.Processes())
		require.Equal(t, 1, sys.Enrolled(), "its exit is complete")
		require.Empty(t, child.Received(), "Terminate must not run")
	}
	heard(t, probe, starter)
	require.True(t, starter.Alive())
	synctest.Wait()
	require.Zero(t, sys.Lingering())
	require.NoError(t, sys.Close(t.Context()))
}

// An Init that ignores or stops: the name is not registered when the start returns, a hundred times.
func TestOTP_otp_7669(t *testing.T) {
	sys := newSystem(t)
	_, starter := start(t, sys, false)
	for _, want := range []error{actors.ErrIgnore, errStopped} {
		for range 100 {
			for _, way := range starts {
				s := newServer()
				s.onInit = func(*actors.Context) error { return want }
				_, _, err := way.start(t, starter, s, actors.WithName("x"))
				require.Same(t, want, err)
				require.Nil(t, sys.Whereis("x"))
			}
		}
	}
}

// A process that enters gen_server's loop by itself (enter_loop) works as one that was started by it, and hears of the end
// of its parent. In Go whatever a process wants to do for itself before is done in Init, so the case is an Init that
// does things, with and without a name and a limit. That nobody enters the loop under a name that he does not hold is
// TestOTP_otp_5854.
func TestOTP_spec_init(t *testing.T) {
	for name, opts := range map[string][]actors.StartOption{
		"local":                     {actors.WithName("my_server"), actors.WithInitTimeout(actors.NoInitTimeout)},
		"default_timeout":           {actors.WithName("my_server")},
		"anonymous":                 {actors.WithInitTimeout(actors.NoInitTimeout)},
		"anonymous_default_timeout": nil,
	} {
		t.Run(name, func(t *testing.T) {
			sys := newSystem(t)
			probe, parent := start(t, sys, true)
			s := newServer()
			var helper *actors.PID
			s.onInit = func(c *actors.Context) (err error) {
				c.TrapExits()
				if c.Self().Name() != "" {
					assert.Same(t, c.Self(), c.System().Whereis("my_server"))
				}
				helper, err = c.StartLink(actortest.NewProbe())
				return err
			}
			pid, _, err := starts[2].start(t, parent, s, opts...)
			require.NoError(t, err)
			started(t, pid)
			require.True(t, helper.Alive())
			v, err := pid.Call(t.Context(), "stop")
			require.NoError(t, err)
			require.Equal(t, "ok", v)
			heard(t, probe, parent, actors.Exit{PID: pid, Reason: errStopped})
		})
	}
}

// A name that another process holds is refused, whoever that is, the parent too, and the holder keeps it.
func TestOTP_otp_5854(t *testing.T) {
	sys := newSystem(t)
	probe, parent := start(t, sys, true, actors.WithName("armitage"))
	for _, way := range starts {
		s := newServer()
		s.onInit = func(*actors.Context) error { t.Error("Init must not run"); return nil }
		_, _, err := way.start(t, parent, s, actors.WithName("armitage"))
		require.Equal(t, &actors.AlreadyStartedError{Name: "armitage", PID: parent}, err)
	}
	require.Same(t, parent, sys.Whereis("armitage"))
	heard(t, probe, parent)
}

// Terminate runs in a process whose parent is registered under a name, whether it stops by itself or is stopped by the
// parent. OTP had taken the name for the parent.
func TestOTP_spec_init_local_registered_parent(t *testing.T) {
	registeredParent(t, actors.WithName("foobar"))
}

// The same for a globally registered parent. There is one registry here; what differs is that the parent's name is that of
// another process elsewhere.
func TestOTP_spec_init_global_registered_parent(t *testing.T) {
	other := newSystem(t)
	_, pid := start(t, other, false, actors.WithName("foobar"))
	registeredParent(t, actors.WithName("foobar"))
	require.True(t, pid.Alive())
}

func registeredParent(t *testing.T, opts ...actors.StartOption) {
	t.Helper()
	sys := newSystem(t)
	_, parent := start(t, sys, true, opts...)
	for _, stop := range []func(pid *actors.PID){
		func(pid *actors.PID) { pid.Cast(onCast(func(*actors.Context) error { return errStopped })) },
		func(pid *actors.PID) {
			actortest.Do(t, parent, func(c *actors.Context) error { c.Exit(pid, errStopped); return nil })
		},
	} {
		s := newServer()
		told := make(chan error, 1)
		s.onInit = func(c *actors.Context) error { c.TrapExits(); return nil }
		s.onTerminate = func(_ *actors.Context, reason error) { told <- reason }
		pid, _, err := starts[2].start(t, parent, s, actors.WithName("my_server"))
		require.NoError(t, err)
		stop(pid)
		require.Same(t, errStopped, <-told)
		requireReason(t, pid, errStopped)
	}
}

// A server without Init starts all the same: Base has one. In Erlang the start fails with undef.
func TestOTP_undef_init(t *testing.T) {
	sys := newSystem(t)
	probe, starter := start(t, sys, true)
	for _, way := range starts {
		pid, _, err := way.start(t, starter, struct{ actors.Base }{})
		require.NoError(t, err, way.name)
		_, err = pid.Call(t.Context(), "x")
		require.ErrorIs(t, err, actors.ErrUnexpectedCall, "it works")
	}
	heard(t, probe, starter)
}

// idleServer starts a server whose Init sets an idle timeout, on a clock of its own, and puts another message into its
// mailbox first.
func idleServer(t *testing.T, d time.Duration, queued ...any) (*server, *actors.PID, *actortest.Clock) {
	t.Helper()
	clock := actortest.NewClock(time.Unix(0, 0))
	sys := actortest.NewSystem(t, actors.Options{Clock: clock})
	s := newServer()
	s.onInit = func(c *actors.Context) error {
		for _, msg := range queued {
			c.Self().Send(msg)
		}
		c.SetIdleTimeout(d, "timeout")
		return nil
	}
	pid, err := sys.Start(t.Context(), s)
	require.NoError(t, err)
	return s, pid, clock
}

// An idle timeout that is set by Init, or by what Init continues with, comes if nothing else does; any message cancels it.
// OTP's absolute times and hibernation are left out: a process in Go that waits has no goroutine anyway.
func TestOTP_start_event_timeout(t *testing.T) {
	s, _, clock := idleServer(t, time.Second)
	actortest.Eventually(t, func() bool { return clock.Pending() == 1 }) // the start's own timer is gone
	clock.Advance(time.Second - 1)
	require.Empty(t, s.got)
	clock.Advance(1)
	require.Equal(t, "timeout", s.next(t))
	clock.Advance(time.Hour)
	require.Empty(t, s.got)

	for name, send := range map[string]func(pid *actors.PID){
		"info": func(pid *actors.PID) { pid.Send(onInfo(nothing)) },
		"cast": func(pid *actors.PID) { pid.Cast(onCast(nothing)) },
		"call": func(pid *actors.PID) { started(t, pid) },
	} {
		t.Run(name, func(t *testing.T) {
			s, pid, clock := idleServer(t, time.Second)
			send(pid)
			handled(t, pid)
			clock.Advance(time.Hour)
			handled(t, pid)
			require.Empty(t, s.got)
			require.Zero(t, clock.Pending())
		})
	}
	t.Run("queued", func(t *testing.T) {
		s, pid, clock := idleServer(t, time.Nanosecond, "queued")
		require.Equal(t, "queued", s.next(t))
		handled(t, pid)
		clock.Advance(time.Hour)
		handled(t, pid)
		require.Empty(t, s.got)
	})
	t.Run("continue", func(t *testing.T) {
		s, pid, clock := idleServer(t, time.Second)
		pid.Send(onInfo(func(c *actors.Context) error {
			c.SetIdleTimeout(time.Millisecond, "cancelled by what is continued with")
			c.Continue(onInfo(func(c *actors.Context) error {
				c.SetIdleTimeout(time.Minute, "from continue")
				return nil
			}))
			return nil
		}))
		actortest.Eventually(t, func() bool { return clock.Pending() == 1 && pid.MailboxLen() == 0 })
		clock.Advance(time.Minute - 1)
		require.Empty(t, s.got)
		clock.Advance(1)
		require.Equal(t, "from continue", s.next(t))
	})
}

// An idle timeout of zero comes before what is in the mailbox already.
func TestOTP_start_event_timeout_zero(t *testing.T) {
	for _, d := range []time.Duration{0, -time.Second} {
		s, _, clock := idleServer(t, d, "queued", "and another")
		require.Equal(t, []any{"timeout", "queued", "and another"}, []any{s.next(t), s.next(t), s.next(t)})
		require.Zero(t, clock.Pending())
	}
}
