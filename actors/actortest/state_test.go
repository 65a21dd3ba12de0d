package actortest_test

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
)

// counter counts what it is cast.
type counter struct {
	actors.Base
	n int
}

func (c *counter) HandleCast(*actors.Context, any) error { c.n++; return nil }

func TestStateAndReplace(t *testing.T) {
	sys := actortest.NewSystem(t, actors.Options{})
	pid, err := sys.Start(t.Context(), &counter{})
	require.NoError(t, err)
	count := func(c *counter) int { return c.n }
	pid.Cast("x")
	require.Equal(t, 1, actortest.State(t, pid, count))
	actortest.Replace(t, pid, func(c *counter) *counter { return &counter{n: c.n + 10} })
	pid.Cast("x")
	require.Equal(t, 12, actortest.State(t, pid, count))

	require.True(t, run(func(t testing.TB) { actortest.State(t, pid, func(*actortest.Probe) int { return 0 }) }))
	require.True(t, run(func(t testing.TB) { actortest.Replace(t, pid, func(*counter) *counter { return nil }) }))
	require.Equal(t, 12, actortest.State(t, pid, count))
	pid.Kill()
	require.True(t, run(func(t testing.TB) { actortest.State(t, pid, count) }))
}

// Who waits for requests in a simulation goes on in his turn: nobody runs beside him, and it happens again in the same
// order.
func TestSimulationOfRequests(t *testing.T) {
	bargain := func(t *testing.T, seed uint64) (trace string) {
		synctest.Test(t, func(t *testing.T) {
			sim := actortest.NewSimulation(seed)
			sys := actors.NewSystem(actors.Options{Dispatcher: sim, Clock: actortest.NewClock(time.Unix(0, 0))})
			var out strings.Builder // not locked: at most one writes
			var sellers, buyers []*actors.PID
			sim.Do(func() {
				for i := range 3 {
					seller, err := sys.Start(context.Background(), actortest.NewProbe(), actors.WithName(fmt.Sprint("seller", i)))
					require.NoError(t, err)
					buyer, err := sys.Start(context.Background(), actortest.NewProbe(), actors.WithName(fmt.Sprint("buyer", i)))
					require.NoError(t, err)
					sellers, buyers = append(sellers, seller), append(buyers, buyer)
				}
			})
			for _, buyer := range buyers {
				buyer.Send(actortest.Func(func(c *actors.Context) error {
					var all actors.Collection
					for _, seller := range sellers {
						if err := all.Add(c.SendRequest(seller, "price"), seller); err != nil {
							return err
						}
					}
					for all.Len() > 0 {
						o, err := all.Wait(c.Ctx())
						fmt.Fprintln(&out, buyer, "hears from", o.Label, o.Value, o.Err, err)
					}
					v, err := c.SendRequest(sellers[0], "last").Wait(c.Ctx())
					fmt.Fprintln(&out, buyer, "has", v, err)
					return nil
				}))
			}
			sim.Run()
			sim.Do(func() { require.NoError(t, sys.Close(context.Background())) })
			trace = out.String()
			require.Equal(t, 3*4, strings.Count(trace, "\n"), "%s", trace)
		})
		return trace
	}
	orders := map[string]bool{}
	for seed := range uint64(8) {
		first := bargain(t, seed)
		orders[first] = true
		for range 4 {
			require.Equal(t, first, bargain(t, seed), "seed %d", seed)
		}
	}
	require.Greater(t, len(orders), 4)
}
