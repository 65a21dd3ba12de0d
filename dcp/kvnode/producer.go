package kvnode

import (
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/shearpin/shearpin/dcp/mcbp"
)

// producer is the end of a replication that has the documents. Its reader answers requests, its pump streams; the two meet
// in the ready list.
type producer struct {
	link
	deleteTimes bool
	// datatypes are those that the consumer has negotiated.
	datatypes mcbp.Datatype

	// window is the consumer's buffer in bytes, 0 without flow control. The producer sends while fewer bytes are
	// outstanding, so one message may go over it.
	window atomic.Int64
	// expirations says that the consumer knows EXPIRATION; others are told of a deletion.
	expirations atomic.Bool
	ready       readyList

	mu      sync.Mutex
	dead    bool
	streams map[uint16]*activeStream
	// settings that the consumer's CONTROLs make.
	settings producerSettings
	noop     noopState
}

// producerSettings are what a consumer can ask for with CONTROL.
type producerSettings struct {
	noop         bool
	noopInterval time.Duration
	// endOnClose sends a STREAM_END after the answer to a CLOSE_STREAM.
	endOnClose bool
	// syncWrites makes snapshot markers the second layout, and streams tell of durable writes; consumerName is the consumer's in
	// topologies.
	syncWrites   bool
	consumerName string
	// marker22 lets the markers of disk snapshots be of the newest layout.
	marker22 bool
}

const defaultNoopInterval = 20 * time.Second

func newProducer(l link, openFlags uint32) *producer {
	p := &producer{
		link:        l,
		deleteTimes: openFlags&mcbp.OpenFlagDeleteTimes != 0,
		datatypes:   l.c.features.datatypes(),
		streams:     map[uint16]*activeStream{},
		settings:    producerSettings{noopInterval: defaultNoopInterval},
		noop:        noopState{counter: firstNoop},
	}
	p.outstanding = &atomic.Int64{}
	return p
}

func (p *producer) handle(f mcbp.Frame) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.dead {
		return errShut
	}
	if f.IsResponse() {
		return p.answered(f)
	}
	switch f.Opcode() {
	case mcbp.OpDCPStreamReq:
		return p.streamRequest(f)
	case mcbp.OpDCPCloseStream:
		return p.closeStream(f)
	case mcbp.OpDCPBufferAck:
		p.bufferAck(f)
	case mcbp.OpDCPControl:
		p.respond(0, f, p.control(f))
	case mcbp.OpDCPGetFailoverLog:
		p.c.failoverLog(p.b, f)
	case mcbp.OpDCPNoop:
		p.respond(0, f, mcbp.StatusSuccess)
	case mcbp.OpDCPSeqnoAcknowledged:
		p.acknowledged(f)
	default:
		p.respond(f.VBucket(), f, mcbp.StatusNotSupported)
	}
	return nil
}

// streamRequest answers STREAM_REQ. The stream cannot send anything before its answer is in the outbox, because it counts
// as queued until then.
func (p *producer) streamRequest(f mcbp.Frame) error {
	vb := f.VBucket()
	if proceed, err := p.received(vb, f); !proceed {
		return err
	}
	request, err := mcbp.ParseStreamRequest(f)
	if err != nil {
		p.respond(vb, f, mcbp.StatusInvalid)
		return nil
	}
	if old := p.streams[vb]; old != nil && !old.ending() {
		p.respond(vb, f, mcbp.StatusKeyExists)
		return nil
	}
	if p.ready.len() > 2*len(p.b.vbs) { // streams whose ends the consumer does not take
		p.respond(vb, f, mcbp.StatusTemporaryFailure)
		return nil
	}
	s, answer := p.openStream(request)
	act := p.send(vb, answer.Append(nil))
	if s == nil {
		return nil
	}
	p.streams[vb] = s
	p.noop.streamed = true
	if act.End {
		s.vb.removeStream(s)
		s.end(act.Reason)
	}
	s.queued.Store(false)
	s.notify()
	return nil
}

// openStream decides a STREAM_REQ and, if it accepts, attaches the stream to its vbucket.
func (p *producer) openStream(r mcbp.StreamRequest) (*activeStream, mcbp.StreamRequestAnswer) {
	answer := mcbp.StreamRequestAnswer{Opaque: r.Opaque}
	v := p.b.vb(r.VBucket)
	if v == nil {
		answer.Status = mcbp.StatusNotMyVBucket
		return nil, answer
	}
	consumerPurge, ok := purgeSeqno(r.Value)
	if !ok {
		answer.Status = mcbp.StatusInvalid
		return nil, answer
	}
	r.Value = nil // it aliases the reader's buffer
	if r.SnapStart > r.Start || r.Start > r.SnapEnd || r.Start > r.End {
		answer.Status = mcbp.StatusRange
		return nil, answer
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	if !v.mayStream(r.Flags) {
		answer.Status = mcbp.StatusNotMyVBucket
		return nil, answer
	}
	decision := resumption{request: r, consumerPurge: consumerPurge, high: v.high, log: v.log}
	if seqno, needed := decision.rollback(); needed {
		answer.Status, answer.Rollback = mcbp.StatusRollback, seqno
		return nil, answer
	}
	if r.Flags&(mcbp.StreamFlagDiskOnly|mcbp.StreamFlagToLatest) != 0 {
		r.End = v.high
	}
	s := newActiveStream(p, v, r)
	v.streams = append(v.streams, s)
	answer.Log = append(failoverLog(nil), v.log...)
	return s, answer
}

// closeStream answers CLOSE_STREAM; the STREAM_END that the consumer may have asked for follows the answer.
func (p *producer) closeStream(f mcbp.Frame) error {
	vb := f.VBucket()
	if proceed, err := p.received(vb, f); !proceed {
		return err
	}
	if _, err := mcbp.ParseCloseStream(f); err != nil {
		p.respond(vb, f, mcbp.StatusInvalid)
		return nil
	}
	s := p.streams[vb]
	if s == nil || s.ending() {
		p.respond(vb, f, mcbp.StatusKeyNotFound)
		return nil
	}
	s.vb.removeStream(s)
	delete(p.streams, vb)
	p.respond(vb, f, mcbp.StatusSuccess)
	if p.settings.endOnClose {
		s.end(mcbp.EndClosed)
	} else {
		s.abandon()
	}
	return nil
}

// answered takes what the consumer answers. Errors about messages of a stream that it no longer has are of no interest.
func (p *producer) answered(f mcbp.Frame) error {
	switch f.Opcode() {
	case mcbp.OpDCPNoop:
		return p.noop.answered(f.Opaque())
	case mcbp.OpDCPSetVBucketState, mcbp.OpDCPSnapshotMarker:
		for vb, s := range p.streams {
			if s.request.Opaque != f.Opaque() || s.ending() {
				continue
			}
			if f.Opcode() == mcbp.OpDCPSnapshotMarker {
				s.markerAnswered(f.Status())
				return nil
			}
			if proceed, err := p.received(vb, f); !proceed {
				return err
			}
			s.stateAnswered(f.Status())
			return nil
		}
	case mcbp.OpDCPAddStream, mcbp.OpDCPCloseStream, mcbp.OpDCPStreamReq:
		return errStrayAnswer
	}
	return nil
}

func (p *producer) bufferAck(f mcbp.Frame) {
	ack, err := mcbp.ParseBufferAck(f)
	if err != nil {
		p.respond(0, f, mcbp.StatusInvalid)
		return
	}
	for {
		out := p.outstanding.Load()
		if p.outstanding.CompareAndSwap(out, max(0, out-int64(ack.Bytes))) {
			break
		}
	}
	p.c.signal()
}

// windowOpen reports whether flow control lets another message go.
func (p *producer) windowOpen() bool {
	window := p.window.Load()
	return window == 0 || p.outstanding.Load() < window
}

// control makes one setting.
func (p *producer) control(f mcbp.Frame) mcbp.Status {
	m, err := mcbp.ParseControl(f)
	if err != nil {
		return mcbp.StatusInvalid
	}
	switch m.Key {
	case "enable_noop":
		return setBool(&p.settings.noop, m.Value)
	case "send_stream_end_on_client_close_stream":
		return setBool(&p.settings.endOnClose, m.Value)
	case "enable_sync_writes":
		return setBool(&p.settings.syncWrites, m.Value)
	case "enable_expiry_opcode":
		var on bool
		status := setBool(&on, m.Value)
		if status == mcbp.StatusSuccess {
			p.expirations.Store(on)
		}
		return status
	case "set_noop_interval":
		seconds, err := p.parseInterval(m.Value)
		if err != nil || !(seconds > 0 && seconds <= maxNoopSeconds) {
			return mcbp.StatusInvalid
		}
		p.settings.noopInterval = time.Duration(seconds * float64(time.Second))
	case "connection_buffer_size":
		size, err := strconv.ParseUint(m.Value, 10, 32)
		if err != nil {
			return mcbp.StatusInvalid
		}
		p.window.Store(int64(size))
		p.c.signal()
	case "max_marker_version":
		if p.c.node.opts.Version == Version72 || m.Value != "2.0" && m.Value != "2.2" {
			return mcbp.StatusInvalid
		}
		p.settings.marker22 = m.Value == "2.2"
	case "consumer_name":
		p.settings.consumerName = m.Value
	case "set_priority", "supports_cursor_dropping", "supports_cursor_dropping_vulcan", "supports_hifi_MFU",
		"include_deleted_user_xattrs", "v7_dcp_status_codes",
		"flatbuffers_system_events", "backfill_order":
		// They change nothing that this producer sends.
	default:
		return mcbp.StatusNotSupported
	}
	return mcbp.StatusSuccess
}

// parseInterval reads a number of seconds; older engines know whole ones only.
func (p *producer) parseInterval(word string) (float64, error) {
	if p.c.node.opts.Version == Version72 {
		seconds, err := strconv.ParseUint(word, 10, 32)
		return float64(seconds), err
	}
	return strconv.ParseFloat(word, 64)
}

const maxNoopSeconds = 10800

func setBool(at *bool, word string) mcbp.Status {
	switch word {
	case "true":
		*at = true
	case "false":
		*at = false
	default:
		return mcbp.StatusInvalid
	}
	return mcbp.StatusSuccess
}

func (p *producer) settle() {}

// shut detaches every stream. No STREAM_END is sent.
func (p *producer) shut() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.dead = true
	for _, s := range p.streams {
		s.abandon()
		s.vb.removeStream(s)
	}
	clear(p.streams)
}

// stream is the live stream of a vbucket, or one whose end has not been sent yet, or nil.
func (p *producer) stream(vb uint16) *activeStream {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.streams[vb]
}

func (p *producer) streamCount() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.streams)
}
