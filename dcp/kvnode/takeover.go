package kvnode

import (
	"sync/atomic"
	"time"

	"github.com/shearpin/shearpin/dcp/mcbp"
)

// takeoverPhase is how far the handover of a vbucket has come, seen from the copy that gives it away (dcp-wire §10.3).
type takeoverPhase int32

const (
	// takeoverStreaming: clients still write here; the stream catches up with them.
	takeoverStreaming takeoverPhase = iota
	// takeoverPending: the consumer was told to become pending, and has not answered.
	takeoverPending
	// takeoverTail: the copy is dead, and the stream sends what was written until then.
	takeoverTail
	// takeoverActive: the consumer was told to become active, and has not answered.
	takeoverActive
)

// takeover is the handover that a stream with the takeover flag ends in. The pump takes the steps, the reader the answers.
type takeover struct {
	phase atomic.Int32
	// unacknowledged counts the snapshot markers that the consumer has not answered.
	unacknowledged atomic.Int32
}

func (s *activeStream) isTakeover() bool { return s.request.Flags&mcbp.StreamFlagTakeover != 0 }

func (t *takeover) in(phase takeoverPhase) bool { return takeoverPhase(t.phase.Load()) == phase }

// waiting reports whether the consumer owes an answer: nothing is streamed meanwhile.
func (t *takeover) waiting() bool { return t.in(takeoverPending) || t.in(takeoverActive) }

// step sends the next state once everything has been sent and the consumer has confirmed all of it.
func (t *takeover) step(s *activeStream) {
	if t.unacknowledged.Load() > 0 {
		return
	}
	state, next := mcbp.VBucketPending, takeoverPending
	if t.in(takeoverTail) {
		state, next = mcbp.VBucketActive, takeoverActive
	}
	s.p.mu.Lock()
	defer s.p.mu.Unlock()
	if s.p.dead || s.ending() {
		return
	}
	t.phase.Store(int32(next))
	s.p.send(s.vb.id, mcbp.SetVBucketState{VBucket: s.vb.id, Opaque: s.request.Opaque, State: state}.Append(nil))
}

// backup refuses further writes if the stream has been trying to catch up for too long. The caller holds the vbucket.
func (t *takeover) backup(s *activeStream) {
	if s.isTakeover() && t.in(takeoverStreaming) && !s.vb.backup && !s.ending() &&
		time.Since(s.opened) > s.p.c.node.opts.TakeoverMaxTime {
		s.vb.backup = true
	}
}

// markerAnswered takes the confirmation of a snapshot.
func (s *activeStream) markerAnswered(status mcbp.Status) {
	if !s.isTakeover() || s.takeover.unacknowledged.Load() == 0 {
		return
	}
	if status != mcbp.StatusSuccess {
		s.failTakeover()
		return
	}
	s.takeover.unacknowledged.Add(-1)
	s.notify()
}

// stateAnswered takes the answer to a SET_VBUCKET_STATE. When the consumer is pending this copy dies, which ends no stream;
// when the consumer is active the stream has done its work. The caller holds the producer.
func (s *activeStream) stateAnswered(status mcbp.Status) {
	t, v := &s.takeover, s.vb
	if !t.waiting() {
		return
	}
	if status != mcbp.StatusSuccess {
		s.failTakeover()
		return
	}
	if t.in(takeoverActive) {
		v.removeStream(s)
		s.end(mcbp.EndOK)
		return
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	if s.ending() {
		return // a SET_VBUCKET came in between
	}
	v.state, v.topology, v.backup = mcbp.VBucketDead, nil, false
	v.changed()
	v.roleChanged()
	s.p.c.node.log.Debug("vbucket_handed_over", "bucket", v.bucket.name, "vb", v.id, "conn", s.p.name.Name)
	t.phase.Store(int32(takeoverTail))
	s.notify()
}

// failTakeover ends a takeover that the consumer refused. The copy keeps the state that it has reached.
func (s *activeStream) failTakeover() {
	s.vb.removeStream(s)
	s.end(mcbp.EndDisconnected)
}
