package schedule

import (
	"slices"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

// cancel takes a move out of the dumb schedule.
func (r *rule) cancel(vb int) bool {
	before := len(r.left) + len(r.lost)
	isIt := func(m Move) bool { return m.VB == vb }
	r.left, r.lost = slices.DeleteFunc(r.left, isIt), slices.DeleteFunc(r.lost, isIt)
	return len(r.left)+len(r.lost) < before
}

// With moves taken off the plan and limits that change on the way, the schedule still does what the rule says.
func TestScheduleIsTheRuleWhileThePlanChanges(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		moves, limits := randomMoves(t), randomLimits(t)
		limits.MovesPerCompaction = 0
		s, rule := New(moves, limits), newRule(moves, limits)
		var flying []int
		for {
			started := s.Next()
			require.Equal(t, rule.next(s), vbuckets(started))
			for _, move := range started {
				flying = append(flying, move.VB)
			}
			if len(flying) == 0 {
				break
			}
			before := s.Progress()
			for range rapid.IntRange(1, 3).Draw(t, "events") {
				switch rapid.IntRange(0, 3).Draw(t, "event") {
				case 0:
					vb := rapid.IntRange(0, 41).Draw(t, "cancelled")
					require.Equal(t, rule.cancel(vb), s.Cancel(vb))
					require.False(t, s.Cancel(vb), "twice")
				case 1:
					limits = randomLimits(t)
					limits.MovesPerCompaction = 0
					rule.limits = limits.withDefaults()
					s.SetLimits(limits)
				default:
					if len(flying) == 0 {
						continue
					}
					at := rapid.IntRange(0, len(flying)-1).Draw(t, "moved")
					vb := flying[at]
					if rapid.Bool().Draw(t, "backfill first") {
						s.BackfillDone(vb)
						rule.backfillDone(vb)
						continue
					}
					flying = slices.Delete(flying, at, at+1)
					s.MoveDone(vb)
					rule.moveDone(vb)
				}
			}
			for name, share := range s.Progress() {
				require.GreaterOrEqual(t, share, before[name])
			}
			require.Equal(t, s.left+len(flying), s.Remaining())
		}
		require.True(t, s.Done())
		for number, n := range s.nodes {
			require.Zerof(t, n.waiting+n.backfills+n.moves+n.towards+n.handovers+n.remaining, "counters of %s: %+v", s.names[number], n)
		}
	})
}

// Few at a time, the moves start in the same order as all at once.
func TestFewMovesAreTheFirstOfAll(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		moves, limits := randomMoves(t), randomLimits(t)
		limits.MovesPerCompaction = 0
		all, few := New(moves, limits), New(moves, limits)
		for !all.Done() {
			want := vbuckets(all.Next())
			got := []int{}
			for {
				most := rapid.IntRange(0, 3).Draw(t, "most")
				lost := len(few.lost)
				some := vbuckets(few.NextFew(most))
				require.LessOrEqual(t, len(some), most+lost)
				got = append(got, some...)
				if len(some) == 0 && most > 0 {
					break
				}
			}
			require.Equal(t, want, got)
			for _, vb := range want {
				if rapid.Bool().Draw(t, "done") || len(want) == 1 {
					all.MoveDone(vb)
					few.MoveDone(vb)
				}
			}
			for vb := range all.inFlight {
				all.MoveDone(vb)
				few.MoveDone(vb)
			}
		}
		require.True(t, few.Done())
	})
}

func TestWhatHasStartedIsNotCancelled(t *testing.T) {
	s := New([]Move{
		{VB: 1, Old: []string{"A"}, New: []string{"B"}},
		{VB: 2, Old: []string{"A"}, New: []string{"B"}},
	}, Limits{MovesPerNode: 1})
	require.Equal(t, []int{2}, vbuckets(s.Next()))
	assert.False(t, s.Cancel(2))
	assert.True(t, s.Cancel(1))
	assert.Equal(t, 1, s.Remaining())
	s.MoveDone(2)
	assert.True(t, s.Done())
}

// More moves than a new limit allows are in flight: they come to their end, and only then do others start.
func TestALowerLimitTakesNothingBack(t *testing.T) {
	var moves []Move
	for vb := range 6 {
		moves = append(moves, Move{VB: vb, Old: []string{"A"}, New: []string{"B"}})
	}
	s := New(moves, Limits{BackfillsPerNode: 3, MovesPerNode: 3})
	require.Equal(t, []int{5, 4, 3}, vbuckets(s.Next()))
	s.SetLimits(Limits{BackfillsPerNode: 1, MovesPerNode: 1})
	for _, vb := range []int{5, 4} {
		s.BackfillDone(vb)
		s.MoveDone(vb)
		require.Empty(t, s.Next())
	}
	s.BackfillDone(3)
	require.Empty(t, s.Next(), "a move is in flight still")
	s.MoveDone(3)
	require.Equal(t, []int{2}, vbuckets(s.Next()))
	s.SetLimits(Limits{BackfillsPerNode: 2, MovesPerNode: 2})
	require.Equal(t, []int{1}, vbuckets(s.Next()))
	assert.Panics(t, func() { s.SetLimits(Limits{MovesPerCompaction: 1}) })
}
