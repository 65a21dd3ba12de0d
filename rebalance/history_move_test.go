package rebalance

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/shearpin/shearpin/actors/actortest"
	"github.com/shearpin/shearpin/dcp"
	"github.com/shearpin/shearpin/dcp/kv"
	"github.com/shearpin/shearpin/dcp/mcbp"
	"github.com/shearpin/shearpin/rebalance/schedule"
	"github.com/shearpin/shearpin/rebalance/vbmap"
)

// Bugs that others had with moves (history.md 13 to 20), as tests. What each was is in docs/rebalance.md.

// operations is everything that a move from [A B] to a chain asks of the nodes, in order.
func operations(t *testing.T, wanted vbmap.Chain) (ops []string) {
	inMoveWorld(t, oldChain, func(t *testing.T, w *moveWorld) {
		done := w.journal()
		require.NoError(t, w.move(wanted))
		ops = journalOf(done())
	})
	return ops
}

// at does something when the nth operation of a move comes.
func (w *moveWorld) at(nth int, do func(ctx context.Context) error) {
	seen := 0
	w.world.setGate(func(ctx context.Context, op fakeOp) error {
		if len(journalOf([]fakeOp{op})) == 0 {
			return nil
		}
		w.world.mu.Lock()
		seen++
		mine := seen == nth
		w.world.mu.Unlock()
		if mine {
			return do(ctx)
		}
		return nil
	})
}

// The stream, or its whole connection, dies while its data is waited for: the move fails at once, with the cause.
func TestHistory_13(t *testing.T) {
	ops := operations(t, futureChain)
	up, switched := slices.Index(ops, "estimate n0"), slices.Index(ops, "takeover n3")
	require.Greater(t, switched, up)
	for nth := up + 1; nth <= switched; nth++ {
		t.Run(fmt.Sprintf("the stream ends at %d, %s", nth, ops[nth-1]), func(t *testing.T) {
			inMoveWorld(t, oldChain, func(t *testing.T, w *moveWorld) {
				var told time.Time
				w.at(nth, func(context.Context) error {
					told = time.Now()
					w.world.replications[nodeN].set(0, "")
					w.cluster.ReplicationEvents().Publish(dcp.StreamEnded{
						Link: dcp.Link{Bucket: "orders", Producer: nodeA, Consumer: nodeN}, VB: 0, Reason: mcbp.EndBackfillFailed,
					})
					synctest.Wait()
					return nil
				})
				var lost *StreamLost
				require.ErrorAs(t, w.move(futureChain), &lost)
				assert.Equal(t, told, time.Now())
				assert.Contains(t, lost.Error(), "replication n0→n3: stream of vb 0 ended")
				w.world.setGate(nil)
				require.NoError(t, w.janitor().Problem())
				w.requireChain(oldChain)
			})
		})
	}
	for nth := 1; nth <= len(ops); nth++ {
		t.Run(fmt.Sprintf("the connection is lost at %d, %s", nth, ops[nth-1]), func(t *testing.T) {
			inMoveWorld(t, oldChain, func(t *testing.T, w *moveWorld) {
				var told time.Time
				w.at(nth, func(context.Context) error {
					told = time.Now()
					w.cluster.ReplicationEvents().Publish(dcp.LinkCrashed{
						Link:   dcp.Link{Bucket: "orders", Producer: nodeA, Consumer: nodeN},
						Reason: &dcp.CrashError{Role: dcp.RoleConsumer, Err: errInjected},
					})
					synctest.Wait()
					return nil
				})
				require.ErrorIs(t, w.move(futureChain), errInjected)
				assert.Equal(t, told, time.Now())
				w.world.setGate(nil)
				require.NoError(t, w.janitor().Problem())
			})
		})
	}
	t.Run("the producer does not know the stream", func(t *testing.T) {
		inMoveWorld(t, oldChain, func(t *testing.T, w *moveWorld) {
			w.world.estimate = func(uint16) kv.Estimate { return kv.Estimate{Status: "does_not_exist"} }
			began := time.Now()
			err := w.move(futureChain)
			require.ErrorContains(t, err, `move of vb 0 n0→n3: backfill n0→n3: status "does_not_exist" for 10`)
			assert.Less(t, time.Since(began), 11*time.Second)
		})
	})
}

// "Nothing left to send" before anything was counted is not the end of a backfill.
func TestHistory_14(t *testing.T) {
	for status, want := range map[string][2]caughtUp{ // with 0 items, and with as many as the limit
		"backfilling":               {backfillDone, backfillNotYet},
		"in-memory":                 {backfillDone, backfillNotYet},
		"calculating-item-count":    {backfillNotYet, backfillNotYet},
		"does_not_exist":            {backfillMissing, backfillMissing},
		"connection_does_not_exist": {backfillMissing, backfillMissing},
		"stream_does_not_exist":     {backfillMissing, backfillMissing},
		"stream_is_dead":            {backfillHopeless, backfillHopeless},
		"done":                      {backfillHopeless, backfillHopeless},
		"":                          {backfillHopeless, backfillHopeless},
	} {
		assert.Equal(t, want, [2]caughtUp{classifyEstimate(status, 0, 1000), classifyEstimate(status, 1000, 1000)}, status)
	}
	t.Run("the move does not go on before the data is counted", func(t *testing.T) {
		inMoveWorld(t, oldChain, func(t *testing.T, w *moveWorld) {
			answers := 0
			w.world.estimate = func(uint16) kv.Estimate {
				answers++
				switch {
				case answers < 10:
					return kv.Estimate{Status: "does_not_exist"}
				case answers < 50:
					return kv.Estimate{Status: "calculating-item-count"}
				case answers < 60:
					return kv.Estimate{Status: "backfilling", Items: 1000}
				}
				return kv.Estimate{Status: "backfilling", Items: 999}
			}
			w.world.setGate(func(_ context.Context, op fakeOp) error {
				if op.What == "persistence" || op.What == "takeover" {
					assert.Equal(t, 60, answers)
				}
				return nil
			})
			require.NoError(t, w.move(futureChain))
			w.requireChain(futureChain)
		})
	})
	t.Run("whatever the answers", func(t *testing.T) {
		rapid.Check(t, func(t *rapid.T) {
			plan, err := planMove(17, vbmap.Chain{"n0"}, vbmap.Chain{"n3"})
			require.NoError(t, err)
			m := newMoveMachine(plan, stamp{Epoch: 5}, MoveLimits{})
			runUntil(m, m.begin(), StepBackfill)
			for range rapid.IntRange(1, 200).Draw(t, "answers") {
				status := rapid.SampledFrom([]string{
					"backfilling", "in-memory", "calculating-item-count", "does_not_exist", "connection_does_not_exist", "odd",
				}).Draw(t, "status")
				items := rapid.Uint64Range(990, 1010).Draw(t, "items")
				if status != "backfilling" && status != "in-memory" {
					items = 0 // it means nothing there
				}
				require.Len(t, m.pending, 1)
				effects := m.answered(m.pendingIDs()[0], estimateAnswer{Status: status, Items: items}, nil)
				good := (status == "backfilling" || status == "in-memory") && items < 1000
				require.Equal(t, good, m.step() != StepBackfill)
				if good || m.over {
					return
				}
				require.NotEmpty(t, effects)
				m.fired(moveTimer{Step: StepBackfill, Kind: timerPoll, Node: "n3"})
			}
		})
	})
}

// A backfill keeps its slot until its data is on disk, so that a slow disk is not flooded.
func TestHistory_15(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		i := newInterrupted(t, 64)
		defer func() { i.close() }()
		limit := 4 // of schedule.Limits
		var mu sync.Mutex
		held, most := map[string]map[uint16]bool{}, 0
		switched := map[uint16]bool{} // their streams from the new active bring nothing
		i.world.setGate(func(ctx context.Context, op fakeOp) error {
			mu.Lock()
			if held[op.Node] == nil {
				held[op.Node] = map[uint16]bool{}
			}
			switched[op.VB] = switched[op.VB] || op.What == "takeover"
			if op.What == "open" && !switched[op.VB] { // data arrives, and is not on disk
				held[op.Node][op.VB] = true
				most = max(most, len(held[op.Node]))
			}
			mu.Unlock()
			if op.What != "persistence" {
				return nil
			}
			err := after(ctx, time.Second)
			mu.Lock()
			defer mu.Unlock()
			delete(held[op.Node], op.VB)
			return err
		})
		run, err := i.cluster.Rebalance(t.Context(), Request{})
		require.NoError(t, err)
		report, err := run.Wait(t.Context())
		require.NoError(t, err)
		require.NoError(t, report.Err)
		mu.Lock()
		defer mu.Unlock()
		assert.Equal(t, limit, most, "the limit is reached, and kept")
	})
}

// Every kind of move counts, on every node that it loads, and only once; in the end nothing is counted any more.
func TestHistory_16(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		nodes := []string{"a", "b", "c", "d", "e"}
		limits := schedule.Limits{
			BackfillsPerNode: rapid.IntRange(1, 3).Draw(t, "backfills"), MovesPerNode: rapid.IntRange(1, 4).Draw(t, "moves"),
		}
		copies := rapid.IntRange(1, 3).Draw(t, "copies")
		chain := func(label string) vbmap.Chain {
			members := rapid.Permutation(nodes).Draw(t, label)[:rapid.IntRange(1, copies).Draw(t, label+" members")]
			return vbmap.Chain(members).Aligned(copies)
		}
		var plans []movePlan
		for vb := range uint16(rapid.IntRange(1, 40).Draw(t, "vbuckets")) {
			old, wanted := chain("old"), chain("new")
			if rapid.IntRange(0, 5).Draw(t, "lost") == 0 {
				old = vbmap.Chain{}.Aligned(copies)
			}
			if old.Equal(wanted) {
				continue
			}
			plan, err := planMove(vb, old, wanted)
			require.NoError(t, err)
			plans = append(plans, plan)
		}
		load := moveLoad{limits: limits, flying: map[uint16]movePlan{}, filling: map[uint16]bool{}}
		m := newMoverMachine(plans, limits)
		finished := load.take(t, m.begin())
		for done := 0; !finished; done++ {
			require.Less(t, done, 1000)
			vb := rapid.SampledFrom(slices.Sorted(maps.Keys(load.flying))).Draw(t, "vb")
			if load.filling[vb] && rapid.Bool().Draw(t, "filled") {
				load.filling[vb] = false
				finished = load.take(t, m.backfillDone(vb))
				continue
			}
			delete(load.flying, vb)
			delete(load.filling, vb)
			finished = load.take(t, m.moveEnded(vb, nil, nil))
		}
		require.Empty(t, load.flying)
		require.Equal(t, len(plans), m.done)
		require.Zero(t, m.schedule.Remaining())
		for node, part := range m.schedule.Progress() {
			require.InDelta(t, 1, part, 0, node)
		}
	})
}

// moveLoad counts for itself what the moves in flight load the nodes with.
type moveLoad struct {
	limits  schedule.Limits
	flying  map[uint16]movePlan
	filling map[uint16]bool
}

func (l *moveLoad) take(t *rapid.T, effects []moverEffect) (finished bool) {
	for _, effect := range effects {
		switch e := effect.(type) {
		case startMove:
			require.NotContains(t, l.flying, e.Plan.VB)
			l.flying[e.Plan.VB] = e.Plan
			l.filling[e.Plan.VB] = !e.Plan.fromNothing()
		case moverFinished:
			require.NoError(t, e.Err)
			finished = true
		}
	}
	backfills, moves := map[string]int{}, map[string]int{}
	for vb, plan := range l.flying {
		if plan.fromNothing() {
			continue // there is nothing to copy
		}
		for _, node := range distinct([]string{plan.From, plan.To}) {
			moves[node]++
		}
		if l.filling[vb] {
			for _, node := range distinct([]string{plan.From, plan.To}, without(plan.New, plan.Old...)) {
				backfills[node]++
			}
		}
	}
	for node, n := range backfills {
		require.LessOrEqual(t, n, l.limits.BackfillsPerNode, node)
	}
	for node, n := range moves {
		require.LessOrEqual(t, n, l.limits.MovesPerNode, node)
	}
	return finished
}

// Never has a copy two streams, and nobody opens one again that a move has just closed: not the questions that others ask
// meanwhile, nor a run of the janitor. The new active was a replica, the old one becomes one.
func TestHistory_17(t *testing.T) {
	for name, wanted := range map[string]vbmap.Chain{
		"the replica takes over": {nodeB, nodeA},
		"another node does":      {nodeN, nodeA},
		"all change":             {nodeC, nodeN},
	} {
		ops := operations(t, wanted)
		for nth := 1; nth <= len(ops); nth++ {
			at := fmt.Sprintf("%s, %d %s", name, nth, ops[nth-1])
			t.Run("questions at "+at, func(t *testing.T) {
				inMoveWorld(t, oldChain, func(t *testing.T, w *moveWorld) {
					env := w.cluster.env
					w.at(nth, func(ctx context.Context) error {
						_, err := env.queryAgents(ctx, "orders", everybody())
						return err
					})
					require.NoError(t, w.move(wanted))
					w.requireChain(wanted)
				})
			})
			t.Run("a janitor at "+at, func(t *testing.T) {
				inMoveWorld(t, oldChain, func(t *testing.T, w *moveWorld) {
					env, cleaned := w.cluster.env, make(chan error, 1)
					w.at(nth, func(ctx context.Context) error {
						go func() {
							_, err := env.clean(context.Background(), cleanCall{reason: reasonDemand})
							cleaned <- err
						}()
						return after(ctx, time.Millisecond)
					})
					ended := w.startMove(wanted)
					require.NoError(t, <-cleaned)
					if err := (<-ended).err; err != nil { // it was overtaken
						var failed *MoveError
						require.ErrorAs(t, err, &failed)
					}
					w.world.setGate(nil)
					require.NoError(t, w.janitor().Problem())
					w.requireChain(w.chain())
				})
			})
		}
	}
}

// A takeover that is abandoned at any of its messages, in any way, does not leave its vbucket without an active: the old
// one serves again, or the new one does, and never both.
func TestHistory_18(t *testing.T) {
	ways := map[string]func(ctx context.Context, w *moveWorld) error{
		"refused": func(context.Context, *moveWorld) error { return errInjected },
		"its connection is lost": func(_ context.Context, w *moveWorld) error {
			w.cluster.ReplicationEvents().Publish(dcp.LinkCrashed{
				Link:   dcp.Link{Bucket: "orders", Producer: nodeA, Consumer: nodeN},
				Reason: &dcp.CrashError{Role: dcp.RoleConsumer, Err: errInjected},
			})
			return errInjected
		},
		"no answer": func(ctx context.Context, _ *moveWorld) error {
			<-ctx.Done()
			return context.Cause(ctx)
		},
	}
	for _, what := range []string{
		"takeover", "takeover with the consumer pending", "takeover with nobody active", "takeover that has happened",
	} {
		for way, do := range ways {
			t.Run(what+", "+way, func(t *testing.T) {
				inMoveWorld(t, oldChain, func(t *testing.T, w *moveWorld) {
					w.breakAt(what, nodeN, 1, func(ctx context.Context) error { return do(ctx, w) })
					require.Error(t, w.move(futureChain))
					began := time.Now()
					require.NoError(t, w.janitor().Problem())
					assert.LessOrEqual(t, time.Since(began), fakeGrace+time.Second)
					want := oldChain
					if what == "takeover that has happened" {
						want = futureChain
					}
					w.requireChain(want)
					actortest.Elapse(time.Hour) // nothing of it happens later
					w.requireChain(want)
				})
			})
		}
	}
}

// A copy that is to take over is a replica until it does: whoever asks it is told at once that it is not the active. Pending,
// it would let its clients wait.
func TestHistory_19(t *testing.T) {
	inMoveWorld(t, oldChain, func(t *testing.T, w *moveWorld) {
		var taking atomic.Bool // the gate is passed by several at a time
		w.world.setGate(func(_ context.Context, op fakeOp) error {
			if op.What == "takeover" {
				taking.Store(true)
			}
			assert.NotEqual(t, "state pending", op.What)
			if !taking.Load() {
				assert.NotContains(t, slices.Collect(maps.Values(w.states())), isPending)
			}
			return nil
		})
		require.NoError(t, w.move(futureChain))
		assert.True(t, taking.Load())
	})
}
