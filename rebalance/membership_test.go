package rebalance

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/shearpin/shearpin/dcp/mcbp"
	"github.com/shearpin/shearpin/rebalance/store"
	"github.com/shearpin/shearpin/supervisor"
)

// reopened is the cluster opened again on its store, with these nodes in the configuration.
func (i *interrupted) reopened(nodes ...Node) error {
	i.close()
	config, err := Config{Store: i.store, Nodes: nodes, JanitorInterval: 24 * time.Hour, Retry: i.retry}.validate()
	require.NoError(i.t, err)
	buckets, err := store.NewBuckets(i.t.Context(), i.store)
	require.NoError(i.t, err)
	env := newEnvironment(config, buckets)
	env.connect, env.replicate = i.world.connect, i.world.replicate
	cluster, err := (&Cluster{}).start(i.t.Context(), env)
	if err == nil {
		i.cluster = cluster
	}
	return err
}

func (i *interrupted) members() []Member {
	members, err := i.cluster.Members(i.t.Context())
	require.NoError(i.t, err)
	return members
}

func activeMember(node Node) Member { return Member{Node: node, Membership: Active} }

// A manager that is started again on its store knows its nodes, those that were added later too.
func TestTheStoreKnowsTheMembers(t *testing.T) {
	inFakeCluster(t, func(t *testing.T, i *interrupted) {
		all := []Member{activeMember(fakeNodeNamed(0)), activeMember(fakeNodeNamed(1)), activeMember(fakeNodeNamed(2)), activeMember(fakeNodeNamed(3))}
		assert.Equal(t, all, i.members())
		require.NoError(t, i.reopened())
		assert.Equal(t, all, i.members())
		report, err := i.start().Wait(t.Context())
		require.NoError(t, err)
		require.NoError(t, report.Err)
	})
}

// Of a node that both know the configuration says how to reach it; nodes that only it knows are added.
func TestTheConfigurationWinsOverTheStore(t *testing.T) {
	inFakeCluster(t, func(t *testing.T, i *interrupted) {
		moved := Node{Name: "n1", Addr: "127.0.0.1:6001", Group: "east"}
		require.NoError(t, i.reopened(fakeNodeNamed(4), moved))
		want := []Member{activeMember(fakeNodeNamed(0)), activeMember(moved), activeMember(fakeNodeNamed(2)), activeMember(fakeNodeNamed(3)), activeMember(fakeNodeNamed(4))}
		assert.Equal(t, want, i.members())
		endpoint, ok := i.cluster.env.nodes.endpoint("n1")
		require.True(t, ok)
		assert.Equal(t, moved.Addr, endpoint.Addr)
		require.NoError(t, i.reopened())
		assert.Equal(t, want, i.members(), "the store keeps what the configuration said")
	})
}

func TestAClusterOfNothingIsRefused(t *testing.T) {
	_, err := Open(t.Context(), Config{})
	require.ErrorIs(t, err, errNoNodes)
}

func TestAClusterDocumentThatCannotBeReadIsNamed(t *testing.T) {
	for value, want := range map[string]string{
		`{`:            `store: "cluster" cannot be read: unexpected end of JSON input`,
		`{"schema":9}`: `store: "cluster" has schema version 9, this program knows 1`,
		`{"schema":1,"members":[{"name":"n7","addr":"nowhere"}]}`: `rebalance: store: "cluster" cannot be read: node n7: ` +
			`address nowhere: missing port in address`,
	} {
		memory := store.NewMemory()
		_, err := memory.CompareAndSet(t.Context(), clusterKey, []byte(value), 0)
		require.NoError(t, err)
		_, err = Open(t.Context(), Config{Store: memory, Nodes: []Node{fakeNodeNamed(0)}})
		require.EqualError(t, err, want)
		require.NoError(t, memory.Close())
	}
}

// Two managers that change the document at the same time both have their way.
func TestChangesOfTheClusterDocumentAreComparedAndSet(t *testing.T) {
	inFakeCluster(t, func(t *testing.T, i *interrupted) {
		calls := 0
		err := i.cluster.env.changeCluster(t.Context(), func(doc *clusterDocument) error {
			if calls++; calls == 1 {
				require.NoError(t, i.cluster.AddNode(t.Context(), fakeNodeNamed(4)))
			}
			doc.Members = append(doc.Members, activeMember(fakeNodeNamed(5)))
			return nil
		})
		require.NoError(t, err)
		assert.Equal(t, 2, calls)
		assert.Equal(t, []string{"n0", "n1", "n2", "n3", "n4", "n5"}, namesOf(i.cluster.Nodes()))
		refused := errors.New("no")
		require.ErrorIs(t, i.cluster.env.changeCluster(t.Context(), func(*clusterDocument) error { return refused }), refused)
	})
}

func TestANodeInUseIsNotForgotten(t *testing.T) {
	inFakeCluster(t, func(t *testing.T, i *interrupted) {
		var used *NodeInUseError
		require.ErrorAs(t, i.cluster.RemoveNode(t.Context(), "n0"), &used)
		assert.Equal(t, &NodeInUseError{Node: "n0", Bucket: "orders"}, used)
		require.ErrorIs(t, i.cluster.RemoveNode(t.Context(), "n9"), ErrUnknownNode)
		require.NoError(t, i.cluster.RemoveNode(t.Context(), "n3"), "it holds nothing")
		assert.Equal(t, []string{"n0", "n1", "n2"}, namesOf(i.cluster.Nodes()))

		require.NoError(t, i.cluster.AddNode(t.Context(), fakeNodeNamed(3)))
		run := i.start()
		require.ErrorIs(t, i.cluster.RemoveNode(t.Context(), "n3"), ErrRebalanceRunning, "it is about to hold something")
		report, err := run.Wait(t.Context())
		require.NoError(t, err)
		require.NoError(t, report.Err)
		require.NoError(t, i.cluster.RemoveNode(t.Context(), "n0"), "it holds nothing any more")
		require.NoError(t, i.reopened(fakeNodeNamed(1)))
		assert.Equal(t, []string{"n1", "n2", "n3"}, namesOf(i.cluster.Nodes()))
	})
}

func TestANodeInATargetIsInUse(t *testing.T) {
	inFakeCluster(t, func(t *testing.T, i *interrupted) {
		target := i.chains()
		target[0] = []string{"n3", "n1"}
		require.NoError(t, i.cluster.env.buckets.SetTarget(t.Context(), "orders", target))
		var used *NodeInUseError
		require.ErrorAs(t, i.cluster.RemoveNode(t.Context(), "n3"), &used)
	})
}

// The janitor may be waiting for a node that is silent: a change of members does not wait with it. Who asked for the
// janitor has an answer all the same.
func TestAChangeOfMembersInterruptsTheJanitor(t *testing.T) {
	inFakeCluster(t, func(t *testing.T, i *interrupted) {
		silent := make(chan struct{})
		i.world.setGate(func(ctx context.Context, op fakeOp) error {
			if op.Node == "n1" {
				select {
				case <-silent:
				case <-ctx.Done():
					return context.Cause(ctx)
				}
			}
			return nil
		})
		damaged := i.chains()[0].Active()
		i.damage(damaged, 0, mcbp.VBucketDead)
		asked := make(chan JanitorReport, 1)
		go func() {
			report, err := i.cluster.Janitor(t.Context())
			assert.NoError(t, err)
			asked <- report
		}()
		synctest.Wait()
		began := time.Now()
		require.NoError(t, i.cluster.RemoveNode(t.Context(), "n3"))
		assert.Zero(t, time.Since(began))
		close(silent)
		require.NoError(t, (<-asked).Problem(), "the run after it")
		assert.Equal(t, i.before, i.world.data())
	})
}

// Whoever takes a node out of a bucket can be ended between ending its tree and forgetting it.
func TestAMemberThatWasNotForgottenIsStartedAgain(t *testing.T) {
	inFakeCluster(t, func(t *testing.T, i *interrupted) {
		env := i.cluster.env
		require.NoError(t, supervisor.TerminateChild(t.Context(), env.system.Whereis(membersName), memberID("orders", "n0")))
		require.Nil(t, env.system.Whereis(agentName("orders", "n0")))
		require.NoError(t, env.ensureMembers(t.Context(), "orders", []string{"n0"}))
		require.NotNil(t, env.system.Whereis(agentName("orders", "n0")))
		require.NoError(t, i.janitor().Problem())
	})
}
