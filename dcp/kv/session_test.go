package kv_test

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"net"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/shearpin/shearpin/dcp/kv"
	"github.com/shearpin/shearpin/dcp/mcbp"
)

func TestSessionSharesOneClientAndReplacesABrokenOne(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newServer(t)
		session := kv.NewSession(s.endpoint(), "orders", nil)
		var calls []<-chan result[*kv.Client]
		for range 10 {
			calls = append(calls, outcome(func() (*kv.Client, error) { return session.Client(t.Context()) }))
		}
		first := <-calls[0]
		require.NoError(t, first.err)
		for _, call := range calls[1:] {
			assert.Same(t, first.value, (<-call).value)
		}
		require.Len(t, s.all(), 1)

		<-time.After(2 * time.Second)
		require.NoError(t, s.all()[0].Close())
		<-first.value.Done()
		since := time.Now()
		second, err := session.Client(t.Context())
		require.NoError(t, err)
		assert.NotSame(t, first.value, second)
		assert.Zero(t, time.Since(since), "the first attempt does not wait")
		require.NoError(t, session.Close())
		assert.ErrorIs(t, second.Err(), kv.ErrClosed)
		_, err = session.Client(t.Context())
		assert.ErrorIs(t, err, kv.ErrClosed)
	})
}

func TestSessionBacksOffWithEachFailure(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ep := kv.Endpoint{Node: "n0", Addr: "n0.example:11210"}
		refused := errors.New("refused")
		up := false
		s := newServer(t)
		ep.Dial = func(ctx context.Context, network, addr string) (net.Conn, error) {
			if up {
				return s.dial(ctx, network, addr)
			}
			return nil, refused
		}
		session := kv.NewSession(ep, "", nil)
		most := 100 * time.Millisecond
		for i := range 12 {
			since := time.Now()
			_, err := session.Client(t.Context())
			require.ErrorIs(t, err, refused)
			if i == 0 {
				assert.Zero(t, time.Since(since))
				continue
			}
			assert.LessOrEqual(t, time.Since(since), most)
			assert.GreaterOrEqual(t, time.Since(since), most/2)
			most = min(2*most, 10*time.Second)
		}
		up = true
		c, err := session.Client(t.Context())
		require.NoError(t, err)

		// A connection that is lost at once is one more failure; one that has lived is not.
		require.NoError(t, s.all()[0].Close())
		<-c.Done()
		since := time.Now()
		c, err = session.Client(t.Context())
		require.NoError(t, err)
		assert.GreaterOrEqual(t, time.Since(since), 5*time.Second)
		<-time.After(time.Second)
		require.NoError(t, s.all()[1].Close())
		<-c.Done()
		up = false
		since = time.Now()
		_, err = session.Client(t.Context())
		require.ErrorIs(t, err, refused)
		assert.Zero(t, time.Since(since))
		_, err = session.Client(t.Context())
		require.ErrorIs(t, err, refused)
		assert.LessOrEqual(t, time.Since(since), 100*time.Millisecond)
		require.NoError(t, session.Close())
	})
}

func TestSessionAttemptOutlivesTheCallerThatBeganIt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newServer(t)
		release := make(chan struct{})
		s.on(mcbp.OpHello, func(_ net.Conn, request mcbp.Frame) [][]byte {
			<-release
			return answer(request, mcbp.Packet{Value: request.Value()})
		})
		session := kv.NewSession(s.endpoint(), "orders", nil)
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		_, err := session.Client(ctx)
		require.ErrorIs(t, err, context.DeadlineExceeded)
		waiting := outcome(func() (*kv.Client, error) { return session.Client(t.Context()) })
		close(release)
		require.NoError(t, (<-waiting).err)
		assert.Len(t, s.all(), 1)
		require.NoError(t, session.Close())
	})
}

func TestSessionClosedWhileConnecting(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newServer(t)
		s.on(mcbp.OpHello, silence)
		session := kv.NewSession(s.endpoint(), "orders", nil)
		waiting := outcome(func() (*kv.Client, error) { return session.Client(t.Context()) })
		synctest.Wait()
		since := time.Now()
		require.NoError(t, session.Close())
		assert.ErrorIs(t, (<-waiting).err, kv.ErrClosed)
		assert.Zero(t, time.Since(since))
		<-s.closed
	})
}

func TestSessionReset(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newServer(t)
		var out bytes.Buffer
		session := kv.NewSession(s.endpoint(), "orders", slog.New(slog.NewTextHandler(&out, nil)))
		session.Reset()
		c, err := session.Client(t.Context())
		require.NoError(t, err)
		h := hold(s, mcbp.OpNoop)
		call := outcome(func() (mcbp.Frame, error) { return c.Do(t.Context(), noop()) })
		<-h.requests
		session.Reset()
		assert.ErrorIs(t, (<-call).err, kv.ErrClosed)
		since := time.Now()
		next, err := session.Client(t.Context())
		require.NoError(t, err)
		assert.NotSame(t, c, next)
		assert.Zero(t, time.Since(since), "asked for, not a failure")
		require.NoError(t, session.Close())
		assert.Empty(t, out.String(), "and nothing an operator must hear of")
	})
}
