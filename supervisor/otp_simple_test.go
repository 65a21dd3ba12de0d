package supervisor_test

import (
	"runtime"
	"testing"
	"testing/synctest"
	"time"
	"weak"

	"github.com/stretchr/testify/require"

	"github.com/shearpin/shearpin/actors"
	"github.com/shearpin/shearpin/actors/actortest"
	"github.com/shearpin/shearpin/supervisor"
	"github.com/shearpin/shearpin/supervisor/internal/workers"
)

// This file has the cases of one child of many: those of simple_one_for_one among the strategies, the robustness and the
// memory.

// simple describes a supervisor of dynamic workers; the argument of their start is their recipe.
func simple(restart supervisor.Restart, intensity int, opts ...func(*supervisor.ChildSpec)) supervisor.Spec {
	template := supervisor.ChildSpec{ID: "child", StartWith: workers.StartWith, Restart: restart}
	for _, opt := range opts {
		opt(&template)
	}
	return often(supervisor.SimpleOneForOne, intensity, template)
}

func within(d time.Duration) func(*supervisor.ChildSpec) {
	return func(c *supervisor.ChildSpec) { c.Shutdown = supervisor.After(d) }
}

// addWith is StartChildWith.
func addWith(t testing.TB, sup *actors.PID, w workers.Worker) *actors.PID {
	t.Helper()
	pid, err := supervisor.StartChildWith(t.Context(), sup, w)
	require.NoError(t, err)
	require.True(t, pid.Alive())
	return pid
}

// endOne ends a worker and returns when everybody has done what follows.
func endOne(t testing.TB, pid *actors.PID, how workers.How) {
	t.Helper()
	workers.Terminate(t, pid, how)
	synctest.Wait()
}

// running lists the processes of the children, the youngest child first.
func running(t testing.TB, sup *actors.PID) (pids []*actors.PID) {
	t.Helper()
	list, err := supervisor.WhichChildren(t.Context(), sup)
	require.NoError(t, err)
	for _, c := range list {
		require.Empty(t, c.ID)
		require.Equal(t, "running", c.State)
		require.True(t, c.PID.Alive())
		pids = append(pids, c.PID)
	}
	return pids
}

// Only the dynamic child that died is restarted. The restarts are counted together, and the third is one too many.
func TestOTP_simple_one_for_one(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		sup := start(t, newSystem(t), simple(supervisor.Permanent, 2))
		first := addWith(t, sup, workers.Worker{})
		second := addWith(t, sup, workers.Worker{})
		endOne(t, first, workers.Abnormal)
		now := running(t, sup)
		require.Len(t, now, 2)
		require.Contains(t, now, second)
		require.NotContains(t, now, first)
		workers.RequireCounts(t, sup, 1, 2, 0, 2)

		endOne(t, second, workers.Abnormal)
		require.True(t, sup.Alive())
		now = running(t, sup)
		endOne(t, now[0], workers.Abnormal)
		requireGaveUp(t, sup, "child", workers.ErrDied)
		require.Equal(t, actors.Shutdown, now[1].Reason())
	})
}

// A dynamic child whose restart is ignored is forgotten, though it is permanent or transient. The supervisor is well.
func TestOTP_simple_one_for_one_restart_ignore(t *testing.T) {
	for _, restart := range []supervisor.Restart{supervisor.Transient, supervisor.Permanent} {
		t.Run(restart.String(), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				sup := start(t, newSystem(t), simple(restart, 10))
				first := addWith(t, sup, workers.Worker{Outcome: workers.Sequence(nil, nil, actors.ErrIgnore, nil)})
				require.Equal(t, []*actors.PID{first}, running(t, sup))
				endOne(t, first, workers.Kill)
				second := running(t, sup)
				require.Len(t, second, 1)
				require.NotSame(t, first, second[0])
				endOne(t, second[0], workers.Kill)
				require.Empty(t, running(t, sup))
				workers.RequireCounts(t, sup, 1, 0, 0, 0)
				require.NoError(t, supervisor.TerminateChild(t.Context(), sup, second[0]), "there is nobody any more")
				require.NoError(t, sup.Stop(t.Context(), actors.Shutdown))
				require.Equal(t, actors.Shutdown, sup.Reason())
			})
		})
	}
}

// Dynamic children are stopped at the same time, and have that time together. Two that need 1 s and one that needs 5 s
// take the 2 s after which all that are left are killed: not less, because the two are waited for, and not the sum.
func TestOTP_simple_one_for_one_shutdown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		sys := newSystem(t)
		sup := start(t, sys, simple(supervisor.Permanent, 2, within(2*time.Second)))
		slow := []*actors.PID{
			addWith(t, sup, workers.Worker{Slow: time.Second}), addWith(t, sup, workers.Worker{Slow: time.Second}),
		}
		slowest := addWith(t, sup, workers.Worker{Slow: 5 * time.Second})
		begin := time.Now()
		require.NoError(t, sup.Stop(t.Context(), actors.Shutdown))
		require.Equal(t, 2*time.Second, time.Since(begin))
		for _, pid := range slow {
			require.Equal(t, actors.Shutdown, pid.Reason())
		}
		require.Equal(t, actors.Killed, slowest.Reason())
		require.Equal(t, actors.Shutdown, sup.Reason())
		require.Empty(t, sys.Processes())
	})
	// If all are quick enough, the slowest decides.
	synctest.Test(t, func(t *testing.T) {
		sup := start(t, newSystem(t), simple(supervisor.Permanent, 2, within(time.Minute)))
		for i := range 10 {
			addWith(t, sup, workers.Worker{Slow: time.Duration(i) * time.Second})
		}
		begin := time.Now()
		require.NoError(t, sup.Stop(t.Context(), actors.Shutdown))
		require.Equal(t, 9*time.Second, time.Since(begin))
	})
	// One timer serves all of them, and it is not left behind.
	synctest.Test(t, func(t *testing.T) {
		clock := actortest.NewClock(time.Unix(0, 0))
		sys := actortest.NewSystem(t, actors.Options{Clock: clock})
		sup := start(t, sys, simple(supervisor.Permanent, 2, within(time.Minute)))
		const n = 10
		for range n {
			addWith(t, sup, workers.Worker{Slow: time.Second})
		}
		stopped := make(chan error, 1)
		go func() { stopped <- sup.Stop(t.Context(), actors.Shutdown) }()
		synctest.Wait()
		require.Equal(t, n+1, clock.Pending(), "that of the supervisor and those of the children")
		clock.Advance(time.Second)
		require.NoError(t, <-stopped)
		synctest.Wait() // the timers of a process go after its callers have been told
		require.Zero(t, clock.Pending())
	})
}

// OTP's start functions can return something extra, which its case passes through StartChild, and checks that restarts work
// nevertheless. Here a start function is a closure that hands what it likes to whom it likes: the extra value arrives, at
// the restarts too, and they work.
func TestOTP_simple_one_for_one_extra(t *testing.T) {
	type extra struct {
		pid  *actors.PID
		info string
	}
	synctest.Test(t, func(t *testing.T) {
		extras := make(chan extra, 10)
		sup := start(t, newSystem(t), simple(supervisor.Permanent, 2, func(template *supervisor.ChildSpec) {
			template.StartWith = func(c *actors.Context, arg any) (*actors.PID, error) {
				pid, err := workers.StartWith(c, workers.Worker{})
				extras <- extra{pid, arg.(string)}
				return pid, err
			}
		}))
		add := func() *actors.PID {
			pid, err := supervisor.StartChildWith(t.Context(), sup, "extra info")
			require.NoError(t, err)
			require.Equal(t, extra{pid, "extra info"}, <-extras)
			return pid
		}
		first, second := add(), add()
		endOne(t, first, workers.Abnormal)
		now := running(t, sup)
		require.Len(t, now, 2)
		require.Contains(t, now, second)
		workers.RequireCounts(t, sup, 1, 2, 0, 2)
		again := <-extras
		require.Contains(t, now, again.pid)
		require.Equal(t, "extra info", again.info)

		endOne(t, second, workers.Abnormal)
		endOne(t, (<-extras).pid, workers.Abnormal)
		requireGaveUp(t, sup, "child", workers.ErrDied)
	})
}

// A dynamic child that cannot be restarted makes the supervisor give up, and its siblings go with it.
func TestOTP_simple_one_for_one_escalation(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		sys := newSystem(t)
		attempts := 0
		once := workers.Once()
		sup := start(t, sys, simple(supervisor.Permanent, 4))
		first := addWith(t, sup, workers.Worker{Outcome: func(c *actors.Context) error {
			attempts++
			return once(c)
		}})
		second := addWith(t, sup, workers.Worker{})
		endOne(t, first, workers.Abnormal)
		requireGaveUp(t, sup, "child", workers.ErrStart)
		require.Equal(t, 1+4, attempts)
		require.Equal(t, actors.Shutdown, second.Reason())
		require.Empty(t, sys.Processes())
	})
}

// The argument of a temporary child's start is not kept, and the end of one child changes nothing in that for those that
// follow (in OTP the set of children once changed its kind then). It is kept, for restarts, of other children.
func TestOTP_simple_one_for_one_corruption(t *testing.T) {
	sys := newSystem(t)
	sup := start(t, sys, simple(supervisor.Temporary, 2, startLoad))
	for range 3 {
		pid, arg := addLoad(t, sup)
		awaitCollection(t, arg)
		require.True(t, pid.Alive())
		workers.Terminate(t, pid, workers.Abnormal)
		require.Empty(t, running(t, sup))
	}
	for range 10 {
		pid, arg := addLoad(t, sup)
		awaitCollection(t, arg)
		require.True(t, pid.Alive())
	}
	require.Len(t, running(t, sup), 10)

	for _, restart := range []supervisor.Restart{supervisor.Transient, supervisor.Permanent} {
		sup := start(t, sys, simple(restart, 2, startLoad))
		pid, arg := addLoad(t, sup)
		workers.RequireCounts(t, sup, 1, 1, 0, 1)
		runtime.GC()
		require.NotNil(t, arg.Value(), "it is needed for a restart")
		require.NoError(t, supervisor.TerminateChild(t.Context(), sup, pid))
		awaitCollection(t, arg)
	}
}

// startLoad makes the template's argument a load that the process does not keep.
func startLoad(template *supervisor.ChildSpec) {
	template.StartWith = func(c *actors.Context, arg any) (*actors.PID, error) {
		arg.(*load)[0]++
		return workers.StartWith(c, workers.Worker{})
	}
}

// addLoad starts a child with a load that nobody else has.
//
//go:noinline
func addLoad(t *testing.T, sup *actors.PID) (*actors.PID, weak.Pointer[load]) {
	t.Helper()
	arg := new(load)
	pid, err := supervisor.StartChildWith(t.Context(), sup, arg)
	require.NoError(t, err)
	return pid, weak.Make(arg)
}

// The restart loop of a dynamic child, which has no id: it is known by the process that it was. TerminateChild of that
// ends the loop, and nothing is left of the child.
func TestOTP_hanging_restart_loop_simple(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		sys := newSystem(t)
		flag, spec := loop(supervisor.SimpleOneForOne)
		spec.Children = []supervisor.ChildSpec{
			{ID: "child1", StartWith: workers.StartWith, Shutdown: supervisor.BrutalKill},
		}
		sup := start(t, sys, spec)
		bystander := addWith(t, sup, workers.Worker{})
		pid := addWith(t, sup, workers.Worker{Outcome: flag.Outcome})
		hang(t, flag, pid)
		_, err := supervisor.RestartChild(t.Context(), sup, "child1")
		require.ErrorIs(t, err, supervisor.ErrSimpleOneForOne)
		require.ErrorIs(t, supervisor.DeleteChild(t.Context(), sup, "child1"), supervisor.ErrSimpleOneForOne)
		require.Equal(t, []string{" restarting", " running"}, listed(t, sup))
		workers.RequireCounts(t, sup, 1, 1, 0, 2)
		info, err := supervisor.WhichChild(t.Context(), sup, pid)
		require.NoError(t, err)
		require.Equal(t, "restarting", info.State)

		require.NoError(t, supervisor.TerminateChild(t.Context(), sup, pid))
		require.Equal(t, workers.ErrDied, pid.Reason())
		require.Equal(t, []*actors.PID{bystander}, running(t, sup))
		workers.RequireCounts(t, sup, 1, 1, 0, 1)
		flag.Clear()
		synctest.Wait() // which would not return if there were a loop
		pid = addWith(t, sup, workers.Worker{Outcome: flag.Outcome})

		hang(t, flag, pid)
		require.NoError(t, sup.Stop(t.Context(), actors.Shutdown))
		require.Equal(t, actors.Killed, bystander.Reason())
		require.Empty(t, sys.Processes())
	})
}
