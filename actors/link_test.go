package actors_test

import (
	"runtime"
	"sync"
	"testing"
	"weak"

	"github.com/stretchr/testify/require"

	"github.com/shearpin/shearpin/actors"
	"github.com/shearpin/shearpin/actors/actortest"
)

func unlink(t testing.TB, by, target *actors.PID) {
	t.Helper()
	actortest.Do(t, by, func(c *actors.Context) error {
		c.Unlink(target)
		return nil
	})
}

func TestLinksDieTogether(t *testing.T) {
	sys := newSystem(t)
	for _, reason := range []error{errBoom, actors.Shutdown, actors.Killed} {
		_, a := start(t, sys, false)
		_, b := start(t, sys, false)
		probe, c := start(t, sys, true)
		link(t, a, b)
		link(t, c, b)
		a.Exit(reason)
		requireReason(t, b, reason)
		probe.Expect(t, actors.Exit{PID: b, Reason: reason})
		require.True(t, c.Alive())
	}
}

// Who dies tells those that it has started before its own parent, whichever was linked first. A supervisor that starts it
// again would else meet them alive, with their names. Here all of them die of it, in the order in which they are told.
func TestChildrenHearBeforeTheParent(t *testing.T) {
	sys := newSystem(t)
	_, top := start(t, sys, false)
	var middle, below *actors.PID
	actortest.Do(t, top, func(c *actors.Context) (err error) {
		middle, err = c.StartLink(actortest.NewProbe())
		return err
	})
	actortest.Do(t, middle, func(c *actors.Context) (err error) {
		below, err = c.StartLink(actortest.NewProbe())
		return err
	})
	observer, by := start(t, sys, false)
	down := func(pid *actors.PID) actors.Down {
		return actors.Down{Ref: monitor(t, by, pid), PID: pid, Reason: actors.Killed}
	}
	lastly, first, then := down(top), down(middle), down(below)
	middle.Kill()
	observer.Expect(t, first, then, lastly)
}

func TestNormalExitDoesNotKillLinks(t *testing.T) {
	sys := newSystem(t)
	_, a := start(t, sys, false)
	_, b := start(t, sys, false)
	trapping, c := start(t, sys, true)
	link(t, a, b)
	link(t, a, c)
	actortest.Crash(t, a, actors.Normal)
	trapping.Expect(t, actors.Exit{PID: a, Reason: actors.Normal})
	settle(t, b)
}

// A link is one link, however often and from whichever side it is made; to oneself it is none.
func TestLinkTwice(t *testing.T) {
	sys := newSystem(t)
	probe, a := start(t, sys, true)
	_, b := start(t, sys, true)
	link(t, a, b)
	link(t, a, b)
	link(t, b, a)
	link(t, a, a)
	b.Kill()
	probe.Expect(t, actors.Exit{PID: b, Reason: actors.Killed})
	settle(t, a)
	probe.Expect(t, actors.Exit{PID: b, Reason: actors.Killed})
}

func TestUnlink(t *testing.T) {
	sys := newSystem(t)
	probe, a := start(t, sys, true)
	for _, side := range []int{0, 1} {
		_, b := start(t, sys, false)
		link(t, a, b)
		if side == 0 {
			unlink(t, a, b)
		} else {
			unlink(t, b, a)
		}
		unlink(t, a, b)
		actortest.Crash(t, b, errBoom)
	}
	// The last step of an exit: by then the links have been told.
	actortest.Eventually(t, func() bool { return sys.Enrolled() == 1 })
	settle(t, a)
	require.Empty(t, probe.Received())
}

func TestLinkToADeadProcess(t *testing.T) {
	sys := newSystem(t)
	_, gone := start(t, sys, false)
	gone.Kill()
	probe, trapping := start(t, sys, true)
	link(t, trapping, gone)
	probe.Expect(t, actors.Exit{PID: gone, Reason: actors.NoProcess})

	_, plain := start(t, sys, false)
	plain.Send(actortest.Func(func(c *actors.Context) error { c.Link(gone); return nil }))
	requireReason(t, plain, actors.NoProcess)
}

// A chain longer than any stack dies from end to end.
func TestLongChainOfLinks(t *testing.T) {
	sys := newSystem(t)
	const length = 5000
	first, err := sys.Start(t.Context(), actortest.NewProbe())
	require.NoError(t, err)
	last := first
	for range length {
		next, err := sys.Start(t.Context(), actortest.NewProbe())
		require.NoError(t, err)
		link(t, last, next)
		last = next
	}
	first.Exit(errBoom)
	requireReason(t, last, errBoom)
	actortest.Eventually(t, func() bool { return len(sys.Processes()) == 0 })
}

// Links are made, cut and broken from all sides at once: no deadlock, no missed death, no exit twice.
func TestLinksUnderAttack(t *testing.T) {
	sys := newSystem(t)
	for range 300 {
		a, aPID := start(t, sys, true)
		_, b := start(t, sys, false)
		_, c := start(t, sys, false)
		link(t, aPID, b)
		link(t, b, c)
		link(t, c, aPID)
		var wg sync.WaitGroup
		wg.Go(func() { b.Exit(errBoom) })
		wg.Go(func() { c.Exit(errBoom) })
		for _, pid := range []*actors.PID{b, c} {
			pid.Send(actortest.Func(func(x *actors.Context) error {
				x.Unlink(aPID)
				x.Link(aPID)
				return nil
			}))
		}
		wg.Wait()
		requireReason(t, b, errBoom)
		requireReason(t, c, errBoom)
		actortest.Eventually(t, func() bool { return sys.Enrolled() == 1 })
		settle(t, aPID)
		heard := map[*actors.PID]int{}
		for _, msg := range a.Received() {
			heard[msg.(actors.Exit).PID]++
		}
		require.LessOrEqual(t, heard[b], 1)
		require.LessOrEqual(t, heard[c], 1)
		aPID.Kill()
	}
}

// heir starts its own successor, as often as it is told to, and ends.
type heir struct {
	actors.Base
	left int
	last chan *actors.PID
}

func (h *heir) HandleInfo(c *actors.Context, msg any) error {
	if h.left == 0 {
		h.last <- c.Self()
		return nil
	}
	pid, err := c.StartLink(&heir{left: h.left - 1, last: h.last})
	if err != nil {
		return err
	}
	c.Send(pid, msg)
	return actors.Normal
}

// Who is dead does not keep its parent from being forgotten: a process that is handed down does not grow.
func TestAncestorsAreForgotten(t *testing.T) {
	sys := newSystem(t)
	h := &heir{left: 3, last: make(chan *actors.PID, 1)}
	ancestor := func() weak.Pointer[actors.PID] {
		first, err := sys.Start(t.Context(), h)
		require.NoError(t, err)
		first.Send("go on")
		return weak.Make(first)
	}()
	last := <-h.last
	actortest.Eventually(t, func() bool {
		runtime.GC()
		return ancestor.Value() == nil
	})
	require.True(t, last.Alive())
}
