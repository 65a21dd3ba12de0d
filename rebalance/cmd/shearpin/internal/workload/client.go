package workload

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net"
	"sync"
	"time"

	"github.com/shearpin/shearpin/dcp/kv"
	"github.com/shearpin/shearpin/dcp/mcbp"
)

// attemptLimit is how long one request may stay unanswered before its connection is given up.
const attemptLimit = 10 * time.Second

// ClientOptions say how to reach a bucket.
type ClientOptions struct {
	Bucket      string
	Credentials kv.Credentials
	// Seeds are addresses of nodes to ask for the first configuration; one that answers is enough.
	Seeds []string
	// Dial makes the connections; nil is a net.Dialer.
	Dial func(ctx context.Context, network, addr string) (net.Conn, error)
	Log  *slog.Logger
}

// Format names the bucket, the user and the seeds, for every verb: the password would be found among the fields.
func (o ClientOptions) Format(f fmt.State, _ rune) {
	fmt.Fprintf(f, "client of %q (%v, %v)", o.Bucket, o.Credentials, o.Seeds)
}

// Client reads and writes documents of one bucket on whichever node is active for each key. It has one connection per
// node and may be used by any number of goroutines.
type Client struct {
	opts *ClientOptions // holds a password: behind a pointer, formatting does not find it

	// mu guards what follows. It is never held while a node is waited for.
	mu sync.Mutex
	// config is the newest configuration seen, raw its text; nil before the first.
	config *Config
	raw    []byte
	nodes  map[string]*kv.Session
	closed bool

	// fetching lets one goroutine at a time ask for a configuration.
	fetching chan struct{}
}

// UnansweredError is a write that was sent and not answered: it may have been carried out, may be carried out yet, or
// may be lost.
type UnansweredError struct{ Err error }

func (e *UnansweredError) Error() string { return fmt.Sprintf("write was not answered: %v", e.Err) }

func (e *UnansweredError) Unwrap() error { return e.Err }

// ErrClientClosed refuses the use of a closed [Client].
var ErrClientClosed = errors.New("client is closed")

// NewClient connects when it is first used.
func NewClient(opts ClientOptions) *Client {
	return &Client{opts: &opts, nodes: make(map[string]*kv.Session), fetching: make(chan struct{}, 1)}
}

// Close ends all connections. What is in flight fails.
func (c *Client) Close() {
	c.mu.Lock()
	c.closed = true
	nodes := c.nodes
	c.nodes = nil
	c.mu.Unlock()
	for _, node := range nodes {
		_ = node.Close() // never fails
	}
}

// Get reads a document until some node answers as its active, or ctx ends. A document that does not exist is an error
// that wraps [mcbp.StatusKeyNotFound].
func (c *Client) Get(ctx context.Context, key string) (value []byte, cas uint64, err error) {
	err = c.follow(ctx, key, true, func(ctx context.Context, node *kv.Client, vb uint16) error {
		item, err := node.Get(ctx, vb, key)
		value, cas = item.Value, item.CAS
		return err
	})
	return value, cas, err
}

// Set replaces a document that has that CAS; with cas 0 it adds one that must not exist yet. It tries until the active
// node has answered, or ctx ends. Refusals of the condition wrap [mcbp.StatusKeyExists] or [mcbp.StatusKeyNotFound]. Once
// a request may have reached a node without being answered, it fails at once with an [*UnansweredError].
func (c *Client) Set(ctx context.Context, key string, value []byte, cas uint64) (newCAS uint64, err error) {
	err = c.follow(ctx, key, false, func(ctx context.Context, node *kv.Client, vb uint16) error {
		var token kv.MutationToken
		var err error
		if cas == 0 {
			token, err = node.Add(ctx, vb, key, value, 0, 0)
		} else {
			token, err = node.Set(ctx, vb, key, value, cas, 0, 0)
		}
		newCAS = token.CAS
		return err
	})
	return newCAS, err
}

// follow runs op on the active of key's vbucket, and again on the right one when the map has changed. With repeat, an
// unanswered op is tried again.
func (c *Client) follow(ctx context.Context, key string, repeat bool, op func(context.Context, *kv.Client, uint16) error) error {
	var wait backoff
	var last error
	for {
		if ctx.Err() != nil {
			return gaveUp(ctx, key, last)
		}
		config, err := c.current(ctx)
		if err != nil {
			return err
		}
		vb := VBucketOf(key, config.VBuckets())
		addr, ok := config.Active(vb)
		if !ok {
			last = fmt.Errorf("vbucket %d has no active", vb)
			c.refresh(ctx, config, c.anyNode(config))
			wait.pause(ctx)
			continue
		}
		node, session, err := c.connect(ctx, addr)
		if errors.Is(err, ErrClientClosed) {
			return err
		}
		if err != nil {
			last = err
			c.refresh(ctx, config, c.anyNode(config))
			wait.pause(ctx)
			continue
		}

		attempt, cancel := context.WithTimeout(ctx, attemptLimit)
		err = op(attempt, node, vb)
		silent := attempt.Err() != nil && ctx.Err() == nil
		cancel()
		var status *kv.StatusError
		switch {
		case err == nil:
			return nil
		case !errors.As(err, &status):
			if silent {
				session.Reset()
			}
			if !repeat {
				return &UnansweredError{Err: err}
			}
			last = err
		case errors.Is(err, mcbp.StatusNotMyVBucket):
			last = err
			if c.newerThan(config, status.Config, addr) || c.refreshFrom(ctx, config, addr, node) {
				continue
			}
			c.refresh(ctx, config, c.anyNode(config))
		case temporary(status.Status):
			last = err
		default:
			return err
		}
		wait.pause(ctx)
	}
}

// gaveUp is the error of a client whose time ran out.
func gaveUp(ctx context.Context, key string, last error) error {
	if last == nil {
		return fmt.Errorf("%s: %w", key, context.Cause(ctx))
	}
	return fmt.Errorf("%s: %w; the last answer: %w", key, context.Cause(ctx), last)
}

// temporary says that the same node may accept the same request a little later. It has not carried it out.
func temporary(s mcbp.Status) bool {
	switch s {
	case mcbp.StatusTemporaryFailure, mcbp.StatusBusy, mcbp.StatusNoMemory, mcbp.StatusNoBucket:
		return true
	}
	return false
}

// connect returns the connection to a node and the session that it belongs to.
func (c *Client) connect(ctx context.Context, addr string) (*kv.Client, *kv.Session, error) {
	c.mu.Lock()
	if c.closed {
		c.mu.Unlock()
		return nil, nil, ErrClientClosed
	}
	session := c.nodes[addr]
	if session == nil {
		endpoint := kv.Endpoint{Node: addr, Addr: addr, Credentials: c.opts.Credentials, Dial: c.opts.Dial}
		session = kv.NewSession(endpoint, c.opts.Bucket, c.opts.Log)
		c.nodes[addr] = session
	}
	c.mu.Unlock()

	ctx, cancel := context.WithTimeout(ctx, attemptLimit)
	defer cancel()
	node, err := session.Client(ctx)
	return node, session, err
}

// current returns the newest configuration, and fetches the first from any seed that answers.
func (c *Client) current(ctx context.Context) (*Config, error) {
	var wait backoff
	for at := 0; ; at++ {
		config, closed := c.latest()
		switch {
		case closed:
			return nil, ErrClientClosed
		case config != nil:
			return config, nil
		case ctx.Err() != nil:
			return nil, fmt.Errorf("first configuration: %w", context.Cause(ctx))
		case len(c.opts.Seeds) == 0:
			return nil, errors.New("first configuration: no node to ask")
		}
		c.refresh(ctx, nil, c.opts.Seeds[at%len(c.opts.Seeds)])
		if config, _ = c.latest(); config == nil {
			wait.pause(ctx)
		}
	}
}

func (c *Client) latest() (config *Config, closed bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.config, c.closed
}

// anyNode picks a node that may know a newer configuration, at random.
func (c *Client) anyNode(config *Config) string {
	addrs := config.Addrs()
	if len(addrs) == 0 {
		addrs = c.opts.Seeds
	}
	return addrs[rand.IntN(len(addrs))]
}

// refresh asks the node at addr for its configuration, unless one newer than old is already there. Failures are left to
// the caller's next attempt.
func (c *Client) refresh(ctx context.Context, old *Config, addr string) {
	node, _, err := c.connect(ctx, addr)
	if err == nil {
		c.refreshFrom(ctx, old, addr, node)
	}
}

// refreshFrom asks node, the one at addr, and says whether there is a configuration newer than old now.
func (c *Client) refreshFrom(ctx context.Context, old *Config, addr string, node *kv.Client) bool {
	select {
	case c.fetching <- struct{}{}:
		defer func() { <-c.fetching }()
	case <-ctx.Done():
		return false
	}
	if c.newerThan(old, nil, addr) {
		return true
	}
	ctx, cancel := context.WithTimeout(ctx, attemptLimit)
	defer cancel()
	raw, err := node.ClusterConfig(ctx)
	if err != nil {
		return false
	}
	return c.newerThan(old, raw, addr)
}

// newerThan adopts raw, which the node at addr has sent, and says whether there is a configuration newer than old now.
func (c *Client) newerThan(old *Config, raw []byte, addr string) bool {
	if len(raw) > 0 {
		c.adopt(raw, addr)
	}
	config, _ := c.latest()
	return config != nil && config.NewerThan(old)
}

// adopt takes over a configuration that the node at addr has sent, if it is newer. One that cannot be read is as good as
// none: the node, or another one, will be asked again.
func (c *Client) adopt(raw []byte, addr string) {
	c.mu.Lock()
	same := bytes.Equal(raw, c.raw)
	c.mu.Unlock()
	if same {
		return
	}
	host, _, err := net.SplitHostPort(addr)
	if err != nil {
		return
	}
	config, err := ParseConfig(raw, host)
	if err != nil {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if config.NewerThan(c.config) {
		c.config, c.raw = config, raw
	}
}
