package rebalance_test

import (
	"fmt"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/shearpin/shearpin/dcp/kvnode"
	"github.com/shearpin/shearpin/rebalance"
	"github.com/shearpin/shearpin/rebalance/store"
)

// A second manager on the same nodes, with a store of its own, is refused before it touches the bucket. The first goes on.
func TestABucketOfAnotherManagerIsNotTaken(t *testing.T) {
	var nodes []rebalance.Node
	for i := range 3 {
		node, err := kvnode.Start(kvnode.Options{Name: fmt.Sprintf("n%d", i)})
		require.NoError(t, err)
		t.Cleanup(func() { assert.NoError(t, node.Close()) })
		nodes = append(nodes, rebalance.Node{Name: node.Name(), Addr: node.Addr()})
	}
	open := func(kept store.Store, nodes []rebalance.Node) *rebalance.Cluster {
		cluster, err := rebalance.Open(t.Context(), rebalance.Config{Nodes: nodes, Store: kept})
		require.NoError(t, err)
		return cluster
	}
	mine, others := store.NewMemory(), store.NewMemory()
	first := open(mine, nodes[:2])
	bucket := rebalance.BucketConfig{Name: "orders", VBuckets: 8, Replicas: 1}
	require.NoError(t, first.CreateBucket(t.Context(), bucket))

	second := open(others, nodes)
	err := second.CreateBucket(t.Context(), bucket)
	var taken *rebalance.BucketTakenError
	require.ErrorAs(t, err, &taken)
	assert.Equal(t, "orders", taken.Bucket)
	assert.NotEmpty(t, taken.UUID)
	require.NoError(t, second.Close(t.Context()))

	// The node that only the second had reached has the bucket, without a map: nobody's.
	require.NoError(t, first.AddNode(t.Context(), nodes[2]))
	run, err := first.Rebalance(t.Context(), rebalance.Request{})
	require.NoError(t, err)
	report, err := run.Wait(t.Context())
	require.NoError(t, err)
	require.NoError(t, report.Err)

	// Who opens the store anew is the same manager.
	require.NoError(t, first.Close(t.Context()))
	again := open(mine, nodes)
	report2, err := again.Janitor(t.Context())
	require.NoError(t, err)
	require.NoError(t, report2.Problem())
	require.NoError(t, again.Close(t.Context()))
	require.NoError(t, mine.Close())
	require.NoError(t, others.Close())
}
