package actors_test

import (
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/shearpin/shearpin/actors"
	"github.com/shearpin/shearpin/actors/actortest"
)

// These tests are part of docs/actors.md, which shows how processes are tested.

// A probe stands for the process on the other side.
func TestExampleProbe(t *testing.T) {
	actortest.NoLeaks(t)
	sys := actortest.NewSystem(t, actors.Options{}) // closed at the end of the test
	probe := actortest.NewProbe()
	pid := probe.Start(t, sys)

	lock, err := sys.Start(t.Context(), &mutex{})
	require.NoError(t, err)
	actortest.Do(t, pid, func(c *actors.Context) error { // runs in the probe, in its name
		_, err := c.Call(c.Ctx(), lock, "lock")
		c.Monitor(lock)
		return err
	})
	require.True(t, actortest.State(t, lock, func(m *mutex) bool { return m.held }))

	actortest.Crash(t, pid, fmt.Errorf("boom"))
	actortest.Eventually(t, func() bool {
		return !actortest.State(t, lock, func(m *mutex) bool { return m.held })
	}, "the lock is free again")
}

// Time stands still until the test says otherwise.
func TestExampleClock(t *testing.T) {
	clock := actortest.NewClock(time.Unix(0, 0))
	sys := actortest.NewSystem(t, actors.Options{Clock: clock})
	probe := actortest.NewProbe()
	pid := probe.Start(t, sys)
	actortest.Do(t, pid, func(c *actors.Context) error {
		c.SendAfter(time.Hour, "late")
		c.SendAfter(time.Minute, "early")
		return nil
	})
	clock.Advance(time.Hour)
	probe.Expect(t, "early", "late")
}

// One process runs at a time, and a seed decides which is next: what a seed has found, it finds again.
func TestExampleSimulation(t *testing.T) {
	run := func(seed uint64) (order string) {
		synctest.Test(t, func(t *testing.T) {
			sim := actortest.NewSimulation(seed)
			sys := actors.NewSystem(actors.Options{Dispatcher: sim, Clock: actortest.NewClock(time.Unix(0, 0))})
			has := make(chan string, 2)
			sim.Do(func() {
				lock, err := sys.Start(t.Context(), &mutex{})
				require.NoError(t, err)
				for _, name := range []string{"ada", "bob"} {
					pid, err := sys.Start(t.Context(), actortest.NewProbe())
					require.NoError(t, err)
					pid.Send(actortest.Func(func(c *actors.Context) error {
						_, err := c.Call(c.Ctx(), lock, "lock")
						has <- name
						return err
					}))
				}
			})
			order = <-has // the other one waits for the lock
			sim.Do(func() { require.NoError(t, sys.Close(t.Context())) })
		})
		return order
	}
	first := map[string]int{}
	for seed := range uint64(20) {
		order := run(seed)
		require.Equal(t, order, run(seed))
		first[order]++
	}
	require.Len(t, first, 2, "either can be first")
}
