package rebalance

import (
	"context"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/shearpin/shearpin/actors/actortest"
)

// newCopies is how many copies a rebalance has to build.
func (i *interrupted) newCopies() (copies uint64) {
	i.t.Helper()
	for _, move := range i.plan().Buckets[0].Moves {
		copies += uint64(len(without(move.New, move.Old...)))
	}
	return copies
}

func TestBytesPerSecondAreKept(t *testing.T) {
	inFakeCluster(t, func(t *testing.T, i *interrupted) {
		const rate = 10_000
		copies := i.newCopies()
		require.NoError(t, i.cluster.SetThrottle(t.Context(), Throttle{BytesPerSecond: rate}))
		assert.Equal(t, Throttle{BytesPerSecond: rate}, i.cluster.Throttle())
		began := time.Now()
		run := i.start()
		for {
			actortest.Elapse(time.Second)
			carried := i.cluster.env.carriers.total()
			// The moves of a vbucket or two are under way, with up to two new copies each.
			require.LessOrEqual(t, carried, uint64(rate*(time.Since(began).Seconds()+1))+4*100*documentBytes)
			if run.board.look().report != nil {
				break
			}
		}
		report, err := run.Wait(t.Context())
		require.NoError(t, err)
		require.NoError(t, report.Err)
		assert.Equal(t, copies*100*documentBytes, i.cluster.env.carriers.total(), "new copies, and nothing else")
		assert.Equal(t, copies*100*documentBytes, run.now().Bytes.Done)
		took := report.Ended.Sub(report.Started).Seconds()
		assert.Greater(t, took, float64(copies-4)*100*documentBytes/rate)
		assert.Less(t, took, float64(copies+4)*100*documentBytes/rate)
		i.repaired()
		for node, r := range i.world.replications {
			assert.Empty(t, r.counted, "into %s nothing is counted any more", node)
		}
	})
}

// Changed while a rebalance runs, also from nothing to something.
func TestAThrottleIsChangedOnTheWay(t *testing.T) {
	inFakeCluster(t, func(t *testing.T, i *interrupted) {
		begun := i.slow()
		require.NoError(t, i.cluster.SetThrottle(t.Context(), Throttle{BytesPerSecond: 1}))
		run := i.start()
		actortest.Elapse(time.Hour)
		require.Equal(t, 1, begun(), "a day to wait for the next")
		assert.Equal(t, 1, run.now().MovesDone)
		require.NoError(t, i.cluster.SetThrottle(t.Context(), Throttle{MovesPerNode: 1}))
		actortest.Elapse(500 * time.Millisecond)
		require.Greater(t, begun(), 1)
		require.NoError(t, i.cluster.SetThrottle(t.Context(), Throttle{BytesPerSecond: 1}))
		actortest.Elapse(time.Hour)
		done := run.now().MovesDone
		require.Less(t, done, run.now().MovesPlanned)
		actortest.Elapse(time.Hour)
		require.Equal(t, done, run.now().MovesDone)
		stopping := time.Now()
		require.NoError(t, run.Stop(t.Context()))
		assert.LessOrEqual(t, time.Since(stopping), 10*time.Second, "it can be stopped meanwhile")
		require.NoError(t, i.cluster.SetThrottle(t.Context(), Throttle{}))
		i.repaired()
	})
}

func TestMovesPerNodeAreKept(t *testing.T) {
	inFakeCluster(t, func(t *testing.T, i *interrupted) {
		require.NoError(t, i.cluster.SetThrottle(t.Context(), Throttle{MovesPerNode: 1}))
		i.world.setGate(func(ctx context.Context, _ fakeOp) error { return after(ctx, time.Millisecond) })
		events := i.cluster.Events().Subscribe(1000)
		defer events.Close()
		report, err := i.start().Wait(t.Context())
		require.NoError(t, err)
		require.NoError(t, report.Err)
		type span struct {
			nodes       []string
			start, stop time.Time
		}
		spans := map[uint16]*span{}
		for len(events.C()) > 0 {
			switch e := (<-events.C()).(type) {
			case MoveStarted:
				spans[e.VB] = &span{nodes: distinct([]string{e.Old.Active(), e.New.Active()}), start: e.At}
			case MoveEnded:
				spans[e.VB].stop = e.At
			}
		}
		require.Greater(t, len(spans), 3)
		for vb, one := range spans {
			require.True(t, one.stop.After(one.start))
			for other, another := range spans {
				shared := slices.ContainsFunc(one.nodes, func(n string) bool { return slices.Contains(another.nodes, n) })
				if vb != other && shared {
					assert.False(t, one.start.Before(another.stop) && another.start.Before(one.stop), "vb %d and %d", vb, other)
				}
			}
		}
	})
}

func TestAThrottleMustMakeSense(t *testing.T) {
	inFakeCluster(t, func(t *testing.T, i *interrupted) {
		require.EqualError(t, i.cluster.SetThrottle(t.Context(), Throttle{MovesPerNode: -1}), "rebalance: Throttle.MovesPerNode is -1")
		require.EqualError(t, i.cluster.SetThrottle(t.Context(), Throttle{BytesPerSecond: -5}), "rebalance: Throttle.BytesPerSecond is -5")
		assert.Equal(t, Throttle{}, i.cluster.Throttle())
		_, err := Config{Nodes: []Node{fakeNodeNamed(0)}, Throttle: Throttle{BytesPerSecond: -5}}.validate()
		require.EqualError(t, err, "rebalance: Config.Throttle.BytesPerSecond is -5")
	})
}
