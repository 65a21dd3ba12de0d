package rebalance

import (
	"testing"
	"testing/synctest"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/shearpin/shearpin/rebalance/store"
	"github.com/shearpin/shearpin/rebalance/vbmap"
)

// A node that weighs three times as much gets three times as many copies: of a new bucket, and when it joins.
func TestNodesGetCopiesByTheirWeight(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		i := &interrupted{t: t, world: newFakeWorld(2), store: store.NewMemory()}
		i.open(1)
		defer i.close()
		heavy := fakeNodeNamed(1)
		heavy.Weight = 3
		require.NoError(t, i.cluster.AddNode(t.Context(), heavy))
		require.NoError(t, i.cluster.CreateBucket(t.Context(), BucketConfig{Name: "orders", VBuckets: 16}))
		m, err := i.cluster.Map(t.Context(), "orders")
		require.NoError(t, err)
		assert.Equal(t, map[string]int{"n0": 4, "n1": 12}, actives(m))

		plan, err := i.cluster.Plan(t.Context(), Request{})
		require.NoError(t, err)
		assert.Empty(t, plan.Buckets[0].Moves)
		assert.Equal(t, []PlannedNode{{Name: "n0"}, {Name: "n1", Weight: 3}}, plan.Nodes)
		plan.Nodes[1].Weight = 2
		_, err = i.cluster.Rebalance(t.Context(), Request{Plan: plan})
		var changed *PlanChangedError
		require.ErrorAs(t, err, &changed)
		assert.Equal(t, `node "n1" has weight 3, had 2`, changed.What)
	})
}

func actives(m vbmap.Map) map[string]int {
	count := map[string]int{}
	for _, chain := range m {
		count[chain.Active()]++
	}
	return count
}

func TestAWeightOutOfRangeIsRefused(t *testing.T) {
	inFakeCluster(t, func(t *testing.T, i *interrupted) {
		for _, weight := range []int{-1, vbmap.MaxWeight + 1} {
			node := fakeNodeNamed(3)
			node.Weight = weight
			require.ErrorContains(t, i.cluster.AddNode(t.Context(), node), "must be 0 to 1048576")
		}
	})
}
