package supervisor_test

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/shearpin/shearpin/actors"
	"github.com/shearpin/shearpin/actors/actortest"
	"github.com/shearpin/shearpin/supervisor"
)

// template describes dynamic children that are probes registered under the name that is their argument.
func template() supervisor.ChildSpec {
	return supervisor.ChildSpec{ID: "worker", StartWith: func(c *actors.Context, name any) (*actors.PID, error) {
		return c.StartLink(&actortest.Probe{Trap: true}, actors.WithName(name.(string)))
	}}
}

// A restart has the argument of the start, and children are known by their processes.
func TestDynamicChildren(t *testing.T) {
	sys := newSystem(t)
	sup := start(t, sys, supervisor.Spec{
		Strategy: supervisor.SimpleOneForOne, Children: []supervisor.ChildSpec{template()},
	})
	a, err := supervisor.StartChildWith(t.Context(), sup, "a")
	require.NoError(t, err)
	b, err := supervisor.StartChildWith(t.Context(), sup, "b")
	require.NoError(t, err)
	require.Same(t, a, sys.Whereis("a"))
	second := next(t, "a", crash(t, sys, "a"))
	require.Same(t, b, sys.Whereis("b"))

	info, err := supervisor.WhichChild(t.Context(), sup, second)
	require.NoError(t, err)
	require.Equal(t, "a", info.Name)
	require.Equal(t, 2, info.Incarnation)
	_, err = supervisor.WhichChild(t.Context(), sup, a)
	require.ErrorIs(t, err, supervisor.ErrNotFound)
	spec, err := supervisor.GetChildSpec(t.Context(), sup, b)
	require.NoError(t, err)
	require.Equal(t, "worker", spec.ID)
	require.NotNil(t, spec.StartWith)

	require.NoError(t, supervisor.TerminateChild(t.Context(), sup, b))
	require.ErrorIs(t, b.Reason(), actors.Shutdown)
	require.NoError(t, supervisor.TerminateChild(t.Context(), sup, b))
	require.NoError(t, supervisor.TerminateChild[*actors.PID](t.Context(), sup, nil))
	require.ErrorIs(t, supervisor.TerminateChild(t.Context(), sup, sup), supervisor.ErrNotFound)
	list, err := supervisor.WhichChildren(t.Context(), sup)
	require.NoError(t, err)
	require.Len(t, list, 1)

	// A panic of the start function, here because of the argument's type, is a failed start.
	_, err = supervisor.StartChildWith(t.Context(), sup, 7)
	require.ErrorAs(t, err, new(*actors.PanicError))
}

// A request that waits is about the world at its turn: a child that is dead by then is no error, whoever ended it.
func TestTwoTerminateOneDynamicChild(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		sys := newSystem(t)
		spec := supervisor.ChildSpec{ID: "slow", StartWith: func(c *actors.Context, _ any) (*actors.PID, error) {
			return c.StartLink(&actortest.Probe{Trap: true, OnTerminate: func(*actors.Context, error) { <-time.After(time.Second) }})
		}}
		sup := start(t, sys, supervisor.Spec{Strategy: supervisor.SimpleOneForOne, Children: []supervisor.ChildSpec{spec}})
		pid, err := supervisor.StartChildWith(t.Context(), sup, nil)
		require.NoError(t, err)
		answers := make(chan error, 2)
		for range 2 {
			go func() { answers <- supervisor.TerminateChild(context.Background(), sup, pid) }()
		}
		require.NoError(t, <-answers)
		require.NoError(t, <-answers)
		require.NoError(t, sup.Stop(t.Context(), actors.Shutdown))
	})
}

func TestTemplate(t *testing.T) {
	sys := newSystem(t)
	var got []int
	sup := start(t, sys, supervisor.Spec{
		Strategy: supervisor.SimpleOneForOne,
		Children: []supervisor.ChildSpec{supervisor.Template("n", func(n int) actors.Process {
			got = append(got, n)
			return actortest.NewProbe()
		})},
	})
	for _, arg := range []any{7, nil} {
		_, err := supervisor.StartChildWith(t.Context(), sup, arg)
		require.NoError(t, err)
	}
	require.Equal(t, []int{7, 0}, got)
	_, err := supervisor.StartChildWith(t.Context(), sup, "seven")
	require.Equal(t, &supervisor.ArgumentError{ID: "n", Arg: "seven"}, err)
	require.EqualError(t, err, `child "n" cannot be started with a string`)
}

// The spec of NewFunc is made in the supervisor, at every start of it.
func TestNewFunc(t *testing.T) {
	sys := newSystem(t)
	made := 0
	top := start(t, sys, supervisor.Spec{Children: []supervisor.ChildSpec{
		supervisor.Worker("sub", func() actors.Process {
			return supervisor.NewFunc(func(c *actors.Context) (supervisor.Spec, error) {
				made++
				return supervisor.Spec{Name: c.Self().Name(), Children: []supervisor.ChildSpec{probe("a")}}, nil
			})
		}, actors.WithName("sub")),
	}})
	sub := sys.Whereis("sub")
	require.NoError(t, sub.Stop(t.Context(), actors.Normal)) // in order, so that the name of its child is free again
	next(t, "sub", sub)
	actortest.Eventually(t, func() bool { return sys.Whereis("a").Alive() })
	require.NoError(t, top.Stop(t.Context(), actors.Shutdown))
	require.Equal(t, 2, made)
}

// A restart that is put off happens when its time has come, by the clock of the system, and is listed until then.
func TestBackoff(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		sys := newSystem(t)
		sup := start(t, sys, supervisor.Spec{
			Intensity: 9, Backoff: supervisor.Backoff{Min: time.Second, Max: 3 * time.Second},
			Children: []supervisor.ChildSpec{probe("a")},
		})
		for _, wait := range []time.Duration{time.Second, 2 * time.Second, 3 * time.Second} {
			crash(t, sys, "a")
			synctest.Wait()
			info, err := supervisor.WhichChild(t.Context(), sup, "a")
			require.NoError(t, err)
			require.Equal(t, "restarting", info.State)
			require.Equal(t, wait, time.Until(info.RetryAt))
			actortest.Elapse(wait - 1)
			require.Nil(t, sys.Whereis("a"))
			actortest.Elapse(time.Nanosecond)
			require.True(t, sys.Whereis("a").Alive())
		}
		info, err := supervisor.WhichChild(t.Context(), sup, "a")
		require.NoError(t, err)
		require.Zero(t, info.RetryAt)

		// Told to end while it waits, the supervisor does not wait.
		crash(t, sys, "a")
		synctest.Wait()
		begin := time.Now()
		require.NoError(t, sup.Stop(t.Context(), actors.Shutdown))
		require.Zero(t, time.Since(begin))
	})
}

// The tree tells how near a supervisor is to its end, what waits in the mailboxes, and who is dead and still runs.
func TestIntrospection(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		sys := newSystem(t)
		stubborn := with(probe("stubborn"), func(c *supervisor.ChildSpec) { c.Shutdown = supervisor.BrutalKill })
		temporary := with(probe("temporary"), func(c *supervisor.ChildSpec) { c.Restart = supervisor.Temporary })
		sup := start(t, sys, supervisor.Spec{
			Name: "top", Strategy: supervisor.RestForOne, Intensity: 3, Period: time.Minute,
			Children: []supervisor.ChildSpec{probe("a"), stubborn, temporary},
		})
		leave := make(chan struct{})
		block := actortest.Func(func(*actors.Context) error { <-leave; return nil })
		for _, name := range []string{"stubborn", "temporary"} {
			sys.Whereis(name).Send(block)
		}
		synctest.Wait()
		for range 3 {
			sys.Whereis("stubborn").Send("waits")
		}
		tree := func() supervisor.Node {
			tree, err := supervisor.Tree(t.Context(), sup)
			require.NoError(t, err)
			return tree
		}
		n := tree()
		require.Equal(t, &supervisor.SupervisorInfo{
			Strategy: supervisor.RestForOne, Intensity: 3, Period: time.Minute,
		}, n.Supervisor)
		require.Equal(t, 4, n.Children[1].MailboxLen, "three, and the one in hand")
		require.Equal(t, "stubborn", n.Children[1].Name)
		require.Nil(t, n.Children[1].Supervisor)

		sys.Whereis("temporary").Kill()
		sys.Whereis("stubborn").Kill()
		synctest.Wait()
		n = tree()
		require.Equal(t, 1, n.Supervisor.Restarts)
		require.Equal(t, 1, n.Supervisor.Lingering, "the temporary one is forgotten")
		require.Len(t, n.Children, 2)
		require.Equal(t, 1, n.Children[1].Lingering)
		require.Equal(t, 2, n.Children[1].Incarnation)
		info, err := supervisor.WhichChild(t.Context(), sup, "stubborn")
		require.NoError(t, err)
		require.Equal(t, 1, info.Lingering)
		close(leave)
		synctest.Wait()
		n = tree()
		require.Zero(t, n.Supervisor.Lingering+n.Children[1].Lingering)

		actortest.Elapse(time.Minute)
		require.Equal(t, 1, tree().Supervisor.Restarts, "still within the period")
		actortest.Elapse(time.Nanosecond)
		require.Zero(t, tree().Supervisor.Restarts)
	})
}

// A supervisor in the tree that hangs is one line of the answer, and costs the others nothing.
func TestTreeWithOneHangingSupervisor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		sys := newSystem(t)
		hang := make(chan struct{})
		sub := func(id string) supervisor.ChildSpec {
			return supervisor.Sub(id, supervisor.Spec{Name: id, Children: []supervisor.ChildSpec{probe("below " + id)}}, actors.WithName(id))
		}
		deep := supervisor.Sub("deep", supervisor.Spec{Name: "deep", Children: []supervisor.ChildSpec{sub("z")}})
		top := start(t, sys, supervisor.Spec{Name: "top", Children: []supervisor.ChildSpec{sub("x"), sub("y"), deep}})
		go func() {
			_, _ = supervisor.StartChild(context.Background(), sys.Whereis("y"), supervisor.ChildSpec{
				ID: "hangs", Start: func(*actors.Context) (*actors.PID, error) { <-hang; return nil, actors.ErrIgnore },
			})
		}()
		synctest.Wait()
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		tree, err := supervisor.Tree(ctx, top)
		require.NoError(t, err)
		require.Equal(t, "top(x/1(below x/1) y/1 deep/1(z/1(below z/1)))", outline(tree))
		require.ErrorIs(t, tree.Children[1].Err, context.DeadlineExceeded)
		close(hang)
	})
}
