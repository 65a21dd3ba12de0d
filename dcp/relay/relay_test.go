package relay_test

import (
	"bufio"
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/shearpin/shearpin/dcp/mcbp"
	"github.com/shearpin/shearpin/dcp/relay"
)

// assorted is a conversation with one frame of every kind that is passed on: all magics, unknown opcodes, every part.
func assorted() []mcbp.Frame {
	return []mcbp.Frame{
		noop(1),
		mutation(7, 2, 100),
		(&mcbp.Packet{Magic: mcbp.MagicResponse, Opcode: mcbp.OpDCPNoop, Opaque: mcbp.Opaque{9}}).Frame(),
		(&mcbp.Packet{Magic: mcbp.MagicFramingRequest, Opcode: mcbp.OpDCPMutation, FramingExtras: []byte{0x22, 0, 1}, Key: []byte("k")}).Frame(),
		(&mcbp.Packet{Magic: mcbp.MagicFramingResponse, Opcode: mcbp.OpDCPAddStream, FramingExtras: []byte{0x02, 0, 1}}).Frame(),
		(&mcbp.Packet{Magic: mcbp.MagicServerRequest, Opcode: mcbp.OpDCPStreamEnd, Value: []byte("{}")}).Frame(),
		(&mcbp.Packet{Magic: mcbp.MagicServerResponse, Opcode: mcbp.OpDCPStreamReq}).Frame(),
		(&mcbp.Packet{Opcode: 0xf3, Value: []byte("of the future")}).Frame(),
		(&mcbp.Packet{Magic: mcbp.MagicResponse, Opcode: 0xf4, Status: 0x7777}).Frame(),
		streamEnd(7, 2),
		mutation(8, 3, 0),
	}
}

func TestEverySplitPositionIsByteExact(t *testing.T) {
	for _, from := range []relay.Side{relay.Consumer, relay.Producer} {
		t.Run(from.String(), func(t *testing.T) {
			g := start(t, pipe, relay.Config{})
			data := join(assorted()...)
			for at := 1; at < len(data); at++ {
				go func() {
					_, _ = g.far[from].Write(data[:at]) // a pipe hands over each write by itself
					_, _ = g.far[from].Write(data[at:])
				}()
				g.expect(from.Other(), data)
			}
			for range 3 {
				go func() {
					for i := range data {
						_, _ = g.far[from].Write(data[i : i+1])
					}
				}()
				g.expect(from.Other(), data)
			}
		})
	}
}

func TestFramesOfAllSizesPassOverTCP(t *testing.T) {
	g := start(t, tcp, relay.Config{})
	var frames []mcbp.Frame
	for _, n := range []int{0, 1, 4000, 4096, 16 << 10, 64<<10 - 24, 64 << 10, 65 << 10, 100_000, 256 << 10, 1<<20 - 58, 1 << 20, 3 << 20, 0, 10} {
		frames = append(frames, mutation(1, uint32(n), n), noop(1))
	}
	data := join(frames...)
	for range 3 {
		for _, from := range []relay.Side{relay.Consumer, relay.Producer} {
			go func() { _, _ = g.far[from].Write(data) }()
			require.True(t, bytes.Equal(data, g.read(from.Other(), len(data))))
		}
	}
	stats := g.relay.Stats()
	for _, got := range []relay.Traffic{stats.FromConsumer, stats.FromProducer} {
		assert.EqualValues(t, 3*len(data), got.Bytes)
		assert.EqualValues(t, 3*len(frames), got.Frames)
		assert.WithinDuration(t, time.Now(), got.Last, patience)
	}
}

func TestHugeFrameStreamsThrough(t *testing.T) {
	for name, dial := range map[string]func(testing.TB) (net.Conn, net.Conn){"pipe": pipe, "tcp": tcp} {
		t.Run(name, func(t *testing.T) {
			g := start(t, dial, relay.Config{})
			huge := mutation(1, 1, 20<<20)
			half := len(huge) / 2
			g.writeAsync(relay.Producer, huge[:half])
			require.True(t, bytes.Equal(huge[:half], g.read(relay.Consumer, half)), "the first half arrives before the second is sent")
			g.writeAsync(relay.Producer, huge[half:])
			require.True(t, bytes.Equal(huge[half:], g.read(relay.Consumer, len(huge)-half)))
			g.writeAsync(relay.Producer, noop(1))
			g.expect(relay.Consumer, noop(1))
		})
	}
}

// Frames that need a decision, or are wrong, are found among long ones that the kernel moves without showing them.
func TestLongFramesDoNotHideTheOthers(t *testing.T) {
	table := relay.DefaultTable(relay.Producer)
	table.Set(mcbp.MagicRequest, mcbp.OpDCPDeletion, relay.ActionDrop)
	g := start(t, tcp, relay.Config{ProducerTable: table, Decider: deciderFunc(
		func(_ context.Context, _ relay.Side, frames []mcbp.Frame, verdicts []relay.Verdict) error {
			for i, f := range frames {
				if f.VBucket() == 1 {
					verdicts[i] = relay.Drop
				}
			}
			return nil
		})})
	g.relay.Watch([]uint16{1})
	dropped := (&mcbp.Packet{Opcode: mcbp.OpDCPDeletion, Value: make([]byte, 300_000)}).Frame()
	control := (&mcbp.Packet{Opcode: mcbp.OpDCPControl, Value: make([]byte, 100_000)}).Frame()
	framing := (&mcbp.Packet{Magic: mcbp.MagicFramingRequest, Opcode: mcbp.OpDCPMutation, FramingExtras: []byte{0x22, 0, 1}, Value: make([]byte, 100_000)}).Frame()
	three := join(mutation(1, 1, 200_000), mutation(1, 2, 200_000), mutation(1, 3, 200_000))
	bad := noop(9)
	bad[0] = 0x42
	var in, out []byte
	for range 10 {
		for _, f := range []mcbp.Frame{
			streamEnd(1, 0), streamEnd(2, 0), dropped, noop(1), control, framing,
			(&mcbp.Packet{Magic: mcbp.MagicResponse, Opcode: 0xf4, Status: 0x7777, Value: make([]byte, 70_000)}).Frame(),
		} {
			in = append(append(in, three...), f...)
			out = append(out, three...)
			if f.Opcode() != mcbp.OpDCPDeletion && (f.Opcode() != mcbp.OpDCPStreamEnd || f.VBucket() != 1) {
				out = append(out, f...)
			}
		}
	}
	g.writeAsync(relay.Producer, append(in, bad...))
	require.True(t, bytes.Equal(out, g.read(relay.Consumer, len(out))))
	var malformed *mcbp.MalformedError
	require.ErrorAs(t, g.failure(), &malformed)
	assert.EqualValues(t, 10, g.relay.Controls())
	assert.EqualValues(t, 10*(7*3+1), g.relay.Seen(1), "the mutations and the dropped end")
	assert.EqualValues(t, 10*7*4, g.relay.Stats().FromProducer.Frames)
}

func TestDroppedFramesLeaveNoTrace(t *testing.T) {
	table := relay.DefaultTable(relay.Producer)
	table.Set(mcbp.MagicRequest, mcbp.OpDCPMutation, relay.ActionDrop)
	g := start(t, pipe, relay.Config{ProducerTable: table})
	g.writeAsync(relay.Producer, join(mutation(1, 1, 0), noop(1), mutation(1, 2, 3<<20), noop(2), mutation(1, 3, 70_000), mutation(1, 4, 10), noop(3)))
	g.expect(relay.Consumer, join(noop(1), noop(2), noop(3)))
}

func TestMalformedFrameStopsTheRelayAfterWhatCameBefore(t *testing.T) {
	badMagic := noop(1)
	badMagic[0] = 0x42
	badParts := mutation(1, 1, 10)
	badParts[4] = 0xff
	badLength := noop(1)
	badLength[8] = 0xff
	longAsk := (&mcbp.Packet{Opcode: mcbp.OpDCPStreamEnd, Value: make([]byte, relay.MaxAskBody+1)}).Frame()
	longKey := mutation(1, 1, 10)
	longKey[2] = 1
	oneTooMany := noop(1)
	oneTooMany[4] = 1
	nearMagic := mutation(1, 1, 10)
	nearMagic[0] = 0x84
	for name, bad := range map[string]mcbp.Frame{
		"magic": badMagic, "magic like others": nearMagic, "parts": badParts, "key": longKey, "one too many": oneTooMany,
		"length": badLength, "long ask": longAsk,
	} {
		for _, there := range []int{mcbp.HeaderLen, len(bad)} { // all of it, or only its header
			t.Run(fmt.Sprintf("%s/%d", name, there), func(t *testing.T) {
				g := start(t, pipe, relay.Config{MaxBody: 1 << 20})
				g.writeAsync(relay.Producer, join(noop(7), bad[:there]))
				g.expect(relay.Consumer, noop(7))
				f := g.failure()
				assert.Equal(t, relay.Producer, f.Side)
				var malformed *mcbp.MalformedError
				require.ErrorAs(t, f, &malformed)
				assert.Equal(t, []byte(bad[:mcbp.HeaderLen]), malformed.Header[:])
			})
		}
	}
}

func TestBodyLimitIs64MiBUnlessSaidOtherwise(t *testing.T) {
	g := start(t, pipe, relay.Config{})
	fits := (&mcbp.Packet{Opcode: mcbp.OpDCPMutation}).Frame()
	binary.BigEndian.PutUint32(fits[8:], 64<<20)
	g.writeAsync(relay.Consumer, fits)
	g.expect(relay.Producer, fits)
	over := (&mcbp.Packet{Opcode: mcbp.OpDCPMutation}).Frame()
	binary.BigEndian.PutUint32(over[8:], 64<<20+1)
	g.writeAsync(relay.Producer, over)
	var malformed *mcbp.MalformedError
	require.ErrorAs(t, g.end(), &malformed)
	assert.Equal(t, []byte(over), malformed.Header[:])
}

func TestBodyLimitIsExact(t *testing.T) {
	g := start(t, pipe, relay.Config{MaxBody: 100})
	fits := (&mcbp.Packet{Opcode: mcbp.OpDCPMutation, Value: make([]byte, 100)}).Frame()
	over := (&mcbp.Packet{Opcode: mcbp.OpDCPMutation, Value: make([]byte, 101)}).Frame()
	g.writeAsync(relay.Consumer, fits)
	g.expect(relay.Producer, fits)
	g.writeAsync(relay.Consumer, over)
	var malformed *mcbp.MalformedError
	require.ErrorAs(t, g.end(), &malformed)
}

func TestClosedPeerEndsTheRelayAndBothSockets(t *testing.T) {
	for _, side := range []relay.Side{relay.Consumer, relay.Producer} {
		t.Run(side.String(), func(t *testing.T) {
			g := start(t, tcp, relay.Config{})
			g.write(side, noop(1))
			g.expect(side.Other(), noop(1))
			require.NoError(t, g.far[side].Close())
			f := g.failure()
			assert.Equal(t, side, f.Side)
			assert.ErrorIs(t, f, io.EOF)
			assert.NotContains(t, f.Error(), "middle")
			_, err := g.far[side.Other()].Read(make([]byte, 1))
			assert.Error(t, err, "the other socket is closed as well")
		})
	}
}

// What a peer has sent before it half-closes still arrives, also if it is long.
func TestHalfClosedPeerIsAClosedPeer(t *testing.T) {
	for _, side := range []relay.Side{relay.Consumer, relay.Producer} {
		for _, n := range []int{10, 5 << 20} {
			t.Run(fmt.Sprintf("%v/%d", side, n), func(t *testing.T) {
				g := start(t, tcp, relay.Config{})
				last := mutation(1, 1, n)
				go func() {
					_, _ = g.far[side].Write(last)
					_ = g.far[side].(*net.TCPConn).CloseWrite()
				}()
				require.True(t, bytes.Equal(last, g.read(side.Other(), len(last))))
				f := g.failure()
				assert.Equal(t, side, f.Side)
				assert.ErrorIs(t, f, io.EOF)
				assert.NotContains(t, f.Error(), "middle")
				_, err := g.far[side].Read(make([]byte, 1))
				assert.Error(t, err, "the other half is closed as well")
			})
		}
	}
}

func TestPeerThatClosesInTheMiddleOfAFrame(t *testing.T) {
	for name, frame := range map[string]mcbp.Frame{"header": noop(1), "small": mutation(1, 1, 100), "streamed": mutation(1, 1, 1<<20)} {
		t.Run(name, func(t *testing.T) {
			g := start(t, tcp, relay.Config{})
			g.write(relay.Producer, frame[:len(frame)-1])
			require.NoError(t, g.far[relay.Producer].Close())
			f := g.failure()
			assert.ErrorIs(t, f, io.EOF)
			assert.Contains(t, f.Error(), "in the middle of a frame")
		})
	}
}

func TestCancelledContextEndsTheRelay(t *testing.T) {
	reason := errors.New("the process died")
	for name, dial := range map[string]func(testing.TB) (net.Conn, net.Conn){"pipe": pipe, "tcp": tcp} {
		t.Run(name, func(t *testing.T) {
			g := start(t, dial, relay.Config{})
			g.cancel(reason)
			assert.ErrorIs(t, g.end(), reason)
			for _, far := range g.far {
				_, err := far.Read(make([]byte, 1))
				assert.ErrorIs(t, err, io.EOF)
			}
		})
	}
}

func TestCancelledBeforeRun(t *testing.T) {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	near, far := net.Pipe()
	r := relay.New(relay.Config{Consumer: near, Producer: far})
	require.ErrorIs(t, r.Run(ctx), context.Canceled)
	require.Error(t, r.Run(ctx), "a second Run")
}

func TestFirstFailureIsTheOneReported(t *testing.T) {
	mine := errors.New("out of step")
	g := start(t, tcp, relay.Config{Decider: deciderFunc(func(context.Context, relay.Side, []mcbp.Frame, []relay.Verdict) error { return mine })})
	g.write(relay.Producer, streamEnd(1, 2))
	f := g.failure()
	assert.Equal(t, relay.Producer, f.Side)
	assert.Same(t, mine, f.Err)
}

// The data direction is blocked for good: its consumer does not read. What the consumer sends, what we send to the producer,
// and what is to be decided of it, are not held up (history.md 12).
func TestBlockedDataDirectionHoldsUpNothingElse(t *testing.T) {
	g := start(t, tcp, relay.Config{})
	g.fillUp(relay.Producer, join(mutation(1, 1, 60_000), mutation(1, 2, 1<<20)))
	ack := (&mcbp.Packet{Opcode: mcbp.OpDCPBufferAck, Extras: make([]byte, 4)}).Frame()
	request := (&mcbp.Packet{Opcode: mcbp.OpDCPStreamReq, Extras: make([]byte, 48)}).Frame()
	for range 10 {
		g.write(relay.Consumer, join(ack, request, noop(1)))
		g.expect(relay.Producer, join(ack, request, noop(1)))
		require.NoError(t, g.relay.Inject(relay.Producer, addStream(1)))
		g.expect(relay.Producer, addStream(1))
	}
}

// The data direction runs at full rate; every control frame of the other one comes through, and so does the answer to it,
// which travels with the data.
func TestSaturatedDataDirectionDoesNotStarveControlFrames(t *testing.T) {
	for name, block := range map[string][]byte{"small": bytes.Repeat(mutation(1, 1, 1000), 100), "long": mutation(1, 1, 300_000)} {
		t.Run(name, func(t *testing.T) {
			g := start(t, tcp, relay.Config{})
			var writer sync.WaitGroup
			answers := make(chan mcbp.Frame, 1)
			writer.Go(func() {
				for {
					var b []byte
					select {
					case b = <-answers:
					default:
						b = block
					}
					if _, err := g.far[relay.Producer].Write(b); err != nil {
						return
					}
				}
			})
			r := bufio.NewReaderSize(g.far[relay.Consumer], 1<<20)
			for i := range uint32(10) {
				request := (&mcbp.Packet{Opcode: mcbp.OpDCPStreamReq, Opaque: mcbp.OpaqueFromUint32(i), Extras: make([]byte, 48)}).Frame()
				g.write(relay.Consumer, request)
				g.expect(relay.Producer, request)
				answers <- mcbp.Response(request, mcbp.StatusSuccess).Frame()
				require.Equal(t, mcbp.OpaqueFromUint32(i), g.until(r, mcbp.OpDCPStreamReq).Opaque())
			}
			g.cancel(nil)
			_ = g.end()
			writer.Wait()
		})
	}
}

// A peer that does not read must not delay the end of the relay (history.md 12).
func TestCrashClosesBothSocketsWhileAPeerDoesNotRead(t *testing.T) {
	g := start(t, tcp, relay.Config{})
	chunk := join(mutation(1, 1, 60_000), mutation(1, 2, 1<<20))
	g.fillUp(relay.Producer, chunk)
	g.cancel(nil)
	assert.ErrorIs(t, g.end(), context.Canceled)
	for _, far := range g.far {
		require.NoError(t, far.SetDeadline(time.Now().Add(patience)))
		_, err := io.Copy(io.Discard, far)
		assert.NotErrorIs(t, err, os.ErrDeadlineExceeded, "closed")
	}
}

func TestWatchedVBucketsAreCounted(t *testing.T) {
	g := start(t, pipe, relay.Config{})
	send := func(frames ...mcbp.Frame) {
		g.writeAsync(relay.Producer, join(frames...))
		g.read(relay.Consumer, len(join(frames...)))
	}
	send(mutation(1, 1, 1))
	assert.Zero(t, g.relay.Seen(1), "not watched")
	g.relay.Watch([]uint16{1, 256, 65535})
	response := (&mcbp.Packet{Magic: mcbp.MagicResponse, Opcode: mcbp.OpDCPMutation, Status: 1}).Frame()
	vbNoop := (&mcbp.Packet{Opcode: mcbp.OpDCPNoop, VBucket: 1}).Frame()
	send(mutation(1, 1, 1), mutation(1, 2, 200_000), mutation(2, 1, 1), mutation(65535, 1, 1), streamEnd(256, 0), response, vbNoop, noop(0))
	assert.EqualValues(t, 2, g.relay.Seen(1))
	assert.EqualValues(t, 1, g.relay.Seen(256))
	assert.EqualValues(t, 1, g.relay.Seen(65535))
	assert.Zero(t, g.relay.Seen(2))

	before := g.relay.Seen(1)
	g.relay.Watch([]uint16{1, 2})
	send(mutation(1, 3, 1), mutation(256, 1, 1))
	assert.Greater(t, g.relay.Seen(1), before)
	assert.Zero(t, g.relay.Seen(256))
	g.relay.Watch(nil)
	send(mutation(1, 4, 1))
	assert.Zero(t, g.relay.Seen(1))
}

func TestFramesFromTheConsumerAreNotCountedAsSeen(t *testing.T) {
	g := start(t, pipe, relay.Config{})
	g.relay.Watch([]uint16{1})
	g.writeAsync(relay.Consumer, mutation(1, 1, 1))
	g.read(relay.Producer, len(mutation(1, 1, 1)))
	assert.Zero(t, g.relay.Seen(1))
}

func TestControlsAreCounted(t *testing.T) {
	g := start(t, pipe, relay.Config{})
	control := (&mcbp.Packet{Opcode: mcbp.OpDCPControl, Key: []byte("enable_noop"), Value: []byte("true")}).Frame()
	answer := mcbp.Response(control, mcbp.StatusSuccess).Frame()
	g.writeAsync(relay.Consumer, join(control, noop(1), control))
	g.expect(relay.Producer, join(control, noop(1), control))
	g.writeAsync(relay.Producer, join(answer, answer))
	g.expect(relay.Consumer, join(answer, answer))
	assert.EqualValues(t, 4, g.relay.Controls())
}

func TestStatsOfAnIdleRelay(t *testing.T) {
	g := start(t, pipe, relay.Config{})
	assert.Equal(t, relay.Stats{}, g.relay.Stats())
}
