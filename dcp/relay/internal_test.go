package relay

import (
	"bytes"
	"context"
	"io"
	"net"
	"os"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/shearpin/shearpin/dcp/mcbp"
)

// script is a socket whose reads give as much of in as fits, and whose writes are recorded.
type script struct {
	net.Conn
	in            []byte
	out           []byte
	reads, writes int
	room          []int // what each read could have taken
}

func (s *script) Read(b []byte) (int, error) {
	if len(s.in) == 0 {
		return 0, io.EOF
	}
	n := copy(b, s.in)
	s.in = s.in[n:]
	s.reads++
	s.room = append(s.room, len(b))
	return n, nil
}

func (s *script) Write(b []byte) (int, error) {
	s.out = append(s.out, b...)
	s.writes++
	return len(b), nil
}

func (s *script) Close() error                     { return nil }
func (s *script) SetReadDeadline(time.Time) error  { return nil }
func (s *script) SetWriteDeadline(time.Time) error { return nil }

func tiny(i int) mcbp.Frame {
	return (&mcbp.Packet{Opcode: mcbp.OpDCPNoop, Opaque: mcbp.OpaqueFromUint32(uint32(i))}).Frame()
}

func TestARunOfFramesGoesOutInOneWrite(t *testing.T) {
	producer, consumer := new(script), new(script)
	for i := range 100_000 {
		producer.in = append(producer.in, tiny(i)...)
	}
	all := producer.in
	r := New(Config{Consumer: consumer, Producer: producer})
	require.ErrorIs(t, newDirection(r, Producer).run(t.Context()), io.EOF)
	assert.True(t, bytes.Equal(all, consumer.out))
	assert.LessOrEqual(t, consumer.writes, producer.reads)
	assert.LessOrEqual(t, producer.reads, 8, "the buffer has grown under load")
}

// What follows a streamed frame may be another one, whose body should not pass through the buffer either.
func TestAfterAStreamedFrameOnlyAHeaderIsRead(t *testing.T) {
	producer, consumer := new(script), new(script)
	large := (&mcbp.Packet{Opcode: mcbp.OpDCPMutation, Value: make([]byte, streamFrom+bufferSizes[0])}).Frame()
	producer.in = append(append(append(producer.in, large...), large...), bytes.Repeat(tiny(1), 1000)...)
	all := producer.in
	r := New(Config{Consumer: consumer, Producer: producer})
	require.ErrorIs(t, newDirection(r, Producer).run(t.Context()), io.EOF)
	assert.True(t, bytes.Equal(all, consumer.out))
	var headers int
	for _, n := range producer.room {
		if n == mcbp.HeaderLen {
			headers++
		}
	}
	assert.Equal(t, 2, headers, "after each of the two large frames, and not after the small one")
}

func TestBufferGrowsUnderLoadAndIsGivenBackWhenQuiet(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		near, far := net.Pipe()
		out, sink := net.Pipe()
		go func() { _, _ = io.Copy(io.Discard, sink) }()
		r := New(Config{Consumer: out, Producer: near})
		d := newDirection(r, Producer)
		ended := make(chan error)
		go func() { ended <- d.run(t.Context()) }()

		synctest.Wait()
		assert.Len(t, d.buf.bytes, bufferSizes[0], "small at first")
		load := bytes.Repeat(tiny(1), 200_000)
		_, err := far.Write(load)
		require.NoError(t, err)
		synctest.Wait()
		assert.Len(t, d.buf.bytes, MaxBuffer)

		partial := (&mcbp.Packet{Opcode: mcbp.OpDCPMutation, Value: make([]byte, 5000)}).Frame()
		_, err = far.Write(partial[:4999])
		require.NoError(t, err)
		<-time.After(2 * quiet)
		synctest.Wait()
		assert.Len(t, d.buf.bytes, bufferSizes[1], "as small as the half of a frame allows")
		_, err = far.Write(partial[4999:])
		require.NoError(t, err)
		<-time.After(2 * quiet)
		synctest.Wait()
		assert.Len(t, d.buf.bytes, bufferSizes[0])

		require.NoError(t, far.Close())
		require.ErrorIs(t, <-ended, io.EOF)
		require.NoError(t, out.Close())
	})
}

// What one direction gives back another one gets. A garbage collection may come in between, so once in a hundred is enough.
func TestBuffersArePooled(t *testing.T) {
	for class, size := range bufferSizes {
		found := 0
		for range 100 {
			a := takeBuffer(class)
			require.Len(t, a, size)
			giveBuffer(class, a)
			b := takeBuffer(class)
			if &a[0] == &b[0] {
				found++
			}
			giveBuffer(class, b)
		}
		assert.Positive(t, found, "buffers of %d bytes", size)
	}
	a := newBuffer()
	a.filled(len(a.room(1)))
	for range 100 {
		given := &a.bytes[0]
		a.free()
		require.Nil(t, a.bytes)
		b := buffer{bytes: takeBuffer(1), class: 1}
		if &b.bytes[0] == given {
			b.free()
			return
		}
		a = b
	}
	assert.Fail(t, "what was freed is not found again")
}

func TestBufferShrinksWhenReadsStaySmall(t *testing.T) {
	b := newBuffer()
	defer b.free()
	for range bufferSizes {
		b.filled(len(b.room(1)))
		b.consume(b.end)
	}
	require.Len(t, b.bytes, MaxBuffer)
	for range lowReads * len(bufferSizes) {
		b.room(1)
		b.filled(100)
		b.consume(100)
	}
	assert.Len(t, b.bytes, bufferSizes[0])
}

func TestBufferKeepsWhatIsPending(t *testing.T) {
	b := newBuffer()
	defer b.free()
	want := bytes.Repeat([]byte("0123456789"), 300)
	b.filled(copy(b.room(1), want))
	b.consume(7)
	want = want[7:]
	require.GreaterOrEqual(t, len(b.room(50_000)), 50_000-len(want))
	assert.Equal(t, want, b.pending())
	b.shrink()
	assert.Equal(t, want, b.pending())
	assert.Len(t, b.bytes, bufferSizes[0])
	assert.Len(t, b.room(1), bufferSizes[0]-len(want), "compacted")
	assert.Equal(t, want, b.pending())
}

// loopback is a TCP connection within this process.
func loopback(t *testing.T) (near, far net.Conn) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	far, err = net.Dial("tcp", l.Addr().String())
	require.NoError(t, err)
	near, err = l.Accept()
	require.NoError(t, err)
	require.NoError(t, l.Close())
	return near, far
}

// running starts a relay between two TCP connections.
func running(t *testing.T, cfg Config, quiet time.Duration) (consumer, producer net.Conn, ended chan error) {
	t.Helper()
	cfg.Consumer, consumer = loopback(t)
	cfg.Producer, producer = loopback(t)
	r := New(cfg)
	r.quiet = quiet
	ctx, cancel := context.WithCancel(context.Background())
	ended = make(chan error, 1)
	go func() {
		ended <- r.Run(ctx)
		close(ended)
	}()
	t.Cleanup(func() {
		cancel()
		for range ended {
		}
		_ = consumer.Close()
		_ = producer.Close()
	})
	return consumer, producer, ended
}

type dropOdd struct{}

func (dropOdd) Decide(_ context.Context, _ Side, frames []mcbp.Frame, verdicts []Verdict) error {
	for i, f := range frames {
		if f.VBucket()%2 == 1 {
			verdicts[i] = Drop
		}
	}
	return nil
}

func TestNoAllocationsPerFrame(t *testing.T) {
	end := func(vb uint16) mcbp.Frame {
		return (&mcbp.Packet{Opcode: mcbp.OpDCPStreamEnd, VBucket: vb, Extras: make([]byte, 4)}).Frame()
	}
	value := func(n int) mcbp.Frame {
		return (&mcbp.Packet{Opcode: mcbp.OpDCPMutation, Extras: make([]byte, 31), Key: []byte("k"), Value: make([]byte, n)}).Frame()
	}
	for name, frames := range map[string][]mcbp.Frame{
		"passed":   {tiny(1), value(0), value(256)},
		"asked":    {tiny(1), end(2), end(1), end(4), value(256)},
		"streamed": {value(200_000), tiny(1)},
		"long":     {value(200_000)},
	} {
		t.Run(name, func(t *testing.T) {
			consumer, producer, ended := running(t, Config{Decider: dropOdd{}}, quiet)
			var in, out []byte
			repeat := max(10, 24_000/len(frames[0]))
			for range repeat {
				for _, f := range frames {
					in = append(in, f...)
					if f.Opcode() != mcbp.OpDCPStreamEnd || f.VBucket()%2 == 0 {
						out = append(out, f...)
					}
				}
			}
			got := make([]byte, len(out))
			blocks, written := make(chan []byte), make(chan error)
			go func() {
				for b := range blocks {
					_, err := producer.Write(b)
					written <- err
				}
			}()
			round := func() {
				blocks <- in
				if _, err := io.ReadFull(consumer, got); err != nil {
					panic(err)
				}
				if err := <-written; err != nil {
					panic(err)
				}
			}
			for range 20 {
				round()
			}
			// Less than one per block of frames: the odd timer or pool of the runtime does not count, one per frame does.
			allocs := testing.AllocsPerRun(10, round)
			// A buffer may change its size once in a while, which costs one; frames must cost none.
			assert.LessOrEqual(t, allocs, float64(1+repeat*len(frames)/1000))
			assert.True(t, bytes.Equal(out, got))
			close(blocks)
			require.NoError(t, producer.Close())
			require.ErrorIs(t, <-ended, io.EOF)
		})
	}
}

// A source that pauses for longer than it takes to give the buffer and the pipe back goes on later as if nothing had been.
func TestPausesWithinAStreamedFrame(t *testing.T) {
	consumer, producer, _ := running(t, Config{}, 4*time.Millisecond)
	load := bytes.Repeat(tiny(1), 100_000)
	frame := (&mcbp.Packet{Opcode: mcbp.OpDCPMutation, Value: bytes.Repeat([]byte("0123456789abcdef"), 64<<10)}).Frame()
	move := func(data []byte) {
		t.Helper()
		go func() { _, _ = producer.Write(data) }()
		got := make([]byte, len(data))
		_, err := io.ReadFull(consumer, got)
		require.NoError(t, err)
		require.True(t, bytes.Equal(data, got))
	}
	for range 3 {
		move(load)
		for rest := frame; len(rest) > 0; {
			n := min(len(rest), 300_000)
			move(rest[:n])
			rest = rest[n:]
			require.NoError(t, consumer.SetReadDeadline(time.Now().Add(12*time.Millisecond)))
			_, err := consumer.Read(make([]byte, 1))
			require.ErrorIs(t, err, os.ErrDeadlineExceeded, "nothing comes during the pause")
			require.NoError(t, consumer.SetReadDeadline(time.Time{}))
		}
	}
}

func TestStalledPeerInAStreamedFrameOverTCP(t *testing.T) {
	_, producer, ended := running(t, Config{Stall: 100 * time.Millisecond}, quiet)
	header := (&mcbp.Packet{Opcode: mcbp.OpDCPMutation}).Frame()
	header[8] = 0x03 // 48 MiB
	_, err := producer.Write(header)
	require.NoError(t, err)
	go func() { _, _ = producer.Write(make([]byte, 48<<20)) }()
	err = <-ended
	require.ErrorIs(t, err, ErrStalled)
	var f *Failure
	require.ErrorAs(t, err, &f)
	assert.Equal(t, Consumer, f.Side)
}
