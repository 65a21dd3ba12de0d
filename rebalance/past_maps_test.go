package rebalance_test

import (
	"fmt"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/shearpin/shearpin/rebalance"
	"github.com/shearpin/shearpin/rebalance/store"
	"github.com/shearpin/shearpin/rebalance/vbmap"
)

// requireSameRoles asks that both maps have the same actives and the same replicas, in whatever order.
func requireSameRoles(t *testing.T, want, got vbmap.Map) {
	t.Helper()
	require.Len(t, got, len(want))
	for vb, chain := range want {
		require.Equalf(t, chain.Active(), got[vb].Active(), "vb %d", vb)
		require.ElementsMatchf(t, chain.Replicas(), got[vb].Replicas(), "vb %d", vb)
	}
}

// rebalance.md §7.4, §15.9: after a failover and the way back everything is where it was.
func TestAfterFailoverAndAddBackTheMapIsAsBefore(t *testing.T) {
	w := newWorld(t, 4, 4, rebalance.BucketConfig{Name: "orders", VBuckets: 32, Replicas: 1}, noFault)
	before := w.activeMap()
	written := w.write(200, "value")

	_, err := w.cluster.Failover(w.ctx, rebalance.FailoverRequest{Nodes: []string{"n2"}})
	require.NoError(t, err)
	require.NotEqual(t, before, w.activeMap())
	require.NoError(t, w.cluster.AddBack(w.ctx, "n2"))
	plan, err := w.cluster.Plan(w.ctx, rebalance.Request{})
	require.NoError(t, err)
	requireSameRoles(t, before, plan.Buckets[0].Target)
	report := w.rebalance(rebalance.Request{})
	require.Equal(t, rebalance.Complete, report.Outcome)
	requireSameRoles(t, before, w.activeMap())
	w.requireAll(written)
}

// A graceful failover makes a map that nobody wants to come back to.
func TestAfterAGracefulFailoverTheMapIsRememberedToo(t *testing.T) {
	w := newWorld(t, 4, 4, rebalance.BucketConfig{Name: "orders", VBuckets: 32, Replicas: 1}, noFault)
	before := w.activeMap()
	run, err := w.cluster.GracefulFailover(w.ctx, []string{"n2"})
	require.NoError(t, err)
	report, err := run.Wait(w.ctx)
	require.NoError(t, err)
	require.Equal(t, rebalance.Complete, report.Outcome)
	require.NoError(t, w.cluster.AddBack(w.ctx, "n2"))
	report = w.rebalance(rebalance.Request{})
	require.Equal(t, rebalance.Complete, report.Outcome)
	requireSameRoles(t, before, w.activeMap())
}

// A node that takes the place of one that was failed over gets exactly what that one had.
func TestANodeThatReplacesAFailedOneGetsItsPart(t *testing.T) {
	w := newWorld(t, 4, 3, rebalance.BucketConfig{Name: "orders", VBuckets: 32, Replicas: 1}, noFault)
	before := w.activeMap()
	_, err := w.cluster.Failover(w.ctx, rebalance.FailoverRequest{Nodes: []string{"n2"}})
	require.NoError(t, err)
	require.NoError(t, w.cluster.AddNode(w.ctx, w.node("n3")))
	report := w.rebalance(rebalance.Request{})
	require.Equal(t, rebalance.Complete, report.Outcome)
	for _, chain := range before {
		for i, name := range chain {
			if name == "n2" {
				chain[i] = "n3"
			}
		}
	}
	requireSameRoles(t, before, w.activeMap())
}

// rebalance.md §14.3, weakness 47: where vbuckets differ in size, nodes that have as many of them have about as much data.
func TestThePlanKnowsWhatVBucketsHold(t *testing.T) {
	w := newWorld(t, 3, 2, rebalance.BucketConfig{Name: "orders", VBuckets: 24}, noFault)
	before := w.activeMap()
	large := map[uint16]bool{} // all on one node
	for vb, chain := range before {
		if chain.Active() == "n0" && len(large) < 6 {
			large[uint16(vb)] = true
		}
	}
	documents := map[uint16]int{}
	for i := 0; len(documents) < 24 || documents[documentsLeast(documents, large)] < 20; i++ {
		key := fmt.Sprint("key ", i)
		if vb := w.vb(key); large[vb] && documents[vb] < 20 || documents[vb] == 0 {
			require.NoError(t, w.set(key, "value"))
			documents[vb]++
		}
	}
	require.NoError(t, w.cluster.AddNode(w.ctx, w.node("n2")))
	plan, err := w.cluster.Plan(w.ctx, rebalance.Request{})
	require.NoError(t, err)
	held := map[string]int{}
	for vb, chain := range plan.Buckets[0].Target {
		held[chain.Active()] += documents[uint16(vb)]
	}
	// 6 × 20 + 18: n0 gives n2 four vbuckets of its twelve, and cannot give it more.
	assert.InDelta(t, 138-12, held["n0"]+held["n2"], 8)
	assert.InDelta(t, held["n0"], held["n2"], 20, "%v", held)
	report := w.rebalance(rebalance.Request{})
	require.Equal(t, rebalance.Complete, report.Outcome)
	requireSameRoles(t, plan.Buckets[0].Target, w.activeMap())
}

// documentsLeast is the large vbucket with the fewest documents.
func documentsLeast(documents map[uint16]int, large map[uint16]bool) (least uint16) {
	first := true
	for vb := range large {
		if first || documents[vb] < documents[least] {
			least, first = vb, false
		}
	}
	return least
}

// What is remembered saves moves; what cannot be read costs nothing else.
func TestPastMapsThatCannotBeReadAreDoneWithout(t *testing.T) {
	s := store.NewMemory()
	t.Cleanup(func() { require.NoError(t, s.Close()) })
	w := newWorld(t, 4, 3, rebalance.BucketConfig{Name: "orders", VBuckets: 16, Replicas: 1}, noFault,
		func(c *rebalance.Config) { c.Store = s })
	_, revision, err := s.Get(w.ctx, "balanced/orders")
	require.NoError(t, err, "the first map is remembered too")
	_, err = s.CompareAndSet(w.ctx, "balanced/orders", []byte("nonsense"), revision)
	require.NoError(t, err)
	require.NoError(t, w.cluster.AddNode(w.ctx, w.node("n3")))
	report := w.rebalance(rebalance.Request{})
	require.Equal(t, rebalance.Complete, report.Outcome)
	assert.True(t, w.activeMap().Balanced("n0", "n1", "n2", "n3"))
}
