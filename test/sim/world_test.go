package sim

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/shearpin/shearpin/actors/actortest"
	"github.com/shearpin/shearpin/dcp/kv"
	"github.com/shearpin/shearpin/dcp/kvnode"
	"github.com/shearpin/shearpin/dcp/mcbp"
	"github.com/shearpin/shearpin/rebalance"
	"github.com/shearpin/shearpin/rebalance/store"
)

const (
	bucket   = "orders"
	vbuckets = 16
	// bound is how long, in virtual time, anything may take that has to end.
	bound = time.Hour
	// observer is who looks at the nodes. Nothing that happens to the network happens to it.
	observer = "observer"
)

// world is one simulation.
type world struct {
	t    *testing.T
	dice *rand.Rand
	net  *network
	log  *slog.Logger
	said *lines

	store   store.Store
	buckets *store.Buckets
	nodes   []*simNode
	// known are the nodes that the manager was told of.
	known    int
	replicas int
	// givesUp says that nodes are failed over.
	givesUp bool

	// generation numbers the managers, cluster is the one that there is, buried is closed when it is to end.
	generation int
	cluster    *rebalance.Cluster
	buried     chan struct{}
	// run is the last rebalance that was begun.
	run *rebalance.Run

	faults  sync.WaitGroup // those that have not been taken back
	ledgers []*ledger
	writers sync.WaitGroup
	stop    context.CancelFunc
}

type simNode struct {
	name   string
	node   *kvnode.Node
	watch  *kv.Client
	paused bool
	// givenUp: it is failed over, or will be. Nobody reaches its copies through a map, whatever their states are.
	givenUp bool
	// states are those of its copies when it was last looked at.
	states map[uint16]mcbp.VBucketState
}

// lines keeps the log, for when something goes wrong.
type lines struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lines) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(b)
}

func (l *lines) tail(n int) string {
	l.mu.Lock()
	defer l.mu.Unlock()
	all := bytes.Split(l.b.Bytes(), []byte("\n"))
	return string(bytes.Join(all[max(0, len(all)-n):], []byte("\n")))
}

// count is how often something was said.
func (l *lines) count(what string) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return bytes.Count(l.b.Bytes(), []byte(what))
}

func newWorld(t *testing.T, seed uint64) *world {
	w := &world{t: t, dice: rand.New(rand.NewPCG(seed, 0)), said: &lines{}, store: store.NewMemory()}
	w.log = slog.New(slog.NewTextHandler(w.said, nil))
	began := time.Now()
	t.Cleanup(func() {
		t.Logf("%v: %d nodes, %d managers, %d rebalances (%d complete, %d failed, %d stopped), %d failovers", time.Since(began), len(w.nodes),
			w.generation, w.said.count("rebalance_started"), w.said.count("rebalance_complete"), w.said.count("rebalance_failed"),
			w.said.count("rebalance_stopped"), w.said.count("sim: failover ended"))
		if t.Failed() {
			t.Logf("the end of the log:\n%s", w.said.tail(400))
		}
	})
	w.net = newNetwork(seed, []time.Duration{time.Millisecond, 5 * time.Millisecond, 50 * time.Millisecond}[w.dice.IntN(3)])
	buckets, err := store.NewBuckets(t.Context(), w.store)
	require.NoError(t, err)
	w.buckets = buckets
	for i := range 3 + w.dice.IntN(3) {
		w.startNode(fmt.Sprintf("n%d", i))
	}
	w.known = 2 + w.dice.IntN(len(w.nodes)-1)
	w.replicas = 1 + w.dice.IntN(min(2, w.known-1))
	w.givesUp = w.dice.IntN(2) == 0
	w.open()
	require.NoError(t, w.cluster.CreateBucket(t.Context(), rebalance.BucketConfig{Name: bucket, VBuckets: vbuckets, Replicas: w.replicas}))
	return w
}

func (w *world) startNode(name string) {
	node, err := kvnode.Start(kvnode.Options{Name: name, Listener: w.net.listen(name + ":11210")})
	require.NoError(w.t, err)
	w.nodes = append(w.nodes, &simNode{name: name, node: node})
}

func (n *simNode) addr() string { return n.node.Addr() }

// manager is the name under which the present manager connects.
func (w *world) manager() string { return fmt.Sprintf("manager-%d", w.generation) }

// open starts a manager.
func (w *world) open() {
	w.generation++
	config := rebalance.Config{Dial: w.net.dialer(w.manager()), Store: w.store, Log: w.log, Seed: w.dice.Uint64()}
	for _, n := range w.nodes[:w.known] {
		config.Nodes = append(config.Nodes, rebalance.Node{Name: n.name, Addr: n.addr()})
	}
	cluster, err := rebalance.Open(w.t.Context(), config)
	require.NoError(w.t, err)
	w.cluster, w.buried = cluster, make(chan struct{})
}

// bury ends a manager that has lost all of its connections, as if its machine had died.
func (w *world) bury() {
	for _, n := range w.nodes {
		w.net.forbid(w.manager(), n.addr(), true)
	}
	w.close()
	w.run = nil
}

func (w *world) close() {
	close(w.buried)
	ctx, cancel := context.WithTimeout(w.t.Context(), bound)
	defer cancel()
	require.NoError(w.t, w.cluster.Close(ctx), "the manager does not end")
}

// client connects somebody to a node.
func (w *world) client(ctx context.Context, who string, n *simNode) (*kv.Client, error) {
	return kv.Connect(ctx, kv.Endpoint{Node: n.name, Addr: n.addr(), Dial: w.net.dialer(who)}, bucket)
}

func (w *world) named(name string) *simNode {
	return w.nodes[slices.IndexFunc(w.nodes, func(n *simNode) bool { return n.name == name })]
}

// look brings states up to date. A node that is paused is as it was.
func (w *world) look(n *simNode) {
	if n.paused {
		return
	}
	ctx, cancel := context.WithTimeout(w.t.Context(), time.Minute)
	defer cancel()
	if n.watch == nil {
		client, err := w.client(ctx, observer, n)
		if err != nil {
			n.states = nil // it has no bucket yet
			return
		}
		n.watch = client
	}
	infos, err := n.watch.VBuckets(ctx)
	require.NoError(w.t, err)
	n.states = map[uint16]mcbp.VBucketState{}
	for vb, info := range infos {
		n.states[vb] = info.State
	}
}

// check is what must hold at every moment. It is called when nothing moves, and lets no time pass.
func (w *world) check() {
	w.t.Helper()
	synctest.Wait()
	now := time.Now()
	active := map[uint16]string{}
	for _, n := range w.nodes {
		w.look(n)
		for vb, state := range n.states {
			if state != mcbp.VBucketActive || n.givenUp {
				continue
			}
			require.Empty(w.t, active[vb], "vb %d is active on %s too", vb, n.name)
			active[vb] = n.name
		}
	}
	require.Equal(w.t, now, time.Now(), "looking takes no time")
}

// elapse lets time pass, and looks now and then.
func (w *world) elapse(d time.Duration) {
	w.t.Helper()
	for d > 0 {
		step := min(d, w.pause(time.Second))
		actortest.Elapse(step)
		d -= step
		w.check()
	}
}

// pause is a time from 1 ms to about twice the most, short ones as likely as long ones.
func (w *world) pause(most time.Duration) time.Duration {
	d := time.Millisecond
	for d < most && w.dice.IntN(6) > 0 {
		d *= 2
	}
	return d + time.Duration(w.dice.Int64N(int64(d)))
}
