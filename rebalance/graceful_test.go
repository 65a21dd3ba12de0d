package rebalance

import (
	"context"
	"sync/atomic"
	"testing"
	"testing/synctest"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/shearpin/shearpin/dcp/mcbp"
	"github.com/shearpin/shearpin/rebalance/store"
	"github.com/shearpin/shearpin/rebalance/vbmap"
)

func (i *interrupted) gracefully(nodes ...string) *Run {
	i.t.Helper()
	run, err := i.cluster.GracefulFailover(i.t.Context(), nodes)
	require.NoError(i.t, err)
	return run
}

// rebalance.md §9.7: the actives leave, and only then the node is given up; at no moment a vbucket is without its active.
func TestAGracefulFailoverLosesNothing(t *testing.T) {
	inFakeCluster(t, func(t *testing.T, i *interrupted) {
		before := i.chains()
		var calmed atomic.Int32
		i.world.setGate(func(_ context.Context, op fakeOp) error {
			if op.What == "state dead" {
				calmed.Add(1)
			}
			return nil
		})
		run := i.gracefully("n0")
		report, err := run.Wait(t.Context())
		require.NoError(t, err)
		require.NoError(t, report.Err)
		assert.Equal(t, Complete, report.Outcome)
		assert.Equal(t, GracefulFailoverType, report.Type)
		assert.Equal(t, []string{"n0"}, report.NodesRemoved)
		require.NotNil(t, report.Failover)
		require.NoError(t, report.Failover.Err)
		assert.Empty(t, report.Failover.Buckets[0].Promoted, "it was the active of nothing any more")
		assert.Zero(t, calmed.Load())
		for vb, chain := range before {
			assert.Equal(t, chain.Without("n0"), i.chains()[vb])
		}
		assert.Equal(t, FailedOver, i.members()[0].Membership)
		state, err := i.cluster.State(t.Context())
		require.NoError(t, err)
		assert.Equal(t, Idle, state)
		require.NoError(t, i.janitor().Problem())
		i.requireServed("n0")
	})
}

func TestAGracefulFailoverWithoutOtherCopiesIsRefused(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newFakeWorld(3)
		c := openFake(t, w, 3)
		defer func() { require.NoError(t, c.Close(context.Background())) }()
		require.NoError(t, c.CreateBucket(t.Context(), BucketConfig{Name: "orders", VBuckets: 6}))
		_, err := c.GracefulFailover(t.Context(), []string{"n0"})
		var unsafe *UnsafeFailover
		require.ErrorAs(t, err, &unsafe)
		assert.Len(t, unsafe.Lost["orders"], 2)
		_, err = c.GracefulFailover(t.Context(), []string{"n0", "n1", "n2"})
		require.ErrorIs(t, err, ErrNoNodesLeft)
		_, err = c.GracefulFailover(t.Context(), []string{"n9"})
		require.ErrorIs(t, err, ErrUnknownNode)
		_, err = c.GracefulFailover(t.Context(), nil)
		require.ErrorIs(t, err, errNothingToFailOver)
	})
}

// rebalance.md §14 item 56: the new order is made from what the janitor left, not from the map that was there before it.
func TestAGracefulFailoverPlansAfterTheJanitor(t *testing.T) {
	inFakeCluster(t, func(t *testing.T, i *interrupted) {
		vb := uint16(0)
		for n, chain := range i.chains() {
			if chain.Active() == "n1" && chain[1] == "n2" {
				vb = uint16(n)
			}
		}
		// A takeover has come to its end and the map has not: the janitor will make it n2's.
		i.damage("n1", vb, mcbp.VBucketDead)
		i.damage("n2", vb, mcbp.VBucketActive)
		report, err := i.gracefully("n1").Wait(t.Context())
		require.NoError(t, err)
		require.NoError(t, report.Err)
		assert.Equal(t, "n2", i.chains()[vb].Active())
		i.requireServed("n1")
	})
}

// Stopped before its failover it is a rebalance that was stopped: nobody is given up.
func TestAGracefulFailoverThatIsStopped(t *testing.T) {
	inFakeCluster(t, func(t *testing.T, i *interrupted) {
		reached, reach := signal()
		i.world.setGate(func(ctx context.Context, op fakeOp) error {
			if op.What == "takeover" {
				reach()
				<-ctx.Done()
				return context.Cause(ctx)
			}
			return nil
		})
		run := i.gracefully("n0")
		<-reached
		_, err := i.cluster.GracefulFailover(t.Context(), []string{"n1"})
		require.ErrorIs(t, err, ErrRebalanceRunning)
		require.NoError(t, run.Stop(t.Context()))
		report, err := run.Wait(t.Context())
		require.NoError(t, err)
		assert.Equal(t, Stopped, report.Outcome)
		assert.Nil(t, report.Failover)
		assert.Equal(t, Active, i.members()[0].Membership)
		i.world.setGate(nil)
		require.NoError(t, i.janitor().Problem())
		i.requireServed()
		report, err = i.gracefully("n0").Wait(t.Context())
		require.NoError(t, err)
		require.NoError(t, report.Err)
		i.requireServed("n0")
	})
}

func TestAGracefulOrderLeavesNodeForLast(t *testing.T) {
	m := vbmap.Map{{"n0", "n1", "n2"}, {"n1", "n0", ""}, {"n0", "n3", "n1"}, {"n2", "n1", ""}}
	assert.Equal(t, vbmap.Map{{"n1", "n2", "n0"}, {"n1", "n0", ""}, {"n1", "n0", "n3"}, {"n2", "n1", ""}}, vbmap.GracefulFailover(m, "n0", "n3"))
	_, err := gracefulTarget(store.BucketDoc{Name: "b", Map: m}, []string{"n1", "n2"})
	var unsafe *UnsafeFailover
	require.ErrorAs(t, err, &unsafe)
	assert.Equal(t, map[string][]uint16{"b": {3}}, unsafe.Lost)
}

// A manager that dies between the rebalance and the failover, or in the failover, goes on with that when it is opened again.
func TestAFailoverIsGoneOnWithAfterACrash(t *testing.T) {
	inFakeCluster(t, func(t *testing.T, i *interrupted) {
		i.world.giveUp("n0")
		reached, reach := signal()
		i.world.setGate(func(ctx context.Context, op fakeOp) error {
			if op.What == "state active" {
				reach()
				<-ctx.Done()
				return context.Cause(ctx)
			}
			return nil
		})
		failed := make(chan error, 1)
		go func() {
			_, err := i.cluster.Failover(context.Background(), giveUp("n0"))
			failed <- err
		}()
		<-reached
		i.close()
		require.Error(t, <-failed)
		i.world.setGate(nil)
		require.NoError(t, i.reopened())
		synctest.Wait()
		state, err := i.cluster.State(t.Context())
		require.NoError(t, err)
		assert.Equal(t, Idle, state)
		i.requireServed("n0")
		doc, _, err := i.cluster.env.readCluster(t.Context())
		require.NoError(t, err)
		assert.Nil(t, doc.Failover)
	})
}

// A graceful failover is stopped at any point as any rebalance is; either it has come to its end, or nobody is given up.
func TestAGracefulFailoverThatIsStoppedAtAnyPoint(t *testing.T) {
	t.Parallel()
	operations := 0
	inFakeCluster(t, func(t *testing.T, i *interrupted) {
		i.world.setGate(func(context.Context, fakeOp) error { return nil })
		report, err := i.gracefully("n0").Wait(t.Context())
		require.NoError(t, err)
		require.NoError(t, report.Err)
		i.world.mu.Lock()
		defer i.world.mu.Unlock()
		operations = i.world.number
	})
	outcomes := map[Outcome]int{}
	for at := 1; at <= operations && !t.Failed(); at += 3 {
		inFakeCluster(t, func(t *testing.T, i *interrupted) {
			reached := make(chan struct{})
			i.world.setGate(func(ctx context.Context, op fakeOp) error {
				if op.Number == at {
					close(reached)
					<-ctx.Done()
					return context.Cause(ctx)
				}
				return nil
			})
			run := i.gracefully("n0")
			ended := make(chan struct{})
			go func() {
				_, _ = run.Wait(t.Context())
				close(ended)
			}()
			select {
			case <-reached:
			case <-ended:
			}
			require.NoError(t, run.Stop(t.Context()))
			<-ended
			report, err := run.Wait(t.Context())
			require.NoError(t, err)
			outcomes[report.Outcome]++
			i.world.setGate(nil)
			if report.Failover == nil {
				assert.Equal(t, Active, i.members()[0].Membership)
			} else if report.Outcome == Failed { // something hung in its failover, which is not stopped
				assert.Error(t, report.Failover.Err)
				require.NoError(t, i.failOver(giveUp("n0")).Err)
			}
			require.NoError(t, i.janitor().Problem())
			assert.Equal(t, i.before, i.world.data())
		})
	}
	assert.Positive(t, outcomes[Stopped])
	assert.Positive(t, outcomes[Complete])
}
