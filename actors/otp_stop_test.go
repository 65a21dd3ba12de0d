package actors_test

import (
	"context"
	"errors"
	"runtime"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/shearpin/shearpin/actors"
	"github.com/shearpin/shearpin/actors/actortest"
)

// stopped stops a process and checks that it is dead, with Terminate run after what was sent before, when Stop returns,
// and that a second stop finds nobody.
func stopped(t *testing.T, find func() *actors.PID, probe *actortest.Probe, reason, want error) {
	t.Helper()
	pid := find()
	pid.Send("before")
	require.NoError(t, find().Stop(t.Context(), reason))
	require.False(t, pid.Alive())
	require.Equal(t, want, pid.Reason())
	require.Equal(t, []any{"before", actortest.Terminated{Reason: want}}, probe.Received())
	require.Equal(t, actors.NoProcess, find().Stop(t.Context(), reason))
}

// Stop by pid. It returns when the process is dead; a dead one is no process.
func TestOTP_stop1(t *testing.T) {
	sys := newSystem(t)
	probe, pid := start(t, sys, false)
	stopped(t, func() *actors.PID { return pid }, probe, nil, actors.Normal)
}

// Stop with other reasons, waiting for as long as it takes.
func TestOTP_stop2(t *testing.T) {
	sys := newSystem(t)
	for _, reason := range []error{actors.Shutdown, errBoom, actors.ShutdownWith(errBoom)} {
		probe, pid := start(t, sys, false)
		stopped(t, func() *actors.PID { return pid }, probe, reason, reason)
	}
}

// A stop with an invalid timeout raises and leaves the server alive. The limit is a context here, and the worst one is
// one that has ended.
func TestOTP_stop3(t *testing.T) {
	sys := newSystem(t)
	probe, pid := start(t, sys, false)
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(errBoom)
	require.Equal(t, &actors.WaitError{Op: "call", PID: pid, Err: errBoom}, pid.Stop(ctx, errStopped))
	settle(t, pid)
	require.True(t, pid.Alive())
	stopped(t, func() *actors.PID { return pid }, probe, nil, actors.Normal)
}

// Stop by registered name; the second time nobody has it.
func TestOTP_stop4(t *testing.T) {
	sys := newSystem(t)
	probe, _ := start(t, sys, false, actors.WithName("to_stop"))
	stopped(t, func() *actors.PID { return sys.Whereis("to_stop") }, probe, nil, actors.Normal)
}

// Stop by name and node. A process knows its System, which is where the name is looked up from inside.
func TestOTP_stop5(t *testing.T) {
	sys := newSystem(t)
	probe, _ := start(t, sys, false, actors.WithName("to_stop"))
	_, stopper := start(t, sys, false)
	stopped(t, func() (pid *actors.PID) {
		actortest.Do(t, stopper, func(c *actors.Context) error {
			pid = c.System().Whereis("to_stop")
			return nil
		})
		return pid
	}, probe, nil, actors.Normal)
}

// Stop by a name in a registry of one's own (via). Here each System is one: the same name in another one is another
// process, which is not stopped.
func TestOTP_stop7(t *testing.T) {
	sys, other := newSystem(t), newSystem(t)
	probe, _ := start(t, sys, false, actors.WithName("to_stop"))
	bystander, pid := start(t, other, false, actors.WithName("to_stop"))
	stopped(t, func() *actors.PID { return sys.Whereis("to_stop") }, probe, nil, actors.Normal)
	settle(t, pid)
	require.Same(t, pid, other.Whereis("to_stop"))
	require.Empty(t, bystander.Received())
}

// A server without Terminate that stops: that is fine, and the reason is that of the stop.
func TestOTP_undef_terminate1(t *testing.T) {
	sys := newSystem(t)
	for _, reason := range []error{actors.Normal, errStopped} {
		pid, err := sys.Start(t.Context(), struct{ actors.Base }{})
		require.NoError(t, err)
		require.NoError(t, pid.Stop(t.Context(), reason))
		require.Same(t, reason, pid.Reason())
	}
}

// A server without Terminate that crashes: the reason is that of the crash.
func TestOTP_undef_terminate2(t *testing.T) {
	sys := newSystem(t)
	pid, err := sys.Start(t.Context(), crashing{})
	require.NoError(t, err)
	_, err = pid.Call(t.Context(), errBoom)
	require.Same(t, errBoom, err)
	actortest.AwaitDeath(t, pid)
	require.Same(t, errBoom, pid.Reason())
}

// crashing has no Terminate and ends with the error that it is called with.
type crashing struct{ actors.Base }

func (crashing) HandleCall(_ *actors.Context, _ actors.From, msg any) error { return msg.(error) }

// A crash in Terminate replaces the reason, whatever the process was ending of. Erlang's undef is a panic here.
func TestOTP_undef_in_terminate(t *testing.T) {
	for name, f := range map[string]struct {
		do   func() error
		want error
	}{
		"returns": {func() error { return nil }, errBoom},
		"panic":   {func() error { panic(errors.ErrUnsupported) }, errors.ErrUnsupported},
		"goexit":  {func() error { runtime.Goexit(); return nil }, actors.ErrGoexit},
	} {
		t.Run(name, func(t *testing.T) {
			for _, first := range []func() error{
				func() error { return errBoom },
				func() error { return actors.Shutdown },
				func() error { panic(errBoom) },
				func() error { runtime.Goexit(); return nil },
			} {
				sys := newSystem(t)
				probe, watcher := start(t, sys, true)
				p := &callbacks{told: make(chan error, 1), info: first, terminate: f.do}
				pid, err := sys.Start(t.Context(), p, actors.WithName("x"))
				require.NoError(t, err)
				ref := monitor(t, watcher, pid)
				link(t, watcher, pid)
				pid.Send("x")
				actortest.AwaitDeath(t, pid)
				told := <-p.told
				if name == "returns" {
					require.Equal(t, told, pid.Reason())
				} else {
					require.ErrorIs(t, pid.Reason(), f.want)
					require.NotErrorIs(t, pid.Reason(), actors.Shutdown)
				}
				probe.Expect(t,
					actors.Down{Ref: ref, PID: pid, Reason: pid.Reason()},
					actors.Exit{PID: pid, Reason: pid.Reason()})
				require.Nil(t, sys.Whereis("x"))
				require.Zero(t, sys.Lingering())
			}
		})
	}
}

// The reason of a crash in a call is what the caller's call fails with and what the links hear. An orderly one is not
// logged; another one is, in one line, with the server, the type of the message and the caller. OTP writes a second line
// for the process itself, and the last message and the state into the first; here they are shown only if they want to be,
// see TestOTP_error_format_status.
func TestOTP_crash(t *testing.T) {
	detailed := actors.ShutdownWith(errStopped)
	ends := map[string]struct {
		do    onCall
		check func(*testing.T, error)
		log   []string // nil if nothing is logged
	}{
		"shutdown_reason":      {do: func(*actors.Context, actors.From) error { return detailed }, check: same(detailed)},
		"stop_shutdown_reason": {do: stopSelf(detailed), check: same(detailed)},
		"exit_shutdown":        {do: func(*actors.Context, actors.From) error { return actors.Shutdown }, check: same(actors.Shutdown)},
		"stop_shutdown":        {do: stopSelf(actors.Shutdown), check: same(actors.Shutdown)},
		"normal":               {do: func(*actors.Context, actors.From) error { return actors.Normal }, check: is(actors.Normal)},
		"crash": {
			do:    func(*actors.Context, actors.From) error { return errBoom },
			check: same(errBoom),
			log:   []string{"level=INFO", "err=boom type=actors_test.onCall"},
		},
		"panic": {
			do:    func(*actors.Context, actors.From) error { panic(errBoom) },
			check: isPanicIn("otp_stop_test.go"),
			log:   []string{"level=WARN", `err="panic: boom" type=actors_test.onCall`, "otp_stop_test.go"},
		},
		"goexit": {
			do:    func(*actors.Context, actors.From) error { runtime.Goexit(); return nil },
			check: same(actors.ErrGoexit),
			log:   []string{"level=INFO", `err="runtime.Goexit in a process" type=actors_test.onCall`},
		},
	}
	for name, end := range ends {
		t.Run(name, func(t *testing.T) {
			lines, sys := logging(t)
			probe, parent := start(t, sys, true)
			pid, _, err := starts[2].start(t, parent, newServer(), actors.WithName("crashing"), actors.WithKind("server"))
			require.NoError(t, err)
			_, caller := start(t, sys, false, actors.WithName("client"))
			actortest.Do(t, caller, func(c *actors.Context) error {
				_, err := c.Call(c.Ctx(), pid, end.do)
				end.check(t, err)
				return nil
			})
			end.check(t, pid.Reason())
			heard(t, probe, parent, actors.Exit{PID: pid, Reason: pid.Reason()})
			_, err = pid.Call(t.Context(), "started_p")
			require.Equal(t, actors.NoProcess, err)

			if end.log == nil {
				require.Empty(t, lines())
				return
			}
			got := lines()
			require.Len(t, got, 1)
			for _, want := range append(end.log, "msg=process_crashed part=process process=crashing kind=server err=",
				" type=actors_test.onCall", " caller=client") {
				require.Contains(t, got[0], want)
			}
			require.NotContains(t, got[0], "message=")
			require.NotContains(t, got[0], "state=")
		})
	}
}

// same checks that a reason is this one and no other.
func same(want error) func(*testing.T, error) {
	return func(t *testing.T, err error) { t.Helper(); assert.Same(t, want, err) }
}

// stopSelf has the process end in the orderly way of a stop from inside: in OTP {stop, Reason, State} without a reply.
func stopSelf(reason error) onCall {
	return func(c *actors.Context, _ actors.From) error {
		c.Continue(onInfo(func(*actors.Context) error { return reason }))
		return nil
	}
}
