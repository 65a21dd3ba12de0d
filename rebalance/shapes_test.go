package rebalance_test

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/shearpin/shearpin/dcp/mcbp"
	"github.com/shearpin/shearpin/rebalance"
)

// writers write under the rebalance until they are stopped, each to keys of its own.
type writers struct {
	mu      sync.Mutex
	written map[string]string
	stop    context.CancelFunc
	wg      sync.WaitGroup
}

func (w *world) startWriters(n int) *writers {
	ctx, cancel := context.WithCancel(w.ctx)
	ws := &writers{written: map[string]string{}, stop: cancel}
	for i := range n {
		ws.wg.Go(func() {
			for round := 0; ctx.Err() == nil; round++ {
				key := fmt.Sprintf("writer-%d-%d", i, round%50)
				value := fmt.Sprintf("round %d", round)
				if w.set(key, value) == nil {
					ws.mu.Lock()
					ws.written[key] = value
					ws.mu.Unlock()
				}
			}
		})
	}
	return ws
}

// end stops the writers and gives what was acknowledged.
func (ws *writers) end() map[string]string {
	ws.stop()
	ws.wg.Wait()
	return ws.written
}

// No acknowledged write is lost, whatever the nodes that come and go, and nothing is left on those that go.
func TestNoWriteIsLostWhileNodesComeAndGo(t *testing.T) {
	for name, test := range map[string]struct {
		replicas int
		keep     []string
	}{
		"add":                    {1, []string{"n0", "n1", "n2", "n3"}},
		"remove":                 {1, []string{"n0", "n1"}},
		"swap":                   {1, []string{"n0", "n1", "n3"}},
		"replace all":            {1, []string{"n3", "n4", "n5"}},
		"two replicas":           {2, []string{"n0", "n1", "n2", "n3"}},
		"no replica":             {0, []string{"n1", "n3"}},
		"fewer than copies":      {2, []string{"n0", "n4"}},
		"one is all that's left": {1, []string{"n5"}},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, 6, 3, rebalance.BucketConfig{Name: "orders", VBuckets: 16, Replicas: test.replicas}, noFault)
			for _, node := range []string{"n3", "n4", "n5"} {
				require.NoError(t, w.cluster.AddNode(t.Context(), w.node(node)))
			}
			written := w.write(100, "first ")
			writers := w.startWriters(2)
			report := w.rebalance(rebalance.Request{Keep: test.keep})
			for key, value := range writers.end() {
				written[key] = value
			}
			require.NoError(t, report.Err)
			assert.Subset(t, test.keep, w.activeMap().Nodes())
			w.requireAll(written)
		})
	}
}

func TestARebalanceOfABalancedBucketMovesNothing(t *testing.T) {
	w := newWorld(t, 3, 3, orders, noFault)
	before := w.activeMap()
	report := w.rebalance(rebalance.Request{})
	require.NoError(t, report.Err)
	assert.Zero(t, report.MovesPlanned)
	assert.Equal(t, before, w.activeMap())
}

func TestProgressNeverFallsAndEndsWithTheRun(t *testing.T) {
	w := newWorld(t, 4, 3, orders, noFault)
	require.NoError(t, w.cluster.AddNode(t.Context(), w.node("n3")))
	run, err := w.cluster.Rebalance(w.ctx, rebalance.Request{})
	require.NoError(t, err)
	_, err = w.cluster.Rebalance(w.ctx, rebalance.Request{})
	require.ErrorIs(t, err, rebalance.ErrRebalanceRunning)
	_, err = w.cluster.Janitor(w.ctx)
	require.ErrorIs(t, err, rebalance.ErrRebalanceRunning)
	last := rebalance.Progress{}
	for p := range run.Progress() {
		assert.GreaterOrEqual(t, p.Fraction, last.Fraction)
		assert.GreaterOrEqual(t, p.MovesDone, last.MovesDone)
		assert.LessOrEqual(t, p.MovesDone, p.MovesPlanned)
		last = p
	}
	assert.InDelta(t, 1, last.Fraction, 0)
	report, err := run.Wait(w.ctx)
	require.NoError(t, err)
	assert.Equal(t, last.MovesPlanned, report.MovesPlanned)
	require.NoError(t, run.Stop(w.ctx), "it has ended already")
}

// A rebalance is stopped after each number of moves; it ends in time, the janitor repairs, and another one goes on.
func TestStopAtAnyPoint(t *testing.T) {
	for _, moves := range []int{0, 1, 3} {
		t.Run(fmt.Sprint(moves), func(t *testing.T) {
			w := newWorld(t, 4, 3, orders, noFault)
			written := w.write(100, "first ")
			require.NoError(t, w.cluster.AddNode(t.Context(), w.node("n3")))
			run, err := w.cluster.Rebalance(w.ctx, rebalance.Request{})
			require.NoError(t, err)
			for p := range run.Progress() {
				if p.MovesDone >= moves {
					break
				}
			}
			ctx, cancel := context.WithTimeout(w.ctx, 10*time.Second)
			defer cancel()
			require.NoError(t, run.Stop(ctx))
			report, err := run.Wait(ctx)
			require.NoError(t, err)
			if report.Outcome != rebalance.Complete {
				assert.Equal(t, rebalance.Stopped, report.Outcome)
				require.ErrorIs(t, report.Err, rebalance.ErrStopped)
			}
			janitor, err := w.cluster.Janitor(w.ctx)
			require.NoError(t, err)
			require.NoError(t, janitor.Problem())
			w.requireAll(written)
			w.requireClean()
			require.NoError(t, w.rebalance(rebalance.Request{}).Err)
			w.requireAll(written)
		})
	}
}

// Buckets are rebalanced one after another, in the order asked for.
func TestSeveralBuckets(t *testing.T) {
	w := newWorld(t, 4, 3, orders, noFault)
	require.NoError(t, w.cluster.CreateBucket(w.ctx, rebalance.BucketConfig{Name: "invoices", VBuckets: 8, Replicas: 1}))
	require.NoError(t, w.cluster.AddNode(w.ctx, w.node("n3")))
	run, err := w.cluster.Rebalance(w.ctx, rebalance.Request{Buckets: []string{"orders", "invoices"}})
	require.NoError(t, err)
	last := rebalance.Progress{}
	for p := range run.Progress() {
		assert.GreaterOrEqual(t, p.Fraction, last.Fraction)
		last = p
	}
	report, err := run.Wait(w.ctx)
	require.NoError(t, err)
	require.NoError(t, report.Err)
	require.Len(t, report.Buckets, 2)
	assert.Equal(t, []string{"orders", "invoices"}, []string{report.Buckets[0].Name, report.Buckets[1].Name})
	assert.Equal(t, report.Moves, report.Buckets[0].Moves+report.Buckets[1].Moves)
	for _, bucket := range []string{"orders", "invoices"} {
		m, err := w.cluster.Map(w.ctx, bucket)
		require.NoError(t, err)
		assert.True(t, m.Balanced("n0", "n1", "n2", "n3"), bucket)
	}
}

// A node that dies in the middle ends the rebalance; the janitor says whom it waits for, and repairs when it is asked
// about what does not depend on the node (history 21).
func TestANodeThatDiesInTheMiddle(t *testing.T) {
	w := newWorld(t, 4, 3, rebalance.BucketConfig{Name: "orders", VBuckets: 64, Replicas: 1}, noFault)
	require.NoError(t, w.cluster.AddNode(w.ctx, w.node("n3")))
	run, err := w.cluster.Rebalance(w.ctx, rebalance.Request{})
	require.NoError(t, err)
	for p := range run.Progress() {
		if p.MovesDone > 0 {
			break
		}
	}
	require.NoError(t, w.nodes["n1"].Close())
	report, err := run.Wait(w.ctx)
	require.NoError(t, err)
	require.Equal(t, rebalance.Failed, report.Outcome)
	janitor, err := w.cluster.Janitor(w.ctx)
	require.NoError(t, err)
	var waiting *rebalance.WaitingForNodes
	require.ErrorAs(t, janitor.Problem(), &waiting)
	assert.Equal(t, []string{"n1"}, waiting.Nodes)
	for vb, chain := range w.activeMap() {
		if !chain.Contains("n1") {
			_, err := w.client(chain.Active()).Get(w.ctx, uint16(vb), "no such key")
			require.ErrorIs(t, err, mcbp.StatusKeyNotFound, "vb %d is served", vb)
		}
	}
}
