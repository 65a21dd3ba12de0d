package rebalance

import (
	"context"
	"slices"
	"testing"
	"testing/synctest"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/shearpin/shearpin/dcp/mcbp"
	"github.com/shearpin/shearpin/rebalance/store"
	"github.com/shearpin/shearpin/rebalance/vbmap"
)

// Where a move is broken off, what is left then, and what the janitor makes of it (rebalance.md §4.12). Each runs twice:
// a node refuses, so that the move fails; and the manager dies while the node does not answer, and another one takes
// over.

// interruption breaks a move from [A B] to wanted off at an operation, the nth of its kind.
type interruption struct {
	wanted     vbmap.Chain
	what, node string
	nth        int
	// left is what the copies are then, mapped the chain in the map.
	left   map[string]mcbp.VBucketState
	mapped vbmap.Chain
	// harmless says that the move does not fail.
	harmless bool
	// then changes more before the janitor comes.
	then func(w *moveWorld)
	// want is the chain that the janitor makes of it.
	want vbmap.Chain
	// look is called in the end.
	look func(w *moveWorld)
}

const (
	isActive  = mcbp.VBucketActive
	isReplica = mcbp.VBucketReplica
	isPending = mcbp.VBucketPending
	isDead    = mcbp.VBucketDead
)

var (
	oldChain    = vbmap.Chain{nodeA, nodeB}
	futureChain = vbmap.Chain{nodeN, nodeA}
)

func (i interruption) run(t *testing.T) {
	t.Helper()
	t.Run("refused", func(t *testing.T) {
		inMoveWorld(t, oldChain, func(t *testing.T, w *moveWorld) {
			w.refuseAt(i.what, i.node, i.nth)
			err := w.move(i.wanted)
			if i.harmless {
				require.NoError(t, err)
			} else {
				require.ErrorContains(t, err, errInjected.Error())
			}
			w.world.setGate(nil)
			i.check(w)
		})
	})
	t.Run("the manager dies", func(t *testing.T) {
		inMoveWorld(t, oldChain, func(t *testing.T, w *moveWorld) {
			reached := make(chan struct{})
			w.breakAt(i.what, i.node, i.nth, func(ctx context.Context) error {
				close(reached)
				<-ctx.Done()
				return context.Cause(ctx)
			})
			w.startMove(i.wanted)
			<-reached
			w.close()
			w.world.setGate(nil)
			left := w.states()
			assert.Equal(t, i.left, left)
			// Until what is left has been looked at, the janitor that runs at the start changes nothing.
			w.world.setGate(func(context.Context, fakeOp) error { return errInjected })
			w.open(4)
			synctest.Wait()
			require.Equal(t, 1, w.cluster.JanitorRuns())
			w.world.setGate(nil)
			i.check(w)
		})
	})
}

// check compares what is left, and has the janitor repair it.
func (i interruption) check(w *moveWorld) {
	w.t.Helper()
	assert.Equal(w.t, i.left, w.states())
	assert.Equal(w.t, i.mapped, w.chain())
	if i.then != nil {
		i.then(w)
	}
	require.NoError(w.t, w.janitor().Problem())
	w.requireChain(i.want)
	doc, err := w.cluster.env.buckets.Get(w.t.Context(), "orders")
	require.NoError(w.t, err)
	assert.Nil(w.t, doc.Target, "the fast-forward map is done with")
	if i.look != nil {
		i.look(w)
	}
	assert.Zero(w.t, w.janitor().Fixes(), "once is enough")
}

func TestInterruption_backfill(t *testing.T) {
	interruption{
		wanted: futureChain, what: "estimate", node: nodeA, nth: 1,
		left:   map[string]mcbp.VBucketState{nodeA: isActive, nodeB: isReplica, nodeN: isReplica},
		mapped: oldChain, want: oldChain,
	}.run(t)
}

func TestInterruption_dual_topology(t *testing.T) {
	interruption{
		wanted: futureChain, what: "seqno", node: nodeA, nth: 2,
		left:   map[string]mcbp.VBucketState{nodeA: isActive, nodeB: isReplica, nodeN: isReplica},
		mapped: oldChain,
		then:   func(w *moveWorld) { assert.Equal(w.t, [][]string{oldChain, futureChain}, w.topology(nodeA)) },
		want:   oldChain,
	}.run(t)
}

func TestInterruption_takeover_before_dead(t *testing.T) {
	interruption{
		wanted: futureChain, what: "takeover with the consumer pending", node: nodeN, nth: 1,
		left:   map[string]mcbp.VBucketState{nodeA: isActive, nodeB: isReplica, nodeN: isPending},
		mapped: oldChain, want: oldChain,
	}.run(t)
}

// The old active is made active again, on a new branch of its history.
func TestInterruption_nobody_left_active(t *testing.T) {
	interruption{
		wanted: futureChain, what: "takeover with nobody active", node: nodeN, nth: 1,
		left:   map[string]mcbp.VBucketState{nodeA: isDead, nodeB: isReplica, nodeN: isPending},
		mapped: oldChain, want: oldChain,
		look: func(w *moveWorld) {
			log := w.world.nodes[nodeA].copies[0].log
			assert.Equal(w.t, uint64(100), log[0].Seqno, "its newest branch begins where the other ended")
		},
	}.run(t)
}

func TestInterruption_takeover_not_in_map(t *testing.T) {
	happened := interruption{
		wanted: futureChain, what: "takeover that has happened", node: nodeN, nth: 1,
		left:   map[string]mcbp.VBucketState{nodeA: isDead, nodeB: isReplica, nodeN: isActive},
		mapped: oldChain, want: futureChain,
	}
	t.Run("the future replicas are there", happened.run)
	t.Run("they are not known any more", func(t *testing.T) {
		gone := happened
		gone.then = func(w *moveWorld) { w.edit(func(doc *store.BucketDoc) { doc.Target = nil }) }
		gone.want = vbmap.Chain{nodeN, ""}
		gone.run(t)
	})
	t.Run("one of them is not there", func(t *testing.T) {
		interruption{
			wanted: vbmap.Chain{nodeB, nodeC}, what: "takeover that has happened", node: nodeB, nth: 1,
			left:   map[string]mcbp.VBucketState{nodeA: isDead, nodeB: isActive, nodeC: isReplica},
			mapped: oldChain, then: func(w *moveWorld) { w.damage(nodeC, 0, mcbp.VBucketMissing) },
			want: vbmap.Chain{nodeB, ""},
		}.run(t)
	})
}

func TestInterruption_replicas_not_repointed(t *testing.T) {
	interruption{
		wanted: futureChain, what: "close", node: nodeB, nth: 1,
		left:   map[string]mcbp.VBucketState{nodeA: isDead, nodeB: isReplica, nodeN: isActive},
		mapped: futureChain, want: futureChain,
	}.run(t)
}

// The move itself does not fail for it: the copy is left over.
func TestInterruption_old_copies_left(t *testing.T) {
	interruption{
		wanted: futureChain, what: "delete", node: nodeB, nth: 1, harmless: true,
		left:   map[string]mcbp.VBucketState{nodeA: isReplica, nodeB: isReplica, nodeN: isActive},
		mapped: futureChain, want: futureChain,
	}.run(t)
}

// The state is set, the stream is not: in the middle of a move, and in the middle of a repair.
func TestInterruption_half_applied(t *testing.T) {
	t.Run("by a move", interruption{
		wanted: futureChain, what: "open", node: nodeA, nth: 1,
		left:   map[string]mcbp.VBucketState{nodeA: isReplica, nodeB: isReplica, nodeN: isActive},
		mapped: futureChain, want: futureChain,
	}.run)
	t.Run("by the janitor", func(t *testing.T) {
		inMoveWorld(t, oldChain, func(t *testing.T, w *moveWorld) {
			w.damage(nodeB, 0, mcbp.VBucketMissing)
			w.world.replications[nodeB].set(0, "")
			w.refuseAt("open", nodeB, 1)
			require.ErrorContains(t, w.janitor().Problem(), errInjected.Error())
			assert.Equal(t, map[string]mcbp.VBucketState{nodeA: isActive, nodeB: isReplica}, w.states())
			assert.Empty(t, w.streams())
			require.NoError(t, w.janitor().Problem())
			w.requireChain(oldChain)
		})
	})
}

// What has moved stays moved: a new rebalance goes on from there, and the fast-forward map of the one before has no
// say.
func TestAMoveThatIsRepeatedGoesOnFromWhatIsThere(t *testing.T) {
	inMoveWorld(t, oldChain, func(t *testing.T, w *moveWorld) {
		w.refuseAt("close", nodeB, 1)
		require.Error(t, w.move(futureChain))
		require.NoError(t, w.janitor().Problem())
		done := w.journal()
		require.NoError(t, w.move(vbmap.Chain{nodeN, nodeC}))
		assert.False(t, slices.ContainsFunc(done(), func(op fakeOp) bool { return op.What == "takeover" }))
		w.requireChain(vbmap.Chain{nodeN, nodeC})
	})
}
