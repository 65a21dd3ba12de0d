package dcp

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/shearpin/shearpin/dcp/kv"
	"github.com/shearpin/shearpin/dcp/mcbp"
	"github.com/shearpin/shearpin/dcp/relay"
)

var flightStart = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)

func endFrame(vb uint16, opaque mcbp.Opaque, reason mcbp.EndReason) mcbp.Frame {
	return mcbp.StreamEnd{VBucket: vb, Opaque: opaque, Reason: reason}.Append(nil)
}

func TestFlightLines(t *testing.T) {
	r, at := newFlightRecorder(16, flightStart), flightStart
	add, stream := encodeOpaque(0x11), streamOpaque(1)
	step := func() time.Time {
		at = at.Add(1500 * time.Microsecond)
		return at
	}
	r.connection(step(), phaseConnecting, phaseOpen)
	r.vbucket(step(), 17, streamNone, streamTakeover)
	request := addStreamFrame(17, add, mcbp.StreamFlagTakeover)
	r.injected(step(), relay.Consumer, request)
	streamReq := &mcbp.Packet{
		Opcode: mcbp.OpDCPStreamReq, VBucket: 17, Opaque: stream, Extras: binary.BigEndian.AppendUint64(nil, 1<<32), Value: []byte("secret"),
	}
	r.read(step(), relay.Consumer, streamReq.Frame())
	r.read(step(), relay.Producer, answerTo(streamReq.Frame(), mcbp.StatusRollback).Frame())
	r.read(step(), relay.Producer, mcbp.SetVBucketState{VBucket: 17, Opaque: stream, State: mcbp.VBucketPending}.Append(nil))
	r.judged(r.read(step(), relay.Consumer, answerTo(request, mcbp.StatusNotMyVBucket).Frame()), flightDropped)
	r.read(step(), relay.Producer, (&mcbp.Packet{Magic: mcbp.MagicResponse, Opcode: mcbp.OpDCPCloseStream, Opaque: mcbp.Opaque{9}}).Frame())
	r.injected(step(), relay.Producer, closeStreamFrame(0, add))
	r.judged(r.read(step(), relay.Producer, endFrame(17, stream, mcbp.EndStateChanged)), flightCrashed)
	r.connection(step(), phaseOpen, phaseCrashed)

	var lines []string
	for _, e := range r.events() {
		lines = append(lines, e.String())
	}
	assert.Equal(t, []string{
		"03:04:05.001500 connection: connecting → open",
		"03:04:05.003000 vb=17: none → takeover",
		"03:04:05.004500 to consumer: DCP_ADD_STREAM request vb=17 opaque=ff0011ff flags=0x1",
		"03:04:05.006000 from consumer: DCP_STREAM_REQ request vb=17 opaque=01000000 flags=0x1: pass",
		"03:04:05.007500 from producer: DCP_STREAM_REQ response vb=17 opaque=01000000 status=rollback (0x23): pass",
		"03:04:05.009000 from producer: DCP_SET_VBUCKET_STATE request vb=17 opaque=01000000 state=pending: pass",
		"03:04:05.010500 from consumer: DCP_ADD_STREAM response vb=17 opaque=ff0011ff status=not my vbucket (0x07): drop",
		"03:04:05.012000 from producer: DCP_CLOSE_STREAM response vb=- opaque=09000000 status=success (0x00): pass",
		"03:04:05.013500 to producer: DCP_CLOSE_STREAM request vb=0 opaque=ff0011ff",
		"03:04:05.015000 from producer: DCP_STREAM_END request vb=17 opaque=01000000 reason=state changed (2): crash",
		"03:04:05.016500 connection: open → crashed",
	}, lines)
}

// What is recorded of a frame is its header and the one number that its opcode gives a meaning to: everything else may be
// anything, and the record is the same.
func TestFlightKeepsNothingOfABody(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		draw := func(name string, most int) []byte { return rapid.SliceOfN(rapid.Byte(), 0, most).Draw(t, name) }
		p := mcbp.Packet{
			Magic:   rapid.SampledFrom([]mcbp.Magic{mcbp.MagicRequest, mcbp.MagicResponse}).Draw(t, "magic"),
			Opcode:  mcbp.Opcode(rapid.Byte().Draw(t, "opcode")),
			VBucket: rapid.Uint16().Draw(t, "vb"), Opaque: mcbp.Opaque{1, 2, 3, 4},
			Extras: draw("extras", 60), Key: draw("key", 20), Value: draw("value", 50), CAS: rapid.Uint64().Draw(t, "cas"),
		}
		if rapid.Bool().Draw(t, "control") {
			p.Opcode = rapid.SampledFrom([]mcbp.Opcode{
				mcbp.OpDCPAddStream, mcbp.OpDCPCloseStream, mcbp.OpDCPStreamReq, mcbp.OpDCPStreamEnd, mcbp.OpDCPSetVBucketState,
			}).Draw(t, "opcode")
		}
		record := func(p mcbp.Packet) []FlightEvent {
			r := newFlightRecorder(1, flightStart)
			r.read(flightStart, relay.Producer, p.Frame())
			return r.events()
		}
		bare, kept := p, 0
		switch {
		case p.Magic == mcbp.MagicResponse:
		case p.Opcode == mcbp.OpDCPSetVBucketState && len(p.Extras) > 0:
			kept = 1
		case p.Opcode == mcbp.OpDCPStreamEnd || p.Opcode == mcbp.OpDCPAddStream || p.Opcode == mcbp.OpDCPStreamReq:
			kept = min(4, len(p.Extras)) / 4 * 4
		}
		bare.Extras = append(bytes.Clone(p.Extras[:kept]), make([]byte, len(p.Extras)-kept)...)
		bare.Key, bare.Value, bare.CAS = nil, nil, 0
		require.Equal(t, record(bare), record(p))
	})
}

// The ring against a slice that never forgets.
func TestFlightKeepsTheLastEventsInOrder(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		size := rapid.IntRange(1, 9).Draw(t, "size")
		r, now := newFlightRecorder(size, flightStart), flightStart
		var all []FlightEvent
		judgeable := map[uint64]int{}
		for range rapid.IntRange(0, 40).Draw(t, "events") {
			now = now.Add(time.Second)
			vb := uint16(len(all))
			switch rapid.IntRange(0, 3).Draw(t, "event") {
			case 0:
				r.vbucket(now, vb, streamNone, streamAdding)
				all = append(all, FlightEvent{At: now, Kind: FlightVBucket, VB: int(vb), From: "none", To: "adding"})
			case 1:
				r.connection(now, phaseConnecting, phaseOpen)
				all = append(all, FlightEvent{At: now, Kind: FlightConnection, VB: -1, From: "connecting", To: "open"})
			case 2:
				judgeable[r.read(now, relay.Producer, endFrame(vb, streamOpaque(1), 3))] = len(all)
				all = append(all, FlightEvent{
					At: now, Kind: FlightRead, Role: RoleProducer, Opcode: mcbp.OpDCPStreamEnd, VB: int(vb), Opaque: streamOpaque(1), Code: 3, Verdict: "pass",
				})
			default:
				for event, i := range judgeable {
					r.judged(event, flightDropped)
					all[i].Verdict = "drop"
					delete(judgeable, event)
					break
				}
			}
		}
		want := all[max(0, len(all)-size):]
		require.Equal(t, append([]FlightEvent{}, want...), r.events())
	})
}

func TestFlightCostsNoAllocation(t *testing.T) {
	r, f := newFlightRecorder(defaultFlight, flightStart), endFrame(1, streamOpaque(1), 2)
	now := flightStart
	assert.Zero(t, testing.AllocsPerRun(1000, func() {
		now = now.Add(time.Second)
		r.judged(r.read(now, relay.Producer, f), flightDropped)
		r.injected(now, relay.Consumer, f)
		r.vbucket(now, 1, streamNone, streamAdding)
		r.connection(now, phaseConnecting, phaseOpen)
	}))
}

func TestFlightCanBeReadWhileItIsWritten(t *testing.T) {
	r := newFlightRecorder(4, flightStart)
	var wg sync.WaitGroup
	wg.Go(func() {
		for range 1000 {
			r.judged(r.read(flightStart, relay.Producer, endFrame(1, streamOpaque(1), 2)), flightCrashed)
		}
	})
	for range 100 {
		for _, e := range r.events() {
			assert.Equal(t, mcbp.OpDCPStreamEnd, e.Opcode)
		}
	}
	wg.Wait()
	assert.Len(t, r.events(), 4)
}

// The changes that the machine tells are its states, whatever happens.
func TestEveryChangeOfStateIsTold(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w := newWorld(t)
		told := map[uint16]streamState{}
		w.m.changed = func(vb uint16, from, to streamState) {
			require.Equal(t, told[vb], from)
			require.NotEqual(t, from, to)
			told[vb] = to
		}
		for range rapid.IntRange(1, 60).Draw(t, "events") {
			vb := uint16(rapid.IntRange(0, 2).Draw(t, "vb"))
			switch rapid.IntRange(0, 9).Draw(t, "event") {
			case 0, 1:
				w.request(vb, opAdd)
			case 2:
				w.request(vb, opClose)
			case 3:
				w.request(vb, opClose, opTakeover)
			default:
				w.step()
			}
			for vb, v := range w.m.vbs {
				require.Equal(t, v.state, told[vb], "vb %d", vb)
			}
		}
		w.m.shut(w.calls+1, w.now)
		for vb, v := range w.m.vbs {
			require.Equal(t, v.state, told[vb], "vb %d", vb)
		}
	})
}

// The flight of a crash is for who asks for it: not in the error's text, nor in a log line.
func TestFlightIsNotInTheErrorsText(t *testing.T) {
	crash := &CrashError{Role: RoleConsumer, Err: ErrSocketClosed, Flight: []FlightEvent{{Verdict: "marker", From: "marker"}}}
	var out bytes.Buffer
	for _, h := range []slog.Handler{slog.NewTextHandler(&out, nil), slog.NewJSONHandler(&out, nil)} {
		slog.New(h).Info("connection_crashed", "err", crash, "again", (&Link{}).wrap(crash))
	}
	assert.Contains(t, out.String(), ErrSocketClosed.Error())
	text := fmt.Sprintf("%v %+v %s %q", crash, crash, crash, crash) + errors.Join(crash).Error() + out.String()
	assert.NotContains(t, text, "marker")
	plain, err := json.Marshal(crash.Flight)
	require.NoError(t, err)
	assert.Contains(t, string(plain), "marker", "it is plain data all the same")
}

func TestLimitsOfTheFlight(t *testing.T) {
	options := Options{Bucket: "orders", Consumer: "n1", Endpoints: func(string) (kv.Endpoint, bool) { return kv.Endpoint{}, false }}
	for given, want := range map[int]int{-1: 256, 0: 256, 1: 1, 1 << 16: 1 << 16} {
		options.Limits.Flight = given
		filled, err := options.validate()
		require.NoError(t, err)
		assert.Equal(t, want, filled.Limits.Flight)
	}
	options.Limits.Flight = 1<<16 + 1
	_, err := options.validate()
	assert.ErrorContains(t, err, "Limits.Flight is 65537")
}

// BenchmarkFlight is what a frame that is decided costs more because it is recorded.
func BenchmarkFlight(b *testing.B) {
	r, f := newFlightRecorder(defaultFlight, flightStart), endFrame(1, streamOpaque(1), 2)
	for name, record := range map[string]func(time.Time){
		"read":     func(now time.Time) { r.judged(r.read(now, relay.Producer, f), flightDropped) },
		"injected": func(now time.Time) { r.injected(now, relay.Consumer, f) },
		"vbucket":  func(now time.Time) { r.vbucket(now, 1, streamNone, streamAdding) },
	} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			now := flightStart
			for b.Loop() {
				record(now)
			}
		})
	}
}

// The connection's own state is recorded before what follows from it.
func TestFlightTellsWhyStreamsClose(t *testing.T) {
	p := newConsumerConn(&linkEnv{log: slog.New(slog.DiscardHandler)})
	p.flight, p.machine.changed = newFlightRecorder(16, flightStart), p.changed
	p.machine.opened(flightStart)
	p.enter(p.machine.phase)
	p.machine.setState(p.machine.vbucket(3), streamLive)
	p.machine.shut(1, flightStart)
	var states []string
	for _, e := range p.flight.events() {
		states = append(states, e.From+" "+e.To)
	}
	assert.Equal(t, []string{"connecting open", "none live", "open shutting", "live closing"}, states)
}
