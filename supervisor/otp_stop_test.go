package supervisor_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/shearpin/shearpin/actors"
	"github.com/shearpin/shearpin/actors/actortest"
	"github.com/shearpin/shearpin/supervisor"
	"github.com/shearpin/shearpin/supervisor/internal/workers"
)

func shutdown(s supervisor.Shutdown) func(*supervisor.ChildSpec) {
	return func(spec *supervisor.ChildSpec) { spec.Shutdown = s }
}

// requireDuration checks how much virtual time something takes.
func requireDuration(t *testing.T, want time.Duration, f func()) {
	t.Helper()
	begin := time.Now()
	f()
	require.Equal(t, want, time.Since(begin))
}

// endOf is Parent.Shutdown in exact time: it returns when the supervisor is dead, not when the parent is found to know.
func endOf(t *testing.T, parent *workers.Parent, sup *actors.PID) {
	t.Helper()
	parent.Exit(t, sup, actors.Shutdown)
	<-sup.Done()
	require.Equal(t, actors.Shutdown, sup.Reason())
}

// Children without a limit, workers as well as supervisors, are waited for as long as they take.
func TestOTP_sup_stop_infinity(t *testing.T) {
	inBubble(t, func(t *testing.T, sys *actors.System, parent *workers.Parent) {
		sup := parent.Supervisor(t, supervisor.Spec{})
		slow := workers.Worker{Slow: 5 * time.Second}
		first := startWorker(t, sup, "child1", slow, shutdown(supervisor.Infinity), func(s *supervisor.ChildSpec) {
			s.Type = supervisor.TypeSupervisor
		})
		second := startWorker(t, sup, "child2", slow, shutdown(supervisor.Infinity), temporary)
		third := startWorker(t, sup, "child3", workers.Worker{Slow: time.Hour}, shutdown(supervisor.Infinity))
		watch := workers.Monitor(t, sys, first, second, third)
		requireDuration(t, time.Hour+10*time.Second, func() {
			require.NoError(t, sup.Stop(t.Context(), actors.Shutdown))
		})
		watch.Expect(t, actors.Shutdown)
	})
}

// A child that stops in its time dies of that; one that is stuck in a callback is dead, killed, when its time is over. Go
// cannot end the callback: it is counted as lingering, and nobody waits for it.
func TestOTP_sup_stop_timeout(t *testing.T) {
	inBubble(t, func(t *testing.T, sys *actors.System, parent *workers.Parent) {
		sup := parent.Supervisor(t, supervisor.Spec{})
		second := shutdown(supervisor.After(time.Second))
		good := startWorker(t, sup, "good", workers.Worker{}, second)
		stuck := startWorker(t, sup, "stuck", workers.Worker{}, second)
		release := workers.Block(t, stuck)
		watch := workers.Monitor(t, sys, good, stuck)
		requireDuration(t, time.Second, func() { endOf(t, parent, sup) })
		watch.Expect(t, actors.Shutdown, actors.Killed)
		require.Equal(t, 1, sys.Lingering())
		release()
		synctest.Wait()
		require.Zero(t, sys.Lingering())
	})
	// One after the other, each with its own time; the one that needs nearly all of it is not killed.
	inBubble(t, func(t *testing.T, sys *actors.System, parent *workers.Parent) {
		sup := parent.Supervisor(t, supervisor.Spec{})
		var pids []*actors.PID
		var reasons []error
		for i, how := range []supervisor.Shutdown{0, supervisor.After(7 * time.Second), supervisor.BrutalKill, supervisor.After(0)} {
			pid := startWorker(t, sup, fmt.Sprint("stuck", i), workers.Worker{}, shutdown(how))
			workers.Block(t, pid)
			pids, reasons = append(pids, pid), append(reasons, actors.Killed)
		}
		good := startWorker(t, sup, "good", workers.Worker{})
		slow := startWorker(t, sup, "slow", workers.Worker{Slow: 5*time.Second - time.Nanosecond})
		watch := workers.Monitor(t, sys, append(pids, good, slow)...)
		requireDuration(t, 17*time.Second, func() { require.NoError(t, sup.Stop(t.Context(), actors.Shutdown)) })
		watch.Expect(t, append(reasons, actors.Shutdown, actors.Shutdown)...)
		require.Equal(t, len(pids), sys.Lingering())
	})
}

// Dynamic children are told to stop at the same moment, and one timer is for all of them.
func TestOTP_sup_stop_timeout_dynamic(t *testing.T) {
	for _, restart := range everyRestart {
		inBubble(t, func(t *testing.T, sys *actors.System, parent *workers.Parent) {
			sup := parent.Supervisor(t, simpleSpec(restart, supervisor.After(time.Second)))
			quick := startDynamic(t, sup, 3, workers.Worker{})
			slow := startDynamic(t, sup, 3, workers.Worker{Slow: 900 * time.Millisecond})
			stuck := startDynamic(t, sup, 3, workers.Worker{})
			for _, pid := range stuck {
				workers.Block(t, pid)
			}
			watch := workers.Monitor(t, sys, slices.Concat(quick, slow, stuck)...)
			dead := func(want int) {
				t.Helper()
				synctest.Wait()
				require.Len(t, watch.Downs(), want)
			}
			requireDuration(t, time.Second, func() {
				parent.Exit(t, sup, actors.Shutdown)
				dead(3)
				actortest.Elapse(900 * time.Millisecond)
				dead(6)
				actortest.Elapse(100*time.Millisecond - time.Nanosecond)
				dead(6)
				actortest.Elapse(time.Nanosecond)
				dead(9)
			})
			require.Equal(t, actors.Shutdown, sup.Reason())
			watch.Expect(t, slices.Concat(
				slices.Repeat([]error{actors.Shutdown}, 6), slices.Repeat([]error{actors.Killed}, 3),
			)...)
		})
	}
}

// A child that is to be killed is not asked before; its neighbour is.
func TestOTP_sup_stop_brutal_kill(t *testing.T) {
	inBubble(t, func(t *testing.T, sys *actors.System, parent *workers.Parent) {
		sup := parent.Supervisor(t, supervisor.Spec{})
		first := startWorker(t, sup, "child1", workers.Worker{}, shutdown(supervisor.BrutalKill))
		second := startWorker(t, sup, "child2", workers.Worker{})
		watch := workers.Monitor(t, sys, first, second)
		parent.Shutdown(t, sup)
		watch.Expect(t, actors.Killed, actors.Shutdown)
	})
}

// Dynamic children that are to be killed are killed.
func TestOTP_sup_stop_brutal_kill_dynamic(t *testing.T) {
	inBubble(t, func(t *testing.T, sys *actors.System, parent *workers.Parent) {
		sup := parent.Supervisor(t, simpleSpec(supervisor.Temporary, supervisor.BrutalKill))
		children := startDynamic(t, sup, 10, workers.Worker{})
		for _, pid := range children[:3] {
			workers.Block(t, pid)
		}
		watch := workers.Monitor(t, sys, children...)
		requireDuration(t, 0, func() { endOf(t, parent, sup) })
		watch.Expect(t, actors.Killed)
	})
}

// ownEnds are the reasons of which children end by themselves in the middle of the supervisor's end.
var ownEnds = []error{
	actors.Normal, actors.Shutdown, actors.ShutdownWith(errors.New("some info")), errBoom, actors.Killed,
}

// endItself makes a worker end of a reason that is not the supervisor's wish.
func endItself(pid *actors.PID, reason error) {
	if errors.Is(reason, actors.Killed) {
		pid.Kill()
	} else {
		pid.Send(workers.Die{Reason: reason})
	}
}

// racers starts a child for every restart type and every end.
func racers(t *testing.T, sup *actors.PID, significant bool) (pids []*actors.PID, reasons []error) {
	t.Helper()
	for _, restart := range everyRestart {
		for _, reason := range ownEnds {
			id := fmt.Sprintf("%v child that ends of %v", restart, reason)
			pids = append(pids, startWorker(t, sup, id, workers.Worker{}, func(s *supervisor.ChildSpec) {
				s.Restart = restart
				s.Significant = significant && restart != supervisor.Permanent
			}))
			reasons = append(reasons, reason)
		}
	}
	return pids, reasons
}

// While the supervisor waits for the last child to stop, the others end by themselves, of every reason and with every
// restart type. Nobody's reason is changed, nobody is restarted, and the supervisor ends as it was going to. Significant
// children do not turn its end into another.
func TestOTP_sup_stop_race(t *testing.T) {
	for _, strategy := range []supervisor.Strategy{supervisor.OneForOne, supervisor.OneForAll, supervisor.RestForOne} {
		for _, auto := range everyAutoShutdown {
			t.Run(fmt.Sprintf("%v, %v", strategy, auto), func(t *testing.T) {
				inBubble(t, func(t *testing.T, sys *actors.System, parent *workers.Parent) {
					bus := actors.NewBus[supervisor.Event]()
					sup := parent.Supervisor(t, supervisor.Spec{
						Strategy: strategy, AutoShutdown: auto, Intensity: 100, Events: bus,
					})
					pids, reasons := racers(t, sup, auto != supervisor.AutoShutdownNever)
					pids = append(pids, startWorker(t, sup, "slow", workers.Worker{Slow: time.Second}))
					reasons = append(reasons, actors.Shutdown)
					events := bus.Subscribe(100)
					watch := workers.Monitor(t, sys, append(pids, sup)...)
					requireDuration(t, time.Second, func() {
						parent.Exit(t, sup, actors.Shutdown)
						synctest.Wait() // for it to wait for the slow one
						for i, pid := range pids[:len(pids)-1] {
							endItself(pid, reasons[i])
						}
						synctest.Wait()
						require.Len(t, watch.Downs(), len(pids)-1, "all but the slow one and the supervisor are dead")
						// Who asks for something now is answered by the end.
						_, err := supervisor.StartChild(t.Context(), sup, workers.Worker{}.Child("late"))
						require.Equal(t, actors.Shutdown, err)
						require.False(t, sup.Alive())
					})
					watch.Expect(t, append(reasons, actors.Shutdown)...)
					synctest.Wait() // those who are linked hear of a death after those who monitor
					exits := parent.Exits(t)
					require.Len(t, exits, 1)
					require.Same(t, sup, exits[0].PID)
					require.Equal(t, actors.Shutdown, exits[0].Reason)
					requireExitsOnly(t, events, pids, reasons)
				})
			})
		}
	}
	// The same with ends that come at any moment of the supervisor's end. A child that ends by itself has its own reason or
	// the supervisor's, and else all is the same.
	t.Run("at any moment", func(t *testing.T) {
		for range 50 {
			sys := newSystem(t)
			sup := start(t, sys, supervisor.Spec{Intensity: 100, Strategy: supervisor.RestForOne})
			pids, reasons := racers(t, sup, false)
			stopped := make(chan error, 1)
			go func() { stopped <- sup.Stop(context.Background(), actors.Shutdown) }()
			for i, pid := range slices.Backward(pids) {
				endItself(pid, reasons[i])
			}
			actortest.AwaitDeath(t, sup)
			require.NoError(t, <-stopped)
			for i, pid := range pids {
				require.Contains(t, []error{reasons[i], actors.Shutdown}, pid.Reason())
			}
			require.Equal(t, actors.Shutdown, sup.Reason())
			require.Empty(t, sys.Processes())
		}
	})
}

// requireExitsOnly checks that a supervisor has told of the end of every child, and of nothing else.
func requireExitsOnly(t *testing.T, events *actors.Subscription[supervisor.Event], pids []*actors.PID, reasons []error) {
	t.Helper()
	events.Close()
	require.Zero(t, events.Dropped())
	told := map[*actors.PID]error{}
	for e := range events.C() {
		require.Equal(t, supervisor.ChildExited, e.Kind)
		_, again := told[e.PID]
		require.False(t, again, "%v has ended twice", e.PID)
		told[e.PID] = e.Reason
	}
	require.Len(t, told, len(pids))
	for i, pid := range pids {
		require.Equal(t, reasons[i], told[pid])
	}
}

// Dynamic children that answer the order to stop with a reason of their own keep it, and the supervisor ends of its own.
func TestOTP_sup_stop_non_shutdown_exit_dynamic(t *testing.T) {
	for _, restart := range everyRestart {
		inBubble(t, func(t *testing.T, sys *actors.System, parent *workers.Parent) {
			sup := parent.Supervisor(t, simpleSpec(restart, 0))
			answers := []error{actors.Normal, errBoom, actors.ShutdownWith(errBoom), actors.Shutdown}
			var pids []*actors.PID
			for _, answer := range answers {
				pids = append(pids, startDynamic(t, sup, 1, workers.Worker{Answer: answer})...)
			}
			watch := workers.Monitor(t, sys, pids...)
			parent.Shutdown(t, sup)
			watch.Expect(t, answers...)
		})
	}
}
