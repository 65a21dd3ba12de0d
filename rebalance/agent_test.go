package rebalance

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/shearpin/shearpin/dcp"
	"github.com/shearpin/shearpin/dcp/kv"
	"github.com/shearpin/shearpin/dcp/mcbp"
)

// ask asks the agent of n1.
func (i *interrupted) ask(r agentRequest) (any, error) {
	return i.cluster.env.ask(i.t.Context(), time.Hour, "orders", "n1", r)
}

// prepared makes the agent of n1 serve a new epoch.
func (i *interrupted) prepared() stamp {
	epoch, err := i.cluster.env.buckets.NextEpoch(i.t.Context())
	require.NoError(i.t, err)
	_, err = i.ask(prepare{Epoch: epoch})
	require.NoError(i.t, err)
	return stamp{Epoch: epoch, Owner: "test"}
}

// hang holds up operations of a kind on n1 until they are broken off, and says when one has come.
func (i *interrupted) hang(what string) (reached <-chan struct{}) {
	here := make(chan struct{})
	i.world.setGate(func(ctx context.Context, op fakeOp) error {
		if op.Node != "n1" || op.What != what {
			return nil
		}
		close(here)
		<-ctx.Done()
		return context.Cause(ctx)
	})
	return here
}

func TestAnAgentThatWasStartedAgainServesOnlyReads(t *testing.T) {
	inFakeCluster(t, func(t *testing.T, i *interrupted) {
		current := i.prepared()
		i.cluster.env.system.Whereis(agentName("orders", "n1")).Kill()
		synctest.Wait()
		_, err := i.ask(deleteCopy{stamp: current, VB: 0})
		var stale *dcp.StaleEpoch
		require.ErrorAs(t, err, &stale)
		assert.Zero(t, stale.Current)
		value, err := i.ask(query{})
		require.NoError(t, err)
		assert.NotEmpty(t, value.(queryAnswer).Copies)
		next := i.prepared()
		_, err = i.ask(releaseOwner{next})
		require.NoError(t, err)
	})
}

// While an order hangs the agent answers reads, and orders on other vbuckets.
func TestAnOrderThatHangsHoldsUpItsOwnVBucketOnly(t *testing.T) {
	inFakeCluster(t, func(t *testing.T, i *interrupted) {
		current := i.prepared()
		reached := i.hang("state dead")
		go func() { _, _ = i.ask(setState{stamp: current, VB: 100, State: mcbp.VBucketDead}) }()
		<-reached
		began := time.Now()
		_, err := i.ask(query{})
		require.NoError(t, err)
		_, err = i.ask(setState{stamp: current, VB: 101, State: mcbp.VBucketReplica})
		require.NoError(t, err)
		assert.Zero(t, time.Since(began))
	})
}

// A new epoch waits for what the node has been told, but not for ever: after the grace the connection is closed, and
// whoever gave the order hears of it.
func TestANewEpochWaitsForTheNodeAndThenClosesItsConnection(t *testing.T) {
	inFakeCluster(t, func(t *testing.T, i *interrupted) {
		current := i.prepared()
		reached := i.hang("state dead")
		ordered := make(chan error, 1)
		go func() {
			_, err := i.ask(setState{stamp: current, VB: 100, State: mcbp.VBucketDead})
			ordered <- err
		}()
		<-reached
		began := time.Now()
		i.prepared()
		assert.Equal(t, i.cluster.env.config.Limits.Grace, time.Since(began))
		require.ErrorIs(t, <-ordered, kv.ErrClosed)
	})
}

// A bulk order that a new epoch overtakes does not go on with what it has not begun.
func TestABulkOrderEndsWithItsEpoch(t *testing.T) {
	inFakeCluster(t, func(t *testing.T, i *interrupted) {
		current := i.prepared()
		reached, release := make(chan struct{}), make(chan struct{})
		begun := 0
		i.world.setGate(func(_ context.Context, op fakeOp) error {
			if op.What != "state dead" {
				return nil
			}
			i.world.mu.Lock()
			begun++
			if begun == parallelOrders {
				close(reached)
			}
			i.world.mu.Unlock()
			<-release
			return nil
		})
		bulk := applyStates{stamp: current, Retain: i.world.replications["n1"].streams}
		for vb := range uint16(10 * parallelOrders) {
			bulk.States = append(bulk.States, vbucketState{VB: 100 + vb, State: mcbp.VBucketDead})
		}
		ordered := make(chan error, 1)
		go func() {
			_, err := i.ask(bulk)
			ordered <- err
		}()
		<-reached
		go i.prepared()
		synctest.Wait()
		close(release)
		require.ErrorIs(t, <-ordered, dcp.ErrSuperseded)
		assert.Equal(t, parallelOrders, begun)
	})
}

func TestABulkOrderTellsEveryVBucketThatFailed(t *testing.T) {
	inFakeCluster(t, func(t *testing.T, i *interrupted) {
		current := i.prepared()
		i.world.setGate(func(_ context.Context, op fakeOp) error {
			if op.VB%2 == 1 {
				return mcbp.StatusBusy
			}
			return nil
		})
		_, err := i.ask(applyStates{stamp: current, Retain: i.world.replications["n1"].streams, States: []vbucketState{
			{VB: 100, State: mcbp.VBucketDead}, {VB: 101, State: mcbp.VBucketDead}, {VB: 103, State: mcbp.VBucketDead},
		}})
		var apply *dcp.ApplyError
		require.ErrorAs(t, err, &apply)
		assert.Equal(t, map[uint16]error{101: mcbp.StatusBusy, 103: mcbp.StatusBusy}, apply.ByVB)
	})
}

func TestAnAgentRefusesWhatItDoesNotKnow(t *testing.T) {
	inFakeCluster(t, func(t *testing.T, i *interrupted) {
		current := i.prepared()
		_, err := i.ask(strangeOrder{releaseOwner{current}})
		require.ErrorContains(t, err, errUnknownRequest.Error())
		_, err = i.ask(strangeRead{})
		require.ErrorContains(t, err, errUnknownRequest.Error())
		_, err = i.cluster.env.system.Whereis(agentName("orders", "n1")).Call(t.Context(), "words")
		require.Error(t, err)
	})
}

type (
	strangeOrder struct{ releaseOwner }
	strangeRead  struct{ query }
)
