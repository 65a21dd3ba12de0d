package schedule

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

// randomMoves draws a plan: chains of up to 4 members over up to 8 nodes, actives that are undefined included.
func randomMoves(t *rapid.T) []Move {
	nodes := rapid.IntRange(1, 8).Draw(t, "nodes")
	copies := rapid.IntRange(1, min(4, nodes)).Draw(t, "copies")
	vbuckets := rapid.IntRange(0, 40).Draw(t, "vbuckets")
	dice := rand.New(rand.NewPCG(rapid.Uint64().Draw(t, "seed"), 0))
	chain := func() []string {
		members := make([]string, copies)
		for i, n := range dice.Perm(nodes)[:copies] {
			members[i] = string(rune('A' + n))
		}
		return members
	}
	moves := make([]Move, vbuckets)
	for vb := range moves {
		moves[vb] = Move{VB: vb, Old: chain(), New: chain()}
		switch dice.IntN(10) {
		case 0:
			moves[vb].Old = make([]string, copies)
		case 1:
			moves[vb].New[copies-1] = ""
			moves[vb].New[0] = "A"
		case 2:
			moves[vb].New = slices.Clone(moves[vb].Old) // nothing moves
		case 3, 4: // replicas only
			moves[vb].Old[0], moves[vb].New[0] = "A", "A"
			for i, name := range moves[vb].New[1:] {
				if name == "A" {
					moves[vb].New[i+1] = ""
				}
			}
		}
	}
	return moves
}

func randomLimits(t *rapid.T) Limits {
	return Limits{
		BackfillsPerNode:   rapid.IntRange(0, 5).Draw(t, "backfills"),
		MovesPerNode:       rapid.IntRange(0, 5).Draw(t, "moves"),
		MovesPerCompaction: rapid.SampledFrom([]int{0, 0, 1, 3}).Draw(t, "compaction"),
	}
}

// The schedule and one that does what §5.2 and §5.3 say, word by word, start the same moves in the same order, whatever
// happens in between.
func TestScheduleIsTheRule(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		moves, limits := randomMoves(t), randomLimits(t)
		s, rule := New(moves, limits), newRule(moves, limits)
		var flying, backfilling, compacting []int
		take := func(from *[]int, label string) int {
			i := rapid.IntRange(0, len(*from)-1).Draw(t, label)
			vb := (*from)[i]
			*from = slices.Delete(*from, i, i+1)
			return vb
		}
		for {
			for _, name := range s.Compactions() {
				compacting = append(compacting, slices.Index(s.names, name))
				require.NotEmpty(t, limits.MovesPerCompaction)
			}
			started := s.Next()
			require.Equal(t, rule.next(s), vbuckets(started))
			for _, move := range started {
				flying = append(flying, move.VB)
				if active(move.Old) != "" {
					backfilling = append(backfilling, move.VB)
				}
			}
			checkLimits(t, s)
			require.Equal(t, s.left+len(flying), s.Remaining())
			if len(flying)+len(compacting) == 0 {
				break
			}
			// One or more things happen before the next round.
			for range rapid.IntRange(1, 3).Draw(t, "events") {
				switch {
				case len(compacting) > 0 && (len(flying) == 0 || rapid.Bool().Draw(t, "compacted")):
					s.CompactionDone(s.names[take(&compacting, "compaction")])
				case len(backfilling) > 0 && rapid.Bool().Draw(t, "filled"):
					vb := take(&backfilling, "backfill")
					s.BackfillDone(vb)
					rule.backfillDone(vb)
				case len(flying) > 0:
					vb := take(&flying, "move")
					backfilling = slices.DeleteFunc(backfilling, func(other int) bool { return other == vb })
					before := s.Progress()
					s.MoveDone(vb)
					rule.moveDone(vb)
					for name, share := range s.Progress() {
						require.GreaterOrEqual(t, share, before[name])
					}
				}
			}
		}
		require.True(t, s.Done(), "nothing is in flight, so all is done")
		require.Zero(t, s.Remaining())
		for number, n := range s.nodes {
			require.Zerof(t, n.waiting+n.backfills+n.moves+n.towards+n.handovers+n.remaining, "counters of %s: %+v", s.names[number], n)
		}
		for _, share := range s.Progress() {
			require.InDelta(t, 1, share, 0)
		}
	})
}

// Counted anew from what is in flight: no limit is exceeded, and the counters are right (history.md 16).
func checkLimits(t require.TestingT, s *Schedule) {
	backfills, moves, towards := make([]int, len(s.nodes)), make([]int, len(s.nodes)), make([]int, len(s.nodes))
	for _, move := range s.inFlight {
		if move.group == noGroup {
			continue
		}
		g := &s.groups[move.group]
		if move.backfilling {
			for _, number := range g.backfill {
				backfills[number]++
			}
		}
		for _, number := range g.ends() {
			moves[number]++
		}
		if g.handover() {
			towards[g.to]++
		}
	}
	for number, n := range s.nodes {
		require.LessOrEqual(t, backfills[number], s.limits.BackfillsPerNode)
		require.LessOrEqual(t, moves[number], s.limits.MovesPerNode)
		require.Equal(t, []int{backfills[number], moves[number], towards[number]}, []int{n.backfills, n.moves, n.towards})
		if n.compacting {
			require.Zero(t, moves[number])
		}
	}
}

// history.md 16: moves of some kinds were not counted, or twice, and limits were not kept.
func TestScheduleCountsEveryKindOfMove(t *testing.T) {
	kinds := [][2][]string{
		{{"", ""}, {"A", "B"}},             // nobody is active
		{{"", ""}, {"C", ""}},              // the same, with one copy
		{{"A", "B"}, {"A", "B"}},           // nothing changes
		{{"A", "B"}, {"A", "C"}},           // another replica
		{{"A", ""}, {"A", "C"}},            // a replica more
		{{"A", "B"}, {"A", ""}},            // a replica less
		{{"A", "B"}, {"B", "A"}},           // active and replica change places
		{{"A", "B"}, {"B", "C"}},           // the replica becomes active, another its replica
		{{"A", "B"}, {"C", "A"}},           // a new active, the old one its replica
		{{"A", "B"}, {"C", "D"}},           // both are new
		{{"A"}, {"B"}},                     // no replicas
		{{"A", "B", "C"}, {"A", "C", "B"}}, // another order
	}
	for seed := range uint64(20) {
		dice := rand.New(rand.NewPCG(seed, 0))
		var moves []Move
		for vb := range 10 * len(kinds) {
			kind := kinds[vb%len(kinds)]
			moves = append(moves, Move{VB: vb, Old: kind[0], New: kind[1]})
		}
		limits := Limits{BackfillsPerNode: 1 + dice.IntN(3), MovesPerNode: 1 + dice.IntN(3), MovesPerCompaction: dice.IntN(3)}
		s := New(moves, limits)
		require.Equal(t, 110, s.Remaining(), "what does not change does not move")
		var flying []int
		for !s.Done() {
			for _, node := range s.Compactions() {
				s.CompactionDone(node)
			}
			flying = append(flying, vbuckets(s.Next())...)
			checkLimits(t, s)
			if len(flying) == 0 {
				continue // only compactions were left
			}
			i := dice.IntN(len(flying))
			if dice.IntN(2) == 0 {
				s.BackfillDone(flying[i])
				continue
			}
			s.MoveDone(flying[i])
			flying = slices.Delete(flying, i, i+1)
		}
		require.Empty(t, flying)
		for number, n := range s.nodes {
			require.Zerof(t, n.waiting+n.backfills+n.moves+n.towards+n.handovers+n.remaining, "counters of %s: %+v", s.names[number], n)
		}
		for _, using := range s.links {
			require.Zero(t, using)
		}
	}
}

func TestMovesFromUndefinedStartFirstAndObeyNoLimit(t *testing.T) {
	moves := []Move{{VB: 9, Old: []string{"A", "B"}, New: []string{"B", "A"}}}
	for vb := range 5 {
		moves = append(moves, Move{VB: vb, Old: []string{"", ""}, New: []string{"A", "B"}})
	}
	s := New(moves, Limits{BackfillsPerNode: 1, MovesPerNode: 1})
	assert.Equal(t, []int{0, 1, 2, 3, 4, 9}, vbuckets(s.Next()))
	assert.Equal(t, map[string]float64{"A": 0, "B": 0}, s.Progress(), "they do not count")
	for vb := range 5 {
		s.BackfillDone(vb)
		s.MoveDone(vb)
	}
	assert.False(t, s.Done())
	assert.Equal(t, 1, s.Remaining())
	s.MoveDone(9)
	assert.True(t, s.Done())
}

func TestUnchangedChainsDoNotMove(t *testing.T) {
	s := New([]Move{{VB: 3, Old: []string{"A", ""}, New: []string{"A", ""}}, {VB: 4}}[:1], Limits{})
	assert.Empty(t, s.Next())
	assert.True(t, s.Done())
	assert.Empty(t, s.Progress())
}

// A replica that only receives has no progress of its own, but its backfill places count.
func TestReplicaReceiversAreLimitedToo(t *testing.T) {
	var moves []Move
	for vb := range 10 {
		name := fmt.Sprintf("n%d", vb)
		moves = append(moves, Move{VB: vb, Old: []string{name, "x"}, New: []string{name, "C"}})
	}
	s := New(moves, Limits{})
	assert.Len(t, s.Next(), defaultBackfills)
	assert.NotContains(t, s.Progress(), "C")
	assert.Contains(t, s.Progress(), "n3")
}

func TestBackfillSlotIsFreedOnce(t *testing.T) {
	moves := []Move{
		{VB: 1, Old: []string{"A"}, New: []string{"B"}},
		{VB: 2, Old: []string{"A"}, New: []string{"B"}},
		{VB: 3, Old: []string{"A"}, New: []string{"B"}},
	}
	s := New(moves, Limits{BackfillsPerNode: 1})
	require.Equal(t, []int{3}, vbuckets(s.Next()))
	s.BackfillDone(3)
	s.BackfillDone(3)
	require.Equal(t, []int{2}, vbuckets(s.Next()))
	s.MoveDone(3)
	require.Empty(t, s.Next())
}

func TestMovesPerNodeIsTheLimitOfWhatIsNotOver(t *testing.T) {
	moves := []Move{
		{VB: 1, Old: []string{"A"}, New: []string{"B"}},
		{VB: 2, Old: []string{"A"}, New: []string{"C"}},
	}
	s := New(moves, Limits{MovesPerNode: 1})
	require.Equal(t, []int{2}, vbuckets(s.Next()))
	s.BackfillDone(2)
	require.Empty(t, s.Next(), "A still has a move in flight")
	s.MoveDone(2)
	require.Equal(t, []int{1}, vbuckets(s.Next()))
}

func TestCheck(t *testing.T) {
	good := Move{VB: 1, Old: []string{"A"}, New: []string{"B"}}
	require.NoError(t, Check([]Move{good}))
	require.NoError(t, Check(nil))
	for want, moves := range map[string][]Move{
		"schedule: unusable moves: vb 1 twice":             {good, good},
		"schedule: unusable moves: vb -1":                  {{VB: -1, New: []string{"A"}}},
		"schedule: unusable moves: vb 2 has no new active": {{VB: 2, Old: []string{"A"}, New: []string{""}}},
	} {
		err := Check(moves)
		require.EqualError(t, err, want)
		require.ErrorIs(t, err, ErrMoves)
		assert.PanicsWithError(t, want, func() { New(moves, Limits{}) })
	}
}

func TestReportsAboutMovesThatAreNotInFlightPanic(t *testing.T) {
	s := New([]Move{{VB: 1, Old: []string{"A"}, New: []string{"B"}}}, Limits{})
	assert.Panics(t, func() { s.BackfillDone(1) })
	s.Next()
	s.MoveDone(1)
	assert.Panics(t, func() { s.MoveDone(1) })
	assert.Panics(t, func() { s.CompactionDone("A") })
}
