package supervisor_test

import (
	"errors"
	"fmt"
	"runtime"
	"testing"
	"testing/synctest"
	"weak"

	"github.com/stretchr/testify/require"

	"github.com/shearpin/shearpin/actors"
	"github.com/shearpin/shearpin/actors/actortest"
	"github.com/shearpin/shearpin/supervisor"
	"github.com/shearpin/shearpin/supervisor/internal/workers"
)

// A permanent child is restarted when it ends normally.
func TestOTP_permanent_normal(t *testing.T) { requireRestarts(t, supervisor.Permanent, workers.Normal) }

// A permanent child is restarted when it shuts down, whether it says why or not.
func TestOTP_permanent_shutdown(t *testing.T) {
	requireRestarts(t, supervisor.Permanent, workers.Shutdown, workers.ShutdownWith(errInfo))
}

// A permanent child is restarted when it crashes.
func TestOTP_permanent_abnormal(t *testing.T) {
	requireRestarts(t, supervisor.Permanent, workers.Abnormal, workers.Kill)
}

// A transient child that ends normally stays down. Its spec stays, and RestartChild starts it again.
func TestOTP_transient_normal(t *testing.T) { requireStaysDown(t, workers.Normal) }

// So does one that shuts down, whether it says why or not.
func TestOTP_transient_shutdown(t *testing.T) {
	requireStaysDown(t, workers.Shutdown, workers.ShutdownWith(errInfo))
}

// A transient child is restarted when it crashes.
func TestOTP_transient_abnormal(t *testing.T) {
	requireRestarts(t, supervisor.Transient, workers.Abnormal, workers.Kill)
}

// A temporary child that ends normally is gone, with its spec: another one can be started under its id.
func TestOTP_temporary_normal(t *testing.T) { requireIsGone(t, workers.Normal) }

// So is one that shuts down, whether it says why or not.
func TestOTP_temporary_shutdown(t *testing.T) {
	requireIsGone(t, workers.Shutdown, workers.ShutdownWith(errInfo))
}

// So is one that crashes.
func TestOTP_temporary_abnormal(t *testing.T) { requireIsGone(t, workers.Abnormal, workers.Kill) }

// requireRestarts ends a child in the given ways, one after the other; each time there is a new process in its place.
func requireRestarts(t *testing.T, restart supervisor.Restart, ways ...workers.How) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		sys := newSystem(t)
		sup := start(t, sys, often(supervisor.OneForOne, len(ways)))
		add(t, sup, of(restart, worker("child1")))
		for i, way := range ways {
			old := end(t, sup, "child1", way)
			child := children(t, sup)["child1"]
			require.Equal(t, []string{"child1 running"}, listed(t, sup))
			require.NotSame(t, old, child.PID)
			require.Same(t, sys.Whereis("child1"), child.PID)
			require.Equal(t, i+1, child.Restarts)
			require.Equal(t, way.Reason, child.LastExit)
			workers.RequireCounts(t, sup, 1, 1, 0, 1)
		}
	})
}

// requireStaysDown ends a transient child in the given ways.
func requireStaysDown(t *testing.T, ways ...workers.How) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		sys := newSystem(t)
		sup := start(t, sys, often(supervisor.OneForOne, supervisor.Never))
		add(t, sup, of(supervisor.Transient, worker("child1")))
		for _, way := range ways {
			old := end(t, sup, "child1", way)
			require.Equal(t, []string{"child1 stopped"}, listed(t, sup))
			workers.RequireCounts(t, sup, 1, 0, 0, 1)
			require.Nil(t, sys.Whereis("child1"))
			pid, err := supervisor.RestartChild(t.Context(), sup, "child1")
			require.NoError(t, err)
			require.NotSame(t, old, pid)
			require.Equal(t, []string{"child1 running"}, listed(t, sup))
		}
	})
}

// requireIsGone ends a temporary child in the given ways.
func requireIsGone(t *testing.T, ways ...workers.How) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		sys := newSystem(t)
		sup := start(t, sys, often(supervisor.OneForOne, supervisor.Never))
		for _, way := range ways {
			add(t, sup, of(supervisor.Temporary, worker("child1")))
			workers.RequireCounts(t, sup, 1, 1, 0, 1)
			end(t, sup, "child1", way)
			require.Empty(t, listed(t, sup))
			workers.RequireCounts(t, sup, 0, 0, 0, 0)
			require.Nil(t, sys.Whereis("child1"))
			_, err := supervisor.RestartChild(t.Context(), sup, "child1")
			require.ErrorIs(t, err, supervisor.ErrNotFound)
		}
	})
}

// faultyError is what the child of faulty_application_shutdown fails with.
type faultyError struct{ Module string }

func (e *faultyError) Error() string { return "undefined: " + e.Module }

// An application whose worker crashes in its Init does not start, and is told why. Go has no applications, so that it is
// who starts the topmost supervisor, one level further up, whose error leads down to that of the child; OTP's crash by an
// undefined function is a panic here.
func TestOTP_faulty_application_shutdown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		sys := newSystem(t)
		var r trace
		faulty := supervisor.Worker("app_faulty", func() actors.Process {
			return &actortest.Probe{OnInit: func(*actors.Context) error { panic(&faultyError{"app_faulty_server"}) }}
		}, actors.WithName("app_faulty"))
		_, err := sys.Start(t.Context(), supervisor.New(supervisor.Spec{
			Name: "app", Children: []supervisor.ChildSpec{
				r.probe("first"),
				supervisor.Sub("app_faulty_sup", supervisor.Spec{Name: "app_faulty_sup", Children: []supervisor.ChildSpec{faulty}}),
				r.probe("last"),
			},
		}), actors.WithName("app"))
		require.ErrorIs(t, err, actors.Shutdown)
		require.EqualError(t, err, `shutdown: supervisor "app" failed to start child "app_faulty_sup": `+
			`shutdown: supervisor "app_faulty_sup" failed to start child "app_faulty": panic: undefined: app_faulty_server`)
		var above, below *supervisor.StartError
		require.ErrorAs(t, err, &above)
		require.Equal(t, "app_faulty_sup", above.ID)
		require.ErrorAs(t, above.Err, &below)
		require.Equal(t, "app_faulty", below.ID)
		var panicked *actors.PanicError
		require.ErrorAs(t, below.Err, &panicked)
		require.Contains(t, panicked.Stack(), "TestOTP_faulty_application_shutdown", "where it has happened")
		var cause *faultyError
		require.ErrorAs(t, err, &cause)
		require.Equal(t, "app_faulty_server", cause.Module)

		require.Equal(t, []string{"+first", "-first"}, r.take())
		synctest.Wait()
		require.Empty(t, sys.Processes())
		require.Nil(t, sys.Whereis("app"))
	})
}

// A temporary child that has to go because a sibling died is not started again, and its spec is gone. (OTP's supervisor
// would have tried with arguments that it had not kept, and died of that.)
func TestOTP_temporary_bystander(t *testing.T) {
	for _, strategy := range []supervisor.Strategy{supervisor.OneForAll, supervisor.RestForOne} {
		t.Run(strategy.String(), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				sys := newSystem(t)
				var r trace
				sup := start(t, sys, often(strategy, 2))
				add(t, sup, r.probe("child1"))
				child2 := add(t, sup, of(supervisor.Temporary, r.probe("child2")))
				child3 := add(t, sup, r.probe("child3"))
				r.take()
				crash(t, sys, "child1")
				synctest.Wait()
				require.True(t, sup.Alive())
				require.Equal(t, []string{"child3 running", "child1 running"}, listed(t, sup))
				workers.RequireCounts(t, sup, 2, 2, 0, 2)
				require.Equal(t, actors.Shutdown, child2.Reason())
				require.Equal(t, actors.Shutdown, child3.Reason())
				require.Equal(t, []string{"-child1", "-child3", "-child2", "+child1", "+child3"}, r.take())
				_, err := supervisor.RestartChild(t.Context(), sup, "child2")
				require.ErrorIs(t, err, supervisor.ErrNotFound)
			})
		})
	}
}

// The supervisor does not keep what a temporary child was started with, since it will not start it again: the memory can
// be collected as soon as the child runs. That of other children it must keep, and OTP's case compares the two. Where OTP
// looks at the size of the supervisor's state, a weak pointer tells whether somebody still holds the load.
func TestOTP_do_not_save_start_parameters_for_temporary_children(t *testing.T) {
	for _, strategy := range []supervisor.Strategy{supervisor.OneForOne, supervisor.OneForAll, supervisor.RestForOne} {
		for _, restart := range []supervisor.Restart{supervisor.Permanent, supervisor.Transient, supervisor.Temporary} {
			t.Run(fmt.Sprint(strategy, " ", restart), func(t *testing.T) {
				sys := newSystem(t)
				sup, loads := startLoaded(t, sys, strategy, restart)
				workers.RequireCounts(t, sup, len(loads), len(loads), 0, len(loads))
				if restart == supervisor.Temporary {
					for _, load := range loads {
						awaitCollection(t, load)
					}
				} else {
					runtime.GC()
					for _, load := range loads {
						require.NotNil(t, load.Value(), "it is needed for a restart")
					}
				}
				require.True(t, sup.Alive())
			})
		}
	}
	for _, restart := range []supervisor.Restart{supervisor.Permanent, supervisor.Transient, supervisor.Temporary} {
		t.Run("simple_one_for_one "+restart.String(), func(t *testing.T) {
			sup := start(t, newSystem(t), simple(restart, 2, startLoad))
			for range 10 {
				_, arg := addLoad(t, sup)
				if restart == supervisor.Temporary {
					awaitCollection(t, arg)
					continue
				}
				workers.RequireCounts(t, sup, 1, len(running(t, sup)), 0, len(running(t, sup)))
				runtime.GC()
				require.NotNil(t, arg.Value(), "it is needed for a restart")
			}
		})
	}
}

// load is what a start function holds and its process does not.
type load [1 << 16]byte

// startLoaded starts a supervisor with a loaded child in its spec and others that are added later. It is a function of its
// own, so that nothing of them is left on the stack of the test.
//
//go:noinline
func startLoaded(
	t *testing.T, sys *actors.System, strategy supervisor.Strategy, restart supervisor.Restart,
) (sup *actors.PID, loads []weak.Pointer[load]) {
	t.Helper()
	loaded := func() supervisor.ChildSpec {
		heavy := new(load)
		loads = append(loads, weak.Make(heavy))
		return supervisor.ChildSpec{
			ID: fmt.Sprint("child", len(loads)), Restart: restart,
			Start: func(c *actors.Context) (*actors.PID, error) {
				heavy[0]++
				return c.StartLink(struct{ actors.Base }{})
			},
		}
	}
	sup = start(t, sys, often(strategy, 2, loaded()))
	for range 9 {
		add(t, sup, loaded())
	}
	return sup, loads
}

func awaitCollection[T any](t testing.TB, p weak.Pointer[T]) {
	t.Helper()
	actortest.Eventually(t, func() bool {
		runtime.GC()
		return p.Value() == nil
	}, "collection")
}

// After a child's end, by whatever cause, the spec of a temporary child is gone, so that it can be started again; that of
// a permanent or transient one is there, of a running child if it has been restarted, else of one that is down.
func TestOTP_do_not_save_child_specs_for_temporary_children(t *testing.T) {
	for _, strategy := range []supervisor.Strategy{supervisor.OneForAll, supervisor.OneForOne, supervisor.RestForOne} {
		for _, way := range []way{always(workers.Kill), always(workers.Normal), always(workers.Abnormal), workers.ByAPI} {
			t.Run(strategy.String()+" "+way(nil, "").Name, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					sup := start(t, newSystem(t), often(strategy, 2))
					requireSpecAfter(t, sup, of(supervisor.Permanent, worker("child1")), way)
					requireSpecAfter(t, sup, of(supervisor.Transient, worker("child2")), way)
					requireSpecAfter(t, sup, of(supervisor.Temporary, worker("child3")), way)
				})
			})
		}
	}
}

// way is how to end a child that has an id under a supervisor.
type way func(sup *actors.PID, id string) workers.How

func always(how workers.How) way { return func(*actors.PID, string) workers.How { return how } }

// requireSpecAfter starts a child, ends it, and starts it again as far as that is needed.
func requireSpecAfter(t *testing.T, sup *actors.PID, spec supervisor.ChildSpec, way way) {
	t.Helper()
	add(t, sup, spec)
	how := way(sup, spec.ID)
	end(t, sup, spec.ID, how)
	pid, err := supervisor.StartChild(t.Context(), sup, spec)
	switch {
	case spec.Restart == supervisor.Temporary:
		require.NoError(t, err)
		require.Same(t, pid, sup.System().Whereis(spec.ID))
	case how.Name == "terminate_child", spec.Restart == supervisor.Transient && errors.Is(how.Reason, actors.Normal):
		require.ErrorIs(t, err, supervisor.ErrAlreadyPresent)
		_, err = supervisor.RestartChild(t.Context(), sup, spec.ID)
		require.NoError(t, err)
	default:
		var running *supervisor.AlreadyStartedError
		require.ErrorAs(t, err, &running)
		require.Same(t, sup.System().Whereis(spec.ID), running.PID)
	}
}
