package rebalance

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/shearpin/shearpin/actors/actortest"
)

// The report of a rebalance that was stopped says of every move that was under way what became of it, of the last one too.
func TestTheReportOfAStop(t *testing.T) {
	for what, last := range map[string]MoveOutcome{"takeover": MoveDone, "estimate": MoveStopped} {
		t.Run(what, func(t *testing.T) {
			inFakeCluster(t, func(t *testing.T, i *interrupted) {
				i.world.setGate(func(ctx context.Context, op fakeOp) error {
					if op.What != what {
						return nil
					}
					return after(ctx, 5*time.Second)
				})
				run := i.start()
				actortest.Elapse(time.Second)
				require.NoError(t, run.Stop(t.Context()))
				report, err := run.Wait(t.Context())
				require.NoError(t, err)
				require.Equal(t, Stopped, report.Outcome)
				require.Len(t, report.Buckets, 1)
				outcomes := map[MoveOutcome]int{}
				for _, v := range report.Buckets[0].VBuckets {
					outcomes[v.Outcome]++
				}
				assert.Positive(t, outcomes[last])
				assert.Equal(t, report.Moves, outcomes[MoveDone])
				assert.Zero(t, outcomes[MoveUnfinished], "each has told its end")
			})
		})
	}
}

// Of a rebalance that has to be killed it says at least which buckets were begun, and how many of their moves were done.
func TestTheReportOfAStopThatIsOverdue(t *testing.T) {
	inFakeCluster(t, func(t *testing.T, i *interrupted) {
		i.world.setGate(func(ctx context.Context, op fakeOp) error {
			if op.What != "takeover" {
				return nil
			}
			return after(ctx, time.Hour)
		})
		run := i.start()
		actortest.Elapse(time.Second)
		require.NoError(t, run.Stop(t.Context()))
		report, err := run.Wait(t.Context())
		require.NoError(t, err)
		require.Equal(t, Stopped, report.Outcome)
		require.Len(t, report.Buckets, 1)
		b := report.Buckets[0]
		assert.Equal(t, "orders", b.Name)
		assert.Positive(t, b.Epoch)
		assert.Positive(t, b.MovesPlanned)
		assert.Equal(t, report.MovesPlanned, b.MovesPlanned)
		assert.Positive(t, b.Moves)
		assert.Equal(t, report.Moves, b.Moves)
		assert.Equal(t, report.Ended, b.Ended)
		assert.Equal(t, run.now().Items, report.Items)
		assert.Equal(t, run.now().Bytes, report.Bytes)
		assert.Positive(t, report.Bytes.Done)
	})
}
