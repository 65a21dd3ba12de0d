package rebalance_test

import (
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
