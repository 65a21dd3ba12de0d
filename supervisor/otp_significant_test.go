package supervisor_test

import (
	"fmt"
	"testing"
	"testing/synctest"

	"github.com/stretchr/testify/require"

	"github.com/shearpin/shearpin/actors"
	"github.com/shearpin/shearpin/supervisor"
	"github.com/shearpin/shearpin/supervisor/internal/workers"
)

var autoShutdowns = []supervisor.AutoShutdown{
	supervisor.AutoShutdownNever, supervisor.AnySignificant, supervisor.AllSignificant,
}

func significant(spec supervisor.ChildSpec) supervisor.ChildSpec {
	spec.Significant = true
	return spec
}

// family starts a supervisor with two significant children, child1 and child2, and child3, which is not significant.
func family(t *testing.T, sys *actors.System, auto supervisor.AutoShutdown, restart supervisor.Restart) *actors.PID {
	t.Helper()
	spec := often(supervisor.OneForOne, 5)
	spec.AutoShutdown = auto
	sup := start(t, sys, spec)
	add(t, sup, of(restart, significant(worker("child1"))))
	add(t, sup, of(restart, significant(worker("child2"))))
	add(t, sup, of(restart, worker("child3")))
	return sup
}

// requireUntouched checks that the supervisor and the other two of a family live on.
func requireUntouched(t *testing.T, sup, child2, child3 *actors.PID) {
	t.Helper()
	require.True(t, sup.Alive())
	require.Same(t, child2, children(t, sup)["child2"].PID)
	require.Same(t, child3, children(t, sup)["child3"].PID)
}

// requireAutoShutdown checks that the supervisor has ended as if it had been told to, and everybody with it.
func requireAutoShutdown(t *testing.T, sup *actors.PID, siblings ...*actors.PID) {
	t.Helper()
	require.False(t, sup.Alive())
	require.Equal(t, actors.Shutdown, sup.Reason(), "it is no failure")
	for _, pid := range siblings {
		require.Equal(t, actors.Shutdown, pid.Reason())
	}
	require.Empty(t, sup.System().Processes())
}

// A temporary child that is not significant never ends its supervisor, whatever it dies of and whatever the supervisor's
// auto-shutdown.
func TestOTP_nonsignificant_temporary(t *testing.T) {
	for _, auto := range autoShutdowns {
		t.Run(auto.String(), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				spec := often(supervisor.OneForOne, supervisor.Never)
				spec.AutoShutdown = auto
				sup := start(t, newSystem(t), spec)
				for _, how := range []workers.How{workers.ByAPI(sup, "child1"), workers.Kill, workers.Abnormal, workers.Normal} {
					add(t, sup, of(supervisor.Temporary, worker("child1")))
					end(t, sup, "child1", how)
					require.True(t, sup.Alive(), how.Name)
					workers.RequireCounts(t, sup, 0, 0, 0, 0)
				}
				require.NoError(t, sup.Stop(t.Context(), actors.Shutdown))
			})
		})
	}
}

// Nor does a transient one; killed or crashed, it is restarted as always.
func TestOTP_nonsignificant_transient(t *testing.T) {
	for _, auto := range autoShutdowns {
		t.Run(auto.String(), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				spec := often(supervisor.OneForOne, 5)
				spec.AutoShutdown = auto
				sup := start(t, newSystem(t), spec)
				add(t, sup, of(supervisor.Transient, worker("child1")))
				end(t, sup, "child1", workers.ByAPI(sup, "child1"))
				require.Equal(t, []string{"child1 stopped"}, listed(t, sup))
				_, err := supervisor.RestartChild(t.Context(), sup, "child1")
				require.NoError(t, err)
				for i, how := range []workers.How{workers.Kill, workers.Abnormal} {
					end(t, sup, "child1", how)
					require.Equal(t, []string{"child1 running"}, listed(t, sup))
					require.Equal(t, i+1, children(t, sup)["child1"].Restarts)
				}
				end(t, sup, "child1", workers.Normal)
				require.Equal(t, []string{"child1 stopped"}, listed(t, sup))
				require.NoError(t, sup.Stop(t.Context(), actors.Shutdown))
			})
		})
	}
}

// A significant temporary child ends its supervisor with whatever death of its own: under any_significant the first, under
// all_significant the last. To be terminated by request is no death of its own.
func TestOTP_significant_temporary(t *testing.T) {
	t.Run("terminate_child", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			sys := newSystem(t)
			sup := family(t, sys, supervisor.AnySignificant, supervisor.Temporary)
			child2, child3 := sys.Whereis("child2"), sys.Whereis("child3")
			end(t, sup, "child1", workers.ByAPI(sup, "child1"))
			requireUntouched(t, sup, child2, child3)
			add(t, sup, of(supervisor.Temporary, significant(worker("child1"))))
			require.Equal(t, []string{"child1 running", "child3 running", "child2 running"}, listed(t, sup))
			end(t, sup, "child1", workers.Kill)
			requireAutoShutdown(t, sup, child2, child3)
		})
	})
	for _, how := range []workers.How{workers.Kill, workers.Abnormal, workers.Normal, workers.Shutdown} {
		t.Run("any "+how.Name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				sys := newSystem(t)
				sup := family(t, sys, supervisor.AnySignificant, supervisor.Temporary)
				child2, child3 := sys.Whereis("child2"), sys.Whereis("child3")
				end(t, sup, "child1", how)
				requireAutoShutdown(t, sup, child2, child3)
			})
		})
		t.Run("all "+how.Name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				sys := newSystem(t)
				sup := family(t, sys, supervisor.AllSignificant, supervisor.Temporary)
				child2, child3 := sys.Whereis("child2"), sys.Whereis("child3")
				end(t, sup, "child1", how)
				requireUntouched(t, sup, child2, child3)
				end(t, sup, "child2", how)
				requireAutoShutdown(t, sup, child3)
			})
		})
	}
}

// A significant transient child ends its supervisor only if it ends in an orderly way: killed or crashed, it is restarted,
// and terminated by request, it stays down.
func TestOTP_significant_transient(t *testing.T) {
	t.Run("any", func(t *testing.T) {
		for _, last := range []workers.How{workers.Normal, workers.Shutdown, workers.ShutdownWith(errInfo)} {
			synctest.Test(t, func(t *testing.T) {
				sys := newSystem(t)
				sup := family(t, sys, supervisor.AnySignificant, supervisor.Transient)
				child2, child3 := sys.Whereis("child2"), sys.Whereis("child3")
				end(t, sup, "child1", workers.ByAPI(sup, "child1"))
				requireUntouched(t, sup, child2, child3)
				require.Equal(t, []string{"child3 running", "child2 running", "child1 stopped"}, listed(t, sup))
				_, err := supervisor.RestartChild(t.Context(), sup, "child1")
				require.NoError(t, err)
				for _, how := range []workers.How{workers.Kill, workers.Abnormal} {
					end(t, sup, "child1", how)
					requireUntouched(t, sup, child2, child3)
					require.Equal(t, []string{"child3 running", "child2 running", "child1 running"}, listed(t, sup))
				}
				end(t, sup, "child1", last)
				requireAutoShutdown(t, sup, child2, child3)
			})
		}
	})
	t.Run("all", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			sys := newSystem(t)
			sup := family(t, sys, supervisor.AllSignificant, supervisor.Transient)
			child2, child3 := sys.Whereis("child2"), sys.Whereis("child3")
			end(t, sup, "child1", workers.Normal)
			requireUntouched(t, sup, child2, child3)
			end(t, sup, "child2", workers.Normal)
			requireAutoShutdown(t, sup, child3)
		})
	})
}

// A supervisor of dynamic children has no auto-shutdown: with one it does not start, without it does.
func TestOTP_significant_simple(t *testing.T) {
	for _, auto := range autoShutdowns {
		t.Run(auto.String(), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				sys := newSystem(t)
				spec := simple(supervisor.Transient, 2)
				spec.AutoShutdown = auto
				sup, err := sys.Start(t.Context(), supervisor.New(spec))
				if auto == supervisor.AutoShutdownNever {
					require.NoError(t, err)
					require.NoError(t, sup.Stop(t.Context(), actors.Shutdown))
					return
				}
				var wrong *supervisor.SpecError
				require.ErrorAs(t, err, &wrong)
				require.Equal(t, "sup", wrong.Supervisor)
				require.Empty(t, wrong.Child)
				require.Contains(t, wrong.Problem, "auto-shutdown")
				require.NotErrorIs(t, err, actors.Shutdown, "it has not begun")
			})
		})
	}
}

// Significant children that are stopped because a sibling crashed, or left alone by that, do not end the supervisor.
func TestOTP_significant_bystander(t *testing.T) {
	for _, strategy := range []supervisor.Strategy{supervisor.OneForOne, supervisor.OneForAll, supervisor.RestForOne} {
		for _, auto := range []supervisor.AutoShutdown{supervisor.AnySignificant, supervisor.AllSignificant} {
			for _, restart := range []supervisor.Restart{supervisor.Transient, supervisor.Temporary} {
				t.Run(fmt.Sprint(strategy, " ", auto, " ", restart), func(t *testing.T) {
					synctest.Test(t, func(t *testing.T) { testSignificantBystander(t, strategy, auto, restart) })
				})
			}
		}
	}
}

// OTP's case has transient bystanders. Temporary ones, which are gone afterwards, must not count either.
func testSignificantBystander(
	t *testing.T, strategy supervisor.Strategy, auto supervisor.AutoShutdown, restart supervisor.Restart,
) {
	sys := newSystem(t)
	spec := often(strategy, 5)
	spec.AutoShutdown = auto
	sup := start(t, sys, spec)
	child1 := add(t, sup, of(restart, significant(worker("child1"))))
	add(t, sup, of(supervisor.Transient, worker("child2")))
	child3 := add(t, sup, of(restart, significant(worker("child3"))))
	end(t, sup, "child2", workers.Kill)
	require.True(t, sup.Alive())
	stopped := map[*actors.PID]bool{
		child1: strategy == supervisor.OneForAll, child3: strategy != supervisor.OneForOne,
	}
	for pid, stopped := range stopped {
		switch now := children(t, sup)[pid.Name()].PID; {
		case !stopped:
			require.Same(t, pid, now)
			require.True(t, pid.Alive())
		case restart == supervisor.Transient:
			require.Equal(t, actors.Shutdown, pid.Reason())
			require.True(t, now.Alive())
		default:
			require.Equal(t, actors.Shutdown, pid.Reason())
			require.Nil(t, now)
		}
	}
	require.NoError(t, sup.Stop(t.Context(), actors.Shutdown))
}

// A supervisor that ends by auto-shutdown is a child that ends in an orderly way: if it is significant itself, the one
// above it ends too, and else not.
func TestOTP_significant_escalation(t *testing.T) {
	for _, isSignificant := range []bool{true, false} {
		t.Run(fmt.Sprint("significant=", isSignificant), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				sys := newSystem(t)
				sup := start(t, sys, supervisor.Spec{AutoShutdown: supervisor.AnySignificant})
				sub := of(supervisor.Transient, supervisor.Sub("sup1", supervisor.Spec{AutoShutdown: supervisor.AnySignificant}))
				sub.Significant = isSignificant
				below := add(t, sup, sub)
				add(t, below, of(supervisor.Transient, significant(worker("child1"))))
				end(t, sup, "child1", workers.Normal)
				require.Equal(t, actors.Shutdown, below.Reason())
				if isSignificant {
					requireAutoShutdown(t, sup, below)
					return
				}
				require.Equal(t, []string{"sup1 stopped"}, listed(t, sup))
				require.NoError(t, sup.Stop(t.Context(), actors.Shutdown))
			})
		})
	}
}
