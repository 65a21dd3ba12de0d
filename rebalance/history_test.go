package rebalance

import (
	"context"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/shearpin/shearpin/dcp"
	"github.com/shearpin/shearpin/dcp/mcbp"
	"github.com/shearpin/shearpin/rebalance/store"
	"github.com/shearpin/shearpin/rebalance/vbmap"
)

// Bugs that others had with what is around the moves (history.md 20 to 28), as tests. What each was is in
// docs/rebalance.md.

// A node that is down is not waited for as one that warms up is.
func TestHistory_21(t *testing.T) {
	const warm = 30 * time.Second
	for name, test := range map[string]struct {
		down, warming string
		warm          time.Duration
		took          time.Duration
		want          string // of the error; empty for none
	}{
		"one that warms up":                 {warming: "n3", warm: warm, took: warm},
		"one that never does":               {warming: "n3", warm: time.Hour, took: time.Minute, want: "node n3"},
		"one that is down":                  {down: "n3", want: "creating the bucket failed: node n3: injected"},
		"one of each, the former first":     {down: "n3", warming: "n4", warm: time.Hour, want: "creating the bucket failed: node n3: injected"},
		"one of each, the latter by chance": {down: "n4", warming: "n3", warm: time.Hour, want: "creating the bucket failed: node n4: injected"},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newFakeWorld(5)
				c := openFake(t, w, 3)
				defer func() { require.NoError(t, c.Close(context.Background())) }()
				require.NoError(t, c.CreateBucket(t.Context(), BucketConfig{Name: "orders", VBuckets: 4, Replicas: 1}))
				require.NoError(t, c.AddNode(t.Context(), fakeNodeNamed(3)))
				require.NoError(t, c.AddNode(t.Context(), fakeNodeNamed(4)))
				before, err := c.Map(t.Context(), "orders")
				require.NoError(t, err)
				began := time.Now()
				w.setGate(func(_ context.Context, op fakeOp) error {
					switch {
					case op.Node == test.down && (op.What == "create bucket" || op.What == "enable traffic"):
						return errInjected
					case op.Node == test.warming && op.What == "enable traffic" && time.Since(began) < test.warm:
						return mcbp.StatusTemporaryFailure
					}
					return nil
				})
				run, err := c.Rebalance(t.Context(), Request{})
				require.NoError(t, err)
				report, err := run.Wait(t.Context())
				require.NoError(t, err)
				if test.want == "" {
					require.NoError(t, report.Err)
					assert.GreaterOrEqual(t, time.Since(began), test.took)
					return
				}
				require.ErrorContains(t, report.Err, test.want)
				assert.Equal(t, test.took, report.Ended.Sub(report.Started))
				w.setGate(nil)
				m, err := c.Map(t.Context(), "orders")
				require.NoError(t, err)
				assert.Equal(t, before, m)
			})
		})
	}
}

// An order is for one epoch, one node and one copy, and no active copy is ever deleted, whoever says so. Nodes that have
// changed places lose nothing.
func TestHistory_23(t *testing.T) {
	t.Run("orders of the epoch before", func(t *testing.T) {
		inFakeCluster(t, func(t *testing.T, i *interrupted) {
			older := i.prepared()
			i.prepared()
			for _, o := range []order{
				deleteCopy{stamp: older, VB: 0},
				setState{stamp: older, VB: 0, State: isDead},
				setStream{stamp: older, VB: 0},
				takeover{stamp: older, VB: 0, Producer: "n0"},
				applyStates{stamp: older, Delete: []uint16{0}},
				openStreams{stamp: older},
			} {
				_, err := i.ask(o)
				var stale *dcp.StaleEpoch
				require.ErrorAs(t, err, &stale, o)
			}
			assert.Equal(t, i.before, i.world.data())
		})
	})
	t.Run("the deletion of an active copy", func(t *testing.T) {
		inFakeCluster(t, func(t *testing.T, i *interrupted) {
			current := i.prepared()
			for vb, chain := range i.chains() {
				if chain.Active() != "n1" {
					continue
				}
				for _, o := range []order{
					deleteCopy{stamp: current, VB: uint16(vb)},
					applyStates{stamp: current, Retain: i.world.replications["n1"].streams, Delete: []uint16{uint16(vb)}},
				} {
					_, err := i.ask(o)
					var refused *ActiveCopy
					require.ErrorAs(t, err, &refused)
					assert.Equal(t, uint16(vb), refused.VB)
				}
			}
			assert.Equal(t, i.before, i.world.data())
		})
	})
	t.Run("two nodes under each other's address", func(t *testing.T) {
		inFakeCluster(t, func(t *testing.T, i *interrupted) {
			i.close()
			n0, n1 := i.world.nodes["n0"], i.world.nodes["n1"]
			i.world.mu.Lock()
			i.world.nodes["n0"], i.world.nodes["n1"] = n1, n0
			i.world.mu.Unlock()
			i.open(4)
			require.NoError(t, i.janitor().Problem())
			assert.Equal(t, i.before, i.world.data())
			require.NoError(t, i.start().waitErr(t))
			assert.Equal(t, i.before, i.world.data())
		})
	})
}

// waitErr waits for the end of a rebalance and gives what it ended with.
func (r *Run) waitErr(t *testing.T) error {
	report, err := r.Wait(t.Context())
	require.NoError(t, err)
	return report.Err
}

// Between looking and acting somebody else takes the bucket over: what was decided before is not written any more.
func TestHistory_24(t *testing.T) {
	overtaken := 0
	everyPoint(t, func(t *testing.T, i *interrupted, at int) {
		var mu sync.Mutex
		var claimed vbmap.Map
		i.world.setGate(func(ctx context.Context, op fakeOp) error {
			if op.Number != at {
				return nil
			}
			mu.Lock() // before the claim, which ends the rebalance
			defer mu.Unlock()
			buckets := i.cluster.env.buckets
			epoch, err := buckets.NextEpoch(ctx)
			require.NoError(t, err)
			require.NoError(t, buckets.Claim(ctx, "orders", epoch))
			doc, err := buckets.Get(ctx, "orders")
			require.NoError(t, err)
			claimed = doc.Map
			return nil
		})
		report, err := i.start().Wait(t.Context())
		require.NoError(t, err)
		mu.Lock()
		defer mu.Unlock()
		var stale *store.StaleEpochError
		if report.Outcome == Failed && assert.ErrorAs(t, report.Err, &stale) {
			overtaken++
			doc, err := i.cluster.env.buckets.Get(t.Context(), "orders")
			require.NoError(t, err)
			if doc.Epoch == stale.Current { // the janitor, with an epoch of its own, has not been here yet
				assert.Equal(t, claimed, doc.Map)
			}
		}
		i.repaired()
	})
	assert.Greater(t, overtaken, 20)
}

// However many ticks and crashes come while the janitor is at work, or while nothing runs at all, they are one reason.
func TestHistory_27(t *testing.T) {
	inFakeCluster(t, func(t *testing.T, i *interrupted) {
		release := make(chan struct{})
		i.world.setGate(func(ctx context.Context, op fakeOp) error {
			select {
			case <-release:
				return nil
			case <-ctx.Done():
				return ctx.Err()
			}
		})
		reasons := i.starts()
		cleaned := make(chan struct{})
		go func() {
			defer close(cleaned)
			_, _ = i.cluster.Janitor(context.Background())
		}()
		synctest.Wait()
		orchestrator := i.cluster.env.system.Whereis(orchestratorName)
		for range 100 {
			orchestrator.Send(janitorTick{})
			i.cluster.ReplicationEvents().Publish(dcp.LinkCrashed{Link: dcp.Link{Bucket: "orders", Producer: "n0", Consumer: "n1"}, Reason: errInjected})
		}
		require.NoError(t, after(t.Context(), time.Second))
		close(release)
		<-cleaned
		require.NoError(t, after(t.Context(), time.Minute))
		assert.Equal(t, []string{reasonDemand, reasonLinkLost}, reasons())
	})
	t.Run("a move that was not looked at for long", func(t *testing.T) {
		// The manager was stopped for an hour: of what has come meanwhile the watchdogs may be the first.
		plan, err := planMove(17, vbmap.Chain{"n0"}, vbmap.Chain{"n3"})
		require.NoError(t, err)
		m := newMoveMachine(plan, stamp{Epoch: 5}, MoveLimits{})
		m.begin()
		watchdog := moveTimer{Step: StepReplica, Kind: timerWatchdog}
		late := watchdog
		late.Late = time.Hour
		assert.Equal(t, []moveEffect{moveSetTimer{Timer: watchdog, After: 2 * time.Minute}}, m.fired(late))
		for _, id := range m.pendingIDs() {
			m.answered(id, nil, nil)
		}
		require.Equal(t, StepStream, m.step())
		assert.Empty(t, m.fired(watchdog), "that of the step before")
		m.fired(moveTimer{Step: StepStream, Kind: timerWatchdog})
		assert.True(t, m.over, "one in time")
	})
}
