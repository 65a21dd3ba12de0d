package kvnode

import (
	"sync"
	"time"

	"github.com/shearpin/shearpin/dcp/mcbp"
)

// consumer is the end of a replication that receives documents. A cluster manager tells it what to stream with ADD_STREAM;
// everything else it does by itself. It holds mu while it acts on a frame, so that after shut no frame has an effect.
type consumer struct {
	link
	consumerName string

	mu   sync.Mutex
	dead bool
	// counter numbers everything that the consumer asks for: streams, settings, acknowledgements.
	counter     uint32
	negotiation negotiation
	// wanted is the buffer size to advertise; advertised the one asked for last.
	wanted, advertised uint32
	// streams holds the stream of each vbucket, closed ones too until their end or another stream comes; requests those
	// whose STREAM_REQ is unanswered, by opaque; queued those that wait for the negotiation.
	streams  map[uint16]*passiveStream
	requests map[mcbp.Opaque]*passiveStream
	queued   []*passiveStream
	// processed counts the bytes to acknowledge, since the time acked.
	processed uint32
	acked     time.Time
	heard     time.Time
}

func newConsumer(l link, consumerName string) *consumer {
	return &consumer{
		link: l, consumerName: consumerName, streams: map[uint16]*passiveStream{}, requests: map[mcbp.Opaque]*passiveStream{},
	}
}

func (c *consumer) handle(f mcbp.Frame) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.dead {
		return errShut
	}
	if f.IsResponse() {
		return c.answered(f)
	}
	switch f.Opcode() {
	case mcbp.OpDCPAddStream:
		return c.addStream(f)
	case mcbp.OpDCPCloseStream:
		return c.closeStream(f)
	}
	if c.negotiation.buffer > 0 {
		c.processed += mcbp.FlowControlCost(f)
	}
	return c.message(f)
}

// message acts on a request of the producer.
func (c *consumer) message(f mcbp.Frame) error {
	switch f.Opcode() {
	case mcbp.OpDCPNoop:
		c.answer(f, mcbp.StatusSuccess)
	case mcbp.OpDCPSnapshotMarker, mcbp.OpDCPMutation, mcbp.OpDCPDeletion, mcbp.OpDCPExpiration, mcbp.OpDCPSeqnoAdvanced:
		if s, status := c.streamOf(f); status != mcbp.StatusSuccess {
			c.answer(f, status)
		} else if !s.closed {
			return c.apply(s, f)
		}
	case mcbp.OpDCPPrepare, mcbp.OpDCPCommit, mcbp.OpDCPAbort:
		if !c.negotiation.syncWrites {
			c.answer(f, mcbp.StatusNotSupported)
		} else if s, status := c.streamOf(f); status != mcbp.StatusSuccess {
			c.answer(f, status)
		} else if !s.closed {
			return c.apply(s, f)
		}
	case mcbp.OpDCPSetVBucketState:
		return c.setVBucketState(f)
	case mcbp.OpDCPStreamEnd:
		return c.streamEnd(f)
	default:
		c.answer(f, mcbp.StatusNotSupported)
	}
	return nil
}

// streamOf finds the stream that a message belongs to. Its error statuses are those that were negotiated.
func (c *consumer) streamOf(f mcbp.Frame) (*passiveStream, mcbp.Status) {
	s := c.streams[f.VBucket()]
	if s != nil && s.cut.Load() {
		c.forget(s)
		s = nil
	}
	switch {
	case s == nil:
		return nil, c.noStream()
	case s.opaque != f.Opaque():
		return nil, c.otherOpaque()
	}
	return s, mcbp.StatusSuccess
}

func (c *consumer) noStream() mcbp.Status {
	if c.negotiation.v7Status {
		return mcbp.StatusStreamNotFound
	}
	return mcbp.StatusKeyNotFound
}

func (c *consumer) otherOpaque() mcbp.Status {
	if c.negotiation.v7Status {
		return mcbp.StatusOpaqueNoMatch
	}
	return mcbp.StatusKeyExists
}

// forget drops a stream from the tables, if it is there.
func (c *consumer) forget(s *passiveStream) {
	if c.streams[s.vb.id] == s {
		delete(c.streams, s.vb.id)
	}
	delete(c.requests, s.opaque)
}

// answered takes what the producer answers.
func (c *consumer) answered(f mcbp.Frame) error {
	switch f.Opcode() {
	case mcbp.OpGetErrorMap, mcbp.OpDCPControl:
		if !c.negotiation.answered(f.Opaque(), f.Status()) {
			return errStrayAnswer
		}
		if c.negotiation.finished() && c.acked.IsZero() {
			c.acked = time.Now()
		}
	case mcbp.OpDCPStreamReq:
		return c.requestAnswered(f)
	case mcbp.OpDCPAddStream, mcbp.OpDCPCloseStream:
		return errStrayAnswer
	}
	return nil
}

// answer sends a bare answer that no interceptor is asked about.
func (c *consumer) answer(f mcbp.Frame, status mcbp.Status) { c.put(mcbp.Response(f, status).Frame()) }

func (c *consumer) nextOpaque() mcbp.Opaque {
	c.counter++
	return hostOpaque(c.counter)
}

// settle sends what follows from the frames handled so far: the next setting, the requests of streams that were waiting
// for the last one, an acknowledgement.
func (c *consumer) settle() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.dead {
		return
	}
	c.heard = time.Now()
	c.step()
}

// step is settle without having heard anything. The caller holds mu.
func (c *consumer) step() {
	n := &c.negotiation
	if !n.started && len(c.queued) > 0 {
		c.wanted = c.b.consumerBuffer()
		c.advertised = c.wanted
		n.start(c.c.node.opts.Version, c.consumerName, c.wanted)
	}
	if n.finished() && c.wanted != c.advertised && n.buffer > 0 {
		c.advertised = c.wanted
		n.resize(c.wanted)
	}
	for _, f := range n.next(c.nextOpaque) {
		c.put(f)
	}
	if len(c.queued) > 0 && n.finishedOnce {
		for _, s := range c.queued {
			c.request(s)
		}
		c.queued = nil
	}
	if n.buffer > 0 && c.processed > n.buffer/5 && c.b.takesReplicas() {
		c.acknowledge(time.Now())
	}
}

// acknowledge tells the producer how much of its window is free again.
func (c *consumer) acknowledge(now time.Time) {
	c.put(mcbp.BufferAck{Opaque: c.nextOpaque(), Bytes: c.processed}.Append(nil))
	c.processed, c.acked = 0, now
}

// ackInterval is after how long even a few bytes are acknowledged.
const ackInterval = 5 * time.Second

func (c *consumer) tick(now time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case c.dead:
	case c.negotiation.noop && now.Sub(c.heard) > c.c.node.opts.IdleTimeout:
		c.c.node.log.Warn("producer_silent", "conn", c.name.Name)
		c.c.close()
	case !c.b.takesReplicas():
		// The producer stops when the buffer is full.
	case c.negotiation.buffer > 0 && (c.processed > c.negotiation.buffer/5 || c.processed > 0 && now.Sub(c.acked) >= ackInterval):
		c.acknowledge(now)
		c.c.signal()
	}
}

// resized hears that the bucket's consumers share its memory anew.
func (c *consumer) resized() {
	buffer := c.b.consumerBuffer()
	c.mu.Lock()
	defer c.mu.Unlock()
	c.wanted = buffer
	if c.dead || c.c.node.opts.Version == Version72 { // an older engine says it when it next hears something
		return
	}
	c.step()
	c.c.signal()
}

func (c *consumer) fill() {}

func (c *consumer) streamCount() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.streams)
}

// shut drops every stream. Adds that are unanswered stay so.
func (c *consumer) shut() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.dead = true
	for _, s := range c.streams {
		s.release()
	}
	clear(c.streams)
	clear(c.requests)
	c.queued = nil
}
