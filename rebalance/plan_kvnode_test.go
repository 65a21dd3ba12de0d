package rebalance_test

import (
	"encoding/json"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/shearpin/shearpin/rebalance"
)

// A plan that went through a file is executed as it is, over real nodes: no copy is built before, and the map that results
// is the plan's.
func TestAPlanOverRealNodes(t *testing.T) {
	w := newWorld(t, 4, 3, orders, noFault)
	written := w.write(200, "first ")
	require.NoError(t, w.cluster.AddNode(t.Context(), w.node("n3")))
	made, err := w.cluster.Plan(w.ctx, rebalance.Request{})
	require.NoError(t, err)
	require.Nil(t, w.client("n3"), "the plan has done something")
	bucket := made.Buckets[0]
	require.NotNil(t, bucket.Items)
	assert.Positive(t, *bucket.Items)
	assert.Positive(t, bucket.ByNode["n3"].Built)

	text, err := json.Marshal(made)
	require.NoError(t, err)
	plan := &rebalance.Plan{}
	require.NoError(t, json.Unmarshal(text, plan))
	report := w.rebalance(rebalance.Request{Plan: plan})
	require.NoError(t, report.Err)
	assert.Equal(t, len(bucket.Moves), report.Moves)
	assert.Equal(t, bucket.Target, w.activeMap())
	w.requireAll(written)
	w.requireClean()

	_, err = w.cluster.Rebalance(w.ctx, rebalance.Request{Plan: plan})
	var changed *rebalance.PlanChangedError
	require.ErrorAs(t, err, &changed)
}
