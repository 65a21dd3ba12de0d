package rebalance

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/shearpin/shearpin/dcp/kv"
	"github.com/shearpin/shearpin/dcp/mcbp"
)

// fakeWorld is the nodes of one bucket in memory: what engines do to vbuckets, as far as this package can see it. Every
// operation passes a gate first, where a test can refuse it, hold it up, or look on.
type fakeWorld struct {
	// gate is called without locks held, before the operation happens. A refused operation has not happened. Ops are
	// numbered from 1 in the order in which they come to the gate.
	gate func(ctx context.Context, op fakeOp) error

	mu     sync.Mutex
	nodes  map[string]*fakeNode
	number int
	lastID uint64
	// wrong lists what must never happen and did.
	wrong []string
	// down are the nodes that answer nothing and stream nothing. What they take themselves for, nobody sees.
	down map[string]bool
	// failedOver are nodes that were given up, and may be up again.
	failedOver map[string]bool
	// estimate and seqno, if they are set, say how far a backfill is and what a node's seqnos are.
	estimate func(vb uint16) kv.Estimate
	seqno    func(node string, vb uint16, is kv.SeqnoInfo) kv.SeqnoInfo
	// replications are those into each node that were started last.
	replications map[string]*fakeReplications
	connections  []*fakeKV
}

type fakeOp struct {
	Number     int
	Node, What string
	VB         uint16
}

func (o fakeOp) String() string { return fmt.Sprintf("%s of vb %d on %s", o.What, o.VB, o.Node) }

type fakeNode struct {
	exists   bool
	copies   map[uint16]*fakeCopy
	revision int64
	// list is what the node tells clients that have chosen no bucket, listRevision how new that is.
	list         string
	listRevision int64
}

type fakeCopy struct {
	state    mcbp.VBucketState
	topology [][]string
	high     uint64
	log      []kv.FailoverEntry
	// wrong is data that is not what it should be, at the right seqno.
	wrong bool
}

func newFakeWorld(nodes int) *fakeWorld {
	w := &fakeWorld{
		nodes: map[string]*fakeNode{}, replications: map[string]*fakeReplications{}, down: map[string]bool{}, failedOver: map[string]bool{},
	}
	for i := range nodes {
		w.nodes[fmt.Sprintf("n%d", i)] = &fakeNode{copies: map[uint16]*fakeCopy{}}
	}
	return w
}

// pass takes an operation through the gate.
func (w *fakeWorld) pass(ctx context.Context, node, what string, vb uint16) error {
	w.mu.Lock()
	gate := w.gate
	w.number++
	op := fakeOp{w.number, node, what, vb}
	w.mu.Unlock()
	err := ctx.Err()
	if gate != nil {
		err = gate(ctx, op)
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if err == nil && w.down[node] {
		return errDown
	}
	return err
}

// errDown is what is said of a node that is down.
var errDown = errors.New("connection refused")

// setDown takes a node down, or up again. Its copies stay; streams from it and into it are gone.
func (w *fakeWorld) setDown(node string, down bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.down[node] = down
}

// giveUp says that a node is down and is being given up: from now on others may become active of what it is the active of.
func (w *fakeWorld) giveUp(node string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.down[node], w.failedOver[node] = true, true
}

func (w *fakeWorld) setGate(gate func(ctx context.Context, op fakeOp) error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.gate, w.number = gate, 0
}

func (w *fakeWorld) sayf(format string, args ...any) {
	w.wrong = append(w.wrong, fmt.Sprintf(format, args...))
}

// branch begins a new branch of a copy's history.
func (w *fakeWorld) branch(c *fakeCopy) {
	w.lastID++
	c.log = slices.Insert(c.log, 0, kv.FailoverEntry{UUID: w.lastID, Seqno: c.high})
}

// setState is SET_VBUCKET.
func (w *fakeWorld) setState(node string, vb uint16, state mcbp.VBucketState, topology [][]string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	copies := w.nodes[node].copies
	c := copies[vb]
	if c == nil {
		c = &fakeCopy{}
		w.branch(c)
		copies[vb] = c
		if state == mcbp.VBucketActive && w.holders(vb) > 0 {
			w.sayf("vb %d: %s is made active from nothing while others have data", vb, node)
		}
	}
	if state == mcbp.VBucketActive && c.state != mcbp.VBucketActive {
		w.branch(c)
		w.activated(node, vb)
	}
	c.state = state
	c.topology = topology
}

// activated is called before a copy becomes active.
func (w *fakeWorld) activated(node string, vb uint16) {
	for other, n := range w.nodes {
		if c := n.copies[vb]; other != node && c != nil && c.state == mcbp.VBucketActive && !w.failedOver[other] {
			w.sayf("vb %d: %s becomes active while %s is", vb, node, other)
		}
	}
}

// holders counts the copies with data.
func (w *fakeWorld) holders(vb uint16) int {
	holders := 0
	for _, n := range w.nodes {
		if c := n.copies[vb]; c != nil && c.high > 0 {
			holders++
		}
	}
	return holders
}

func (w *fakeWorld) remove(node string, vb uint16) {
	w.mu.Lock()
	defer w.mu.Unlock()
	before := w.holders(vb)
	delete(w.nodes[node].copies, vb)
	if before == 1 && w.holders(vb) == 0 {
		w.sayf("vb %d: %s deletes the last data", vb, node)
	}
}

// copyData makes the consumer's copy what the producer's is; streams are instantaneous here.
func (w *fakeWorld) copyData(producer, consumer string, vb uint16) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.down[producer] || w.down[consumer] {
		return errDown
	}
	from, to := w.nodes[producer].copies[vb], w.nodes[consumer].copies[vb]
	if from == nil || to == nil || from.state == mcbp.VBucketDead || from.state == mcbp.VBucketPending || to.state == mcbp.VBucketActive {
		return mcbp.StatusNotMyVBucket
	}
	if to.high > from.high {
		w.sayf("vb %d: %s rolls back from %d to %d", vb, consumer, to.high, from.high)
	}
	if r := w.replications[consumer]; r != nil && from.high > to.high {
		r.carry(vb, from.high-to.high)
	}
	to.high, to.log = from.high, slices.Clone(from.log)
	return nil
}

// write adds documents to every vbucket, on its active and the copies that stream from it.
func (w *fakeWorld) write(documents uint64) {
	w.mu.Lock()
	defer w.mu.Unlock()
	served := map[uint16]bool{}
	for node, n := range w.nodes {
		for vb, c := range n.copies {
			served[vb] = served[vb] || c.state == mcbp.VBucketActive && !w.down[node]
		}
	}
	for node, n := range w.nodes {
		for vb, c := range n.copies {
			if served[vb] && !w.down[node] && (c.state == mcbp.VBucketActive || c.state == mcbp.VBucketReplica) {
				c.high += documents
			}
		}
	}
}

// tell sets what nodes say of backfills and seqnos; nil is the truth.
func (w *fakeWorld) tell(estimate func(vb uint16) kv.Estimate, seqno func(node string, vb uint16, is kv.SeqnoInfo) kv.SeqnoInfo) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.estimate, w.seqno = estimate, seqno
}

func (w *fakeWorld) told() (func(vb uint16) kv.Estimate, func(node string, vb uint16, is kv.SeqnoInfo) kv.SeqnoInfo) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.estimate, w.seqno
}

// fakeKV is one connection to a node.
type fakeKV struct {
	world *fakeWorld
	node  string

	mu    sync.Mutex
	ctx   context.Context
	reset context.CancelCauseFunc
	// admits says that clients were let in since the last reset.
	admits bool
}

// reconnected has all connections to a node lost, and made again.
func (w *fakeWorld) reconnected(node string) {
	w.mu.Lock()
	connections := slices.Clone(w.connections)
	w.mu.Unlock()
	for _, k := range connections {
		if k.node == node {
			k.Reset()
		}
	}
}

func (w *fakeWorld) connect(node, _ string) (nodeKV, error) {
	k := &fakeKV{world: w, node: node}
	k.Reset()
	w.mu.Lock()
	w.connections = append(w.connections, k)
	w.mu.Unlock()
	return k, nil
}

func (k *fakeKV) Reset() {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.reset != nil {
		k.reset(kv.ErrClosed)
	}
	k.admits = false
	k.ctx, k.reset = context.WithCancelCause(context.Background())
}

func (k *fakeKV) Close() error {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.reset(kv.ErrClosed)
	return nil
}

// pass takes a request through the gate. It ends with the connection.
func (k *fakeKV) pass(ctx context.Context, what string, vb uint16) error {
	k.mu.Lock()
	connection := k.ctx
	k.mu.Unlock()
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	defer context.AfterFunc(connection, func() { cancel(context.Cause(connection)) })()
	return k.world.pass(ctx, k.node, what, vb)
}

func (k *fakeKV) SetVBucket(ctx context.Context, vb uint16, state mcbp.VBucketState, topology [][]string) error {
	if err := k.pass(ctx, "state "+state.String(), vb); err != nil {
		return err
	}
	k.world.setState(k.node, vb, state, topology)
	return nil
}

func (k *fakeKV) VBucketState(ctx context.Context, vb uint16) (mcbp.VBucketState, error) {
	if err := k.pass(ctx, "look", vb); err != nil {
		return mcbp.VBucketMissing, err
	}
	k.world.mu.Lock()
	defer k.world.mu.Unlock()
	c := k.world.nodes[k.node].copies[vb]
	if c == nil {
		return mcbp.VBucketMissing, nil
	}
	return c.state, nil
}

func (k *fakeKV) DeleteVBucket(ctx context.Context, vb uint16) error {
	if err := k.pass(ctx, "delete", vb); err != nil {
		return err
	}
	k.world.remove(k.node, vb)
	return nil
}

func (k *fakeKV) VBuckets(ctx context.Context) (map[uint16]kv.VBucketInfo, error) {
	if err := k.pass(ctx, "query", 0); err != nil {
		return nil, err
	}
	k.world.mu.Lock()
	defer k.world.mu.Unlock()
	infos := map[uint16]kv.VBucketInfo{}
	for vb, c := range k.world.nodes[k.node].copies {
		infos[vb] = kv.VBucketInfo{
			State: c.state, Topology: c.topology, HighSeqno: c.high, PersistedSeqno: c.high, UUID: c.log[0].UUID, NumItems: c.high,
		}
	}
	return infos, nil
}

func (k *fakeKV) copyOf(vb uint16) (fakeCopy, error) {
	k.world.mu.Lock()
	defer k.world.mu.Unlock()
	c := k.world.nodes[k.node].copies[vb]
	if c == nil {
		return fakeCopy{}, mcbp.StatusNotMyVBucket
	}
	return *c, nil
}

func (k *fakeKV) VBucketSeqno(ctx context.Context, vb uint16) (kv.SeqnoInfo, error) {
	if err := k.pass(ctx, "seqno", vb); err != nil {
		return kv.SeqnoInfo{}, err
	}
	c, err := k.copyOf(vb)
	is := kv.SeqnoInfo{High: c.high, Persisted: c.high, UUID: uuidOf(c)}
	if _, told := k.world.told(); told != nil && err == nil {
		is = told(k.node, vb, is)
	}
	return is, err
}

func (k *fakeKV) SeqnoPersistence(ctx context.Context, vb uint16, seqno uint64) error {
	if err := k.pass(ctx, "persistence", vb); err != nil {
		return err
	}
	c, err := k.copyOf(vb)
	if err == nil && c.high < seqno {
		return mcbp.StatusTemporaryFailure
	}
	return err
}

func (k *fakeKV) TakeoverEstimate(ctx context.Context, vb uint16, _ string) (kv.Estimate, error) {
	if err := k.pass(ctx, "estimate", vb); err != nil {
		return kv.Estimate{}, err
	}
	_, err := k.copyOf(vb)
	if told, _ := k.world.told(); told != nil && err == nil {
		return told(vb), nil
	}
	return kv.Estimate{Status: "in-memory"}, err
}

func (k *fakeKV) FailoverLog(ctx context.Context, vb uint16) ([]kv.FailoverEntry, error) {
	if err := k.pass(ctx, "history", vb); err != nil {
		return nil, err
	}
	c, err := k.copyOf(vb)
	return slices.Clone(c.log), err
}

func (k *fakeKV) CreateBucket(ctx context.Context, _, _ string) error {
	if err := k.pass(ctx, "create bucket", 0); err != nil {
		return err
	}
	k.world.mu.Lock()
	defer k.world.mu.Unlock()
	node := k.world.nodes[k.node]
	if node.exists {
		return mcbp.StatusKeyExists
	}
	node.exists = true
	return nil
}

func (k *fakeKV) EnableTraffic(ctx context.Context) error {
	if err := k.pass(ctx, "enable traffic", 0); err != nil {
		return err
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	k.admits = true
	return nil
}

func (k *fakeKV) Admits(context.Context) (bool, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.admits, nil
}

func (k *fakeKV) ClusterConfig(context.Context) ([]byte, error) { return nil, mcbp.StatusKeyNotFound }

func (k *fakeKV) SetClusterConfig(ctx context.Context, bucket string, _, revision int64, config []byte) error {
	if bucket == nodeList {
		return k.setNodeList(ctx, revision, config)
	}
	if err := k.pass(ctx, "configuration", 0); err != nil {
		return err
	}
	k.world.mu.Lock()
	defer k.world.mu.Unlock()
	node := k.world.nodes[k.node]
	if revision < node.revision { // the same once more is what a publisher that was started again sends
		k.world.sayf("%s gets revision %d after %d", k.node, revision, node.revision)
	}
	node.revision = revision
	return nil
}

func (k *fakeKV) setNodeList(ctx context.Context, revision int64, config []byte) error {
	if err := k.pass(ctx, "node list", 0); err != nil {
		return err
	}
	k.world.mu.Lock()
	defer k.world.mu.Unlock()
	node := k.world.nodes[k.node]
	if revision < node.listRevision {
		k.world.sayf("%s gets the node list of revision %d after %d", k.node, revision, node.listRevision)
	}
	node.list, node.listRevision = string(config), revision
	return nil
}

// after is how long a fake takes: long enough that the order of things is decided by it, and not by chance.
func after(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// data is the high seqno of each vbucket's active.
func (w *fakeWorld) data() map[uint16]uint64 {
	w.mu.Lock()
	defer w.mu.Unlock()
	data := map[uint16]uint64{}
	for node, n := range w.nodes {
		for vb, c := range n.copies {
			if c.state == mcbp.VBucketActive && !w.failedOver[node] {
				data[vb] = c.high
			}
		}
	}
	return maps.Clone(data)
}

func uuidOf(c fakeCopy) uint64 {
	if len(c.log) == 0 {
		return 0
	}
	return c.log[0].UUID
}

// Stats knows the digests only.
func (k *fakeKV) Stats(ctx context.Context, group string, each func(key, value string)) error {
	var vb uint16
	if _, err := fmt.Sscanf(group, "vbucket-digest %d", &vb); err != nil {
		return mcbp.StatusKeyNotFound
	}
	if err := k.pass(ctx, "digest", vb); err != nil {
		return err
	}
	c, err := k.copyOf(vb)
	if err != nil {
		return err
	}
	each(fmt.Sprintf("vb_%d:high_seqno", vb), fmt.Sprint(c.high))
	each(fmt.Sprintf("vb_%d:uuid", vb), fmt.Sprint(uuidOf(c)))
	each(fmt.Sprintf("vb_%d:digest", vb), fmt.Sprintf("digest of %d, wrong %v", c.high, c.wrong))
	return nil
}
