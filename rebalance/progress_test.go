package rebalance

import (
	"context"
	"fmt"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/shearpin/shearpin/rebalance/store"
)

// Whatever a node leaves unanswered: who asks how far the rebalance is gets an answer at once, and the progress that is seen
// never falls (history 29).
func TestHistory_29(t *testing.T) {
	everyPoint(t, func(t *testing.T, i *interrupted, at int) {
		silent := ""
		reached := make(chan struct{})
		i.world.setGate(func(ctx context.Context, op fakeOp) error {
			i.world.mu.Lock()
			if op.Number == at {
				silent = op.Node
				close(reached)
			}
			answers := op.Number < at || op.Node != silent
			i.world.mu.Unlock()
			if answers {
				return nil
			}
			<-ctx.Done()
			return context.Cause(ctx)
		})
		run := i.start()
		var seen []Progress
		watched := make(chan struct{})
		go func() {
			defer close(watched)
			for p := range run.Progress() {
				seen = append(seen, p)
			}
		}()
		select {
		case <-reached:
		case <-watched: // it may take fewer operations this time
		}
		for range 3 {
			asked := time.Now()
			status, err := i.cluster.Status(t.Context())
			require.NoError(t, err)
			state, err := i.cluster.State(t.Context())
			require.NoError(t, err)
			require.Zero(t, time.Since(asked), "at once")
			if current := i.cluster.CurrentRun(); current != nil {
				require.Equal(t, run, current)
				require.Equal(t, run.ID(), status.Run)
				require.NotEqual(t, Idle, state)
				plausible(t, *status.Progress)
			}
			require.Len(t, status.Buckets, 1)
			require.NoError(t, after(t.Context(), 20*time.Second))
		}
		require.NoError(t, run.Stop(t.Context()))
		<-watched
		require.NotEmpty(t, seen)
		for n, p := range seen {
			plausible(t, p)
			require.GreaterOrEqual(t, p.Fraction, seen[max(n-1, 0)].Fraction)
			require.GreaterOrEqual(t, p.MovesDone, seen[max(n-1, 0)].MovesDone)
		}
		last := seen[len(seen)-1]
		require.Equal(t, Idle, last.State)
		require.Empty(t, last.InFlight)
		i.repaired()
	})
}

// What is under way is shown with its step and what it waits for.
func TestProgressShowsWhatIsUnderWay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		i := newInterrupted(t, 8)
		defer i.close()
		i.world.setGate(func(ctx context.Context, op fakeOp) error {
			if op.What != "takeover" || op.VB != 5 {
				return nil
			}
			return after(ctx, 30*time.Second)
		})
		run := i.start()
		began := time.Now()
		require.NoError(t, after(t.Context(), 10*time.Second))
		status, err := i.cluster.Status(t.Context())
		require.NoError(t, err)
		p := status.Progress
		require.Len(t, p.InFlight, 1)
		move := p.InFlight[0]
		assert.Equal(t, uint16(5), move.VB)
		assert.Equal(t, "orders", move.Bucket)
		assert.Equal(t, StepTakeover, move.Step)
		assert.Equal(t, fmt.Sprintf("%s: takeover from %s", move.To, move.From), move.WaitingFor)
		assert.WithinDuration(t, began, move.Since, 5*time.Second)
		assert.Equal(t, Rebalancing, p.State)
		assert.Equal(t, StageMoving, p.Stage)
		assert.Equal(t, p.MovesPlanned-1, p.MovesDone)
		assert.Equal(t, 1, p.BucketNumber)
		assert.Nil(t, p.Stuck)
		report, err := run.Wait(t.Context())
		require.NoError(t, err)
		require.NoError(t, report.Err)
	})
}

// A rebalance in which nothing advances is told, with the vbuckets and the steps that they wait in, once; and again when it
// goes on.
func TestARebalanceThatIsStuckIsTold(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		i := &interrupted{t: t, world: newFakeWorld(4), store: store.NewMemory()}
		i.limits.Stuck = 3 * time.Minute
		i.limits.Move = MoveLimits{Stream: time.Hour}
		i.open(3)
		defer i.close()
		require.NoError(t, i.cluster.CreateBucket(t.Context(), BucketConfig{Name: "orders", VBuckets: 3, Replicas: 1}))
		i.addNode()
		news := i.cluster.Events().Subscribe(1000)
		defer news.Close()
		i.world.setGate(func(ctx context.Context, op fakeOp) error {
			if op.What == "open" {
				return after(ctx, 10*time.Minute)
			}
			return nil
		})
		began := time.Now()
		report, err := i.start().Wait(t.Context())
		require.NoError(t, err)
		require.NoError(t, report.Err)
		var stuck []RebalanceStuck
		var unstuck []RebalanceUnstuck
		for len(news.C()) > 0 {
			switch e := (<-news.C()).(type) {
			case RebalanceStuck:
				stuck = append(stuck, e)
			case RebalanceUnstuck:
				unstuck = append(unstuck, e)
			}
		}
		require.NotEmpty(t, stuck)
		require.NotEmpty(t, unstuck)
		first := stuck[0]
		assert.Equal(t, report.ID, first.ID)
		assert.WithinDuration(t, began.Add(3*time.Minute), first.At, 2*time.Second)
		require.NotEmpty(t, first.Stuck.Moves)
		for _, move := range first.Stuck.Moves {
			assert.Equal(t, StepStream, move.Step)
			assert.Contains(t, first.Stuck.String(), fmt.Sprintf("vb %d %s→%s at stream: ", move.VB, move.From, move.To))
		}
		assert.WithinDuration(t, began.Add(10*time.Minute), unstuck[0].At, 2*time.Second)
	})
}

// A copy that gets further keeps a rebalance from being stuck, however long its step takes.
func TestACopyThatGetsFurtherIsAnAdvance(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		i := &interrupted{t: t, world: newFakeWorld(4), store: store.NewMemory()}
		i.limits.Stuck = 3 * time.Minute
		i.limits.Move = MoveLimits{Stream: time.Hour}
		i.open(3)
		defer i.close()
		require.NoError(t, i.cluster.CreateBucket(t.Context(), BucketConfig{Name: "orders", VBuckets: 3, Replicas: 1}))
		i.addNode()
		news := i.cluster.Events().Subscribe(1000)
		defer news.Close()
		i.world.setGate(func(ctx context.Context, op fakeOp) error {
			if op.What != "open" {
				return nil
			}
			for range 20 {
				if err := after(ctx, 30*time.Second); err != nil {
					return err
				}
				i.world.write(1) // also to the replicas that are being built
			}
			return nil
		})
		report, err := i.start().Wait(t.Context())
		require.NoError(t, err)
		require.NoError(t, report.Err)
		for len(news.C()) > 0 {
			_, stuck := (<-news.C()).(RebalanceStuck)
			assert.False(t, stuck)
		}
	})
}

// The report says what became of each vbucket, and who took part.
func TestTheReportOfARebalance(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		i := newInterrupted(t, 8)
		defer i.close()
		before, err := i.cluster.Map(t.Context(), "orders")
		require.NoError(t, err)
		i.world.setGate(func(ctx context.Context, op fakeOp) error { return after(ctx, 10*time.Millisecond) })
		report, err := i.start().Wait(t.Context())
		require.NoError(t, err)
		require.NoError(t, report.Err)
		now, err := i.cluster.Map(t.Context(), "orders")
		require.NoError(t, err)

		assert.Equal(t, SwapRebalance, report.Type)
		assert.Equal(t, []string{"n3"}, report.NodesAdded)
		assert.Equal(t, []string{"n0"}, report.NodesRemoved)
		assert.Equal(t, ReportNodes{
			Active: []string{"n0", "n1", "n2"}, Keep: []string{"n1", "n2", "n3"}, Eject: []string{"n0"}, Failed: []string{}, Delta: []string{},
		}, report.Nodes)
		assert.Contains(t, report.Message, fmt.Sprintf("Rebalance completed: %d of %d moves in ", report.Moves, report.MovesPlanned))
		assert.InDelta(t, 1, report.Fraction, 0)
		assert.InDelta(t, float64(took(report.Started, report.Ended)), float64(report.Took), 1e-9)
		require.Len(t, report.Buckets, 1)
		b := report.Buckets[0]
		require.Len(t, b.VBuckets, b.MovesPlanned)
		assert.Equal(t, b.Moves, b.Move.Count)
		for _, v := range b.VBuckets {
			assert.Equal(t, MoveDone, v.Outcome)
			assert.Equal(t, before[v.VB], v.Before)
			assert.Equal(t, now[v.VB], v.After)
			assert.Empty(t, v.Cause)
			assert.Positive(t, v.Took)
			var sum Seconds
			for n, s := range v.Steps {
				if n > 0 {
					assert.WithinDuration(t, v.Steps[n-1].Started.Add(v.Steps[n-1].Took.Duration()), s.Started, time.Microsecond)
				}
				sum += s.Took
			}
			assert.InDelta(t, float64(v.Took), float64(sum), 1e-6)
			assert.Equal(t, StepDelete == v.Steps[len(v.Steps)-1].Step, slices.Contains(v.Before, "n0") || len(without(v.Before, v.After...)) > 0)
		}
		assert.Equal(t, b.Moves, b.Steps[StepCommit].Count)
		summary := b.Steps[StepBackfill]
		assert.InDelta(t, float64(summary.Total)/float64(summary.Count), float64(summary.Average), 1e-9)
		assert.GreaterOrEqual(t, summary.Longest, summary.Average)

		reports, err := i.cluster.Reports(t.Context())
		require.NoError(t, err)
		assert.Equal(t, *report, reports[0])
		brief := reports[0].brief()
		assert.Empty(t, brief.Buckets[0].VBuckets)
		assert.Equal(t, len(b.VBuckets), brief.Buckets[0].Omitted)
		assert.NotEmpty(t, reports[0].Buckets[0].VBuckets, "the brief one is a copy")
	})
}

// A report of a failure names the move that failed, and what became of the others.
func TestTheReportOfAFailure(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		i := newInterrupted(t, 8)
		defer i.close()
		var held, broken []uint16
		i.world.setGate(func(ctx context.Context, op fakeOp) error {
			if op.What != "takeover" {
				return nil
			}
			i.world.mu.Lock()
			first, second := len(held) == 0, len(broken) == 0
			if first {
				held = append(held, op.VB)
			} else if second {
				broken = append(broken, op.VB)
			}
			i.world.mu.Unlock()
			if first {
				return after(ctx, time.Minute)
			}
			if second {
				_ = after(ctx, time.Second)
				return errInjected
			}
			return nil
		})
		report, err := i.start().Wait(t.Context())
		require.NoError(t, err)
		require.Equal(t, Failed, report.Outcome)
		assert.Contains(t, report.Message, "Rebalance failed after ")
		assert.Contains(t, report.Message, fmt.Sprintf("move of vb %d", broken[0]))
		outcomes := map[MoveOutcome][]uint16{}
		for _, v := range report.Buckets[0].VBuckets {
			outcomes[v.Outcome] = append(outcomes[v.Outcome], v.VB)
			if v.VB == broken[0] {
				assert.Equal(t, report.Cause[1:], v.Cause)
				assert.Equal(t, StepTakeover, v.Steps[len(v.Steps)-1].Step)
			}
		}
		assert.Equal(t, broken, outcomes[MoveFailed])
		assert.Equal(t, held, outcomes[MoveUnfinished])
		assert.Len(t, outcomes[MoveDone], report.Moves)
	})
}

// The documents are counted before they are copied.
func TestProgressCountsDocuments(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		i := newInterrupted(t, 8)
		defer i.close()
		i.world.setGate(func(ctx context.Context, op fakeOp) error {
			if op.What == "open" {
				return after(ctx, time.Minute)
			}
			return nil
		})
		run := i.start()
		require.NoError(t, after(t.Context(), 2*time.Second))
		items := run.board.look().progress.Items
		assert.Equal(t, Counted, items.Known)
		assert.Positive(t, items.Total)
		assert.Zero(t, items.Done)
		report, err := run.Wait(t.Context())
		require.NoError(t, err)
		require.NoError(t, report.Err)
		assert.Equal(t, Amount{items.Total, items.Total, Counted}, report.Items)
		for _, v := range report.Buckets[0].VBuckets {
			for _, c := range v.Copies {
				assert.Equal(t, c.Items.Total, c.Items.Done)
			}
		}
	})
}
