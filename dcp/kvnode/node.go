package kvnode

import (
	"errors"
	"fmt"
	"log/slog"
	"net"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/shearpin/shearpin/dcp/mcbp"
)

// Node is a running node. Its methods may be called from any goroutine.
type Node struct {
	opts     Options
	log      *slog.Logger
	listener net.Listener
	// config is the cluster configuration of connections that have selected no bucket.
	config atomic.Pointer[clusterConfig]
	// scram is the account in the terms of each SCRAM mechanism.
	scram map[string]*scramAccount
	done  chan struct{}
	wg    sync.WaitGroup

	mu      sync.Mutex
	closed  bool
	buckets map[string]*bucket
	conns   map[*conn]struct{}
}

// Start listens and serves until Close. The error is that of the options or of the listener.
func Start(opts Options) (*Node, error) {
	if err := opts.validate(); err != nil {
		return nil, err
	}
	listener, err := net.Listen("tcp", opts.Addr)
	if err != nil {
		return nil, fmt.Errorf("kvnode: node %q: %w", opts.Name, err)
	}
	n := &Node{
		opts:     opts,
		log:      opts.Log.With("part", "node", "node", opts.Name),
		listener: listener,
		scram:    newScramAccounts(opts),
		done:     make(chan struct{}),
		buckets:  map[string]*bucket{},
		conns:    map[*conn]struct{}{},
	}
	n.wg.Go(n.accept)
	n.wg.Go(n.housekeep)
	n.log.Info("node_started", "addr", n.Addr())
	return n, nil
}

// Addr is the address that the node listens on.
func (n *Node) Addr() string { return n.listener.Addr().String() }

// Name is the node's identity.
func (n *Node) Name() string { return n.opts.Name }

// Format names the node and its address, for every verb: package fmt would otherwise look into the fields.
func (n *Node) Format(f fmt.State, _ rune) { fmt.Fprintf(f, "node %s (%s)", n.Name(), n.Addr()) }

// Close stops listening, closes every connection and returns when all of the node's goroutines have ended. The documents
// are gone. A second Close does nothing.
func (n *Node) Close() error {
	n.mu.Lock()
	if n.closed {
		n.mu.Unlock()
		return nil
	}
	n.closed = true
	conns := make([]*conn, 0, len(n.conns))
	for c := range n.conns {
		conns = append(conns, c)
	}
	n.mu.Unlock()

	close(n.done)
	err := n.listener.Close()
	for _, c := range conns {
		c.close()
	}
	n.wg.Wait()
	n.log.Info("node_stopped")
	return err
}

// CreateBucket creates a bucket with the default quota, ready for traffic. CREATE_BUCKET does the same over the wire.
func (n *Node) CreateBucket(name string, vbuckets int) error {
	b, err := newBucket(n, name, vbuckets, 0, true)
	if err != nil {
		return err
	}
	if status := n.addBucket(b); status != mcbp.StatusSuccess {
		return fmt.Errorf("kvnode: bucket %q: %w", name, status)
	}
	return nil
}

func (n *Node) addBucket(b *bucket) mcbp.Status {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.buckets[b.name] != nil {
		return mcbp.StatusKeyExists
	}
	n.buckets[b.name] = b
	n.log.Info("bucket_created", "bucket", b.name, "vbuckets", len(b.vbs))
	return mcbp.StatusSuccess
}

func (n *Node) bucket(name string) *bucket {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.buckets[name]
}

func (n *Node) bucketNames() string {
	n.mu.Lock()
	defer n.mu.Unlock()
	names := make([]string, 0, len(n.buckets))
	for name := range n.buckets {
		names = append(names, name)
	}
	slices.Sort(names)
	return strings.Join(names, " ")
}

// deleteBucket removes a bucket and closes every connection that has selected it, except the one that asked.
func (n *Node) deleteBucket(name string, asking *conn) mcbp.Status {
	n.mu.Lock()
	b := n.buckets[name]
	delete(n.buckets, name)
	var selected []*conn
	for c := range n.conns {
		if c != asking && b != nil && c.bucket.Load() == b {
			selected = append(selected, c)
		}
	}
	n.mu.Unlock()
	if b == nil {
		return mcbp.StatusKeyNotFound
	}
	b.shut()
	for _, c := range selected {
		c.close()
	}
	n.log.Info("bucket_deleted", "bucket", name)
	return mcbp.StatusSuccess
}

func (n *Node) accept() {
	for {
		socket, err := n.listener.Accept()
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil {
			n.log.Warn("accept_failed", "err", err)
			select {
			case <-n.done:
				return
			case <-time.After(acceptRetry):
			}
			continue
		}
		c := newConn(n, socket)
		n.mu.Lock()
		if n.closed {
			n.mu.Unlock()
			socket.Close()
			return
		}
		n.conns[c] = struct{}{}
		n.wg.Go(c.serve)
		n.mu.Unlock()
	}
}

// acceptRetry is the pause after a failed accept, such as for want of file descriptors.
const acceptRetry = 50 * time.Millisecond

func (n *Node) forget(c *conn) {
	n.mu.Lock()
	defer n.mu.Unlock()
	delete(n.conns, c)
}

// tick is the resolution of NOOPs, buffer acks and idle limits.
const tick = 50 * time.Millisecond

// housekeep drives everything on DCP connections that happens because time passes.
func (n *Node) housekeep() {
	ticker := time.NewTicker(tick)
	defer ticker.Stop()
	paged := n.opts.Now()
	for {
		select {
		case <-n.done:
			return
		case now := <-ticker.C:
			for _, c := range n.dcpConns() {
				c.end().tick(now)
			}
			if now := n.opts.Now(); now.Sub(paged) >= n.opts.ExpiryInterval {
				paged = now
				n.page(now)
			}
		}
	}
}

func (n *Node) dcpConns() []*conn {
	n.mu.Lock()
	defer n.mu.Unlock()
	var list []*conn
	for c := range n.conns {
		if c.end() != nil {
			list = append(list, c)
		}
	}
	return list
}
