package supervisor_test

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/shearpin/shearpin/actors"
	"github.com/shearpin/shearpin/actors/actortest"
	"github.com/shearpin/shearpin/supervisor"
)

// forest simulates a tree in which several things go wrong at once, and returns its events.
func forest(t *testing.T, seed uint64) (story string) {
	synctest.Test(t, func(t *testing.T) {
		sim := actortest.NewSimulation(seed)
		clock := actortest.NewClock(time.Unix(0, 0))
		sys := actors.NewSystem(actors.Options{Dispatcher: sim, Clock: clock})
		bus := actors.NewBus[supervisor.Event]()
		events := bus.Subscribe(1000)
		sub := func(id string, strategy supervisor.Strategy) supervisor.ChildSpec {
			return supervisor.Sub(id, supervisor.Spec{
				Name: id, Strategy: strategy, Events: bus,
				Children: []supervisor.ChildSpec{probe(id + "1"), probe(id + "2"), probe(id + "3")},
			})
		}
		var top *actors.PID
		sim.Do(func() {
			var err error
			top, err = sys.Start(context.Background(), supervisor.New(supervisor.Spec{
				Name: "top", Intensity: 9, Events: bus,
				Children: []supervisor.ChildSpec{sub("a", supervisor.OneForAll), sub("b", supervisor.RestForOne), sub("c", supervisor.OneForOne)},
			}))
			require.NoError(t, err)
		})
		for range 3 {
			for _, name := range []string{"a1", "a3", "b2", "c1", "c2", "c3"} {
				sys.Whereis(name).Send(actortest.Func(func(*actors.Context) error { return errBoom }))
			}
			sim.Run()
			clock.Advance(time.Second)
		}
		sim.Do(func() {
			require.NoError(t, top.Stop(context.Background(), actors.Shutdown))
			require.NoError(t, sys.Close(context.Background()))
		})
		events.Close()
		require.Zero(t, events.Dropped())
		var out strings.Builder
		for e := range events.C() {
			fmt.Fprintf(&out, "%v %s %v %s/%d %v\n", e.At.Unix(), e.Supervisor, e.Kind, e.ID, e.Incarnation, e.Reason)
		}
		story = out.String()
		require.Contains(t, story, "gave_up")
	})
	return story
}

// Supervisors can be simulated as they are shipped: a seed is a story.
func TestSimulationReplays(t *testing.T) {
	stories := map[string]bool{}
	for seed := range uint64(10) {
		first := forest(t, seed)
		stories[first] = true
		for range 5 {
			require.Equal(t, first, forest(t, seed), "seed %d", seed)
		}
	}
	require.Greater(t, len(stories), 5)
}
