package actors_test

import (
	"slices"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/shearpin/shearpin/actors"
	"github.com/shearpin/shearpin/actors/actortest"
)

func TestBusSubscription(t *testing.T) {
	bus := actors.NewBus[int]()
	bus.Publish(0)
	fast, slow := bus.Subscribe(10), bus.Subscribe(2)
	for i := 1; i <= 5; i++ {
		bus.Publish(i)
	}
	fast.Close()
	fast.Close()
	bus.Publish(6)
	slow.Close()
	require.Equal(t, []int{1, 2, 3, 4, 5}, collect(fast))
	require.Equal(t, []int{1, 2}, collect(slow))
	require.Zero(t, fast.Dropped())
	require.EqualValues(t, 4, slow.Dropped())

	least := bus.Subscribe(0)
	bus.Publish(7)
	least.Close()
	require.Equal(t, []int{7}, collect(least))
	var none *actors.Bus[int]
	none.Publish(8)
}

func collect(s *actors.Subscription[int]) []int { return slices.Collect(chanSeq(s.C())) }

func chanSeq(c <-chan int) func(func(int) bool) {
	return func(yield func(int) bool) {
		for v := range c {
			if !yield(v) {
				return
			}
		}
	}
}

func TestBusForward(t *testing.T) {
	sys := newSystem(t)
	bus := actors.NewBus[int]()
	probe, pid := start(t, sys, false)
	even := func(v int) any {
		if v%2 == 1 {
			return nil
		}
		return actortest.Casted{Msg: v} // a type of the receiver's choice
	}
	cancelWrapped := bus.Forward(pid, even)
	cancelPlain := bus.Forward(pid, nil)
	bus.Publish(1)
	bus.Publish(2)
	cancelPlain()
	cancelPlain()
	bus.Publish(4)
	cancelWrapped()
	bus.Publish(6)
	settle(t, pid)
	probe.Expect(t, 1, actortest.Casted{Msg: 2}, 2, actortest.Casted{Msg: 4})
}

// A forward goes with its process, and one to a dead process is none.
func TestBusForgetsTheDead(t *testing.T) {
	sys := newSystem(t)
	bus := actors.NewBus[int]()
	asked := 0
	wrap := func(int) any { asked++; return nil }
	_, pid := start(t, sys, false)
	cancel := bus.Forward(pid, wrap)
	bus.Publish(1)
	pid.Kill()
	bus.Publish(2)
	cancel()
	bus.Forward(pid, wrap)()
	bus.Forward(nil, wrap)
	bus.Publish(3)
	require.Equal(t, 1, asked)
}

// All subscribers see the same order, whoever publishes.
func TestBusHasOneOrder(t *testing.T) {
	sys := newSystem(t)
	bus := actors.NewBus[int]()
	a, aPID := start(t, sys, false)
	b, bPID := start(t, sys, false)
	bus.Forward(aPID, nil)
	bus.Forward(bPID, nil)
	const publishers, each = 4, 200
	var wg sync.WaitGroup
	for p := range publishers {
		wg.Go(func() {
			for i := range each {
				bus.Publish(p*each + i)
			}
		})
	}
	wg.Wait()
	settle(t, aPID)
	settle(t, bPID)
	require.Len(t, a.Received(), publishers*each)
	require.Equal(t, a.Received(), b.Received())
}
