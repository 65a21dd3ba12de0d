package rebalance

import (
	"context"
	"strings"
	"sync"
	"sync/atomic"
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
		var made atomic.Int32
		i.world.setGate(func(_ context.Context, op fakeOp) error {
			if op.Node != "n0" || !strings.HasPrefix(op.What, "state") {
				return nil
			}
			made.Add(1)
			for node, r := range i.world.replications {
				assert.NotEqual(t, "n0", r.stream(op.VB), "vb %d on %s", op.VB, node)
			}
			return nil
		})
		require.NoError(t, i.janitor().Problem())
		assert.EqualValues(t, len(lost), made.Load())
		assert.Equal(t, i.before, i.world.data())
	})
}

// Nor is it if they cannot be closed.
func TestNoStateIsSetWhereStreamsCouldNotBeClosed(t *testing.T) {
	inFakeCluster(t, func(t *testing.T, i *interrupted) {
		i.world.mu.Lock()
		i.world.nodes["n0"].copies = map[uint16]*fakeCopy{}
		i.world.mu.Unlock()
		var refused atomic.Int32
		i.world.setGate(func(_ context.Context, op fakeOp) error {
			if op.Node == "n1" && strings.HasPrefix(op.What, "close") {
				refused.Add(1)
				return context.DeadlineExceeded
			}
			if op.Node == "n0" && strings.HasPrefix(op.What, "state") {
				assert.NotEqual(t, "n0", i.world.replications["n1"].stream(op.VB), "vb %d", op.VB)
			}
			return nil
		})
		require.Error(t, i.janitor().Problem())
		require.NotZero(t, refused.Load())
		i.world.setGate(nil)
		require.NoError(t, i.janitor().Problem())
		assert.Equal(t, i.before, i.world.data())
	})
}

// Whoever looks at the status after a failover is not told what the janitor did not get to see because of it.
func TestAJanitorRunThatWasBrokenOffHasFoundNothing(t *testing.T) {
	inFakeCluster(t, func(t *testing.T, i *interrupted) {
		i.janitor()
		asked, promoting, looked := make(chan struct{}), make(chan struct{}), make(chan struct{})
		ask, promote := sync.OnceFunc(func() { close(asked) }), sync.OnceFunc(func() { close(promoting) })
		i.world.setGate(func(ctx context.Context, op fakeOp) error {
			if op.Node == "n0" {
				ask()
				<-ctx.Done()
				return ctx.Err()
			}
			if op.What == "state active" {
				promote()
				<-looked
			}
			return nil
		})
		var others sync.WaitGroup
		defer others.Wait()
		others.Go(func() { _, _ = i.cluster.Janitor(context.WithoutCancel(t.Context())) })
		<-asked
		others.Go(func() { i.failOver(giveUp("n0")) })
		<-promoting
		status, err := i.cluster.Status(t.Context())
		require.NoError(t, err)
		assert.Empty(t, status.Buckets[0].Problems)
		assert.Empty(t, status.Buckets[0].Held)
		close(looked)
	})
}
