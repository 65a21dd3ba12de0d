package kv

import (
	"context"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"sync"
	"time"
)

// The waiting time before a connection is attempted again, doubled with each failure.
const (
	minBackoff = 100 * time.Millisecond
	maxBackoff = 10 * time.Second
	// shortLife is how long a connection must have lived not to count as one more failure.
	shortLife = time.Second
)

// Session holds one live [Client] of a node, shared by all who ask, and connects again when it is lost. All methods may be
// called from any goroutine.
type Session struct {
	ep     Endpoint
	bucket string
	log    *slog.Logger
	ctx    context.Context // ends with Close
	cancel context.CancelFunc
	wg     sync.WaitGroup

	mu       sync.Mutex
	client   *Client // may be dead
	since    time.Time
	failures int
	last     time.Time // of the last failure
	attempt  *attempt
	closed   bool
}

// attempt is one connection in the making, for all who wait for it.
type attempt struct {
	done   chan struct{}
	client *Client
	err    error
}

// NewSession makes a session that connects when it is first asked for a client. bucket may be empty. log may be nil.
func NewSession(ep Endpoint, bucket string, log *slog.Logger) *Session {
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	s := &Session{ep: ep, bucket: bucket, log: log.With("part", "session", "node", ep.Node, "bucket", bucket)}
	s.ctx, s.cancel = context.WithCancel(context.Background())
	return s
}

// Format names the node and the bucket, for every verb: package fmt would otherwise look into the fields.
func (s *Session) Format(f fmt.State, _ rune) {
	fmt.Fprintf(f, "session with %v of %q", s.ep, s.bucket)
}

// Client returns the live client, or makes one attempt to connect and returns its outcome; callers at the same time share
// it. After failures an attempt first waits, 100 ms doubling to 10 s, with jitter. An attempt goes on when ctx ends, for the
// next caller. After [Session.Close] the error wraps [ErrClosed].
func (s *Session) Client(ctx context.Context) (*Client, error) {
	s.mu.Lock()
	if s.closed {
		s.mu.Unlock()
		return nil, &closedError{node: s.ep.Node}
	}
	if s.alive() {
		defer s.mu.Unlock()
		return s.client, nil
	}
	if s.attempt == nil {
		a := &attempt{done: make(chan struct{})}
		s.attempt = a
		wait := s.backoff(time.Now())
		s.wg.Go(func() { s.connect(a, wait) })
	}
	a := s.attempt
	s.mu.Unlock()
	select {
	case <-a.done:
		return a.client, a.err
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
}

// alive reports whether the client can be used, and takes note of one that died young. s.mu is held.
func (s *Session) alive() bool {
	if s.client == nil {
		return false
	}
	select {
	case <-s.client.Done():
	default:
		return true
	}
	now := time.Now()
	if now.Sub(s.since) < shortLife {
		s.failures++
		s.last = now
	} else {
		s.failures = 0
	}
	s.log.Info("kv_disconnected", "err", s.client.Err())
	_ = s.client.Close() // its goroutines are on their way out
	s.client = nil
	return false
}

// backoff is how long to wait before the next attempt. s.mu is held.
func (s *Session) backoff(now time.Time) time.Duration {
	if s.failures == 0 {
		return 0
	}
	d := min(minBackoff<<min(s.failures-1, 16), maxBackoff)
	d = d/2 + rand.N(d/2+1)
	return max(0, d-now.Sub(s.last))
}

func (s *Session) connect(a *attempt, wait time.Duration) {
	timer := time.NewTimer(wait)
	defer timer.Stop()
	select {
	case <-timer.C:
		a.client, a.err = Connect(s.ctx, s.ep, s.bucket)
	case <-s.ctx.Done():
		a.err = &closedError{node: s.ep.Node}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	defer close(a.done)
	s.attempt = nil
	switch {
	case s.closed:
		if a.client != nil {
			_ = a.client.Close()
		}
		a.client, a.err = nil, &closedError{node: s.ep.Node}
	case a.err != nil:
		s.failures++
		s.last = time.Now()
		s.log.Info("kv_connect_failed", "err", a.err, "failures", s.failures)
	default:
		s.client, s.since = a.client, time.Now()
		s.log.Debug("kv_connected")
	}
}

// Reset closes the live client, if there is one: its calls fail, and the next one who asks gets a new connection.
func (s *Session) Reset() {
	s.mu.Lock()
	client := s.client
	s.client, s.failures = nil, 0
	s.mu.Unlock()
	if client != nil {
		_ = client.Close()
	}
}

// Close closes the live client and ends an attempt under way; whoever waits for it gets an error that wraps [ErrClosed]. It
// returns when all goroutines of the session have ended.
func (s *Session) Close() error {
	s.mu.Lock()
	s.closed = true
	client := s.client
	s.client = nil
	s.mu.Unlock()
	s.cancel()
	if client != nil {
		_ = client.Close()
	}
	s.wg.Wait()
	return nil
}
