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

// Every row of rebalance.md §8.3, with what design §6 has otherwise.
func TestJanitorDecisionRows(t *testing.T) {
	tests := []struct {
		name        string
		chain, fast vbmap.Chain
		copies      map[string]janitorCopy
		wantChain   vbmap.Chain
		wantActions []copyAction
		wantStreams []vbmap.Stream
		wantAgain   bool
		wantKept    []string
	}{
		{
			name:  "as it shall be",
			chain: vbmap.Chain{"A", "B"}, copies: on("A", active(100, "A", "B"), "B", replica(90), "C", wiped),
			wantChain: vbmap.Chain{"A", "B"}, wantStreams: []vbmap.Stream{{VB: 7, Producer: "A", Consumer: "B"}},
		},
		{
			name:  "a new bucket: no copies at all",
			chain: vbmap.Chain{"A", "B"}, copies: on("A", wiped, "B", wiped, "C", wiped),
			wantChain:   vbmap.Chain{"A", "B"},
			wantActions: []copyAction{activate("A", "A", "B"), set("B", mcbp.VBucketReplica)},
			wantStreams: []vbmap.Stream{{VB: 7, Producer: "A", Consumer: "B"}},
		},
		{
			name:  "no node reports active: position 0 is activated",
			chain: vbmap.Chain{"A", "B"}, copies: on("A", dead(100), "B", replica(100), "C", wiped),
			wantChain:   vbmap.Chain{"A", "B"},
			wantActions: []copyAction{activate("A", "A", "B")},
			wantStreams: []vbmap.Stream{{VB: 7, Producer: "A", Consumer: "B"}},
		},
		{
			name:        "no node reports active: position 0 is activated though a replica will have to roll back",
			chain:       vbmap.Chain{"A", "B"},
			copies:      on("A", copyOf(mcbp.VBucketDead, 70, second), "B", replica(60), "C", wiped),
			wantChain:   vbmap.Chain{"A", "B"},
			wantActions: []copyAction{activate("A", "A", "B")},
			wantStreams: []vbmap.Stream{{VB: 7, Producer: "A", Consumer: "B"}},
		},
		{
			name:  "exactly one active, position 0: unchanged",
			chain: vbmap.Chain{"A", "B"}, fast: vbmap.Chain{"C", "A"},
			copies:    on("A", active(100, "A", "B"), "B", replica(100), "C", replica(40)),
			wantChain: vbmap.Chain{"A", "B"}, wantActions: []copyAction{drop("C")},
			wantStreams: []vbmap.Stream{{VB: 7, Producer: "A", Consumer: "B"}},
		},
		{
			name:  "exactly one active, first of the fast-forward chain, its replicas ready: fast-forward chain",
			chain: vbmap.Chain{"A", "B"}, fast: vbmap.Chain{"C", "B"},
			copies:      on("A", dead(100), "B", replica(100), "C", active(100)),
			wantChain:   vbmap.Chain{"C", "B"},
			wantActions: []copyAction{drop("A"), activate("C", "C", "B")},
			wantStreams: []vbmap.Stream{{VB: 7, Producer: "C", Consumer: "B"}},
		},
		{
			name:  "exactly one active, first of the fast-forward chain, the old active dead: fast-forward chain",
			chain: vbmap.Chain{"A", "B"}, fast: vbmap.Chain{"C", "A"},
			copies:      on("A", dead(100), "B", replica(100), "C", active(110)),
			wantChain:   vbmap.Chain{"C", "A"},
			wantActions: []copyAction{set("A", mcbp.VBucketReplica), drop("B"), activate("C", "C", "A")},
			wantStreams: []vbmap.Stream{{VB: 7, Producer: "C", Consumer: "A"}},
		},
		{
			name:  "exactly one active, first of the fast-forward chain, another replica dead: not the fast-forward chain",
			chain: vbmap.Chain{"A", "B"}, fast: vbmap.Chain{"C", "B"},
			copies:      on("A", dead(100), "B", dead(100), "C", active(100)),
			wantChain:   vbmap.Chain{"C", ""},
			wantActions: []copyAction{drop("A"), drop("B"), activate("C", "C", "")},
		},
		{
			name:  "exactly one active, first of the fast-forward chain, a replica missing: derived from the chain in force",
			chain: vbmap.Chain{"A", "B", "C"}, fast: vbmap.Chain{"B", "D", "C"},
			copies:      on("A", dead(100), "B", active(100), "C", replica(90), "D", wiped),
			wantChain:   vbmap.Chain{"B", "C", ""},
			wantActions: []copyAction{drop("A"), activate("B", "B", "C", "")},
			wantStreams: []vbmap.Stream{{VB: 7, Producer: "B", Consumer: "C"}},
		},
		{
			name:  "exactly one active, elsewhere in the chain: it and what follows, padded",
			chain: vbmap.Chain{"A", "B", "C"}, copies: on("A", replica(80), "B", active(100), "C", replica(100)),
			wantChain:   vbmap.Chain{"B", "C", ""},
			wantActions: []copyAction{drop("A"), activate("B", "B", "C", "")},
			wantStreams: []vbmap.Stream{{VB: 7, Producer: "B", Consumer: "C"}},
		},
		{
			name:  "exactly one active, not in the chain: it alone, padded",
			chain: vbmap.Chain{"A", "B"}, copies: on("A", dead(100), "B", wiped, "C", active(120)),
			wantChain:   vbmap.Chain{"C", ""},
			wantActions: []copyAction{drop("A"), activate("C", "C", "")},
		},
		{
			name:  "several active, position 0 has everything: the others stop being active, and are looked at again",
			chain: vbmap.Chain{"A", "B"}, copies: on("A", active(100, "A", "B"), "B", active(90), "C", wiped),
			wantChain: vbmap.Chain{"A", "B"}, wantActions: []copyAction{set("B", mcbp.VBucketDead)}, wantAgain: true,
		},
		{
			name:  "several active, another has everything: position 0 stops being active, and is looked at again",
			chain: vbmap.Chain{"A", "B"}, copies: on("A", active(50), "B", copyOf(mcbp.VBucketActive, 60, second), "C", wiped),
			wantChain: vbmap.Chain{"A", "B"}, wantActions: []copyAction{set("A", mcbp.VBucketDead)}, wantAgain: true,
		},
		{
			name:  "several active, none of them position 0: kept is whose history contains the others'",
			chain: vbmap.Chain{"A", "B"}, fast: vbmap.Chain{"C", "A"},
			copies:    on("A", dead(50), "B", active(50), "C", copyOf(mcbp.VBucketActive, 60, second)),
			wantChain: vbmap.Chain{"A", "B"}, wantActions: []copyAction{set("B", mcbp.VBucketDead)}, wantAgain: true,
		},
		{
			name:  "position 0 missing, a replica has the data: the replica is promoted, nothing empty is created",
			chain: vbmap.Chain{"A", "B", "C"}, copies: on("A", wiped, "B", replica(90), "C", replica(100)),
			wantChain:   vbmap.Chain{"C", "B", "A"},
			wantActions: []copyAction{set("A", mcbp.VBucketReplica), activate("C", "C", "B", "A")},
			wantStreams: []vbmap.Stream{{VB: 7, Producer: "C", Consumer: "B"}, {VB: 7, Producer: "C", Consumer: "A"}},
		},
		{
			name:  "position 0 came back with less than a replica has: the replica is promoted",
			chain: vbmap.Chain{"A", "B"}, copies: on("A", dead(60), "B", replica(100)),
			wantChain:   vbmap.Chain{"B", "A"},
			wantActions: []copyAction{set("A", mcbp.VBucketReplica), activate("B", "B", "A")},
			wantStreams: []vbmap.Stream{{VB: 7, Producer: "B", Consumer: "A"}},
		},
		{
			name:  "a lost vbucket whose active turns up: it beats the map",
			chain: vbmap.Chain{"", ""}, copies: on("A", active(100), "B", wiped),
			wantChain: vbmap.Chain{"A", ""}, wantActions: []copyAction{activate("A", "A", "")},
		},
		{
			name:  "a copy that nobody needs and that has writes of its own is kept",
			chain: vbmap.Chain{"A", "B"}, copies: on("A", active(100, "A", "B"), "B", replica(100), "C", copyOf(mcbp.VBucketReplica, 60, second)),
			wantChain: vbmap.Chain{"A", "B"}, wantStreams: []vbmap.Stream{{VB: 7, Producer: "A", Consumer: "B"}}, wantKept: []string{"C"},
		},
		{
			name:  "an active that goes on while the nodes are asked is not behind its replica",
			chain: vbmap.Chain{"A", "B"}, copies: on("A", active(0, "A", "B"), "B", replica(5), "C", wiped),
			wantChain: vbmap.Chain{"A", "B"}, wantStreams: []vbmap.Stream{{VB: 7, Producer: "A", Consumer: "B"}},
		},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			decision := decideVBucket(janitorCase{
				VB: 7, Chain: test.chain, FastForward: test.fast, Servers: []string{"A", "B", "C"}, Copies: withC(test.copies),
			})
			require.NoError(t, decision.Hold)
			assert.Equal(t, test.wantChain, decision.Chain)
			assert.Equal(t, test.wantActions, decision.Actions)
			assert.Equal(t, test.wantStreams, decision.Streams)
			assert.Equal(t, test.wantAgain, decision.Again)
			assert.Equal(t, test.wantKept, decision.Kept)
		})
	}
}

// withC lets the third server of every case answer.
func withC(copies map[string]janitorCopy) map[string]janitorCopy {
	if _, ok := copies["C"]; !ok {
		copies["C"] = wiped
	}
	return copies
}

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

// What is left alone, and what the reason says.
func TestJanitorDecisionHolds(t *testing.T) {
	tests := []struct {
		name string
		c    janitorCase
		want string
	}{
		{
			name: "a chain member is silent",
			c:    janitorCase{Chain: vbmap.Chain{"A", "B"}, Copies: on("A", active(100), "C", wiped)},
			want: "vb 7 is left alone: no answer from B",
		},
		{
			name: "a member of the fast-forward chain is silent",
			c:    janitorCase{Chain: vbmap.Chain{"A", "B"}, FastForward: vbmap.Chain{"C", "B"}, Copies: on("A", active(100), "B", replica(100))},
			want: "vb 7 is left alone: no answer from C",
		},
		{
			name: "no member is active and some other server is silent",
			c:    janitorCase{Chain: vbmap.Chain{"A", "B"}, Copies: on("A", dead(100), "B", replica(100))},
			want: "vb 7 is left alone: no answer from C",
		},
		{
			name: "an abandoned takeover may still complete",
			c:    janitorCase{Chain: vbmap.Chain{"A", "B"}, Unfenced: []string{"C"}, Copies: on("A", dead(100), "B", replica(100), "C", pending(100))},
			want: "vb 7 is left alone: an abandoned takeover is not fenced on C",
		},
		{
			name: "several active that both went on",
			c: janitorCase{
				Chain:  vbmap.Chain{"A", "B"},
				Copies: on("A", active(60), "B", copyOf(mcbp.VBucketActive, 55, second), "C", wiped),
			},
			want: "vb 7 is in conflict and left alone: A (active, seqno 60, history 1@0) against B (active, seqno 55, history 2@50 1@0)",
		},
		{
			name: "the only active lacks what a dead member has",
			c: janitorCase{
				Chain:  vbmap.Chain{"A", "B"},
				Copies: on("A", copyOf(mcbp.VBucketActive, 55, second), "B", dead(60), "C", wiped),
			},
			want: "vb 7 is in conflict and left alone: A (active, seqno 55, history 2@50 1@0) against B (dead, seqno 60, history 1@0)",
		},
		{
			name: "the only active came up empty",
			c: janitorCase{
				Chain:  vbmap.Chain{"A", "B"},
				Copies: on("A", copyOf(mcbp.VBucketActive, 0, []kv.FailoverEntry{{UUID: 5}}), "B", replica(60), "C", wiped),
			},
			want: "vb 7 is in conflict and left alone: A (active, seqno 0, history 5@0) against B (replica, seqno 60, history 1@0)",
		},
		{
			name: "an active that nobody expected lacks what the chain has",
			c: janitorCase{
				Chain:  vbmap.Chain{"A", "B"},
				Copies: on("A", replica(60), "B", replica(60), "C", active(20)),
			},
			want: "vb 7 is in conflict and left alone: C (active, seqno 20, history 1@0) against A (replica, seqno 60, history 1@0)",
		},
		{
			name: "an active that nobody expected lacks what a replica of the chain has",
			c: janitorCase{
				Chain:  vbmap.Chain{"A", "B"},
				Copies: on("A", wiped, "B", replica(60), "C", active(20)),
			},
			want: "vb 7 is in conflict and left alone: C (active, seqno 20, history 1@0) against B (replica, seqno 60, history 1@0)",
		},
		{
			name: "another member is active and lacks what position 0 has",
			c: janitorCase{
				Chain:  vbmap.Chain{"A", "B"},
				Copies: on("A", replica(60), "B", active(20), "C", wiped),
			},
			want: "vb 7 is in conflict and left alone: B (active, seqno 20, history 1@0) against A (replica, seqno 60, history 1@0)",
		},
		{
			name: "the future active came up empty",
			c: janitorCase{
				Chain: vbmap.Chain{"A", "B"}, FastForward: vbmap.Chain{"C", "B"},
				Copies: on("A", wiped, "B", replica(60), "C", active(0)),
			},
			want: "vb 7 is in conflict and left alone: C (active, seqno 0, history 1@0) against B (replica, seqno 60, history 1@0)",
		},
		{
			name: "no active, and a dead copy outside the chains has more than the members",
			c: janitorCase{
				Chain:  vbmap.Chain{"A", "B"},
				Copies: on("A", replica(40), "B", replica(40), "C", dead(60)),
			},
			want: "vb 7 is in conflict and left alone: A (replica, seqno 40, history 1@0) against C (dead, seqno 60, history 1@0)",
		},
		{
			name: "no active, and replicas that contradict each other",
			c: janitorCase{
				Chain:  vbmap.Chain{"A", "B", "C"},
				Copies: on("A", wiped, "B", replica(60), "C", copyOf(mcbp.VBucketReplica, 55, second)),
			},
			want: "vb 7 is in conflict and left alone: B (replica, seqno 60, history 1@0) against C (replica, seqno 55, history 2@50 1@0)",
		},
		{
			name: "no active, and a dead copy contradicts the map's choice",
			c: janitorCase{
				Chain:  vbmap.Chain{"A", "B"},
				Copies: on("A", replica(60), "B", copyOf(mcbp.VBucketDead, 55, second), "C", wiped),
			},
			want: "vb 7 is in conflict and left alone: A (replica, seqno 60, history 1@0) against B (dead, seqno 55, history 2@50 1@0)",
		},
		{
			name: "data only where no chain looks",
			c:    janitorCase{Chain: vbmap.Chain{"A", "B"}, Copies: on("A", wiped, "B", replica(0), "C", dead(100))},
			want: "vb 7 is left alone: its only data is on C, which no chain names",
		},
		{
			name: "a lost vbucket",
			c:    janitorCase{Chain: vbmap.Chain{"", ""}, Copies: on("A", wiped, "B", wiped, "C", wiped)},
			want: "vb 7 is lost: nobody is its active and no server has data of it",
		},
		{
			name: "branches differ and nobody has read the logs",
			c: janitorCase{Chain: vbmap.Chain{"A", "B"}, Copies: on(
				"A", janitorCopy{State: mcbp.VBucketActive, HighSeqno: 60, UUID: 1},
				"B", janitorCopy{State: mcbp.VBucketActive, HighSeqno: 55, UUID: 2}, "C", wiped)},
			want: "vb 7 is left alone: failover logs of A, B are needed",
		},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			test.c.VB, test.c.Servers = 7, []string{"A", "B", "C"}
			decision := decideVBucket(test.c)
			require.EqualError(t, decision.Hold, test.want)
			assert.Equal(t, janitorDecision{VB: 7, Hold: decision.Hold, Chain: test.c.Chain}, decision)
		})
	}
}

func TestJanitorDecisionDoesNotWaitForNodesThatWereFailedOver(t *testing.T) {
	c := janitorCase{
		VB: 7, Chain: vbmap.Chain{"A", "B"}, Servers: []string{"A", "B", "C"}, FailedOver: []string{"A"},
		Copies: on("B", replica(100), "C", wiped),
	}
	decision := decideVBucket(c)
	require.NoError(t, decision.Hold)
	assert.Equal(t, vbmap.Chain{"B", ""}, decision.Chain)
	assert.Equal(t, []copyAction{activate("B", "B", "")}, decision.Actions)

	c.Copies["A"] = active(200) // it answers after all, too late to count
	assert.Equal(t, decision, decideVBucket(c))
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
