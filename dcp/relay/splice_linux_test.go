//go:build !386 && !s390x

package relay

import (
	"bytes"
	"crypto/tls"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/shearpin/shearpin/dcp/mcbp"
)

func long(n int, fill byte) mcbp.Frame {
	return (&mcbp.Packet{Opcode: mcbp.OpDCPMutation, Value: bytes.Repeat([]byte{fill}, n)}).Frame()
}

// oneWay runs one direction between two TCP connections; change may spoil it first.
func oneWay(t *testing.T, quiet time.Duration, change func(*splicer)) (r *Relay, consumer, producer net.Conn, ended chan error) {
	t.Helper()
	var cfg Config
	cfg.Consumer, consumer = loopback(t)
	cfg.Producer, producer = loopback(t)
	r = New(cfg)
	r.quiet = quiet
	d := newDirection(r, Producer)
	require.NotNil(t, d.splicer)
	change(d.splicer)
	ended = make(chan error, 1)
	go func() { ended <- d.run(t.Context()) }()
	t.Cleanup(func() {
		for _, c := range []net.Conn{consumer, producer, cfg.Consumer, cfg.Producer} {
			_ = c.Close()
		}
	})
	return r, consumer, producer, ended
}

// Whatever the kernel refuses, the bytes arrive: without splice, without pipes that are large enough, without peeking ahead.
func TestKernelThatCannot(t *testing.T) {
	for name, change := range map[string]func(*splicer){
		"all":        func(*splicer) {},
		"splice":     func(s *splicer) { s.unusable = true },
		"have pipes": func(s *splicer) { s.least = 1 << 30 },
		"peek ahead": func(s *splicer) { s.near = true },
	} {
		t.Run(name, func(t *testing.T) {
			r, consumer, producer, ended := oneWay(t, quiet, change)
			var in []byte
			frames := 0
			for i := range 7 {
				for _, n := range []int{1 << 20, 64 << 10, 300_000, 0, 100_000, 100_000, 3 << 20}[:1+i] {
					in = append(in, long(n, byte(i))...)
					frames++
				}
			}
			go func() {
				_, _ = producer.Write(in)
				_ = producer.Close()
			}()
			got := make([]byte, len(in))
			_, err := io.ReadFull(consumer, got)
			require.NoError(t, err)
			require.True(t, bytes.Equal(in, got))
			require.ErrorIs(t, <-ended, io.EOF)
			assert.EqualValues(t, frames, r.Stats().FromProducer.Frames)
			assert.EqualValues(t, len(in), r.Stats().FromProducer.Bytes)
		})
	}
}

func TestAPipeThatIsTooSmallIsNotKept(t *testing.T) {
	near, far := loopback(t)
	out, sink := loopback(t)
	defer func() {
		for _, c := range []net.Conn{near, far, out, sink} {
			require.NoError(t, c.Close())
		}
	}()
	d := newDirection(New(Config{Consumer: out, Producer: near}), Producer)
	before := pipes(t)
	d.splicer.least = 1 << 30
	require.False(t, d.splicer.acquire())
	require.False(t, d.splicer.holds())
	require.Equal(t, before, pipes(t))
	d.splicer.least = 1
	require.True(t, d.splicer.acquire(), "there may be room for pipes later")
	require.Equal(t, before+2, pipes(t))
	d.splicer.release()
	require.Equal(t, before, pipes(t))
}

func TestTheKernelMovesBytes(t *testing.T) {
	near, far := loopback(t)
	out, sink := loopback(t)
	d := newDirection(New(Config{Consumer: out, Producer: near}), Producer)
	defer func() {
		d.splicer.release()
		for _, c := range []net.Conn{near, far, out, sink} {
			require.NoError(t, c.Close())
		}
	}()
	d.splicer.least = 1
	frame := long(10_000, 1)
	_, err := far.Write(frame)
	require.NoError(t, err)
	for left := len(frame); left > 0; {
		moved, err := d.splicer.move(left)
		require.NoError(t, err)
		require.Positive(t, moved)
		left -= moved
	}
	got := make([]byte, len(frame))
	_, err = io.ReadFull(sink, got)
	require.NoError(t, err)
	require.True(t, bytes.Equal(frame, got))
}

// The kernel can move bytes from a plain TCP socket to another one. Under TLS it does not know them.
func TestSpliceIsForPlainTCPOnly(t *testing.T) {
	a, b := loopback(t)
	c, d := net.Pipe()
	defer func() {
		for _, c := range []net.Conn{a, b, c, d} {
			require.NoError(t, c.Close())
		}
	}()
	secure := tls.Client(b, &tls.Config{ServerName: "n0", MinVersion: tls.VersionTLS12})
	for _, other := range []net.Conn{c, secure} {
		r := New(Config{Consumer: a, Producer: other})
		assert.Nil(t, newDirection(r, Producer).splicer)
		assert.Nil(t, newDirection(r, Consumer).splicer)
	}
	assert.NotNil(t, newDirection(New(Config{Consumer: a, Producer: b}), Producer).splicer)
}

func TestRunOfLongFramesEndsForAnInjectedOne(t *testing.T) {
	near, far := loopback(t)
	out, sink := loopback(t)
	defer func() {
		for _, c := range []net.Conn{near, far, out, sink} {
			require.NoError(t, c.Close())
		}
	}()
	require.NoError(t, near.(*net.TCPConn).SetReadBuffer(2<<20))
	r := New(Config{Consumer: out, Producer: near})
	d := newDirection(r, Producer)
	frame := long(70_000, 1)
	_, err := far.Write(bytes.Repeat(frame, 2))
	require.NoError(t, err)
	w := d.pass()
	require.Eventually(t, func() bool { return w.extend(0) == 2*len(frame) }, 20*time.Second, time.Millisecond)
	require.NoError(t, r.Inject(Consumer, tiny(1)))
	assert.Zero(t, w.extend(0))
	assert.Zero(t, w.extend(len(frame)))
}

// The source pauses in a frame whose header was never read. Nothing gets into it.
func TestInjectionIntoALongFrameThatFollowsAnother(t *testing.T) {
	cfg := Config{}
	var consumer, producer net.Conn
	cfg.Consumer, consumer = loopback(t)
	cfg.Producer, producer = loopback(t)
	r := New(cfg)
	ended := make(chan error, 1)
	go func() { ended <- r.Run(t.Context()) }()
	move := func(in, want []byte) {
		t.Helper()
		go func() { _, _ = producer.Write(in) }()
		got := make([]byte, len(want))
		_, err := io.ReadFull(consumer, got)
		require.NoError(t, err)
		require.True(t, bytes.Equal(want, got))
	}
	frame := long(300_000, 1)
	for range 20 {
		move(frame, frame)
		move(frame[:100_000], frame[:100_000])
		require.NoError(t, r.Inject(Consumer, tiny(2)))
		move(frame[100_000:], append(frame[100_000:len(frame):len(frame)], tiny(2)...))
	}
	require.NoError(t, producer.Close())
	require.ErrorIs(t, <-ended, io.EOF)
	require.NoError(t, consumer.Close())
}

// pipes is how many ends of pipes this process has open.
func pipes(t *testing.T) (n int) {
	t.Helper()
	files, err := filepath.Glob("/proc/self/fd/*")
	require.NoError(t, err)
	for _, f := range files {
		if to, err := os.Readlink(f); err == nil && strings.HasPrefix(to, "pipe:") {
			n++
		}
	}
	return n
}

func TestPipeIsThereUnderLoadAndGivenBackWhenQuiet(t *testing.T) {
	before := pipes(t)
	_, consumer, producer, ended := oneWay(t, 5*time.Millisecond, func(*splicer) {})
	frame := long(8<<20, 1)
	move := func(b []byte) {
		go func() { _, _ = producer.Write(b) }()
		_, err := io.ReadFull(consumer, make([]byte, len(b)))
		require.NoError(t, err)
	}
	for range 2 {
		require.Equal(t, before, pipes(t))
		move(frame[:len(frame)-1])
		require.Equal(t, before+2, pipes(t), "in the middle of a frame")
		move(frame[len(frame)-1:])
		require.Eventually(t, func() bool { return pipes(t) == before }, 20*time.Second, time.Millisecond)
	}
	require.NoError(t, producer.Close())
	require.ErrorIs(t, <-ended, io.EOF)
}

// A header of which only a part has arrived is read, not waited for: see splicer.await.
func TestHeaderAfterALongFrameSplitEverywhere(t *testing.T) {
	consumer, producer, _ := running(t, Config{}, quiet)
	first := long(100_000, 1)
	expect := func(want mcbp.Frame) {
		t.Helper()
		got := make([]byte, len(want))
		_, err := io.ReadFull(consumer, got)
		require.NoError(t, err)
		require.True(t, bytes.Equal(want, got))
	}
	for _, second := range []mcbp.Frame{tiny(1), long(200_000, 2)} {
		for at := 1; at <= mcbp.HeaderLen; at++ {
			go func() { _, _ = producer.Write(append(first[:len(first):len(first)], second[:at]...)) }()
			expect(first)
			go func() { _, _ = producer.Write(second[at:]) }()
			expect(second)
		}
	}
}
