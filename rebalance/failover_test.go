package rebalance

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/shearpin/shearpin/dcp/kv"
	"github.com/shearpin/shearpin/dcp/mcbp"
)

// failOver gives nodes up that are down.
func (i *interrupted) failOver(request FailoverRequest) *FailoverReport {
	i.t.Helper()
	for _, node := range request.Nodes {
		i.world.giveUp(node)
	}
	report, err := i.cluster.Failover(i.t.Context(), request)
	require.NoError(i.t, err)
	return report
}

func giveUp(names ...string) FailoverRequest { return FailoverRequest{Nodes: names} }

// signal is a channel that is closed when somebody says so, the first time.
func signal() (reached chan struct{}, reach func()) {
	reached = make(chan struct{})
	return reached, sync.OnceFunc(func() { close(reached) })
}

// requireServed checks that the actives are where the map says, that the nodes that are given up have no part in it, and
// that nothing is lost.
func (i *interrupted) requireServed(without ...string) {
	i.t.Helper()
	for vb, chain := range i.chains() {
		for _, node := range without {
			require.NotContains(i.t, chain, node)
		}
		require.Equal(i.t, mcbp.VBucketActive, i.world.nodes[chain.Active()].copies[uint16(vb)].state, "vb %d", vb)
	}
	require.Equal(i.t, i.before, i.world.data())
	require.Empty(i.t, i.world.wrong)
}

func TestANodeIsFailedOver(t *testing.T) {
	inFakeCluster(t, func(t *testing.T, i *interrupted) {
		before := i.chains()
		began := time.Now()
		report := i.failOver(giveUp("n0"))
		require.NoError(t, report.Err)
		assert.Empty(t, report.Cause)
		assert.LessOrEqual(t, time.Since(began), 10*time.Second)
		require.Len(t, report.Buckets, 1)
		b := report.Buckets[0]
		promoted, shortened := 0, 0
		for vb, chain := range before {
			assert.Equal(t, chain.Without("n0"), i.chains()[vb])
			switch {
			case chain.Active() == "n0":
				promoted++
				assert.Equal(t, chain[1], b.Promoted[uint16(vb)])
			case chain.Contains("n0"):
				shortened++
			}
		}
		require.Positive(t, promoted)
		require.Positive(t, shortened)
		assert.Len(t, b.Promoted, promoted)
		assert.Equal(t, shortened, b.Shortened)
		assert.Empty(t, b.Refused)
		assert.Empty(t, b.Lost)
		i.requireServed("n0")

		assert.Equal(t, FailedOver, i.members()[0].Membership)
		doc, err := i.cluster.env.buckets.Get(t.Context(), "orders")
		require.NoError(t, err)
		assert.ElementsMatch(t, []string{"n1", "n2"}, doc.Servers)
		assert.Nil(t, i.cluster.env.system.Whereis(agentName("orders", "n0")), "nobody speaks to it any more")
		require.NoError(t, i.janitor().Problem())
		assert.Zero(t, i.janitor().Fixes())
		i.requireServed("n0")

		run, err := i.cluster.Rebalance(t.Context(), Request{Keep: []string{"n0", "n1"}})
		require.Nil(t, run)
		var notActive *NotActiveError
		require.ErrorAs(t, err, &notActive)
		run, err = i.cluster.Rebalance(t.Context(), Request{})
		require.NoError(t, err)
		rebalanced, err := run.Wait(t.Context())
		require.NoError(t, err)
		require.NoError(t, rebalanced.Err)
		assert.True(t, i.chains().Balanced("n1", "n2", "n3"))
		i.requireServed("n0")
		require.NoError(t, i.cluster.RemoveNode(t.Context(), "n0"))
	})
}

// Two at once, and the third copy has it all.
func TestTwoNodesAreFailedOverAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newFakeWorld(4)
		c := openFake(t, w, 4)
		defer func() { require.NoError(t, c.Close(context.Background())) }()
		require.NoError(t, c.CreateBucket(t.Context(), BucketConfig{Name: "orders", VBuckets: 8, Replicas: 2}))
		w.write(100)
		i := &interrupted{t: t, world: w, cluster: c, before: w.data()}
		require.NoError(t, i.failOver(giveUp("n0", "n1")).Err)
		i.requireServed("n0", "n1")
		require.Len(t, i.before, 8)
	})
}

// history.md 24: what would lose data is refused before anything is changed.
func TestAFailoverThatWouldLoseDataIsRefused(t *testing.T) {
	inFakeCluster(t, func(t *testing.T, i *interrupted) {
		before := i.chains()
		i.world.giveUp("n0")
		i.world.giveUp("n1")
		_, err := i.cluster.Failover(t.Context(), giveUp("n0", "n1"))
		var unsafe *UnsafeFailover
		require.ErrorAs(t, err, &unsafe)
		var lost []uint16
		for vb, chain := range before {
			if len(without(chain, "n0", "n1")) == 0 {
				lost = append(lost, uint16(vb))
			}
		}
		assert.Equal(t, map[string][]uint16{"orders": lost}, unsafe.Lost)
		assert.Equal(t, before, i.chains())
		for _, m := range i.members() {
			assert.Equal(t, Active, m.Membership)
		}

		report, err := i.cluster.Failover(t.Context(), FailoverRequest{Nodes: []string{"n0", "n1"}, AllowUnsafe: true})
		require.NoError(t, err)
		require.NoError(t, report.Err)
		assert.Equal(t, lost, report.Buckets[0].Lost)
		for _, vb := range lost {
			delete(i.before, vb)
			assert.Empty(t, i.chains()[vb].Members(), "no empty active")
		}
		assert.Equal(t, i.before, i.world.data())
		assert.Empty(t, i.world.wrong)

		_, err = i.cluster.Failover(t.Context(), FailoverRequest{Nodes: []string{"n2", "n3"}, AllowUnsafe: true})
		require.ErrorIs(t, err, ErrNoNodesLeft)
		_, err = i.cluster.Failover(t.Context(), giveUp("n9"))
		require.ErrorIs(t, err, ErrUnknownNode)
		_, err = i.cluster.Failover(t.Context(), giveUp())
		require.Error(t, err)
	})
}

// Of the surviving copies the one that has all that the others have becomes active, whatever its place in the chain.
func TestTheCopyWithTheMostHistoryIsPromoted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newFakeWorld(3)
		c := openFake(t, w, 3)
		defer func() { require.NoError(t, c.Close(context.Background())) }()
		require.NoError(t, c.CreateBucket(t.Context(), BucketConfig{Name: "orders", VBuckets: 6, Replicas: 2}))
		w.write(100)
		i := &interrupted{t: t, world: w, cluster: c, before: w.data()}
		for vb, chain := range i.chains() {
			if chain.Active() == "n0" {
				w.nodes[chain[1]].copies[uint16(vb)].high -= 7 // it lags behind
			}
		}
		old := i.chains()
		require.NoError(t, i.failOver(giveUp("n0")).Err)
		for vb, chain := range old {
			if chain.Active() == "n0" {
				assert.Equal(t, []string{chain[2], chain[1], ""}, []string(i.chains()[vb]))
			}
		}
		i.requireServed("n0")
	})
}

// contradict makes the two surviving copies of a vbucket each have something that the other lacks.
func (i *interrupted) contradict() (vb uint16) {
	for n, chain := range i.chains() {
		if chain.Active() == "n0" {
			vb = uint16(n)
		}
	}
	chain := i.chains()[vb]
	old := i.world.nodes[chain[1]].copies[vb]
	i.world.nodes[chain[1]].copies[vb] = &fakeCopy{state: mcbp.VBucketReplica, high: 90, log: []kv.FailoverEntry{{UUID: 0xb, Seqno: 50}, old.log[len(old.log)-1]}}
	i.world.nodes[chain[2]].copies[vb] = &fakeCopy{state: mcbp.VBucketReplica, high: 80, log: []kv.FailoverEntry{{UUID: 0xc, Seqno: 50}, old.log[len(old.log)-1]}}
	return vb
}

// Copies that contradict each other are left alone, with both histories in the report; the others are failed over. Whoever
// accepts the loss has one of them promoted, and keeps the other's data.
func TestSurvivorsThatContradictEachOther(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newFakeWorld(3)
		c := openFake(t, w, 3)
		defer func() { require.NoError(t, c.Close(context.Background())) }()
		require.NoError(t, c.CreateBucket(t.Context(), BucketConfig{Name: "orders", VBuckets: 6, Replicas: 2}))
		w.write(100)
		i := &interrupted{t: t, world: w, cluster: c, before: w.data()}
		vb := i.contradict()
		old := i.chains()[vb]
		report := i.failOver(giveUp("n0"))
		var conflict *Conflict
		require.ErrorAs(t, report.Err, &conflict)
		require.Len(t, conflict.Copies, 2)
		assert.ErrorContains(t, conflict, fmt.Sprintf("%s (replica, seqno 90, history b@50", old[1]))
		assert.Len(t, report.Buckets[0].Refused, 1)
		require.ErrorAs(t, report.Buckets[0].Refused[vb], &conflict)
		assert.Equal(t, map[uint16]string{vb: conflict.Error()}, report.Buckets[0].Reasons)
		assert.Equal(t, old, i.chains()[vb], "as it was")
		for n, chain := range i.chains() {
			if n != int(vb) {
				assert.NotContains(t, chain, "n0")
			}
		}
		assert.Equal(t, FailedOver, i.members()[0].Membership)
		require.Error(t, i.janitor().Problem(), "it waits for n0")
		assert.Equal(t, old, i.chains()[vb])

		report = i.failOver(FailoverRequest{Nodes: []string{"n0"}, AllowUnsafe: true})
		require.NoError(t, report.Err)
		assert.Equal(t, map[uint16]string{vb: old[1]}, report.Buckets[0].Overruled)
		assert.Equal(t, []string{old[1], "", ""}, []string(i.chains()[vb]))
		kept := i.janitor()
		assert.Equal(t, map[uint16][]string{vb: {old[2]}}, kept.Buckets[0].Kept)
		assert.EqualValues(t, 80, w.nodes[old[2]].copies[vb].high)
		assert.EqualValues(t, 90, w.data()[vb])
		assert.Empty(t, w.wrong)
	})
}

// A survivor that is silent may have more than those that answer, or be the active: what depends on it waits until it
// answers, or is given up too.
func TestASilentSurvivorHoldsUpWhatDependsOnIt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newFakeWorld(4)
		c := openFake(t, w, 4)
		defer func() { require.NoError(t, c.Close(context.Background())) }()
		require.NoError(t, c.CreateBucket(t.Context(), BucketConfig{Name: "orders", VBuckets: 12, Replicas: 2}))
		w.write(100)
		i := &interrupted{t: t, world: w, cluster: c, before: w.data()}
		old := i.chains()
		w.setDown("n1", true)
		report := i.failOver(giveUp("n0"))
		var waiting *WaitingForNodes
		require.ErrorAs(t, report.Err, &waiting)
		assert.Equal(t, []string{"n1"}, waiting.Nodes)
		for vb, chain := range old {
			refused := report.Buckets[0].Refused[uint16(vb)]
			if chain.Active() == "n0" || chain.Contains("n0") && chain.Contains("n1") {
				require.Error(t, refused)
				assert.Equal(t, chain, i.chains()[vb])
			} else {
				require.NoError(t, refused)
			}
		}
		assert.Empty(t, w.wrong)

		w.setDown("n1", false)
		require.NoError(t, i.failOver(giveUp("n0")).Err, "the same again")
		i.requireServed("n0")
	})
}

// A node that comes back after it was given up is told that its copies are dead. Nothing of it is deleted.
func TestANodeThatComesBackIsNoSecondActive(t *testing.T) {
	inFakeCluster(t, func(t *testing.T, i *interrupted) {
		require.NoError(t, i.failOver(giveUp("n0")).Err)
		had := len(i.world.nodes["n0"].copies)
		stale := 0
		for _, c := range i.world.nodes["n0"].copies {
			if c.state == mcbp.VBucketActive {
				stale++
			}
		}
		require.Positive(t, stale, "it did not hear of it")
		i.world.setDown("n0", false)
		require.NoError(t, i.janitor().Problem())
		assert.Len(t, i.world.nodes["n0"].copies, had)
		for vb, c := range i.world.nodes["n0"].copies {
			assert.NotEqual(t, mcbp.VBucketActive, c.state, "vb %d", vb)
		}
		i.requireServed("n0")
	})
}

// A node that lives while it is given up stops being the active before another becomes it.
func TestALivingNodeIsCalmedBeforeAnotherIsPromoted(t *testing.T) {
	inFakeCluster(t, func(t *testing.T, i *interrupted) {
		report, err := i.cluster.Failover(t.Context(), giveUp("n0"))
		require.NoError(t, err)
		require.NoError(t, report.Err)
		assert.Empty(t, i.world.wrong, "there never were two")
		i.requireServed("n0")
	})
}

// history.md 26: a failover comes before a rebalance, which ends as stopped.
func TestAFailoverStopsARebalance(t *testing.T) {
	inFakeCluster(t, func(t *testing.T, i *interrupted) {
		reached, reach := signal()
		i.world.setGate(func(ctx context.Context, op fakeOp) error {
			if op.What == "takeover" {
				reach()
				<-ctx.Done()
				return context.Cause(ctx)
			}
			return nil
		})
		run := i.start()
		<-reached
		state, err := i.cluster.State(t.Context())
		require.NoError(t, err)
		require.Equal(t, Rebalancing, state)
		began := time.Now()
		second := make(chan error, 1)
		go func() {
			synctest.Wait()
			_, err := i.cluster.Failover(t.Context(), giveUp("n1"))
			second <- err
		}()
		report, err := i.cluster.Failover(t.Context(), giveUp("n1")) // it lives: if it were down, the rebalance might fail before
		require.NoError(t, err)
		require.NoError(t, report.Err)
		require.ErrorIs(t, <-second, ErrFailoverRunning)
		assert.LessOrEqual(t, time.Since(began), 30*time.Second)
		ended, err := run.Wait(t.Context())
		require.NoError(t, err)
		assert.Equal(t, Stopped, ended.Outcome)
		i.world.setGate(nil)
		require.NoError(t, i.janitor().Problem())
		i.requireServed("n1")
	})
}
