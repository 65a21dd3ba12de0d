package actortest_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/shearpin/shearpin/actors"
	"github.com/shearpin/shearpin/actors/actortest"
)

// market simulates processes that do all that can be waited for: they call each other, start each other, run helpers that
// call back, set timers, and die. It returns what happened, in order.
func market(t *testing.T, seed uint64) (trace string) {
	synctest.Test(t, func(t *testing.T) {
		sim := actortest.NewSimulation(seed)
		clock := actortest.NewClock(time.Unix(0, 0))
		sys := actors.NewSystem(actors.Options{Dispatcher: sim, Clock: clock})
		var out strings.Builder
		note := func(format string, args ...any) { fmt.Fprintf(&out, format+"\n", args...) }
		var probes []*actors.PID
		sim.Do(func() {
			for i := range 4 {
				pid, err := sys.Start(context.Background(), actortest.NewProbe(), actors.WithName(fmt.Sprint("p", i)))
				require.NoError(t, err)
				probes = append(probes, pid)
			}
		})
		for i, pid := range probes {
			next := probes[(i+1)%len(probes)]
			pid.Send(actortest.Func(func(c *actors.Context) error {
				child, err := c.StartLink(&actortest.Probe{OnInit: func(c *actors.Context) error {
					c.Continue(actortest.Func(func(*actors.Context) error { note("child of %v goes on", pid); return nil }))
					return nil
				}})
				note("%v has started %v: %v", pid, child, err)
				c.Go(func(ctx context.Context) any {
					_, err := next.Call(ctx, fmt.Sprint("helper of ", pid))
					note("helper of %v: %v", pid, err)
					return nil
				})
				_, err = c.Call(c.Ctx(), child, "x")
				note("%v has called %v: %v", pid, child, err)
				c.SendAfter(time.Second, actortest.Func(func(*actors.Context) error {
					note("%v has the time", pid)
					return errors.New("over")
				}))
				next.Send(actortest.Func(func(*actors.Context) error { note("%v hears of %v", next, pid); return nil }))
				return nil
			}))
		}
		sim.Run()
		clock.Advance(time.Second)
		sim.Run()
		require.Empty(t, sys.Processes(), "each has died, and its child with it")
		sim.Do(func() { require.NoError(t, sys.Close(context.Background())) })
		trace = out.String()
		require.Equal(t, 4*6, strings.Count(trace, "\n"), "%s", trace)
	})
	return trace
}

// With one seed everything happens in one order, as often as it is run; other seeds bring other orders.
func TestSimulationReplays(t *testing.T) {
	orders := map[string]bool{}
	for seed := range uint64(8) {
		first := market(t, seed)
		orders[first] = true
		for range 6 {
			require.Equal(t, first, market(t, seed), "seed %d", seed)
		}
	}
	require.Greater(t, len(orders), 4)
}

// A function that waits for what cannot come is a fault of the test, and said to be.
func TestSimulationSaysThatItIsStuck(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		sim := actortest.NewSimulation(1)
		release := make(chan struct{})
		require.Panics(t, func() { sim.Do(func() { <-release }) })
		require.Equal(t, 1, sim.Steps())
		close(release)
	})
}
