package rebalance

import (
	"context"
	"slices"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/shearpin/shearpin/rebalance/store"
	"github.com/shearpin/shearpin/rebalance/vbmap"
)

// elsewhere is another view of the store, as another manager or a tool has it.
func (i *interrupted) elsewhere() *store.Buckets {
	buckets, err := store.NewBuckets(i.t.Context(), i.store)
	require.NoError(i.t, err)
	return buckets
}

// once calls f at the first operation that is like that.
func (i *interrupted) once(at func(op fakeOp) bool, f func(ctx context.Context, op fakeOp) error) {
	happened := false
	i.world.setGate(func(ctx context.Context, op fakeOp) error {
		i.world.mu.Lock()
		now := !happened && at(op)
		happened = happened || now
		i.world.mu.Unlock()
		if now {
			return f(ctx, op)
		}
		return nil
	})
}

// rebalance.md §14.3, weakness 57: what a rebalance writes into the map are its own chains, one by one. Somebody else's
// change of another chain, made in the middle of it, is still there afterwards.
func TestAChangeOfAnotherChainIsNotOverwritten(t *testing.T) {
	inFakeCluster(t, func(t *testing.T, i *interrupted) {
		moves := i.plan().Buckets[0].Moves
		before := i.chains()
		vb := slices.IndexFunc(before, func(c vbmap.Chain) bool {
			stays := !slices.ContainsFunc(moves, func(m PlannedMove) bool { return before[m.VB].Equal(c) && m.Old.Equal(c) })
			return stays && !c.Contains("n0")
		})
		require.GreaterOrEqual(t, vb, 0, "all of them move")
		changed := vbmap.Chain{before[vb][0], vbmap.Undefined}
		commits := 0
		other := i.elsewhere()
		i.once(func(op fakeOp) bool { return op.What == "takeover" }, func(ctx context.Context, _ fakeOp) error {
			commits++
			return other.UpdateChain(ctx, "orders", vb, before[vb], changed)
		})
		report, err := i.start().Wait(t.Context())
		require.NoError(t, err)
		require.NoError(t, report.Err)
		require.Equal(t, 1, commits)
		after := i.chains()
		assert.Equal(t, changed, after[vb])
		for _, move := range moves {
			assert.Equal(t, move.New, after[move.VB])
		}
	})
}

// A change of the chain that a move is about to replace is not overwritten either: the move fails, and says why.
func TestAChangeOfAMovingChainFailsItsMove(t *testing.T) {
	inFakeCluster(t, func(t *testing.T, i *interrupted) {
		before := i.chains()
		other := i.elsewhere()
		var vb uint16
		i.once(func(op fakeOp) bool { return op.What == "takeover" }, func(ctx context.Context, op fakeOp) error {
			vb = op.VB
			old := before[vb]
			return other.UpdateChain(ctx, "orders", int(vb), old, vbmap.Chain{old[0], vbmap.Undefined})
		})
		report, err := i.start().Wait(t.Context())
		require.NoError(t, err)
		assert.Equal(t, Failed, report.Outcome)
		var conflict *store.ChainConflictError
		require.ErrorAs(t, report.Err, &conflict)
		assert.Equal(t, int(vb), conflict.VB)
		require.ErrorIs(t, report.Err, ErrMapChanged)
		assert.Equal(t, conflict.Expected, before[vb])
		var move *MoveError
		require.ErrorAs(t, report.Err, &move)
		assert.Equal(t, StepCommit, move.Step)
		i.repaired()
	})
}

// Two managers with two views of one store commit chains of one bucket at the same time: none is lost.
func TestCommitsOfTwoManagersMeet(t *testing.T) {
	inFakeCluster(t, func(t *testing.T, i *interrupted) {
		before := i.chains()
		results := make(chan error, len(before))
		views := []*store.Buckets{i.elsewhere(), i.elsewhere()}
		for vb, chain := range before {
			go func() {
				results <- views[vb%2].UpdateChains(t.Context(), "orders", 0, store.ChainChange{
					VB: vb, Old: chain, New: vbmap.Chain{chain[0], vbmap.Undefined},
				})
			}()
		}
		for range before {
			require.NoError(t, <-results)
		}
		for vb, chain := range i.chains() {
			assert.Equal(t, vbmap.Chain{before[vb][0], vbmap.Undefined}, chain)
		}
	})
}
