package supervisor_test

import (
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

// The whole administration of children that have ids. Not ported: that a supervisor hibernates, which a process in Go always
// does.
func TestOTP_child_adm(t *testing.T) {
	inBubble(t, func(t *testing.T, _ *actors.System, parent *workers.Parent) {
		ctx := t.Context()
		sup := parent.Supervisor(t, supervisor.Spec{})
		requireKids(t, sup)
		workers.RequireCounts(t, sup, 0, 0, 0, 0)

		// A running child can be neither started nor restarted nor deleted.
		spec := workers.Worker{}.Child("child1")
		first := startWorker(t, sup, "child1", workers.Worker{})
		running := func(pid *actors.PID) {
			t.Helper()
			again, err := supervisor.StartChild(ctx, sup, spec)
			require.Nil(t, again)
			var already *supervisor.AlreadyStartedError
			require.ErrorAs(t, err, &already)
			require.Equal(t, "child1", already.ID)
			require.Same(t, pid, already.PID)
			again, err = supervisor.RestartChild(ctx, sup, "child1")
			require.Nil(t, again)
			require.Same(t, supervisor.ErrRunning, err)
			require.Same(t, supervisor.ErrRunning, supervisor.DeleteChild(ctx, sup, "child1"))
			require.True(t, pid.Alive())
			requireKids(t, sup, kid{"child1", pid})
			workers.RequireCounts(t, sup, 1, 1, 0, 1)
		}
		running(first)

		// One that is terminated stays down, with its spec.
		require.Same(t, supervisor.ErrNotFound, supervisor.TerminateChild(ctx, sup, "child2"))
		require.Same(t, supervisor.ErrNotFound, supervisor.TerminateChild(ctx, sup, first), "it is known by its id")
		require.True(t, first.Alive())
		workers.Terminate(t, first, workers.ByAPI(sup, "child1"))
		down := func() {
			t.Helper()
			synctest.Wait()
			requireKids(t, sup, kid{"child1", nil})
			workers.RequireCounts(t, sup, 1, 0, 0, 1)
		}
		down()
		require.NoError(t, supervisor.TerminateChild(ctx, sup, "child1"), "it is down, as it should be")
		down()
		_, err := supervisor.StartChild(ctx, sup, spec)
		require.Same(t, supervisor.ErrAlreadyPresent, err)
		down()

		// It can be restarted, and deleted.
		second, err := supervisor.RestartChild(ctx, sup, "child1")
		require.NoError(t, err)
		require.NotSame(t, first, second)
		running(second)
		workers.Terminate(t, second, workers.ByAPI(sup, "child1"))
		down()
		require.NoError(t, supervisor.DeleteChild(ctx, sup, "child1"))
		requireKids(t, sup)
		workers.RequireCounts(t, sup, 0, 0, 0, 0)
		_, err = supervisor.RestartChild(ctx, sup, "child1")
		require.Same(t, supervisor.ErrNotFound, err)
		require.Same(t, supervisor.ErrNotFound, supervisor.DeleteChild(ctx, sup, "child1"))
		require.Same(t, supervisor.ErrNotFound, supervisor.TerminateChild(ctx, sup, "child1"))

		// A new one of the same id is another child.
		third := startWorker(t, sup, "child1", workers.Worker{})
		running(third)
		info, err := supervisor.WhichChild(ctx, sup, "child1")
		require.NoError(t, err)
		require.Equal(t, 1, info.Incarnation)

		// StartChildWith is for supervisors of another kind.
		_, err = supervisor.StartChildWith(ctx, sup, workers.Worker{})
		require.Same(t, supervisor.ErrNotSimpleOneForOne, err)
		running(third)

		parent.Shutdown(t, sup)
		require.Equal(t, actors.Shutdown, third.Reason())
		for _, missing := range []*actors.PID{sup, nil} {
			requireNoProcess(t, missing, third)
		}
	})
}

// requireNoProcess checks that no function of the administration finds the supervisor.
func requireNoProcess(t *testing.T, sup, child *actors.PID) {
	t.Helper()
	ctx := t.Context()
	errs := make([]error, 12)
	_, errs[0] = supervisor.StartChild(ctx, sup, workers.Worker{}.Child("child1"))
	_, errs[1] = supervisor.StartChildWith(ctx, sup, workers.Worker{})
	errs[2] = supervisor.TerminateChild(ctx, sup, "child1")
	errs[3] = supervisor.TerminateChild(ctx, sup, child)
	_, errs[4] = supervisor.RestartChild(ctx, sup, "child1")
	errs[5] = supervisor.DeleteChild(ctx, sup, "child1")
	_, errs[6] = supervisor.WhichChildren(ctx, sup)
	_, errs[7] = supervisor.WhichChild(ctx, sup, "child1")
	_, errs[8] = supervisor.GetChildSpec(ctx, sup, "child1")
	_, errs[9] = supervisor.CountChildren(ctx, sup)
	_, errs[10] = supervisor.Tree(ctx, sup)
	_, errs[11] = supervisor.GetChildSpec(ctx, sup, child)
	for i, err := range errs {
		require.Equal(t, actors.NoProcess, err, "call number %d", i)
	}
}

// The administration of children that have none.
func TestOTP_child_adm_simple(t *testing.T) {
	inBubble(t, func(t *testing.T, _ *actors.System, parent *workers.Parent) {
		ctx := t.Context()
		sup := parent.Supervisor(t, simpleSpec(supervisor.Permanent, 0))
		requireKids(t, sup)
		workers.RequireCounts(t, sup, 1, 0, 0, 0)

		first := startDynamic(t, sup, 1, workers.Worker{})[0]
		second := startDynamic(t, sup, 1, workers.Worker{})[0]
		require.NotSame(t, first, second)
		requireKids(t, sup, kid{"", second}, kid{"", first})
		workers.RequireCounts(t, sup, 1, 2, 0, 2)

		// By ids, also that of the template, nothing can be done.
		for _, id := range []string{"template", "child1", ""} {
			require.Same(t, supervisor.ErrSimpleOneForOne, supervisor.TerminateChild(ctx, sup, id))
			_, err := supervisor.RestartChild(ctx, sup, id)
			require.Same(t, supervisor.ErrSimpleOneForOne, err)
			require.Same(t, supervisor.ErrSimpleOneForOne, supervisor.DeleteChild(ctx, sup, id))
		}
		_, err := supervisor.StartChild(ctx, sup, workers.Worker{}.Child("child1"))
		require.Same(t, supervisor.ErrSimpleOneForOne, err)
		requireKids(t, sup, kid{"", second}, kid{"", first})

		// By its process a child is stopped for good, whatever its restart type, and a dead one is no error.
		require.NoError(t, supervisor.TerminateChild(ctx, sup, first))
		require.Equal(t, actors.Shutdown, first.Reason())
		synctest.Wait()
		requireKids(t, sup, kid{"", second})
		workers.RequireCounts(t, sup, 1, 1, 0, 1)
		require.NoError(t, supervisor.TerminateChild(ctx, sup, first))
		requireKids(t, sup, kid{"", second})

		// Nor is a process that never was its child, as long as it is dead. One that is alive is left alone.
		dead := actortest.NewProbe().Start(t, parent.PID.System())
		dead.Kill()
		require.NoError(t, supervisor.TerminateChild(ctx, sup, dead))
		var nobody *actors.PID
		require.NoError(t, supervisor.TerminateChild(ctx, sup, nobody))
		stranger := actortest.NewProbe().Start(t, parent.PID.System())
		require.Same(t, supervisor.ErrNotFound, supervisor.TerminateChild(ctx, sup, stranger))
		require.True(t, stranger.Alive())
		requireKids(t, sup, kid{"", second})
		parent.Shutdown(t, sup)
	})
}

// Adapted: OTP's start functions can return a term besides the process, which StartChild and RestartChild hand on. Here a
// start function is a closure and hands whatever it likes to whoever wants it; this is how, and it works for every start.
// The rest of the case is the states that a child goes through.
func TestOTP_extra_return(t *testing.T) {
	inBubble(t, func(t *testing.T, _ *actors.System, parent *workers.Parent) {
		ctx := t.Context()
		extra := make(chan int, 1)
		starts := 0
		spec := supervisor.ChildSpec{ID: "child1", Start: func(c *actors.Context) (*actors.PID, error) {
			starts++
			extra <- starts
			return workers.Worker{}.Start()(c)
		}}
		sup := parent.Supervisor(t, supervisor.Spec{Children: []supervisor.ChildSpec{spec}})
		require.Equal(t, 1, <-extra)
		require.NoError(t, supervisor.TerminateChild(ctx, sup, "child1"))
		require.NoError(t, supervisor.TerminateChild(ctx, sup, "child1"))
		requireKids(t, sup, kid{"child1", nil})
		_, err := supervisor.StartChild(ctx, sup, spec)
		require.Same(t, supervisor.ErrAlreadyPresent, err)

		second, err := supervisor.RestartChild(ctx, sup, "child1")
		require.NoError(t, err)
		require.Equal(t, 2, <-extra)
		requireKids(t, sup, kid{"child1", second})
		_, err = supervisor.RestartChild(ctx, sup, "child1")
		require.Same(t, supervisor.ErrRunning, err)
		require.Same(t, supervisor.ErrRunning, supervisor.DeleteChild(ctx, sup, "child1"))

		workers.Terminate(t, second, workers.Abnormal)
		require.Equal(t, 3, <-extra, "by an automatic restart")
		info, err := supervisor.WhichChild(ctx, sup, "child1")
		require.NoError(t, err)
		require.NotSame(t, second, info.PID)
		require.True(t, info.PID.Alive())

		require.NoError(t, supervisor.TerminateChild(ctx, sup, "child1"))
		require.NoError(t, supervisor.DeleteChild(ctx, sup, "child1"))
		_, err = supervisor.RestartChild(ctx, sup, "child1")
		require.Same(t, supervisor.ErrNotFound, err)
		requireKids(t, sup)
		_, err = supervisor.StartChild(ctx, sup, spec)
		require.NoError(t, err)
		require.Equal(t, 4, <-extra)
	})
}

// ignored is the start function of a child whose spec is all that matters.
func ignored(*actors.Context) (*actors.PID, error) { return nil, actors.ErrIgnore }

// checkSpec returns what is wrong with the spec of a child, according to both ways to hand it in.
func checkSpec(t *testing.T, parent *workers.Parent, sup *actors.PID, spec supervisor.Spec, child supervisor.ChildSpec) error {
	t.Helper()
	_, added := supervisor.StartChild(t.Context(), sup, child)
	if added == nil {
		// One that is not temporary has stayed.
		if err := supervisor.DeleteChild(t.Context(), sup, child.ID); child.Restart == supervisor.Temporary {
			require.Same(t, supervisor.ErrNotFound, err)
		} else {
			require.NoError(t, err)
		}
	}
	spec.Children = []supervisor.ChildSpec{{ID: "before", Start: ignored}, child}
	pid, initial := parent.StartLink(t, supervisor.New(spec))
	require.Equal(t, added, initial)
	if initial == nil {
		parent.Shutdown(t, pid)
	}
	return added
}

// Each wrong field has its own error, every good combination is accepted, no id may be there twice, and a
// simple_one_for_one supervisor has one child spec. OTP's check_childspecs is the start here: of a supervisor, and of a child.
func TestOTP_child_specs(t *testing.T) {
	inBubble(t, func(t *testing.T, _ *actors.System, parent *workers.Parent) {
		plain := supervisor.Spec{Name: "sup"}
		sup := parent.Supervisor(t, plain)
		wrong := func(child, problem string) error {
			return &supervisor.SpecError{Supervisor: "sup", Child: child, Problem: problem}
		}
		for _, faulty := range []struct {
			problem string
			change  func(*supervisor.ChildSpec)
		}{
			{"child without id", func(c *supervisor.ChildSpec) { c.ID = "" }},
			{"no start function", func(c *supervisor.ChildSpec) { c.Start = nil }},
			{"start function of another strategy", func(c *supervisor.ChildSpec) { c.StartWith = workers.StartWith }},
			{"unknown restart type", func(c *supervisor.ChildSpec) { c.Restart = supervisor.Temporary + 1 }},
			{"unknown restart type", func(c *supervisor.ChildSpec) { c.Restart = 255 }},
			{"negative shutdown", shutdown(supervisor.Infinity - 1)},
			{"negative shutdown", shutdown(supervisor.Shutdown(-time.Second))},
			{"unknown child type", func(c *supervisor.ChildSpec) { c.Type = supervisor.TypeSupervisor + 1 }},
		} {
			child := with(supervisor.ChildSpec{ID: "child", Start: ignored}, faulty.change)
			require.Equal(t, wrong(child.ID, faulty.problem), checkSpec(t, parent, sup, plain, child))
		}

		for _, restart := range everyRestart {
			for _, how := range everyShutdown {
				for _, typ := range []supervisor.ChildType{supervisor.TypeWorker, supervisor.TypeSupervisor} {
					require.NoError(t, checkSpec(t, parent, sup, plain, supervisor.ChildSpec{
						ID: "child", Start: ignored, Restart: restart, Shutdown: how, Type: typ,
					}))
				}
			}
		}

		a, b := supervisor.ChildSpec{ID: "a", Start: ignored}, supervisor.ChildSpec{ID: "b", Start: ignored}
		for _, ids := range [][]supervisor.ChildSpec{{a, a}, {a, b, a}, {b, a, a}} {
			require.Equal(t, wrong("a", "duplicate id"), requireNoStart(t, parent, supervisor.New(supervisor.Spec{Name: "sup", Children: ids})))
		}

		simple := supervisor.ChildSpec{ID: "a", StartWith: workers.StartWith}
		for _, children := range [][]supervisor.ChildSpec{nil, {}, {simple, with(simple, func(c *supervisor.ChildSpec) { c.ID = "b" })}} {
			require.Equal(t, wrong("", "simple_one_for_one needs exactly one child"),
				requireNoStart(t, parent, supervisor.New(supervisor.Spec{
					Name: "sup", Strategy: supervisor.SimpleOneForOne, Children: children,
				})))
		}
		for _, template := range []struct {
			problem string
			spec    supervisor.ChildSpec
		}{
			{"child without id", supervisor.ChildSpec{StartWith: workers.StartWith}},
			{"no start function", supervisor.ChildSpec{ID: "a"}},
			{"no start function", a},
			{"start function of another strategy", with(simple, func(c *supervisor.ChildSpec) { c.Start = ignored })},
			{"negative shutdown", with(simple, shutdown(supervisor.Infinity-1))},
		} {
			require.Equal(t, wrong(template.spec.ID, template.problem), requireNoStart(t, parent, supervisor.New(supervisor.Spec{
				Name: "sup", Strategy: supervisor.SimpleOneForOne, Children: []supervisor.ChildSpec{template.spec},
			})))
		}
		requireKids(t, sup)
	})
}

var (
	everyRestart  = []supervisor.Restart{supervisor.Permanent, supervisor.Transient, supervisor.Temporary}
	everyShutdown = []supervisor.Shutdown{
		0, supervisor.BrutalKill, supervisor.Infinity, supervisor.After(0), supervisor.After(100 * time.Millisecond),
	}
	everyAutoShutdown = []supervisor.AutoShutdown{
		supervisor.AutoShutdownNever, supervisor.AnySignificant, supervisor.AllSignificant,
	}
)

// The product of all fields with the supervisor's auto-shutdown: a significant child must not be permanent, which is also
// what it is if nothing else is said, and it needs a supervisor that minds it. All else is good. That a flag is no flag does
// not compile in Go.
func TestOTP_child_specs_map(t *testing.T) {
	inBubble(t, func(t *testing.T, _ *actors.System, parent *workers.Parent) {
		combinations := 0
		for _, auto := range everyAutoShutdown {
			spec := supervisor.Spec{Name: "sup", AutoShutdown: auto}
			sup := parent.Supervisor(t, spec)
			for _, restart := range everyRestart {
				for _, how := range everyShutdown {
					for _, typ := range []supervisor.ChildType{supervisor.TypeWorker, supervisor.TypeSupervisor} {
						for _, significant := range []bool{false, true} {
							err := checkSpec(t, parent, sup, spec, supervisor.ChildSpec{
								ID: "child", Start: ignored, Restart: restart, Shutdown: how, Type: typ, Significant: significant,
							})
							wrong := &supervisor.SpecError{Supervisor: "sup", Child: "child"}
							switch {
							case significant && restart == supervisor.Permanent:
								wrong.Problem = "a permanent child cannot be significant"
							case significant && auto == supervisor.AutoShutdownNever:
								wrong.Problem = "significant child without auto-shutdown"
							default:
								require.NoError(t, err)
								wrong = nil
							}
							if wrong != nil {
								require.Equal(t, wrong, err)
							}
							combinations++
						}
					}
				}
			}
			err := checkSpec(t, parent, sup, spec, supervisor.ChildSpec{ID: "child", Start: ignored, Significant: true})
			require.ErrorContains(t, err, "a permanent child cannot be significant", "by default")
			requireKids(t, sup)
			parent.Shutdown(t, sup)
		}
		require.Equal(t, 3*3*5*2*2, combinations)
	})
}

// Each wrong flag of a supervisor has its own error, and every combination of good ones is accepted. Unknown flags, and what
// are no flags at all, do not compile in Go. OTP refuses a period of 0, which is what a flag that is left out looks like
// here, and stands for the default.
func TestOTP_sup_flags(t *testing.T) {
	inBubble(t, func(t *testing.T, _ *actors.System, parent *workers.Parent) {
		for _, faulty := range []struct {
			problem string
			spec    supervisor.Spec
		}{
			{"unknown strategy", supervisor.Spec{Strategy: supervisor.SimpleOneForOne + 1}},
			{"unknown strategy", supervisor.Spec{Strategy: 255}},
			{"negative intensity", supervisor.Spec{Intensity: supervisor.Never - 1}},
			{"negative period", supervisor.Spec{Period: -1}},
			{"negative period", supervisor.Spec{Period: -time.Second}},
			{"unknown auto-shutdown", supervisor.Spec{AutoShutdown: supervisor.AllSignificant + 1}},
		} {
			faulty.spec.Name = "sup"
			require.Equal(t, &supervisor.SpecError{Supervisor: "sup", Problem: faulty.problem},
				requireNoStart(t, parent, supervisor.New(faulty.spec)))
		}
		for _, strategy := range []supervisor.Strategy{supervisor.OneForOne, supervisor.OneForAll, supervisor.RestForOne} {
			for _, intensity := range []int{supervisor.Never, 0, 1, 1 << 40} {
				for _, period := range []time.Duration{0, 1, time.Second, 1 << 62} {
					for _, auto := range everyAutoShutdown {
						parent.Shutdown(t, parent.Supervisor(t, supervisor.Spec{
							Strategy: strategy, Intensity: intensity, Period: period, AutoShutdown: auto,
						}))
					}
				}
			}
		}
		parent.Shutdown(t, parent.Supervisor(t, simpleSpec(supervisor.Permanent, 0)))
	})
}

// The list of children is the youngest first, and each can be asked for by its id, whether it has a process or not.
func TestOTP_which_children(t *testing.T) {
	inBubble(t, func(t *testing.T, _ *actors.System, parent *workers.Parent) {
		ctx := t.Context()
		sup := parent.Supervisor(t, supervisor.Spec{})
		which := func(id string, pid *actors.PID, state string) {
			t.Helper()
			info, err := supervisor.WhichChild(ctx, sup, id)
			require.NoError(t, err)
			require.Equal(t, id, info.ID)
			require.Equal(t, state, info.State)
			require.Same(t, pid, info.PID)
			list, err := supervisor.WhichChildren(ctx, sup)
			require.NoError(t, err)
			require.True(t, slices.Contains(list, info), "both say the same")
		}
		unknown := func(id string) {
			t.Helper()
			_, err := supervisor.WhichChild(ctx, sup, id)
			require.Same(t, supervisor.ErrNotFound, err)
		}
		requireKids(t, sup)
		unknown("child1")

		first := startWorker(t, sup, "child1", workers.Worker{})
		requireKids(t, sup, kid{"child1", first})
		which("child1", first, "running")
		unknown("child2")

		second := startWorker(t, sup, "child2", workers.Worker{}, func(c *supervisor.ChildSpec) { c.Type = supervisor.TypeSupervisor })
		requireKids(t, sup, kid{"child2", second}, kid{"child1", first})
		which("child1", first, "running")
		which("child2", second, "running")
		info, err := supervisor.WhichChild(ctx, sup, "child2")
		require.NoError(t, err)
		require.Equal(t, supervisor.TypeSupervisor, info.Type)

		require.NoError(t, supervisor.TerminateChild(ctx, sup, "child1"))
		requireKids(t, sup, kid{"child2", second}, kid{"child1", nil})
		which("child1", nil, "stopped")
		third, err := supervisor.RestartChild(ctx, sup, "child1")
		require.NoError(t, err)
		requireKids(t, sup, kid{"child2", second}, kid{"child1", third})
		which("child1", third, "running")

		require.NoError(t, supervisor.TerminateChild(ctx, sup, "child1"))
		require.NoError(t, supervisor.DeleteChild(ctx, sup, "child1"))
		requireKids(t, sup, kid{"child2", second})
		unknown("child1")
		fourth := startWorker(t, sup, "child1", workers.Worker{})
		requireKids(t, sup, kid{"child1", fourth}, kid{"child2", second})
		_, err = supervisor.WhichChild(ctx, sup, fourth)
		require.Same(t, supervisor.ErrNotFound, err, "it is known by its id")
	})
}

// Dynamic children are asked for by their processes.
func TestOTP_which_children_simple_one_for_one(t *testing.T) {
	inBubble(t, func(t *testing.T, _ *actors.System, parent *workers.Parent) {
		ctx := t.Context()
		sup := parent.Supervisor(t, simpleSpec(supervisor.Permanent, 0))
		requireKids(t, sup)
		var pids []*actors.PID
		var kids []kid
		for range 3 {
			pid := startDynamic(t, sup, 1, workers.Worker{})[0]
			pids = append(pids, pid)
			kids = append([]kid{{"", pid}}, kids...)
			requireKids(t, sup, kids...)
		}
		for _, pid := range pids {
			info, err := supervisor.WhichChild(ctx, sup, pid)
			require.NoError(t, err)
			require.Same(t, pid, info.PID)
			require.Empty(t, info.ID)
			require.Equal(t, "running", info.State)
		}
		for _, id := range []string{"template", ""} {
			_, err := supervisor.WhichChild(ctx, sup, id)
			require.Same(t, supervisor.ErrSimpleOneForOne, err)
		}
		unknown := func(pid *actors.PID) {
			t.Helper()
			_, err := supervisor.WhichChild(ctx, sup, pid)
			require.Same(t, supervisor.ErrNotFound, err)
		}
		unknown(parent.PID)
		unknown(nil)
		require.NoError(t, supervisor.TerminateChild(ctx, sup, pids[1]))
		unknown(pids[1])
		requireKids(t, sup, kid{"", pids[2]}, kid{"", pids[0]})

		// After a restart only the new process is its child.
		workers.Terminate(t, pids[0], workers.Abnormal)
		list, err := supervisor.WhichChildren(ctx, sup)
		require.NoError(t, err)
		require.Len(t, list, 2)
		unknown(pids[0])
	})
}

// The numbers are right with a thousand dynamic children and with two thousand, and when all of them have died.
func TestOTP_count_children(t *testing.T) { countDynamic(t, supervisor.TypeWorker) }

// The same for children that are supervisors.
func TestOTP_count_children_supervisor(t *testing.T) { countDynamic(t, supervisor.TypeSupervisor) }

func countDynamic(t *testing.T, typ supervisor.ChildType) {
	t.Helper()
	inBubble(t, func(t *testing.T, _ *actors.System, parent *workers.Parent) {
		spec := simpleSpec(supervisor.Temporary, 0)
		spec.Children[0].Type = typ
		sup := parent.Supervisor(t, spec)
		requireCounts := func(active int) {
			t.Helper()
			if typ == supervisor.TypeSupervisor {
				workers.RequireCounts(t, sup, 1, active, active, 0)
			} else {
				workers.RequireCounts(t, sup, 1, active, 0, active)
			}
			list, err := supervisor.WhichChildren(t.Context(), sup)
			require.NoError(t, err)
			require.Len(t, list, active)
		}
		requireCounts(0)
		pids := startDynamic(t, sup, 1000, workers.Worker{})
		requireCounts(1000)
		pids = append(pids, startDynamic(t, sup, 1000, workers.Worker{})...)
		requireCounts(2000)
		for _, pid := range pids[:500] {
			pid.Kill()
		}
		synctest.Wait()
		requireCounts(1500)
		for _, pid := range pids[500:] {
			pid.Kill()
		}
		synctest.Wait()
		requireCounts(0)
		parent.Shutdown(t, sup)
	})
}

// Children that cannot be restarted at present are counted as children but not as active, and are back when they can.
func TestOTP_count_restarting_children(t *testing.T) {
	inBubble(t, func(t *testing.T, _ *actors.System, parent *workers.Parent) {
		ctx := t.Context()
		flag := workers.Flag{Pause: 2 * time.Second}
		spec := simpleSpec(supervisor.Permanent, 0)
		spec.Intensity = 1 << 20
		sup := parent.Supervisor(t, spec)
		workers.RequireCounts(t, sup, 1, 0, 0, 0)
		pids := startDynamic(t, sup, 3, workers.Worker{Outcome: flag.Outcome})
		workers.RequireCounts(t, sup, 1, 3, 0, 3)

		flag.Set()
		for n, pid := range pids[:2] {
			workers.Terminate(t, pid, workers.Kill)
			workers.RequireCounts(t, sup, 1, 2-n, 0, 3)
		}
		// However often it tries.
		for range 10 {
			actortest.Elapse(10 * time.Second)
			workers.RequireCounts(t, sup, 1, 1, 0, 3)
		}
		flag.Clear()
		actortest.Elapse(10 * time.Second)
		workers.RequireCounts(t, sup, 1, 3, 0, 3)

		list, err := supervisor.WhichChildren(ctx, sup)
		require.NoError(t, err)
		for n, c := range list {
			require.True(t, c.PID.Alive())
			require.NoError(t, supervisor.TerminateChild(ctx, sup, c.PID))
			workers.RequireCounts(t, sup, 1, 2-n, 0, 2-n)
		}
		parent.Shutdown(t, sup)
	})
}

// A stranger who has the name of a child is reported as who he is, by the bare error of the start.
func TestOTP_already_started_outside_supervisor(t *testing.T) {
	inBubble(t, func(t *testing.T, sys *actors.System, parent *workers.Parent) {
		stranger := actortest.NewProbe().Start(t, sys, actors.WithName("child"))
		sup := parent.Supervisor(t, supervisor.Spec{})
		simple := simpleSpec(supervisor.Permanent, 0)
		simple.Children[0].StartWith = func(c *actors.Context, _ any) (*actors.PID, error) {
			return workers.Worker{}.Start(actors.WithName("child"))(c)
		}
		dynamic := parent.Supervisor(t, simple)
		for _, start := range []func() (*actors.PID, error){
			func() (*actors.PID, error) {
				return supervisor.StartChild(t.Context(), sup, workers.Worker{}.Child("child", actors.WithName("child")))
			},
			func() (*actors.PID, error) { return supervisor.StartChildWith(t.Context(), dynamic, nil) },
		} {
			pid, err := start()
			require.Nil(t, pid)
			var taken *actors.AlreadyStartedError
			require.ErrorAs(t, err, &taken)
			require.Same(t, taken, err, "nothing around it")
			require.Same(t, stranger, taken.PID)
		}
		requireKids(t, sup)
		requireKids(t, dynamic)
		require.True(t, stranger.Alive())
	})
}
