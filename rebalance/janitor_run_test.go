package rebalance

import (
	"context"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/shearpin/shearpin/dcp"
	"github.com/shearpin/shearpin/dcp/mcbp"
	"github.com/shearpin/shearpin/rebalance/vbmap"
)

// inFakeCluster runs a test on a balanced bucket over three fakes, with another node known.
func inFakeCluster(t *testing.T, test func(t *testing.T, i *interrupted)) {
	synctest.Test(t, func(t *testing.T) {
		i := newInterrupted(t, 8)
		defer func() { i.close() }()
		test(t, i)
		assert.Empty(t, i.world.wrong)
	})
}

func (i *interrupted) chains() vbmap.Map {
	m, err := i.cluster.Map(i.t.Context(), "orders")
	require.NoError(i.t, err)
	return m
}

func (i *interrupted) janitor() JanitorReport {
	report, err := i.cluster.Janitor(i.t.Context())
	require.NoError(i.t, err)
	return report
}

// journal notes the operations that come to the gate from now on; what it returns gives those so far.
func (i *interrupted) journal() func() []fakeOp {
	var ops []fakeOp
	i.world.setGate(func(_ context.Context, op fakeOp) error {
		i.world.mu.Lock()
		defer i.world.mu.Unlock()
		ops = append(ops, op)
		return nil
	})
	return func() []fakeOp {
		synctest.Wait()
		i.world.mu.Lock()
		defer i.world.mu.Unlock()
		return slices.Clone(ops)
	}
}

func whats(ops []fakeOp) map[string]int {
	counts := map[string]int{}
	for _, op := range ops {
		counts[op.What]++
	}
	return counts
}

func TestTheJanitorLeavesAHealthyBucketAlone(t *testing.T) {
	inFakeCluster(t, func(t *testing.T, i *interrupted) {
		ops := i.journal()
		report := i.janitor()
		require.NoError(t, report.Problem())
		assert.Zero(t, report.Fixes())
		done := whats(ops())
		for what := range done {
			assert.Contains(t, []string{"prepare", "query", "release", "configuration"}, what)
		}
	})
}

// A periodic run of the janitor that finds nothing to do takes no epoch and writes nothing.
func TestAPeriodicRunOnlyLooks(t *testing.T) {
	inFakeCluster(t, func(t *testing.T, i *interrupted) {
		require.NoError(t, after(t.Context(), 2*publishLimit), "the publisher sends its first map twice")
		before, err := i.cluster.env.buckets.Get(t.Context(), "orders")
		require.NoError(t, err)
		ops := i.journal()
		runs := i.cluster.JanitorRuns()
		require.NoError(t, after(t.Context(), i.cluster.env.config.JanitorInterval+time.Second))
		synctest.Wait()
		assert.Equal(t, runs+1, i.cluster.JanitorRuns())
		assert.Equal(t, map[string]int{"query": 3}, whats(ops()))
		after, err := i.cluster.env.buckets.Get(t.Context(), "orders")
		require.NoError(t, err)
		assert.Equal(t, before, after)
	})
}

// damage changes copies behind everybody's back.
func (i *interrupted) damage(node string, vb uint16, state mcbp.VBucketState) {
	i.world.mu.Lock()
	defer i.world.mu.Unlock()
	if state == mcbp.VBucketMissing {
		delete(i.world.nodes[node].copies, vb)
		return
	}
	i.world.nodes[node].copies[vb].state = state
}

func TestTheJanitorRepairsInTwoPhases(t *testing.T) {
	inFakeCluster(t, func(t *testing.T, i *interrupted) {
		m := i.chains()
		i.damage(m[0].Active(), 0, mcbp.VBucketDead)
		i.damage(m[1][1], 1, mcbp.VBucketMissing)
		stray := without(vbmap.Chain{"n0", "n1", "n2"}, m[2]...)[0]
		active := i.world.nodes[m[2].Active()].copies[2]
		i.world.nodes[stray].copies[2] = &fakeCopy{state: mcbp.VBucketReplica, high: active.high, log: active.log}
		i.world.replications[m[3][1]].set(3, "") // a stream is lost
		i.world.replications[m[1][1]].set(1, "")

		ops := i.journal()
		report := i.janitor()
		require.NoError(t, report.Problem())
		b := report.Buckets[0]
		assert.Equal(t, 2, b.States)
		assert.Equal(t, 1, b.Deletions)
		assert.Equal(t, 2, b.Streams)
		assert.Equal(t, 0, b.Chains)
		assert.Equal(t, 5, report.Fixes())
		lastState, firstOpen := 0, len(ops())
		for at, op := range ops() {
			switch op.What {
			case "open":
				firstOpen = min(firstOpen, at)
			case "state active", "state replica", "delete", "close":
				lastState = at
			}
		}
		assert.Less(t, lastState, firstOpen, "no stream opens before every state is set: %v", ops())
		assert.Equal(t, m, i.chains())
		assert.Equal(t, i.before, i.world.data())
		assert.Zero(t, i.janitor().Fixes(), "once is enough")
	})
}

// Differs: where the first phase fails, the second does not happen; elsewhere it does.
func TestOrder_opens_after_first_phase(t *testing.T) {
	inFakeCluster(t, func(t *testing.T, i *interrupted) {
		m := i.chains()
		broken := m[0].Active()
		i.damage(broken, 0, mcbp.VBucketDead)
		for vb, chain := range m {
			i.world.replications[chain[1]].set(uint16(vb), "")
		}
		var opened []uint16
		i.world.setGate(func(_ context.Context, op fakeOp) error {
			i.world.mu.Lock()
			defer i.world.mu.Unlock()
			switch {
			case op.Node == broken && op.What == "state active":
				return errInjected
			case op.What == "open":
				opened = append(opened, op.VB)
			}
			return nil
		})
		report := i.janitor()
		require.ErrorContains(t, report.Problem(), errInjected.Error())
		assert.NotEmpty(t, opened)
		for _, vb := range opened {
			assert.NotContains(t, m[vb], broken)
		}
	})
}

// A node that does not answer holds up only the vbuckets that depend on it.
func TestRule_repairs_what_it_can(t *testing.T) {
	inFakeCluster(t, func(t *testing.T, i *interrupted) {
		m := i.chains()
		silent := m[0].Active()
		for vb, chain := range m {
			i.world.replications[chain[1]].set(uint16(vb), "")
		}
		i.world.setGate(func(ctx context.Context, op fakeOp) error {
			if op.Node == silent {
				<-ctx.Done()
				return context.Cause(ctx)
			}
			return nil
		})
		report := i.janitor()
		require.Error(t, report.Problem())
		for vb, chain := range m {
			held := report.Buckets[0].Held[uint16(vb)]
			if chain.Contains(silent) {
				var waiting *WaitingForNodes
				require.ErrorAs(t, held, &waiting)
				assert.Equal(t, []string{silent}, waiting.Nodes)
			} else {
				require.NoError(t, held)
				assert.Equal(t, chain.Active(), i.world.replications[chain[1]].stream(uint16(vb)))
			}
		}
		i.world.setGate(nil)
		require.NoError(t, i.janitor().Problem())
	})
}

// A takeover that cannot be fenced makes its vbucket unknown: nobody touches it.
func TestRule_unfenced_is_unknown(t *testing.T) {
	holdRows(t, janitorHold{
		name: "an abandoned takeover may still complete",
		c:    janitorCase{Chain: vbmap.Chain{"A", "B"}, Unfenced: []string{"C"}, Copies: on("A", dead(100), "B", replica(100), "C", pending(100))},
		want: "vb 7 is left alone: an abandoned takeover is not fenced on C",
	})
	inFakeCluster(t, func(t *testing.T, i *interrupted) {
		m := i.chains()
		node := m[0][1]
		i.damage(m[0].Active(), 0, mcbp.VBucketDead)
		i.world.setGate(func(_ context.Context, op fakeOp) error {
			if op.What == "prepare" && op.Node == node {
				return &dcp.UnfencedError{VBs: []uint16{0}, Err: errInjected}
			}
			return nil
		})
		report := i.janitor()
		var unknown *UnknownVBucket
		require.ErrorAs(t, report.Buckets[0].Held[0], &unknown)
		assert.Equal(t, []string{node}, unknown.Nodes)
		i.world.setGate(nil)
		require.NoError(t, i.janitor().Problem())
		assert.Equal(t, i.before, i.world.data())
	})
}

// A lost replication is a reason for the janitor; many at once are one.
func TestRule_runs_after_a_lost_link(t *testing.T) {
	inFakeCluster(t, func(t *testing.T, i *interrupted) {
		runs := i.cluster.JanitorRuns()
		for _, consumer := range []string{"n1", "n2"} {
			i.cluster.ReplicationEvents().Publish(dcp.LinkCrashed{
				Link: dcp.Link{Bucket: "orders", Producer: "n0", Consumer: consumer}, Reason: errInjected,
			})
		}
		require.NoError(t, after(t.Context(), linkLostPause+time.Second))
		synctest.Wait()
		assert.Equal(t, runs+1, i.cluster.JanitorRuns())
	})
}
