package rebalance

import (
	"context"
	"fmt"
	"io"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/shearpin/shearpin/dcp"
	"github.com/shearpin/shearpin/rebalance/store"
)

// hangAt lets a rebalance hang at one of its operations, and all that come after it too.
func (i *interrupted) hangAt(at int) (reached <-chan struct{}) {
	hit := make(chan struct{})
	i.world.setGate(func(ctx context.Context, op fakeOp) error {
		if op.Number < at {
			return nil
		}
		if op.Number == at {
			close(hit)
		}
		<-ctx.Done()
		return context.Cause(ctx)
	})
	return hit
}

// The leader is lost at every step of a rebalance. Whoever takes over its store finds the rebalance interrupted, says so in
// a report, and can rebalance (history 25).
func TestHistory_25(t *testing.T) {
	everyPoint(t, func(t *testing.T, i *interrupted, at int) {
		reached := i.hangAt(at)
		run := i.start()
		ended := make(chan struct{})
		go func() {
			_, _ = run.Wait(t.Context())
			close(ended)
		}()
		select {
		case <-reached:
		case <-ended:
		}
		i.close()
		<-ended
		i.world.setGate(nil)
		i.open(4)
		state, err := i.cluster.State(t.Context())
		require.NoError(t, err)
		require.Equal(t, Idle, state)
		require.Nil(t, i.cluster.CurrentRun())
		report, err := i.cluster.Report(t.Context(), run.ID())
		require.NoError(t, err)
		require.NotEmpty(t, report.Message)
		if report.Outcome != Complete { // it may take fewer operations this time
			require.Equal(t, Interrupted, report.Outcome)
			require.ErrorIs(t, report.Err, ErrInterrupted)
			require.Equal(t, run.Started().UnixNano(), report.Started.UnixNano())
			require.LessOrEqual(t, report.Moves, report.MovesPlanned)
			require.Equal(t, []string{"n3"}, report.NodesAdded)
		}
		_, found, err := i.cluster.env.running(t.Context())
		require.NoError(t, err)
		require.False(t, found, "the residual state is gone")
		i.repaired()
	})
}

// The same without any bucket: the clean-up is not the business of a bucket's janitor.
func TestHistory_25_WithoutBuckets(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		i := &interrupted{t: t, world: newFakeWorld(3), store: store.NewMemory()}
		i.open(3)
		left := Report{ID: "r1", Started: time.Now()}
		require.NoError(t, i.cluster.env.saveRunning(t.Context(), left))
		i.close()
		i.open(3)
		defer i.close()
		reports, err := i.cluster.Reports(t.Context())
		require.NoError(t, err)
		require.Len(t, reports, 1)
		assert.Equal(t, "r1", reports[0].ID)
		assert.Equal(t, Interrupted, reports[0].Outcome)
		assert.Equal(t, []string{"rebalance aborted", ErrInterrupted.Error()}, reports[0].Cause)
		run, err := i.cluster.Rebalance(t.Context(), Request{})
		require.NoError(t, err)
		report, err := run.Wait(t.Context())
		require.NoError(t, err)
		assert.Equal(t, Complete, report.Outcome)
	})
}

// An orchestrator that dies alone leaves its rebalance to its successor, in the same way.
func TestTheNextOrchestratorReportsTheInterruptedRebalance(t *testing.T) {
	inFakeCluster(t, func(t *testing.T, i *interrupted) {
		i.world.setGate(func(ctx context.Context, op fakeOp) error {
			if op.What != "takeover" {
				return nil
			}
			<-ctx.Done()
			return context.Cause(ctx)
		})
		run := i.start()
		synctest.Wait()
		i.cluster.orchestrator().Kill()
		_, err := run.Wait(t.Context())
		require.Error(t, err)
		i.world.setGate(nil)
		require.NoError(t, after(t.Context(), time.Second), "let the supervisor restart it")
		report, err := i.cluster.Report(t.Context(), run.ID())
		require.NoError(t, err)
		assert.Equal(t, Interrupted, report.Outcome)
		assert.Positive(t, report.MovesPlanned)
		assert.Nil(t, i.cluster.CurrentRun())
		later, err := i.cluster.Run(run.ID()).Wait(t.Context())
		require.NoError(t, err)
		assert.Equal(t, Interrupted, later.Outcome)
		i.repaired()
	})
}

// The record of the rebalance before may be there yet when an orchestrator dies at the beginning of the next.
func TestARecordThatIsLeftHidesNoInterruptedRebalance(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		i := newInterrupted(t, 3)
		defer i.close()
		env := i.cluster.env
		before, err := i.start().Wait(t.Context())
		require.NoError(t, err)
		synctest.Wait()
		require.NoError(t, env.saveRunning(t.Context(), *before))
		next := newRun(i.cluster.orchestrator())
		next.started = time.Now()
		env.desk.began(next)
		report, found, err := env.interrupted(t.Context(), time.Now())
		require.NoError(t, err)
		require.True(t, found)
		assert.Equal(t, next.ID(), report.ID)
		assert.Equal(t, Interrupted, report.Outcome)
		_, left, err := env.running(t.Context())
		require.NoError(t, err)
		assert.False(t, left)
		_, found, err = env.interrupted(t.Context(), time.Now())
		require.NoError(t, err)
		assert.False(t, found, "once")
	})
}

// How many moves an interrupted rebalance had done is told by the map.
func TestAnInterruptedRebalanceCountsItsMoves(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		i := newInterrupted(t, 8)
		i.world.setGate(func(ctx context.Context, op fakeOp) error {
			if op.What != "takeover" || op.VB != 5 {
				return nil
			}
			<-ctx.Done()
			return context.Cause(ctx)
		})
		run := i.start()
		synctest.Wait()
		progress := run.board.look().progress
		require.Positive(t, progress.MovesDone)
		require.Less(t, progress.MovesDone, progress.MovesPlanned)
		i.close()
		i.world.setGate(nil)
		i.open(4)
		defer i.close()
		report, err := i.cluster.Report(t.Context(), run.ID())
		require.NoError(t, err)
		assert.Equal(t, progress.MovesPlanned, report.MovesPlanned)
		assert.Equal(t, progress.MovesDone, report.Moves)
		assert.Contains(t, report.Message, fmt.Sprintf("%d of %d moves", report.Moves, report.MovesPlanned))
	})
}

// The last five reports are kept, newest first, over the end of the manager.
func TestTheLastReportsAreKept(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		i := newInterrupted(t, 3)
		var ids []string
		for range keptReports + 2 {
			report, err := i.start().Wait(t.Context())
			require.NoError(t, err)
			require.NoError(t, report.Err)
			ids = append(ids, report.ID)
			require.NoError(t, after(t.Context(), time.Second))
		}
		check := func() {
			reports, err := i.cluster.Reports(t.Context())
			require.NoError(t, err)
			var found []string
			for _, r := range reports {
				found = append(found, r.ID)
				assert.Equal(t, Complete, r.Outcome)
			}
			want := []string{ids[6], ids[5], ids[4], ids[3], ids[2]}
			assert.Equal(t, want, found)
			_, err = i.cluster.Report(t.Context(), ids[0])
			require.ErrorIs(t, err, ErrNoReport)
		}
		check()
		i.close()
		entries, err := i.store.List(t.Context(), reportPrefix)
		require.NoError(t, err)
		assert.Len(t, entries, keptReports)
		i.open(4)
		defer i.close()
		check()
	})
}

// A report that was read back has its error with all types that somebody may look for.
func TestTheErrorOfAReportOutlivesTheManager(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		i := newInterrupted(t, 3)
		i.world.setGate(func(_ context.Context, op fakeOp) error {
			if op.What == "open" {
				return dcp.ErrSocketClosed
			}
			return nil
		})
		report, err := i.start().Wait(t.Context())
		require.NoError(t, err)
		require.Equal(t, Failed, report.Outcome)
		i.close()
		i.world.setGate(nil)
		i.open(4)
		defer i.close()
		again, err := i.cluster.Report(t.Context(), report.ID)
		require.NoError(t, err)
		assert.Equal(t, report.Cause, again.Cause)
		assert.Equal(t, report.Err.Error(), again.Err.Error())
		assert.Equal(t, report.Cause, Causes(again.Err))
		require.ErrorIs(t, again.Err, dcp.ErrSocketClosed)
		var move *MoveError
		require.ErrorAs(t, again.Err, &move)
		assert.Equal(t, StepStream, move.Step)
	})
}

func TestErrorsOfThisPackageTravel(t *testing.T) {
	node := &NodeError{Node: "n1", Err: io.EOF}
	for _, err := range []error{
		ErrStopped, ErrInterrupted, ErrRebalanceRunning, ErrClosed, ErrUnknownNode, ErrMapChanged,
		&RebalanceError{Bucket: "orders", Err: &MoveError{VB: 3, From: "n0", To: "n1", Step: StepTakeover, Err: node}},
		&NodesError{Doing: "query", Failed: []*NodeError{node, {Node: "n2", Err: context.DeadlineExceeded}}},
		&StreamLost{Producer: "n0", Consumer: "n1", Err: dcp.ErrShut},
		&StepTimeout{VB: 9, Step: StepPersist, WaitedFor: "n1: persistence", Limit: time.Minute},
		&StepUnanswered{VB: 9, Step: StepPersist, WaitedFor: "n0: its seqno", Err: context.DeadlineExceeded},
		&EstimateError{Producer: "n0", Consumer: "n1", Status: "odd", Waited: time.Second},
		&NoActive{VB: 4, Chain: []string{"", "n1"}},
		&Leftovers{Problems: []string{"a"}},
		&KeptCopies{Bucket: "orders", ByVB: map[uint16][]string{4: {"n1"}}},
		&store.StaleEpochError{Bucket: "orders", Epoch: 4, Current: 5},
		&MovesAborted{ByBucket: map[string][]uint16{"orders": {3, 4}}},
		&StoppedByFailover{Nodes: []string{"n1"}},
	} {
		again := travel(t, err)
		require.Equal(t, err, again)
	}
}

// slowStore holds up the writes of reports until it is let go.
type slowStore struct {
	store.Store
	hold  atomic.Bool
	letGo chan struct{}
}

func (s *slowStore) CompareAndSet(ctx context.Context, key string, value []byte, expected uint64) (uint64, error) {
	if s.hold.Load() && len(key) > len(reportPrefix) && key[:len(reportPrefix)] == reportPrefix {
		select {
		case <-s.letGo:
		case <-ctx.Done():
			return 0, context.Cause(ctx)
		}
	}
	return s.Store.CompareAndSet(ctx, key, value, expected)
}

// The state does not say that a rebalance is over before its report can be read; and that it is complete is told when it is
// on record (history 29).
func TestTheReportComesBeforeTheState(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		slow := &slowStore{Store: store.NewMemory(), letGo: make(chan struct{})}
		i := &interrupted{t: t, world: newFakeWorld(4), store: slow}
		i.open(3)
		defer i.close()
		require.NoError(t, i.cluster.CreateBucket(t.Context(), BucketConfig{Name: "orders", VBuckets: 3, Replicas: 1}))
		i.addNode()
		slow.hold.Store(true)
		run := i.start()
		require.NoError(t, after(t.Context(), time.Second))
		state, err := i.cluster.State(t.Context())
		require.NoError(t, err)
		require.Equal(t, Rebalancing, state)
		require.Equal(t, run, i.cluster.CurrentRun())
		_, err = i.cluster.Rebalance(t.Context(), request)
		require.ErrorIs(t, err, ErrRebalanceRunning)
		select {
		case <-slow.letGo:
		default:
			close(slow.letGo)
		}
		report, err := run.Wait(t.Context())
		require.NoError(t, err)
		require.Equal(t, Complete, report.Outcome)
		state, err = i.cluster.State(t.Context())
		require.NoError(t, err)
		require.Equal(t, Idle, state)
		_, err = i.cluster.Report(t.Context(), run.ID())
		require.NoError(t, err)
	})
}

// A store that hangs holds up the outcome only so long.
func TestAStoreThatHangsDoesNotHideTheOutcome(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		slow := &slowStore{Store: store.NewMemory(), letGo: make(chan struct{})}
		i := &interrupted{t: t, world: newFakeWorld(4), store: slow}
		i.open(3)
		defer i.close()
		require.NoError(t, i.cluster.CreateBucket(t.Context(), BucketConfig{Name: "orders", VBuckets: 3, Replicas: 1}))
		i.addNode()
		slow.hold.Store(true)
		report, err := i.start().Wait(t.Context())
		require.NoError(t, err)
		assert.Equal(t, Complete, report.Outcome)
		reports, err := i.cluster.Reports(t.Context())
		require.NoError(t, err)
		assert.Equal(t, report.ID, reports[0].ID, "this process knows it all the same")
	})
}

// A failure is told although it is not on record yet.
func TestAFailureDoesNotWaitForTheStore(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		slow := &slowStore{Store: store.NewMemory(), letGo: make(chan struct{})}
		i := &interrupted{t: t, world: newFakeWorld(4), store: slow}
		i.open(3)
		require.NoError(t, i.cluster.CreateBucket(t.Context(), BucketConfig{Name: "orders", VBuckets: 3, Replicas: 1}))
		i.addNode()
		slow.hold.Store(true)
		i.world.setGate(func(_ context.Context, op fakeOp) error {
			if op.What == "open" {
				return errInjected
			}
			return nil
		})
		began := time.Now()
		report, err := i.start().Wait(t.Context())
		require.NoError(t, err)
		assert.Equal(t, Failed, report.Outcome)
		assert.Less(t, time.Since(began), recordLimit)
		found, err := i.cluster.Report(t.Context(), report.ID)
		require.NoError(t, err)
		assert.Equal(t, report.Cause, found.Cause)
		close(slow.letGo)
		i.close() // waits for the record
		_, ok, err := (&environment{config: &Config{Store: slow}}).running(t.Context())
		require.NoError(t, err)
		assert.False(t, ok)
	})
}

// A store that does not say what is left has not said that nothing is.
func TestMovesThatCannotBeCountedAreNotDone(t *testing.T) {
	inFakeCluster(t, func(t *testing.T, i *interrupted) {
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		_, err := i.cluster.env.chainsLeft(ctx, "orders")
		require.ErrorIs(t, err, context.Canceled)
		left, err := i.cluster.env.chainsLeft(t.Context(), "nobody")
		require.NoError(t, err)
		assert.Zero(t, left)
	})
}

// The rebalance of somebody else is not taken away with one's own.
func TestTheRecordOfAnotherRebalanceStays(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		i := newInterrupted(t, 3)
		defer i.close()
		env := i.cluster.env
		require.NoError(t, env.saveRunning(t.Context(), Report{ID: "other"}))
		require.NoError(t, env.clearRunning(t.Context(), "mine"))
		require.ErrorIs(t, env.updateRunning(t.Context(), Report{ID: "mine"}), store.ErrConflict)
		left, found, err := env.running(t.Context())
		require.NoError(t, err)
		require.True(t, found)
		assert.Equal(t, "other", left.ID)
		require.NoError(t, env.clearRunning(t.Context(), "other"))
		require.ErrorIs(t, env.updateRunning(t.Context(), Report{ID: "other"}), store.ErrNotFound, "it has ended")
	})
}

func TestTheTypeOfARebalance(t *testing.T) {
	for _, test := range []struct {
		added, removed int
		want           RebalanceType
	}{{0, 0, NormalRebalance}, {2, 0, NodeAddition}, {0, 1, NodeRemoval}, {2, 2, SwapRebalance}, {2, 1, NormalRebalance}, {1, 2, NormalRebalance}} {
		assert.Equal(t, test.want, rebalanceType(test.added, test.removed), test)
	}
}
