package rebalance

import (
	"context"
	"testing"
	"testing/synctest"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// The copy that has least counts, one that is not there yet has nothing, and a node that is silent says nothing: its
// vbuckets are not judged by the others alone.
func TestTheFurthestBehindCounts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		i := newInterrupted(t, 4)
		defer i.close()
		m, err := i.cluster.Map(t.Context(), "orders")
		require.NoError(t, err)
		active, replica := m[1].Active(), m[1].Replicas()[0]
		i.world.mu.Lock()
		i.world.nodes[active].copies[1].high = 130
		i.world.nodes[replica].copies[1].high = 110
		i.world.mu.Unlock()
		ask := func(nodes ...string) map[uint16]seqnoAnswer {
			wanted := map[string][]uint16{}
			for _, node := range nodes {
				wanted[node] = []uint16{1}
			}
			return i.cluster.env.furthestBehind(t.Context(), "orders", wanted)
		}
		assert.Equal(t, map[uint16]seqnoAnswer{1: {High: 130, Persisted: 130}}, ask(active))
		assert.Equal(t, map[uint16]seqnoAnswer{1: {High: 110, Persisted: 110}}, ask(active, replica))
		third := without([]string{"n0", "n1", "n2"}, active, replica)[0]
		assert.Equal(t, map[uint16]seqnoAnswer{1: {}}, ask(active, third))
		i.world.setGate(func(ctx context.Context, op fakeOp) error {
			if op.Node != replica {
				return nil
			}
			<-ctx.Done()
			return context.Cause(ctx)
		})
		assert.Empty(t, ask(active, replica))
	})
}
