package schedule

import (
	"testing"

	"github.com/stretchr/testify/assert"
)

// exampleMoves is the six vbuckets of rebalance.md §5.6.
func exampleMoves() []Move {
	return []Move{
		{VB: 0, Old: []string{"A", "B"}, New: []string{"A", "B"}},
		{VB: 1, Old: []string{"A", "B"}, New: []string{"A", "C"}},
		{VB: 2, Old: []string{"A", "B"}, New: []string{"C", "B"}},
		{VB: 3, Old: []string{"B", "A"}, New: []string{"B", "A"}},
		{VB: 4, Old: []string{"B", "A"}, New: []string{"B", "C"}},
		{VB: 5, Old: []string{"B", "A"}, New: []string{"C", "A"}},
	}
}

func vbuckets(moves []Move) []int {
	numbers := []int{}
	for _, move := range moves {
		numbers = append(numbers, move.VB)
	}
	return numbers
}

// scores is the tuple of every group that is possible, by the vbucket that would start.
func scores(s *Schedule) map[int][6]int {
	tuples := map[int][6]int{}
	for index := range s.groups {
		if g := &s.groups[index]; len(g.vbuckets) > 0 && s.possible(g) {
			c := s.score(index)
			tuples[c.vb] = [6]int{c.bottleneck, c.connections, c.spread, c.idle, c.compaction, c.vb}
		}
	}
	return tuples
}

// rebalance.md §5.6, with the step that compacts nodes.
func TestWorkedExample(t *testing.T) {
	s := New(exampleMoves(), Limits{BackfillsPerNode: 2, MovesPerCompaction: 64})
	assert.Equal(t, 4, s.Remaining())
	assert.Equal(t, map[int][6]int{
		1: {4, 0, 0, 0, 0, 1},
		2: {4, 0, 1000, 0, 872, 2},
		4: {4, 0, 0, 0, 0, 4},
		5: {4, 0, 1000, 0, 872, 5},
	}, scores(s))

	// The second pick of the first round, seen from between the two.
	between := New(exampleMoves(), Limits{BackfillsPerNode: 2, MovesPerCompaction: 64})
	between.start(scoreGroup(between, 5))
	assert.Equal(t, map[int][6]int{
		1: {3, 0, 0, -1, 0, 1},
		2: {3, 0, 999, -1, 873, 2},
		4: {3, -1, 0, -2, 0, 4},
	}, scores(between))

	assert.Empty(t, s.Compactions())
	assert.Equal(t, []int{5, 2}, vbuckets(s.Next()))
	assert.Empty(t, s.Next())

	s.BackfillDone(2)
	assert.Equal(t, map[int][6]int{1: {2, 0, 0, -1, 0, 1}, 4: {2, -1, 0, -2, 0, 4}}, scores(s))
	assert.Empty(t, s.Compactions())
	assert.Equal(t, []int{1}, vbuckets(s.Next()))

	s.MoveDone(2)
	assert.Empty(t, s.Compactions())
	assert.Empty(t, s.Next())
	assert.InDeltaMapValues(t, map[string]float64{"A": 0.333, "B": 0, "C": 0.5}, s.Progress(), 0.001)

	s.BackfillDone(5)
	assert.Empty(t, s.Compactions())
	assert.Equal(t, []int{4}, vbuckets(s.Next()))

	s.MoveDone(5)
	assert.Equal(t, []string{"C"}, s.Compactions())
	assert.InDeltaMapValues(t, map[string]float64{"A": 0.333, "B": 0.333, "C": 1}, s.Progress(), 0.001)

	s.BackfillDone(1)
	assert.Empty(t, s.Next())
	s.MoveDone(1)
	assert.Equal(t, []string{"A"}, s.Compactions())
	assert.InDeltaMapValues(t, map[string]float64{"A": 1, "B": 0.333, "C": 1}, s.Progress(), 0.001)

	s.BackfillDone(4)
	s.MoveDone(4)
	assert.Equal(t, []string{"B"}, s.Compactions())
	assert.InDeltaMapValues(t, map[string]float64{"A": 1, "B": 1, "C": 1}, s.Progress(), 0.001)
	assert.Empty(t, s.Next())

	for _, node := range []string{"A", "B", "C"} {
		assert.False(t, s.Done())
		s.CompactionDone(node)
	}
	assert.True(t, s.Done())
}

func scoreGroup(s *Schedule, vb int) int {
	for index := range s.groups {
		if c := s.score(index); c.vb == vb {
			return index
		}
	}
	return noGroup
}

// The same as everybody runs it: no compactions, and the moves in the same order.
func TestWorkedExampleWithoutCompaction(t *testing.T) {
	s := New(exampleMoves(), Limits{BackfillsPerNode: 2})
	assert.Equal(t, []int{5, 2}, vbuckets(s.Next()))
	for _, step := range []struct {
		done   func(int)
		vb     int
		starts []int
	}{
		{s.BackfillDone, 2, []int{1}},
		{s.MoveDone, 2, []int{}},
		{s.BackfillDone, 5, []int{4}},
		{s.MoveDone, 5, []int{}},
		{s.MoveDone, 1, []int{}},
		{s.MoveDone, 4, []int{}},
	} {
		assert.False(t, s.Done())
		step.done(step.vb)
		assert.Equal(t, step.starts, vbuckets(s.Next()))
		assert.Empty(t, s.Compactions())
	}
	assert.True(t, s.Done())
	assert.Zero(t, s.Remaining())
}
