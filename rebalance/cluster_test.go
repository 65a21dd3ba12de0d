package rebalance

import (
	"context"
	"testing"
	"testing/synctest"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/shearpin/shearpin/rebalance/store"
	"github.com/shearpin/shearpin/supervisor"
)

func TestABucketIsCreatedOnce(t *testing.T) {
	inFakeCluster(t, func(t *testing.T, i *interrupted) {
		err := i.cluster.CreateBucket(t.Context(), BucketConfig{Name: "orders"})
		require.ErrorIs(t, err, store.ErrConflict)
		assert.Equal(t, i.before, i.world.data())
	})
}

// A bucket whose creation failed on a node can be created again.
func TestABucketWhoseCreationFailedCanBeCreated(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		i := &interrupted{t: t, world: newFakeWorld(3), store: store.NewMemory()}
		i.open(3)
		defer i.close()
		for _, what := range []string{"create bucket", "enable traffic"} {
			i.world.setGate(func(_ context.Context, op fakeOp) error {
				if op.What == what && op.Node == "n1" {
					return errInjected
				}
				return nil
			})
			err := i.cluster.CreateBucket(t.Context(), BucketConfig{Name: "orders", VBuckets: 4, Replicas: 1})
			require.ErrorIs(t, err, errInjected)
			var node *NodeError
			require.ErrorAs(t, err, &node)
			assert.Equal(t, "n1", node.Node)
		}
		i.world.setGate(nil)
		require.NoError(t, i.cluster.CreateBucket(t.Context(), BucketConfig{Name: "orders", VBuckets: 4, Replicas: 1}))
		assert.Len(t, i.world.data(), 4)
	})
}

// A server of which nobody knows the address is one that does not answer: the janitor says so, and touches nothing that depends on it.
func TestAStoreThatNamesStrangersIsOpened(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		i := newInterrupted(t, 3)
		i.close()
		_, revision, err := i.store.Get(t.Context(), clusterKey)
		require.NoError(t, err)
		require.NoError(t, i.store.Delete(t.Context(), clusterKey, revision), "who its servers are is forgotten")
		config, err := Config{Store: i.store, Nodes: []Node{fakeNodeNamed(0)}}.validate()
		require.NoError(t, err)
		buckets, err := store.NewBuckets(t.Context(), i.store)
		require.NoError(t, err)
		env := newEnvironment(config, buckets)
		env.connect, env.replicate = i.world.connect, i.world.replicate
		i.cluster, err = (&Cluster{}).start(t.Context(), env)
		require.NoError(t, err)
		defer i.close()
		require.ErrorIs(t, i.janitor().Problem(), ErrUnknownNode)
		assert.Equal(t, i.before, i.world.data())
	})
}

func TestNodesAreAddedOnce(t *testing.T) {
	inFakeCluster(t, func(t *testing.T, i *interrupted) {
		require.NoError(t, i.cluster.AddNode(t.Context(), fakeNodeNamed(3)), "the same again")
		require.Error(t, i.cluster.AddNode(t.Context(), Node{Name: "n3", Addr: "127.0.0.1:1"}), "another of its name")
		require.Error(t, i.cluster.AddNode(t.Context(), Node{Name: "n4"}))
		assert.Len(t, i.cluster.Nodes(), 4)
		_, err := i.cluster.Rebalance(t.Context(), Request{Keep: []string{"n9"}})
		require.ErrorIs(t, err, ErrUnknownNode)
	})
}

func TestARebalanceOfAnUnknownBucketIsRefused(t *testing.T) {
	inFakeCluster(t, func(t *testing.T, i *interrupted) {
		request := Request{Buckets: []string{"orders", "nothing"}}
		_, err := i.cluster.Rebalance(t.Context(), request)
		require.ErrorIs(t, err, store.ErrNotFound)
		require.ErrorContains(t, err, `Request.Buckets: bucket "nothing"`)
		_, err = i.cluster.Plan(t.Context(), request)
		require.ErrorIs(t, err, store.ErrNotFound)
		assert.Nil(t, i.cluster.CurrentRun())
		reports, err := i.cluster.Reports(t.Context())
		require.NoError(t, err)
		assert.Empty(t, reports, "nothing has begun")
	})
}

// The tree shows every process that is supervised, by what it is for.
func TestTheTreeShowsWhatRuns(t *testing.T) {
	inFakeCluster(t, func(t *testing.T, i *interrupted) {
		tree, err := i.cluster.Tree(t.Context())
		require.NoError(t, err)
		seen := map[string]bool{}
		var walk func(n supervisor.Node)
		walk = func(n supervisor.Node) {
			seen[n.ID] = true
			for _, child := range n.Children {
				walk(child)
			}
		}
		walk(tree)
		for _, id := range []string{membersName, "control", publisherName, janitorName, orchestratorName, "orders on n0", "orders on n2", "replications", "agent"} {
			assert.True(t, seen[id], id)
		}
		assert.False(t, seen["orders on n3"], "it holds nothing")
	})
}

func TestAClosedClusterSaysSo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		i := newInterrupted(t, 3)
		i.close()
		i.close()
		_, err := i.cluster.Rebalance(t.Context(), request)
		require.ErrorIs(t, err, ErrClosed)
		_, err = i.cluster.Janitor(t.Context())
		require.ErrorIs(t, err, ErrClosed)
		_, err = i.cluster.State(t.Context())
		require.ErrorIs(t, err, ErrClosed)
		require.ErrorIs(t, i.cluster.CreateBucket(t.Context(), BucketConfig{Name: "more"}), ErrClosed)
		require.NotErrorIs(t, err, ErrRebalanceRunning)
	})
}
