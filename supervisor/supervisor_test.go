package supervisor_test

import (
	"bytes"
	"context"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/shearpin/shearpin/actors"
	"github.com/shearpin/shearpin/actors/actortest"
	"github.com/shearpin/shearpin/supervisor"
)

// Semantics 6: the first child that cannot be started ends the start; those before it are stopped, in reverse order, and
// when the start returns all names are free.
func TestFailedStart(t *testing.T) {
	sys := newSystem(t)
	var r trace
	broken := supervisor.Worker("broken", func() actors.Process {
		return &actortest.Probe{OnInit: func(*actors.Context) error { return errBoom }}
	})
	spec := supervisor.Spec{Name: "inner", Children: []supervisor.ChildSpec{
		r.probe("a"), with(r.probe("b"), func(c *supervisor.ChildSpec) { c.Shutdown = supervisor.BrutalKill }), broken, r.probe("c"),
	}}
	outer := supervisor.Spec{Name: "outer", Children: []supervisor.ChildSpec{r.probe("o"), supervisor.Sub("inner", spec)}}
	for range 3 {
		_, err := sys.Start(t.Context(), supervisor.New(outer), actors.WithName("outer"))
		require.ErrorIs(t, err, errBoom)
		require.ErrorIs(t, err, actors.Shutdown)
		var failed *supervisor.StartError
		require.ErrorAs(t, err, &failed)
		require.Equal(t, []string{"outer", "inner"}, []string{failed.Supervisor, failed.ID})
		require.EqualError(t, err, `shutdown: supervisor "outer" failed to start child "inner": `+
			`shutdown: supervisor "inner" failed to start child "broken": boom`)
		require.Equal(t, []string{"+o", "+a", "+b", "-a", "-o"}, r.take())
		for _, name := range []string{"a", "b", "c", "o", "outer"} {
			require.Nil(t, sys.Whereis(name))
		}
	}
	actortest.Eventually(t, func() bool { return len(sys.Processes()) == 0 })
}

// A child that does not stop in the middle of a failed start is killed when its time is over.
func TestFailedStartKills(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		sys := newSystem(t)
		leave := make(chan struct{})
		stubborn := supervisor.Worker("stubborn", func() actors.Process {
			return &actortest.Probe{Trap: true, OnTerminate: func(*actors.Context, error) { <-leave }}
		}, actors.WithName("stubborn"))
		stubborn.Shutdown = supervisor.After(3 * time.Second)
		broken := supervisor.Worker("broken", func() actors.Process {
			return &actortest.Probe{OnInit: func(*actors.Context) error { panic(errBoom) }}
		})
		begin := time.Now()
		_, err := sys.Start(t.Context(), supervisor.New(supervisor.Spec{Children: []supervisor.ChildSpec{stubborn, broken}}))
		require.ErrorIs(t, err, errBoom)
		require.Equal(t, 3*time.Second, time.Since(begin))
		require.Nil(t, sys.Whereis("stubborn"))
		close(leave)
	})
}

// A supervisor that waits for a child to stop is not deaf.
func TestListedWhileStopping(t *testing.T) {
	sys := newSystem(t)
	leave := make(chan struct{})
	inner := supervisor.Spec{Name: "inner", Children: []supervisor.ChildSpec{
		probe("a"), with(probe("b"), func(c *supervisor.ChildSpec) { c.Shutdown = supervisor.Infinity }),
	}}
	top := start(t, sys, supervisor.Spec{Name: "top", Children: []supervisor.ChildSpec{supervisor.Sub("inner", inner)}})
	sys.Whereis("b").Send(actortest.Func(func(*actors.Context) error { <-leave; return nil }))
	stopped := make(chan error, 1)
	go func() { stopped <- top.Stop(context.Background(), actors.Shutdown) }()
	var b supervisor.Node
	actortest.Eventually(t, func() bool {
		tree, err := supervisor.Tree(t.Context(), top)
		require.NoError(t, err)
		b = tree.Children[0].Children[1]
		return b.State == "stopping"
	})
	require.Equal(t, "b", b.ID)
	close(leave)
	require.NoError(t, <-stopped)
}

// A start function that does not link is helped, because a supervisor must hear of every death.
func TestChildThatWasNotLinked(t *testing.T) {
	sys := newSystem(t)
	sup := start(t, sys, supervisor.Spec{Children: []supervisor.ChildSpec{{
		ID: "a",
		Start: func(c *actors.Context) (*actors.PID, error) {
			return c.Start(actortest.NewProbe(), actors.WithName("a"))
		},
	}}})
	next(t, "a", crash(t, sys, "a"))
	require.True(t, sup.Alive())
}

// Nor is the reason lost if it was dead before there was a link.
func TestChildThatDiedUnlinked(t *testing.T) {
	sys := newSystem(t)
	sup := start(t, sys, supervisor.Spec{Intensity: supervisor.Never})
	_, err := supervisor.StartChild(t.Context(), sup, supervisor.ChildSpec{
		ID: "a",
		Start: func(c *actors.Context) (*actors.PID, error) {
			pid, err := c.Start(actortest.NewProbe())
			actortest.Crash(t, pid, errBoom)
			return pid, err
		},
	})
	require.NoError(t, err)
	requireReason(t, sup, errBoom)
}

// A supervisor takes only a death for a death: a signal that a living child sends it changes nothing.
func TestSignalOfALivingChild(t *testing.T) {
	sys := newSystem(t)
	sup := start(t, sys, supervisor.Spec{Intensity: supervisor.Never, Children: []supervisor.ChildSpec{probe("a")}})
	pid := sys.Whereis("a")
	actortest.Do(t, pid, func(c *actors.Context) error { c.Exit(sup, errBoom); return nil })
	require.Same(t, pid, children(t, sup)["a"].PID)
	require.Zero(t, children(t, sup)["a"].Restarts)
	require.True(t, pid.Alive())
}

// Stopping a child in time leaves no timer behind.
func TestStoppedChildLeavesNoTimer(t *testing.T) {
	clock := actortest.NewClock(time.Unix(0, 0))
	sys := actortest.NewSystem(t, actors.Options{Clock: clock})
	sup := start(t, sys, supervisor.Spec{Children: []supervisor.ChildSpec{probe("a")}})
	require.Zero(t, clock.Pending())
	require.NoError(t, supervisor.TerminateChild(t.Context(), sup, "a"))
	require.Zero(t, clock.Pending())
}

func TestFaultyStartFunctions(t *testing.T) {
	sys := newSystem(t)
	sup := start(t, sys, supervisor.Spec{})
	_, err := supervisor.StartChild(t.Context(), sup, supervisor.ChildSpec{
		ID: "a", Start: func(*actors.Context) (*actors.PID, error) { panic(errBoom) },
	})
	require.ErrorIs(t, err, errBoom)
	require.ErrorAs(t, err, new(*actors.PanicError))
	_, err = supervisor.StartChild(t.Context(), sup, supervisor.ChildSpec{
		ID: "a", Start: func(c *actors.Context) (*actors.PID, error) {
			pid, _ := c.StartLink(actortest.NewProbe(), actors.WithName("comes with an error"))
			return pid, errBoom
		},
	})
	require.ErrorIs(t, err, errBoom)
	require.Nil(t, sys.Whereis("comes with an error"))
	_, err = supervisor.StartChild(t.Context(), sup, supervisor.ChildSpec{
		ID: "a", Start: func(*actors.Context) (*actors.PID, error) { return nil, nil },
	})
	require.ErrorAs(t, err, new(*supervisor.StartError))
	require.Empty(t, children(t, sup))
}

// A child that cannot be restarted does not keep the supervisor from anything else, even if it fails so fast that the supervisor
// does nothing but try. (OTP's loop, which takes its time, is TestOTP_hanging_restart_loop.)
func TestRestartLoop(t *testing.T) {
	sys := newSystem(t)
	var broken bool
	child := supervisor.Worker("a", func() actors.Process {
		return &actortest.Probe{OnInit: func(*actors.Context) error {
			if broken {
				return errBoom
			}
			return nil
		}}
	}, actors.WithName("a"))
	sup := start(t, sys, supervisor.Spec{Intensity: 1 << 30, Children: []supervisor.ChildSpec{child, probe("b")}})
	b := sys.Whereis("b")
	// broken is only looked at between here and the end of the loop, by starts that this exit brings about.
	broken = true
	crash(t, sys, "a")
	actortest.Eventually(t, func() bool { return children(t, sup)["a"].State == "restarting" })
	_, err := supervisor.StartChild(t.Context(), sup, child)
	require.ErrorIs(t, err, supervisor.ErrAlreadyPresent)
	_, err = supervisor.RestartChild(t.Context(), sup, "a")
	require.ErrorIs(t, err, supervisor.ErrRestarting)
	require.ErrorIs(t, supervisor.DeleteChild(t.Context(), sup, "a"), supervisor.ErrRestarting)
	counts, err := supervisor.CountChildren(t.Context(), sup)
	require.NoError(t, err)
	require.Equal(t, supervisor.Counts{Specs: 2, Active: 1, Workers: 2}, counts)
	require.NoError(t, supervisor.TerminateChild(t.Context(), sup, "a"))
	broken = false
	pid, err := supervisor.RestartChild(t.Context(), sup, "a")
	require.NoError(t, err)
	require.Same(t, pid, sys.Whereis("a"))
	require.Same(t, b, sys.Whereis("b"))

	broken = true
	crash(t, sys, "a")
	actortest.Eventually(t, func() bool { return children(t, sup)["a"].State == "restarting" })
	require.NoError(t, sup.Stop(t.Context(), actors.Shutdown))
}

// A supervisor that is killed has no chance to stop anybody; the links do it.
func TestKilledSupervisor(t *testing.T) {
	sys := newSystem(t)
	sup := start(t, sys, supervisor.Spec{Children: []supervisor.ChildSpec{
		probe("a"), supervisor.Sub("sub", supervisor.Spec{Children: []supervisor.ChildSpec{probe("b")}}),
	}})
	a, b := sys.Whereis("a"), sys.Whereis("b")
	sup.Kill()
	requireReason(t, a, actors.Killed)
	requireReason(t, b, actors.Shutdown)
	actortest.Eventually(t, func() bool { return len(sys.Processes()) == 0 })
}

// Events and log lines tell the same story.
func TestEventsAndLog(t *testing.T) {
	var log bytes.Buffer
	sys := newSystem(t)
	bus := actors.NewBus[supervisor.Event]()
	events := bus.Subscribe(100)
	sup := start(t, sys, supervisor.Spec{
		Name: "top", Intensity: 1, Events: bus,
		Log:      slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{Level: slog.LevelDebug})),
		Children: []supervisor.ChildSpec{probe("a"), probe("b")},
	})
	first := crash(t, sys, "a")
	second := next(t, "a", first)
	b := sys.Whereis("b")
	crash(t, sys, "a")
	actortest.AwaitDeath(t, sup)
	events.Close()
	var got []supervisor.Event
	for e := range events.C() {
		assert.WithinDuration(t, time.Now(), e.At, time.Minute)
		e.At = time.Time{}
		got = append(got, e)
	}
	top := func(kind supervisor.EventKind, id string, pid *actors.PID, incarnation int, reason error) supervisor.Event {
		return supervisor.Event{Kind: kind, Supervisor: "top", ID: id, PID: pid, Incarnation: incarnation, Reason: reason}
	}
	want := []supervisor.Event{
		top(supervisor.ChildStarted, "a", first, 1, nil),
		top(supervisor.ChildStarted, "b", b, 1, nil),
		top(supervisor.ChildExited, "a", first, 1, errBoom),
		top(supervisor.ChildRestarting, "a", nil, 1, errBoom),
		top(supervisor.ChildStarted, "a", second, 2, nil),
		top(supervisor.ChildExited, "a", second, 2, errBoom),
		top(supervisor.GaveUp, "a", nil, 2, errBoom),
		top(supervisor.ChildExited, "b", b, 1, actors.Shutdown),
	}
	require.Len(t, got, len(want))
	for i := range want {
		if want[i] != got[i] {
			require.Failf(t, "unexpected event", "event %d: %v, want %v", i, got[i], want[i])
		}
	}
	for i, line := range []string{
		"level=DEBUG msg=child_started part=supervisor supervisor=top child=a incarnation=1",
		"level=DEBUG msg=child_started part=supervisor supervisor=top child=b incarnation=1",
		"level=INFO msg=child_exited part=supervisor supervisor=top child=a incarnation=1 err=boom",
		"level=DEBUG msg=child_restarting part=supervisor supervisor=top child=a incarnation=1 err=boom",
		"level=INFO msg=child_restarted part=supervisor supervisor=top child=a incarnation=2",
		"level=INFO msg=child_exited part=supervisor supervisor=top child=a incarnation=2 err=boom",
		"level=WARN msg=supervisor_gave_up part=supervisor supervisor=top child=a incarnation=2 err=boom",
		"level=DEBUG msg=child_exited part=supervisor supervisor=top child=b incarnation=1 err=shutdown",
	} {
		require.True(t, strings.HasSuffix(strings.Split(log.String(), "\n")[i], line), "line %d of\n%s", i, log.String())
	}
}

// A process is one child, or its death would be told of one child only and the other's end be awaited for ever.
func TestStartFunctionReturnsAnother(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		sys := newSystem(t)
		returning := func(id string, pid func(c *actors.Context) *actors.PID) supervisor.ChildSpec {
			return supervisor.ChildSpec{ID: id, Shutdown: supervisor.Infinity, Start: func(c *actors.Context) (*actors.PID, error) {
				return pid(c), nil
			}}
		}
		sibling := returning("sibling", func(c *actors.Context) *actors.PID { return c.System().Whereis("a") })
		self := returning("self", (*actors.Context).Self)
		sup := start(t, sys, supervisor.Spec{Children: []supervisor.ChildSpec{probe("a")}})
		for _, spec := range []supervisor.ChildSpec{sibling, self} {
			pid, err := supervisor.StartChild(t.Context(), sup, spec)
			assert.ErrorAs(t, err, new(*supervisor.StartError), spec.ID)
			assert.Nil(t, pid)
		}
		require.NotNil(t, sys.Whereis("a"))
		_, err := sys.Start(t.Context(), supervisor.New(supervisor.Spec{Children: []supervisor.ChildSpec{probe("b"), self}}))
		require.ErrorAs(t, err, new(*supervisor.StartError))
		require.Nil(t, sys.Whereis("b"))
		ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
		defer cancel()
		require.NoError(t, sup.Stop(ctx, actors.Shutdown))
	})
}

// A supervisor that is killed while it waits for a start tells nobody what became of that, nor that children are dead
// that are not.
func TestKilledInInitIsSilent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		sys := newSystem(t)
		events := actors.NewBus[supervisor.Event]()
		news := events.Subscribe(10)
		slow := supervisor.Worker("slow", func() actors.Process {
			return &actortest.Probe{Trap: true, OnTerminate: func(*actors.Context, error) { <-time.After(time.Second) }}
		})
		stuck := supervisor.Worker("stuck", func() actors.Process {
			return &actortest.Probe{OnInit: func(*actors.Context) error { <-time.After(time.Second); return nil }}
		})
		failed := make(chan error)
		go func() {
			spec := supervisor.Spec{Events: events, Children: []supervisor.ChildSpec{slow, stuck}}
			_, err := sys.Start(context.Background(), supervisor.New(spec), actors.WithName("sup"))
			failed <- err
		}()
		synctest.Wait()
		sys.Whereis("sup").Kill()
		require.ErrorIs(t, <-failed, actors.Killed)
		actortest.Elapse(time.Minute)
		news.Close()
		var kinds []supervisor.EventKind
		for e := range news.C() {
			kinds = append(kinds, e.Kind)
		}
		require.Equal(t, []supervisor.EventKind{supervisor.ChildStarted}, kinds)
	})
}

// A message that a supervisor has no use for is in the log, and changes nothing.
func TestUnexpectedMessage(t *testing.T) {
	var out bytes.Buffer
	sup := start(t, actortest.NewSystem(t, actors.Options{Logger: slog.New(slog.NewTextHandler(&out, nil))}), supervisor.Spec{})
	sup.Send("x")
	_, err := supervisor.CountChildren(t.Context(), sup)
	require.NoError(t, err)
	require.Contains(t, out.String(), "level=WARN msg=unexpected_message")
	require.Contains(t, out.String(), "type=string")
}
