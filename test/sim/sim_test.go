package sim

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"maps"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/shearpin/shearpin/dcp/mcbp"
	"github.com/shearpin/shearpin/rebalance"
)

var (
	sims = flag.Int("sims", 4, "how many simulations to run")
	only = flag.Uint64("seed", 0, "the seed of the only one to run, from 1; 0 runs all")
)

func TestSimulations(t *testing.T) {
	if *only != 0 {
		simulate(t, *only)
		return
	}
	for seed := range uint64(*sims) {
		simulate(t, seed+1)
	}
}

func simulate(t *testing.T, seed uint64) {
	t.Run(fmt.Sprint(seed), func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			w := newWorld(t, seed)
			w.startWriters()
			for range 5 + w.dice.IntN(8) {
				most := 30 * time.Second
				if w.happen() && w.dice.IntN(4) > 0 {
					most = 50 * w.net.latency // while it moves something
				}
				w.elapse(w.pause(most))
			}
			w.heal()
			w.addBack()
			w.settle()
			w.end()
		})
	})
}

// happen does one thing of those that can happen, and reports whether it was to begin a rebalance.
func (w *world) happen() (moves bool) {
	n := w.nodes[w.dice.IntN(len(w.nodes))]
	long := w.pause(3 * time.Minute)
	manager := w.manager()
	switch w.dice.IntN(11) {
	case 0, 1, 2:
		w.rebalance()
		return true
	case 3:
		w.stopRebalance()
	case 4:
		w.log.Info("sim: connections reset", "node", n.name)
		w.net.reset(manager, n.addr())
	case 5:
		w.log.Info("sim: connections stall", "node", n.name, "for", long)
		w.net.stall(manager, n.addr(), true)
		w.later(long, func() { w.net.stall(manager, n.addr(), false) })
	case 6:
		w.log.Info("sim: node paused", "node", n.name, "for", long)
		w.pauseNode(n, long)
	case 7:
		w.log.Info("sim: nobody connects", "node", n.name, "for", long)
		w.net.forbid(manager, n.addr(), true)
		w.later(long, func() { w.net.forbid(manager, n.addr(), false) })
	case 8:
		w.log.Info("sim: another manager", "generation", w.generation+1)
		w.bury()
		w.open()
	case 9:
		for _, l := range w.ledgers {
			w.net.reset(l.name, n.addr())
		}
	case 10:
		w.giveUp(n, long)
	}
	return false
}

// later takes a fault back.
func (w *world) later(d time.Duration, f func()) {
	w.faults.Go(func() {
		elapse(w.t.Context(), d)
		f()
	})
}

// pauseNode pauses a node that is not paused. Its state is the one that it has now.
func (w *world) pauseNode(n *simNode, d time.Duration) {
	if n.paused {
		return
	}
	w.check()
	n.node.Pause()
	n.paused = true
	w.later(d, func() {
		n.node.Resume()
		n.paused = false
	})
}

// giveUp fails a node over that nobody reaches, one at a time.
func (w *world) giveUp(n *simNode, isolated time.Duration) {
	if !w.givesUp || slices.ContainsFunc(w.nodes, func(n *simNode) bool { return n.givenUp }) || !slices.Contains(w.nodes[:w.known], n) {
		return
	}
	w.log.Info("sim: node given up", "node", n.name, "isolated", isolated)
	n.givenUp = true
	whom := []string{w.manager()}
	for _, l := range w.ledgers {
		whom = append(whom, l.name)
	}
	for _, who := range whom {
		w.net.forbid(who, n.addr(), true)
	}
	w.later(isolated, func() {
		for _, who := range whom {
			w.net.forbid(who, n.addr(), false)
		}
	})
	cluster, buried := w.cluster, w.buried
	w.faults.Go(func() {
		ctx, cancel := context.WithTimeout(w.t.Context(), bound)
		defer cancel()
		report, err := cluster.Failover(ctx, rebalance.FailoverRequest{Nodes: []string{n.name}})
		if w.over(buried) {
			return
		}
		if errors.Is(err, context.DeadlineExceeded) {
			w.t.Errorf("a failover does not end: %v", err)
			return
		}
		if err == nil {
			err = report.Err
		}
		w.log.Info("sim: failover ended", "err", err)
	})
}

// addBack makes the node a member again that was given up.
func (w *world) addBack() {
	w.t.Helper()
	for _, n := range w.nodes[:w.known] {
		if !n.givenUp {
			continue
		}
		for began := time.Now(); ; w.elapse(time.Second) {
			err := w.cluster.AddBack(w.t.Context(), n.name, rebalance.DiscardDiverged())
			if err == nil {
				break
			}
			require.Less(w.t, time.Since(began), bound, "%s cannot be added back: %v", n.name, err)
		}
		n.givenUp = false
		w.check()
	}
}

// rebalance begins one over some of the nodes, some of which may be new.
func (w *world) rebalance() {
	w.known = w.known + w.dice.IntN(len(w.nodes)-w.known+1)
	for _, n := range w.nodes[:w.known] {
		require.NoError(w.t, w.cluster.AddNode(w.t.Context(), rebalance.Node{Name: n.name, Addr: n.addr()}))
	}
	var keep []string
	for _, i := range w.dice.Perm(w.known) {
		if !w.nodes[i].givenUp {
			keep = append(keep, w.nodes[i].name)
		}
	}
	if fewest := w.replicas + 1; len(keep) > fewest {
		keep = keep[:fewest+w.dice.IntN(len(keep)-fewest+1)]
	}
	w.log.Info("sim: rebalance", "keep", keep)
	w.begin(keep)
}

func (w *world) begin(keep []string) {
	run, err := w.cluster.Rebalance(w.t.Context(), rebalance.Request{Keep: keep})
	if errors.Is(err, rebalance.ErrRebalanceRunning) || errors.Is(err, rebalance.ErrFailoverRunning) {
		return
	}
	require.NoError(w.t, err)
	w.run = run
	buried := w.buried
	w.faults.Go(func() {
		ctx, cancel := context.WithTimeout(w.t.Context(), bound)
		defer cancel()
		report, err := run.Wait(ctx)
		if w.over(buried) {
			return
		}
		if err != nil {
			w.t.Errorf("a rebalance does not end: %v", err)
			return
		}
		if report.Outcome == rebalance.Failed && len(report.Cause) == 0 {
			w.t.Error("a rebalance failed without a cause")
		}
		w.log.Info("sim: rebalance ended", "outcome", report.Outcome, "cause", report.Cause)
	})
}

// over reports whether a manager has been buried, or the test has failed: there is nobody to complain about then.
func (w *world) over(buried chan struct{}) bool {
	select {
	case <-buried:
		return true
	case <-w.t.Context().Done():
		return true
	default:
		return false
	}
}

func (w *world) stopRebalance() {
	if w.run == nil {
		return
	}
	w.log.Info("sim: stop")
	run, buried, began := w.run, w.buried, time.Now()
	w.faults.Go(func() {
		ctx, cancel := context.WithTimeout(w.t.Context(), bound)
		defer cancel()
		err := run.Stop(ctx)
		if w.over(buried) {
			return
		}
		if err != nil {
			w.t.Errorf("a rebalance cannot be stopped: %v", err)
		}
		if took := time.Since(began); took > 10*time.Second {
			w.t.Errorf("a rebalance was stopped after %v", took)
		}
	})
}

// heal waits until every fault has been taken back, and every rebalance has ended.
func (w *world) heal() {
	healed := make(chan struct{})
	go func() {
		w.faults.Wait()
		close(healed)
	}()
	for began := time.Now(); ; {
		select {
		case <-healed:
			return
		default:
		}
		require.Less(w.t, time.Since(began), 2*bound, "something does not end")
		w.elapse(time.Second)
	}
}

// settle has the janitor repair and a rebalance bring everything to all nodes.
func (w *world) settle() {
	w.t.Helper()
	var problem error
	for began := time.Now(); ; w.elapse(time.Second) {
		report, err := w.cluster.Janitor(w.t.Context())
		if err == nil {
			err = report.Problem()
		}
		if problem = err; problem == nil {
			break
		}
		require.Less(w.t, time.Since(began), bound, "the janitor cannot repair: %v", problem)
	}
	for _, n := range w.nodes {
		require.NoError(w.t, w.cluster.AddNode(w.t.Context(), rebalance.Node{Name: n.name, Addr: n.addr()}))
	}
	w.known = len(w.nodes)
	w.begin(nil)
	w.heal()
	report, err := w.run.Wait(w.t.Context())
	require.NoError(w.t, err)
	require.Equal(w.t, rebalance.Complete, report.Outcome, "%v", report.Err)
}

// end stops the writers, compares everything, and closes.
func (w *world) end() {
	w.t.Helper()
	w.stop()
	w.writers.Wait()
	w.check()
	w.readBack()
	doc, err := w.buckets.Get(w.t.Context(), bucket)
	require.NoError(w.t, err)
	for vb, chain := range doc.Map {
		require.Len(w.t, chain, w.replicas+1)
		for i, name := range chain {
			state := mcbp.VBucketReplica
			if i == 0 {
				state = mcbp.VBucketActive
			}
			require.Equal(w.t, state, w.named(name).states[uint16(vb)], "vb %d on %s", vb, name)
			w.equal(uint16(vb), chain.Active(), name)
		}
	}
	w.close()
	for _, n := range w.nodes {
		require.NoError(w.t, n.watch.Close())
		require.NoError(w.t, n.node.Close())
	}
	require.NoError(w.t, w.store.Close())
}

// equal waits until two copies have the same history and the same documents.
func (w *world) equal(vb uint16, active, replica string) {
	w.t.Helper()
	for began := time.Now(); ; w.elapse(100 * time.Millisecond) {
		a, r := w.digest(active, vb), w.digest(replica, vb)
		if maps.Equal(a, r) {
			return
		}
		require.Less(w.t, time.Since(began), time.Minute, "vb %d: %s has %v, %s has %v", vb, active, a, replica, r)
	}
}

// digest is the high seqno, the UUID and the digest of a copy.
func (w *world) digest(name string, vb uint16) map[string]string {
	w.t.Helper()
	found := map[string]string{}
	err := w.named(name).watch.Stats(w.t.Context(), fmt.Sprintf("vbucket-digest %d", vb), func(key, value string) { found[key] = value })
	require.NoError(w.t, err)
	require.Len(w.t, found, 3)
	return found
}
