package supervisor_test

import (
	"context"
	"runtime"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/shearpin/shearpin/actors"
	"github.com/shearpin/shearpin/actors/actortest"
	"github.com/shearpin/shearpin/supervisor"
)

// The traps of Proto.Actor (spec/protoactor.md) that are about supervision. The others, and those to which nothing here
// corresponds, are in actors/traps_test.go.

// E1, E2: a child that panics on its way out is restarted, so that the stop is lost; or its parent is never told and cannot
// stop either. Here a child that was told to stop is dead whatever it dies of, and its supervisor goes on to the next.
func TestTrap_E2(t *testing.T) {
	for name, crash := range map[string]func(){"panic": func() { panic(errBoom) }, "goexit": runtime.Goexit} {
		t.Run(name, func(t *testing.T) {
			sys := newSystem(t)
			child := func(id string) supervisor.ChildSpec {
				return supervisor.Worker(id, func() actors.Process {
					return &actortest.Probe{Trap: true, OnTerminate: func(*actors.Context, error) { crash() }}
				}, actors.WithName(id))
			}
			sup := start(t, sys, supervisor.Spec{Children: []supervisor.ChildSpec{child("a"), child("b")}})
			require.NoError(t, supervisor.TerminateChild(t.Context(), sup, "b"))
			require.Nil(t, sys.Whereis("b"))
			require.Equal(t, "stopped", children(t, sup)["b"].State)
			require.NoError(t, sup.Stop(t.Context(), actors.Shutdown))
			actortest.Eventually(t, func() bool { return len(sys.Processes()) == 0 })
		})
	}
}

// E9: a restart keeps the PID and the queued mail, and watchers hear nothing. Here a restart is another process: the old
// one's death is told, and what was sent to it is gone with it.
func TestTrap_E9(t *testing.T) {
	sys := newSystem(t)
	var incarnations []*actortest.Probe
	spec := supervisor.Worker("a", func() actors.Process {
		incarnations = append(incarnations, actortest.NewProbe())
		return incarnations[len(incarnations)-1]
	}, actors.WithName("a"))
	start(t, sys, supervisor.Spec{Children: []supervisor.ChildSpec{spec}})
	old := sys.Whereis("a")
	watching := actortest.NewProbe()
	watcher := watching.Start(t, sys)
	var ref actors.Ref
	actortest.Do(t, watcher, func(c *actors.Context) error { ref = c.Monitor(old); return nil })
	leave := make(chan struct{})
	old.Send(actortest.Func(func(*actors.Context) error { <-leave; return errBoom }))
	old.Send("queued")
	close(leave)
	second := next(t, "a", old)
	watching.Expect(t, actors.Down{Ref: ref, PID: old, Reason: errBoom})
	old.Send("too late")
	second.Send("for the second")
	actortest.Do(t, second, func(*actors.Context) error { return nil })
	require.Len(t, incarnations, 2)
	require.NotContains(t, incarnations[0].Received(), "queued")
	require.Equal(t, []any{"for the second"}, incarnations[1].Received())
}

// E13: the list of children is the internal slice, and its order changes when one is removed. Here it is a copy, in the
// order of the starts, and stopping keeps to that order.
func TestTrap_E13(t *testing.T) {
	sys := newSystem(t)
	var r trace
	sup := start(t, sys, supervisor.Spec{Children: []supervisor.ChildSpec{r.probe("a"), r.probe("b"), r.probe("c"), r.probe("d")}})
	list, err := supervisor.WhichChildren(t.Context(), sup)
	require.NoError(t, err)
	clear(list)
	require.NoError(t, supervisor.TerminateChild(t.Context(), sup, "a"))
	require.NoError(t, supervisor.DeleteChild(t.Context(), sup, "a"))
	list, err = supervisor.WhichChildren(t.Context(), sup)
	require.NoError(t, err)
	var ids []string
	for _, c := range list {
		ids = append(ids, c.ID)
	}
	require.Equal(t, []string{"d", "c", "b"}, ids, "the youngest first, as in OTP")
	r.take()
	require.NoError(t, sup.Stop(t.Context(), actors.Shutdown))
	require.Equal(t, []string{"-d", "-c", "-b"}, r.take())
}

// E15: one child that does not return and the parent can never finish stopping. Here its time is bounded, and then it is
// dead for everybody, with the others stopped in their order.
func TestTrap_E15(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		sys := newSystem(t)
		stuck := with(probe("stuck"), func(c *supervisor.ChildSpec) { c.Shutdown = supervisor.After(2 * time.Second) })
		sup := start(t, sys, supervisor.Spec{Children: []supervisor.ChildSpec{probe("a"), stuck, probe("c")}})
		a, victim, leave := sys.Whereis("a"), sys.Whereis("stuck"), make(chan struct{})
		victim.Send(actortest.Func(func(*actors.Context) error { <-leave; return nil }))
		synctest.Wait()
		begin := time.Now()
		require.NoError(t, sup.Stop(t.Context(), actors.Shutdown))
		require.Equal(t, 2*time.Second, time.Since(begin))
		require.Equal(t, actors.Killed, victim.Reason())
		require.Equal(t, actors.Shutdown, a.Reason())
		require.Nil(t, sys.Whereis("stuck"))
		require.Equal(t, 1, sys.Lingering())
		close(leave)
		synctest.Wait()
		require.Zero(t, sys.Lingering())
	})
}

// E16: the intensity is counted per child, exceeding it stops only that child, and the list of failures grows without
// bound. Here it is the supervisor's, which gives up as a whole and tells the one above.
func TestTrap_E16(t *testing.T) {
	sys := newSystem(t)
	inner := supervisor.Spec{Name: "inner", Intensity: 2, Period: time.Hour, Children: []supervisor.ChildSpec{
		probe("a"), probe("b"), probe("c"),
	}}
	top := start(t, sys, supervisor.Spec{Name: "top", Children: []supervisor.ChildSpec{
		supervisor.Sub("inner", inner, actors.WithName("inner")), probe("beside"),
	}})
	first, beside := sys.Whereis("inner"), sys.Whereis("beside")
	next(t, "a", crash(t, sys, "a"))
	next(t, "b", crash(t, sys, "b"))
	c := sys.Whereis("c")
	crash(t, sys, "c") // the third, of three children
	requireReason(t, first, actors.Shutdown)
	var gaveUp *supervisor.GaveUpError
	require.ErrorAs(t, first.Reason(), &gaveUp)
	second := next(t, "inner", first)
	require.NotSame(t, c, next(t, "c", c))
	require.Same(t, beside, sys.Whereis("beside"))
	require.True(t, top.Alive())
	require.True(t, second.Alive())
}

// E17: AllForOne restarts all at the same time and in no order, while healthy siblings go on working. Here they are stopped
// one after the other, youngest first, and only then started, oldest first.
func TestTrap_E17(t *testing.T) {
	sys := newSystem(t)
	var r trace
	start(t, sys, supervisor.Spec{Strategy: supervisor.OneForAll, Children: []supervisor.ChildSpec{r.probe("a"), r.probe("b"), r.probe("c")}})
	r.take()
	old := sys.Whereis("c")
	crash(t, sys, "b")
	next(t, "c", old)
	var lines []string
	actortest.Eventually(t, func() bool { lines = append(lines, r.take()...); return len(lines) >= 6 })
	require.Equal(t, []string{"-b", "-c", "-a", "+a", "+b", "+c"}, lines)
}

// E18: on a conflict of names a process of the new one has run before anybody noticed. Here its Init has not, and the child
// that has the name is untouched.
func TestTrap_E18(t *testing.T) {
	sys := newSystem(t)
	sup := start(t, sys, supervisor.Spec{Children: []supervisor.ChildSpec{probe("a")}})
	a := sys.Whereis("a")
	ran := false
	_, err := supervisor.StartChild(t.Context(), sup, supervisor.Worker("b", func() actors.Process {
		return &actortest.Probe{OnInit: func(*actors.Context) error { ran = true; return nil }}
	}, actors.WithName("a")))
	var taken *actors.AlreadyStartedError
	require.ErrorAs(t, err, &taken)
	require.Same(t, a, taken.PID)
	require.False(t, ran)
	require.Same(t, a, sys.Whereis("a"))
	require.Len(t, children(t, sup), 1)
}

// A panic in a producer hits whoever spawns. Here what makes a child's process may panic: that is a start that failed, and
// a restart that failed is tried again.
func TestTrap_ProducerPanics(t *testing.T) {
	sys := newSystem(t)
	var faulty atomic.Int32
	spec := supervisor.Worker("a", func() actors.Process {
		if faulty.Add(-1) >= 0 {
			panic(errBoom)
		}
		return actortest.NewProbe()
	}, actors.WithName("a"))
	faulty.Store(1)
	_, err := sys.Start(t.Context(), supervisor.New(supervisor.Spec{Children: []supervisor.ChildSpec{spec}}))
	require.ErrorIs(t, err, errBoom)
	require.ErrorAs(t, err, new(*actors.PanicError))
	sup := start(t, sys, supervisor.Spec{Intensity: 10, Children: []supervisor.ChildSpec{spec}})
	faulty.Store(3)
	next(t, "a", crash(t, sys, "a"))
	require.True(t, sup.Alive())
}

// Issue #299: a death during a restart is lost. Here a child that dies while its group is being restarted, before or after
// its own turn, is found dead, and the group comes back whole.
func TestTrap_DeathDuringRestart(t *testing.T) {
	sys := newSystem(t)
	hold := make(chan struct{})
	var slow atomic.Bool
	inTerminate := make(chan struct{}, 1)
	b := supervisor.Worker("b", func() actors.Process {
		return &actortest.Probe{Trap: true, OnTerminate: func(*actors.Context, error) {
			if slow.Load() {
				inTerminate <- struct{}{}
				<-hold
			}
		}}
	}, actors.WithName("b"))
	sup := start(t, sys, supervisor.Spec{
		Strategy: supervisor.OneForAll, Intensity: 1,
		Children: []supervisor.ChildSpec{probe("a"), b, probe("c")},
	})
	a, c := sys.Whereis("a"), sys.Whereis("c")
	slow.Store(true)
	crash(t, sys, "c")
	<-inTerminate // the group is being stopped
	slow.Store(false)
	actortest.Crash(t, a, errBoom) // it was to be stopped next
	close(hold)
	next(t, "c", c)
	require.NotSame(t, a, next(t, "a", a))
	actortest.Eventually(t, func() bool { return len(sys.Processes()) == 4 })
	require.True(t, sup.Alive(), "that was one restart")
	for id, info := range children(t, sup) {
		require.Equal(t, 2, info.Incarnation, id)
	}
}

// Issue #391: a PoisonPill stops the children at once, before what was sent earlier has been handled. Here a stop takes its
// turn among the messages.
func TestTrap_StopTakesItsTurn(t *testing.T) {
	sys := newSystem(t)
	var r trace
	sup := start(t, sys, supervisor.Spec{Children: []supervisor.ChildSpec{r.probe("a")}})
	leave := make(chan struct{})
	started := make(chan error, 2)
	slow := supervisor.ChildSpec{ID: "slow", Start: func(c *actors.Context) (*actors.PID, error) {
		started <- nil
		<-leave
		return c.StartLink(actortest.NewProbe())
	}}
	go func() { _, err := supervisor.StartChild(context.Background(), sup, slow); started <- err }()
	require.NoError(t, <-started)
	late := make(chan error, 1)
	go func() { _, err := supervisor.StartChild(context.Background(), sup, r.probe("late")); late <- err }()
	actortest.Eventually(t, func() bool { return sup.MailboxLen() == 2 })
	stopped := make(chan error, 1)
	go func() { stopped <- sup.Stop(context.Background(), actors.Shutdown) }()
	actortest.Eventually(t, func() bool { return sup.MailboxLen() == 3 })
	close(leave)
	require.NoError(t, <-started)
	assert.NoError(t, <-late)
	require.NoError(t, <-stopped)
	require.Equal(t, []string{"+a", "+late", "-late", "-a"}, r.take())
}
