package kvnode

import (
	"encoding/binary"
	"encoding/json"
	"slices"

	"github.com/shearpin/shearpin/dcp/mcbp"
)

// setVBucket answers SET_VBUCKET: one byte of state, and optionally JSON with the topology, which the node keeps and shows
// in its statistics. A state without a topology clears it.
func (c *conn) setVBucket(b *bucket, f mcbp.Frame) {
	topology, ok := c.vbucketTopology(f)
	if !ok || f.ExtrasLen() != 1 || f.KeyLen() != 0 {
		c.answer(f, mcbp.StatusInvalid)
		return
	}
	state := mcbp.VBucketState(f.Extras()[0])
	if state < mcbp.VBucketActive || state > mcbp.VBucketDead {
		c.answer(f, mcbp.StatusInvalid)
		return
	}
	c.answer(f, b.setVBucket(f.VBucket(), state, topology))
}

// vbucketTopology takes the topology out of a SET_VBUCKET's value, nil if there is none. As in real engines the value
// must be marked as JSON, which needs the feature: a manager that forgets it finds out here.
func (c *conn) vbucketTopology(f mcbp.Frame) (topology []byte, ok bool) {
	if len(f.Value()) == 0 {
		return nil, true
	}
	if f.Datatype() != mcbp.DatatypeJSON || !c.features.has(mcbp.FeatureJSON) {
		return nil, false
	}
	var meta struct {
		Topology json.RawMessage `json:"topology"`
	}
	if err := json.Unmarshal(f.Value(), &meta); err != nil {
		return nil, false
	}
	if len(meta.Topology) == 0 || string(meta.Topology) == "null" {
		return nil, true
	}
	if len(meta.Topology) > maxTopology {
		return nil, false
	}
	var chains [][]*string
	err := json.Unmarshal(meta.Topology, &chains)
	if err != nil || len(chains) < 1 || len(chains) > 2 || slices.ContainsFunc(chains, isNoChain) {
		return nil, false
	}
	return slices.Clone(meta.Topology), true
}

// maxTopology is the longest topology in bytes: a copy keeps it, in memory and on disk. Names of 2 000 bytes fit.
const maxTopology = 16 << 10

// maxChain is the longest chain of a topology: an active and three replicas.
const maxChain = 4

// isNoChain says what a chain must not be: empty or too long, without an active, or with a member twice, which would have two votes.
func isNoChain(members []*string) bool {
	if len(members) == 0 || len(members) > maxChain || members[0] == nil {
		return true
	}
	for i, name := range members {
		if name != nil && (*name == "" || slices.ContainsFunc(members[:i], func(m *string) bool { return m != nil && *m == *name })) {
			return true
		}
	}
	return false
}

// getVBucket answers GET_VBUCKET with the state as four bytes.
func (c *conn) getVBucket(b *bucket, f mcbp.Frame) {
	v := b.vb(f.VBucket())
	if v == nil {
		c.answer(f, mcbp.StatusNotMyVBucket)
		return
	}
	v.mu.Lock()
	state := v.state
	v.mu.Unlock()
	p := mcbp.Response(f, mcbp.StatusSuccess)
	p.Value = binary.BigEndian.AppendUint32(nil, uint32(state))
	c.reply(p)
}

// delVBucket answers DEL_VBUCKET. The copy is gone when the answer is sent; with "async=0" it is gone from the disk too, or
// the answer is a temporary failure, because the disk takes too long.
func (c *conn) delVBucket(b *bucket, f mcbp.Frame) {
	if value := string(f.Value()); f.ExtrasLen() != 0 || f.KeyLen() != 0 || value != "" && value != "async=0" {
		c.answer(f, mcbp.StatusInvalid)
		return
	}
	status := b.deleteVBucket(f.VBucket())
	if status == mcbp.StatusSuccess && len(f.Value()) > 0 && b.flusher != nil && c.end() == nil {
		var alive bool
		if status, alive = c.awaitDisk(b.flusher.barrier()); !alive {
			return
		}
	}
	c.answer(f, status)
}

// allVBSeqnos answers GET_ALL_VB_SEQNOS: vbucket and high seqno of every copy that is not dead, or only of those in the
// state that the extras name, in ascending order. Clients that can hear of nothing but documents are told of the newest
// document's. The default collection may be asked for; there is no other.
func (c *conn) allVBSeqnos(b *bucket, f mcbp.Frame) {
	var state mcbp.VBucketState
	switch x := f.Extras(); len(x) {
	case 0:
	case 8:
		if binary.BigEndian.Uint32(x[4:]) != 0 {
			c.answer(f, mcbp.StatusUnknownCollection)
			return
		}
		fallthrough
	case 4:
		wanted := binary.BigEndian.Uint32(x)
		if wanted > uint32(mcbp.VBucketDead) {
			c.answer(f, mcbp.StatusInvalid)
			return
		}
		state = mcbp.VBucketState(wanted)
	default:
		c.answer(f, mcbp.StatusInvalid)
		return
	}
	p := mcbp.Response(f, mcbp.StatusSuccess)
	for id := range b.vbs {
		v := b.vbs[id].Load()
		if v == nil {
			continue
		}
		v.mu.Lock()
		has, high := v.state, v.high
		if !c.features.has(mcbp.FeatureCollections) && !c.features.has(mcbp.FeatureSyncReplication) {
			high = v.visible
		}
		v.mu.Unlock()
		if has == state || state == mcbp.VBucketMissing && has != mcbp.VBucketDead {
			p.Value = binary.BigEndian.AppendUint16(p.Value, uint16(id))
			p.Value = binary.BigEndian.AppendUint64(p.Value, high)
		}
	}
	c.reply(p)
}

// failoverLog answers both forms of GET_FAILOVER_LOG.
func (c *conn) failoverLog(b *bucket, f mcbp.Frame) {
	v := b.vb(f.VBucket())
	if v == nil {
		c.answer(f, mcbp.StatusNotMyVBucket)
		return
	}
	p := mcbp.Response(f, mcbp.StatusSuccess)
	v.mu.Lock()
	p.Value = mcbp.AppendFailoverLog(nil, v.log)
	v.mu.Unlock()
	c.reply(p)
}

// persistenceWaiter is a SEQNO_PERSISTENCE that cannot be answered yet. done is closed when it can.
type persistenceWaiter struct {
	seqno uint64
	done  chan struct{}
}

// releaseWaiters lets go of those whose seqno has come, and of all if the copy is gone. The caller holds mu.
func (v *vbucket) releaseWaiters() {
	v.waiters = slices.DeleteFunc(v.waiters, func(w *persistenceWaiter) bool {
		ready := v.deleted || v.persisted() >= w.seqno
		if ready {
			close(w.done)
		}
		return ready
	})
}

// await enters a waiter, or returns nil if there is nothing to wait for.
func (v *vbucket) await(seqno uint64) *persistenceWaiter {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.deleted || v.persisted() >= seqno {
		return nil
	}
	w := &persistenceWaiter{seqno: seqno, done: make(chan struct{})}
	v.waiters = append(v.waiters, w)
	return w
}

func (v *vbucket) stopWaiting(gone *persistenceWaiter) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.waiters = slices.DeleteFunc(v.waiters, func(w *persistenceWaiter) bool { return w == gone })
}

// seqnoPersistence answers SEQNO_PERSISTENCE when the disk has the seqno, with a temporary failure if that takes too
// long. Answers keep the order of requests, so whatever the client sent behind it waits as well; a DCP connection, whose
// frames must flow, may therefore not ask.
func (c *conn) seqnoPersistence(b *bucket, f mcbp.Frame) {
	if c.end() != nil {
		c.answer(f, mcbp.StatusNotSupported)
		return
	}
	if f.ExtrasLen() != 8 || f.KeyLen() != 0 || len(f.Value()) != 0 {
		c.answer(f, mcbp.StatusInvalid)
		return
	}
	v := b.vb(f.VBucket())
	if v == nil {
		c.answer(f, mcbp.StatusNotMyVBucket)
		return
	}
	status := mcbp.StatusSuccess
	if w := v.await(binary.BigEndian.Uint64(f.Extras())); w != nil {
		var alive bool
		status, alive = c.awaitDisk(w.done)
		v.stopWaiting(w)
		if !alive {
			return
		}
	}
	if c.node.disk == nil && c.node.opts.Faults != nil {
		c.flush()
		c.node.beforeDisk(b.name, DiskWrite, c.done)
	}
	if b.vb(f.VBucket()) != v {
		status = mcbp.StatusNotMyVBucket
	}
	c.answer(f, status)
}
