package sim

import (
	"context"
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"sync"
	"syscall"
	"time"
)

// window is how many bytes may be under way in one direction of a connection.
const window = 256 << 10

// network connects dialers with listeners, by address. Its connections are as slow as its latency says, but for the observer's.
type network struct {
	latency time.Duration // from 0 to this, decided for each write

	mu        sync.Mutex
	dice      *rand.Rand
	listeners map[string]*listener
	conns     map[*conn]struct{}
	// closed are the addresses that a dialer does not reach, by who dials; stalled those between which nothing moves.
	closed  map[[2]string]bool
	stalled map[[2]string]bool
}

func newNetwork(seed uint64, latency time.Duration) *network {
	return &network{
		latency: latency, dice: rand.New(rand.NewPCG(seed, 1)), listeners: map[string]*listener{},
		conns: map[*conn]struct{}{}, closed: map[[2]string]bool{}, stalled: map[[2]string]bool{},
	}
}

type address string

func (address) Network() string  { return "sim" }
func (a address) String() string { return string(a) }

// listen is where a node's connections come from.
func (n *network) listen(addr string) net.Listener {
	n.mu.Lock()
	defer n.mu.Unlock()
	l := &listener{network: n, addr: addr, arrived: make(chan net.Conn), gone: make(chan struct{})}
	n.listeners[addr] = l
	return l
}

// dialer makes connections on behalf of somebody.
func (n *network) dialer(who string) func(ctx context.Context, network, addr string) (net.Conn, error) {
	return func(ctx context.Context, _, addr string) (net.Conn, error) {
		n.mu.Lock()
		l, way := n.listeners[addr], [2]string{who, addr}
		if l == nil || n.closed[way] {
			n.mu.Unlock()
			return nil, &net.OpError{Op: "dial", Net: "sim", Addr: address(addr), Err: syscall.ECONNREFUSED}
		}
		late := n.late
		if who == observer {
			late = time.Now
		}
		there, back := newHalf(late), newHalf(late)
		ours := &conn{network: n, way: way, in: back, out: there, local: address(who), remote: address(addr)}
		theirs := &conn{network: n, way: way, in: there, out: back, local: address(addr), remote: address(who)}
		n.conns[ours] = struct{}{}
		if n.stalled[way] {
			ours.stall(true)
		}
		n.mu.Unlock()
		select {
		case l.arrived <- theirs:
			return ours, nil
		case <-l.gone:
			_ = ours.Close()
			return nil, &net.OpError{Op: "dial", Net: "sim", Addr: address(addr), Err: syscall.ECONNREFUSED}
		case <-ctx.Done():
			_ = ours.Close()
			return nil, context.Cause(ctx)
		}
	}
}

// late is when something that is sent now arrives.
func (n *network) late() time.Time {
	n.mu.Lock()
	defer n.mu.Unlock()
	return time.Now().Add(time.Duration(n.dice.Int64N(int64(n.latency) + 1)))
}

// reset breaks all connections between somebody and an address.
func (n *network) reset(who, addr string) {
	for _, c := range n.between(who, addr) {
		c.reset()
	}
}

// forbid resets them, and lets nobody connect until it is taken back.
func (n *network) forbid(who, addr string, forbidden bool) {
	n.mu.Lock()
	n.closed[[2]string{who, addr}] = forbidden
	n.mu.Unlock()
	if forbidden {
		n.reset(who, addr)
	}
}

// stall keeps everything that is sent under way, until it is taken back.
func (n *network) stall(who, addr string, stalled bool) {
	n.mu.Lock()
	n.stalled[[2]string{who, addr}] = stalled
	n.mu.Unlock()
	for _, c := range n.between(who, addr) {
		c.stall(stalled)
	}
}

func (n *network) between(who, addr string) (found []*conn) {
	n.mu.Lock()
	defer n.mu.Unlock()
	for c := range n.conns {
		if c.way == [2]string{who, addr} {
			found = append(found, c)
		}
	}
	return found
}

// listener is the end of the network that a node holds.
type listener struct {
	network *network
	addr    string
	arrived chan net.Conn
	gone    chan struct{}
	once    sync.Once
}

func (l *listener) Addr() net.Addr { return address(l.addr) }

func (l *listener) Accept() (net.Conn, error) {
	select {
	case c := <-l.arrived:
		return c, nil
	case <-l.gone:
		return nil, net.ErrClosed
	}
}

func (l *listener) Close() error {
	err := net.ErrClosed
	l.once.Do(func() {
		close(l.gone)
		err = nil
	})
	return err
}

// conn is one end of a connection. The dialer's is the one that the network knows.
type conn struct {
	network       *network
	way           [2]string
	in, out       *half
	local, remote address
}

func (c *conn) Read(b []byte) (int, error)  { return c.in.read(b) }
func (c *conn) Write(b []byte) (int, error) { return c.out.write(b) }
func (c *conn) LocalAddr() net.Addr         { return c.local }
func (c *conn) RemoteAddr() net.Addr        { return c.remote }

func (c *conn) Close() error {
	c.network.mu.Lock()
	delete(c.network.conns, c)
	c.network.mu.Unlock()
	c.in.change(func(h *half) { h.unread = true })
	c.out.change(func(h *half) { h.finished = true })
	return nil
}

func (c *conn) SetDeadline(t time.Time) error {
	return errors.Join(c.SetReadDeadline(t), c.SetWriteDeadline(t))
}

func (c *conn) SetReadDeadline(t time.Time) error {
	c.in.change(func(h *half) { h.readBy = t })
	return nil
}

func (c *conn) SetWriteDeadline(t time.Time) error {
	c.out.change(func(h *half) { h.writeBy = t })
	return nil
}

func (c *conn) reset() {
	for _, h := range []*half{c.in, c.out} {
		h.change(func(h *half) { h.broken = true })
	}
}

func (c *conn) stall(stalled bool) {
	for _, h := range []*half{c.in, c.out} {
		h.change(func(h *half) { h.stalled = stalled })
	}
}

// half is one direction of a connection.
type half struct {
	late func() time.Time

	mu      sync.Mutex
	changed *sync.Cond
	pieces  []piece
	size    int
	// finished: the writer has closed; unread: the reader has; broken: both have been reset.
	finished, unread, broken, stalled bool
	readBy, writeBy                   time.Time
}

// piece is what one write sent.
type piece struct {
	bytes []byte
	at    time.Time
}

func newHalf(late func() time.Time) *half {
	h := &half{late: late}
	h.changed = sync.NewCond(&h.mu)
	return h
}

func (h *half) change(f func(*half)) {
	h.mu.Lock()
	defer h.mu.Unlock()
	f(h)
	h.changed.Broadcast()
}

// wait waits for a change, or until one of the times; the caller holds the lock.
func (h *half) wait(until ...time.Time) {
	for _, t := range until {
		if !t.IsZero() {
			timer := time.AfterFunc(time.Until(t), func() { h.change(func(*half) {}) })
			defer timer.Stop()
		}
	}
	h.changed.Wait()
}

func passed(t time.Time) bool { return !t.IsZero() && !time.Now().Before(t) }

func (h *half) read(b []byte) (int, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for {
		var next time.Time
		switch {
		case h.unread:
			return 0, net.ErrClosed
		case h.broken:
			return 0, syscall.ECONNRESET
		case passed(h.readBy):
			return 0, os.ErrDeadlineExceeded
		case h.stalled:
		case len(h.pieces) > 0 && passed(h.pieces[0].at):
			n := copy(b, h.pieces[0].bytes)
			if h.pieces[0].bytes = h.pieces[0].bytes[n:]; len(h.pieces[0].bytes) == 0 {
				h.pieces = h.pieces[1:]
			}
			h.size -= n
			h.changed.Broadcast()
			return n, nil
		case len(h.pieces) > 0:
			next = h.pieces[0].at
		case h.finished:
			return 0, io.EOF
		}
		h.wait(h.readBy, next)
	}
}

func (h *half) write(b []byte) (int, error) {
	at := h.late()
	h.mu.Lock()
	defer h.mu.Unlock()
	for {
		switch {
		case h.finished:
			return 0, net.ErrClosed
		case h.broken, h.unread:
			return 0, syscall.EPIPE
		case passed(h.writeBy):
			return 0, os.ErrDeadlineExceeded
		case h.size > 0 && h.size+len(b) > window:
			h.wait(h.writeBy)
			continue
		}
		if n := len(h.pieces); n > 0 && at.Before(h.pieces[n-1].at) {
			at = h.pieces[n-1].at // what was sent first arrives first
		}
		h.pieces = append(h.pieces, piece{append([]byte(nil), b...), at})
		h.size += len(b)
		h.changed.Broadcast()
		return len(b), nil
	}
}
