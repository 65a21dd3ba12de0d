package rebalance

import (
	"context"
	"testing"
	"testing/synctest"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/shearpin/shearpin/rebalance/store"
)

func TestNothingIsCreatedNorPlannedDuringAFailover(t *testing.T) {
	inFakeCluster(t, func(t *testing.T, i *interrupted) {
		promoting, letGo := i.holdAt("state active")
		failed := make(chan *FailoverReport, 1)
		go func() { failed <- i.failOver(giveUp("n0")) }()
		<-promoting
		assert.ErrorIs(t, i.cluster.CreateBucket(t.Context(), BucketConfig{Name: "another", VBuckets: 4}), ErrFailoverRunning)
		_, err := i.cluster.Plan(t.Context(), Request{})
		assert.ErrorIs(t, err, ErrFailoverRunning)
		letGo()
		require.NoError(t, (<-failed).Err)
		i.requireServed("n0")
	})
}

// A bucket gets no map that names a node which was given up while the nodes were creating it.
func TestANodeIsFailedOverWhileABucketIsCreated(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		i := &interrupted{t: t, world: newFakeWorld(3), store: store.NewMemory()}
		i.open(3)
		defer i.close()
		orders := BucketConfig{Name: "orders", VBuckets: 4, Replicas: 1}
		creating, letGo := i.holdAt("enable traffic")
		created := make(chan error, 1)
		go func() { created <- i.cluster.CreateBucket(t.Context(), orders) }()
		<-creating
		report, err := i.cluster.Failover(t.Context(), giveUp("n0")) // it lives, so that it is no reason for the creation to fail
		require.NoError(t, err)
		require.NoError(t, report.Err)
		letGo()
		var gone *NotActiveError
		require.ErrorAs(t, <-created, &gone)
		assert.Equal(t, "n0", gone.Node)
		_, err = i.cluster.Map(t.Context(), "orders")
		require.ErrorIs(t, err, store.ErrNotFound)

		require.NoError(t, i.cluster.CreateBucket(t.Context(), orders), "it is created on the others")
		assert.ElementsMatch(t, []string{"n1", "n2"}, i.chains().Nodes())
		assert.Empty(t, i.world.wrong)
	})
}

// holdAt holds up every operation of a kind until letGo.
func (i *interrupted) holdAt(what string) (reached chan struct{}, letGo func()) {
	reached, reach := signal()
	let, letGo := signal()
	i.world.setGate(func(ctx context.Context, op fakeOp) error {
		if op.What != what {
			return nil
		}
		reach()
		select {
		case <-let:
			return nil
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	})
	return reached, letGo
}
