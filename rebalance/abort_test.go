package rebalance

import (
	"context"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/shearpin/shearpin/actors/actortest"
	"github.com/shearpin/shearpin/dcp/mcbp"
)

// aborting runs a rebalance of which the move of some vbucket is aborted when an operation comes to the gate.
type aborting struct {
	*interrupted
	run *Run
	vb  uint16
	// answer is what AbortMove returned.
	answer chan error
}

// abortAt aborts the first move that is seen at an operation for which at says so.
func (i *interrupted) abortAt(at func(op fakeOp) bool, then func(ctx context.Context, op fakeOp) error) *aborting {
	a := &aborting{interrupted: i, run: newRun(i.cluster.orchestrator()), answer: make(chan error, 1)}
	chosen := false
	i.world.setGate(func(ctx context.Context, op fakeOp) error {
		i.world.mu.Lock()
		now := !chosen && at(op)
		if now {
			chosen, a.vb = true, op.VB
		}
		i.world.mu.Unlock()
		if now {
			go func() { a.answer <- a.run.AbortMove(context.Background(), "orders", op.VB) }()
		}
		if then != nil {
			return then(ctx, op)
		}
		return nil
	})
	_, err := a.run.orchestrator.Call(i.t.Context(), startCall{run: a.run, request: request})
	require.NoError(i.t, err)
	return a
}

func (a *aborting) wait() *Report {
	a.t.Helper()
	report, err := a.run.Wait(a.t.Context())
	require.NoError(a.t, err)
	return report
}

// requireAsItWas checks that a vbucket has its old chain, its states, topology and streams, and nobody's hand on them.
func (i *interrupted) requireAsItWas(vb uint16, chain []string) {
	i.t.Helper()
	require.Equal(i.t, chain, []string(i.chains()[vb]))
	i.world.mu.Lock()
	defer i.world.mu.Unlock()
	for node, n := range i.world.nodes {
		c := n.copies[vb]
		stream := ""
		if r := i.world.replications[node]; r != nil {
			stream = r.stream(vb)
		}
		switch slices.Index(chain, node) {
		case 0:
			require.Equal(i.t, mcbp.VBucketActive, c.state, "on %s", node)
			require.Equal(i.t, [][]string{chain}, c.topology, "on %s", node)
			require.Empty(i.t, stream)
		case -1:
			require.Empty(i.t, stream, "%s still gets what it does not need", node)
		default:
			require.Equal(i.t, mcbp.VBucketReplica, c.state, "on %s", node)
			require.Equal(i.t, chain[0], stream, "on %s", node)
		}
	}
}

func TestAnAbortedMoveLeavesItsVBucketAsItWas(t *testing.T) {
	for _, what := range []string{"open", "estimate", "persistence", "state active"} {
		t.Run(what, func(t *testing.T) {
			inFakeCluster(t, func(t *testing.T, i *interrupted) {
				before := i.chains()
				moving := false
				a := i.abortAt(func(op fakeOp) bool {
					// The janitor's own operations come before the first estimate.
					moving = moving || op.What == "estimate"
					return moving && op.What == what
				}, func(ctx context.Context, _ fakeOp) error { return after(ctx, time.Second) })
				report := a.wait()
				require.NoError(t, <-a.answer)
				chain := []string(before[a.vb])
				i.requireAsItWas(a.vb, chain)
				assert.Equal(t, Partial, report.Outcome)
				assert.Equal(t, []uint16{a.vb}, report.Buckets[0].Aborted)
				assert.Equal(t, report.MovesPlanned-1, report.Moves, "the others went on")
				require.ErrorIs(t, report.Err, ErrMoveAborted)
				var aborted *MovesAborted
				require.ErrorAs(t, report.Err, &aborted)
				assert.Equal(t, map[string][]uint16{"orders": {a.vb}}, aborted.ByBucket)
				assert.Nil(t, i.doc().Target)
				assert.Contains(t, report.Message, "aborted on request")

				i.world.setGate(nil)
				actortest.Elapse(time.Minute)
				i.world.mu.Lock()
				for node, n := range i.world.nodes {
					_, has := n.copies[a.vb]
					assert.Equal(t, slices.Contains(chain, node), has, "the janitor clears %s up", node)
				}
				i.world.mu.Unlock()
				i.repaired()
			})
		})
	}
}

// A node that was to leave stays a server of the bucket as long as it holds what was not moved.
func TestANodeThatStillHoldsAnAbortedVBucketStays(t *testing.T) {
	inFakeCluster(t, func(t *testing.T, i *interrupted) {
		before := i.chains()
		a := i.abortAt(func(op fakeOp) bool { return op.What == "estimate" && before[op.VB].Contains("n0") },
			func(ctx context.Context, _ fakeOp) error { return after(ctx, time.Second) })
		report := a.wait()
		require.NoError(t, <-a.answer)
		assert.Equal(t, Partial, report.Outcome)
		assert.Contains(t, i.doc().Servers, "n0")
		i.requireAsItWas(a.vb, before[a.vb])
		janitor, err := i.cluster.Janitor(t.Context())
		require.NoError(t, err)
		require.NoError(t, janitor.Problem())
		i.world.mu.Lock()
		assert.Len(t, i.world.nodes["n0"].copies, 1, "all else has left it")
		i.world.mu.Unlock()
		i.repaired()
		assert.NotContains(t, i.doc().Servers, "n0")
	})
}

func TestAnAbortIsRefusedOnceTheSwitchHasBegun(t *testing.T) {
	inFakeCluster(t, func(t *testing.T, i *interrupted) {
		a := i.abortAt(func(op fakeOp) bool { return op.What == "takeover" },
			func(ctx context.Context, op fakeOp) error {
				if op.What == "takeover" {
					return after(ctx, time.Second)
				}
				return nil
			})
		report := a.wait()
		err := <-a.answer
		var refused *AbortRefused
		require.ErrorAs(t, err, &refused)
		assert.Equal(t, &AbortRefused{Bucket: "orders", VB: a.vb, Err: ErrSwitchBegun}, refused)
		assert.Equal(t, Complete, report.Outcome)
		assert.Empty(t, report.Buckets[0].Aborted)
	})
}

func TestAnAbortOfWhatDoesNotMoveIsRefused(t *testing.T) {
	inFakeCluster(t, func(t *testing.T, i *interrupted) {
		i.slow()
		run := i.start()
		require.ErrorIs(t, run.AbortMove(t.Context(), "orders", 0), ErrNotMoving, "its bucket is being prepared")
		actortest.Elapse(1500 * time.Millisecond)
		for _, asked := range []struct {
			bucket string
			vb     uint16
		}{{"nobody", 0}, {"orders", 8}, {"orders", 65535}} {
			err := run.AbortMove(t.Context(), asked.bucket, asked.vb)
			var refused *AbortRefused
			require.ErrorAs(t, err, &refused)
			assert.Equal(t, &AbortRefused{Bucket: asked.bucket, VB: asked.vb, Err: ErrNotMoving}, refused)
		}
		report, err := run.Wait(t.Context())
		require.NoError(t, err)
		assert.Equal(t, Complete, report.Outcome)
		require.ErrorIs(t, run.AbortMove(t.Context(), "orders", 0), ErrNotRunning)
	})
}

// A move that has not begun never does.
func TestAMoveIsAbortedBeforeItsTurn(t *testing.T) {
	inFakeCluster(t, func(t *testing.T, i *interrupted) {
		plan := i.plan().Buckets[0]
		i.slow()
		run := i.start()
		require.NoError(t, run.Pause(t.Context()))
		actortest.Elapse(time.Minute)
		before := i.chains()
		vb := plan.Moves[0].VB
		require.NoError(t, run.AbortMove(t.Context(), "orders", vb))
		require.NoError(t, run.AbortMove(t.Context(), "orders", vb), "once more")
		require.NoError(t, run.Resume(t.Context()))
		report, err := run.Wait(t.Context())
		require.NoError(t, err)
		assert.Equal(t, Partial, report.Outcome)
		assert.Equal(t, []uint16{vb}, report.Buckets[0].Aborted)
		i.requireAsItWas(vb, before[vb])
		i.repaired()
	})
}

// All moves aborted: nothing has moved, and nothing is pending.
func TestAllMovesAreAborted(t *testing.T) {
	inFakeCluster(t, func(t *testing.T, i *interrupted) {
		plan := i.plan().Buckets[0]
		i.slow()
		run := i.start()
		require.NoError(t, run.Pause(t.Context()))
		actortest.Elapse(time.Minute)
		before := i.chains()
		for _, move := range plan.Moves {
			require.NoError(t, run.AbortMove(t.Context(), "orders", move.VB))
		}
		report, err := run.Wait(t.Context())
		require.NoError(t, err)
		assert.Equal(t, Partial, report.Outcome)
		assert.Zero(t, report.Moves)
		assert.Equal(t, before, i.chains())
		i.repaired()
	})
}

// If the way back fails, the rebalance does: the vbucket may be left as no other move leaves it.
func TestAnAbortThatFailsEndsTheRebalance(t *testing.T) {
	inFakeCluster(t, func(t *testing.T, i *interrupted) {
		a := i.abortAt(func(op fakeOp) bool { return op.What == "estimate" }, func(ctx context.Context, op fakeOp) error {
			if op.What == "close" {
				return errInjected
			}
			return after(ctx, time.Second)
		})
		report := a.wait()
		require.ErrorIs(t, <-a.answer, ErrNotRunning)
		assert.Equal(t, Failed, report.Outcome)
		assert.Contains(t, report.Cause[len(report.Cause)-1], errInjected.Error())
		i.repaired()
	})
}

// Wherever it comes, an abort is answered, and what it says is true.
func TestAMoveThatIsAbortedAtAnyPoint(t *testing.T) {
	aborted, refused := 0, 0
	everyPoint(t, func(t *testing.T, i *interrupted, at int) {
		before := i.chains()
		a := i.abortAt(func(op fakeOp) bool { return op.Number == at }, func(ctx context.Context, op fakeOp) error {
			return after(ctx, time.Millisecond)
		})
		report := a.wait()
		var err error
		select {
		case err = <-a.answer:
		default:
			actortest.Elapse(time.Second)
			select {
			case err = <-a.answer:
			default:
				i.world.mu.Lock()
				require.LessOrEqual(t, i.world.number, at, "nobody was asked")
				i.world.mu.Unlock()
				err = ErrNotRunning
			}
		}
		if err == nil {
			aborted++
			require.Equal(t, Partial, report.Outcome)
			i.requireAsItWas(a.vb, before[a.vb])
		} else {
			refused++
			require.Equal(t, Complete, report.Outcome, "an abort that is refused disturbs nothing: %v", err)
		}
		i.repaired()
	})
	assert.Greater(t, aborted, 10)
	assert.Greater(t, refused, 10)
}
