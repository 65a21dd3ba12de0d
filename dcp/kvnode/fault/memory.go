package fault

import (
	"sync"
	"sync/atomic"

	"github.com/shearpin/shearpin/dcp/mcbp"
)

// Bounds of what is remembered of one connection. Of more, what is oldest or all is forgotten; rules may then miss a frame.
const (
	maxRequests = 4096
	maxOpaques  = 4096
	maxMuted    = 1024
	maxOver     = 1024
)

// memory is what must be known of the frames before to judge the next one.
type memory struct {
	// filters says that something is muted or over.
	filters atomic.Bool

	mu sync.Mutex
	// requests holds the vbuckets of those that are not answered. When it is half full it becomes older, whose own are
	// forgotten. No request is in both.
	requests, older map[request]int
	kinds           map[opaqueKind]opaques
	mutes           map[request]struct{}
	streams         map[streamID]struct{}
}

// request is what an answer has in common with its request. way is that of the request.
type request struct {
	way    Direction
	op     mcbp.Opcode
	opaque mcbp.Opaque
}

// opaqueKind are frames among whose opaques an older one is stale: the messages of all streams of a vbucket, and its
// STREAM_REQs; else all frames of an opcode.
type opaqueKind struct {
	way    Direction
	op     mcbp.Opcode
	answer bool
	vb     int
}

// opaques are the last one, and the one before it that was different.
type opaques struct {
	last, before mcbp.Opaque
	hasBefore    bool
}

type streamID struct {
	vb     uint16
	opaque mcbp.Opaque
}

func newMemory() memory {
	return memory{
		requests: map[request]int{}, kinds: map[opaqueKind]opaques{}, mutes: map[request]struct{}{}, streams: map[streamID]struct{}{},
	}
}

// know finds the vbucket that a frame is about.
func (m *memory) know(s *sight) {
	f := s.frame
	if !aboutVBucket(f) {
		return
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if f.IsResponse() {
		key := request{s.way.opposite(), f.Opcode(), f.Opaque()}
		for _, known := range []map[request]int{m.requests, m.older} {
			if vb, ok := known[key]; ok {
				s.vb = vb
				delete(known, key)
			}
		}
		return
	}
	s.vb = int(f.VBucket())
	if !answered(f.Opcode()) {
		return
	}
	key := request{s.way, f.Opcode(), f.Opaque()}
	delete(m.older, key)
	m.requests[key] = s.vb
	if len(m.requests) == maxRequests/2 { // the others have long been answered, or never will be
		m.requests, m.older = map[request]int{}, m.requests
	}
}

// opaques learns a frame's opaque, and finds the one that is stale.
func (m *memory) opaques(s *sight) {
	f := s.frame
	kind := opaqueKind{way: s.way, op: f.Opcode(), answer: f.IsResponse(), vb: -1}
	if ofStream(f) {
		kind = opaqueKind{op: mcbp.OpDCPStreamReq, vb: int(f.VBucket())}
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	known, ok := m.kinds[kind]
	switch {
	case !ok && len(m.kinds) == maxOpaques:
		clear(m.kinds)
		fallthrough
	case !ok:
		known.last = f.Opaque()
	case known.last != f.Opaque():
		known = opaques{last: f.Opaque(), before: known.last, hasBefore: true}
	}
	m.kinds[kind] = known
	s.before, s.hasBefore = known.before, known.hasBefore
}

// ofStream reports whether a frame carries the opaque of a stream.
func ofStream(f mcbp.Frame) bool {
	if f.IsResponse() {
		return false
	}
	switch f.Opcode() {
	case mcbp.OpDCPStreamReq, mcbp.OpDCPSetVBucketState:
		return true
	}
	return streamMessage(f.Opcode())
}

// streamMessage reports whether producers send such requests within a stream.
func streamMessage(op mcbp.Opcode) bool {
	switch op {
	case mcbp.OpDCPStreamEnd, mcbp.OpDCPSnapshotMarker, mcbp.OpDCPMutation, mcbp.OpDCPDeletion, mcbp.OpDCPExpiration,
		mcbp.OpDCPSetVBucketState, mcbp.OpDCPSystemEvent, mcbp.OpDCPPrepare, mcbp.OpDCPCommit, mcbp.OpDCPAbort,
		mcbp.OpDCPSeqnoAdvanced, mcbp.OpDCPOSOSnapshot:
		return true
	}
	return false
}

// mute leaves a request of the peer without an answer.
func (m *memory) mute(f mcbp.Frame) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if len(m.mutes) == maxMuted {
		clear(m.mutes)
	}
	m.mutes[request{Received, f.Opcode(), f.Opaque()}] = struct{}{}
	m.filters.Store(true)
}

// muted reports whether an answer is one that the peer must not get. A STAT has many, the last without a key.
func (m *memory) muted(f mcbp.Frame) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	key := request{Received, f.Opcode(), f.Opaque()}
	_, muted := m.mutes[key]
	if muted && (f.Opcode() != mcbp.OpStat || f.KeyLen() == 0) {
		delete(m.mutes, key)
		m.filters.Store(len(m.mutes) > 0 || len(m.streams) > 0)
	}
	return muted
}

// end remembers a stream of which nothing more may be sent.
func (m *memory) end(vb uint16, opaque mcbp.Opaque) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if len(m.streams) == maxOver {
		clear(m.streams)
	}
	m.streams[streamID{vb, opaque}] = struct{}{}
	m.filters.Store(true)
}

// over reports whether a stream has been ended.
func (m *memory) over(vb uint16, opaque mcbp.Opaque) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	_, over := m.streams[streamID{vb, opaque}]
	return over
}
