package actors_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/shearpin/shearpin/actors"
	"github.com/shearpin/shearpin/actors/actortest"
)

// messages is what the cases cast and info have in common: a message is handled, in its order, answered by a message
// later, from a timeout, and stops the server with Terminate.
func messages(t *testing.T, send func(pid *actors.PID, f func(c *actors.Context) error)) {
	t.Helper()
	clock := actortest.NewClock(time.Unix(0, 0))
	sys := actortest.NewSystem(t, actors.Options{Clock: clock})
	probe, client := start(t, sys, false)
	s := newServer()
	s.onTerminate = func(c *actors.Context, reason error) { c.Send(client, reason) }
	pid, err := sys.Start(t.Context(), s, actors.WithName("my_test_name"))
	require.NoError(t, err)
	started(t, pid)

	send(sys.Whereis("my_test_name"), func(c *actors.Context) error { c.Send(client, "handled"); return nil })
	probe.Expect(t, "handled")

	send(pid, func(c *actors.Context) error {
		c.SetIdleTimeout(time.Second, onInfo(func(c *actors.Context) error { c.Send(client, "delayed"); return nil }))
		return nil
	})
	actortest.Eventually(t, func() bool { return clock.Pending() == 1 })
	clock.Advance(time.Second)
	probe.Expect(t, "handled", "delayed")

	send(pid, func(*actors.Context) error { return errStopped })
	probe.Expect(t, "handled", "delayed", errStopped)
	requireReason(t, pid, errStopped)
}

// A cast is handled, in the order of casts and messages of one sender; delayed by a timeout; and stops the server.
func TestOTP_cast(t *testing.T) {
	messages(t, func(pid *actors.PID, f func(c *actors.Context) error) { pid.Cast(onCast(f)) })

	sys := newSystem(t)
	probe, pid := start(t, sys, false)
	pid.Cast(1)
	pid.Send(2)
	pid.Cast(nil)
	pid.Send(nil)
	settle(t, pid)
	require.Equal(t, []any{actortest.Casted{Msg: 1}, 2, actortest.Casted{Msg: nil}, nil}, probe.Received())
}

// A plain message is handled, delayed by a timeout, and stops the server.
func TestOTP_info(t *testing.T) {
	messages(t, func(pid *actors.PID, f func(c *actors.Context) error) { pid.Send(onInfo(f)) })
}

// What a callback continues with is handled before everything in the mailbox, from every callback, chained or not; a stop
// from there is a stop, and what else was to be continued with is dropped.
func TestOTP_continue(t *testing.T) {
	continuing := func(c *actors.Context) error {
		c.Self().Send("queued")
		c.Continue("first")
		c.Continue(onInfo(func(c *actors.Context) error {
			c.Continue("chained")
			return nil
		}))
		c.Continue("second")
		return nil
	}
	want := []any{"first", "second", "chained", "queued"}
	sys := newSystem(t)
	take := func(s *server) (got []any) {
		for range want {
			got = append(got, s.next(t))
		}
		return got
	}

	s := newServer()
	s.onInit = continuing
	pid, err := sys.Start(t.Context(), s)
	require.NoError(t, err)
	require.Equal(t, want, take(s), "init")
	for name, send := range map[string]func(){
		"cast": func() { pid.Cast(onCast(continuing)) },
		"info": func() { pid.Send(onInfo(continuing)) },
		"call, reply": func() {
			_, err := pid.Call(t.Context(), onCall(func(c *actors.Context, from actors.From) error {
				from.Reply("ok")
				return continuing(c)
			}))
			require.NoError(t, err)
		},
		"call, noreply": func() {
			v, err := pid.Call(t.Context(), onCall(func(c *actors.Context, from actors.From) error {
				c.Continue(onInfo(func(*actors.Context) error { from.Reply("continued"); return nil }))
				return continuing(c)
			}))
			require.NoError(t, err)
			require.Equal(t, "continued", v)
		},
		"a timeout": func() {
			pid.Send(onInfo(func(c *actors.Context) error { c.SetIdleTimeout(0, onInfo(continuing)); return nil }))
		},
	} {
		send()
		require.Equal(t, want, take(s), name)
	}

	pid.Send(onInfo(func(c *actors.Context) error {
		c.Continue(onInfo(func(*actors.Context) error { return errStopped }))
		c.Continue("not reached")
		return nil
	}))
	requireReason(t, pid, errStopped)
	require.Empty(t, s.got)
}

// timeouts is a server on a clock that is stepped by hand.
func timeouts(t *testing.T) (*server, *actors.PID, *actortest.Clock) {
	t.Helper()
	clock := actortest.NewClock(time.Unix(0, 0))
	sys := actortest.NewSystem(t, actors.Options{Clock: clock})
	s, pid := startServer(t, sys)
	return s, pid, clock
}

// setters let a server set an idle timeout, from every kind of callback.
var setters = map[string]func(t *testing.T, pid *actors.PID, set func(c *actors.Context)){
	"call": func(t *testing.T, pid *actors.PID, set func(c *actors.Context)) {
		t.Helper()
		_, err := pid.Call(t.Context(), onCall(func(c *actors.Context, from actors.From) error {
			set(c)
			from.Reply(nil)
			return nil
		}))
		require.NoError(t, err)
	},
	"cast": func(_ *testing.T, pid *actors.PID, set func(c *actors.Context)) {
		pid.Cast(onCast(func(c *actors.Context) error { set(c); return nil }))
	},
	"info": func(_ *testing.T, pid *actors.PID, set func(c *actors.Context)) {
		pid.Send(onInfo(func(c *actors.Context) error { set(c); return nil }))
	},
	"continue": func(_ *testing.T, pid *actors.PID, set func(c *actors.Context)) {
		pid.Send(onInfo(func(c *actors.Context) error {
			c.Continue(onInfo(func(c *actors.Context) error { set(c); return nil }))
			return nil
		}))
	},
}

// cancellers are all that a process can be given, besides what looks at it from outside.
var cancellers = map[string]func(t *testing.T, pid *actors.PID, clock *actortest.Clock){
	"call": func(t *testing.T, pid *actors.PID, _ *actortest.Clock) { t.Helper(); started(t, pid) },
	"cast": func(_ *testing.T, pid *actors.PID, _ *actortest.Clock) { pid.Cast(onCast(nothing)) },
	"info": func(_ *testing.T, pid *actors.PID, _ *actortest.Clock) { pid.Send(onInfo(nothing)) },
	"timer": func(_ *testing.T, _ *actors.PID, clock *actortest.Clock) {
		clock.Advance(time.Second / 2) // the timer that atRest sets
	},
}

// atRest has a server set an idle timeout of a second and waits until it is at rest. Another timer of its comes in between.
func atRest(t *testing.T, pid *actors.PID, clock *actortest.Clock, setter string) {
	t.Helper()
	setters[setter](t, pid, func(c *actors.Context) {
		c.SetIdleTimeout(time.Hour, "replaced by the next")
		c.SetIdleTimeout(time.Second, "timeout")
		c.SendAfter(time.Second/2, onInfo(nothing))
	})
	actortest.Eventually(t, func() bool { return clock.Pending() == 2 })
}

// handled returns when a process has handled what was sent to it before, without giving it a message.
func handled(t *testing.T, pid *actors.PID) {
	t.Helper()
	require.NoError(t, actors.Inspect(t.Context(), pid, func(actors.Process) {}))
}

// An idle timeout that is set by a callback comes once, if nothing else does; any message cancels it, also one that is in
// the mailbox together with it.
func TestOTP_handle_event_timeout(t *testing.T) {
	for setter := range setters {
		t.Run(setter, func(t *testing.T) {
			s, pid, clock := timeouts(t)
			setters[setter](t, pid, func(c *actors.Context) { c.SetIdleTimeout(time.Second, "timeout") })
			actortest.Eventually(t, func() bool { return clock.Pending() == 1 })
			clock.Advance(time.Second - 1)
			require.Empty(t, s.got)
			clock.Advance(1)
			require.Equal(t, "timeout", s.next(t))
			clock.Advance(time.Hour)
			handled(t, pid)
			require.Empty(t, s.got)

			for canceller, cancel := range cancellers {
				atRest(t, pid, clock, setter)
				cancel(t, pid, clock)
				handled(t, pid)
				clock.Advance(time.Hour)
				handled(t, pid)
				require.Empty(t, s.got, canceller)
				require.Zero(t, clock.Pending(), canceller)
			}
		})
	}
	// The time is over, but a message was there before: with nobody who runs the process in between, both are in the mailbox.
	for _, order := range []string{"message first", "timeout first"} {
		t.Run(order, func(t *testing.T) {
			clock, q := actortest.NewClock(time.Unix(0, 0)), &queueing{}
			sys := actors.NewSystem(actors.Options{Clock: clock, Dispatcher: q})
			s := newServer()
			s.onInit = func(c *actors.Context) error { c.SetIdleTimeout(time.Second, "timeout"); return nil }
			pid := q.start(t, sys, s)
			q.runAll()
			require.Equal(t, 1, clock.Pending())
			want := []any{"message"}
			if order == "message first" {
				pid.Send("message")
				clock.Advance(time.Hour)
			} else {
				clock.Advance(time.Hour)
				pid.Send("message")
				want = []any{"timeout", "message"}
			}
			q.runAll()
			for _, msg := range want {
				require.Equal(t, msg, s.next(t))
			}
			require.Empty(t, s.got)
			require.NoError(t, sys.Close(t.Context()))
		})
	}
	// A process that dies takes its timeout with it.
	t.Run("dies", func(t *testing.T) {
		_, pid, clock := timeouts(t)
		atRest(t, pid, clock, "info")
		pid.Kill()
		actortest.Eventually(t, func() bool { return clock.Pending() == 0 })
	})
}

// A timeout of zero comes before what is in the mailbox already, and is cancelled by what its callback continues with.
func TestOTP_handle_event_timeout_zero(t *testing.T) {
	for setter := range setters {
		t.Run(setter, func(t *testing.T) {
			s, pid, clock := timeouts(t)
			setters[setter](t, pid, func(c *actors.Context) {
				c.Self().Send("queued")
				c.SetIdleTimeout(0, "timeout")
			})
			require.Equal(t, []any{"timeout", "queued"}, []any{s.next(t), s.next(t)})
			setters[setter](t, pid, func(c *actors.Context) {
				c.Self().Send("queued")
				c.SetIdleTimeout(-1, "timeout")
				c.Continue("continued")
			})
			require.Equal(t, []any{"continued", "queued"}, []any{s.next(t), s.next(t)})
			started(t, pid)
			require.Empty(t, s.got)
			require.Zero(t, clock.Pending())
		})
	}
}

// Requests that look at the process from outside (OTP's system messages) do not cancel its timeout, nor do messages that
// it does not get because their reason has gone; they do not begin it anew either, as OTP's do.
func TestOTP_handle_event_timeout_plain(t *testing.T) {
	for setter := range setters {
		t.Run(setter, func(t *testing.T) {
			s, pid, clock := timeouts(t)
			other, err := pid.System().Start(t.Context(), newServer())
			require.NoError(t, err)
			setters[setter](t, pid, func(c *actors.Context) {
				other.Kill()
				c.Demonitor(c.Monitor(other)) // its Down is in the mailbox
				c.SetIdleTimeout(time.Second, "timeout")
			})
			actortest.Eventually(t, func() bool { return clock.Pending() == 1 })
			clock.Advance(time.Second - 1)
			_, err = actors.GetStatus(t.Context(), pid)
			require.NoError(t, err)
			require.NoError(t, actors.Inspect(t.Context(), pid, func(*server) {}))
			require.NoError(t, actors.Replace(t.Context(), pid, func(s *server) *server { return s }))
			require.Empty(t, s.got)
			clock.Advance(1)
			require.Equal(t, "timeout", s.next(t))
		})
	}
}

// A server without HandleInfo logs the type of the message, and not the message, and goes on: Base has one.
func TestOTP_undef_handle_info(t *testing.T) {
	undefined(t, func(pid *actors.PID) { pid.Send("secret") }, "unexpected_message")
}

// A server without HandleCast does the same. In Erlang it crashes with undef.
func TestOTP_undef_handle_cast(t *testing.T) {
	undefined(t, func(pid *actors.PID) { pid.Cast("secret") }, "unexpected_cast")
}

// What Continue is given goes to HandleInfo, so a server that does not handle it is one without HandleInfo. In Erlang it
// crashes with undef.
func TestOTP_undef_handle_continue(t *testing.T) {
	undefined(t, func(pid *actors.PID) {
		_, err := pid.Call(t.Context(), "continue")
		assert.NoError(t, err)
	}, "unexpected_message")
}

// continues has no HandleCast and no HandleInfo.
type continues struct{ actors.Base }

func (continues) HandleCall(c *actors.Context, from actors.From, _ any) error {
	c.Continue("secret")
	from.Reply(nil)
	return nil
}

func undefined(t *testing.T, send func(pid *actors.PID), event string) {
	t.Helper()
	lines, sys := logging(t)
	pid, err := sys.Start(t.Context(), continues{}, actors.WithName("base"))
	require.NoError(t, err)
	send(pid)
	require.NoError(t, actors.Inspect(t.Context(), pid, func(continues) {}), "it goes on")
	require.True(t, pid.Alive())
	require.Len(t, lines(), 1)
	require.Contains(t, lines()[0], "level=WARN msg="+event+" process=base part=process type=string")
	require.NotContains(t, lines()[0], "secret")
	require.NoError(t, pid.Stop(t.Context(), nil))
	require.Len(t, lines(), 1)
}
