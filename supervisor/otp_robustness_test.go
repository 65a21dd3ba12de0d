package supervisor_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/shearpin/shearpin/actors"
	"github.com/shearpin/shearpin/actors/actortest"
	"github.com/shearpin/shearpin/supervisor"
	"github.com/shearpin/shearpin/supervisor/internal/workers"
)

// A child that has cut its link to the supervisor cannot keep it waiting: TerminateChild relies on a monitor. What the
// supervisor was sent meanwhile is handled.
func TestOTP_child_unlink(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		sys := newSystem(t)
		sup := start(t, sys, often(supervisor.OneForOne, 2))
		child := add(t, sup, worker("naughty_child"))
		_, err := child.Call(t.Context(), workers.Unlink{})
		require.NoError(t, err)
		sup.Send("foo")
		require.NoError(t, supervisor.TerminateChild(t.Context(), sup, "naughty_child"))
		require.Equal(t, actors.Shutdown, child.Reason())
		synctest.Wait()
		require.Zero(t, sup.MailboxLen())
		require.Equal(t, []string{"naughty_child stopped"}, listed(t, sup))

		// One that dies unlinked is not missed before somebody asks, and then it has died of what it died of.
		child, err = supervisor.RestartChild(t.Context(), sup, "naughty_child")
		require.NoError(t, err)
		_, err = child.Call(t.Context(), workers.Unlink{})
		require.NoError(t, err)
		end(t, sup, "naughty_child", workers.Abnormal)
		require.NoError(t, supervisor.TerminateChild(t.Context(), sup, "naughty_child"))
		require.Equal(t, workers.ErrDied, children(t, sup)["naughty_child"].LastExit)
	})
}

// A crash stays below its supervisor as long as that can cope. A child that cannot be restarted takes its supervisor down,
// and the one above restarts all of the tree, from the specs: children that were added later are not in them, and one that
// had been stopped by request is.
func TestOTP_tree(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		sys := newSystem(t)
		sub := func(id string, children ...supervisor.ChildSpec) supervisor.ChildSpec {
			return supervisor.Sub(id, supervisor.Spec{Name: id, Intensity: 4, Period: time.Hour, Children: children}, actors.WithName(id))
		}
		top := start(t, sys, often(supervisor.OneForAll, 4))
		sup1 := add(t, top, sub("supchild1", worker("child1"), worker("child2")))
		sup2 := add(t, top, sub("supchild2"))
		sup3 := add(t, top, of(supervisor.Transient, sub("supchild3")))
		require.NoError(t, supervisor.TerminateChild(t.Context(), top, "supchild3"))
		require.Equal(t, actors.Shutdown, sup3.Reason())
		workers.RequireCounts(t, top, 3, 2, 3, 0)
		workers.RequireCounts(t, sup1, 2, 2, 0, 2)
		workers.RequireCounts(t, sup2, 0, 0, 0, 0)
		child1, child2 := sys.Whereis("child1"), sys.Whereis("child2")
		child3 := add(t, sup2, named("child3", workers.Worker{Outcome: workers.Once()}))
		add(t, sup2, worker("child4"))
		workers.RequireCounts(t, sup2, 2, 2, 0, 2)
		tree, err := supervisor.Tree(t.Context(), top)
		require.NoError(t, err)
		require.Equal(t, "sup(supchild1/1(child1/1 child2/1) supchild2/1(child3/1 child4/1) supchild3/1)", outline(tree))

		old := end(t, sup2, "child4", workers.Abnormal)
		require.Same(t, child1, children(t, sup1)["child1"].PID)
		require.Same(t, child2, children(t, sup1)["child2"].PID)
		require.Same(t, child3, children(t, sup2)["child3"].PID)
		require.NotSame(t, old, children(t, sup2)["child4"].PID)
		workers.RequireCounts(t, sup1, 2, 2, 0, 2)
		workers.RequireCounts(t, sup2, 2, 2, 0, 2)

		end(t, sup2, "child3", workers.Abnormal)
		requireGaveUp(t, sup2, "child3", workers.ErrStart)
		require.EqualError(t, sup2.Reason(), `shutdown: supervisor "supchild2" gave up on child "child3": start failed`)
		require.True(t, actors.IsNormal(sup2.Reason()))
		require.Equal(t, actors.Shutdown, sup1.Reason())
		require.Equal(t, []string{"supchild3 running", "supchild2 running", "supchild1 running"}, listed(t, top))
		workers.RequireCounts(t, top, 3, 3, 3, 0)
		workers.RequireCounts(t, sys.Whereis("supchild1"), 2, 2, 0, 2)
		workers.RequireCounts(t, sys.Whereis("supchild2"), 0, 0, 0, 0)
		workers.RequireCounts(t, sys.Whereis("supchild3"), 0, 0, 0, 0)
		tree, err = supervisor.Tree(t.Context(), top)
		require.NoError(t, err)
		require.Equal(t, "sup(supchild1/2(child1/1 child2/1) supchild2/2 supchild3/2)", outline(tree))
		require.Equal(t, "supervisor", tree.Children[0].Kind)
		require.Equal(t, 1, tree.Children[1].Restarts)
		require.ErrorIs(t, tree.Children[1].LastExit, workers.ErrStart)
		require.WithinDuration(t, time.Now(), tree.Since, time.Second)
		require.NoError(t, top.Stop(t.Context(), actors.Shutdown))
		require.Empty(t, sys.Processes())
		_, err = supervisor.Tree(t.Context(), top)
		require.ErrorIs(t, err, actors.NoProcess)
	})
}

// loop makes the flag that keeps a worker in a restart loop in which each attempt takes 2 s, and describes a supervisor
// that stays in it, because not more than 8 of them fit into its period.
func loop(strategy supervisor.Strategy) (*workers.Flag, supervisor.Spec) {
	return &workers.Flag{Pause: 2 * time.Second},
		supervisor.Spec{Name: "sup", Strategy: strategy, Intensity: 8, Period: 10 * time.Second}
}

// hang makes a worker crash that cannot be restarted, and returns when the supervisor has been trying for a minute.
func hang(t *testing.T, flag *workers.Flag, pid *actors.PID) {
	t.Helper()
	flag.Set()
	workers.Terminate(t, pid, workers.Abnormal)
	actortest.Elapse(time.Minute)
}

// A child that fails to restart again and again keeps its supervisor from nothing: each attempt is a message that the
// supervisor sends to itself, and in between it answers. The child can be taken out of the loop, and the supervisor can be
// stopped in it.
func TestOTP_hanging_restart_loop(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		sys := newSystem(t)
		flag, spec := loop(supervisor.OneForOne)
		sup := start(t, sys, spec)
		child := named("child1", workers.Worker{Outcome: flag.Outcome})
		child.Shutdown = supervisor.BrutalKill
		pid := add(t, sup, child)
		hang(t, flag, pid)
		_, err := supervisor.StartChild(t.Context(), sup, child)
		require.ErrorIs(t, err, supervisor.ErrAlreadyPresent)
		_, err = supervisor.RestartChild(t.Context(), sup, "child1")
		require.ErrorIs(t, err, supervisor.ErrRestarting)
		require.ErrorIs(t, supervisor.DeleteChild(t.Context(), sup, "child1"), supervisor.ErrRestarting)
		require.Equal(t, []string{"child1 restarting"}, listed(t, sup))
		workers.RequireCounts(t, sup, 1, 0, 0, 1)

		require.NoError(t, supervisor.TerminateChild(t.Context(), sup, "child1"))
		require.Equal(t, workers.ErrDied, pid.Reason())
		require.Equal(t, []string{"child1 stopped"}, listed(t, sup))
		flag.Clear()
		synctest.Wait() // which would not return if there were a loop
		pid, err = supervisor.RestartChild(t.Context(), sup, "child1")
		require.NoError(t, err)
		require.Same(t, pid, sys.Whereis("child1"))

		hang(t, flag, pid)
		require.NoError(t, sup.Stop(t.Context(), actors.Shutdown))
		require.Empty(t, sys.Processes())
	})
}

// The same in the middle of a rest_for_one: the child before it has nothing to do with it, and the one after it is down
// as long as it lasts. Taken out of the loop, it is started alone by request, as in OTP.
func TestOTP_hanging_restart_loop_rest_for_one(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		sys := newSystem(t)
		flag, spec := loop(supervisor.RestForOne)
		sup := start(t, sys, spec)
		brutal := func(id string, w workers.Worker) supervisor.ChildSpec {
			child := named(id, w)
			child.Shutdown = supervisor.BrutalKill
			return child
		}
		child2 := brutal("child2", workers.Worker{Outcome: flag.Outcome})
		pid1 := add(t, sup, brutal("child1", workers.Worker{}))
		pid2 := add(t, sup, child2)
		pid3 := add(t, sup, brutal("child3", workers.Worker{}))
		hang(t, flag, pid2)
		_, err := supervisor.StartChild(t.Context(), sup, child2)
		require.ErrorIs(t, err, supervisor.ErrAlreadyPresent)
		_, err = supervisor.RestartChild(t.Context(), sup, "child2")
		require.ErrorIs(t, err, supervisor.ErrRestarting)
		require.ErrorIs(t, supervisor.DeleteChild(t.Context(), sup, "child2"), supervisor.ErrRestarting)
		require.Equal(t, []string{"child3 stopped", "child2 restarting", "child1 running"}, listed(t, sup))
		require.Same(t, pid1, children(t, sup)["child1"].PID)
		require.Equal(t, actors.Killed, pid3.Reason())
		workers.RequireCounts(t, sup, 3, 1, 0, 3)

		require.NoError(t, supervisor.TerminateChild(t.Context(), sup, "child2"))
		require.Equal(t, []string{"child3 stopped", "child2 stopped", "child1 running"}, listed(t, sup))
		flag.Clear()
		pid2, err = supervisor.RestartChild(t.Context(), sup, "child2")
		require.NoError(t, err)
		require.Equal(t, []string{"child3 stopped", "child2 running", "child1 running"}, listed(t, sup))

		hang(t, flag, pid2)
		require.Same(t, pid1, sys.Whereis("child1"))
		require.NoError(t, sup.Stop(t.Context(), actors.Shutdown))
		require.Equal(t, actors.Killed, pid1.Reason())
		require.Empty(t, sys.Processes())
	})
}

// Supervisors and workers that have names come back under them, however they ended: no name is still taken when it is
// needed again. OTP's case has them registered globally; here there is one registry per system. As in OTP's case the worker
// does not trap exits: one that does may still be at its end, with its name, when its killed supervisor is started again.
func TestOTP_simple_global_supervisor(t *testing.T) {
	for name, bringDown := range map[string]func(t *testing.T, sup2, server *actors.PID){
		"kill_supervisor": func(_ *testing.T, sup2, _ *actors.PID) { sup2.Kill() },
		"kill_worker":     func(_ *testing.T, _, server *actors.PID) { server.Kill() },
		"exit_worker":     func(t *testing.T, _, server *actors.PID) { actortest.Crash(t, server, errBoom) },
		"restart_worker": func(t *testing.T, sup2, _ *actors.PID) {
			require.NoError(t, supervisor.TerminateChild(t.Context(), sup2, "child"))
			_, err := supervisor.RestartChild(t.Context(), sup2, "child")
			require.NoError(t, err)
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				sys := newSystem(t)
				spec := supervisor.Spec{
					Strategy: supervisor.OneForAll, Intensity: 3, Period: time.Minute,
					Children: []supervisor.ChildSpec{supervisor.Worker("child", func() actors.Process { return actortest.NewProbe() }, actors.WithName("server"))},
				}
				middle := supervisor.Sub("middle", spec, actors.WithName("sup2"))
				spec.Children = []supervisor.ChildSpec{middle}
				top := start(t, sys, spec)
				sup2, server := sys.Whereis("sup2"), sys.Whereis("server")
				bringDown(t, sup2, server)
				synctest.Wait()
				require.False(t, server.Alive())
				require.True(t, sys.Whereis("server").Alive())
				require.NotSame(t, server, sys.Whereis("server"))
				require.True(t, sys.Whereis("sup2").Alive())
				if name == "kill_supervisor" {
					require.NotSame(t, sup2, sys.Whereis("sup2"))
				} else {
					require.Same(t, sup2, sys.Whereis("sup2"))
				}
				require.Same(t, sys.Whereis("server"), children(t, sys.Whereis("sup2"))["child"].PID)
				require.Same(t, sys.Whereis("sup2"), children(t, top)["middle"].PID)

				// All names go with the topmost supervisor, though it is only killed.
				top.Kill()
				synctest.Wait()
				require.Nil(t, sys.Whereis("sup2"))
				require.Nil(t, sys.Whereis("server"))
			})
		})
	}
}

// OTP's format_log_1 and format_log_2 check the text of its reports, which do not exist here: the handler of the log makes
// the text. What a handler and its reader can rely on is fixed here: the message of each kind of event, its level and its
// attributes.
func TestLogAttributes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log bytes.Buffer
		sys := newSystem(t)
		spec := often(supervisor.OneForOne, 2,
			named("needed", workers.Worker{Outcome: workers.Sequence(nil, workers.ErrStart, nil)}),
			named("not needed", workers.Worker{Outcome: workers.Ignore}),
			of(supervisor.Transient, significant(worker("significant"))),
		)
		spec.AutoShutdown = supervisor.AnySignificant
		spec.Log = slog.New(slog.NewJSONHandler(&log, &slog.HandlerOptions{Level: slog.LevelDebug}))
		sup := start(t, sys, spec)
		end(t, sup, "needed", workers.Abnormal)
		end(t, sup, "significant", workers.Normal)
		require.False(t, sup.Alive())
		sup = start(t, sys, spec)
		end(t, sup, "needed", workers.Abnormal)
		end(t, sup, "needed", workers.Abnormal)
		end(t, sup, "needed", workers.Abnormal)
		require.False(t, sup.Alive())

		const always, why = "child,incarnation,level,msg,part,supervisor,time", "child,err,incarnation,level,msg,part,supervisor,time"
		want := map[string]string{
			"DEBUG child_started":     always,
			"INFO child_restarted":    always,
			"DEBUG child_ignored":     always,
			"INFO child_start_failed": why,
			"INFO child_exited":       why, // it has crashed
			"DEBUG child_exited":      why, // it has not
			"DEBUG child_restarting":  why,
			"INFO auto_shutdown":      why,
			"WARN supervisor_gave_up": why,
		}
		got := map[string]string{}
		for line := range strings.Lines(log.String()) {
			var attrs map[string]any
			require.NoError(t, json.Unmarshal([]byte(line), &attrs))
			require.Equal(t, "supervisor", attrs["part"])
			require.Equal(t, "sup", attrs["supervisor"])
			what := fmt.Sprint(attrs["level"], " ", attrs["msg"])
			names := strings.Join(slices.Sorted(maps.Keys(attrs)), ",")
			if seen, ok := got[what]; ok {
				require.Equal(t, seen, names, what)
			}
			got[what] = names
		}
		require.Equal(t, want, got)
	})
}
