package supervisor_test

import (
	"context"
	"math/rand/v2"
	"runtime"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/shearpin/shearpin/actors"
	"github.com/shearpin/shearpin/actors/actortest"
	"github.com/shearpin/shearpin/supervisor"
)

func outline(n supervisor.Node) string {
	s := n.ID
	if n.Incarnation > 0 {
		s += "/" + string(rune('0'+n.Incarnation))
	}
	if len(n.Children) > 0 {
		s += "("
		for i, c := range n.Children {
			if i > 0 {
				s += " "
			}
			s += outline(c)
		}
		s += ")"
	}
	return s
}

// A supervisor in the tree that does not answer is shown without its children.
func TestTreeWithoutAnswer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		sys := newSystem(t)
		deaf := supervisor.Worker("deaf", func() actors.Process { return actortest.NewProbe() }, actors.WithName("deaf"))
		deaf.Type = supervisor.TypeSupervisor
		top := start(t, sys, supervisor.Spec{Name: "top", Children: []supervisor.ChildSpec{deaf}})
		leave := make(chan struct{})
		sys.Whereis("deaf").Send(actortest.Func(func(*actors.Context) error { <-leave; return nil }))
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		tree, err := supervisor.Tree(ctx, top)
		require.NoError(t, err)
		require.ErrorIs(t, tree.Children[0].Err, context.DeadlineExceeded)
		close(leave)
		tree, err = supervisor.Tree(t.Context(), top)
		require.NoError(t, err)
		require.ErrorAs(t, tree.Children[0].Err, new(*actors.ReplyTypeError), "it answered, but not as a supervisor does")
	})
}

// Semantics 1: who gives up exits with shutdown: a transient supervisor is then not
// restarted, a permanent one is.
func TestEscalation(t *testing.T) {
	sys := newSystem(t)
	never := func(id string) supervisor.Spec {
		return supervisor.Spec{Name: id, Intensity: supervisor.Never, Children: []supervisor.ChildSpec{probe(id)}}
	}
	top := start(t, sys, supervisor.Spec{Name: "top", Children: []supervisor.ChildSpec{
		supervisor.Sub("permanent", never("p")),
		with(supervisor.Sub("transient", never("t")), func(c *supervisor.ChildSpec) { c.Restart = supervisor.Transient }),
	}})
	crash(t, sys, "t")
	actortest.Eventually(t, func() bool { return children(t, top)["transient"].State == "stopped" })
	require.ErrorIs(t, children(t, top)["transient"].LastExit, errBoom)
	next(t, "p", crash(t, sys, "p"))
	require.Equal(t, 2, children(t, top)["permanent"].Incarnation)
	require.True(t, top.Alive())
}

// A named child is brought down in every way, thousands of times: each death is one restart, each incarnation has the
// name, and nothing is left behind.
func TestCrashAndRestartManyTimes(t *testing.T) {
	sys := newSystem(t)
	sup := start(t, sys, supervisor.Spec{Intensity: 1 << 30, Children: []supervisor.ChildSpec{probe("a")}})
	const cycles = 3000
	ends := []func(*actors.PID){
		func(pid *actors.PID) { pid.Kill() },
		func(pid *actors.PID) { pid.Send(actortest.Func(func(*actors.Context) error { panic(errBoom) })) },
		func(pid *actors.PID) { pid.Send(actortest.Func(func(*actors.Context) error { return actors.Normal })) },
		func(pid *actors.PID) {
			go pid.Kill()
			pid.Cast(actortest.Func(func(*actors.Context) error { return errBoom }))
		},
		func(pid *actors.PID) {
			pid.Send(actortest.Func(func(*actors.Context) error { runtime.Goexit(); return nil }))
		},
	}
	pid := sys.Whereis("a")
	for i := range cycles {
		ends[i%len(ends)](pid)
		// The supervisor tells of a child when its start has returned; the name is there before that.
		old := pid
		actortest.Eventually(t, func() bool {
			pid = children(t, sup)["a"].PID
			return pid != nil && pid != old
		})
	}
	info := children(t, sup)["a"]
	require.Equal(t, cycles+1, info.Incarnation)
	require.Equal(t, cycles, info.Restarts)
	require.Same(t, pid, info.PID)
	require.Len(t, sys.Processes(), 2)
	actortest.Eventually(t, func() bool { return sys.Lingering() == 0 })
}

// Processes anywhere in a tree are killed from several sides at once. When that ends, the tree is whole again: every child
// once, under its name, and nobody else.
func TestTreeUnderAttack(t *testing.T) {
	sys := newSystem(t)
	const plenty = 1 << 30
	inner := func(id string, strategy supervisor.Strategy) supervisor.ChildSpec {
		return supervisor.Sub(id, supervisor.Spec{Name: id, Strategy: strategy, Intensity: plenty, Children: []supervisor.ChildSpec{
			probe(id + "1"), probe(id + "2"), probe(id + "3"),
		}}, actors.WithName(id))
	}
	top := start(t, sys, supervisor.Spec{Name: "top", Intensity: plenty, Children: []supervisor.ChildSpec{
		inner("a", supervisor.OneForOne), inner("b", supervisor.OneForAll), inner("c", supervisor.RestForOne),
	}})
	names := []string{"a", "a1", "a2", "a3", "b", "b1", "b2", "b3", "c", "c1", "c2", "c3"}
	var wg sync.WaitGroup
	for seed := range 3 {
		wg.Go(func() {
			rng := rand.New(rand.NewPCG(uint64(seed), 0))
			for range 500 {
				pid := sys.Whereis(names[rng.IntN(len(names))])
				if rng.IntN(2) == 0 {
					pid.Kill()
				} else {
					pid.Send(actortest.Func(func(*actors.Context) error { return errBoom }))
				}
				runtime.Gosched()
			}
		})
	}
	wg.Wait()
	actortest.Eventually(t, func() bool {
		tree, err := supervisor.Tree(t.Context(), top)
		require.NoError(t, err)
		return complete(tree) && len(sys.Processes()) == len(names)+1
	})
	for _, name := range names {
		require.True(t, sys.Whereis(name).Alive())
	}
	require.NoError(t, top.Stop(t.Context(), actors.Shutdown))
	require.Empty(t, sys.Processes())
	actortest.Eventually(t, func() bool { return sys.Lingering() == 0 })
}

// complete reports whether all processes in a tree are there and alive.
func complete(n supervisor.Node) bool {
	if n.Err != nil || n.State != "running" || !n.PID.Alive() {
		return false
	}
	for _, c := range n.Children {
		if !complete(c) {
			return false
		}
	}
	return true
}

// A supervisor that asks for the tree that it is in, from a start function, does not wait for itself.
func TestTreeAskedForFromWithin(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		sys := newSystem(t)
		var top *actors.PID
		trees := make(chan supervisor.Node, 1)
		child := supervisor.ChildSpec{ID: "child", Start: func(c *actors.Context) (*actors.PID, error) {
			if top != nil {
				tree, err := supervisor.Tree(c.Ctx(), top)
				if err != nil {
					return nil, err
				}
				trees <- tree
			}
			return c.StartLink(actortest.NewProbe(), actors.WithName("child"))
		}}
		sub := supervisor.Sub("sub", supervisor.Spec{Children: []supervisor.ChildSpec{child}})
		top = start(t, sys, supervisor.Spec{Name: "top", Children: []supervisor.ChildSpec{probe("a"), sub}})
		crash(t, sys, "child")
		synctest.Wait()
		require.Len(t, trees, 1)
		tree := <-trees
		require.Equal(t, "a", tree.Children[0].ID)
		require.NoError(t, tree.Children[0].Err)
		require.Same(t, actors.ErrCallingSelf, tree.Children[1].Err)
	})
}

// A dead child that still runs is counted once, though the supervisor hears of its death twice: when it dies and its turn has
// not come yet, and when it is to be stopped.
func TestLingeringIsCountedOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		sys := newSystem(t)
		leave := make(chan struct{})
		defer close(leave)
		slow := supervisor.Worker("slow", func() actors.Process {
			return &actortest.Probe{Trap: true, OnTerminate: func(*actors.Context, error) { <-time.After(time.Second) }}
		})
		sup := start(t, sys, supervisor.Spec{Children: []supervisor.ChildSpec{slow, probe("stuck")}})
		stuck := sys.Whereis("stuck")
		stuck.Send(actortest.Func(func(*actors.Context) error { <-leave; return nil }))
		for _, id := range []string{"slow", "stuck"} {
			go func() { _ = supervisor.TerminateChild(context.Background(), sup, id) }()
			synctest.Wait()
		}
		stuck.Kill()
		actortest.Elapse(2 * time.Second)
		info, err := supervisor.WhichChild(t.Context(), sup, "stuck")
		require.NoError(t, err)
		require.Equal(t, []any{"stopped", 1}, []any{info.State, info.Lingering})
	})
}
