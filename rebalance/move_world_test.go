package rebalance

import (
	"context"
	"testing"
	"testing/synctest"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/shearpin/shearpin/actors"
	"github.com/shearpin/shearpin/dcp/mcbp"
	"github.com/shearpin/shearpin/rebalance/store"
	"github.com/shearpin/shearpin/rebalance/vbmap"
)

// moveWorld is one vbucket over fakes, and the processes that ship to move it from any chain to any other, as a rebalance
// would. Its nodes are called as in rebalance.md: A is n0, B is n1, C is n2, N is n3.
type moveWorld struct {
	*interrupted
}

const (
	nodeA = "n0"
	nodeB = "n1"
	nodeC = "n2"
	nodeN = "n3"
)

// everybody holds the bucket.
func everybody() []string { return []string{nodeA, nodeB, nodeC, nodeN} }

// inMoveWorld runs a test on a vbucket with a chain and, where that has an active, 100 documents. Nothing may have gone
// wrong in it, and no data may be lost.
func inMoveWorld(t *testing.T, chain vbmap.Chain, test func(t *testing.T, w *moveWorld)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		w := &moveWorld{&interrupted{t: t, world: newFakeWorld(4), store: store.NewMemory()}}
		w.open(4)
		defer func() { w.close() }()
		w.begin(chain)
		test(t, w)
		assert.Empty(t, w.world.wrong)
	})
}

// begin creates the bucket, gives its vbucket the chain, and has the janitor make it so.
func (w *moveWorld) begin(chain vbmap.Chain) {
	require.NoError(w.t, w.cluster.CreateBucket(w.t.Context(), BucketConfig{Name: "orders", VBuckets: 1, Replicas: len(chain) - 1}))
	w.world.mu.Lock()
	for _, node := range w.world.nodes {
		clear(node.copies)
	}
	w.world.mu.Unlock()
	for _, node := range everybody() {
		w.world.replications[node].set(0, "")
	}
	w.edit(func(doc *store.BucketDoc) { doc.Servers, doc.Map = everybody(), vbmap.Map{chain} })
	if chain.Active() != "" {
		require.NoError(w.t, w.janitor().Problem())
		w.world.write(100)
	}
	w.before = w.world.data()
}

func (w *moveWorld) edit(change func(doc *store.BucketDoc)) {
	_, err := w.cluster.env.buckets.Update(w.t.Context(), "orders", func(doc *store.BucketDoc) error {
		change(doc)
		return nil
	})
	require.NoError(w.t, err)
}

// move takes the vbucket to another chain, and gives what the move ended with.
func (w *moveWorld) move(wanted vbmap.Chain) error {
	ended := w.startMove(wanted)
	return (<-ended).err
}

// startMove does what a rebalance does before its moves, and starts the mover.
func (w *moveWorld) startMove(wanted vbmap.Chain) (ended chan moverEnded) {
	ctx, env := w.t.Context(), w.cluster.env
	epoch, err := env.buckets.NextEpoch(ctx)
	require.NoError(w.t, err)
	require.NoError(w.t, env.buckets.Claim(ctx, "orders", epoch))
	w.edit(func(doc *store.BucketDoc) { doc.Target = vbmap.Map{wanted} })
	_, err = env.prepareAgents(ctx, "orders", everybody(), epoch)
	require.NoError(w.t, err)
	doc, err := env.buckets.Get(ctx, "orders")
	require.NoError(w.t, err)
	work := &bucketWork{env: env, name: "orders", run: "r1", stamp: stamp{Epoch: epoch, Owner: "rebalance r1"}}
	require.NoError(w.t, work.plan(doc))
	ended = make(chan moverEnded, 1)
	_, err = env.system.Start(ctx, &moveBoss{work: work, ended: ended})
	require.NoError(w.t, err)
	return ended
}

// moveBoss is in the place of the rebalancer.
type moveBoss struct {
	actors.Base
	work  *bucketWork
	ended chan moverEnded
}

func (b *moveBoss) Init(c *actors.Context) error {
	c.TrapExits()
	_, err := c.StartLink(newMover(b.work.env, b.work.name, b.work.stamp, b.work.plans, c.Self()))
	return err
}

func (b *moveBoss) HandleInfo(_ *actors.Context, msg any) error {
	switch m := msg.(type) {
	case moverEnded:
		b.ended <- m
		return actors.Normal
	case actors.Exit:
		b.ended <- moverEnded{err: m.Reason}
		return actors.Normal
	}
	return nil
}

// states is what each node's copy is, of those that there are.
func (w *moveWorld) states() map[string]mcbp.VBucketState {
	w.world.mu.Lock()
	defer w.world.mu.Unlock()
	states := map[string]mcbp.VBucketState{}
	for name, node := range w.world.nodes {
		if c := node.copies[0]; c != nil {
			states[name] = c.state
		}
	}
	return states
}

// topology is that of a node's copy.
func (w *moveWorld) topology(node string) [][]string {
	w.world.mu.Lock()
	defer w.world.mu.Unlock()
	return w.world.nodes[node].copies[0].topology
}

// streams is consumer to producer.
func (w *moveWorld) streams() map[string]string {
	streams := map[string]string{}
	for _, node := range everybody() {
		if producer := w.world.replications[node].stream(0); producer != "" {
			streams[node] = producer
		}
	}
	return streams
}

func (w *moveWorld) chain() vbmap.Chain { return w.chains()[0] }

// requireChain checks that map, copies, topology and streams are those of a chain, and that nothing is lost.
func (w *moveWorld) requireChain(chain vbmap.Chain) {
	w.t.Helper()
	states, streams := map[string]mcbp.VBucketState{}, map[string]string{}
	for _, replica := range chain.Replicas() {
		states[replica], streams[replica] = mcbp.VBucketReplica, chain.Active()
	}
	states[chain.Active()] = mcbp.VBucketActive
	require.Equal(w.t, chain, w.chain())
	require.Equal(w.t, states, w.states())
	require.Equal(w.t, streams, w.streams())
	require.Equal(w.t, [][]string{chain}, w.topology(chain.Active()))
	if len(w.before) > 0 {
		require.Equal(w.t, w.before, w.world.data())
	}
}

// journalOf is what was done to the vbucket: changes, questions of the moves, and commits of its chain.
func journalOf(ops []fakeOp) []string {
	var done []string
	for _, op := range ops {
		switch op.What {
		case "prepare", "release", "query", "configuration", "node list", "history", "look":
		default:
			done = append(done, op.What+" "+op.Node)
		}
	}
	return done
}

// refuseAt refuses an operation on a node, the nth time that it comes.
func (w *moveWorld) refuseAt(what, node string, nth int) {
	w.breakAt(what, node, nth, func(context.Context) error { return errInjected })
}

// breakAt does something to an operation on a node, the nth time that it comes, and to none after it.
func (w *moveWorld) breakAt(what, node string, nth int, with func(ctx context.Context) error) {
	seen := 0
	w.world.setGate(func(ctx context.Context, op fakeOp) error {
		w.world.mu.Lock()
		mine := op.What == what && op.Node == node
		if mine {
			seen++
		}
		mine = mine && seen == nth
		w.world.mu.Unlock()
		if mine {
			return with(ctx)
		}
		return nil
	})
}
