package rebalance

import (
	"context"
	"slices"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/shearpin/shearpin/dcp/kv"
	"github.com/shearpin/shearpin/dcp/mcbp"
	"github.com/shearpin/shearpin/rebalance/store"
	"github.com/shearpin/shearpin/rebalance/vbmap"
)

// What the janitor obeys whatever it finds (design §6), and in which order it repairs (rebalance.md §8.4).

func TestRule_chains_answered(t *testing.T) {
	holdRows(t,
		janitorHold{
			name: "a chain member is silent",
			c:    janitorCase{Chain: vbmap.Chain{"A", "B"}, Copies: on("A", active(100), "C", wiped)},
			want: "vb 7 is left alone: no answer from B",
		},
		janitorHold{
			name: "a member of the fast-forward chain is silent",
			c:    janitorCase{Chain: vbmap.Chain{"A", "B"}, FastForward: vbmap.Chain{"C", "B"}, Copies: on("A", active(100), "B", replica(100))},
			want: "vb 7 is left alone: no answer from C",
		},
	)
	t.Run("who is in neither chain is not waited for", func(t *testing.T) {
		inMoveWorld(t, oldChain, func(t *testing.T, w *moveWorld) {
			w.damage(nodeB, 0, mcbp.VBucketMissing)
			w.world.replications[nodeB].set(0, "")
			w.silence(nodeN)
			require.Error(t, w.janitor().Problem(), "that it does not answer is told")
			w.world.setGate(nil)
			w.requireChain(oldChain)
		})
	})
}

func TestRule_nobody_active_all_answered(t *testing.T) {
	holdRows(t,
		janitorHold{
			name: "no member is active and some other server is silent",
			c:    janitorCase{Chain: vbmap.Chain{"A", "B"}, Copies: on("A", dead(100), "B", replica(100))},
			want: "vb 7 is left alone: no answer from C",
		},
	)
	t.Run("the silent one may be the active", func(t *testing.T) {
		inMoveWorld(t, oldChain, func(t *testing.T, w *moveWorld) {
			w.refuseAt("takeover that has happened", nodeN, 1)
			require.Error(t, w.move(futureChain))
			w.edit(func(doc *store.BucketDoc) { doc.Target = nil }) // so that nobody knows of N
			w.silence(nodeN)
			left := w.states()
			var waiting *WaitingForNodes
			require.ErrorAs(t, w.janitor().Problem(), &waiting)
			assert.Equal(t, []string{nodeN}, waiting.Nodes)
			w.world.setGate(nil)
			assert.Equal(t, left, w.states())
			require.NoError(t, w.janitor().Problem())
			w.requireChain(vbmap.Chain{nodeN, ""})
		})
	})
}

// The disk of the active was wiped: the reference would make it active again, and its replicas roll back to nothing.
func TestRule_no_empty_active(t *testing.T) {
	for name, left := range map[string]mcbp.VBucketState{"as a replica": isReplica, "dead": isDead} {
		t.Run(name, func(t *testing.T) {
			inMoveWorld(t, oldChain, func(t *testing.T, w *moveWorld) {
				w.damage(nodeA, 0, mcbp.VBucketMissing)
				w.damage(nodeB, 0, left)
				w.world.replications[nodeB].set(0, "")
				require.NoError(t, w.janitor().Problem())
				w.requireChain(vbmap.Chain{nodeB, nodeA})
			})
		})
	}
}

func TestRule_kept_if_histories_allow(t *testing.T) {
	holdRows(t,
		janitorHold{
			name: "branches differ and nobody has read the logs",
			c: janitorCase{Chain: vbmap.Chain{"A", "B"}, Copies: on(
				"A", janitorCopy{State: mcbp.VBucketActive, HighSeqno: 60, UUID: 1},
				"B", janitorCopy{State: mcbp.VBucketActive, HighSeqno: 55, UUID: 2}, "C", wiped)},
			want: "vb 7 is left alone: failover logs of A, B are needed",
		},
	)
	t.Run("the logs are read, and the one that contains the other is kept", func(t *testing.T) {
		inMoveWorld(t, oldChain, func(t *testing.T, w *moveWorld) {
			w.world.replications[nodeB].set(0, "")
			w.promoteBehindEverybodysBack(nodeB, 7)
			done := w.journal()
			require.NoError(t, w.janitor().Problem())
			w.before = map[uint16]uint64{0: 107}
			w.requireChain(vbmap.Chain{nodeB, ""})
			assert.Positive(t, whats(done())["history"])
		})
	})
	t.Run("a log that cannot be read proves nothing", func(t *testing.T) {
		inMoveWorld(t, oldChain, func(t *testing.T, w *moveWorld) {
			w.world.replications[nodeB].set(0, "")
			w.promoteBehindEverybodysBack(nodeB, 7)
			w.world.setGate(func(_ context.Context, op fakeOp) error {
				if op.What == "history" {
					return errInjected
				}
				return nil
			})
			var conflict *Conflict
			require.ErrorAs(t, w.janitor().Problem(), &conflict)
		})
	})
}

// promoteBehindEverybodysBack makes a copy active, and has clients write to it.
func (w *moveWorld) promoteBehindEverybodysBack(node string, documents uint64) {
	w.world.mu.Lock()
	defer w.world.mu.Unlock()
	c := w.world.nodes[node].copies[0]
	w.world.branch(c)
	c.state = isActive
	c.high += documents
}

// silence lets a node answer nothing any more.
func (w *moveWorld) silence(node string) {
	w.world.setGate(func(ctx context.Context, op fakeOp) error {
		if op.Node == node {
			<-ctx.Done()
			return context.Cause(ctx)
		}
		return nil
	})
}

// twoActives lets both copies go on, each for itself.
func (w *moveWorld) twoActives() {
	w.world.replications[nodeB].set(0, "")
	w.promoteBehindEverybodysBack(nodeB, 7)
	w.world.mu.Lock()
	w.world.nodes[nodeA].copies[0].high += 5
	w.world.mu.Unlock()
}

func TestRule_conflict_changes_nothing(t *testing.T) {
	inMoveWorld(t, oldChain, func(t *testing.T, w *moveWorld) {
		w.twoActives()
		before, chain := w.states(), w.chain()
		for range 3 {
			done := w.journal()
			report := w.janitor()
			assert.Zero(t, report.Fixes())
			assert.Empty(t, journalOf(done()))
			var conflict *Conflict
			require.ErrorAs(t, report.Buckets[0].Held[0], &conflict)
			require.Len(t, conflict.Copies, 2)
			for i, node := range []string{nodeA, nodeB} {
				c := w.world.nodes[node].copies[0]
				assert.Equal(t, ConflictingCopy{
					Node: node, State: isActive, HighSeqno: c.high, UUID: c.log[0].UUID, FailoverLog: c.log,
				}, conflict.Copies[i])
			}
		}
		assert.Equal(t, before, w.states())
		assert.Equal(t, chain, w.chain())
	})
}

func TestRule_conflict_does_not_move(t *testing.T) {
	inMoveWorld(t, oldChain, func(t *testing.T, w *moveWorld) {
		w.twoActives()
		done := w.journal()
		run, err := w.cluster.Rebalance(t.Context(), Request{Keep: []string{nodeC, nodeN}})
		require.NoError(t, err)
		report, err := run.Wait(t.Context())
		require.NoError(t, err)
		assert.Equal(t, Failed, report.Outcome)
		var conflict *Conflict
		require.ErrorAs(t, report.Err, &conflict)
		assert.Empty(t, journalOf(done()))
	})
}

// starts are the reasons of the janitor's runs from now on.
func (i *interrupted) starts() func() []string {
	events := i.cluster.Events().Subscribe(1000)
	return func() (reasons []string) {
		synctest.Wait()
		for {
			select {
			case event := <-events.C():
				if e, ok := event.(JanitorStarted); ok {
					reasons = append(reasons, e.Reason)
				}
			default:
				return reasons
			}
		}
	}
}

func TestRule_runs_after_a_failure(t *testing.T) {
	for name, test := range map[string]struct {
		end  func(t *testing.T, i *interrupted, run *Run)
		want string
	}{
		"failed":  {func(*testing.T, *interrupted, *Run) {}, reasonFailed},
		"stopped": {func(t *testing.T, _ *interrupted, run *Run) { require.NoError(t, run.Stop(t.Context())) }, reasonStopped},
	} {
		t.Run(name, func(t *testing.T) {
			inFakeCluster(t, func(t *testing.T, i *interrupted) {
				reached, release := make(chan struct{}, 100), make(chan struct{})
				i.world.setGate(func(ctx context.Context, op fakeOp) error {
					if op.What != "takeover" {
						return nil
					}
					reached <- struct{}{}
					select {
					case <-release:
						return errInjected
					case <-ctx.Done():
						return ctx.Err()
					}
				})
				reasons := i.starts()
				run := i.start()
				<-reached
				assert.Equal(t, []string{"rebalance"}, reasons(), "before the moves, and not while they run")
				ended := make(chan struct{})
				go func() {
					defer close(ended)
					test.end(t, i, run)
				}()
				synctest.Wait()
				close(release)
				<-ended
				_, err := run.Wait(t.Context())
				require.NoError(t, err)
				require.NoError(t, after(t.Context(), time.Minute))
				assert.Equal(t, []string{test.want}, reasons())
				i.repaired()
			})
		})
	}
}

func TestRule_runs_by_time(t *testing.T) {
	inFakeCluster(t, func(t *testing.T, i *interrupted) {
		reasons := i.starts()
		m := i.chains()
		i.damage(m[0].Active(), 0, mcbp.VBucketDead)
		require.NoError(t, after(t.Context(), 2*i.cluster.env.config.JanitorInterval+time.Second))
		assert.Equal(t, []string{reasonPeriodic, reasonPeriodic}, reasons())
		i.world.mu.Lock()
		defer i.world.mu.Unlock()
		assert.Equal(t, isActive, i.world.nodes[m[0].Active()].copies[0].state)
	})
}

// On every node: streams, then states, then deletions.
func TestOrder_streams_states_deletions(t *testing.T) {
	inFakeCluster(t, func(t *testing.T, i *interrupted) {
		for vb, chain := range i.chains() {
			active := i.world.nodes[chain.Active()].copies[uint16(vb)]
			i.damage(chain.Active(), uint16(vb), mcbp.VBucketDead)
			stray := without(vbmap.Chain{"n0", "n1", "n2"}, chain...)[0]
			i.world.mu.Lock()
			i.world.nodes[stray].copies[uint16(vb)] = &fakeCopy{state: isReplica, high: active.high, log: active.log}
			i.world.mu.Unlock()
			i.world.replications[stray].set(uint16(vb), chain.Active())
		}
		done := i.journal()
		require.NoError(t, i.janitor().Problem())
		stages := map[string]int{"close": 1, "state active": 2, "delete": 3, "open": 4}
		reached, seen := map[string]map[uint16]int{}, map[int]int{}
		for _, node := range []string{"n0", "n1", "n2"} {
			reached[node] = map[uint16]int{}
		}
		last := map[string]int{}
		deleting := false
		for _, op := range done() {
			stage := stages[op.What]
			if stage == 0 {
				continue
			}
			seen[stage]++
			deleting = deleting || stage == 3
			if !deleting { // the first round
				assert.GreaterOrEqual(t, stage, last[op.Node], op)
				last[op.Node] = stage
			}
			assert.Greater(t, stage, reached[op.Node][op.VB], op)
			reached[op.Node][op.VB] = stage
		}
		assert.Equal(t, map[int]int{1: 8, 2: 8, 3: 8}, seen)
	})
}

func TestOrder_no_stream_towards_an_active(t *testing.T) {
	inMoveWorld(t, oldChain, func(t *testing.T, w *moveWorld) {
		w.damage(nodeB, 0, isActive)
		w.world.replications[nodeB].set(0, "")
		w.refuseAt("state dead", nodeB, 1)
		require.Error(t, w.janitor().Problem())
		assert.Empty(t, w.streams(), "it is active still")
		done := w.journal()
		require.NoError(t, w.janitor().Problem())
		assert.Equal(t, []string{"state dead n1", "state replica n1", "open n1"}, journalOf(done()))
		w.requireChain(oldChain)
	})
}

// Differs: what must have answered are the members of the chains, not every server. A copy that nobody needs goes when
// the map says so, the active is active, and it has what the copy has.
func TestOrder_no_deletion_before_the_map(t *testing.T) {
	lost := func(t *testing.T, w *moveWorld) {
		w.refuseAt("takeover that has happened", nodeN, 1)
		require.Error(t, w.move(futureChain))
		w.edit(func(doc *store.BucketDoc) { doc.Target = nil })
	}
	t.Run("the map comes first", func(t *testing.T) {
		inMoveWorld(t, oldChain, func(t *testing.T, w *moveWorld) {
			lost(t, w)
			var deleted atomic.Int32
			w.world.setGate(func(_ context.Context, op fakeOp) error {
				if op.What == "delete" {
					deleted.Add(1)
					assert.Equal(t, vbmap.Chain{nodeN, ""}, w.chain())
				}
				return nil
			})
			require.NoError(t, w.janitor().Problem())
			assert.Equal(t, int32(2), deleted.Load())
			w.requireChain(vbmap.Chain{nodeN, ""})
		})
	})
	t.Run("a map that cannot be written changes nothing", func(t *testing.T) {
		inMoveWorld(t, oldChain, func(t *testing.T, w *moveWorld) {
			lost(t, w)
			left := w.states()
			env := w.cluster.env
			claimed := false
			var done []fakeOp
			w.world.setGate(func(ctx context.Context, op fakeOp) error {
				w.world.mu.Lock()
				first := op.What == "query" && !claimed
				claimed = claimed || first
				done = append(done, op)
				w.world.mu.Unlock()
				if !first {
					return nil
				}
				epoch, err := env.buckets.NextEpoch(ctx)
				if err != nil {
					return err
				}
				return env.buckets.Claim(ctx, "orders", epoch) // somebody else takes the bucket over
			})
			var stale *store.StaleEpochError
			require.ErrorAs(t, w.janitor().Problem(), &stale)
			assert.Equal(t, left, w.states())
			synctest.Wait()
			w.world.mu.Lock()
			assert.Empty(t, journalOf(done))
			w.world.mu.Unlock()
			w.world.setGate(nil)
			require.NoError(t, w.janitor().Problem())
		})
	})
	t.Run("the active comes first", func(t *testing.T) {
		inMoveWorld(t, oldChain, func(t *testing.T, w *moveWorld) {
			w.refuseAt("takeover with nobody active", nodeN, 1)
			require.Error(t, w.move(futureChain))
			w.refuseAt("state active", nodeA, 1)
			require.Error(t, w.janitor().Problem())
			assert.Contains(t, w.states(), nodeN)
			done := w.journal()
			require.NoError(t, w.janitor().Problem())
			did := journalOf(done())
			assert.Less(t, slices.Index(did, "state active n0"), slices.Index(did, "delete n3"))
			w.requireChain(oldChain)
		})
	})
	t.Run("a copy with data of its own stays", func(t *testing.T) {
		inMoveWorld(t, oldChain, func(t *testing.T, w *moveWorld) {
			w.world.mu.Lock()
			w.world.nodes[nodeN].copies[0] = &fakeCopy{state: isReplica, high: 5, log: []kv.FailoverEntry{{UUID: 99}}}
			w.world.mu.Unlock()
			report := w.janitor()
			require.NoError(t, report.Problem())
			assert.Equal(t, map[uint16][]string{0: {nodeN}}, report.Buckets[0].Kept)
			assert.Contains(t, w.states(), nodeN)
		})
	})
}

func TestRule_failed_over_is_gone(t *testing.T) {
	c := janitorCase{
		VB: 7, Chain: vbmap.Chain{"A", "B"}, Servers: []string{"A", "B", "C"}, FailedOver: []string{"A"},
		Copies: on("B", replica(100), "C", wiped),
	}
	decision := decideVBucket(c)
	require.NoError(t, decision.Hold)
	assert.Equal(t, vbmap.Chain{"B", ""}, decision.Chain)
	assert.Equal(t, []copyAction{activate("B", "B", "")}, decision.Actions)

	c.Copies["A"] = active(200) // it answers after all, too late to count
	assert.Equal(t, decision, decideVBucket(c))
}

// A server of which nobody knows the address is one that does not answer.
func TestAServerThatNobodyKnowsHoldsUpNobody(t *testing.T) {
	inMoveWorld(t, oldChain, func(t *testing.T, w *moveWorld) {
		w.edit(func(doc *store.BucketDoc) { doc.Servers = append([]string{"n9"}, doc.Servers...) })
		w.close()
		w.damage(nodeB, 0, mcbp.VBucketMissing)
		w.open(4) // nobody's agents run
		problem := w.janitor().Problem()
		require.ErrorIs(t, problem, ErrUnknownNode)
		require.ErrorContains(t, problem, "node n9")
		w.requireChain(oldChain)
	})
}
