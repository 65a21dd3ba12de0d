package rebalance_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/shearpin/shearpin/rebalance"
)

// With nodes that speak the protocol: documents and bytes are counted, and what has happened can be read back.
func TestTheAccountOfARebalanceOfNodes(t *testing.T) {
	w := newWorld(t, 4, 3, orders, noFault)
	w.requireAll(w.write(400, "first "))
	require.NoError(t, w.cluster.AddNode(t.Context(), w.node("n3")))
	report := w.rebalance(rebalance.Request{})
	require.NoError(t, report.Err)

	assert.Equal(t, rebalance.NodeAddition, report.Type)
	assert.Equal(t, []string{"n3"}, report.NodesAdded)
	assert.Equal(t, rebalance.Counted, report.Items.Known)
	assert.Positive(t, report.Items.Total)
	assert.Equal(t, report.Items.Total, report.Items.Done)
	assert.Greater(t, report.Bytes.Done, report.Items.Done, "a document has more than a byte")
	b := report.Buckets[0]
	require.Len(t, b.VBuckets, b.MovesPlanned)
	var items uint64
	for _, v := range b.VBuckets {
		assert.Equal(t, rebalance.MoveDone, v.Outcome)
		assert.NotEmpty(t, v.Steps)
		for _, c := range v.Copies {
			items += c.Items.Total
		}
	}
	assert.Equal(t, report.Items.Total, items)

	status, err := w.cluster.Status(w.ctx)
	require.NoError(t, err)
	assert.Equal(t, report.ID, status.LastReport.ID)
	assert.Equal(t, rebalance.Idle, status.State)
	events, err := w.cluster.EventLog(w.ctx, 0)
	require.NoError(t, err)
	kinds := map[string]int{}
	for _, e := range events {
		kinds[e.Type]++
		assert.WithinRange(t, e.At, report.Started.Add(-time.Minute), time.Now().Add(time.Second), e.Type)
	}
	assert.Equal(t, report.Moves, kinds["vbucketMoveStart"])
	assert.Equal(t, report.Moves, kinds["vbucketMoveDone"])
	assert.Equal(t, report.Moves, kinds["updateMap"])
	assert.Positive(t, kinds["dcpReplicatorUp"])
	assert.Equal(t, 1, kinds["rebalanceEnd"])
}
