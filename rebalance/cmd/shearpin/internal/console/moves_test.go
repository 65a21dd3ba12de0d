package console_test

import (
	"bytes"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"

	"github.com/shearpin/shearpin/rebalance"
	"github.com/shearpin/shearpin/rebalance/cmd/shearpin/internal/console"
)

func TestARebalanceInPlainLines(t *testing.T) {
	var out bytes.Buffer
	moves := console.New(&out, false).Moves()
	moving := rebalance.Progress{
		State: rebalance.Rebalancing, Stage: rebalance.StageMoving, Bucket: "orders", BucketNumber: 1, Buckets: 2, MovesPlanned: 100,
		Items: rebalance.Amount{Total: 5000, Known: rebalance.Counted},
	}
	moves.Show(rebalance.Progress{State: rebalance.Rebalancing})
	for done := range 50 {
		moving.MovesDone, moving.Items.Done, moving.Fraction = done, uint64(done*50), float64(done)/100
		moves.Show(moving)
	}
	moving.State = rebalance.Paused
	moves.Show(moving)
	moving.State, moving.RemainingKnown, moving.Remaining = rebalance.Stopping, true, 90*time.Second
	moves.Show(moving)
	moving.State = rebalance.Rebalancing
	moving.Stuck = &rebalance.Stuck{
		Since: time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC),
		Moves: []rebalance.MoveStatus{{VB: 7, Step: rebalance.StepBackfill, WaitingFor: "n0→n1"}},
	}
	moves.Show(moving)
	moves.End()
	assert.Equal(t, `  0 %  starting
  0 %  orders (1 of 2), moving, 0 of 100 moves, 0 of 5000 documents
 20 %  orders (1 of 2), moving, 20 of 100 moves, 1000 of 5000 documents
 40 %  orders (1 of 2), moving, 40 of 100 moves, 2000 of 5000 documents
 49 %  orders (1 of 2), moving, 49 of 100 moves, 2450 of 5000 documents, paused
 49 %  orders (1 of 2), moving, 49 of 100 moves, 2450 of 5000 documents, about 1m30s left, stopping
 49 %  orders (1 of 2), moving, 49 of 100 moves, 2450 of 5000 documents, about 1m30s left, nothing has advanced since 03:04:05 (vb 7 at backfill waits for n0→n1)
`, out.String())
}

func TestARebalanceOnATerminalLeavesNoBar(t *testing.T) {
	var out bytes.Buffer
	c := console.New(&out, true)
	moves := c.Moves()
	moves.Show(rebalance.Progress{State: rebalance.Rebalancing, Fraction: 0.5, Bucket: "orders", MovesPlanned: 4, MovesDone: 2})
	c.Step("a line")
	moves.Show(rebalance.Progress{State: rebalance.Rebalancing, Fraction: 1, Bucket: "orders", MovesPlanned: 4, MovesDone: 4})
	moves.End()
	c.Report(&rebalance.Report{ID: "abc", Outcome: rebalance.Failed, Moves: 2, MovesPlanned: 4, Took: 1.5, Cause: []string{"rebalance aborted", "crash"}})
	shown := out.String()
	assert.Contains(t, shown, "\r")
	assert.Contains(t, shown, "a line\n")
	assert.Regexp(t, `\rRebalance abc failed: 2 of 4 moves in 1.50 s\n  rebalance aborted\n  └ because crash\n$`, shown)
}
