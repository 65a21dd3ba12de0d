package kvnode

import (
	"encoding/json"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/shearpin/shearpin/dcp/mcbp"
)

// activeStream sends one vbucket's changes.
//
// It never misses a change: a vbucket that gets one queues its streams, and the pump clears the queued mark before it
// looks, so a change after the look queues the stream again.
type activeStream struct {
	p       *producer
	vb      *vbucket
	request mcbp.StreamRequest
	opened  time.Time
	// queued says that the stream is in the ready list.
	queued atomic.Bool
	// last is 0 while the stream lives, else how it ends: abandoned, or a reason plus endBase.
	last atomic.Uint64
	// sent is the newest seqno in the outbox.
	sent     atomic.Uint64
	takeover takeover
	backfill backfill
	// syncWrites says that the consumer is told of durable writes; node is its name in topologies if what it acknowledges counts.
	syncWrites bool
	node       string

	// The pump's own. captured is the newest seqno that queue, which is a snapshot in sending, has or had; marked is the end of
	// that snapshot as the consumer was told.
	queue    []*item
	buffer   []*item
	captured uint64
	marked   uint64
	// whole is the newest seqno of which the consumer has all that the vbucket had, once it has what was captured; from is the one
	// before.
	whole, from uint64
	markers     int
}

const (
	abandoned uint64 = 1
	endBase   uint64 = 2
)

// newActiveStream makes a stream that counts as queued, so that nothing is sent until the caller says so. The caller holds the
// vbucket.
func newActiveStream(p *producer, v *vbucket, r mcbp.StreamRequest) *activeStream {
	s := &activeStream{p: p, vb: v, request: r, opened: time.Now(), captured: r.Start, syncWrites: p.settings.syncWrites, whole: r.Start}
	if r.Start < r.SnapEnd {
		s.whole = r.SnapStart // what ended within a snapshot is not in it
	}
	if s.syncWrites {
		s.node = p.settings.consumerName
	}
	s.queued.Store(true)
	s.sent.Store(r.Start)
	if v.outOfMemory(r.Start) {
		s.backfill.expect()
	}
	return s
}

// mayStream says whether a copy accepts a STREAM_REQ with these flags. A replica may be streamed from, but not taken over.
// The caller holds mu.
func (v *vbucket) mayStream(flags uint32) bool {
	switch {
	case v.deleted:
		return false
	case v.state == mcbp.VBucketActive:
		return true
	}
	return v.state == mcbp.VBucketReplica && flags&(mcbp.StreamFlagActiveOnly|mcbp.StreamFlagTakeover) == 0
}

// purgeSeqno takes the consumer's purge seqno out of a STREAM_REQ's value. Filters that need more than the default
// collection, or stream ids, are not offered.
func purgeSeqno(value []byte) (seqno uint64, ok bool) {
	if len(value) == 0 {
		return 0, true
	}
	var filter struct {
		Purge       string          `json:"purge_seqno"`
		StreamID    json.RawMessage `json:"sid"`
		Collections []string        `json:"collections"`
		Scope       string          `json:"scope"`
	}
	if err := json.Unmarshal(value, &filter); err != nil || filter.StreamID != nil {
		return 0, false
	}
	for _, id := range append(filter.Collections, filter.Scope) {
		if n, err := strconv.ParseUint(id, 16, 32); id != "" && (err != nil || n != 0) {
			return 0, false
		}
	}
	if filter.Purge == "" {
		return 0, true
	}
	seqno, err := strconv.ParseUint(filter.Purge, 10, 64)
	return seqno, err == nil
}

// notify queues the stream. It may be called with the vbucket locked, by any goroutine.
func (s *activeStream) notify() {
	if s.queued.CompareAndSwap(false, true) {
		s.p.ready.push(s)
		s.p.c.signal()
	}
}

// end makes a STREAM_END the next and last thing that the stream sends. The first reason wins.
func (s *activeStream) end(reason mcbp.EndReason) {
	if s.last.CompareAndSwap(0, endBase+uint64(reason)) {
		s.notify()
	}
}

// abandon ends the stream without a word.
func (s *activeStream) abandon() { s.last.CompareAndSwap(0, abandoned) }

func (s *activeStream) ending() bool { return s.last.Load() != 0 }

// remaining is the number of items not in the outbox yet.
func (s *activeStream) remaining() uint64 {
	s.vb.mu.Lock()
	defer s.vb.mu.Unlock()
	return uint64(s.vb.history.countSince(s.sent.Load()))
}

const (
	// fillLimit is how many bytes a producer gathers for one write.
	fillLimit = 256 << 10
	// turnLimit is how many bytes one stream may send before the next one's turn.
	turnLimit = 32 << 10
)

// fill lets ready streams send, in turns, while the write is not full and flow control allows.
func (p *producer) fill() {
	for p.c.out.len() < fillLimit && p.windowOpen() {
		s := p.ready.pop()
		if s == nil {
			return
		}
		s.queued.Store(false)
		if s.advance() {
			s.notify()
		}
	}
}

// advance takes one turn, and reports whether there may be more to do at once. Only the pump calls it, with the window open.
func (s *activeStream) advance() (again bool) {
	if last := s.last.Load(); last != 0 {
		s.finish(last)
		return false
	}
	if s.takeover.waiting() {
		return false
	}
	if len(s.queue) == 0 && !s.capture() {
		return s.caughtUp()
	}
	s.sendItems()
	return true
}

// capture takes all items since the last capture as one snapshot and announces it. Taken at one moment, they are the
// state at that moment, whatever happens to the documents before all of it is sent.
func (s *activeStream) capture() bool {
	v := s.vb
	v.mu.Lock()
	disk := v.outOfMemory(s.captured)
	s.queue = v.history.appendSince(s.buffer[:0], s.captured)
	high := v.high
	end := max(high, v.snapEnd)
	visible, completed, held := v.visible, v.durability.highCompleted, v.durability.highPrepared
	if visible == high {
		visible = end
	}
	s.takeover.backup(s)
	v.mu.Unlock()

	for n := len(s.queue); n > 0 && s.queue[n-1].seqno > s.request.End; n-- {
		s.queue = s.queue[:n-1]
	}
	s.from, s.whole, s.captured = s.whole, high, high
	if !s.syncWrites {
		end = s.hide(end)
	}
	if !disk {
		s.backfill.begin(0)
	} else {
		s.backfill.begin(len(s.queue))
	}
	if len(s.queue) == 0 {
		return false
	}
	s.buffer = s.queue
	// A replica in the middle of a snapshot passes on its end; what comes later may still lie in it.
	if newest := s.queue[len(s.queue)-1].seqno; newest > s.marked {
		end = min(end, s.request.End)
		s.mark(mcbp.SnapshotMarker{
			Start: s.queue[0].seqno, End: end, MaxVisible: min(visible, end), HighCompleted: completed, HighPrepared: held,
		}, disk)
	}
	return true
}

// mark sends a snapshot marker. The first one of a stream starts where the consumer stopped.
func (s *activeStream) mark(m mcbp.SnapshotMarker, disk bool) {
	m.VBucket, m.Opaque, m.Flags, m.Version = s.vb.id, s.request.Opaque, mcbp.SnapshotMemory, s.p.marker(disk)
	if disk {
		m.Flags = mcbp.SnapshotDisk | mcbp.SnapshotCheckpoint
	}
	if s.markers == 0 {
		m.Start = s.request.Start
		m.Flags |= mcbp.SnapshotCheckpoint
	}
	if s.isTakeover() {
		m.Flags |= mcbp.SnapshotAck
		s.takeover.unacknowledged.Add(1)
	}
	s.markers++
	s.marked = m.End
	s.p.put(m.Append(nil))
}

// marker is the layout of a snapshot's marker. The newest is for what comes from disk.
func (p *producer) marker(disk bool) mcbp.MarkerVersion {
	p.mu.Lock()
	defer p.mu.Unlock()
	switch {
	case !p.settings.syncWrites:
		return mcbp.MarkerV1
	case disk && p.settings.marker22:
		return mcbp.MarkerV22
	}
	return mcbp.MarkerV20
}

// sendItems encodes items until the turn is over or the window closes.
func (s *activeStream) sendItems() {
	window, outstanding := s.p.window.Load(), s.p.outstanding.Load()
	b := s.p.c.out.begin()
	before := len(b)
	written, extra := int64(0), int64(0)
	for len(s.queue) > 0 && written < turnLimit && (window == 0 || outstanding+written+extra < window) {
		it := s.queue[0]
		s.queue = s.queue[1:]
		b = s.encode(b, it)
		written = int64(len(b) - before)
		if it.kind == prepared {
			extra += prepareSurcharge
		}
		s.sent.Store(it.seqno)
		s.backfill.sent()
	}
	s.p.outstanding.Add(written + extra)
	s.p.c.out.end(b)
	if len(s.queue) == 0 {
		clear(s.buffer)
		if cap(s.buffer) > bufferKeep {
			s.buffer = nil
		}
	}
}

// prepareSurcharge is what flow control counts for a PREPARE besides its size (dcp-wire §8).
const prepareSurcharge = 2

// bufferKeep is the longest list of items that a stream keeps for its next snapshot.
const bufferKeep = 64

// encode appends one item as a MUTATION, DELETION or EXPIRATION, or as what a durable write leaves. A document that a prepare became is
// a COMMIT for a consumer that has the prepare.
func (s *activeStream) encode(b []byte, it *item) []byte {
	key := make([]byte, 0, maxKeyLen+1)
	if s.p.collections {
		key = append(key, 0)
	}
	key = append(key, it.key...)
	if it.kind != document || s.syncWrites && it.prior != 0 && it.prior <= s.from {
		return s.encodeSyncWrite(b, it, key)
	}
	if !it.deleted {
		value, datatype := s.p.shown(it)
		m := mcbp.Mutation{
			VBucket: s.vb.id, Opaque: s.request.Opaque, Datatype: datatype, CAS: it.cas, BySeqno: it.seqno,
			RevSeqno: it.rev, Flags: it.flags, Expiration: it.expiry, Key: key, Value: value,
		}
		return m.Append(b)
	}
	m := mcbp.Deletion{
		VBucket: s.vb.id, Opaque: s.request.Opaque, Datatype: it.datatype, CAS: it.cas, BySeqno: it.seqno,
		RevSeqno: it.rev, Key: key, Value: it.value,
	}
	switch {
	case it.expired && s.p.expirations.Load():
		m.Version, m.DeleteTime = mcbp.DeletionByExpiry, it.deleteTime
	case s.p.deleteTimes:
		m.Version, m.DeleteTime = mcbp.DeletionV2, it.deleteTime
	}
	return m.Append(b)
}

// shown is a document's value as the consumer can read it: as it is, or inflated for one that did not negotiate compression.
func (p *producer) shown(it *item) ([]byte, mcbp.Datatype) {
	value := it.value
	if it.datatype&^p.datatypes&mcbp.DatatypeSnappy != 0 {
		if inflated, err := snappyDecode(value, maxValue); err == nil {
			value = inflated
		}
	}
	return value, it.datatype & p.datatypes
}

// caughtUp decides what a stream does that has sent everything there is.
func (s *activeStream) caughtUp() (again bool) {
	if s.captured >= s.request.End {
		s.vb.removeStream(s)
		s.end(mcbp.EndOK)
		return false // end has queued the stream
	}
	if s.isTakeover() {
		s.takeover.step(s)
	}
	return false
}

// finish sends the STREAM_END, unless the stream was abandoned, and forgets the stream.
func (s *activeStream) finish(last uint64) {
	s.queue, s.buffer = nil, nil
	p := s.p
	p.mu.Lock()
	defer p.mu.Unlock()
	if last != abandoned && !p.dead {
		m := mcbp.StreamEnd{VBucket: s.vb.id, Opaque: s.request.Opaque, Reason: mcbp.EndReason(last - endBase)}
		p.send(s.vb.id, m.Append(nil))
	}
	if p.streams[s.vb.id] == s {
		delete(p.streams, s.vb.id)
	}
}
