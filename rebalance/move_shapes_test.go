package rebalance

import (
	"context"
	"slices"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/shearpin/shearpin/rebalance/vbmap"
)

// How the chains of a move can differ (rebalance.md §4.11). Each test moves one vbucket with the processes that ship and
// says everything that was asked of the nodes: stages one after another, in a stage the nodes in any order.

// movesBy moves the vbucket and compares.
func movesBy(t *testing.T, old, wanted vbmap.Chain, stages ...[]string) {
	t.Helper()
	inMoveWorld(t, old, func(t *testing.T, w *moveWorld) {
		done := w.journal()
		require.NoError(t, w.move(wanted))
		did := journalOf(done())
		for at, stage := range stages {
			if len(did) < len(stage) {
				break
			}
			got := did[:len(stage)]
			did = did[len(stage):]
			slices.Sort(got)
			slices.Sort(stage)
			assert.Equal(t, stage, got, "stage %d", at+1)
		}
		assert.Empty(t, did, "and nothing else")
		w.requireChain(wanted)
		assert.Zero(t, w.janitor().Fixes(), "nothing is left for the janitor")
	})
}

func asked(what ...string) []string { return what }

func TestShape_unchanged(t *testing.T) {
	movesBy(t, vbmap.Chain{nodeA, nodeB}, vbmap.Chain{nodeA, nodeB})
}

func TestShape_replica_replaced(t *testing.T) {
	movesBy(t, vbmap.Chain{nodeA, nodeB}, vbmap.Chain{nodeA, nodeC},
		asked("state replica n2"), asked("open n2"), asked("estimate n0"), asked("seqno n0"), asked("persistence n2"),
		asked("state active n0"), asked("seqno n0"), asked("persistence n2"),
		asked("state active n0"), asked("close n1"), asked("delete n1"))
}

// The replica's stream is live already.
func TestShape_replica_takes_over(t *testing.T) {
	movesBy(t, vbmap.Chain{nodeA, nodeB}, vbmap.Chain{nodeB, nodeA},
		asked("state replica n1"), asked("estimate n0"), asked("seqno n0"), asked("persistence n1"),
		asked("state active n0"), asked("seqno n0"), asked("persistence n1"),
		asked("takeover n1"), asked("takeover with the consumer pending n1"),
		asked("takeover with nobody active n1"), asked("takeover that has happened n1"),
		asked("state active n1"), asked("state replica n0"), asked("open n0"))
}

func TestShape_active_becomes_replica(t *testing.T) {
	movesBy(t, vbmap.Chain{nodeA, nodeB}, vbmap.Chain{nodeC, nodeA},
		asked("state replica n2"), asked("open n2"), asked("estimate n0"), asked("seqno n0"), asked("persistence n2"),
		asked("state active n0"), asked("seqno n0"), asked("persistence n2"),
		asked("takeover n2"), asked("takeover with the consumer pending n2"),
		asked("takeover with nobody active n2"), asked("takeover that has happened n2"),
		asked("state active n2"), asked("close n1"), asked("state replica n0"), asked("open n0"), asked("delete n1"))
}

// The stream of the new replica from the old active is closed before it has another.
func TestShape_replica_takes_over_and_is_replaced(t *testing.T) {
	movesBy(t, vbmap.Chain{nodeA, nodeB}, vbmap.Chain{nodeB, nodeC},
		asked("state replica n1", "state replica n2"), asked("open n2"), asked("estimate n0", "estimate n0"),
		asked("seqno n0"), asked("persistence n1", "persistence n2"),
		asked("state active n0"), asked("seqno n0"), asked("persistence n1", "persistence n2"),
		asked("takeover n1"), asked("takeover with the consumer pending n1"),
		asked("takeover with nobody active n1"), asked("takeover that has happened n1"),
		asked("state active n1"), asked("close n2"), asked("open n2"), asked("delete n0"))
}

// All streams are live; what changes is what durable writes must satisfy, and the map.
func TestShape_replicas_in_another_order(t *testing.T) {
	movesBy(t, vbmap.Chain{nodeA, nodeB, nodeC}, vbmap.Chain{nodeA, nodeC, nodeB},
		asked("state replica n1", "state replica n2"), asked("estimate n0", "estimate n0"),
		asked("seqno n0"), asked("persistence n1", "persistence n2"),
		asked("state active n0"), asked("seqno n0"), asked("persistence n1", "persistence n2"), asked("state active n0"))
}

func TestShape_replica_joins(t *testing.T) {
	movesBy(t, vbmap.Chain{nodeA, ""}, vbmap.Chain{nodeA, nodeB},
		asked("state replica n1"), asked("open n1"), asked("estimate n0"), asked("seqno n0"), asked("persistence n1"),
		asked("state active n0"), asked("seqno n0"), asked("persistence n1"), asked("state active n0"))
}

// No backfill, no wait for seqnos.
func TestShape_from_nothing(t *testing.T) {
	movesBy(t, vbmap.Chain{"", ""}, vbmap.Chain{nodeN, nodeA},
		asked("state active n3"), asked("state replica n0"), asked("open n0"))
}

// There is nothing to build: the topology changes, and the replica goes.
func TestShape_replica_leaves(t *testing.T) {
	movesBy(t, vbmap.Chain{nodeA, nodeB}, vbmap.Chain{nodeA, ""},
		asked("state active n0"), asked("state active n0"), asked("close n1"), asked("delete n1"))
}

// The new active has its topology before anybody can read its name in the map (rebalance.md §14.3 no. 35), and the old
// active satisfies both chains before the takeover.
func TestTheTopologyOfTheNewChainComesWithTheActivation(t *testing.T) {
	old, wanted := vbmap.Chain{nodeA, nodeB}, vbmap.Chain{nodeN, nodeA}
	inMoveWorld(t, old, func(t *testing.T, w *moveWorld) {
		var looked atomic.Int32
		w.world.setGate(func(_ context.Context, op fakeOp) error {
			switch op.What {
			case "takeover":
				assert.Equal(t, [][]string{old, wanted}, w.topology(nodeA))
			case "state active":
				if op.Node != nodeN {
					return nil
				}
			case "close":
				assert.Equal(t, wanted, w.chain(), "committed")
				assert.Equal(t, [][]string{wanted}, w.topology(nodeN))
				looked.Add(1)
				return nil
			default:
				return nil
			}
			assert.Equal(t, old, w.chain(), "not committed yet")
			looked.Add(1)
			return nil
		})
		require.NoError(t, w.move(wanted))
		assert.EqualValues(t, 3, looked.Load())
	})
}
