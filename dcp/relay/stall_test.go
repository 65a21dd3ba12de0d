package relay_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"io"
	"net"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/shearpin/shearpin/dcp/relay"
)

const stall = 8 * time.Second

// In a synctest bubble time stands still while anybody can run, and a goroutine that is left over fails the test.

func TestPeerThatAcceptsNothingIsStalled(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := start(t, pipe, relay.Config{Stall: stall})
		g.writeAsync(relay.Producer, noop(1))
		g.expect(relay.Consumer, noop(1))
		<-time.After(stall / 30) // so that the deadline of the first write is still good for the second
		since := time.Now()
		g.write(relay.Producer, noop(2)) // the relay has read it, and cannot write it
		f := g.failure()
		assert.Equal(t, relay.Consumer, f.Side)
		assert.ErrorIs(t, f, relay.ErrStalled)
		assert.Equal(t, stall, time.Since(since))
	})
}

func TestStallIsSixMinutesUnlessSaidOtherwise(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := start(t, pipe, relay.Config{})
		since := time.Now()
		g.write(relay.Producer, noop(1))
		<-g.done
		require.ErrorIs(t, g.err, relay.ErrStalled)
		assert.Equal(t, 6*time.Minute, time.Since(since))
	})
}

func TestPeerThatAcceptsAByteNowAndThenIsNotStalled(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := start(t, pipe, relay.Config{Stall: stall})
		f := mutation(1, 1, 100)
		g.write(relay.Producer, f)
		for i := range f {
			<-time.After(stall * 9 / 10)
			g.expect(relay.Consumer, f[i:i+1])
		}
		g.write(relay.Producer, noop(1))
		since := time.Now()
		require.ErrorIs(t, g.end(), relay.ErrStalled)
		assert.Equal(t, stall, time.Since(since))
	})
}

func TestStallIsNoticedAtMostAnEighthLate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := start(t, pipe, relay.Config{Stall: stall})
		f := mutation(1, 1, 100)
		g.write(relay.Producer, f)
		<-time.After(stall / 3)
		g.read(relay.Consumer, 10)
		since := time.Now()
		require.ErrorIs(t, g.end(), relay.ErrStalled)
		assert.GreaterOrEqual(t, time.Since(since), stall)
		assert.LessOrEqual(t, time.Since(since), stall*9/8)
	})
}

func TestInjectedFrameThatIsNotAcceptedIsAStall(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := start(t, pipe, relay.Config{Stall: stall})
		since := time.Now()
		require.NoError(t, g.relay.Inject(relay.Producer, addStream(1)))
		f := g.failure()
		assert.Equal(t, relay.Producer, f.Side)
		assert.ErrorIs(t, f, relay.ErrStalled)
		assert.Equal(t, stall, time.Since(since))
	})
}

func TestIdleRelayIsNotStalled(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := start(t, pipe, relay.Config{Stall: stall})
		g.writeAsync(relay.Producer, noop(1))
		g.expect(relay.Consumer, noop(1))
		<-time.After(100 * stall)
		g.writeAsync(relay.Producer, noop(2))
		g.expect(relay.Consumer, noop(2))
	})
}

func TestSourceThatPausesInAStreamedFrameIsNoStall(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := start(t, pipe, relay.Config{Stall: stall})
		f := mutation(1, 1, 1<<20)
		g.writeAsync(relay.Producer, f[:1000])
		g.expect(relay.Consumer, f[:1000])
		<-time.After(10 * stall)
		g.writeAsync(relay.Producer, f[1000:])
		g.expect(relay.Consumer, f[1000:])
	})
}

// The injected bytes wait for the consumer's socket, which accepts none because the producer stopped half-way through a frame.
func TestInjectionBehindAFrameThatNeverEndsIsAStall(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := start(t, pipe, relay.Config{Stall: stall})
		f := mutation(1, 1, 1<<20)
		g.writeAsync(relay.Producer, f[:1000])
		g.expect(relay.Consumer, f[:1000])
		synctest.Wait()
		since := time.Now()
		require.NoError(t, g.relay.Inject(relay.Consumer, addStream(1)))
		failure := g.failure()
		assert.Equal(t, relay.Consumer, failure.Side)
		assert.ErrorIs(t, failure, relay.ErrStalled)
		assert.Equal(t, stall, time.Since(since))
	})
}

func TestCancelWhileBothPeersAcceptNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := start(t, pipe, relay.Config{Stall: stall})
		for _, side := range []relay.Side{relay.Consumer, relay.Producer} {
			g.write(side, noop(1))
			require.NoError(t, g.relay.Inject(side, addStream(1)))
		}
		synctest.Wait()
		since := time.Now()
		g.cancel(nil)
		require.ErrorIs(t, g.end(), context.Canceled)
		assert.Zero(t, time.Since(since))
	})
}

// tlsPipe is a TLS connection over a pipe, relay's end first, after its handshake.
func tlsPipe(t testing.TB) (near, far net.Conn) {
	t.Helper()
	a, b := net.Pipe()
	client := tls.Client(a, &tls.Config{InsecureSkipVerify: true})
	server := tls.Server(b, &tls.Config{Certificates: []tls.Certificate{certificate(t)}})
	done := make(chan error, 1)
	go func() {
		err := client.Handshake()
		if err == nil {
			_, err = client.Read(make([]byte, 1)) // takes the session tickets, and a byte of greeting
		}
		done <- err
	}()
	require.NoError(t, server.Handshake())
	_, err := server.Write([]byte{1})
	require.NoError(t, err)
	require.NoError(t, <-done)
	return client, server
}

func TestStalledPeerUnderTLS(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := start(t, tlsPipe, relay.Config{Stall: stall})
		f := mutation(1, 1, 1<<20)
		g.writeAsync(relay.Producer, f)
		for range 20 { // a record at a time, slowly: not stalled
			<-time.After(stall / 2)
			g.read(relay.Consumer, 16<<10)
		}
		since := time.Now()
		failure := g.failure()
		assert.Equal(t, relay.Consumer, failure.Side)
		assert.ErrorIs(t, failure, relay.ErrStalled)
		assert.GreaterOrEqual(t, time.Since(since), stall)
		assert.LessOrEqual(t, time.Since(since), stall*9/8)
	})
}

// One long write to a TLS connection, accepted a record at a time, takes longer than a stall and is none.
func TestSlowPeerUnderTLS(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ends := []func(testing.TB) (net.Conn, net.Conn){tlsPipe, pipe}
		g := start(t, func(t testing.TB) (near, far net.Conn) {
			dial := ends[0]
			ends = ends[1:]
			return dial(t)
		}, relay.Config{Stall: stall})
		load := bytes.Repeat(noop(1), 20_000)
		g.writeAsync(relay.Producer, load)
		g.read(relay.Consumer, len(load)) // the buffer has grown
		g.write(relay.Producer, load[:240_000])
		for range 240_000 / (16 << 10) {
			<-time.After(stall / 2)
			g.read(relay.Consumer, 16<<10)
		}
	})
}

func TestCancelUnderTLSDoesNotWaitForAClosingAlert(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := start(t, tlsPipe, relay.Config{Stall: stall})
		synctest.Wait()
		since := time.Now()
		g.cancel(nil)
		require.ErrorIs(t, g.end(), context.Canceled)
		assert.Zero(t, time.Since(since))
	})
}

func TestTLSIsByteExact(t *testing.T) {
	g := start(t, tlsPipe, relay.Config{})
	data := join(append(assorted(), mutation(1, 9, 200_000), mutation(1, 10, 3<<20), noop(11))...)
	for _, from := range []relay.Side{relay.Consumer, relay.Producer} {
		g.writeAsync(from, data)
		g.expect(from.Other(), data)
	}
	require.NoError(t, g.far[relay.Producer].Close())
	require.ErrorIs(t, g.end(), io.EOF)
}
