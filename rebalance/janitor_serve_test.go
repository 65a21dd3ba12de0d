package rebalance

import (
	"context"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// letIn are the nodes on which clients were let in.
func letIn(ops []fakeOp) (nodes []string) {
	for _, op := range ops {
		if op.What == "enable traffic" {
			nodes = append(nodes, op.Node)
		}
	}
	return nodes
}

func TestClientsAreLetInAgainAfterAConnectionWasLost(t *testing.T) {
	inFakeCluster(t, func(t *testing.T, i *interrupted) {
		i.janitor()
		ops := i.journal()
		i.janitor()
		require.Empty(t, letIn(ops()), "they are in already")
		i.world.reconnected("n1")
		i.janitor()
		assert.Equal(t, []string{"n1"}, letIn(ops()))
		i.janitor()
		assert.Equal(t, []string{"n1"}, letIn(ops()))
	})
}

func TestThePeriodicJanitorSeesThatClientsAreShutOut(t *testing.T) {
	inFakeCluster(t, func(t *testing.T, i *interrupted) {
		i.janitor()
		i.world.reconnected("n1")
		ops := i.journal()
		report, err := i.cluster.env.clean(t.Context(), cleanCall{reason: reasonPeriodic})
		require.NoError(t, err)
		require.NoError(t, report.Problem())
		assert.Equal(t, []string{"n1"}, letIn(ops()))
	})
}

// A copy that is made anew is empty. Whoever still streamed from it would lose what he has.
func TestNoStateIsSetBeforeTheStreamsFromThereAreClosed(t *testing.T) {
	inFakeCluster(t, func(t *testing.T, i *interrupted) {
		i.world.mu.Lock()
		lost := i.world.nodes["n0"].copies
		i.world.nodes["n0"].copies = map[uint16]*fakeCopy{}
		i.world.mu.Unlock()
		require.NotEmpty(t, lost)
		made := 0
		i.world.setGate(func(_ context.Context, op fakeOp) error {
			if op.Node != "n0" || !strings.HasPrefix(op.What, "state") {
				return nil
			}
			made++
			for node, r := range i.world.replications {
				assert.NotEqual(t, "n0", r.stream(op.VB), "vb %d on %s", op.VB, node)
			}
			return nil
		})
		require.NoError(t, i.janitor().Problem())
		assert.Equal(t, len(lost), made)
		assert.Equal(t, i.before, i.world.data())
	})
}

// Nor is it if they cannot be closed.
func TestNoStateIsSetWhereStreamsCouldNotBeClosed(t *testing.T) {
	inFakeCluster(t, func(t *testing.T, i *interrupted) {
		i.world.mu.Lock()
		i.world.nodes["n0"].copies = map[uint16]*fakeCopy{}
		i.world.mu.Unlock()
		refused := map[uint16]bool{}
		i.world.setGate(func(_ context.Context, op fakeOp) error {
			if op.Node == "n1" && strings.HasPrefix(op.What, "close") {
				refused[op.VB] = true
				return context.DeadlineExceeded
			}
			if op.Node == "n0" && strings.HasPrefix(op.What, "state") {
				assert.NotEqual(t, "n0", i.world.replications["n1"].stream(op.VB), "vb %d", op.VB)
			}
			return nil
		})
		require.Error(t, i.janitor().Problem())
		require.NotEmpty(t, refused)
		i.world.setGate(nil)
		require.NoError(t, i.janitor().Problem())
		assert.Equal(t, i.before, i.world.data())
	})
}
