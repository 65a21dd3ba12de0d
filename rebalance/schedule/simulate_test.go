package schedule

import (
	"container/heap"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// A simulator in which only backfills and the rest of a move take time: it measures what the order of moves is worth
// and what finding it costs.

// event is the end of a backfill or of a move.
type event struct {
	at       int
	vb       int
	backfill bool
}

type events []event

func (e events) Len() int           { return len(e) }
func (e events) Less(i, k int) bool { return e[i].at < e[k].at }
func (e events) Swap(i, k int)      { e[i], e[k] = e[k], e[i] }
func (e *events) Push(x any)        { *e = append(*e, x.(event)) }
func (e *events) Pop() any {
	last := (*e)[len(*e)-1]
	*e = (*e)[:len(*e)-1]
	return last
}

// simulated is a run: when it ended, and the processor time that the schedule took.
type simulated struct {
	makespan int
	cost     time.Duration
}

const (
	backfillTicks = 80
	switchTicks   = 20
)

// simulate carries out moves; jitter, up to 1, makes backfills differ in length.
func simulate(t testing.TB, moves []Move, limits Limits, jitter float64) simulated {
	t.Helper()
	dice := rand.New(rand.NewPCG(1, 1))
	var result simulated
	began := time.Now()
	s := New(moves, limits)
	started := s.Next()
	result.cost += time.Since(began)
	queue := &events{}
	now := 0
	for {
		for _, move := range started {
			fill := int(backfillTicks * (1 - jitter*dice.Float64()))
			heap.Push(queue, event{at: now + fill, vb: move.VB, backfill: true})
			heap.Push(queue, event{at: now + fill + switchTicks, vb: move.VB})
		}
		if queue.Len() == 0 {
			break
		}
		e := heap.Pop(queue).(event)
		now = e.at
		began := time.Now()
		if e.backfill {
			s.BackfillDone(e.vb)
		} else {
			s.MoveDone(e.vb)
		}
		started = s.Next()
		result.cost += time.Since(began)
	}
	require.True(t, s.Done())
	result.makespan = now
	return result
}

// lowerBound is how long the busiest node needs for its backfills alone.
func lowerBound(moves []Move, limits Limits) int {
	load := map[string]int{}
	busiest := 0
	for _, move := range moves {
		if slices.Equal(move.Old, move.New) {
			continue
		}
		for _, name := range backfillNodes(move) {
			load[name]++
			busiest = max(busiest, load[name])
		}
	}
	slots := limits.withDefaults().BackfillsPerNode
	return (busiest+slots-1)/slots*backfillTicks + switchTicks
}

// shuffledMoves takes every vbucket from a random chain to another one.
func shuffledMoves(vbuckets, nodes, copies int) []Move {
	dice := rand.New(rand.NewPCG(uint64(vbuckets), uint64(nodes)))
	names := make([]string, nodes)
	for i := range names {
		names[i] = fmt.Sprintf("n%d", i)
	}
	chain := func() []string {
		var members []string
		for len(members) < copies {
			name := names[dice.IntN(nodes)]
			for _, member := range members {
				if member == name {
					name = ""
				}
			}
			if name != "" {
				members = append(members, name)
			}
		}
		return members
	}
	moves := make([]Move, vbuckets)
	for vb := range moves {
		moves[vb] = Move{VB: vb, Old: chain(), New: chain()}
	}
	return moves
}

// addedNode moves a share of the vbuckets to a node that is new.
func addedNode(vbuckets, nodes int) []Move {
	var moves []Move
	for vb := range vbuckets / (nodes + 1) {
		from, other := fmt.Sprintf("n%d", vb%nodes), fmt.Sprintf("n%d", (vb+1+vb/nodes)%nodes)
		if from == other {
			other = fmt.Sprintf("n%d", (vb+1)%nodes)
		}
		moves = append(moves,
			Move{VB: 2 * vb, Old: []string{from, other}, New: []string{"new", other}},
			Move{VB: 2*vb + 1, Old: []string{from, other}, New: []string{from, "new"}})
	}
	return moves
}

// The order is good: nobody could be much faster, for the busiest node is nearly always busy.
func TestMakespanIsNearTheLowerBound(t *testing.T) {
	for name, test := range map[string]struct {
		moves []Move
		most  float64 // × the lower bound
	}{
		"a node added to 3":      {addedNode(1024, 3), 1.1},
		"a node added to 10":     {addedNode(1024, 10), 1.1},
		"1024 over 4 nodes":      {shuffledMoves(1024, 4, 2), 1.1},
		"1024 over 20 nodes":     {shuffledMoves(1024, 20, 2), 1.1},
		"2048 over 50, 3 copies": {shuffledMoves(2048, 50, 3), 1.1},
	} {
		t.Run(name, func(t *testing.T) {
			bound := lowerBound(test.moves, Limits{})
			require.Positive(t, bound)
			makespan := simulate(t, test.moves, Limits{}, 0).makespan
			t.Logf("makespan %d, lower bound %d: %.2f ×", makespan, bound, float64(makespan)/float64(bound))
			require.GreaterOrEqual(t, makespan, bound)
			require.LessOrEqual(t, float64(makespan), test.most*float64(bound))
		})
	}
}

// BenchmarkSchedule prints what choosing costs for whole rebalances, and the makespan against the lower bound.
func BenchmarkSchedule(b *testing.B) {
	for _, size := range []struct{ vbuckets, nodes, copies int }{
		{1024, 10, 2},
		{8192, 10, 2},
		{65536, 10, 2},
		{65536, 10, 3},
		{65536, 30, 3},
		{65536, 100, 2},
		{65536, 100, 3},
		{65536, 300, 3},
		{65536, 1000, 3},
	} {
		for _, jitter := range []float64{0, 0.9} {
			moves := shuffledMoves(size.vbuckets, size.nodes, size.copies)
			b.Run(fmt.Sprintf("vbuckets=%d/nodes=%d/copies=%d/jitter=%v", size.vbuckets, size.nodes, size.copies, jitter), func(b *testing.B) {
				var result simulated
				for b.Loop() {
					result = simulate(b, moves, Limits{}, jitter)
				}
				b.ReportMetric(float64(result.cost.Milliseconds()), "ms/rebalance")
				b.ReportMetric(float64(result.makespan)/float64(lowerBound(moves, Limits{})), "×bound")
			})
		}
	}
}
