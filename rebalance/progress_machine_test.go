package rebalance

import (
	"errors"
	"fmt"
	"math"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/shearpin/shearpin/rebalance/vbmap"
)

// What was shown once is not taken back: a move that has done most and then fails leaves the fraction as it was.
func TestTheFractionDoesNotFallWithAMove(t *testing.T) {
	a := newAccount(time.Hour)
	a.listed(1, a.at)
	a.bucketBegan("orders", a.at)
	a.plannedMoves(plansOf(4), a.at)
	a.began(0, a.at)
	a.stepped(0, StepPersist, "", a.at)
	before := a.view(a.at).Fraction
	assert.InDelta(t, 0.2, before, 1e-9)
	a.ended(0, ErrStopped, a.at)
	assert.InDelta(t, before, a.view(a.at).Fraction, 1e-9)
	a.began(1, a.at)
	a.stepped(1, StepPersist, "", a.at)
	a.moverTold(1, nil, a.at)
	assert.InDelta(t, 0.45, a.view(a.at).Fraction, 1e-9)
}

// account is a machine with a time of its own.
type account struct {
	*progressMachine
	at time.Time
}

func newAccount(stuckAfter time.Duration) *account {
	at := time.Date(2026, 11, 27, 3, 0, 0, 0, time.UTC)
	return &account{newProgressMachine(stuckAfter, at), at}
}

// wait lets time pass as the rebalancer does, second by second.
func (a *account) wait(d time.Duration) (changes int) {
	for end := a.at.Add(d); a.at.Before(end); {
		a.at = a.at.Add(min(time.Second, end.Sub(a.at)))
		if a.tick(a.at) {
			changes++
		}
	}
	return changes
}

// plansOf is n moves of actives from n0 to n1, and every other one builds a replica on n2 too.
func plansOf(n int) []movePlan {
	plans := make([]movePlan, n)
	for vb := range plans {
		plans[vb], _ = planMove(uint16(vb), vbmap.Chain{"n0", "n1"}, vbmap.Chain{"n1", "n2"}[:1+vb%2])
	}
	return plans
}

// plausible checks what must hold of any progress.
func plausible(t require.TestingT, p Progress) {
	for name, number := range map[string]float64{
		"fraction": p.Fraction, "moves": p.Rate.Moves, "items": p.Rate.Items, "bytes": p.Rate.Bytes,
	} {
		require.False(t, math.IsNaN(number) || math.IsInf(number, 0) || number < 0, "%s is %v", name, number)
	}
	require.LessOrEqual(t, p.Fraction, 1.0)
	require.GreaterOrEqual(t, p.Remaining, time.Duration(0))
	require.LessOrEqual(t, p.MovesDone, p.MovesPlanned)
	require.LessOrEqual(t, p.BucketNumber, p.Buckets)
	amounts := []Amount{p.Items, p.Bytes}
	for _, move := range p.InFlight {
		amounts = append(amounts, move.Items)
	}
	for _, amount := range amounts {
		require.LessOrEqual(t, amount.Done, amount.Total, "left is never more than there is")
		require.LessOrEqual(t, amount.Left(), amount.Total)
		require.Contains(t, []Knowledge{Uncounted, PartlyCounted, Counted}, amount.Known)
		if amount.Known == Uncounted {
			require.Equal(t, Amount{Known: Uncounted}, amount)
		}
	}
}

// Whatever comes, in whatever order: progress stays between 0 and 1, never falls, and no number is none (history 29).
func TestProgressIsPlausibleWhateverComes(t *testing.T) {
	steps := []Step{StepReplica, StepStream, StepBackfill, StepPersist, StepTopology, StepTakeover, StepCommit, StepDelete}
	rapid.Check(t, func(t *rapid.T) {
		a := newAccount(time.Duration(rapid.IntRange(1, 100).Draw(t, "stuck after")) * time.Second)
		vb := func() uint16 { return uint16(rapid.IntRange(0, 4).Draw(t, "vb")) }
		items := func() uint64 { return rapid.Uint64Range(0, 1<<40).Draw(t, "items") }
		buckets := rapid.IntRange(0, 3).Draw(t, "buckets")
		node := rapid.SampledFrom([]string{"n0", "n1", "n2"})
		before, done, planned := 0.0, 0, 0
		check := func() {
			p := a.view(a.at)
			plausible(t, p)
			require.GreaterOrEqual(t, p.Fraction, before)
			before = p.Fraction
		}
		check()
		a.listed(buckets, a.at)
		t.Repeat(map[string]func(*rapid.T){
			"bucket": func(*rapid.T) {
				if a.number == buckets {
					return
				}
				a.bucketBegan("b", a.at)
				done, planned = 0, 0
			},
			"planned": func(*rapid.T) {
				if a.stage != StagePreparing {
					return
				}
				planned = rapid.IntRange(0, 5).Draw(t, "planned")
				a.plannedMoves(plansOf(planned), a.at)
			},
			"counted": func(*rapid.T) { a.counted([]copyNeed{{vb(), node.Draw(t, "node"), items()}}) },
			"began":   func(*rapid.T) { a.began(vb(), a.at) },
			"stepped": func(*rapid.T) { a.stepped(vb(), rapid.SampledFrom(steps).Draw(t, "step"), "", a.at) },
			"told":    func(*rapid.T) { v := vb(); a.told(v, "", []copyNeed{{v, node.Draw(t, "node"), items()}}, a.at) },
			"seqnos":  func(*rapid.T) { a.seqnos(map[uint16]seqnoAnswer{vb(): {High: items()}}, a.at) },
			"ended":   func(*rapid.T) { a.ended(vb(), rapid.SampledFrom([]error{nil, ErrStopped}).Draw(t, "err"), a.at) },
			"done": func(*rapid.T) {
				if done == planned {
					return
				}
				done++
				a.moverTold(done, nil, a.at)
			},
			"finishing": func(*rapid.T) {
				if a.stage == StageMoving {
					a.finishing(a.at)
				}
			},
			"pause": func(*rapid.T) { a.pause(rapid.Bool().Draw(t, "paused"), a.at) },
			"stop":  func(*rapid.T) { a.stop(a.at) },
			"bytes": func(*rapid.T) { a.carry(items()) },
			"wait":  func(*rapid.T) { a.wait(time.Duration(rapid.IntRange(1, 300_000).Draw(t, "ms")) * time.Millisecond) },
			"":      func(*rapid.T) { check() },
		})
		report := BucketReport{}
		a.account(&report, errors.New("broken"), a.at)
		require.LessOrEqual(t, len(report.VBuckets), planned)
	})
}

// estimated is a rebalance of equal moves, a few at a time, as a simulation; each takes length, and look sees what is
// estimated.
func (a *account) run(moves, atATime int, length time.Duration, look func(left time.Duration, p Progress)) {
	a.listed(1, a.at)
	a.bucketBegan("orders", a.at)
	a.plannedMoves(plansOf(moves), a.at)
	began := a.at
	total := length * time.Duration(moves/atATime)
	for first := 0; first < moves; first += atATime {
		for vb := first; vb < first+atATime; vb++ {
			a.began(uint16(vb), a.at)
		}
		for end := a.at.Add(length); a.at.Before(end); {
			a.wait(time.Second)
			look(total-a.at.Sub(began), a.view(a.at))
		}
		for vb := first; vb < first+atATime; vb++ {
			a.moverTold(vb+1, nil, a.at)
			a.ended(uint16(vb), nil, a.at)
		}
	}
}

// The estimate is near the truth as soon as there is one, and there is one before a tenth is done.
func TestTheEstimateIsHonest(t *testing.T) {
	for _, length := range []time.Duration{time.Second, 7 * time.Second, 40 * time.Second} {
		first := time.Duration(0)
		a := newAccount(time.Hour)
		all := length * 100
		a.run(400, 4, length, func(left time.Duration, p Progress) {
			if !p.RemainingKnown {
				assert.Zero(t, p.Remaining)
				return
			}
			if first == 0 {
				first = all - left
			}
			// Between two ends of moves nothing is heard, so it can be wrong by the length of one in the time that is looked back on.
			off := (p.Remaining - left).Abs()
			assert.LessOrEqual(t, off, left*2/5+3*length, "%v are left, %v are estimated", left, p.Remaining)
		})
		assert.NotZero(t, first)
		assert.LessOrEqual(t, first, max(all/10, 2*length))
	}
}

// What is not known is said to be unknown: at first, with a bucket that is not planned, while nothing advances, in a pause.
func TestTheEstimateIsUnknownWhenItIs(t *testing.T) {
	unknown := func(a *account) {
		t.Helper()
		p := a.view(a.at)
		assert.False(t, p.RemainingKnown)
		assert.Zero(t, p.Remaining)
	}
	begin := func(buckets int) *account {
		a := newAccount(time.Hour)
		unknown(a)
		a.listed(buckets, a.at)
		a.bucketBegan("orders", a.at)
		a.wait(time.Minute)
		unknown(a)
		a.plannedMoves(plansOf(100), a.at)
		unknown(a)
		a.began(0, a.at)
		a.wait(30 * time.Second)
		unknown(a)
		a.moverTold(1, nil, a.at)
		a.ended(0, nil, a.at)
		a.wait(time.Second)
		return a
	}
	a := begin(1)
	p := a.view(a.at)
	assert.True(t, p.RemainingKnown)
	assert.InDelta(t, 99*30-1, p.Remaining.Seconds(), 1)
	assert.InDelta(t, 1.0/31, p.Rate.Moves, 0.001)
	a.wait(rateWindow + 10*time.Second)
	unknown(a)
	assert.Zero(t, a.view(a.at).Rate)

	a = begin(1)
	a.pause(true, a.at)
	a.wait(time.Minute)
	unknown(a)
	a = begin(1)
	a.stop(a.at)
	unknown(a)
	unknown(begin(2))

	a = begin(1)
	a.finishing(a.at)
	p = a.view(a.at)
	assert.True(t, p.RemainingKnown)
	assert.Zero(t, p.Remaining)
}

// The slower of moves and items decides: many small vbuckets are done, and a large one is left.
func TestTheSlowerOfMovesAndItemsDecides(t *testing.T) {
	a := newAccount(time.Hour)
	a.listed(1, a.at)
	a.bucketBegan("orders", a.at)
	plans := plansOf(11)
	a.plannedMoves(plans, a.at)
	for _, plan := range plans {
		for _, node := range plan.Build {
			need := copyNeed{plan.VB, node, 10}
			if plan.VB == 10 {
				need.Items = 10_000
			}
			a.counted([]copyNeed{need})
		}
	}
	for vb := range uint16(10) {
		a.began(vb, a.at)
		a.wait(time.Second)
		a.moverTold(int(vb)+1, nil, a.at)
		a.ended(vb, nil, a.at)
	}
	p := a.view(a.at)
	require.True(t, p.RemainingKnown)
	assert.Greater(t, p.Remaining, 5*time.Minute, "10 000 items are left, of which 10 to 20 came in a second")
	assert.Equal(t, Amount{150, 10_150, Counted}, p.Items)
}

// Items are a tri-state: unknown is unknown, and what is known of some only is a lower bound.
func TestItemsAreATriState(t *testing.T) {
	a := newAccount(time.Hour)
	a.listed(1, a.at)
	a.bucketBegan("orders", a.at)
	a.plannedMoves(plansOf(4), a.at) // six copies: 1, 1 2, 1, 1 2
	items := func() Amount { return a.view(a.at).Items }
	assert.Equal(t, Amount{Known: Uncounted}, items())
	a.counted([]copyNeed{{0, "n1", 100}, {1, "n1", 50}})
	assert.Equal(t, Amount{0, 150, PartlyCounted}, items())
	a.counted([]copyNeed{{1, "n2", 60}, {2, "n1", 0}, {3, "n1", 7}, {3, "n2", 3}, {9, "n1", 1}, {0, "n2", 1}})
	assert.Equal(t, Amount{0, 220, Counted}, items())

	a.began(0, a.at)
	a.stepped(0, StepBackfill, "", a.at)
	a.told(0, "", []copyNeed{{0, "n1", 40}}, a.at)
	assert.Equal(t, Amount{60, 220, Counted}, items())
	a.told(0, "", []copyNeed{{0, "n1", 90}}, a.at)
	assert.Equal(t, Amount{60, 220, Counted}, items(), "writes come; what is there does not go away")
	a.told(0, "", []copyNeed{{0, "n1", 120}}, a.at)
	assert.Equal(t, Amount{60, 240, Counted}, items())
	a.stepped(0, StepPersist, "", a.at)
	assert.Equal(t, Amount{120, 240, Counted}, items())
	a.told(0, "", []copyNeed{{0, "n1", 500}}, a.at)
	assert.Equal(t, Amount{120, 240, Counted}, items(), "late news")
	a.ended(0, nil, a.at)
	a.counted([]copyNeed{{0, "n1", 130}})
	assert.Equal(t, Amount{130, 250, Counted}, items(), "a count that comes late is of what is done")

	a.bucketBegan("more", a.at)
	assert.Equal(t, Amount{130, 250, Counted}, items())
	a.plannedMoves(plansOf(1), a.at)
	assert.Equal(t, Amount{130, 250, PartlyCounted}, items())
}

// What copies lack is the active's documents without those that they have.
func TestWhatCopiesNeed(t *testing.T) {
	plans := plansOf(2)
	copies := func(items ...uint64) queryAnswer {
		a := queryAnswer{Copies: map[uint16]copyInfo{}}
		for vb, n := range items {
			a.Copies[uint16(vb)] = copyInfo{Items: n}
		}
		return a
	}
	answers := map[string]queryAnswer{"n0": copies(100, 200), "n1": copies(30, 250), "n2": {}}
	assert.Equal(t, []copyNeed{{0, "n1", 70}, {1, "n1", 0}, {1, "n2", 200}}, copyNeeds(plans, answers))
	delete(answers, "n2")
	assert.Equal(t, []copyNeed{{0, "n1", 70}, {1, "n1", 0}}, copyNeeds(plans, answers), "it did not answer")
	delete(answers, "n0")
	assert.Empty(t, copyNeeds(plans, answers))
}

// A rebalance is stuck when nothing has advanced for the threshold, and until something does (history 30).
func TestHistory_30(t *testing.T) {
	const threshold = 30 * time.Minute
	begin := func() *account {
		a := newAccount(threshold)
		a.listed(1, a.at)
		a.bucketBegan("orders", a.at)
		a.plannedMoves(plansOf(4), a.at)
		for vb := range uint16(2) {
			a.began(vb, a.at)
			a.stepped(vb, StepBackfill, fmt.Sprintf("n1: backfill of %d", vb), a.at)
		}
		return a
	}
	for what, advance := range map[string]func(a *account){
		"a move begins":         func(a *account) { a.began(2, a.at) },
		"a move ends":           func(a *account) { a.ended(1, nil, a.at) },
		"a move's next step":    func(a *account) { a.stepped(0, StepPersist, "", a.at) },
		"a copy is less behind": func(a *account) { a.seqnos(map[uint16]seqnoAnswer{1: {High: 8}}, a.at) },
		"a disk goes on":        func(a *account) { a.seqnos(map[uint16]seqnoAnswer{1: {High: 7, Persisted: 3}}, a.at) },
		"less is left":          func(a *account) { a.told(0, "", []copyNeed{{0, "n1", 4}}, a.at) },
	} {
		t.Run(what, func(t *testing.T) {
			a := begin()
			a.told(0, "n1: backfill of 0", []copyNeed{{0, "n1", 5}}, a.at)
			a.seqnos(map[uint16]seqnoAnswer{1: {High: 7}}, a.at)
			last := a.at
			assert.Zero(t, a.wait(threshold-time.Second))
			assert.Nil(t, a.view(a.at).Stuck)
			assert.Equal(t, 1, a.wait(time.Second))
			for range 3 { // it stays, also when nodes answer what they answered before
				stuck := a.view(a.at).Stuck
				require.NotNil(t, stuck)
				assert.Equal(t, last, stuck.Since)
				require.Len(t, stuck.Moves, 2)
				assert.Equal(t, "vb 0 n0→n1 at backfill: n1: backfill of 0; vb 1 n0→n1 at backfill: n1: backfill of 1", stuck.String())
				a.seqnos(map[uint16]seqnoAnswer{1: {High: 7}, 3: {High: 9}}, a.at)
				a.told(0, "n1: backfill of 0", []copyNeed{{0, "n1", 5}}, a.at)
				a.told(0, "n1: backfill of 0", []copyNeed{{0, "n1", 50}}, a.at)
				a.told(0, "n1: backfill of 0", []copyNeed{{0, "n1", 5}}, a.at)
				assert.Zero(t, a.wait(threshold))
			}
			advance(a)
			assert.Equal(t, 1, a.wait(time.Second))
			assert.Nil(t, a.view(a.at).Stuck)
			assert.Equal(t, 1, a.wait(threshold))
		})
	}
	t.Run("a copy that begins anew", func(t *testing.T) {
		a := begin()
		a.seqnos(map[uint16]seqnoAnswer{1: {High: 7}}, a.at)
		a.wait(threshold - time.Second)
		a.seqnos(map[uint16]seqnoAnswer{1: {High: 2}}, a.at)
		assert.Equal(t, 1, a.wait(time.Second), "it has only lost something")
		a.seqnos(map[uint16]seqnoAnswer{1: {High: 3}}, a.at)
		assert.Equal(t, 1, a.wait(time.Second))
	})
	t.Run("a pause", func(t *testing.T) {
		a := begin()
		a.pause(true, a.at)
		assert.Zero(t, a.wait(2*threshold))
		a.pause(false, a.at)
		assert.Zero(t, a.wait(threshold-time.Second))
		assert.Equal(t, 1, a.wait(time.Second))
	})
	t.Run("without moves", func(t *testing.T) {
		a := newAccount(threshold)
		a.listed(1, a.at)
		a.bucketBegan("orders", a.at)
		assert.Equal(t, 1, a.wait(threshold))
		assert.Equal(t, `preparing "orders"`, a.view(a.at).Stuck.String())
	})
}

// A report has of each move what is known of it.
func TestTheAccountOfABucket(t *testing.T) {
	a := newAccount(time.Hour)
	a.listed(1, a.at)
	a.bucketBegan("orders", a.at)
	a.plannedMoves(plansOf(7), a.at)
	for vb := range uint16(6) {
		a.began(vb, a.at)
		a.stepped(vb, StepReplica, "", a.at)
	}
	a.wait(2 * time.Second)
	a.stepped(0, StepBackfill, "", a.at)
	a.counted([]copyNeed{{0, "n1", 9}})
	a.wait(3 * time.Second)
	a.ended(0, nil, a.at)
	a.ended(1, &MoveError{VB: 1, Err: ErrStopped}, a.at)
	cause := &MoveError{VB: 2, From: "n0", To: "n1", Step: StepReplica, Err: errors.New("broken")}
	a.ended(2, cause, a.at)
	a.ended(5, &MoveError{VB: 5, Err: ErrMoveAborted}, a.at)
	a.wait(4 * time.Second)

	var b BucketReport
	a.account(&b, cause, a.at)
	require.Len(t, b.VBuckets, 6, "one has not begun")
	var outcomes []MoveOutcome
	for i, v := range b.VBuckets {
		assert.Equal(t, uint16(i), v.VB)
		outcomes = append(outcomes, v.Outcome)
	}
	assert.Equal(t, []MoveOutcome{MoveDone, MoveStopped, MoveFailed, MoveUnfinished, MoveUnfinished, MoveAborted}, outcomes)
	done := b.VBuckets[0]
	assert.Equal(t, vbmap.Chain{"n0", "n1"}, done.Before)
	assert.Equal(t, vbmap.Chain{"n1"}, done.After)
	assert.InDelta(t, 5, float64(done.Took), 1e-9)
	assert.Equal(t, []Seconds{2, 3}, []Seconds{done.Steps[0].Took, done.Steps[1].Took})
	assert.Equal(t, []CopyReport{{"n1", Amount{9, 9, Counted}}}, done.Copies)
	assert.Equal(t, []string{"move of vb 2 n0→n1", "broken"}, b.VBuckets[2].Cause)
	assert.Zero(t, b.VBuckets[3].Ended)
	assert.InDelta(t, 9, float64(b.VBuckets[3].Steps[0].Took), 1e-9, "up to the end")
	assert.Equal(t, StepSummary{Count: 6, Total: 35, Average: 35.0 / 6, Longest: 9}, b.Steps[StepReplica])
	assert.Equal(t, StepSummary{Count: 1, Total: 3, Average: 3, Longest: 3}, b.Steps[StepBackfill])
	assert.Equal(t, StepSummary{Count: 1, Total: 5, Average: 5, Longest: 5}, b.Move)
}

// Of very many moves a report lists what went wrong and what was slow.
func TestTheAccountOfALargeBucketIsBounded(t *testing.T) {
	a := newAccount(time.Hour)
	a.listed(1, a.at)
	a.bucketBegan("orders", a.at)
	const moves = detailedVBuckets + 100
	a.plannedMoves(plansOf(moves), a.at)
	for vb := range uint16(moves) {
		a.began(vb, a.at)
	}
	for vb := range uint16(moves - 1) {
		a.at = a.at.Add(time.Millisecond)
		a.ended(vb, nil, a.at)
	}
	var b BucketReport
	a.account(&b, nil, a.at)
	require.Len(t, b.VBuckets, detailedVBuckets)
	assert.Equal(t, 100, b.Omitted)
	assert.Equal(t, moves-1, b.Move.Count)
	assert.Equal(t, uint16(100), b.VBuckets[0].VB, "the quickest are left out")
	assert.Equal(t, MoveUnfinished, b.VBuckets[detailedVBuckets-1].Outcome)
}
