package dcp

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"log/slog"
	"net"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/shearpin/shearpin/actors"
	"github.com/shearpin/shearpin/dcp/kv"
	"github.com/shearpin/shearpin/dcp/mcbp"
	"github.com/shearpin/shearpin/supervisor"
)

// stage is a manager with all its processes between two nodes that do what the test says, frame by frame.
type stage struct {
	t        *testing.T
	patience time.Duration
	ctx      context.Context
	limits   Limits
	log      *slog.Logger
	dial     func() (near, far net.Conn)
	tls      *tls.Config
	conns    int
	metrics  prometheus.Registerer
	nodes    map[string]*puppet
	manager  *Manager
	system   *actors.System
	news     *actors.Subscription[Event]
	tree     *actors.Subscription[supervisor.Event]
	started  map[string]*actors.PID
	// c and p are our ends' peers once the link is up.
	c, p *peer
}

// onStage runs a story in virtual time, over pipes. prepare may change the stage before the manager starts.
func onStage(t *testing.T, prepare func(*stage), story func(*stage)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		s := &stage{t: t, patience: time.Hour, dial: net.Pipe}
		s.open(prepare)
		story(s)
	})
}

// onTCP is onStage in real time, over loopback, for what pipes cannot do.
func onTCP(t *testing.T, story func(*stage)) {
	t.Helper()
	s := &stage{t: t, patience: 20 * time.Second}
	s.dial = func() (near, far net.Conn) {
		listener, err := net.Listen("tcp", "127.0.0.1:0")
		require.NoError(t, err)
		defer listener.Close()
		near, err = net.Dial("tcp", listener.Addr().String())
		require.NoError(t, err)
		far, err = listener.Accept()
		require.NoError(t, err)
		return near, far
	}
	s.open(nil)
	story(s)
}

func (s *stage) open(prepare func(*stage)) {
	s.nodes, s.started = map[string]*puppet{}, map[string]*actors.PID{}
	for _, name := range []string{"n0", "n1", "n2"} {
		s.nodes[name] = &puppet{
			t: s.t, stage: s, opened: make(chan *peer, 64), conns: map[net.Conn]bool{},
			replies: map[mcbp.Opcode]reply{},
		}
	}
	if prepare != nil {
		prepare(s)
	}
	ctx, cancel := context.WithTimeout(context.Background(), s.patience)
	s.ctx, s.system = ctx, actors.NewSystem(actors.Options{})
	events, tree := actors.NewBus[Event](), actors.NewBus[supervisor.Event]()
	s.news, s.tree = events.Subscribe(1024), tree.Subscribe(1024)
	var err error
	s.manager, err = Start(ctx, Options{
		System: s.system, Bucket: "orders", Consumer: "n1", Connections: s.conns, Limits: s.limits, Log: s.log, Events: events, SupervisorEvents: tree,
		Metrics: s.metrics,
		Endpoints: func(node string) (kv.Endpoint, bool) {
			n, ok := s.nodes[node]
			return kv.Endpoint{
				Node: node, Addr: node + ".example:11210", Dial: n.connect, TLS: s.tls,
				Credentials: kv.Credentials{User: "manager", Password: "secret"},
			}, ok
		},
	})
	require.NoError(s.t, err)
	s.t.Cleanup(func() {
		if err := s.manager.Stop(context.WithoutCancel(ctx)); !errors.Is(err, actors.NoProcess) { // the test may have stopped it
			assert.NoError(s.t, err)
		}
		assert.NoError(s.t, s.system.Close(context.WithoutCancel(ctx)))
		s.news.Close()
		s.tree.Close()
		cancel()
		for _, n := range s.nodes {
			n.close()
		}
	})
	require.NoError(s.t, s.manager.Prepare(ctx, 1))
	n := s.nodes["n1"]
	n.mu.Lock()
	n.requests = nil // those of the look for an earlier manager's connections
	n.mu.Unlock()
}

// apply asks for streams from n0; a vbucket's number below zero, less one, asks for the end of its stream.
func (s *stage) apply(vbs ...int) <-chan error {
	changes := map[uint16]string{}
	for _, vb := range vbs {
		if vb < 0 {
			changes[uint16(-vb-1)] = ""
			continue
		}
		changes[uint16(vb)] = "n0"
	}
	return s.in(func() error { return s.manager.Apply(s.ctx, 1, "", changes) })
}

func (s *stage) takeover(vb uint16) <-chan error {
	return s.in(func() error { return s.manager.Takeover(s.ctx, 1, "move", vb, "n0") })
}

func (s *stage) in(f func() error) <-chan error {
	done := make(chan error, 1)
	go func() { done <- f() }()
	return done
}

// link waits until both ends of the link are open.
func (s *stage) link() {
	s.c, s.p = next(s, s.nodes["n1"].opened), next(s, s.nodes["n0"].opened)
}

// up brings streams up; their opaques count from one.
func (s *stage) up(vbs ...int) {
	done := s.apply(vbs...)
	if s.c == nil {
		s.link()
	}
	var adds []mcbp.Frame
	for range vbs {
		adds = append(adds, s.c.read())
		assert.Equal(s.t, mcbp.OpDCPAddStream, adds[len(adds)-1].Opcode())
	}
	for i, add := range adds {
		s.request(add.VBucket(), uint32(i)+1)
		s.c.write(answerTo(add, mcbp.StatusSuccess))
	}
	require.NoError(s.t, next(s, done))
}

// request is the STREAM_REQ of a vbucket and its answer, through the relay.
func (s *stage) request(vb uint16, n uint32) {
	req := &mcbp.Packet{Opcode: mcbp.OpDCPStreamReq, VBucket: vb, Opaque: streamOpaque(n), Extras: make([]byte, 48)}
	s.c.write(req)
	assert.Equal(s.t, req.Frame(), s.p.read())
	ok := &mcbp.Packet{Magic: mcbp.MagicResponse, Opcode: mcbp.OpDCPStreamReq, Opaque: streamOpaque(n)}
	s.p.write(ok)
	assert.Equal(s.t, ok.Frame(), s.c.read())
}

func endOf(vb uint16, n uint32, reason mcbp.EndReason) *mcbp.Packet {
	return &mcbp.Packet{Opcode: mcbp.OpDCPStreamEnd, VBucket: vb, Opaque: streamOpaque(n), Extras: []byte{0, 0, 0, byte(reason)}}
}

// crash waits for the next news of a crash.
func (s *stage) crash() LinkCrashed {
	for {
		if crash, ok := next(s, s.news.C()).(LinkCrashed); ok {
			return crash
		}
	}
}

// exit waits for the next death that a supervisor sees.
func (s *stage) exit() supervisor.Event {
	for {
		if e := s.event(); e.Kind == supervisor.ChildExited {
			return e
		}
	}
}

func (s *stage) event() supervisor.Event {
	e := next(s, s.tree.C())
	if e.Kind == supervisor.ChildStarted {
		s.started[e.ID] = e.PID
	}
	return e
}

// process waits until a child of that name has been started.
func (s *stage) process(id string) *actors.PID {
	for s.started[id] == nil {
		s.event()
	}
	return s.started[id]
}

// quiet requires, in virtual time, that nothing has died since it was last asked.
func (s *stage) quiet() {
	s.t.Helper()
	synctest.Wait()
	for len(s.tree.C()) > 0 {
		e := s.event()
		assert.NotEqual(s.t, supervisor.ChildExited, e.Kind, "%s: %v", e.ID, e.Reason)
	}
}

// bothClosed requires that both sockets get closed, and returns what arrived last on them.
func (s *stage) bothClosed() (c, p []mcbp.Frame) { return s.c.rest(), s.p.rest() }

func (s *stage) status() LinkStatus {
	status, err := s.manager.Status(s.ctx)
	require.NoError(s.t, err)
	require.Len(s.t, status.Links, 1)
	return status.Links[0]
}

// next waits for something that must come.
func next[T any](s *stage, c <-chan T) T {
	s.t.Helper()
	var zero T
	select {
	case v, ok := <-c:
		require.True(s.t, ok, "the connection was closed")
		return v
	case <-time.After(s.patience):
		require.Fail(s.t, "nothing came")
		return zero
	}
}

// puppet is a node that answers the handshake and statistics, and leaves all that follows a DCP_OPEN to the test.
type puppet struct {
	t      *testing.T
	stage  *stage
	opened chan *peer

	mu sync.Mutex
	// replies replace the answer to an opcode.
	replies map[mcbp.Opcode]reply
	// stats are the keys and values that STAT gives, whatever the group.
	stats   []string
	hanging bool
	deaf    bool
	// mute accepts connections and does nothing with them; a trickle is the pause after each byte of an answer.
	mute     bool
	trickle  time.Duration
	requests []mcbp.Frame
	conns    map[net.Conn]bool
	wg       sync.WaitGroup
}

// peer is the node's end of an open DCP connection.
type peer struct {
	s      *stage
	conn   net.Conn
	raw    net.Conn
	open   mcbp.Frame
	frames chan mcbp.Frame
}

// reply makes the answer to a request: nil is silence, hangUp closes the connection.
type reply func(mcbp.Frame) *mcbp.Packet

func silent(mcbp.Frame) *mcbp.Packet { return nil }

func hangUp(mcbp.Frame) *mcbp.Packet { return &mcbp.Packet{Magic: noAnswer} }

// noAnswer is no magic of the protocol's.
const noAnswer mcbp.Magic = 1

func refuse(status mcbp.Status) reply {
	return func(f mcbp.Frame) *mcbp.Packet { return answerTo(f, status) }
}

// on replaces the answer to an opcode; nil restores it.
func (n *puppet) on(op mcbp.Opcode, r reply) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.replies[op] = r
}

func (n *puppet) connect(ctx context.Context, _, _ string) (net.Conn, error) {
	n.mu.Lock()
	hanging := n.hanging
	n.mu.Unlock()
	if hanging {
		<-ctx.Done()
		return nil, ctx.Err()
	}
	near, far := n.stage.dial()
	n.mu.Lock()
	n.conns[far] = true
	n.mu.Unlock()
	n.wg.Go(func() { n.serve(far) })
	return near, nil
}

func (n *puppet) close() {
	n.mu.Lock()
	for conn := range n.conns {
		_ = conn.Close()
	}
	n.mu.Unlock()
	n.wg.Wait()
}

// forsaken requires, in virtual time, that nobody holds a connection to the node any more.
func (n *puppet) forsaken() {
	n.stage.t.Helper()
	synctest.Wait()
	n.mu.Lock()
	defer n.mu.Unlock()
	for conn := range n.conns {
		assert.ErrorIs(n.stage.t, conn.SetDeadline(time.Time{}), io.ErrClosedPipe, "a connection is open")
	}
}

func (n *puppet) seen() []mcbp.Frame {
	n.mu.Lock()
	defer n.mu.Unlock()
	return slices.Clone(n.requests)
}

// serve answers until a DCP_OPEN has been answered with success; then it only reads.
func (n *puppet) serve(raw net.Conn) {
	defer raw.Close()
	n.mu.Lock()
	mute, trickle := n.mute, n.trickle
	n.mu.Unlock()
	if mute {
		<-n.stage.ctx.Done()
		return
	}
	conn := raw
	if n.stage.tls != nil {
		conn = tls.Server(raw, n.stage.tls)
	}
	for {
		f, err := readOne(conn)
		if err != nil {
			return
		}
		n.mu.Lock()
		n.requests = append(n.requests, f)
		n.mu.Unlock()
		answer := n.answer(f)
		switch {
		case answer == nil:
			continue
		case answer.Magic == noAnswer:
			return
		}
		if _, err := writeSlowly(conn, append(n.statistics(f), answer.Frame()...), trickle); err != nil {
			return
		}
		if f.Opcode() == mcbp.OpDCPOpen && answer.Status == mcbp.StatusSuccess {
			p := &peer{s: n.stage, conn: conn, raw: raw, open: f, frames: make(chan mcbp.Frame, 4096)}
			n.opened <- p
			defer close(p.frames)
			if n.deaf {
				<-n.stage.ctx.Done()
				return
			}
			for {
				f, err := readOne(conn)
				if err != nil {
					return
				}
				p.frames <- f
			}
		}
	}
}

// virtually is the time that a puppet takes, in the stage's bubble.
func virtually(d time.Duration) { <-time.After(d) }

// writeSlowly pauses after each byte, in virtual time only.
func writeSlowly(w io.Writer, b []byte, pause time.Duration) (n int, err error) {
	if pause == 0 {
		return w.Write(b)
	}
	for ; n < len(b) && err == nil; n++ {
		_, err = w.Write(b[n : n+1])
		virtually(pause)
	}
	return n, err
}

func (n *puppet) answer(f mcbp.Frame) *mcbp.Packet {
	n.mu.Lock()
	r := n.replies[f.Opcode()]
	n.mu.Unlock()
	if r != nil {
		return r(f)
	}
	answer := answerTo(f, mcbp.StatusSuccess)
	switch f.Opcode() {
	case mcbp.OpHello:
		answer.Value = f.Value()
	case mcbp.OpSASLListMechs:
		answer.Value = []byte("PLAIN")
	}
	return answer
}

// statistics are the answers before the empty one.
func (n *puppet) statistics(f mcbp.Frame) (all []byte) {
	if f.Opcode() != mcbp.OpStat {
		return nil
	}
	for i := 0; i < len(n.stats); i += 2 {
		answer := answerTo(f, mcbp.StatusSuccess)
		answer.Key, answer.Value = []byte(n.stats[i]), []byte(n.stats[i+1])
		all = answer.Append(all)
	}
	return all
}

func readOne(r io.Reader) (mcbp.Frame, error) {
	header := make([]byte, mcbp.HeaderLen)
	if _, err := io.ReadFull(r, header); err != nil {
		return nil, err
	}
	n, err := mcbp.FrameLen(header, mcbp.DefaultMaxBody)
	if err != nil {
		return nil, err
	}
	f := append(mcbp.Frame(header), make([]byte, n-mcbp.HeaderLen)...)
	_, err = io.ReadFull(r, f[mcbp.HeaderLen:])
	return f, err
}

// read is the next frame that arrives at the node.
func (p *peer) read() mcbp.Frame {
	p.s.t.Helper()
	return next(p.s, p.frames)
}

// write sends frames in one write. The connection may be closed before all of it is taken.
func (p *peer) write(frames ...*mcbp.Packet) {
	var b []byte
	for _, f := range frames {
		b = f.Append(b)
	}
	p.bytes(b)
}

func (p *peer) bytes(b []byte) { _, _ = p.conn.Write(b) }

// rest waits until the connection is closed and returns what came before.
func (p *peer) rest() []mcbp.Frame {
	var all []mcbp.Frame
	late := time.After(p.s.patience)
	for {
		select {
		case f, ok := <-p.frames:
			if !ok {
				return all
			}
			all = append(all, f)
		case <-late:
			require.Fail(p.s.t, "the connection stayed open")
		}
	}
}

// arrived is what has come by now, in virtual time, when nothing can go on by itself.
func (p *peer) arrived() []mcbp.Frame {
	synctest.Wait()
	var all []mcbp.Frame
	for {
		select {
		case f, ok := <-p.frames:
			if !ok {
				return all
			}
			all = append(all, f)
		default:
			return all
		}
	}
}
