package rebalance_test

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/shearpin/shearpin/actors"
	"github.com/shearpin/shearpin/rebalance"
)

// Over real nodes: nothing moves in a pause, clients go on, and afterwards all are moved.
func TestAPauseOverRealNodes(t *testing.T) {
	w := newWorld(t, 4, 3, orders, noFault)
	w.write(100, "first ")
	require.NoError(t, w.cluster.AddNode(t.Context(), w.node("n3")))
	events := w.cluster.Events().Subscribe(1000)
	defer events.Close()
	run, err := w.cluster.Rebalance(w.ctx, rebalance.Request{})
	require.NoError(t, err)
	require.NoError(t, run.Pause(w.ctx))
	state, err := w.cluster.State(w.ctx)
	require.NoError(t, err)
	assert.Equal(t, rebalance.Paused, state)
	begun := started(events)
	written := w.write(100, "second ")
	assert.Zero(t, started(events), "a move began in the pause")
	require.NoError(t, run.Resume(w.ctx))
	report, err := run.Wait(w.ctx)
	require.NoError(t, err)
	require.NoError(t, report.Err)
	assert.Equal(t, report.MovesPlanned, report.Moves)
	assert.Equal(t, report.MovesPlanned, begun+started(events))
	w.requireAll(written)
	w.requireClean()
}

// started counts the moves that have begun since it was called last.
func started(events *actors.Subscription[rebalance.Event]) (count int) {
	for {
		select {
		case event := <-events.C():
			if _, ok := event.(rebalance.MoveStarted); ok {
				count++
			}
		default:
			return count
		}
	}
}

// Over real nodes: every other move is aborted as soon as it has begun. Each abort says truly whether it was in time; the rest
// is moved, no document is lost, and a node that was to leave stays as long as it holds something.
func TestAbortsOverRealNodes(t *testing.T) {
	w := newWorld(t, 4, 4, orders, noFault)
	written := w.write(200, "first ")
	before := w.activeMap()
	events := w.cluster.Events().Subscribe(1000)
	defer events.Close()
	run, err := w.cluster.Rebalance(w.ctx, rebalance.Request{Keep: []string{"n0", "n1", "n2"}})
	require.NoError(t, err)
	ended := make(chan *rebalance.Report, 1)
	go func() {
		report, _ := run.Wait(w.ctx)
		ended <- report
	}()
	var report *rebalance.Report
	aborted, begun := []uint16{}, 0
	for report == nil {
		select {
		case event := <-events.C():
			move, ok := event.(rebalance.MoveStarted)
			if begun++; !ok || begun%2 > 0 {
				continue
			}
			err := run.AbortMove(w.ctx, "orders", move.VB)
			if err == nil {
				aborted = append(aborted, move.VB)
				continue
			}
			var refused *rebalance.AbortRefused
			if !errors.As(err, &refused) {
				require.ErrorIs(t, err, rebalance.ErrNotRunning)
			}
		case report = <-ended:
		}
	}
	require.NotNil(t, report)
	slices.Sort(aborted)
	outcome := rebalance.Complete
	if len(aborted) > 0 {
		outcome = rebalance.Partial
		assert.Equal(t, aborted, report.Buckets[0].Aborted)
	}
	assert.Equal(t, outcome, report.Outcome, report.Err)
	assert.Equal(t, report.MovesPlanned, report.Moves+len(aborted))
	for _, vb := range aborted {
		assert.Equal(t, before[vb], w.activeMap()[vb])
	}
	janitor, err := w.cluster.Janitor(w.ctx)
	require.NoError(t, err)
	require.NoError(t, janitor.Problem())
	w.requireAll(written)
	w.requireClean()

	second := w.rebalance(rebalance.Request{Keep: []string{"n0", "n1", "n2"}})
	require.NoError(t, second.Err)
	assert.True(t, w.activeMap().Balanced("n0", "n1", "n2"))
	w.requireAll(written)
	w.requireClean()
}

// Over real nodes: with a limit far below the size of a vbucket, one moves and the others wait until the limit is lifted. What
// was carried is what the documents of the new copies come to, and more, for frames have headers.
func TestAThrottleOverRealNodes(t *testing.T) {
	w := newWorld(t, 4, 3, orders, noFault, func(c *rebalance.Config) { c.Throttle.BytesPerSecond = 16 })
	written := w.write(400, strings.Repeat("long ", 1000))
	require.NoError(t, w.cluster.AddNode(t.Context(), w.node("n3")))
	plan, err := w.cluster.Plan(w.ctx, rebalance.Request{})
	require.NoError(t, err)
	least := uint64(0)
	for key, value := range written {
		for _, move := range plan.Buckets[0].Moves {
			if move.VB == w.vb(key) && move.New.Contains("n3") {
				least += uint64(len(key) + len(value))
			}
		}
	}
	require.Positive(t, least)
	events := w.cluster.Events().Subscribe(1000)
	defer events.Close()
	run, err := w.cluster.Rebalance(w.ctx, rebalance.Request{})
	require.NoError(t, err)
	begun := 0
	for ended := false; !ended; {
		select {
		case event := <-events.C():
			switch event.(type) {
			case rebalance.MoveStarted:
				begun++
			case rebalance.MoveEnded:
				ended = true
			}
		case <-w.ctx.Done():
			require.Fail(t, "no move has ended")
		}
	}
	require.NoError(t, w.cluster.SetThrottle(w.ctx, rebalance.Throttle{BytesPerSecond: 17}))
	assert.Equal(t, 1, begun+started(events), "what has been carried is an hour's worth")
	require.NoError(t, w.cluster.SetThrottle(w.ctx, rebalance.Throttle{}))
	report, err := run.Wait(w.ctx)
	require.NoError(t, err)
	require.NoError(t, report.Err)
	var last rebalance.Progress
	for p := range run.Progress() {
		last = p
	}
	assert.GreaterOrEqual(t, last.Bytes.Done, least)
	assert.Less(t, last.Bytes.Done, 2*least)
	w.requireAll(written)
	w.requireClean()
}

// Over real nodes, while clients write: digests are met, or seqnos do.
func TestAVerificationOverRealNodes(t *testing.T) {
	for _, verification := range []rebalance.Verification{rebalance.VerifySeqnos, rebalance.VerifyData} {
		t.Run(string(verification), func(t *testing.T) {
			w := newWorld(t, 4, 3, orders, noFault, func(c *rebalance.Config) { c.Verify = verification })
			w.write(200, "first ")
			require.NoError(t, w.cluster.AddNode(t.Context(), w.node("n3")))
			run, err := w.cluster.Rebalance(w.ctx, rebalance.Request{})
			require.NoError(t, err)
			written := w.write(200, "second ")
			report, err := run.Wait(w.ctx)
			require.NoError(t, err)
			require.NoError(t, report.Err)
			require.Contains(t, report.Buckets[0].Steps, rebalance.StepVerify)
			w.requireAll(written)
			w.requireClean()
		})
	}
}
