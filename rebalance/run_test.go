package rebalance

import (
	"context"
	"errors"
	"slices"
	"testing"
	"testing/synctest"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/shearpin/shearpin/actors"
)

// Progress is monotone and stays between 0 and 1, whatever is shown (history 29).
func TestTheBoardNeverFalls(t *testing.T) {
	b := newBoard()
	var seen []float64
	for _, fraction := range []float64{0.25, 0.125, 0.5, -1, 2} {
		b.show(Progress{Fraction: fraction})
		seen = append(seen, b.look().progress.Fraction)
	}
	assert.Equal(t, []float64{0.25, 0.25, 0.5, 0.5, 1}, seen)
}

func TestTheBoardShowsTheReportOnce(t *testing.T) {
	b := newBoard()
	b.end(&Report{ID: "first", Outcome: Failed})
	b.end(&Report{ID: "second"})
	b.show(Progress{Fraction: 0.5})
	view := b.look()
	assert.Equal(t, "first", view.report.ID)
	assert.Zero(t, view.progress.Fraction)
}

// runOf is a handle on a rebalance whose orchestrator does nothing.
func runOf(t *testing.T) (*Run, *actors.PID) {
	system := actors.NewSystem(actors.Options{})
	t.Cleanup(func() { require.NoError(t, system.Close(context.Background())) })
	orchestrator, err := system.Start(t.Context(), &idleProcess{})
	require.NoError(t, err)
	return &Run{id: "r1", orchestrator: orchestrator, board: newBoard()}, orchestrator
}

type idleProcess struct{ actors.Base }

func TestASlowConsumerOfProgressSeesTheLast(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		run, _ := runOf(t)
		var seen []int
		for p := range run.Progress() {
			seen = append(seen, p.MovesDone)
			if p.MovesDone == 0 {
				for done := 1; done <= 5; done++ {
					run.board.show(Progress{MovesDone: done})
				}
				run.board.end(&Report{Outcome: Complete})
			}
		}
		assert.Equal(t, []int{0, 5}, seen)
	})
}

// Also if the orchestrator has ended by the time that it looks again.
func TestASlowConsumerOfProgressSeesTheLastOfAClosedCluster(t *testing.T) {
	for range 32 {
		run, orchestrator := runOf(t)
		var seen []int
		for p := range run.Progress() {
			seen = append(seen, p.MovesDone)
			if len(seen) == 1 {
				run.board.show(Progress{MovesDone: 5})
				run.board.end(&Report{Outcome: Complete})
				orchestrator.Kill()
			}
		}
		require.Equal(t, []int{0, 5}, seen)
	}
}

func TestAConsumerOfProgressMayLeave(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		run, _ := runOf(t)
		for range run.Progress() {
			break
		}
	})
}

// Who waits for a rebalance hears of the orchestrator's death.
func TestWaitersHearOfTheOrchestratorsDeath(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		run, orchestrator := runOf(t)
		broken := errors.New("broken")
		go func() {
			synctest.Wait()
			orchestrator.Exit(broken)
		}()
		_, err := run.Wait(t.Context())
		require.ErrorIs(t, err, broken)
		assert.Len(t, slices.Collect(run.Progress()), 1)
		require.Error(t, run.Stop(t.Context()))
	})
}
