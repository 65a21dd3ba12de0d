package rebalance

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/shearpin/shearpin/actors/actortest"
	"github.com/shearpin/shearpin/dcp"
)

// slow makes every stream take a second, so that moves take some, and the preparation before them too, so that something can come
// before the first. It tells of the moves that begin.
func (i *interrupted) slow() (begun func() int) {
	i.world.setGate(func(ctx context.Context, op fakeOp) error {
		if op.What == "open" || op.What == "create bucket" {
			return after(ctx, time.Second)
		}
		return nil
	})
	events := i.cluster.Events().Subscribe(1000)
	i.t.Cleanup(events.Close)
	count := 0
	return func() int {
		for {
			select {
			case event := <-events.C():
				if _, ok := event.(MoveStarted); ok {
					count++
				}
			default:
				return count
			}
		}
	}
}

func (i *interrupted) state() State {
	i.t.Helper()
	state, err := i.cluster.State(i.t.Context())
	require.NoError(i.t, err)
	return state
}

func (r *Run) now() Progress { return r.board.look().progress }

func TestAPauseHoldsWhatHasNotBegun(t *testing.T) {
	inFakeCluster(t, func(t *testing.T, i *interrupted) {
		i.cluster.env.config.Limits.Schedule.MovesPerNode = 1
		begun := i.slow()
		run := i.start()
		assert.Equal(t, Rebalancing, run.now().State)
		actortest.Elapse(1500 * time.Millisecond)
		flying := begun()
		require.Positive(t, flying)
		require.NoError(t, run.Pause(t.Context()))
		require.NoError(t, run.Pause(t.Context()), "once more")
		assert.Equal(t, Paused, i.state())
		assert.Equal(t, Paused, run.now().State)
		actortest.Elapse(time.Hour)
		assert.Equal(t, flying, begun(), "nothing begins in an hour")
		assert.Equal(t, flying, run.now().MovesDone, "what was under way has ended")
		_, err := i.cluster.Rebalance(t.Context(), request)
		require.ErrorIs(t, err, ErrRebalanceRunning)

		require.NoError(t, run.Resume(t.Context()))
		require.NoError(t, run.Resume(t.Context()), "once more")
		assert.Equal(t, Rebalancing, run.now().State)
		report, err := run.Wait(t.Context())
		require.NoError(t, err)
		require.NoError(t, report.Err)
		assert.Equal(t, report.MovesPlanned, report.Moves)
		assert.Equal(t, i.before, i.world.data())
		assert.Equal(t, Idle, run.now().State)
		require.ErrorIs(t, run.Pause(t.Context()), ErrNotRunning)
		require.ErrorIs(t, run.Resume(t.Context()), ErrNotRunning)
	})
}

// A pause that comes before the first move holds that one too, in every bucket that is still to come.
func TestAPauseBeforeTheFirstMove(t *testing.T) {
	inFakeCluster(t, func(t *testing.T, i *interrupted) {
		begun := i.slow()
		run := i.start()
		require.NoError(t, run.Pause(t.Context()))
		actortest.Elapse(time.Hour)
		assert.Zero(t, begun())
		require.NoError(t, run.Resume(t.Context()))
		report, err := run.Wait(t.Context())
		require.NoError(t, err)
		require.NoError(t, report.Err)
		assert.Positive(t, begun())
	})
}

func TestAPausedRebalanceIsStopped(t *testing.T) {
	inFakeCluster(t, func(t *testing.T, i *interrupted) {
		begun := i.slow()
		run := i.start()
		require.NoError(t, run.Pause(t.Context()))
		actortest.Elapse(time.Minute)
		began := time.Now()
		require.NoError(t, run.Stop(t.Context()))
		assert.LessOrEqual(t, time.Since(began), 10*time.Second)
		report, err := run.Wait(t.Context())
		require.NoError(t, err)
		assert.Equal(t, Stopped, report.Outcome)
		assert.Zero(t, begun())
		i.repaired()
	})
}

func TestACrashEndsAPausedRebalance(t *testing.T) {
	inFakeCluster(t, func(t *testing.T, i *interrupted) {
		i.slow()
		run := i.start()
		require.NoError(t, run.Pause(t.Context()))
		actortest.Elapse(time.Minute)
		i.cluster.ReplicationEvents().Publish(dcp.LinkCrashed{
			Link:   dcp.Link{Bucket: "orders", Producer: "n1", Consumer: "n2"},
			Reason: &dcp.CrashError{Role: dcp.RoleConsumer, Err: errInjected},
		})
		report, err := run.Wait(t.Context())
		require.NoError(t, err)
		assert.Equal(t, Failed, report.Outcome)
		require.ErrorIs(t, report.Err, errInjected)
		actortest.Elapse(time.Second)
		i.repaired()
	})
}

// Paused at each of its operations and resumed later, a rebalance completes as if nothing had been.
func TestARebalanceThatIsPausedAtAnyPoint(t *testing.T) {
	everyPoint(t, func(t *testing.T, i *interrupted, at int) {
		run := newRun(i.cluster.orchestrator())
		paused := make(chan error, 1)
		i.world.setGate(func(_ context.Context, op fakeOp) error {
			if op.Number == at {
				go func() { paused <- run.Pause(context.Background()) }()
			}
			return nil
		})
		_, err := run.orchestrator.Call(t.Context(), startCall{run: run, request: request})
		require.NoError(t, err)
		actortest.Elapse(time.Minute)
		select {
		case err := <-paused:
			if err == nil {
				require.NoError(t, ignoreEnded(run.Resume(t.Context())))
			}
		default: // it took fewer operations this time
		}
		report, err := run.Wait(t.Context())
		require.NoError(t, err)
		require.NoError(t, report.Err)
		i.repaired()
	})
}

// ignoreEnded lets pass that a rebalance had ended before it was steered.
func ignoreEnded(err error) error {
	if err == nil || ErrNotRunning.Error() == err.Error() {
		return nil
	}
	return err
}
