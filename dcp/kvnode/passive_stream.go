package kvnode

import (
	"slices"
	"sync/atomic"

	"github.com/shearpin/shearpin/dcp/mcbp"
)

// passiveStream receives one vbucket's changes. Its fields belong to its consumer, but for cut.
type passiveStream struct {
	vb     *vbucket
	opaque mcbp.Opaque
	number uint32
	// add is the opaque of the ADD_STREAM.
	add   mcbp.Opaque
	flags uint32
	// requested says that a STREAM_REQ has been sent; start is the seqno in the last one.
	requested bool
	start     uint64
	// closed streams ignore what still comes for them.
	closed bool
	// last is the newest seqno received; the snapshot is to be confirmed at ackAt, if confirm.
	last    uint64
	ackAt   uint64
	confirm bool
	// consumer is told what the vbucket acknowledges, if the producer has accepted the stream and wants to know; acknowledged is the
	// last of it. They are guarded by the vbucket.
	consumer     *consumer
	acknowledges bool
	acknowledged uint64
	// cut is set when the vbucket became active or was deleted under the stream.
	cut atomic.Bool
}

// admitsStream says whether a copy takes an incoming stream. The caller holds mu.
func (v *vbucket) admitsStream() mcbp.Status {
	switch {
	case v.deleted || v.state == mcbp.VBucketActive:
		return mcbp.StatusNotMyVBucket
	case v.passive != nil:
		return mcbp.StatusKeyExists
	}
	return mcbp.StatusSuccess
}

// claim makes s the vbucket's incoming stream.
func (s *passiveStream) claim() mcbp.Status {
	s.vb.mu.Lock()
	defer s.vb.mu.Unlock()
	status := s.vb.admitsStream()
	if status == mcbp.StatusSuccess {
		s.vb.passive = s
	}
	return status
}

// release lets another stream take the vbucket.
func (s *passiveStream) release() {
	s.vb.mu.Lock()
	defer s.vb.mu.Unlock()
	if s.vb.passive == s {
		s.vb.passive = nil
	}
}

// addStream acts on ADD_STREAM: it refuses at once, or answers when the producer has.
func (c *consumer) addStream(f mcbp.Frame) error {
	vb := f.VBucket()
	m, err := mcbp.ParseAddStream(f)
	if err != nil {
		c.respond(vb, f, mcbp.StatusInvalid)
		return nil
	}
	v := c.b.vb(vb)
	if v == nil {
		c.respond(vb, f, mcbp.StatusNotMyVBucket)
		return nil
	}
	s := &passiveStream{vb: v, consumer: c, add: m.Opaque, flags: m.Flags}
	if status := s.claim(); status != mcbp.StatusSuccess {
		c.respond(vb, f, status)
		return nil
	}
	if proceed, err := c.received(vb, f); !proceed {
		s.release()
		return err
	}
	if old := c.streams[vb]; old != nil {
		delete(c.requests, old.opaque)
	}
	s.opaque = c.nextOpaque()
	s.number = c.counter
	c.streams[vb] = s
	c.queued = append(c.queued, s)
	return nil
}

// request sends a stream's STREAM_REQ, or the one after a rollback. What the vbucket became while the stream was waiting
// for its turn is an ordinary refusal.
func (c *consumer) request(s *passiveStream) {
	v := s.vb
	v.mu.Lock()
	if v.passive != s {
		v.mu.Unlock()
		c.forget(s)
		c.answerAdd(s, mcbp.StatusNotMyVBucket)
		return
	}
	r := mcbp.StreamRequest{VBucket: v.id, Opaque: s.opaque, Flags: s.flags, Start: v.high, End: mcbp.EndSeqnoForever}
	r.SnapStart, r.SnapEnd = v.snapshot()
	if v.high > 0 {
		r.VBUUID = v.log.uuid()
	}
	v.mu.Unlock()
	s.requested, s.start = true, r.Start
	c.requests[s.opaque] = s
	c.send(v.id, r.Append(nil))
}

// requestAnswered takes the producer's answer to a STREAM_REQ. A stream that was closed or cut off in the meantime is
// dropped without an answer to its ADD_STREAM, as real engines do. Nobody waits for the answer of one whose place another
// stream has taken by then: a manager that adds again must have seen the old answer pass.
func (c *consumer) requestAnswered(f mcbp.Frame) error {
	s := c.requests[f.Opaque()]
	if s == nil {
		return errStrayAnswer
	}
	if proceed, err := c.received(s.vb.id, f); !proceed {
		return err
	}
	answer, err := mcbp.ParseStreamRequestAnswer(f)
	if err != nil {
		return err
	}
	delete(c.requests, s.opaque)
	if s.closed {
		return nil
	}
	switch status := c.accepted(s, answer); status {
	case mcbp.StatusStreamNotFound:
		c.forget(s)
	case mcbp.StatusRollback:
		c.request(s)
	default:
		if status != mcbp.StatusSuccess {
			c.forget(s)
			s.release()
		}
		c.answerAdd(s, status)
	}
	return nil
}

// accepted applies the answer to the vbucket: it takes over the failover log, or rolls back. It returns the status to
// answer the ADD_STREAM with, [mcbp.StatusRollback] to request again, or [mcbp.StatusStreamNotFound] if the stream was cut
// off. A rollback that leads nowhere is passed on as an error: the producer would only repeat it.
func (c *consumer) accepted(s *passiveStream, answer mcbp.StreamRequestAnswer) mcbp.Status {
	v := s.vb
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.passive != s {
		return mcbp.StatusStreamNotFound
	}
	switch answer.Status {
	case mcbp.StatusSuccess:
		if len(answer.Log) > 0 {
			v.log = slices.Clone(answer.Log[:min(len(answer.Log), maxFailoverEntries)])
			v.changed()
		}
		s.acknowledges = c.negotiation.syncWrites
		v.acknowledge()
	case mcbp.StatusRollback:
		if answer.Rollback >= s.start && answer.Rollback > 0 || s.start == 0 {
			return mcbp.StatusRange
		}
		v.rollback(answer.Rollback)
	}
	return answer.Status
}

// answerAdd answers a stream's ADD_STREAM.
func (c *consumer) answerAdd(s *passiveStream, status mcbp.Status) {
	answer := mcbp.AddStreamAnswer{Opaque: s.add, Status: status, Requested: s.requested, Stream: s.number}
	c.send(s.vb.id, answer.Append(nil))
}

// closeStream answers CLOSE_STREAM. A stream that waits for the negotiation is not found, and opened all the same; one
// that was requested is closed, and its ADD_STREAM never answered. Real engines do both.
func (c *consumer) closeStream(f mcbp.Frame) error {
	vb := f.VBucket()
	if proceed, err := c.received(vb, f); !proceed {
		return err
	}
	if _, err := mcbp.ParseCloseStream(f); err != nil {
		c.respond(vb, f, mcbp.StatusInvalid)
		return nil
	}
	s := c.streams[vb]
	if s == nil || s.closed || s.cut.Load() || !s.requested {
		c.respond(vb, f, c.noStream())
		return nil
	}
	s.closed = true
	s.release()
	c.respond(vb, f, mcbp.StatusSuccess)
	return nil
}

// streamEnd acts on the producer's STREAM_END. It is answered only if there is no such stream.
func (c *consumer) streamEnd(f mcbp.Frame) error {
	if proceed, err := c.received(f.VBucket(), f); !proceed {
		return err
	}
	s, status := c.streamOf(f)
	if status != mcbp.StatusSuccess {
		c.answer(f, status)
		return nil
	}
	if _, err := mcbp.ParseStreamEnd(f); err != nil {
		c.answer(f, mcbp.StatusInvalid)
		return nil
	}
	c.forget(s)
	s.release()
	return nil
}

// setVBucketState acts on a takeover's change of state. The history goes on under its UUID.
func (c *consumer) setVBucketState(f mcbp.Frame) error {
	vb := f.VBucket()
	if proceed, err := c.received(vb, f); !proceed {
		return err
	}
	s, status := c.streamOf(f)
	if status == mcbp.StatusSuccess && s.closed {
		status = c.noStream()
	}
	if status == mcbp.StatusSuccess {
		status = c.transfer(s, f)
	}
	c.respond(vb, f, status)
	return nil
}

func (c *consumer) transfer(s *passiveStream, f mcbp.Frame) mcbp.Status {
	m, err := mcbp.ParseSetVBucketState(f)
	if err != nil || s.flags&mcbp.StreamFlagTakeover == 0 {
		return mcbp.StatusInvalid
	}
	v := s.vb
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.passive != s {
		return c.noStream()
	}
	v.setState(m.State, nil, true)
	c.c.node.log.Debug("vbucket_taken_over", "bucket", v.bucket.name, "vb", v.id, "state", m.State.String(), "conn", c.name.Name)
	return mcbp.StatusSuccess
}
