package supervisor_test

import (
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/shearpin/shearpin/actors"
	"github.com/shearpin/shearpin/supervisor"
	"github.com/shearpin/shearpin/supervisor/internal/workers"
)

// The tests TestOTP_… are the cases of OTP's supervisor_SUITE, one each, under its names. A case runs in a bubble of
// virtual time, with a parent in the place of the suite's test process.

func inBubble(t *testing.T, run func(t *testing.T, sys *actors.System, parent *workers.Parent)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		sys := newSystem(t)
		run(t, sys, workers.NewParent(t, sys))
	})
}

// simpleSpec describes a simple_one_for_one supervisor whose children are started from the workers.Worker that StartChildWith
// is given.
func simpleSpec(restart supervisor.Restart, shutdown supervisor.Shutdown) supervisor.Spec {
	return supervisor.Spec{Name: "sup", Strategy: supervisor.SimpleOneForOne, Children: []supervisor.ChildSpec{
		{ID: "template", StartWith: workers.StartWith, Restart: restart, Shutdown: shutdown},
	}}
}

// startWorker starts a child under its id.
func startWorker(
	t testing.TB, sup *actors.PID, id string, w workers.Worker, change ...func(*supervisor.ChildSpec),
) *actors.PID {
	t.Helper()
	spec := w.Child(id)
	for _, f := range change {
		f(&spec)
	}
	pid, err := supervisor.StartChild(t.Context(), sup, spec)
	require.NoError(t, err)
	return pid
}

// startDynamic starts n children of a template.
func startDynamic(t testing.TB, sup *actors.PID, n int, w workers.Worker) (pids []*actors.PID) {
	t.Helper()
	for range n {
		pid, err := supervisor.StartChildWith(t.Context(), sup, w)
		require.NoError(t, err)
		pids = append(pids, pid)
	}
	return pids
}

func temporary(spec *supervisor.ChildSpec) { spec.Restart = supervisor.Temporary }

// kid is what OTP's which_children says of a child, besides its type.
type kid struct {
	id  string
	pid *actors.PID
}

// requireKids checks the list of children, the youngest first.
func requireKids(t testing.TB, sup *actors.PID, want ...kid) {
	t.Helper()
	list, err := supervisor.WhichChildren(t.Context(), sup)
	require.NoError(t, err)
	var got []kid
	for _, c := range list {
		got = append(got, kid{c.ID, c.PID})
	}
	if !slices.Equal(want, got) {
		require.Failf(t, "unexpected children", "%v, want %v", got, want)
	}
}

// requireNoStart checks that a start failed and left nothing: the parent has heard of it by the error only, and the name is
// free.
func requireNoStart(t testing.TB, parent *workers.Parent, impl actors.Process) error {
	t.Helper()
	heard := len(parent.Exits(t))
	pid, err := parent.StartLink(t, impl, actors.WithName("sup"))
	require.Error(t, err)
	require.Nil(t, pid)
	require.Nil(t, parent.PID.System().Whereis("sup"))
	synctest.Wait()
	require.Len(t, parent.Exits(t), heard)
	return err
}

// A supervisor is linked to who starts it, obeys its parent's exit signal, and dies with that reason when its children are
// dead.
func TestOTP_sup_start_normal(t *testing.T) {
	inBubble(t, func(t *testing.T, sys *actors.System, parent *workers.Parent) {
		parent.Shutdown(t, parent.Supervisor(t, supervisor.Spec{}))

		var r trace
		sup := parent.Supervisor(t, supervisor.Spec{Children: []supervisor.ChildSpec{r.probe("a"), r.probe("b")}})
		parent.Shutdown(t, sup)
		require.Equal(t, []string{"+a", "+b", "-b", "-a"}, r.take())
		require.Len(t, parent.Exits(t), 2)
		require.Len(t, sys.Processes(), 1, "the parent")
	})
}

// A supervisor that is not needed is no failure that anybody hears of but by the answer.
func TestOTP_sup_start_ignore_init(t *testing.T) {
	inBubble(t, func(t *testing.T, sys *actors.System, parent *workers.Parent) {
		sup := supervisor.NewFunc(func(*actors.Context) (supervisor.Spec, error) {
			return supervisor.Spec{}, actors.ErrIgnore
		})
		require.Equal(t, actors.ErrIgnore, requireNoStart(t, parent, sup))
		pid, err := parent.StartLink(t, supervisor.New(supervisor.Spec{}), actors.WithName("sup"))
		require.NoError(t, err, "the name is free")
		require.Same(t, pid, sys.Whereis("sup"))
	})
}

// A permanent child that is not needed keeps its place, without a process.
func TestOTP_sup_start_ignore_child(t *testing.T) {
	inBubble(t, func(t *testing.T, _ *actors.System, parent *workers.Parent) {
		sup := parent.Supervisor(t, supervisor.Spec{})
		require.Nil(t, startWorker(t, sup, "child1", workers.Worker{Outcome: workers.Ignore}))
		second := startWorker(t, sup, "child2", workers.Worker{})
		requireKids(t, sup, kid{"child2", second}, kid{"child1", nil})
		workers.RequireCounts(t, sup, 2, 1, 0, 2)
	})
}

// A temporary child that is not needed is forgotten.
func TestOTP_sup_start_ignore_temporary_child(t *testing.T) {
	inBubble(t, func(t *testing.T, sys *actors.System, parent *workers.Parent) {
		sup := parent.Supervisor(t, supervisor.Spec{Children: []supervisor.ChildSpec{
			with(workers.Worker{Outcome: workers.Ignore}.Child("child1"), temporary),
			with(workers.Worker{}.Child("child2", actors.WithName("child2")), temporary),
		}})
		requireKids(t, sup, kid{"child2", sys.Whereis("child2")})
		workers.RequireCounts(t, sup, 1, 1, 0, 1)
	})
}

// The same for a child that is added.
func TestOTP_sup_start_ignore_temporary_child_start_child(t *testing.T) {
	inBubble(t, func(t *testing.T, _ *actors.System, parent *workers.Parent) {
		sup := parent.Supervisor(t, supervisor.Spec{})
		require.Nil(t, startWorker(t, sup, "child1", workers.Worker{Outcome: workers.Ignore}, temporary))
		second := startWorker(t, sup, "child2", workers.Worker{}, temporary)
		requireKids(t, sup, kid{"child2", second})
		workers.RequireCounts(t, sup, 1, 1, 0, 1)
	})
}

// The same under simple_one_for_one.
func TestOTP_sup_start_ignore_temporary_child_start_child_simple(t *testing.T) {
	ignoreDynamic(t, supervisor.Temporary)
}

// There even a permanent child is forgotten, and a supervisor that has done so can still end.
func TestOTP_sup_start_ignore_permanent_child_start_child_simple(t *testing.T) {
	ignoreDynamic(t, supervisor.Permanent)
}

func ignoreDynamic(t *testing.T, restart supervisor.Restart) {
	t.Helper()
	inBubble(t, func(t *testing.T, _ *actors.System, parent *workers.Parent) {
		sup := parent.Supervisor(t, simpleSpec(restart, 0))
		require.Nil(t, startDynamic(t, sup, 1, workers.Worker{Outcome: workers.Ignore})[0])
		requireKids(t, sup)
		second := startDynamic(t, sup, 1, workers.Worker{})[0]
		requireKids(t, sup, kid{"", second})
		workers.RequireCounts(t, sup, 1, 1, 0, 1)
		parent.Shutdown(t, sup)
		require.Equal(t, actors.Shutdown, second.Reason())
	})
}

// Adapted: an init that returns nonsense does not compile in Go. What it can still return is a Spec that is wrong, or an
// error, and that is the error of the start.
func TestOTP_sup_start_error_return(t *testing.T) {
	inBubble(t, func(t *testing.T, _ *actors.System, parent *workers.Parent) {
		wrong := supervisor.Spec{Name: "sup", Intensity: -7}
		want := &supervisor.SpecError{Supervisor: "sup", Problem: "negative intensity"}
		require.Equal(t, want, requireNoStart(t, parent, supervisor.New(wrong)))
		require.Equal(t, want, requireNoStart(t, parent, supervisor.NewFunc(func(*actors.Context) (supervisor.Spec, error) {
			return wrong, nil
		})))
		require.Same(t, errBoom, requireNoStart(t, parent, supervisor.NewFunc(func(*actors.Context) (supervisor.Spec, error) {
			return supervisor.Spec{}, errBoom
		})))
	})
}

// An init that crashes is the error of the start, with its stack.
func TestOTP_sup_start_fail(t *testing.T) {
	inBubble(t, func(t *testing.T, _ *actors.System, parent *workers.Parent) {
		err := requireNoStart(t, parent, supervisor.NewFunc(func(*actors.Context) (supervisor.Spec, error) { panic(errBoom) }))
		require.ErrorIs(t, err, errBoom)
		var panicked *actors.PanicError
		require.ErrorAs(t, err, &panicked)
		require.Contains(t, panicked.Stack(), "TestOTP_sup_start_fail")
	})
}

// A child that cannot be started again by request stays down, with its spec, and nobody else is the worse for it.
func TestOTP_sup_start_restart_child_returns_error(t *testing.T) {
	inBubble(t, func(t *testing.T, _ *actors.System, parent *workers.Parent) {
		sup := parent.Supervisor(t, supervisor.Spec{Name: "sup"})
		outcome := workers.Sequence(nil, workers.ErrStart, errBoom, nil)
		child := startWorker(t, sup, "child1", workers.Worker{Outcome: outcome})
		workers.Terminate(t, child, workers.ByAPI(sup, "child1"))
		for _, reason := range []error{workers.ErrStart, errBoom} {
			pid, err := supervisor.RestartChild(t.Context(), sup, "child1")
			require.Nil(t, pid)
			require.Equal(t, &supervisor.StartError{Supervisor: "sup", ID: "child1", Err: reason}, err)
			requireKids(t, sup, kid{"child1", nil})
			workers.RequireCounts(t, sup, 1, 0, 0, 1)
		}
		require.True(t, sup.Alive())
		again, err := supervisor.RestartChild(t.Context(), sup, "child1")
		require.NoError(t, err)
		requireKids(t, sup, kid{"child1", again})
	})
}

// failures are start functions that do not give a process, each with what it fails of.
var failures = []struct {
	name  string
	start func(c *actors.Context) (*actors.PID, error)
	check func(t *testing.T, err error)
}{
	{"error", workers.Worker{Outcome: workers.Fail}.Start(), func(t *testing.T, err error) {
		t.Helper()
		require.Same(t, workers.ErrStart, err)
	}},
	{"panic", func(*actors.Context) (*actors.PID, error) { panic(errBoom) }, func(t *testing.T, err error) {
		t.Helper()
		var panicked *actors.PanicError
		require.ErrorAs(t, err, &panicked)
		require.Same(t, panicked, err)
		require.Same(t, errBoom, panicked.Value)
	}},
	{"neither process nor error", func(*actors.Context) (*actors.PID, error) { return nil, nil }, func(t *testing.T, err error) {
		t.Helper()
		require.EqualError(t, err, "start function returned no process")
	}},
}

// A child that cannot be added leaves nothing, and the error says which child it was. OTP's other terms that are not ok are
// panics here, and the start function that returns neither a process nor an error.
func TestOTP_sup_start_child_returns_error(t *testing.T) {
	inBubble(t, func(t *testing.T, _ *actors.System, parent *workers.Parent) {
		sup := parent.Supervisor(t, supervisor.Spec{Name: "sup"})
		for _, f := range failures {
			pid, err := supervisor.StartChild(t.Context(), sup, supervisor.ChildSpec{ID: f.name, Start: f.start})
			require.Nil(t, pid)
			var failed *supervisor.StartError
			require.ErrorAs(t, err, &failed)
			require.Same(t, failed, err, "nothing around it")
			require.Equal(t, []string{"sup", f.name}, []string{failed.Supervisor, failed.ID})
			f.check(t, failed.Err)
			requireKids(t, sup)
			workers.RequireCounts(t, sup, 0, 0, 0, 0)
		}
		startWorker(t, sup, "error", workers.Worker{})
	})
}

// Under simple_one_for_one the error is bare: there is no child to be named.
func TestOTP_sup_start_child_returns_error_simple(t *testing.T) {
	for _, f := range failures {
		t.Run(f.name, func(t *testing.T) {
			inBubble(t, func(t *testing.T, _ *actors.System, parent *workers.Parent) {
				spec := simpleSpec(supervisor.Permanent, 0)
				spec.Children[0].StartWith = func(c *actors.Context, _ any) (*actors.PID, error) { return f.start(c) }
				sup := parent.Supervisor(t, spec)
				pid, err := supervisor.StartChildWith(t.Context(), sup, nil)
				require.Nil(t, pid)
				f.check(t, err)
				requireKids(t, sup)
				workers.RequireCounts(t, sup, 1, 0, 0, 0)
				parent.Shutdown(t, sup)
			})
		})
	}
}

// What a spec leaves out is OTP's default; zero values stand for what is left out. OTP's list of modules has no counterpart.
func TestOTP_sup_start_map(t *testing.T) {
	inBubble(t, func(t *testing.T, _ *actors.System, parent *workers.Parent) {
		running := workers.Worker{}.Start()
		sup := parent.Supervisor(t, supervisor.Spec{AutoShutdown: supervisor.AnySignificant, Children: []supervisor.ChildSpec{
			{ID: "worker", Start: running},
			{ID: "supervisor", Start: running, Type: supervisor.TypeSupervisor},
			{ID: "impatient", Start: running, Type: supervisor.TypeSupervisor, Shutdown: supervisor.After(time.Second)},
		}})
		_, err := supervisor.StartChild(t.Context(), sup, supervisor.ChildSpec{
			ID: "all", Start: running, Restart: supervisor.Transient, Shutdown: supervisor.BrutalKill, Significant: true,
		})
		require.NoError(t, err)
		for _, want := range []supervisor.ChildSpec{
			{ID: "worker", Restart: supervisor.Permanent, Shutdown: supervisor.After(5 * time.Second), Type: supervisor.TypeWorker},
			{ID: "supervisor", Shutdown: supervisor.Infinity, Type: supervisor.TypeSupervisor},
			{ID: "impatient", Shutdown: supervisor.After(time.Second), Type: supervisor.TypeSupervisor},
			{ID: "all", Restart: supervisor.Transient, Shutdown: supervisor.BrutalKill, Significant: true},
		} {
			got, err := supervisor.GetChildSpec(t.Context(), sup, want.ID)
			require.NoError(t, err)
			require.NotNil(t, got.Start)
			got.Start = nil
			require.Equal(t, want, got)
		}
		_, err = supervisor.GetChildSpec(t.Context(), sup, "nobody")
		require.Same(t, supervisor.ErrNotFound, err)
	})
}

// Under simple_one_for_one the spec of every child is the template.
func TestOTP_sup_start_map_simple(t *testing.T) {
	for _, restart := range everyRestart {
		inBubble(t, func(t *testing.T, _ *actors.System, parent *workers.Parent) {
			sup := parent.Supervisor(t, simpleSpec(restart, 0))
			for _, child := range startDynamic(t, sup, 3, workers.Worker{}) {
				got, err := supervisor.GetChildSpec(t.Context(), sup, child)
				require.NoError(t, err)
				require.NotNil(t, got.StartWith)
				got.StartWith = nil
				require.Equal(t, supervisor.ChildSpec{
					ID: "template", Restart: restart, Shutdown: supervisor.After(5 * time.Second),
				}, got)
			}
			_, err := supervisor.GetChildSpec(t.Context(), sup, parent.PID)
			require.Same(t, supervisor.ErrNotFound, err)
			_, err = supervisor.GetChildSpec(t.Context(), sup, "template")
			require.Same(t, supervisor.ErrSimpleOneForOne, err)
		})
	}
}

// Adapted: what is no spec at all, and a key that a spec does not have, do not compile in Go. Here are the fields that must
// not be left out, each with its error, for the children of a Spec and those that are added.
func TestOTP_sup_start_map_faulty_specs(t *testing.T) {
	inBubble(t, func(t *testing.T, _ *actors.System, parent *workers.Parent) {
		sup := parent.Supervisor(t, supervisor.Spec{Name: "sup"})
		good := workers.Worker{}.Child("good")
		for _, faulty := range []struct {
			spec    supervisor.ChildSpec
			problem string
		}{
			{supervisor.ChildSpec{}, "child without id"},
			{supervisor.ChildSpec{Start: good.Start}, "child without id"},
			{supervisor.ChildSpec{ID: "a"}, "no start function"},
			{supervisor.ChildSpec{ID: "a", StartWith: workers.StartWith}, "no start function"},
		} {
			want := &supervisor.SpecError{Supervisor: "sup", Child: faulty.spec.ID, Problem: faulty.problem}
			require.Equal(t, want, requireNoStart(t, parent, supervisor.New(supervisor.Spec{
				Name: "sup", Children: []supervisor.ChildSpec{good, faulty.spec},
			})))
			_, err := supervisor.StartChild(t.Context(), sup, faulty.spec)
			require.Equal(t, want, err)
		}
		requireKids(t, sup)
		parent.Supervisor(t, supervisor.Spec{Children: []supervisor.ChildSpec{good}})
	})
}
