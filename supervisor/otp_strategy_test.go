package supervisor_test

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/shearpin/shearpin/actors"
	"github.com/shearpin/shearpin/actors/actortest"
	"github.com/shearpin/shearpin/supervisor"
	"github.com/shearpin/shearpin/supervisor/internal/workers"
)

// Restarts that are older than the period do not count: with one restart allowed per second, a child may crash again and
// again every 2.1 s, by the clock of the system. The intensity holds nevertheless, which OTP's case does not look at.
func TestOTP_multiple_restarts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		clock := actortest.NewClock(time.Unix(0, 0))
		sys := actortest.NewSystem(t, actors.Options{Clock: clock})
		sup := start(t, sys, supervisor.Spec{Intensity: 1, Period: time.Second})
		child := worker("child1")
		child.Shutdown = supervisor.BrutalKill
		add(t, sup, child)
		for i := range 4 {
			end(t, sup, "child1", workers.Abnormal)
			require.Equal(t, i+1, children(t, sup)["child1"].Restarts)
			clock.Advance(2100 * time.Millisecond)
		}
		require.NoError(t, supervisor.TerminateChild(t.Context(), sup, "child1"))
		require.NoError(t, supervisor.DeleteChild(t.Context(), sup, "child1"))
		require.True(t, sup.Alive())

		add(t, sup, child)
		end(t, sup, "child1", workers.Abnormal)
		clock.Advance(time.Second) // the edge still counts
		end(t, sup, "child1", workers.Abnormal)
		requireGaveUp(t, sup, "child1", workers.ErrDied)
	})
}

// Only the child that died is restarted. The restarts are counted together whosever they are: the third is one too many.
func TestOTP_one_for_one(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		sys := newSystem(t)
		sup := start(t, sys, often(supervisor.OneForOne, 2))
		child1 := add(t, sup, worker("child1"))
		child2 := add(t, sup, worker("child2"))
		end(t, sup, "child1", workers.Abnormal)
		require.Equal(t, []string{"child2 running", "child1 running"}, listed(t, sup))
		require.Same(t, child2, children(t, sup)["child2"].PID)
		require.NotSame(t, child1, children(t, sup)["child1"].PID)
		workers.RequireCounts(t, sup, 2, 2, 0, 2)

		end(t, sup, "child2", workers.Abnormal)
		require.True(t, sup.Alive())
		sibling := sys.Whereis("child1")
		end(t, sup, "child2", workers.Abnormal)
		requireGaveUp(t, sup, "child2", workers.ErrDied)
		require.Equal(t, actors.Shutdown, sibling.Reason())
	})
}

// A child that cannot be restarted makes the supervisor give up when the attempts have used up the intensity, and the
// sibling goes with it.
func TestOTP_one_for_one_escalation(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		sys := newSystem(t)
		var r trace
		sup := start(t, sys, often(supervisor.OneForOne, 4))
		add(t, sup, r.brittle("child1"))
		child2 := add(t, sup, r.probe("child2"))
		r.take()
		crash(t, sys, "child1")
		requireGaveUp(t, sup, "child1", workers.ErrStart)
		require.Equal(t, []string{"-child1", "!child1", "!child1", "!child1", "!child1", "-child2"}, r.take())
		require.Equal(t, actors.Shutdown, child2.Reason())
	})
}

// brittle describes a probe that can be started once: it is OTP's child with the argument error. A restart that fails is
// recorded with a !.
func (r *trace) brittle(id string) supervisor.ChildSpec {
	outcome := workers.Once()
	return supervisor.Worker(id, func() actors.Process {
		return &actortest.Probe{
			Trap: true,
			OnInit: func(c *actors.Context) error {
				err := outcome(c)
				r.add(map[bool]string{true: "+", false: "!"}[err == nil] + id)
				return err
			},
			OnTerminate: func(*actors.Context, error) { r.add("-" + id) },
		}
	}, actors.WithName(id))
}

// All children are stopped and restarted with the one that died; no old process survives. A restart of all is one restart.
func TestOTP_one_for_all(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		sys := newSystem(t)
		sup := start(t, sys, often(supervisor.OneForAll, 2))
		child1 := add(t, sup, worker("child1"))
		child2 := add(t, sup, worker("child2"))
		end(t, sup, "child1", workers.Abnormal)
		require.Equal(t, actors.Shutdown, child2.Reason())
		require.Equal(t, []string{"child2 running", "child1 running"}, listed(t, sup))
		require.NotSame(t, child1, children(t, sup)["child1"].PID)
		require.NotSame(t, child2, children(t, sup)["child2"].PID)
		workers.RequireCounts(t, sup, 2, 2, 0, 2)

		child1 = sys.Whereis("child1")
		end(t, sup, "child2", workers.Abnormal)
		require.True(t, sup.Alive())
		require.Equal(t, actors.Shutdown, child1.Reason(), "those before it too")
		end(t, sup, "child2", workers.Abnormal)
		requireGaveUp(t, sup, "child2", workers.ErrDied)
	})
}

// A sibling that cannot be restarted makes the supervisor give up. Each attempt is one of all.
func TestOTP_one_for_all_escalation(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		sys := newSystem(t)
		var r trace
		sup := start(t, sys, often(supervisor.OneForAll, 4))
		add(t, sup, r.probe("child1"))
		child2 := add(t, sup, r.brittle("child2"))
		r.take()
		crash(t, sys, "child1")
		requireGaveUp(t, sup, "child2", workers.ErrStart)
		require.Equal(t, actors.Shutdown, child2.Reason())
		require.Equal(t, []string{
			"-child1", "-child2",
			"+child1", "!child2", "-child1",
			"+child1", "!child2", "-child1",
			"+child1", "!child2", "-child1",
			"+child1", "!child2", "-child1",
		}, r.take())
	})
}

// When a sibling fails to start in the restart of all, those that have been started again are stopped, in the orderly way,
// and all are started once more from the first on.
func TestOTP_one_for_all_other_child_fails_restart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		sys := newSystem(t)
		gate1, gate2 := workers.NewGate(), workers.NewGate()
		sup := start(t, sys, often(supervisor.OneForAll, 3,
			named("child1", workers.Worker{Outcome: gate1.Outcome}), named("child2", workers.Worker{Outcome: gate2.Outcome})))
		gate1.Shut()
		gate2.Shut()
		end(t, sup, "child1", workers.Abnormal)
		child1 := gate1.Next(t)
		child1.Return(nil)
		gate2.Next(t).Return(workers.ErrStart)
		// Child 1 comes to its gate a third time before child 2 does.
		again := gate1.Next(t)
		require.NotSame(t, child1.PID, again.PID)
		require.Equal(t, actors.Shutdown, child1.PID.Reason())
		again.Return(nil)
		gate2.Next(t).Return(nil)
		synctest.Wait()
		require.Equal(t, []string{"child2 running", "child1 running"}, listed(t, sup))
		require.Same(t, again.PID, sys.Whereis("child1"))
		require.NoError(t, sup.Stop(t.Context(), actors.Shutdown))
	})
}

// The child that died and those that were started after it are stopped and restarted; those before it keep their process,
// and all their place in the list. A restart of several is one restart.
func TestOTP_rest_for_one(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		sys := newSystem(t)
		sup := start(t, sys, often(supervisor.RestForOne, 2))
		child1 := add(t, sup, worker("child1"))
		child2 := add(t, sup, worker("child2"))
		child3 := add(t, sup, worker("child3"))
		workers.RequireCounts(t, sup, 3, 3, 0, 3)
		end(t, sup, "child2", workers.Abnormal)
		require.Equal(t, actors.Shutdown, child3.Reason())
		require.Equal(t, []string{"child3 running", "child2 running", "child1 running"}, listed(t, sup))
		now := children(t, sup)
		require.Same(t, child1, now["child1"].PID)
		require.NotSame(t, child2, now["child2"].PID)
		require.NotSame(t, child3, now["child3"].PID)
		workers.RequireCounts(t, sup, 3, 3, 0, 3)

		end(t, sup, "child3", workers.Abnormal)
		require.Same(t, now["child2"].PID, children(t, sup)["child2"].PID, "it is before child 3")
		end(t, sup, "child2", workers.Abnormal)
		requireGaveUp(t, sup, "child2", workers.ErrDied)
		require.Equal(t, actors.Shutdown, child1.Reason())
	})
}

// A later child that cannot be restarted makes the supervisor give up. Those before it are restarted once.
func TestOTP_rest_for_one_escalation(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		sys := newSystem(t)
		var r trace
		sup := start(t, sys, often(supervisor.RestForOne, 4))
		add(t, sup, r.probe("child1"))
		child2 := add(t, sup, r.brittle("child2"))
		r.take()
		crash(t, sys, "child1")
		requireGaveUp(t, sup, "child2", workers.ErrStart)
		require.Equal(t, actors.Shutdown, child2.Reason())
		require.Equal(t, []string{
			"-child1", "-child2", "+child1", "!child2", "!child2", "!child2", "!child2", "-child1",
		}, r.take())
	})
}

// Here, in contrast to one_for_all, the restart is tried again from the child that failed: the one before it, which has
// been started again, keeps its new process.
func TestOTP_rest_for_one_other_child_fails_restart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		sys := newSystem(t)
		gate1, gate2 := workers.NewGate(), workers.NewGate()
		sup := start(t, sys, often(supervisor.RestForOne, 3,
			named("child1", workers.Worker{Outcome: gate1.Outcome}), named("child2", workers.Worker{Outcome: gate2.Outcome})))
		gate1.Shut()
		gate2.Shut()
		end(t, sup, "child1", workers.Abnormal)
		child1 := gate1.Next(t)
		child1.Return(nil)
		gate2.Next(t).Return(workers.ErrStart)
		// Child 2 comes to its gate a third time, and child 1 does not.
		gate2.Next(t).Return(nil)
		synctest.Wait()
		require.Equal(t, []string{"child2 running", "child1 running"}, listed(t, sup))
		require.Same(t, child1.PID, sys.Whereis("child1"))
		require.True(t, child1.PID.Alive())
		require.NoError(t, sup.Stop(t.Context(), actors.Shutdown))
	})
}

// Children are started in the order of the spec, whatever their ids, and stopped in the reverse order: by a restart those
// from the dead one on, at the end all. The children themselves record what happens to them.
func TestOTP_order_of_children(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		sys := newSystem(t)
		var r trace
		sup := start(t, sys, often(supervisor.RestForOne, 2,
			r.probe("ch7"), r.probe("ch3"), r.probe("ch10"), r.probe("ch2"), r.probe("ch5")))
		require.Equal(t, []string{"+ch7", "+ch3", "+ch10", "+ch2", "+ch5"}, r.take())
		inOrder := []string{"ch5 running", "ch2 running", "ch10 running", "ch3 running", "ch7 running"}
		require.Equal(t, inOrder, listed(t, sup))
		before := children(t, sup)

		crash(t, sys, "ch10")
		synctest.Wait()
		require.Equal(t, []string{"-ch10", "-ch5", "-ch2", "+ch10", "+ch2", "+ch5"}, r.take())
		require.Equal(t, inOrder, listed(t, sup))
		after := children(t, sup)
		for _, id := range []string{"ch7", "ch3"} {
			require.Same(t, before[id].PID, after[id].PID)
		}
		for _, id := range []string{"ch10", "ch2", "ch5"} {
			require.NotSame(t, before[id].PID, after[id].PID)
		}

		require.NoError(t, sup.Stop(t.Context(), actors.Shutdown))
		require.Equal(t, []string{"-ch5", "-ch2", "-ch10", "-ch3", "-ch7"}, r.take())
		require.Empty(t, sys.Processes())
	})
}
