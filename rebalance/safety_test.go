package rebalance

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/shearpin/shearpin/actors"
	"github.com/shearpin/shearpin/actors/actortest"
	"github.com/shearpin/shearpin/dcp"
	"github.com/shearpin/shearpin/dcp/kv"
	"github.com/shearpin/shearpin/dcp/mcbp"
	"github.com/shearpin/shearpin/rebalance/store"
	"github.com/shearpin/shearpin/rebalance/vbmap"
)

// planned is the plan of vbucket 17.
func planned(t *testing.T, old, wanted vbmap.Chain) movePlan {
	t.Helper()
	plan, err := planMove(17, old, wanted)
	require.NoError(t, err)
	return plan
}

// runUntil answers everything well until a step begins, and returns the effects that began it.
func runUntil(m *moveMachine, effects []moveEffect, until Step) []moveEffect {
	for m.step() != until {
		var next []moveEffect
		for _, e := range effects {
			ask, ok := e.(moveAsk)
			if !ok {
				continue
			}
			var v any
			switch ask.Request.(type) {
			case readSeqno:
				v = seqnoAnswer{High: 10}
			case awaitPersisted:
				v = persistedAnswer{}
			case readEstimate:
				v = estimateAnswer{Status: "in-memory"}
			}
			next = append(next, m.answered(ask.ID, v, nil)...)
		}
		effects = next
	}
	return effects
}

func TestAStreamThatEndsDuringTheSetUpOfAnotherFailsTheMove(t *testing.T) {
	m := newMoveMachine(planned(t, vbmap.Chain{"n0", "n1"}, vbmap.Chain{"n3", "n2"}), stamp{Epoch: 5}, MoveLimits{})
	effects := runUntil(m, m.begin(), StepStream)
	for _, e := range effects {
		if a, ok := e.(moveAsk); ok && a.Node == "n2" {
			require.Empty(t, m.answered(a.ID, nil, nil)[1:])
		}
	}
	got := m.streamEnded("n0", "n2", &dcp.StreamEndedError{VB: 17, Reason: mcbp.EndStateChanged})
	require.NotEmpty(t, got, "the step waits on it: it must fail at once")
	var lost *StreamLost
	require.ErrorAs(t, got[0].(moveFinished).Err, &lost)
}

func TestADiskThatStandsStillIsNoProgress(t *testing.T) {
	m := newMoveMachine(planned(t, vbmap.Chain{"n0", "n1"}, vbmap.Chain{"n3", "n1"}), stamp{Epoch: 5}, MoveLimits{})
	runUntil(m, m.begin(), StepPersist)
	// the answer to readSeqno
	for id := range m.pending {
		m.answered(id, seqnoAnswer{High: 10}, nil)
	}
	require.Equal(t, StepPersist, m.step())
	armed := 0
	for round := range uint64(1000) { // 1000 × 5 s
		for _, e := range m.fired(moveTimer{Step: StepPersist, Kind: timerProbe}) {
			ask, ok := e.(moveAsk)
			if !ok {
				continue
			}
			for _, e := range m.answered(ask.ID, seqnoAnswer{High: 10 + round, Persisted: 3}, nil) {
				if set, ok := e.(moveSetTimer); ok && set.Timer.Kind == timerWatchdog {
					armed++
				}
			}
		}
	}
	require.Zero(t, armed, "the watchdog was put off although nothing was persisted")
}

func TestAStopWhileACauseIsSoughtEndsWithTheLastMove(t *testing.T) {
	m := beganMover(t)
	m.moveEnded(1, &MoveError{VB: 1, Err: actors.NoProcess}, nil)
	m.stop()
	m.moveEnded(0, ErrStopped, nil)
	effects := m.moveEnded(2, ErrStopped, nil)
	require.NotEmpty(t, effects, "all three moves have ended")
	require.ErrorIs(t, effects[len(effects)-1].(moverFinished).Err, ErrStopped)
}

// openFake opens a cluster over a fake world, of which only so many nodes are known.
func openFake(t *testing.T, w *fakeWorld, known int) *Cluster {
	t.Helper()
	config := Config{Store: store.NewMemory(), JanitorInterval: 24 * time.Hour}
	for n := range known {
		config.Nodes = append(config.Nodes, fakeNodeNamed(n))
	}
	config, err := config.validate()
	require.NoError(t, err)
	buckets, err := store.NewBuckets(t.Context(), config.Store)
	require.NoError(t, err)
	env := newEnvironment(config, buckets)
	env.connect, env.replicate = w.connect, w.replicate
	c, err := (&Cluster{}).start(t.Context(), env)
	require.NoError(t, err)
	return c
}

func TestANodeAddedDuringARebalanceHasNoPartInIt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newFakeWorld(5)
		c := openFake(t, w, 3)
		defer func() { require.NoError(t, c.Close(context.Background())) }()
		require.NoError(t, c.CreateBucket(t.Context(), BucketConfig{Name: "orders", VBuckets: 4, Replicas: 1}))
		w.write(100)
		require.NoError(t, c.AddNode(t.Context(), fakeNodeNamed(3)))
		added := false
		w.setGate(func(_ context.Context, op fakeOp) error {
			// The real connection refuses to select a bucket that the node does not have.
			w.mu.Lock()
			exists := w.nodes[op.Node].exists
			w.mu.Unlock()
			if !exists && op.What != "create bucket" {
				return mcbp.StatusKeyNotFound
			}
			if op.What == "takeover" && !added {
				added = true
				return c.AddNode(context.Background(), fakeNodeNamed(4))
			}
			return nil
		})
		run, err := c.Rebalance(t.Context(), Request{})
		require.NoError(t, err)
		report, err := run.Wait(t.Context())
		require.NoError(t, err)
		require.True(t, added)
		require.NoError(t, report.Err)
		doc, _ := c.env.buckets.Get(t.Context(), "orders")
		assert.NotContains(t, doc.Servers, "n4", "n4 does not have the bucket")
		for range 2 {
			run, err = c.Rebalance(t.Context(), Request{})
			require.NoError(t, err)
			report, err = run.Wait(t.Context())
			require.NoError(t, err)
			assert.NoError(t, report.Err)
		}
	})
}

func TestAKeptCopyIsNotDeletedByARebalance(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newFakeWorld(4)
		c := openFake(t, w, 4)
		defer func() { require.NoError(t, c.Close(context.Background())) }()
		require.NoError(t, c.CreateBucket(t.Context(), BucketConfig{Name: "orders", VBuckets: 1, Replicas: 1}))
		w.write(100)
		m, err := c.Map(t.Context(), "orders")
		require.NoError(t, err)
		stray := ""
		for _, n := range []string{"n0", "n1", "n2", "n3"} {
			if !m[0].Contains(n) {
				stray = n
			}
		}
		w.mu.Lock()
		w.nodes[stray].copies[0] = &fakeCopy{state: mcbp.VBucketReplica, high: 500, log: []kv.FailoverEntry{{UUID: 0xabc, Seqno: 0}}}
		w.mu.Unlock()
		rep, err := c.Janitor(t.Context())
		require.NoError(t, err)
		t.Log("problem:", rep.Problem(), "kept:", rep.Buckets[0].Kept)
		require.Equal(t, map[uint16][]string{0: {stray}}, rep.Buckets[0].Kept)
		keep := []string{}
		for _, n := range []string{"n0", "n1", "n2", "n3"} {
			if n != stray {
				keep = append(keep, n)
			}
		}
		run, err := c.Rebalance(t.Context(), Request{Keep: keep})
		require.NoError(t, err)
		report, err := run.Wait(t.Context())
		require.NoError(t, err)
		t.Log("rebalance:", report.Outcome, report.Err)
		w.mu.Lock()
		defer w.mu.Unlock()
		assert.Contains(t, w.nodes[stray].copies, uint16(0), "500 documents that nobody else has")
	})
}

func TestANewEpochEndsOldWaitsForPersistence(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newFakeWorld(3)
		c := openFake(t, w, 3)
		defer func() { require.NoError(t, c.Close(context.Background())) }()
		require.NoError(t, c.CreateBucket(t.Context(), BucketConfig{Name: "orders", VBuckets: 4, Replicas: 1}))
		w.write(100)
		var waiting, begun int
		w.setGate(func(ctx context.Context, op fakeOp) error {
			if op.What != "persistence" {
				return nil
			}
			w.mu.Lock()
			begun++
			waiting++
			w.mu.Unlock()
			<-ctx.Done()
			w.mu.Lock()
			waiting--
			w.mu.Unlock()
			return ctx.Err()
		})
		for range 3 {
			run, err := c.Rebalance(t.Context(), Request{Keep: []string{"n0", "n1"}})
			require.NoError(t, err)
			report, err := run.Wait(t.Context())
			require.NoError(t, err)
			t.Log(report.Err)
			_, err = c.Janitor(t.Context())
			require.NoError(t, err)
		}
		actortest.Elapse(24 * time.Hour)
		w.mu.Lock()
		defer w.mu.Unlock()
		t.Log("begun", begun)
		assert.Zero(t, waiting, "waits of dead rebalances, a day later")
	})
}

func TestAVBucketThatIsHeldKeepsWhatIsWanted(t *testing.T) {
	r := &janitorRun{answers: map[string]queryAnswer{"n1": {Wanted: map[uint16]string{5: "n0"}}}}
	orders := map[string]*applyStates{"n1": {Retain: map[uint16]string{}}}
	r.retain(orders, janitorDecision{VB: 5, Hold: &WaitingForNodes{VB: 5, Nodes: []string{"n2"}}})
	assert.Equal(t, map[uint16]string{5: "n0"}, orders["n1"].Retain, "its stream is just being restored")
}
