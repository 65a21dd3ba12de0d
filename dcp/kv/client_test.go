package kv_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strconv"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/shearpin/shearpin/dcp/kv"
	"github.com/shearpin/shearpin/dcp/mcbp"
)

// held keeps requests back until they are answered by hand.
type held struct {
	server   *server
	requests chan mcbp.Frame
}

func hold(s *server, ops ...mcbp.Opcode) *held {
	h := &held{server: s, requests: make(chan mcbp.Frame, 10_000)}
	for _, op := range ops {
		s.on(op, func(_ net.Conn, request mcbp.Frame) [][]byte {
			h.requests <- request
			return nil
		})
	}
	return h
}

// conn is the node's end of the first connection.
func (h *held) conn() net.Conn { return h.server.all()[0] }

func (h *held) answer(t *testing.T, request mcbp.Frame, p mcbp.Packet) {
	t.Helper()
	h.write(t, answer(request, p)[0])
}

func (h *held) write(t *testing.T, b []byte) {
	t.Helper()
	_, err := h.conn().Write(b)
	require.NoError(t, err)
}

func noop() *mcbp.Packet { return &mcbp.Packet{Opcode: mcbp.OpNoop} }

// outcome runs a call in a goroutine.
func outcome[T any](call func() (T, error)) <-chan result[T] {
	out := make(chan result[T], 1)
	go func() {
		v, err := call()
		out <- result[T]{v, err}
	}()
	return out
}

type result[T any] struct {
	value T
	err   error
}

func TestRequestsArePipelinedAndAnswersMatchedByOpaque(t *testing.T) {
	s := newServer(t)
	c := s.connect()
	h := hold(s, mcbp.OpGet)
	const n = 50
	var calls [n]<-chan result[kv.Item]
	for i := range n {
		calls[i] = outcome(func() (kv.Item, error) { return c.Get(t.Context(), 1, strconv.Itoa(i)) })
	}
	var requests []mcbp.Frame
	for range n {
		requests = append(requests, <-h.requests)
	}
	for i := n - 1; i >= 0; i-- { // in another order than they were asked
		h.answer(t, requests[i], mcbp.Packet{Value: requests[i].Key(), Extras: []byte{0, 0, 0, 7}, CAS: 3})
	}
	for i := range n {
		got := <-calls[i]
		require.NoError(t, got.err)
		assert.Equal(t, kv.Item{Value: []byte(strconv.Itoa(i)), CAS: 3, Flags: 7}, got.value)
	}
}

func TestLateAnswerOfACancelledCallIsDropped(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newServer(t)
		c := s.connect()
		h := hold(s, mcbp.OpNoop, mcbp.OpStat)
		reason := errors.New("superseded")

		ctx, cancel := context.WithCancelCause(t.Context())
		call := outcome(func() (mcbp.Frame, error) { return c.Do(ctx, noop()) })
		late := <-h.requests
		cancel(reason)
		assert.ErrorIs(t, (<-call).err, reason)

		ctx, cancel = context.WithCancelCause(t.Context())
		listing := outcome(func() (any, error) { return nil, c.Stats(ctx, "dcp", func(string, string) {}) })
		lateStat := <-h.requests
		h.answer(t, lateStat, mcbp.Packet{Key: []byte("a")})
		synctest.Wait()
		cancel(reason)
		assert.ErrorIs(t, (<-listing).err, reason)

		h.answer(t, lateStat, mcbp.Packet{Key: []byte("b")})
		h.answer(t, late, mcbp.Packet{})
		h.answer(t, lateStat, mcbp.Packet{})
		next := outcome(func() (mcbp.Frame, error) { return c.Do(t.Context(), noop()) })
		request := <-h.requests
		assert.NotEqual(t, late.Opaque(), request.Opaque())
		h.answer(t, request, mcbp.Packet{CAS: 5})
		got := <-next
		require.NoError(t, got.err)
		assert.EqualValues(t, 5, got.value.CAS())

		// The call is over: one more answer to it fits nothing.
		h.answer(t, late, mcbp.Packet{})
		<-c.Done()
		var protocol *kv.ProtocolError
		assert.ErrorAs(t, c.Err(), &protocol)
	})
}

func TestBrokenConnectionFailsAllCallsAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newServer(t)
		c := s.connect()
		h := hold(s, mcbp.OpNoop, mcbp.OpStat)
		var calls []<-chan result[mcbp.Frame]
		for range 10 {
			calls = append(calls, outcome(func() (mcbp.Frame, error) { return c.Do(t.Context(), noop()) }))
		}
		listing := outcome(func() (any, error) { return nil, c.Stats(t.Context(), "x", func(string, string) {}) })
		synctest.Wait()
		require.NoError(t, c.Err())
		require.NoError(t, h.conn().Close())
		for _, call := range calls {
			got := <-call
			assert.ErrorIs(t, got.err, kv.ErrClosed)
			assert.ErrorIs(t, got.err, io.EOF)
		}
		assert.ErrorIs(t, (<-listing).err, kv.ErrClosed)
		<-c.Done()
		_, err := c.Do(t.Context(), noop())
		assert.ErrorIs(t, err, io.EOF)
		assert.Equal(t, "kv n0: connection closed: EOF", c.Err().Error())
	})
}

func TestCloseFailsCallsAndEndsTheConnection(t *testing.T) {
	s := newServer(t)
	c := s.connect()
	h := hold(s, mcbp.OpNoop)
	call := outcome(func() (mcbp.Frame, error) { return c.Do(t.Context(), noop()) })
	<-h.requests
	require.NoError(t, c.Close())
	err := (<-call).err
	assert.ErrorIs(t, err, kv.ErrClosed)
	assert.Equal(t, "kv n0: connection closed", err.Error())
	<-s.closed
	require.NoError(t, c.Close(), "twice")
}

func TestAnswersThatFitNoRequestBreakTheConnection(t *testing.T) {
	for name, wrong := range map[string]func(request mcbp.Frame) mcbp.Frame{
		"unknown opaque": func(request mcbp.Frame) mcbp.Frame {
			return (&mcbp.Packet{Magic: mcbp.MagicResponse, Opcode: request.Opcode(), Opaque: mcbp.Opaque{7, 7, 7, 7}}).Frame()
		},
		"another command": func(request mcbp.Frame) mcbp.Frame {
			return (&mcbp.Packet{Magic: mcbp.MagicResponse, Opcode: mcbp.OpGet, Opaque: request.Opaque()}).Frame()
		},
		"a request": func(request mcbp.Frame) mcbp.Frame {
			return (&mcbp.Packet{Opcode: mcbp.OpNoop, Opaque: request.Opaque()}).Frame()
		},
	} {
		t.Run(name, func(t *testing.T) {
			s := newServer(t)
			c := s.connect()
			s.on(mcbp.OpNoop, func(_ net.Conn, request mcbp.Frame) [][]byte { return [][]byte{wrong(request)} })
			_, err := c.Do(t.Context(), noop())
			var protocol *kv.ProtocolError
			require.ErrorAs(t, err, &protocol)
			assert.ErrorIs(t, err, kv.ErrClosed)
			<-s.closed
		})
	}
}

func TestAnswersAreLimitedInSize(t *testing.T) {
	s := newServer(t)
	c := s.connect()
	s.on(mcbp.OpGet, func(_ net.Conn, request mcbp.Frame) [][]byte {
		f := answer(request, mcbp.Packet{})[0]
		f[8] = 0x10 // 256 MiB are to come
		return [][]byte{f}
	})
	_, err := c.Get(t.Context(), 1, "k")
	var malformed *mcbp.MalformedError
	require.ErrorAs(t, err, &malformed)
	assert.ErrorIs(t, err, kv.ErrClosed)
}

func TestLargestDocumentsFit(t *testing.T) {
	s := newServer(t)
	c := s.connect()
	document := make([]byte, 20<<20)
	s.on(mcbp.OpSet, func(_ net.Conn, request mcbp.Frame) [][]byte { return answer(request, mcbp.Packet{}) })
	s.on(mcbp.OpGet, value(document))
	_, err := c.Set(t.Context(), 1, "k", document, 0, 0, 0)
	require.NoError(t, err)
	item, err := c.Get(t.Context(), 1, "k")
	require.NoError(t, err)
	assert.Len(t, item.Value, len(document))
}

func TestCallOnACancelledContextSendsNothing(t *testing.T) {
	s := newServer(t)
	c := s.connect()
	before := len(s.seen())
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err := c.Do(ctx, noop())
	require.ErrorIs(t, err, context.Canceled)
	s.on(mcbp.OpNoop, value(nil))
	_, err = c.Do(t.Context(), noop())
	require.NoError(t, err)
	assert.Len(t, s.seen(), before+1)
}

// A node that has stopped reading: calls end with their contexts, also those that could not even be queued, and the
// connection breaks when one request has waited too long.
func TestNodeThatStopsReading(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newServer(t)
		c := s.connect()
		release := make(chan struct{})
		s.on(mcbp.OpNoop, func(net.Conn, mcbp.Frame) [][]byte {
			<-release
			return nil
		})
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		var calls []<-chan result[mcbp.Frame]
		for range 1000 {
			calls = append(calls, outcome(func() (mcbp.Frame, error) {
				return c.Do(ctx, &mcbp.Packet{Opcode: mcbp.OpNoop, Value: make([]byte, 40_000)})
			}))
		}
		since := time.Now()
		for _, call := range calls {
			assert.ErrorIs(t, (<-call).err, context.DeadlineExceeded)
		}
		assert.Equal(t, time.Second, time.Since(since))
		<-c.Done()
		assert.Equal(t, 30*time.Second, time.Since(since))
		assert.ErrorIs(t, c.Err(), kv.ErrClosed)
		close(release)
	})
}

func TestNodeThatNeverAnswersIsGivenUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newServer(t)
		c := s.connect()
		s.on(mcbp.OpNoop, silence)
		var calls sync.WaitGroup
		for i := range 5000 {
			if i%100 == 0 {
				calls.Wait()
			}
			calls.Go(func() {
				ctx, cancel := context.WithTimeout(t.Context(), time.Second)
				defer cancel()
				_, err := c.Do(ctx, noop())
				assert.Error(t, err)
			})
		}
		calls.Wait()
		require.ErrorIs(t, c.Err(), kv.ErrClosed)
		assert.ErrorContains(t, c.Err(), "never answered")
	})
}

func TestAnswersThatComeLateAfterAllDoNotCountAsMissing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newServer(t)
		c := s.connect()
		h := hold(s, mcbp.OpNoop)
		for range 6 {
			var calls sync.WaitGroup
			for range 1000 {
				calls.Go(func() {
					ctx, cancel := context.WithTimeout(t.Context(), time.Second)
					defer cancel()
					_, err := c.Do(ctx, noop())
					assert.ErrorIs(t, err, context.DeadlineExceeded)
				})
			}
			calls.Wait()
			for range 1000 {
				h.answer(t, <-h.requests, mcbp.Packet{})
			}
		}
		synctest.Wait()
		require.NoError(t, c.Err())
	})
}

func TestStatsInOrderUntilTheEmptyKey(t *testing.T) {
	s := newServer(t)
	c := s.connect()
	var pairs, got []string
	for i := range 5000 {
		pairs = append(pairs, fmt.Sprint("key", i), fmt.Sprint("value", i))
	}
	s.on(mcbp.OpStat, stats(pairs...))
	for range 2 {
		got = nil
		require.NoError(t, c.Stats(t.Context(), "group", func(key, value string) { got = append(got, key, value) }))
		assert.Equal(t, pairs, got)
	}
	assert.Equal(t, "group", string(s.last().Key()))
	s.on(mcbp.OpStat, stats("empty", ""))
	require.NoError(t, c.Stats(t.Context(), "group", func(key, value string) { assert.Equal(t, "empty", key) }))
}

func TestStatsThatTheNodeRefuses(t *testing.T) {
	s := newServer(t)
	c := s.connect()
	s.on(mcbp.OpStat, status(mcbp.StatusNotMyVBucket))
	err := c.Stats(t.Context(), "vbucket-seqno 5", func(string, string) { t.Error("called") })
	require.ErrorIs(t, err, mcbp.StatusNotMyVBucket)
	s.on(mcbp.OpStat, stats("a", "b"))
	require.NoError(t, c.Stats(t.Context(), "x", func(string, string) {}), "the connection goes on")

	s.on(mcbp.OpStat, func(_ net.Conn, request mcbp.Frame) [][]byte {
		refusal := answer(request, mcbp.Packet{Status: mcbp.StatusNoAccess, Key: []byte("k")})
		return append(refusal, answer(request, mcbp.Packet{})...)
	})
	require.ErrorIs(t, c.Stats(t.Context(), "x", func(string, string) {}), mcbp.StatusNoAccess)
	<-c.Done()
	var protocol *kv.ProtocolError
	require.ErrorAs(t, c.Err(), &protocol, "a refusal is the last answer")
}

func TestSlowReaderOfStatsHoldsUpNobody(t *testing.T) {
	s := newServer(t)
	c := s.connect()
	s.on(mcbp.OpNoop, value(nil))
	s.on(mcbp.OpStat, stats("a", "1", "b", "2"))
	require.NoError(t, c.Stats(t.Context(), "x", func(string, string) {
		_, err := c.Do(t.Context(), noop())
		require.NoError(t, err)
	}))
}

func TestStatsThatAreTooManyToKeepFailTheirCallOnly(t *testing.T) {
	s := newServer(t)
	c := s.connect()
	huge := make([]byte, 1<<20)
	s.on(mcbp.OpStat, func(conn net.Conn, request mcbp.Frame) [][]byte {
		one := answer(request, mcbp.Packet{Key: []byte("k"), Value: huge})[0]
		for range 80 {
			if _, err := conn.Write(one); err != nil {
				return nil
			}
		}
		return answer(request, mcbp.Packet{})
	})
	s.on(mcbp.OpNoop, value(nil))
	err := c.Stats(t.Context(), "x", func(string, string) {
		_, err := c.Do(t.Context(), noop()) // returns when all that came before has been read
		require.NoError(t, err)
	})
	require.ErrorIs(t, err, kv.ErrBacklog)
	_, err = c.Do(t.Context(), noop())
	require.NoError(t, err)
}

func TestStatusErrorTellsWhatTheNodeSaid(t *testing.T) {
	s := newServer(t)
	c := s.connect()
	for _, tc := range []struct {
		status mcbp.Status
		said   string
		want   string
		config []byte
	}{
		{mcbp.StatusInvalid, `{"error":{"context":"bad state"}}`, "SET_VBUCKET vb 5: invalid arguments (0x04): bad state", nil},
		{mcbp.StatusInvalid, "plain words\n", "SET_VBUCKET vb 5: invalid arguments (0x04): plain words", nil},
		{mcbp.StatusInvalid, "\x00\xff\x1b[31m", "SET_VBUCKET vb 5: invalid arguments (0x04): [31m", nil},
		{mcbp.StatusInvalid, "", "SET_VBUCKET vb 5: invalid arguments (0x04)", nil},
		{mcbp.StatusNotMyVBucket, `{"rev":1}`, "SET_VBUCKET vb 5: not my vbucket (0x07)", []byte(`{"rev":1}`)},
	} {
		s.on(mcbp.OpSetVBucket, func(_ net.Conn, request mcbp.Frame) [][]byte {
			return answer(request, mcbp.Packet{Status: tc.status, Value: []byte(tc.said)})
		})
		err := c.SetVBucket(t.Context(), 5, mcbp.VBucketDead, nil)
		var failed *kv.StatusError
		require.ErrorAs(t, err, &failed)
		assert.Equal(t, tc.want, failed.Error())
		assert.Equal(t, tc.config, failed.Config)
		assert.ErrorIs(t, err, tc.status)
	}
}
