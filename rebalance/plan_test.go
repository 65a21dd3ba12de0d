package rebalance

import (
	"context"
	"encoding/json"
	"slices"
	"testing"
	"testing/synctest"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/shearpin/shearpin/rebalance/store"
	"github.com/shearpin/shearpin/rebalance/vbmap"
)

// throughJSON is the plan as somebody gets it who stored it in a file.
func throughJSON(t require.TestingT, plan *Plan) *Plan {
	text, err := json.Marshal(plan)
	require.NoError(t, err)
	read := &Plan{}
	require.NoError(t, json.Unmarshal(text, read))
	return read
}

func (i *interrupted) plan() *Plan {
	i.t.Helper()
	plan, err := i.cluster.Plan(i.t.Context(), request)
	require.NoError(i.t, err)
	return plan
}

func (i *interrupted) doc() store.BucketDoc {
	i.t.Helper()
	doc, err := i.cluster.env.buckets.Get(i.t.Context(), "orders")
	require.NoError(i.t, err)
	return doc
}

func TestAPlanChangesNothing(t *testing.T) {
	inFakeCluster(t, func(t *testing.T, i *interrupted) {
		before, err := i.store.List(t.Context(), "")
		require.NoError(t, err)
		runs := i.cluster.JanitorRuns()
		i.world.setGate(func(_ context.Context, op fakeOp) error {
			assert.Contains(t, []string{"query"}, op.What)
			return nil
		})
		plan := i.plan()
		i.world.setGate(nil)
		require.NotEmpty(t, plan.Buckets[0].Moves)
		after, err := i.store.List(t.Context(), "")
		require.NoError(t, err)
		assert.Equal(t, before, after)
		assert.Equal(t, runs, i.cluster.JanitorRuns())
	})
}

func TestAPlanSaysWhatMoves(t *testing.T) {
	inFakeCluster(t, func(t *testing.T, i *interrupted) {
		plan := i.plan()
		assert.Equal(t, []PlannedNode{{Name: "n1"}, {Name: "n2"}, {Name: "n3"}}, plan.Nodes)
		require.Len(t, plan.Buckets, 1)
		bucket, doc := plan.Buckets[0], i.doc()
		assert.Equal(t, doc.UUID, bucket.UUID)
		assert.Equal(t, doc.Servers, bucket.Servers)
		built, dropped, items := 0, 0, uint64(0)
		for _, move := range bucket.Moves {
			assert.Equal(t, doc.Map[move.VB], move.Old)
			assert.Equal(t, bucket.Target[move.VB], move.New)
			kind := MoveReplicas
			if move.Old.Active() != move.New.Active() {
				kind = MoveActive
			}
			assert.Equal(t, kind, move.Kind)
			require.NotNil(t, move.Items)
			assert.Equal(t, uint64(100), *move.Items)
			added := len(without(move.New, move.Old...))
			built += added
			dropped += len(without(move.Old, move.New...))
			items += uint64(added) * 100
		}
		for node, counts := range bucket.ByNode {
			built -= counts.Built
			dropped -= counts.Dropped
			assert.Equal(t, counts.ActivesBefore+counts.ReplicasBefore+counts.Built-counts.Dropped, counts.ActivesAfter+counts.ReplicasAfter, node)
		}
		assert.Zero(t, built)
		assert.Zero(t, dropped)
		assert.Zero(t, bucket.ByNode["n0"].ActivesAfter+bucket.ByNode["n0"].ReplicasAfter, "it leaves")
		require.NotNil(t, bucket.Items)
		assert.Equal(t, items, *bucket.Items)
	})
}

// What a node does not tell is open, not nothing.
func TestAPlanDoesNotGuess(t *testing.T) {
	inFakeCluster(t, func(t *testing.T, i *interrupted) {
		i.world.setGate(func(_ context.Context, op fakeOp) error {
			if op.Node == "n1" {
				return errInjected
			}
			return nil
		})
		bucket := i.plan().Buckets[0]
		assert.Nil(t, bucket.Items)
		for _, move := range bucket.Moves {
			assert.Equal(t, move.Old.Active() == "n1", move.Items == nil, "vb %d", move.VB)
		}
	})
}

// The map that results is the plan's, also where one that is made now would be another.
func TestAPlanIsExecutedUnchanged(t *testing.T) {
	inFakeCluster(t, func(t *testing.T, i *interrupted) {
		plan := throughJSON(t, i.plan())
		// Somebody wants one of the chains the other way round.
		bucket := &plan.Buckets[0]
		at := slices.IndexFunc(bucket.Moves, func(m PlannedMove) bool { return !m.Old.Equal(vbmap.Chain{m.New[1], m.New[0]}) })
		slices.Reverse(bucket.Moves[at].New)
		bucket.Target[bucket.Moves[at].VB] = bucket.Moves[at].New.Clone()
		require.NotEqual(t, bucket.Target, i.plan().Buckets[0].Target)
		again, err := i.cluster.Plan(t.Context(), Request{Plan: plan})
		require.NoError(t, err)
		require.Equal(t, plan, again)

		run, err := i.cluster.Rebalance(t.Context(), Request{Plan: plan})
		require.NoError(t, err)
		report, err := run.Wait(t.Context())
		require.NoError(t, err)
		require.NoError(t, report.Err)
		assert.Equal(t, plan.Buckets[0].Target, i.doc().Map)
		assert.Equal(t, len(plan.Buckets[0].Moves), report.Moves)
		assert.ElementsMatch(t, []string{"n1", "n2", "n3"}, i.doc().Servers)
		assert.Equal(t, i.before, i.world.data())

		_, err = i.cluster.Rebalance(t.Context(), Request{Plan: plan})
		var changed *PlanChangedError
		require.ErrorAs(t, err, &changed, "it cannot be executed twice")
		assert.Equal(t, "orders", changed.Bucket)
	})
}

func TestAPlanThatDoesNotFitIsRefused(t *testing.T) {
	edit := func(i *interrupted, f func(*store.BucketDoc)) {
		_, err := i.cluster.env.buckets.Update(i.t.Context(), "orders", func(doc *store.BucketDoc) error {
			f(doc)
			return nil
		})
		require.NoError(i.t, err)
	}
	for _, test := range []struct {
		name   string
		change func(i *interrupted, plan *Plan)
		want   string
	}{
		{"a chain", func(i *interrupted, plan *Plan) {
			edit(i, func(d *store.BucketDoc) { d.Map[plan.Buckets[0].Moves[0].VB][1] = "" })
		}, "vb "},
		{"a chain that was to stay", func(i *interrupted, plan *Plan) {
			edit(i, func(d *store.BucketDoc) {
				d.Map = plan.Buckets[0].Target.Clone()
			})
		}, "vb "},
		{"the bucket was created again", func(i *interrupted, _ *Plan) {
			edit(i, func(d *store.BucketDoc) { d.UUID = "another" })
		}, "it has UUID another, had "},
		{"replicas", func(i *interrupted, _ *Plan) {
			edit(i, func(d *store.BucketDoc) { d.Replicas = 2 })
		}, "its number of replicas is another"},
		{"servers", func(i *interrupted, _ *Plan) {
			edit(i, func(d *store.BucketDoc) { d.Servers = append(d.Servers, "n3") })
		}, "its servers are n0, n1, n2, n3, were n0, n1, n2"},
		{"the bucket is gone", func(i *interrupted, _ *Plan) {
			require.NoError(i.t, i.cluster.env.buckets.Delete(i.t.Context(), i.doc()))
		}, "the bucket does not exist"},
		{"a vbucket that it does not have", func(_ *interrupted, plan *Plan) {
			plan.Buckets[0].Digest, plan.Buckets[0].Moves[0].VB = "", 65535
		}, "it has no vb 65535"},
		{"a node", func(_ *interrupted, plan *Plan) { plan.Nodes[2].Name = "n9" }, `node "n9" is not known`},
		{"a group", func(_ *interrupted, plan *Plan) { plan.Nodes[2].Group = "west" }, `node "n3" is in group "", was in "west"`},
	} {
		t.Run(test.name, func(t *testing.T) {
			inFakeCluster(t, func(t *testing.T, i *interrupted) {
				plan := throughJSON(t, i.plan())
				test.change(i, plan)
				i.world.setGate(func(_ context.Context, op fakeOp) error {
					assert.Fail(t, "something was done", op)
					return nil
				})
				_, err := i.cluster.Rebalance(t.Context(), Request{Plan: plan})
				i.world.setGate(nil)
				var changed *PlanChangedError
				require.ErrorAs(t, err, &changed)
				assert.Contains(t, changed.What, test.want)
				_, err = i.cluster.Plan(t.Context(), Request{Plan: plan})
				require.ErrorAs(t, err, &changed)
				state, err := i.cluster.State(t.Context())
				require.NoError(t, err)
				assert.Equal(t, Idle, state)
			})
		})
	}
}

// A plan that somebody has edited so that it makes no sense is refused too.
func TestAPlanThatMakesNoSenseIsRefused(t *testing.T) {
	for want, edit := range map[string]func(r *Request){
		"rebalance: Request.Keep and Request.Plan exclude each other: the plan says which nodes are kept":       func(r *Request) { r.Keep = []string{"n1"} },
		"rebalance: Request.Buckets and Request.Plan exclude each other: the plan says which buckets are moved": func(r *Request) { r.Buckets = []string{"orders"} },
		"rebalance: Request.Plan.Version is 2, must be 1":                                                       func(r *Request) { r.Plan.Version = 2 },
		"rebalance: Request.Plan has no nodes":                                                                  func(r *Request) { r.Plan.Nodes = nil },
		`rebalance: Request.Plan has bucket "orders" twice`: func(r *Request) {
			r.Plan.Buckets = append(r.Plan.Buckets, r.Plan.Buckets[0])
		},
		`rebalance: Request.Plan: the moves of "orders" are not those that lead to its target`: func(r *Request) {
			r.Plan.Buckets[0].Moves = r.Plan.Buckets[0].Moves[1:]
		},
		`rebalance: Request.Plan: target of "orders": vb 0 [n1 n0]: unknown node in a chain: "n0" at position 1`: func(r *Request) {
			r.Plan.Buckets[0].Target[0] = vbmap.Chain{"n1", "n0"}
		},
		`rebalance: Request.Plan: target of "orders": vb 1 [n1]: wrong chain length: 1 members`: func(r *Request) {
			r.Plan.Buckets[0].Target[1] = vbmap.Chain{"n1"}
		},
	} {
		inFakeCluster(t, func(t *testing.T, i *interrupted) {
			r := Request{Plan: throughJSON(t, i.plan())}
			edit(&r)
			_, err := i.cluster.Rebalance(t.Context(), r)
			require.EqualError(t, err, want)
		})
	}
}

// A change between the start of the rebalance and its first move is noticed as well: nothing moves.
func TestAPlanIsCheckedAgainBeforeItsFirstMove(t *testing.T) {
	inFakeCluster(t, func(t *testing.T, i *interrupted) {
		plan := i.plan()
		vb := int(plan.Buckets[0].Moves[0].VB)
		old := plan.Buckets[0].Moves[0].Old
		i.world.setGate(func(ctx context.Context, op fakeOp) error {
			if op.What == "create bucket" {
				return i.cluster.env.buckets.UpdateChain(ctx, "orders", vb, old, vbmap.Chain{old[0], ""})
			}
			return nil
		})
		run, err := i.cluster.Rebalance(t.Context(), Request{Plan: plan})
		require.NoError(t, err)
		report, err := run.Wait(t.Context())
		require.NoError(t, err)
		require.Equal(t, Failed, report.Outcome)
		var changed *PlanChangedError
		require.ErrorAs(t, report.Err, &changed)
		assert.Equal(t, "orders", changed.Bucket)
		assert.Contains(t, changed.What, "has chain")
		assert.Zero(t, report.MovesPlanned)
		i.repaired()
	})
}

func TestNoPlanIsMadeWhileARebalanceRuns(t *testing.T) {
	inFakeCluster(t, func(t *testing.T, i *interrupted) {
		run := i.start()
		_, err := i.cluster.Plan(t.Context(), request)
		require.ErrorIs(t, err, ErrRebalanceRunning)
		_, err = run.Wait(t.Context())
		require.NoError(t, err)
	})
}

func TestAnyPlanSurvivesJSON(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		nodes := []string{"n0", "n1", "n2", "n3"}
		chain := func(label string) vbmap.Chain {
			return vbmap.Chain(slices.Clone(rapid.Permutation(nodes).Draw(t, label)[:2]))
		}
		doc := store.BucketDoc{Name: "orders", UUID: "u", VBuckets: 5, Replicas: 1, Servers: nodes}
		var target vbmap.Map
		items := map[uint16]uint64{}
		for vb := range doc.VBuckets {
			doc.Map, target = append(doc.Map, chain("old")), append(target, chain("new"))
			if rapid.Bool().Draw(t, "told") {
				items[uint16(vb)] = rapid.Uint64Max(1<<40).Draw(t, "items")
			}
		}
		bucket, err := planBucket(doc, target, items)
		require.NoError(t, err)
		plan := &Plan{Version: planVersion, Nodes: []PlannedNode{{Name: "n0", Group: "g"}}, Buckets: []BucketPlan{bucket}}
		read := throughJSON(t, plan)
		require.Equal(t, plan, read)
		require.NoError(t, read.Buckets[0].startsFrom(doc, nodes))
	})
}

func TestAPlanOnAClosedClusterIsRefused(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		i := newInterrupted(t, 3)
		i.close()
		_, err := i.cluster.Plan(t.Context(), request)
		require.ErrorIs(t, err, ErrClosed)
	})
}
