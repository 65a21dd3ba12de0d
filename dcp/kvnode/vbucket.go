package kvnode

import (
	"slices"
	"sync"
	"time"

	"github.com/shearpin/shearpin/dcp/mcbp"
)

// vbucket is this node's copy of one vbucket. A copy that is deleted and made again is another value.
type vbucket struct {
	id     uint16
	bucket *bucket

	mu       sync.Mutex
	state    mcbp.VBucketState
	deleted  bool
	topology []byte
	log      failoverLog
	// high is the newest seqno, lastCAS the largest CAS given out or received. visible is the newest seqno up to which readers miss
	// nothing but what comes later: what durable writes leave beside the documents does not raise it.
	high, lastCAS, visible uint64
	// snapStart is the end of the last complete snapshot, snapEnd that of the one being received, which is complete when
	// high reaches it.
	snapStart, snapEnd uint64
	// snapCompleted is the newest durable write that has ended by the end of the snapshot, if its marker says so.
	snapCompleted uint64
	items         map[string]*item
	history       history
	// documents counts the items that are not deletions.
	documents int
	// streams are the outgoing ones; passive is the incoming one.
	streams []*activeStream
	passive *passiveStream
	waiters []*persistenceWaiter
	// nextExpiry is no later than the earliest expiry, in Unix seconds; 0 if no document has one.
	nextExpiry uint32
	// backup refuses writes for the end of a takeover that could not catch up with them.
	backup bool
	// disk is what the disk has of this copy; unflushed says that the flusher knows of a change.
	disk      persistence
	unflushed bool
	// durability decides how durable writes end; prepares are those without an end, and the marks of those that were aborted; writers
	// are the clients that wait, by the seqno of the prepare.
	durability durability
	prepares   map[string]*item
	writers    map[uint64]*syncWrite
}

func newVBucket(b *bucket, id uint16, state mcbp.VBucketState) *vbucket {
	return &vbucket{
		id: id, bucket: b, state: state, log: newFailoverLog(), items: map[string]*item{}, disk: neverPersisted(),
		durability: newDurability(b.member()), prepares: map[string]*item{}, writers: map[uint64]*syncWrite{},
	}
}

// put makes it the newest version of its key. It takes the place of a prepare too, and of the mark of an abort: whoever has the prepare
// and hears of a document knows that the prepare has ended. The caller holds mu and has set the item's seqno.
func (v *vbucket) put(it *item) {
	if p := v.prepares[it.key]; p != nil {
		v.endPrepare(p)
		it.follows(p)
	}
	v.drop(v.items[it.key])
	v.items[it.key] = it
	v.history.push(it)
	v.bucket.memory.Add(it.size())
	if it.live() {
		v.documents++
	}
	v.noteExpiry(it)
	v.lastCAS = max(v.lastCAS, it.cas)
	v.visible = it.seqno
	v.advance(it.seqno)
}

// drop takes a version out of the history; nil is allowed. The caller holds mu and sees to items.
func (v *vbucket) drop(it *item) {
	if it == nil {
		return
	}
	v.history.remove(it)
	v.bucket.memory.Add(-it.size())
	if it.live() {
		v.documents--
	}
}

// advance makes seqno the high seqno and tells whoever waits for it. The caller holds mu.
func (v *vbucket) advance(seqno uint64) {
	v.high = seqno
	v.changed()
	for _, s := range v.streams {
		s.notify()
	}
	if len(v.waiters) > 0 {
		v.releaseWaiters()
	}
}

// nextCAS gives out a CAS: the time in nanoseconds with its low 16 bits as a counter. The caller holds mu.
func (v *vbucket) nextCAS() uint64 {
	v.lastCAS = max(v.lastCAS+1, uint64(time.Now().UnixNano())&^0xffff)
	return v.lastCAS
}

// snapshot is the range that the high seqno lies in, as a STREAM_REQ gives it. The caller holds mu.
func (v *vbucket) snapshot() (start, end uint64) {
	if v.high >= v.snapEnd {
		return v.high, v.high
	}
	return v.snapStart, v.snapEnd
}

// setState changes the state as SET_VBUCKET does, or as the takeover that transfers the vbucket does. The caller holds mu.
//
// A transfer keeps the failover log, so that the history goes on under its UUID; anything else that makes the copy active
// begins a new branch, at the end of the last complete snapshot: within a partial one the copy may lack older versions of
// keys, and a peer that has them must not be told that it agrees. Every change of state ends the outgoing streams, and one
// to active the incoming one, unless it was a transfer.
func (v *vbucket) setState(state mcbp.VBucketState, topology []byte, transfer bool) {
	from := v.state
	v.state, v.topology, v.backup = state, topology, false
	v.changed()
	defer v.roleChanged()
	if state == from {
		return
	}
	if state == mcbp.VBucketActive && !transfer {
		complete, _ := v.snapshot()
		v.log = v.log.branch(complete)
		v.snapStart, v.snapEnd = v.high, v.high
		v.closePassive()
	}
	v.endStreams(mcbp.EndStateChanged)
}

// endStreams ends every outgoing stream. The caller holds mu.
func (v *vbucket) endStreams(reason mcbp.EndReason) {
	for _, s := range v.streams {
		s.end(reason)
		v.durability.left(s.node)
	}
	v.streams = nil
}

// closePassive cuts off the incoming stream: its consumer finds out with the next frame. The caller holds mu.
func (v *vbucket) closePassive() {
	if v.passive != nil {
		v.passive.cut.Store(true)
		v.passive = nil
	}
}

// removeStream forgets an outgoing stream without a word to its peer.
func (v *vbucket) removeStream(gone *activeStream) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if gone.isTakeover() {
		v.backup = false
	}
	if i := slices.Index(v.streams, gone); i >= 0 {
		v.streams = slices.Delete(slices.Clone(v.streams), i, i+1)
		if !slices.ContainsFunc(v.streams, func(s *activeStream) bool { return s.node == gone.node }) {
			v.durability.left(gone.node)
		}
	}
}

// destroy empties the copy for good. The caller holds mu.
func (v *vbucket) destroy() {
	v.setState(mcbp.VBucketDead, nil, false)
	v.deleted = true
	v.endStreams(mcbp.EndStateChanged)
	v.closePassive()
	for it := v.history.oldest; it != nil; it = it.newer {
		v.bucket.memory.Add(-it.size())
	}
	v.items, v.prepares, v.history, v.documents = nil, nil, history{}, 0
	v.releaseWaiters()
}

// rollback takes the copy back to at most seqno, and returns where it is now. The caller holds mu.
//
// Older versions are not kept, so the exact state at seqno is there only if nothing after it replaced a version that it
// needs: if every later item is the first of its key, and ended no prepare from before. Otherwise the copy starts again from nothing, as a real engine
// does when it has no snapshot old enough.
func (v *vbucket) rollback(seqno uint64) uint64 {
	v.endStreams(mcbp.EndRollback)
	for it := v.history.newest; it != nil && it.seqno > seqno; it = it.older {
		if it.kind == document && it.rev != 1 || it.since != 0 && it.since <= seqno {
			seqno = 0
			break
		}
	}
	var lost []*item
	for it := v.history.newest; it != nil && it.seqno > seqno; it = v.history.newest {
		if it.kind == document {
			delete(v.items, it.key)
		} else {
			delete(v.prepares, it.key)
		}
		v.drop(it)
		lost = append(lost, it)
	}
	v.high = min(v.high, seqno)
	v.visible = v.findVisible()
	v.snapStart, v.snapEnd = v.high, v.high
	if v.log = v.log.prune(v.high); len(v.log) == 0 {
		v.log = newFailoverLog()
	}
	v.disk.rolledBack(v.high, lost)
	v.durability.rolledBack(v.high)
	v.snapCompleted = 0
	v.changed()
	return v.high
}
