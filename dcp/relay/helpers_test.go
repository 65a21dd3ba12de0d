package relay_test

import (
	"bufio"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/binary"
	"io"
	"math/big"
	"net"
	"os"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/shearpin/shearpin/dcp/mcbp"
	"github.com/shearpin/shearpin/dcp/relay"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// patience bounds waits for things that must happen; it is never waited out when they do.
const patience = 20 * time.Second

// rig is a running relay and the far ends of its two sockets.
type rig struct {
	t      *testing.T
	relay  *relay.Relay
	far    [2]net.Conn // the KVs' ends, by side
	cancel context.CancelCauseFunc
	done   chan struct{}
	err    error
}

// start runs a relay between two pipes, or between two loopback TCP connections. It is stopped when the test ends.
func start(t *testing.T, dial func(testing.TB) (near, far net.Conn), cfg relay.Config) *rig {
	t.Helper()
	g := &rig{t: t, done: make(chan struct{})}
	cfg.Consumer, g.far[relay.Consumer] = dial(t)
	cfg.Producer, g.far[relay.Producer] = dial(t)
	g.relay = relay.New(cfg)
	ctx, cancel := context.WithCancelCause(context.Background())
	g.cancel = cancel
	go func() {
		defer close(g.done)
		g.err = g.relay.Run(ctx)
	}()
	t.Cleanup(func() {
		cancel(nil)
		<-g.done
		for _, far := range g.far {
			_ = far.Close()
		}
	})
	return g
}

// end waits for the relay's end and returns its error.
func (g *rig) end() error {
	g.t.Helper()
	select {
	case <-g.done:
		return g.err
	case <-time.After(patience):
		require.Fail(g.t, "the relay did not end")
		return nil
	}
}

func (g *rig) failure() *relay.Failure {
	g.t.Helper()
	var f *relay.Failure
	require.ErrorAs(g.t, g.end(), &f)
	return f
}

// write writes to a KV's end, in one piece.
func (g *rig) write(side relay.Side, b []byte) {
	g.t.Helper()
	_, err := g.far[side].Write(b)
	require.NoError(g.t, err)
}

// expect reads exactly len(want) bytes from a KV's end and compares.
func (g *rig) expect(side relay.Side, want []byte) {
	g.t.Helper()
	require.Equal(g.t, want, g.read(side, len(want)))
}

func (g *rig) read(side relay.Side, n int) []byte {
	g.t.Helper()
	got := make([]byte, n)
	require.NoError(g.t, g.far[side].SetReadDeadline(time.Now().Add(patience)))
	_, err := io.ReadFull(g.far[side], got)
	require.NoError(g.t, err)
	return got
}

// until reads frames from a KV's end up to the first one with an opcode. r buffers what it reads.
func (g *rig) until(r *bufio.Reader, op mcbp.Opcode) mcbp.Frame {
	g.t.Helper()
	for range 1_000_000 {
		header, err := r.Peek(mcbp.HeaderLen)
		require.NoError(g.t, err)
		n, err := mcbp.FrameLen(header, mcbp.DefaultMaxBody)
		require.NoError(g.t, err, "not the beginning of a frame")
		if mcbp.Frame(header).Opcode() == op {
			f := make(mcbp.Frame, n)
			_, err := io.ReadFull(r, f)
			require.NoError(g.t, err)
			return f
		}
		_, err = r.Discard(n)
		require.NoError(g.t, err)
	}
	require.Fail(g.t, "starved", "%v does not come", op)
	return nil
}

func pipe(testing.TB) (near, far net.Conn) { return net.Pipe() }

func tcp(t testing.TB) (near, far net.Conn) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer func() { require.NoError(t, l.Close()) }()
	far, err = net.Dial("tcp", l.Addr().String())
	require.NoError(t, err)
	near, err = l.Accept()
	require.NoError(t, err)
	return near, far
}

// deciderFunc makes a decider of a function.
type deciderFunc func(ctx context.Context, side relay.Side, frames []mcbp.Frame, verdicts []relay.Verdict) error

func (f deciderFunc) Decide(ctx context.Context, side relay.Side, frames []mcbp.Frame, verdicts []relay.Verdict) error {
	return f(ctx, side, frames, verdicts)
}

// asked records what a decider was asked, frames copied.
type asked struct {
	mu      sync.Mutex
	batches [][]mcbp.Frame
}

func (a *asked) Decide(_ context.Context, _ relay.Side, frames []mcbp.Frame, _ []relay.Verdict) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	var batch []mcbp.Frame
	for _, f := range frames {
		batch = append(batch, append(mcbp.Frame(nil), f...))
	}
	a.batches = append(a.batches, batch)
	return nil
}

func (a *asked) all() [][]mcbp.Frame {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.batches
}

// mutation is a frame that passes, with a value of n bytes that differs from place to place.
func mutation(vb uint16, opaque uint32, n int) mcbp.Frame {
	value := make([]byte, n)
	for i := range value {
		value[i] = byte(i) ^ byte(i>>8) ^ byte(i>>16) ^ byte(opaque)
	}
	return (&mcbp.Packet{
		Opcode: mcbp.OpDCPMutation, VBucket: vb, Opaque: mcbp.OpaqueFromUint32(opaque),
		Extras: make([]byte, 31), Key: []byte("key"), Value: value,
	}).Frame()
}

// addStream is a frame as a manager injects it.
func addStream(vb uint16) mcbp.Frame {
	return (&mcbp.Packet{
		Opcode: mcbp.OpDCPAddStream, VBucket: vb, Opaque: mcbp.Opaque{0xff, byte(vb >> 8), byte(vb), 0xff}, Extras: make([]byte, 4),
	}).Frame()
}

// streamEnd is a frame from the producer that is asked about.
func streamEnd(vb uint16, reason uint32) mcbp.Frame {
	return (&mcbp.Packet{
		Opcode: mcbp.OpDCPStreamEnd, VBucket: vb, Extras: binary.BigEndian.AppendUint32(nil, reason),
	}).Frame()
}

func noop(opaque uint32) mcbp.Frame {
	return (&mcbp.Packet{Opcode: mcbp.OpDCPNoop, Opaque: mcbp.OpaqueFromUint32(opaque)}).Frame()
}

func join(frames ...mcbp.Frame) []byte {
	var b []byte
	for _, f := range frames {
		b = append(b, f...)
	}
	return b
}

// writeAsync writes to a KV's end from another goroutine, because a pipe's write lasts until it is read.
func (g *rig) writeAsync(side relay.Side, b []byte) {
	go func() { _, _ = g.far[side].Write(b) }()
}

// fillUp writes to a KV's end until the other end, which nobody reads, takes no more.
func (g *rig) fillUp(side relay.Side, chunk []byte) {
	g.t.Helper()
	for {
		require.NoError(g.t, g.far[side].SetWriteDeadline(time.Now().Add(200*time.Millisecond)))
		if _, err := g.far[side].Write(chunk); err != nil {
			require.ErrorIs(g.t, err, os.ErrDeadlineExceeded)
			return
		}
	}
}

// certificate makes a self-signed one.
func certificate(t testing.TB) tls.Certificate {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotBefore: time.Unix(0, 0), NotAfter: time.Now().Add(24 * time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	require.NoError(t, err)
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
}
