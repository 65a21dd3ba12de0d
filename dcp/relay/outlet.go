package relay

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"time"
)

// outlet is the writing end of one socket. Two goroutines write to it: the direction that leads there, and the one that
// writes injected frames while that direction is idle. Who holds the turn may write, and gives it up at a frame boundary
// only; whoever takes it writes the injected frames first, so that a busy direction cannot starve them.
type outlet struct {
	side    Side
	conn    net.Conn
	records bool // TLS: conn takes a record at a time, and is lost when a write times out
	stall   time.Duration
	limit   int

	turn   chan struct{} // holds a token while somebody writes; a channel, so that its waiters are first come, first served
	signal chan struct{} // says that something was injected

	accepted atomic.Uint64 // bytes the socket took

	// Guarded by the turn.
	deadline time.Time
	spare    []byte

	mu      sync.Mutex
	queue   []byte // injected, not yet taken by a writer
	flying  int    // injected bytes that a writer has taken and the socket has not accepted
	stopped bool
}

// keepQueue is the longest injection queue, in bytes, whose memory is kept for the next use.
const keepQueue = 4 << 10

func newOutlet(side Side, conn net.Conn, stall time.Duration, limit int) *outlet {
	_, records := conn.(*tls.Conn)
	return &outlet{
		side: side, conn: conn, records: records, stall: stall, limit: limit,
		turn: make(chan struct{}, 1), signal: make(chan struct{}, 1),
	}
}

func (o *outlet) inject(frames []byte) error {
	o.mu.Lock()
	defer o.mu.Unlock()
	switch {
	case o.stopped:
		return ErrStopped
	case len(o.queue)+o.flying+len(frames) > o.limit:
		return ErrInjectFull
	}
	o.queue = append(o.queue, frames...)
	select {
	case o.signal <- struct{}{}:
	default:
	}
	return nil
}

// wanted reports whether injected frames wait for the turn.
func (o *outlet) wanted() bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	return len(o.queue) > 0
}

// unwritten is how many injected bytes the socket has not accepted.
func (o *outlet) unwritten() int {
	o.mu.Lock()
	defer o.mu.Unlock()
	return len(o.queue) + o.flying
}

// close closes the socket. It does not block: under TLS the plain socket goes first, so that no closing alert waits for a
// peer that does not read.
func (o *outlet) close() {
	o.mu.Lock()
	o.stopped = true
	o.queue = nil
	o.mu.Unlock()
	if under, ok := o.conn.(interface{ NetConn() net.Conn }); ok {
		_ = under.NetConn().Close()
	}
	_ = o.conn.Close()
}

// writeInjected writes injected frames whenever there are some, until ctx ends or the socket fails.
func (o *outlet) writeInjected(ctx context.Context) error {
	for {
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-o.signal:
		}
		if err := o.takeWatched(ctx); err != nil {
			return err
		}
		o.give()
	}
}

// take waits for the turn and writes what is injected. After an error the turn is not held.
func (o *outlet) take(ctx context.Context) error {
	select {
	case o.turn <- struct{}{}:
		return o.taken()
	default:
	}
	select {
	case o.turn <- struct{}{}:
		return o.taken()
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// takeWatched is take for frames that nobody else watches over: if they cannot get their turn, because a frame before them
// is stuck half-way, and the socket accepts nothing meanwhile, it fails with [ErrStalled].
func (o *outlet) takeWatched(ctx context.Context) error {
	select {
	case o.turn <- struct{}{}:
		return o.taken()
	default:
	}
	ticker := time.NewTicker(o.stall / 8)
	defer ticker.Stop()
	accepted, waiting := o.accepted.Load(), time.Now()
	for {
		select {
		case o.turn <- struct{}{}:
			return o.taken()
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-ticker.C:
		}
		if now := o.accepted.Load(); now != accepted {
			accepted, waiting = now, time.Now()
		} else if time.Since(waiting) >= o.stall {
			return &Failure{Side: o.side, Err: ErrStalled}
		}
	}
}

func (o *outlet) taken() error {
	if err := o.drain(); err != nil {
		o.give()
		return err
	}
	return nil
}

// give ends the turn.
func (o *outlet) give() { <-o.turn }

// drain writes all that is injected. The caller holds the turn.
func (o *outlet) drain() error {
	for {
		o.mu.Lock()
		frames := o.queue
		if len(frames) == 0 {
			o.mu.Unlock()
			return nil
		}
		o.queue, o.flying = o.spare, len(frames)
		o.mu.Unlock()
		err := o.write(frames)
		o.spare = nil
		if cap(frames) <= keepQueue {
			o.spare = frames[:0]
		}
		o.mu.Lock()
		o.flying = 0
		o.mu.Unlock()
		if err != nil {
			return err
		}
	}
}

// tlsRecord is the most that is handed to a TLS connection at once, in bytes: one record.
const tlsRecord = 16 << 10

// write writes all of b, or returns a *[Failure]. The caller holds the turn.
func (o *outlet) write(b []byte) error {
	p := o.begin()
	for len(b) > 0 {
		piece := b
		if o.records {
			piece = b[:min(len(b), tlsRecord)]
		}
		if err := p.arm(); err != nil {
			return err
		}
		n, err := o.conn.Write(piece)
		b = b[n:]
		if err := p.judge(n, err); err != nil {
			return err
		}
	}
	return nil
}

// patience watches over one run of writes to an outlet: it finds out that the socket accepts nothing.
type patience struct {
	o            *outlet
	now, waiting time.Time // waiting: since when no byte has been accepted
}

func (o *outlet) begin() patience {
	now := time.Now()
	return patience{o: o, now: now, waiting: now}
}

// arm sets the deadline at which a write that is stuck returns to be judged: soon, so that the acceptance of single bytes is
// noticed. A TLS connection is lost when a write times out, so there one deadline for each record has to do. Setting a
// deadline is not free; one that is still good for half of its span is left alone.
func (p *patience) arm() error {
	o := p.o
	span := o.stall / 8
	limit := p.waiting.Add(o.stall)
	left := o.deadline.Sub(p.now)
	switch {
	case o.records && left >= o.stall:
		return nil
	case o.records:
		o.deadline = limit.Add(span)
	case left >= span/2 && !o.deadline.After(limit):
		return nil
	default:
		o.deadline = p.now.Add(span)
		if limit.Before(o.deadline) {
			o.deadline = limit
		}
	}
	if err := o.conn.SetWriteDeadline(o.deadline); err != nil {
		return &Failure{Side: o.side, Err: err}
	}
	return nil
}

// judge takes note of a write that was accepted in part or whole, and returns a *[Failure] if there must be no other.
func (p *patience) judge(n int, err error) error {
	p.o.accepted.Add(uint64(n))
	switch {
	case err == nil:
		if p.o.records {
			p.now = time.Now()
			p.waiting = p.now
		}
		return nil
	case !errors.Is(err, os.ErrDeadlineExceeded):
		return &Failure{Side: p.o.side, Err: err}
	}
	p.now = time.Now()
	switch {
	case p.o.records:
		return &Failure{Side: p.o.side, Err: ErrStalled}
	case n > 0:
		p.waiting = p.now
	case p.now.Sub(p.waiting) >= p.o.stall:
		return &Failure{Side: p.o.side, Err: ErrStalled}
	}
	return nil
}
