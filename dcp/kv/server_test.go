package kv_test

import (
	"bytes"
	"context"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/shearpin/shearpin/dcp/kv"
	"github.com/shearpin/shearpin/dcp/mcbp"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const password = "correct-horse-battery"

// reply makes the answers to one request; nil answers nothing. It may close the connection.
type reply func(conn net.Conn, request mcbp.Frame) [][]byte

// server is a node made of replies. It records the requests it has read, byte for byte.
type server struct {
	t       testing.TB
	replies map[mcbp.Opcode]reply
	wrap    func(near, far net.Conn) (client, node net.Conn) // what lies between the two ends

	user     string
	password string
	listener net.Listener // nil: the connections are pipes

	mu       sync.Mutex
	requests []mcbp.Frame
	conns    []net.Conn
	near     []*counted
	closed   chan struct{} // one token for each connection that the client has closed
	wg       sync.WaitGroup
}

// newServer answers the handshake as engines do, and nothing else, until told otherwise.
func newServer(t testing.TB) *server {
	s := &server{t: t, replies: make(map[mcbp.Opcode]reply), closed: make(chan struct{}, 100), user: "user", password: password}
	ok := func(_ net.Conn, request mcbp.Frame) [][]byte { return answer(request, mcbp.Packet{}) }
	s.replies[mcbp.OpSASLAuth] = ok
	s.replies[mcbp.OpSelectBucket] = ok
	s.replies[mcbp.OpDCPOpen] = ok
	s.replies[mcbp.OpHello] = func(_ net.Conn, request mcbp.Frame) [][]byte {
		return answer(request, mcbp.Packet{Value: request.Value()})
	}
	t.Cleanup(func() {
		for _, c := range s.all() {
			_ = c.Close()
		}
		s.wg.Wait()
	})
	return s
}

// listen makes the server one that is reached over TCP.
func (s *server) listen() {
	var err error
	s.listener, err = net.Listen("tcp", "127.0.0.1:0")
	require.NoError(s.t, err)
	s.t.Cleanup(func() { _ = s.listener.Close() })
}

// counted knows whether it has been closed.
type counted struct {
	net.Conn
	closed atomic.Bool
}

func (c *counted) Close() error {
	c.closed.Store(true)
	return c.Conn.Close()
}

// requireNoSockets fails if the client has left a connection open.
func (s *server) requireNoSockets() {
	s.mu.Lock()
	defer s.mu.Unlock()
	require.NotEmpty(s.t, s.near)
	for _, c := range s.near {
		require.True(s.t, c.closed.Load(), "left open")
	}
}

func (s *server) all() []net.Conn {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.conns
}

// answer fills p in as an answer to request.
func answer(request mcbp.Frame, p mcbp.Packet) [][]byte {
	p.Magic, p.Opcode, p.Opaque = mcbp.MagicResponse, request.Opcode(), request.Opaque()
	return [][]byte{p.Frame()}
}

func status(s mcbp.Status) reply {
	return func(_ net.Conn, request mcbp.Frame) [][]byte { return answer(request, mcbp.Packet{Status: s}) }
}

func value(v []byte) reply {
	return func(_ net.Conn, request mcbp.Frame) [][]byte { return answer(request, mcbp.Packet{Value: v}) }
}

// stats answers STAT with keys and values in turn, and the empty one that ends them.
func stats(pairs ...string) reply {
	return func(_ net.Conn, request mcbp.Frame) (all [][]byte) {
		for i := 0; i < len(pairs); i += 2 {
			all = append(all, answer(request, mcbp.Packet{Key: []byte(pairs[i]), Value: []byte(pairs[i+1])})...)
		}
		return append(all, answer(request, mcbp.Packet{})...)
	}
}

func silence(net.Conn, mcbp.Frame) [][]byte { return nil }

func (s *server) endpoint() kv.Endpoint {
	return kv.Endpoint{
		Node: "n0", Addr: "n0.example:11210", Dial: s.dial,
		Credentials: kv.Credentials{User: s.user, Password: s.password},
	}
}

func (s *server) dial(ctx context.Context, _, _ string) (net.Conn, error) {
	near, far, err := s.pair(ctx)
	if err != nil {
		return nil, err
	}
	if s.wrap != nil {
		near, far = s.wrap(near, far)
	}
	ours := &counted{Conn: near}
	s.mu.Lock()
	s.conns = append(s.conns, far)
	s.near = append(s.near, ours)
	s.mu.Unlock()
	s.wg.Go(func() {
		s.serve(far)
		_ = far.Close()
		s.closed <- struct{}{}
	})
	return ours, nil
}

func (s *server) pair(ctx context.Context) (near, far net.Conn, err error) {
	if s.listener == nil {
		near, far = net.Pipe()
		return near, far, nil
	}
	near, err = new(net.Dialer).DialContext(ctx, "tcp", s.listener.Addr().String())
	if err != nil {
		return nil, nil, err
	}
	far, err = s.listener.Accept()
	return near, far, err
}

func (s *server) serve(conn net.Conn) {
	for {
		header := make(mcbp.Frame, mcbp.HeaderLen)
		if _, err := io.ReadFull(conn, header); err != nil {
			return
		}
		f := make(mcbp.Frame, mcbp.HeaderLen+int(header.BodyLen()))
		copy(f, header)
		if _, err := io.ReadFull(conn, f[mcbp.HeaderLen:]); err != nil {
			return
		}
		s.mu.Lock()
		s.requests = append(s.requests, f)
		r := s.replies[f.Opcode()]
		s.mu.Unlock()
		if r == nil {
			r = status(mcbp.StatusUnknownCommand)
		}
		if answers := r(conn, f); len(answers) > 0 {
			if _, err := conn.Write(bytes.Join(answers, nil)); err != nil {
				return
			}
		}
	}
}

// on changes a reply, also while the server runs.
func (s *server) on(op mcbp.Opcode, r reply) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.replies[op] = r
}

// seen returns the requests so far.
func (s *server) seen() []mcbp.Frame {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]mcbp.Frame(nil), s.requests...)
}

func (s *server) last() mcbp.Frame {
	all := s.seen()
	require.NotEmpty(s.t, all)
	return all[len(all)-1]
}

func (s *server) connect() *kv.Client {
	c, err := kv.Connect(s.t.Context(), s.endpoint(), "orders")
	require.NoError(s.t, err)
	s.t.Cleanup(func() { require.NoError(s.t, c.Close()) })
	return c
}
