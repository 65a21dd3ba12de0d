package kvnode

import (
	"errors"
	"fmt"
	"log/slog"
	"maps"
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
	// disk is nil without a directory; pace is how slow it is.
	disk *disk
	pace *pace
	// gone is closed by Close, and accepting ends then. What ends whenever the node goes down is in wg, and halted is closed
	// for it: another channel after each restart, which only what is in wg may read.
	gone      chan struct{}
	accepting sync.WaitGroup
	halted    chan struct{}
	wg        sync.WaitGroup

	gate   pauseGate
	paused atomic.Bool

	// life is held by who takes the node down or up; admin by who creates or deletes a bucket.
	life, admin sync.Mutex

	mu           sync.Mutex
	closed, down bool
	buckets      map[string]*bucket
	conns        map[*conn]struct{}
}

// Start listens and serves until Close. If the options name a directory, the buckets in it are there again; they may warm
// up for a while yet, see [Node.Warm]. The error is that of the options, of the listener or of the disk:
// [ErrDirectoryInUse] for example, or a [CorruptError].
func Start(opts Options) (node *Node, err error) {
	defer func() {
		if err != nil && opts.Listener != nil {
			err = errors.Join(err, opts.Listener.Close())
		}
	}()
	if err := opts.validate(); err != nil {
		return nil, err
	}
	n := &Node{
		opts:    opts,
		log:     opts.Log.With("part", "node", "node", opts.Name),
		scram:   newScramAccounts(opts),
		pace:    newPace(opts.DiskRate),
		gone:    make(chan struct{}),
		down:    true,
		buckets: map[string]*bucket{},
		conns:   map[*conn]struct{}{},
	}
	if err := n.start(); err != nil {
		return nil, fmt.Errorf("kvnode: node %q: %w", opts.Name, err)
	}
	n.log.Info("node_started", "addr", n.Addr())
	return n, nil
}

// start takes the directory and the port, and brings the node up.
func (n *Node) start() (err error) {
	if n.opts.Dir != "" {
		if n.disk, err = openDisk(n.opts.Dir, n.opts.DiskNoSync); err != nil {
			return err
		}
		defer func() {
			if err != nil {
				err = errors.Join(err, n.disk.close())
			}
		}()
	}
	if n.listener = n.opts.Listener; n.listener == nil {
		if n.listener, err = net.Listen("tcp", n.opts.Addr); err != nil {
			return err
		}
	}
	if err = n.bringUp(); err != nil {
		if n.opts.Listener == nil {
			err = errors.Join(err, n.listener.Close())
		}
		return err
	}
	n.accepting.Go(n.accept)
	return nil
}

// Addr is the address that the node listens on.
func (n *Node) Addr() string { return n.listener.Addr().String() }

// Name is the node's identity.
func (n *Node) Name() string { return n.opts.Name }

// Format names the node and its address, for every verb: package fmt would otherwise look into the fields.
func (n *Node) Format(f fmt.State, _ rune) { fmt.Fprintf(f, "node %s (%s)", n.Name(), n.Addr()) }

// Close stops the node for good: it is [Node.Stop], then it stops listening and gives its directory free. It returns when
// all of the node's goroutines have ended. A second Close does nothing.
func (n *Node) Close() error {
	n.life.Lock()
	defer n.life.Unlock()
	if n.isClosed() {
		return nil
	}
	err := n.takeDown(true)
	n.mu.Lock()
	n.closed = true
	n.mu.Unlock()
	close(n.gone)
	err = errors.Join(err, n.listener.Close())
	n.accepting.Wait()
	if n.disk != nil {
		err = errors.Join(err, n.disk.close())
	}
	return err
}

// CreateBucket creates a bucket with the default quota, ready for traffic. CREATE_BUCKET does the same over the wire. The
// error says that there is one of the name already, that the node is down, or what is wrong with the disk.
func (n *Node) CreateBucket(name string, vbuckets int) error {
	b, err := newBucket(n, name, vbuckets, 0, true)
	if err != nil {
		return err
	}
	n.life.Lock()
	defer n.life.Unlock()
	if status, err := n.addBucket(b); err != nil {
		return fmt.Errorf("kvnode: bucket %q: %w", name, err)
	} else if status != mcbp.StatusSuccess {
		return fmt.Errorf("kvnode: bucket %q: %w", name, status)
	}
	return nil
}

// VBuckets is how many vbuckets a bucket was created with; 0 if there is no such bucket.
func (n *Node) VBuckets(bucket string) int {
	if b := n.bucket(bucket); b != nil {
		return len(b.vbs)
	}
	return 0
}

// addBucket enters a new bucket. An error goes with a status that says less.
func (n *Node) addBucket(b *bucket) (mcbp.Status, error) {
	n.admin.Lock()
	defer n.admin.Unlock()
	if n.bucket(b.name) != nil {
		return mcbp.StatusKeyExists, nil
	}
	if n.isDown() {
		return mcbp.StatusTemporaryFailure, errDown
	}
	if err := b.createFile(); err != nil {
		return mcbp.StatusInternalError, err
	}
	n.mu.Lock()
	down := n.down
	if !down {
		n.buckets[b.name] = b
	}
	n.mu.Unlock()
	if down {
		return mcbp.StatusTemporaryFailure, errors.Join(errDown, b.removeFile())
	}
	n.log.Info("bucket_created", "bucket", b.name, "vbuckets", len(b.vbs))
	return mcbp.StatusSuccess, nil
}

func (n *Node) allBuckets() []*bucket {
	n.mu.Lock()
	defer n.mu.Unlock()
	return slices.Collect(maps.Values(n.buckets))
}

func (n *Node) bucket(name string) *bucket {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.buckets[name]
}

func (n *Node) bucketNames() string {
	n.mu.Lock()
	defer n.mu.Unlock()
	return strings.Join(slices.Sorted(maps.Keys(n.buckets)), " ")
}

// selectBucket makes the bucket of a name the connection's. It reports false if there is none.
func (n *Node) selectBucket(c *conn, name string) bool {
	n.mu.Lock() // deleteBucket sees who has selected it
	defer n.mu.Unlock()
	b := n.buckets[name]
	if b != nil {
		c.bucket.Store(b)
	}
	return b != nil
}

// deleteBucket removes a bucket and closes every connection that has selected it, except the one that asked, which has none then.
func (n *Node) deleteBucket(name string, asking *conn) mcbp.Status {
	n.admin.Lock()
	defer n.admin.Unlock()
	n.mu.Lock()
	b := n.buckets[name]
	delete(n.buckets, name)
	var selected []*conn
	for c := range n.conns {
		switch {
		case b == nil || c.bucket.Load() != b:
		case c != asking:
			selected = append(selected, c)
		case c.end() == nil: // shut closes it otherwise
			c.bucket.Store(nil)
		}
	}
	n.mu.Unlock()
	if b == nil {
		return mcbp.StatusKeyNotFound
	}
	err := b.shut()
	for _, c := range selected {
		c.close()
	}
	if err != nil {
		n.log.Error("bucket_not_removed", "bucket", name, "err", err)
		return mcbp.StatusInternalError
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
			case <-n.gone:
				return
			case <-time.After(acceptRetry):
			}
			continue
		}
		n.waitResumed(n.gone)
		c := newConn(n, n.wrap(socket))
		n.mu.Lock()
		if n.down {
			n.mu.Unlock()
			reset(socket)
			continue
		}
		n.conns[c] = struct{}{}
		n.wg.Go(c.serve)
		n.mu.Unlock()
	}
}

// reset closes a connection as a port does that nobody listens on.
func reset(socket net.Conn) {
	if tcp, ok := socket.(*net.TCPConn); ok {
		_ = tcp.SetLinger(0) // it is closed all the same
	}
	socket.Close()
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

// housekeep drives everything that happens because time passes. The next round of the expiry pager is an interval after paged.
func (n *Node) housekeep(done <-chan struct{}, paged time.Time) {
	ticker := time.NewTicker(tick)
	defer ticker.Stop()
	for {
		select {
		case <-done:
			return
		case now := <-ticker.C:
			if n.paused.Load() {
				continue
			}
			for _, c := range n.dcpConns() {
				c.end().tick(now)
			}
			n.expireSyncWrites()
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
