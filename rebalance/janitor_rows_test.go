package rebalance

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/shearpin/shearpin/dcp/kv"
	"github.com/shearpin/shearpin/dcp/mcbp"
	"github.com/shearpin/shearpin/rebalance/vbmap"
)

// What can be found of a vbucket, and what is decided (rebalance.md §8.3, with what design §6 has otherwise). The servers are
// A, B and C; who is not in a case has no copy.

// janitorRow is a case that leads to a repair.
type janitorRow struct {
	name        string
	chain, fast vbmap.Chain
	copies      map[string]janitorCopy
	wantChain   vbmap.Chain
	wantActions []copyAction
	wantStreams []vbmap.Stream
	wantAgain   bool
	wantKept    []string
}

func decideRows(t *testing.T, rows ...janitorRow) {
	t.Helper()
	for _, test := range rows {
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

// janitorHold is a case that is left alone.
type janitorHold struct {
	name string
	c    janitorCase
	want string
}

func holdRows(t *testing.T, rows ...janitorHold) {
	t.Helper()
	for _, test := range rows {
		t.Run(test.name, func(t *testing.T) {
			test.c.VB, test.c.Servers = 7, []string{"A", "B", "C"}
			decision := decideVBucket(test.c)
			require.EqualError(t, decision.Hold, test.want)
			assert.Equal(t, janitorDecision{VB: 7, Hold: decision.Hold, Chain: test.c.Chain}, decision)
		})
	}
}

// Differs: a chain without an active is no reason to leave data alone that turns up, and one without any data is told.
func TestJanitor_first_undefined(t *testing.T) {
	decideRows(t,
		janitorRow{
			name:  "a lost vbucket whose active turns up: it beats the map",
			chain: vbmap.Chain{"", ""}, copies: on("A", active(100), "B", wiped),
			wantChain: vbmap.Chain{"A", ""}, wantActions: []copyAction{activate("A", "A", "")},
		},
	)
	holdRows(t,
		janitorHold{
			name: "a lost vbucket",
			c:    janitorCase{Chain: vbmap.Chain{"", ""}, Copies: on("A", wiped, "B", wiped, "C", wiped)},
			want: "vb 7 is lost: nobody is its active and no server has data of it",
		},
	)
}

// Differs: position 0 becomes active if it has what the others have; who has more is promoted, and nothing empty is
// made active over data.
func TestJanitor_nobody_active(t *testing.T) {
	decideRows(t,
		janitorRow{
			name:  "a new bucket: no copies at all",
			chain: vbmap.Chain{"A", "B"}, copies: on("A", wiped, "B", wiped, "C", wiped),
			wantChain:   vbmap.Chain{"A", "B"},
			wantActions: []copyAction{activate("A", "A", "B"), set("B", mcbp.VBucketReplica)},
			wantStreams: []vbmap.Stream{{VB: 7, Producer: "A", Consumer: "B"}},
		},
		janitorRow{
			name:  "no node reports active: position 0 is activated",
			chain: vbmap.Chain{"A", "B"}, copies: on("A", dead(100), "B", replica(100), "C", wiped),
			wantChain:   vbmap.Chain{"A", "B"},
			wantActions: []copyAction{activate("A", "A", "B")},
			wantStreams: []vbmap.Stream{{VB: 7, Producer: "A", Consumer: "B"}},
		},
		janitorRow{
			name:        "no node reports active: position 0 is activated though a replica will have to roll back",
			chain:       vbmap.Chain{"A", "B"},
			copies:      on("A", copyOf(mcbp.VBucketDead, 70, second), "B", replica(60), "C", wiped),
			wantChain:   vbmap.Chain{"A", "B"},
			wantActions: []copyAction{activate("A", "A", "B")},
			wantStreams: []vbmap.Stream{{VB: 7, Producer: "A", Consumer: "B"}},
		},
		janitorRow{
			name:  "position 0 missing, a replica has the data: the replica is promoted, nothing empty is created",
			chain: vbmap.Chain{"A", "B", "C"}, copies: on("A", wiped, "B", replica(90), "C", replica(100)),
			wantChain:   vbmap.Chain{"C", "B", "A"},
			wantActions: []copyAction{set("A", mcbp.VBucketReplica), activate("C", "C", "B", "A")},
			wantStreams: []vbmap.Stream{{VB: 7, Producer: "C", Consumer: "B"}, {VB: 7, Producer: "C", Consumer: "A"}},
		},
		janitorRow{
			name:  "position 0 came back with less than a replica has: the replica is promoted",
			chain: vbmap.Chain{"A", "B"}, copies: on("A", dead(60), "B", replica(100)),
			wantChain:   vbmap.Chain{"B", "A"},
			wantActions: []copyAction{set("A", mcbp.VBucketReplica), activate("B", "B", "A")},
			wantStreams: []vbmap.Stream{{VB: 7, Producer: "B", Consumer: "A"}},
		},
	)
	holdRows(t,
		janitorHold{
			name: "no active, and a dead copy outside the chains has more than the members",
			c: janitorCase{
				Chain:  vbmap.Chain{"A", "B"},
				Copies: on("A", replica(40), "B", replica(40), "C", dead(60)),
			},
			want: "vb 7 is in conflict and left alone: A (replica, seqno 40, history 1@0) against C (dead, seqno 60, history 1@0)",
		},
		janitorHold{
			name: "no active, and replicas that contradict each other",
			c: janitorCase{
				Chain:  vbmap.Chain{"A", "B", "C"},
				Copies: on("A", wiped, "B", replica(60), "C", copyOf(mcbp.VBucketReplica, 55, second)),
			},
			want: "vb 7 is in conflict and left alone: B (replica, seqno 60, history 1@0) against C (replica, seqno 55, history 2@50 1@0)",
		},
		janitorHold{
			name: "no active, and a dead copy contradicts the map's choice",
			c: janitorCase{
				Chain:  vbmap.Chain{"A", "B"},
				Copies: on("A", replica(60), "B", copyOf(mcbp.VBucketDead, 55, second), "C", wiped),
			},
			want: "vb 7 is in conflict and left alone: A (replica, seqno 60, history 1@0) against B (dead, seqno 55, history 2@50 1@0)",
		},
		janitorHold{
			name: "data only where no chain looks",
			c:    janitorCase{Chain: vbmap.Chain{"A", "B"}, Copies: on("A", wiped, "B", replica(0), "C", dead(100))},
			want: "vb 7 is left alone: its only data is on C, which no chain names",
		},
	)
}

func TestJanitor_first_active(t *testing.T) {
	decideRows(t,
		janitorRow{
			name:  "as it shall be",
			chain: vbmap.Chain{"A", "B"}, copies: on("A", active(100, "A", "B"), "B", replica(90), "C", wiped),
			wantChain: vbmap.Chain{"A", "B"}, wantStreams: []vbmap.Stream{{VB: 7, Producer: "A", Consumer: "B"}},
		},
		janitorRow{
			name:  "exactly one active, position 0: unchanged",
			chain: vbmap.Chain{"A", "B"}, fast: vbmap.Chain{"C", "A"},
			copies:    on("A", active(100, "A", "B"), "B", replica(100), "C", replica(40)),
			wantChain: vbmap.Chain{"A", "B"}, wantActions: []copyAction{drop("C")},
			wantStreams: []vbmap.Stream{{VB: 7, Producer: "A", Consumer: "B"}},
		},
		janitorRow{
			name:  "a copy that nobody needs and that has writes of its own is kept",
			chain: vbmap.Chain{"A", "B"}, copies: on("A", active(100, "A", "B"), "B", replica(100), "C", copyOf(mcbp.VBucketReplica, 60, second)),
			wantChain: vbmap.Chain{"A", "B"}, wantStreams: []vbmap.Stream{{VB: 7, Producer: "A", Consumer: "B"}}, wantKept: []string{"C"},
		},
		janitorRow{
			name:  "an active that goes on while the nodes are asked is not behind its replica",
			chain: vbmap.Chain{"A", "B"}, copies: on("A", active(0, "A", "B"), "B", replica(5), "C", wiped),
			wantChain: vbmap.Chain{"A", "B"}, wantStreams: []vbmap.Stream{{VB: 7, Producer: "A", Consumer: "B"}},
		},
	)
	holdRows(t,
		janitorHold{
			name: "the only active lacks what a dead member has",
			c: janitorCase{
				Chain:  vbmap.Chain{"A", "B"},
				Copies: on("A", copyOf(mcbp.VBucketActive, 55, second), "B", dead(60), "C", wiped),
			},
			want: "vb 7 is in conflict and left alone: A (active, seqno 55, history 2@50 1@0) against B (dead, seqno 60, history 1@0)",
		},
		janitorHold{
			name: "the only active came up empty",
			c: janitorCase{
				Chain:  vbmap.Chain{"A", "B"},
				Copies: on("A", copyOf(mcbp.VBucketActive, 0, []kv.FailoverEntry{{UUID: 5}}), "B", replica(60), "C", wiped),
			},
			want: "vb 7 is in conflict and left alone: A (active, seqno 0, history 5@0) against B (replica, seqno 60, history 1@0)",
		},
	)
}

func TestJanitor_future_active(t *testing.T) {
	decideRows(t,
		janitorRow{
			name:  "exactly one active, first of the fast-forward chain, its replicas ready: fast-forward chain",
			chain: vbmap.Chain{"A", "B"}, fast: vbmap.Chain{"C", "B"},
			copies:      on("A", dead(100), "B", replica(100), "C", active(100)),
			wantChain:   vbmap.Chain{"C", "B"},
			wantActions: []copyAction{drop("A"), activate("C", "C", "B")},
			wantStreams: []vbmap.Stream{{VB: 7, Producer: "C", Consumer: "B"}},
		},
		janitorRow{
			name:  "exactly one active, first of the fast-forward chain, the old active dead: fast-forward chain",
			chain: vbmap.Chain{"A", "B"}, fast: vbmap.Chain{"C", "A"},
			copies:      on("A", dead(100), "B", replica(100), "C", active(110)),
			wantChain:   vbmap.Chain{"C", "A"},
			wantActions: []copyAction{set("A", mcbp.VBucketReplica), drop("B"), activate("C", "C", "A")},
			wantStreams: []vbmap.Stream{{VB: 7, Producer: "C", Consumer: "A"}},
		},
		janitorRow{
			name:  "exactly one active, first of the fast-forward chain, another replica dead: not the fast-forward chain",
			chain: vbmap.Chain{"A", "B"}, fast: vbmap.Chain{"C", "B"},
			copies:      on("A", dead(100), "B", dead(100), "C", active(100)),
			wantChain:   vbmap.Chain{"C", ""},
			wantActions: []copyAction{drop("A"), drop("B"), activate("C", "C", "")},
		},
		janitorRow{
			name:  "exactly one active, first of the fast-forward chain, a replica missing: derived from the chain in force",
			chain: vbmap.Chain{"A", "B", "C"}, fast: vbmap.Chain{"B", "D", "C"},
			copies:      on("A", dead(100), "B", active(100), "C", replica(90), "D", wiped),
			wantChain:   vbmap.Chain{"B", "C", ""},
			wantActions: []copyAction{drop("A"), activate("B", "B", "C", "")},
			wantStreams: []vbmap.Stream{{VB: 7, Producer: "B", Consumer: "C"}},
		},
	)
	holdRows(t,
		janitorHold{
			name: "the future active came up empty",
			c: janitorCase{
				Chain: vbmap.Chain{"A", "B"}, FastForward: vbmap.Chain{"C", "B"},
				Copies: on("A", wiped, "B", replica(60), "C", active(0)),
			},
			want: "vb 7 is in conflict and left alone: C (active, seqno 0, history 1@0) against B (replica, seqno 60, history 1@0)",
		},
	)
}

func TestJanitor_later_member_active(t *testing.T) {
	decideRows(t,
		janitorRow{
			name:  "exactly one active, elsewhere in the chain: it and what follows, padded",
			chain: vbmap.Chain{"A", "B", "C"}, copies: on("A", replica(80), "B", active(100), "C", replica(100)),
			wantChain:   vbmap.Chain{"B", "C", ""},
			wantActions: []copyAction{drop("A"), activate("B", "B", "C", "")},
			wantStreams: []vbmap.Stream{{VB: 7, Producer: "B", Consumer: "C"}},
		},
	)
	holdRows(t,
		janitorHold{
			name: "another member is active and lacks what position 0 has",
			c: janitorCase{
				Chain:  vbmap.Chain{"A", "B"},
				Copies: on("A", replica(60), "B", active(20), "C", wiped),
			},
			want: "vb 7 is in conflict and left alone: B (active, seqno 20, history 1@0) against A (replica, seqno 60, history 1@0)",
		},
	)
}

func TestJanitor_outsider_active(t *testing.T) {
	decideRows(t,
		janitorRow{
			name:  "exactly one active, not in the chain: it alone, padded",
			chain: vbmap.Chain{"A", "B"}, copies: on("A", dead(100), "B", wiped, "C", active(120)),
			wantChain:   vbmap.Chain{"C", ""},
			wantActions: []copyAction{drop("A"), activate("C", "C", "")},
		},
	)
	holdRows(t,
		janitorHold{
			name: "an active that nobody expected lacks what the chain has",
			c: janitorCase{
				Chain:  vbmap.Chain{"A", "B"},
				Copies: on("A", replica(60), "B", replica(60), "C", active(20)),
			},
			want: "vb 7 is in conflict and left alone: C (active, seqno 20, history 1@0) against A (replica, seqno 60, history 1@0)",
		},
		janitorHold{
			name: "an active that nobody expected lacks what a replica of the chain has",
			c: janitorCase{
				Chain:  vbmap.Chain{"A", "B"},
				Copies: on("A", wiped, "B", replica(60), "C", active(20)),
			},
			want: "vb 7 is in conflict and left alone: C (active, seqno 20, history 1@0) against B (replica, seqno 60, history 1@0)",
		},
	)
}

// Differs: kept is whose history contains the others, and the others only stop being active for now. If nobody's does,
// all are left alone.
func TestJanitor_several_with_first(t *testing.T) {
	decideRows(t,
		janitorRow{
			name:  "several active, position 0 has everything: the others stop being active, and are looked at again",
			chain: vbmap.Chain{"A", "B"}, copies: on("A", active(100, "A", "B"), "B", active(90), "C", wiped),
			wantChain: vbmap.Chain{"A", "B"}, wantActions: []copyAction{set("B", mcbp.VBucketDead)}, wantAgain: true,
		},
		janitorRow{
			name:  "several active, another has everything: position 0 stops being active, and is looked at again",
			chain: vbmap.Chain{"A", "B"}, copies: on("A", active(50), "B", copyOf(mcbp.VBucketActive, 60, second), "C", wiped),
			wantChain: vbmap.Chain{"A", "B"}, wantActions: []copyAction{set("A", mcbp.VBucketDead)}, wantAgain: true,
		},
	)
	holdRows(t,
		janitorHold{
			name: "several active that both went on",
			c: janitorCase{
				Chain:  vbmap.Chain{"A", "B"},
				Copies: on("A", active(60), "B", copyOf(mcbp.VBucketActive, 55, second), "C", wiped),
			},
			want: "vb 7 is in conflict and left alone: A (active, seqno 60, history 1@0) against B (active, seqno 55, history 2@50 1@0)",
		},
	)
}

// Differs: it is no error of the whole bucket; the same is decided as where position 0 is one of them.
func TestJanitor_several_without_first(t *testing.T) {
	decideRows(t,
		janitorRow{
			name:  "several active, none of them position 0: kept is whose history contains the others'",
			chain: vbmap.Chain{"A", "B"}, fast: vbmap.Chain{"C", "A"},
			copies:    on("A", dead(50), "B", active(50), "C", copyOf(mcbp.VBucketActive, 60, second)),
			wantChain: vbmap.Chain{"A", "B"}, wantActions: []copyAction{set("B", mcbp.VBucketDead)}, wantAgain: true,
		},
	)
}
