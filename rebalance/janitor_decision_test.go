package rebalance

import (
	"slices"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/shearpin/shearpin/dcp/kv"
	"github.com/shearpin/shearpin/dcp/mcbp"
	"github.com/shearpin/shearpin/rebalance/vbmap"
)

// Branches of history that the cases are made of. A log is written newest branch first.
var (
	// first is what everybody has who was fed by the first active.
	first = []kv.FailoverEntry{{UUID: 1, Seqno: 0}}
	// second began on the first at seqno 50, when another copy was made active.
	second = []kv.FailoverEntry{{UUID: 2, Seqno: 50}, {UUID: 1, Seqno: 0}}
)

func copyOf(state mcbp.VBucketState, high uint64, log []kv.FailoverEntry) janitorCopy {
	return janitorCopy{State: state, HighSeqno: high, UUID: log[0].UUID, FailoverLog: log}
}

func active(high uint64, topology ...string) janitorCopy {
	c := copyOf(mcbp.VBucketActive, high, first)
	if topology != nil {
		c.Topology = [][]string{topology}
	}
	return c
}

func replica(high uint64) janitorCopy { return copyOf(mcbp.VBucketReplica, high, first) }
func pending(high uint64) janitorCopy { return copyOf(mcbp.VBucketPending, high, first) }
func dead(high uint64) janitorCopy    { return copyOf(mcbp.VBucketDead, high, first) }

// wiped is the answer of a node that has no copy.
var wiped = janitorCopy{}

func on(copies ...any) map[string]janitorCopy {
	m := map[string]janitorCopy{}
	for i := 0; i < len(copies); i += 2 {
		m[copies[i].(string)] = copies[i+1].(janitorCopy)
	}
	return m
}

func set(node string, state mcbp.VBucketState) copyAction {
	return copyAction{Node: node, State: state}
}

func activate(node string, chain ...string) copyAction {
	return copyAction{Node: node, State: mcbp.VBucketActive, Topology: [][]string{chain}}
}

func drop(node string) copyAction { return copyAction{Node: node, State: mcbp.VBucketMissing} }

// Every row of rebalance.md §4.12: where a rebalance was interrupted, and what becomes of it. The move is [A B] to [N
// A].
func TestJanitorDecisionAfterAnInterruptedMove(t *testing.T) {
	oldChain, future := vbmap.Chain{"A", "B"}, vbmap.Chain{"N", "A"}
	dual := active(100)
	dual.Topology = [][]string{{"A", "B"}, {"N", "A"}}
	back := []vbmap.Stream{{VB: 7, Producer: "A", Consumer: "B"}}
	forward := []vbmap.Stream{{VB: 7, Producer: "N", Consumer: "A"}}
	tests := []struct {
		name        string
		chain, fast vbmap.Chain
		copies      map[string]janitorCopy
		wantChain   vbmap.Chain
		wantActions []copyAction
		wantStreams []vbmap.Stream
		wantAgain   bool
	}{
		{
			name: "during backfill", chain: oldChain, fast: future,
			copies:    on("A", active(100, "A", "B"), "B", replica(100), "N", replica(30)),
			wantChain: oldChain, wantActions: []copyAction{drop("N")}, wantStreams: back,
		},
		{
			name: "after dual topology", chain: oldChain, fast: future,
			copies:    on("A", dual, "B", replica(100), "N", replica(100)),
			wantChain: oldChain, wantActions: []copyAction{activate("A", "A", "B"), drop("N")}, wantStreams: back,
		},
		{
			name: "during takeover, before dead", chain: oldChain, fast: future,
			copies:    on("A", dual, "B", replica(100), "N", pending(100)),
			wantChain: oldChain, wantActions: []copyAction{activate("A", "A", "B"), drop("N")}, wantStreams: back,
		},
		{
			name: "A dead, N pending: A is active again, and only then N's copy goes", chain: oldChain, fast: future,
			copies:    on("A", dead(100), "B", replica(100), "N", pending(100)),
			wantChain: oldChain, wantActions: []copyAction{activate("A", "A", "B")}, wantStreams: back, wantAgain: true,
		},
		{
			name: "A dead, N pending, next look", chain: oldChain, fast: future,
			copies: on("A", janitorCopy{
				State: mcbp.VBucketActive, HighSeqno: 100, UUID: 9, Topology: [][]string{{"A", "B"}},
				FailoverLog: []kv.FailoverEntry{{UUID: 9, Seqno: 100}, {UUID: 1, Seqno: 0}},
			}, "B", replica(100), "N", pending(100)),
			wantChain: oldChain, wantActions: []copyAction{drop("N")}, wantStreams: back,
		},
		{
			name: "A dead, N pending, and A lost what it had: N is promoted", chain: oldChain, fast: future,
			copies:    on("A", wiped, "B", replica(90), "N", pending(100)),
			wantChain: vbmap.Chain{"N", "B"}, wantActions: []copyAction{activate("N", "N", "B")},
			wantStreams: []vbmap.Stream{{VB: 7, Producer: "N", Consumer: "B"}},
		},
		{
			name: "takeover complete, map not updated", chain: oldChain, fast: future,
			copies:    on("A", dead(100), "B", replica(100), "N", active(100)),
			wantChain: future, wantActions: []copyAction{set("A", mcbp.VBucketReplica), drop("B"), activate("N", "N", "A")}, wantStreams: forward,
		},
		{
			name: "takeover complete, map not updated, fast-forward map gone", chain: oldChain,
			copies:    on("A", dead(100), "B", replica(100), "N", active(100)),
			wantChain: vbmap.Chain{"N", ""}, wantActions: []copyAction{drop("A"), drop("B"), activate("N", "N", "")},
		},
		{
			name: "map committed, replicas not yet re-pointed", chain: future, fast: future,
			copies:    on("A", dead(100), "B", replica(100), "N", active(120, "N", "A")),
			wantChain: future, wantActions: []copyAction{set("A", mcbp.VBucketReplica), drop("B")}, wantStreams: forward,
		},
		{
			name: "old copies not deleted", chain: future, fast: future,
			copies:    on("A", replica(120), "B", replica(100), "N", active(120, "N", "A")),
			wantChain: future, wantActions: []copyAction{drop("B")}, wantStreams: forward,
		},
		{
			name: "state set, stream missing", chain: future,
			copies:    on("A", replica(0), "B", wiped, "N", active(120, "N", "A")),
			wantChain: future, wantStreams: forward,
		},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			decision := decideVBucket(janitorCase{
				VB: 7, Chain: test.chain, FastForward: test.fast, Servers: []string{"A", "B", "N"}, Copies: test.copies,
			})
			require.NoError(t, decision.Hold)
			assert.Equal(t, test.wantChain, decision.Chain)
			assert.Equal(t, test.wantActions, decision.Actions)
			assert.Equal(t, test.wantStreams, decision.Streams)
			assert.Equal(t, test.wantAgain, decision.Again)
			assert.Empty(t, decision.Kept)
		})
	}
}

func TestJanitorDecisionSharesNothingWithItsCase(t *testing.T) {
	c := janitorCase{
		Chain: vbmap.Chain{"A", "B"}, Servers: []string{"A", "B", "C"},
		Copies: on("A", active(100, "A", "B"), "B", replica(100), "C", wiped),
	}
	decision := decideVBucket(c)
	decision.Chain[0] = "Z"
	assert.Equal(t, vbmap.Chain{"A", "B"}, c.Chain)
	assert.True(t, slices.IsSorted(c.Servers))
}
