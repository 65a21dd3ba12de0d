package dcp

import (
	"encoding/binary"
	"maps"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/shearpin/shearpin/dcp/mcbp"
	"github.com/shearpin/shearpin/dcp/relay"
)

// world is a machine between two engines that behave as real ones were seen to: they refuse, roll back, end streams when
// the vbucket changes, and send the end of a closed stream late. Frames keep their order per socket and no other.
type world struct {
	t   *rapid.T
	m   *consumerMachine
	now time.Time

	// toConsumer and toProducer are on their way to the engines, fromConsumer and fromProducer on their way to us.
	toConsumer, toProducer, fromConsumer, fromProducer []mcbp.Frame

	// The consumer's engine.
	counter  uint32
	passive  map[uint16]mcbp.Opaque
	adds     map[mcbp.Opaque]mcbp.Frame
	requests map[mcbp.Opaque]mcbp.Frame
	// The producer's engine.
	active   map[uint16]mcbp.Opaque
	takeover map[mcbp.Opaque]mcbp.VBucketState
	lateEnds []mcbp.Frame

	// What must come out.
	calls    callID
	answers  map[callID]map[uint16]error
	addSeen  map[mcbp.Opaque]bool
	acked    map[mcbp.Opaque]bool
	mayCrash bool
	crashed  error
}

func newWorld(t *rapid.T) *world {
	w := &world{
		t: t, m: newConsumerMachine(Limits{}), now: time.Unix(0, 0),
		passive: map[uint16]mcbp.Opaque{}, adds: map[mcbp.Opaque]mcbp.Frame{}, requests: map[mcbp.Opaque]mcbp.Frame{},
		active: map[uint16]mcbp.Opaque{}, takeover: map[mcbp.Opaque]mcbp.VBucketState{},
		answers: map[callID]map[uint16]error{}, addSeen: map[mcbp.Opaque]bool{}, acked: map[mcbp.Opaque]bool{},
	}
	w.m.opened(w.now)
	w.perform()
	return w
}

func (w *world) perform() {
	for _, e := range w.m.take() {
		switch e := e.(type) {
		case injectFrame:
			if e.to == relay.Consumer {
				w.toConsumer = append(w.toConsumer, e.frame)
			} else {
				w.toProducer = append(w.toProducer, e.frame)
			}
		case answerCall:
			require.NotContains(w.t, w.answers, e.call, "answered twice")
			w.answers[e.call] = e.errs
		case crashConn:
			require.True(w.t, w.mayCrash, "false crash: %v", e.reason)
			w.crashed = e.reason
		}
	}
}

func (w *world) request(vb uint16, kinds ...opKind) {
	w.calls++
	changes := make([]streamChange, len(kinds))
	for i, k := range kinds {
		changes[i] = streamChange{VB: vb, Kind: k}
	}
	w.m.request(w.calls, changes, w.now)
	w.perform()
}

func pop(queue *[]mcbp.Frame) mcbp.Frame {
	f := (*queue)[0]
	*queue = (*queue)[1:]
	return f
}

// readConsumer is the relay reading one frame of the consumer's socket, readProducer one of the producer's.
func (w *world) readConsumer() {
	f := pop(&w.fromConsumer)
	if f.Opcode() == mcbp.OpDCPAddStream {
		w.addSeen[w.streamOf(f)] = true
	}
	if f.Opcode() == mcbp.OpDCPSetVBucketState && w.takeover[f.Opaque()] == mcbp.VBucketActive {
		w.acked[f.Opaque()] = true
	}
	if w.m.frame(relay.Consumer, f, w.now) == relay.Pass {
		w.toProducer = append(w.toProducer, f)
	}
	w.perform()
}

func (w *world) readProducer() {
	f := pop(&w.fromProducer)
	if f.Opcode() == mcbp.OpDCPStreamEnd && !w.addSeen[f.Opaque()] && !w.acked[f.Opaque()] {
		w.mayCrash = true
	}
	if w.m.frame(relay.Producer, f, w.now) == relay.Pass {
		w.toConsumer = append(w.toConsumer, f)
	}
	w.perform()
	if f.Opcode() == mcbp.OpDCPStreamEnd {
		require.Equal(w.t, w.mayCrash, w.crashed != nil, "an end before the answer crashes, and nothing else does")
	}
}

func (w *world) streamOf(answer mcbp.Frame) (o mcbp.Opaque) {
	if len(answer.Extras()) == 4 {
		binary.LittleEndian.PutUint32(o[:], binary.BigEndian.Uint32(answer.Extras()))
	}
	return o
}

// consumerActs is the consumer's engine handling one frame.
func (w *world) consumerActs() {
	f := pop(&w.toConsumer)
	answer := func(status mcbp.Status) {
		w.fromConsumer = append(w.fromConsumer, answerTo(f, status).Frame())
	}
	switch f.Opcode() {
	case mcbp.OpDCPAddStream:
		if _, open := w.passive[f.VBucket()]; open {
			answer(mcbp.StatusKeyExists)
			return
		}
		if rapid.IntRange(0, 9).Draw(w.t, "refuse") == 0 {
			answer(mcbp.StatusNotMyVBucket)
			return
		}
		w.counter++
		opaque := streamOpaque(w.counter)
		req := (&mcbp.Packet{Opcode: mcbp.OpDCPStreamReq, VBucket: f.VBucket(), Opaque: opaque, Extras: append(f.Extras()[:4:4], make([]byte, 44)...)}).Frame()
		w.adds[opaque], w.requests[opaque] = f, req
		w.passive[f.VBucket()] = opaque
		w.fromConsumer = append(w.fromConsumer, req)
	case mcbp.OpDCPStreamReq:
		add, waiting := w.adds[f.Opaque()]
		if !waiting {
			return
		}
		if f.Status() == mcbp.StatusRollback {
			w.fromConsumer = append(w.fromConsumer, w.requests[f.Opaque()])
			return
		}
		delete(w.adds, f.Opaque())
		if f.Status() != mcbp.StatusSuccess {
			delete(w.passive, add.VBucket())
		}
		p := answerTo(add, f.Status())
		p.Extras = binary.BigEndian.AppendUint32(nil, binary.LittleEndian.Uint32(f[12:16]))
		w.fromConsumer = append(w.fromConsumer, p.Frame())
	case mcbp.OpDCPStreamEnd:
		if w.passive[f.VBucket()] == f.Opaque() {
			delete(w.passive, f.VBucket())
		}
	case mcbp.OpDCPCloseStream:
		if _, open := w.passive[f.VBucket()]; !open {
			answer(mcbp.StatusStreamNotFound)
			return
		}
		delete(w.passive, f.VBucket())
		answer(mcbp.StatusSuccess)
	case mcbp.OpDCPSetVBucketState:
		answer(mcbp.StatusSuccess)
	}
}

// producerActs is the producer's engine handling one frame.
func (w *world) producerActs() {
	f := pop(&w.toProducer)
	answer := func(status mcbp.Status) {
		w.fromProducer = append(w.fromProducer, answerTo(f, status).Frame())
	}
	state := func(opaque mcbp.Opaque, vb uint16, s mcbp.VBucketState) {
		w.takeover[opaque] = s
		w.fromProducer = append(w.fromProducer, (&mcbp.Packet{Opcode: mcbp.OpDCPSetVBucketState, VBucket: vb, Opaque: opaque, Extras: []byte{byte(s)}}).Frame())
	}
	switch f.Opcode() {
	case mcbp.OpDCPStreamReq:
		switch rapid.IntRange(0, 9).Draw(w.t, "stream request") {
		case 0:
			answer(mcbp.StatusNotMyVBucket)
		case 1:
			answer(mcbp.StatusRollback)
		default:
			answer(mcbp.StatusSuccess)
			w.active[f.VBucket()] = f.Opaque()
			if f.Extras()[3] == byte(mcbp.StreamFlagTakeover) {
				state(f.Opaque(), f.VBucket(), mcbp.VBucketPending)
			}
		}
	case mcbp.OpDCPSetVBucketState:
		for vb, opaque := range w.active {
			if opaque != f.Opaque() {
				continue
			}
			if w.takeover[opaque] == mcbp.VBucketPending {
				state(opaque, vb, mcbp.VBucketActive)
				continue
			}
			w.end(vb, mcbp.EndOK, &w.fromProducer)
		}
	case mcbp.OpDCPCloseStream:
		if _, open := w.active[f.VBucket()]; !open {
			answer(mcbp.StatusKeyNotFound)
			return
		}
		answer(mcbp.StatusSuccess)
		w.end(f.VBucket(), mcbp.EndClosed, &w.lateEnds)
	}
}

func (w *world) end(vb uint16, reason mcbp.EndReason, to *[]mcbp.Frame) {
	extras := binary.BigEndian.AppendUint32(nil, uint32(reason))
	*to = append(*to, (&mcbp.Packet{Opcode: mcbp.OpDCPStreamEnd, VBucket: vb, Opaque: w.active[vb], Extras: extras}).Frame())
	delete(w.active, vb)
}

// moves lists what can happen now without anybody asking for more.
func (w *world) moves() []func() {
	var all []func()
	for _, q := range []struct {
		queue []mcbp.Frame
		do    func()
	}{
		{w.toConsumer, w.consumerActs},
		{w.toProducer, w.producerActs},
		{w.fromConsumer, w.readConsumer},
		{w.fromProducer, w.readProducer},
		{w.lateEnds, func() { w.fromProducer = append(w.fromProducer, pop(&w.lateEnds)) }},
	} {
		if len(q.queue) > 0 {
			all = append(all, q.do)
		}
	}
	return all
}

func (w *world) step() {
	moves := w.moves()
	if len(moves) > 0 {
		moves[rapid.IntRange(0, len(moves)-1).Draw(w.t, "move")]()
	}
}

func TestAnyInterleavingOfRealEngines(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w := newWorld(t)
		for range rapid.IntRange(1, 60).Draw(t, "events") {
			vb := uint16(rapid.IntRange(0, 2).Draw(t, "vb"))
			switch rapid.IntRange(0, 19).Draw(t, "event") {
			case 0, 1, 2:
				w.request(vb, opAdd)
			case 3, 4:
				w.request(vb, opClose)
			case 5:
				w.request(vb, opClose, opTakeover)
			case 6:
				if _, open := w.active[vb]; open {
					w.end(vb, mcbp.EndStateChanged, &w.fromProducer)
				}
			default:
				w.step()
			}
			if w.crashed != nil {
				return
			}
		}
		for len(w.moves()) > 0 {
			if w.step(); w.crashed != nil {
				return
			}
		}
		require.Len(t, w.answers, int(w.calls), "every caller has an answer")
		require.Empty(t, w.m.pending)
		if len(w.takeover) == 0 {
			require.Equal(t, slices.Sorted(maps.Keys(w.active)), slices.AppendSeq([]uint16(nil), slices.Values(w.m.streams())), "the stream set is the producer's own")
		}
	})
}
