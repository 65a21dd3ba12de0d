package rebalance_test

import (
	"maps"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/shearpin/shearpin/dcp/kvnode"
	"github.com/shearpin/shearpin/dcp/mcbp"
	"github.com/shearpin/shearpin/rebalance"
)

// newDiskWorld is a cluster whose nodes find their data again when they come back.
func newDiskWorld(t *testing.T, nodes int, bucket rebalance.BucketConfig) *world {
	t.Helper()
	return newWorldOf(t, nodes, nodes, bucket, noFault, func(o *kvnode.Options) { o.Dir, o.DiskNoSync = t.TempDir(), true })
}

func (w *world) failOver(nodes ...string) *rebalance.FailoverReport {
	w.t.Helper()
	report, err := w.cluster.Failover(w.ctx, rebalance.FailoverRequest{Nodes: nodes})
	require.NoError(w.t, err)
	return report
}

// killed takes a node down, and forgets the connection to it.
func (w *world) killed(name string) {
	w.nodes[name].Kill()
	w.mu.Lock()
	defer w.mu.Unlock()
	delete(w.clients, name)
}

func (w *world) restarted(name string) {
	w.t.Helper()
	require.NoError(w.t, w.nodes[name].Restart())
	require.NoError(w.t, w.nodes[name].Warm(w.ctx))
}

// activesOn counts the copies that a node takes itself for the active of.
func (w *world) activesOn(name string) int {
	w.t.Helper()
	infos, err := w.client(name).VBuckets(w.ctx)
	require.NoError(w.t, err)
	actives := 0
	for _, info := range infos {
		if info.State == mcbp.VBucketActive {
			actives++
		}
	}
	return actives
}

func (w *world) janitor() rebalance.JanitorReport {
	w.t.Helper()
	report, err := w.cluster.Janitor(w.ctx)
	require.NoError(w.t, err)
	return report
}

// What was replicated when a node was killed is served after its failover; what is written then is not lost when it is added
// back, with the copies that it had.
func TestAKilledNodeIsFailedOverAndAddedBack(t *testing.T) {
	for name, replicas := range map[string]int{"one replica": 1, "two replicas": 2} {
		t.Run(name, func(t *testing.T) {
			w := newDiskWorld(t, 4, rebalance.BucketConfig{Name: "orders", VBuckets: 16, Replicas: replicas})
			written := w.write(200, "first ")
			w.requireAll(written)
			w.killed("n0")
			report := w.failOver("n0")
			require.NoError(t, report.Err)
			assert.NotEmpty(t, report.Buckets[0].Promoted)
			assert.NotContains(t, w.activeMap().Nodes(), "n0")
			w.requireAll(written)
			writers := w.startWriters(2)
			maps.Copy(written, w.write(100, "second "))

			w.restarted("n0")
			require.NoError(t, w.janitor().Problem())
			assert.Zero(t, w.activesOn("n0"))
			require.NoError(t, w.cluster.AddBack(w.ctx, "n0"))
			second := w.rebalance(rebalance.Request{})
			maps.Copy(written, writers.end())
			require.NoError(t, second.Err)
			assert.True(t, w.activeMap().Balanced("n0", "n1", "n2", "n3"))
			w.requireAll(written)
			w.requireClean()
		})
	}
}

// A node that was paused when it was given up comes back and takes itself for the active: no map leads to it, the janitor
// puts it right, and what was written to it meanwhile is kept until somebody says that it may go.
func TestAPausedNodeComesBackAfterItsFailover(t *testing.T) {
	w := newDiskWorld(t, 4, orders)
	written := w.write(200, "first ")
	w.requireAll(written)
	old := w.activeMap()
	w.nodes["n0"].Pause()
	require.NoError(t, w.failOver("n0").Err)
	assert.NotContains(t, w.activeMap().Nodes(), "n0")
	maps.Copy(written, w.write(100, "second "))

	w.nodes["n0"].Resume()
	stale := uint16(0)
	for vb, chain := range old {
		if chain.Active() == "n0" {
			stale = uint16(vb)
		}
	}
	_, err := w.client("n0").Set(w.ctx, stale, "by an old map", []byte("lost"), 0, 0, 0)
	diverged := err == nil // else it has been put right already
	require.NoError(t, w.janitor().Problem())
	assert.Zero(t, w.activesOn("n0"))
	_, err = w.client("n0").Set(w.ctx, stale, "by an old map", []byte("lost"), 0, 0, 0)
	require.ErrorIs(t, err, mcbp.StatusNotMyVBucket)
	w.requireAll(written)

	require.NoError(t, w.cluster.AddBack(w.ctx, "n0"))
	report := w.rebalance(rebalance.Request{})
	if report.Err != nil {
		var kept *rebalance.KeptCopies
		require.ErrorAs(t, report.Err, &kept)
		assert.Equal(t, map[uint16][]string{stale: {"n0"}}, kept.ByVB)
		assert.True(t, diverged)
	}
	w.requireAll(written)
	if diverged {
		assert.Equal(t, map[uint16][]string{stale: {"n0"}}, w.janitor().Buckets[0].Kept)
		item, err := w.client("n0").Get(w.ctx, stale, "by an old map")
		if err == nil {
			assert.Equal(t, "lost", string(item.Value))
		}
	}
	require.NoError(t, w.failOver("n0").Err)
	require.NoError(t, w.cluster.AddBack(w.ctx, "n0", rebalance.DiscardDiverged()))
	require.NoError(t, w.rebalance(rebalance.Request{}).Err)
	w.requireAll(written)
	w.requireClean()
}

// A node that answers stops serving before another is promoted.
func TestALivingNodeIsFailedOver(t *testing.T) {
	w := newWorld(t, 4, 4, orders, noFault)
	written := w.write(200, "first ")
	w.requireAll(written)
	require.NoError(t, w.failOver("n0").Err)
	assert.Zero(t, w.activesOn("n0"))
	w.requireAll(written)
	require.NoError(t, w.cluster.AddBack(w.ctx, "n0"))
	require.NoError(t, w.rebalance(rebalance.Request{}).Err)
	w.requireAll(written)
	w.requireClean()
}

// history.md 26: a node dies in the middle of a rebalance and is failed over at once.
func TestANodeThatDiesInARebalanceIsFailedOver(t *testing.T) {
	w := newWorld(t, 4, 3, rebalance.BucketConfig{Name: "orders", VBuckets: 32, Replicas: 1}, noFault)
	written := w.write(200, "first ")
	w.requireAll(written)
	require.NoError(t, w.cluster.AddNode(w.ctx, w.node("n3")))
	run, err := w.cluster.Rebalance(w.ctx, rebalance.Request{})
	require.NoError(t, err)
	for p := range run.Progress() {
		if p.MovesDone > 0 {
			break
		}
	}
	w.killed("n1")
	report := w.failOver("n1")
	require.NoError(t, report.Err)
	ended, err := run.Wait(w.ctx)
	require.NoError(t, err)
	require.NotEqual(t, rebalance.Complete, ended.Outcome)
	require.NoError(t, w.janitor().Problem())
	w.requireAll(written)
	require.NoError(t, w.rebalance(rebalance.Request{}).Err)
	assert.True(t, w.activeMap().Balanced("n0", "n2", "n3"))
	w.requireAll(written)
}

// No write at all is lost by a graceful failover.
func TestAGracefulFailoverUnderWrites(t *testing.T) {
	w := newWorld(t, 4, 4, orders, noFault)
	written := w.write(100, "first ")
	writers := w.startWriters(2)
	run, err := w.cluster.GracefulFailover(w.ctx, []string{"n0"})
	require.NoError(t, err)
	report, err := run.Wait(w.ctx)
	require.NoError(t, err)
	maps.Copy(written, writers.end())
	require.NoError(t, report.Err)
	require.NotNil(t, report.Failover)
	assert.NotContains(t, w.activeMap().Nodes(), "n0")
	w.requireAll(written)
	require.NoError(t, w.cluster.AddBack(w.ctx, "n0"))
	require.NoError(t, w.rebalance(rebalance.Request{}).Err)
	w.requireAll(written)
	w.requireClean()
}
