package supervisor_test

import (
	"context"
	"math/rand/v2"
	"runtime"
	"sync"
	"testing"
	"testing/synctest"
	"time"
	"weak"

	"github.com/stretchr/testify/require"

	"github.com/shearpin/shearpin/actors"
	"github.com/shearpin/shearpin/actors/actortest"
	"github.com/shearpin/shearpin/supervisor"
)

// OTP: tree. A crash stays below its supervisor as long as that can cope; then the next one takes over, from the specs.
func TestTree(t *testing.T) {
	sys := newSystem(t)
	left := supervisor.Spec{Name: "left", Children: []supervisor.ChildSpec{probe("l1")}}
	right := supervisor.Spec{Name: "right", Children: []supervisor.ChildSpec{probe("r1"), probe("r2")}}
	top := start(t, sys, supervisor.Spec{Name: "top", Strategy: supervisor.OneForAll, Children: []supervisor.ChildSpec{
		supervisor.Sub("left", left, actors.WithName("left")),
		supervisor.Sub("right", right, actors.WithName("right")),
		with(probe("t"), func(c *supervisor.ChildSpec) { c.Restart = supervisor.Transient }),
	}})
	_, err := supervisor.StartChild(t.Context(), sys.Whereis("left"), probe("dynamic"))
	require.NoError(t, err)
	require.NoError(t, supervisor.TerminateChild(t.Context(), top, "t"))
	require.Nil(t, sys.Whereis("t"))

	l1, r1, r2 := sys.Whereis("l1"), sys.Whereis("r1"), sys.Whereis("r2")
	second := next(t, "r1", crash(t, sys, "r1"))
	require.NotSame(t, r1, second)
	require.Same(t, r2, sys.Whereis("r2"))
	require.Same(t, l1, sys.Whereis("l1"))

	right1 := sys.Whereis("right")
	crash(t, sys, "r1") // the second in 5 s
	actortest.AwaitDeath(t, right1)
	var gaveUp *supervisor.GaveUpError
	require.ErrorAs(t, right1.Reason(), &gaveUp)
	require.Equal(t, supervisor.GaveUpError{Supervisor: "right", ID: "r1", Err: errBoom}, *gaveUp)
	require.True(t, actors.IsNormal(right1.Reason()))
	next(t, "t", top) // by the group restart, though it had been stopped by request
	require.NotSame(t, l1, sys.Whereis("l1"))
	require.NotSame(t, r2, sys.Whereis("r2"))
	require.Nil(t, sys.Whereis("dynamic"))
	counts, err := supervisor.CountChildren(t.Context(), top)
	require.NoError(t, err)
	require.Equal(t, supervisor.Counts{Specs: 3, Active: 3, Supervisors: 2, Workers: 1}, counts)

	tree, err := supervisor.Tree(t.Context(), top)
	require.NoError(t, err)
	require.Equal(t, "top(left/2(l1/1) right/2(r1/1 r2/1) t/2)", outline(tree))
	require.Equal(t, "supervisor", tree.Children[0].Kind)
	require.Equal(t, 1, tree.Children[1].Restarts)
	require.ErrorIs(t, tree.Children[1].LastExit, errBoom)
	require.WithinDuration(t, time.Now(), tree.Since, time.Minute)
	require.NoError(t, top.Stop(t.Context(), actors.Shutdown))
	_, err = supervisor.Tree(t.Context(), top)
	require.ErrorIs(t, err, actors.NoProcess)
}

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

// OTP: one_for_one_escalation and semantics 1. Who gives up exits with shutdown: a transient supervisor is then not
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

// OTP: multiple_restarts, in virtual time.
func TestIntensityWindow(t *testing.T) {
	clock := actortest.NewClock(time.Unix(0, 0))
	sys := actortest.NewSystem(t, actors.Options{Clock: clock})
	sup := start(t, sys, supervisor.Spec{Intensity: 1, Period: time.Second, Children: []supervisor.ChildSpec{probe("a")}})
	for range 4 {
		next(t, "a", crash(t, sys, "a"))
		clock.Advance(2100 * time.Millisecond)
	}
	next(t, "a", crash(t, sys, "a"))
	crash(t, sys, "a")
	requireReason(t, sup, actors.Shutdown)
}

// OTP: do_not_save_start_parameters_for_temporary_children. What a temporary child was started with goes with it.
func TestTemporaryChildrenLeaveNothing(t *testing.T) {
	sys := newSystem(t)
	sup, first, second := startHeavy(t, sys)
	sys.Whereis("first").Kill()
	sys.Whereis("second").Kill()
	actortest.Eventually(t, func() bool { return len(children(t, sup)) == 0 })
	actortest.Eventually(t, func() bool {
		runtime.GC()
		return first.Value() == nil && second.Value() == nil
	})
	require.True(t, sup.Alive())
}

// startHeavy starts a supervisor with one heavy child from its spec and one added later, and forgets how they are started.
func startHeavy(t *testing.T, sys *actors.System) (sup *actors.PID, first, second weak.Pointer[[1 << 16]byte]) {
	t.Helper()
	initial, first := heavy("first")
	added, second := heavy("second")
	sup = start(t, sys, supervisor.Spec{Children: []supervisor.ChildSpec{initial}})
	_, err := supervisor.StartChild(t.Context(), sup, added)
	require.NoError(t, err)
	return sup, first, second
}

// heavy describes a temporary child whose start function holds memory.
func heavy(id string) (supervisor.ChildSpec, weak.Pointer[[1 << 16]byte]) {
	load := new([1 << 16]byte)
	spec := supervisor.ChildSpec{ID: id, Restart: supervisor.Temporary, Start: func(c *actors.Context) (*actors.PID, error) {
		load[0]++
		return c.StartLink(struct{ actors.Base }{}, actors.WithName(id))
	}}
	return spec, weak.Make(load)
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
