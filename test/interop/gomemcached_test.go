package interop

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/couchbase/gomemcached"
	memcached "github.com/couchbase/gomemcached/client"
	"github.com/stretchr/testify/require"
)

// gomemcached is a client of one node, and knows nothing of maps: who uses it follows them himself, as we do here. The nodes hand
// out the map.

// memcachedMap says where the actives are.
type memcachedMap struct {
	Revision int64 `json:"rev"`
	VBuckets struct {
		Servers []string `json:"serverList"`
		Map     [][]int  `json:"vBucketMap"`
	} `json:"vBucketServerMap"`
}

func (m *memcachedMap) active(vb uint16) string { return m.VBuckets.Servers[m.VBuckets.Map[vb][0]] }

// mapBook is the newest map that any node has told of.
type mapBook struct {
	mu     sync.Mutex
	newest memcachedMap
}

func (b *mapBook) learn(text []byte) error {
	var m memcachedMap
	if err := json.Unmarshal(text, &m); err != nil {
		return err
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if m.Revision > b.newest.Revision {
		b.newest = m
	}
	return nil
}

func (b *mapBook) active(vb uint16) string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.newest.active(vb)
}

// login is one of the ways in that gomemcached has.
type login func(c *memcached.Client, user, password string) (*gomemcached.MCResponse, error)

// memcachedConn logs in, and learns what the node knows of the map.
func memcachedConn(addr string, auth login, book *mapBook) (*memcached.Client, error) {
	c, err := memcached.Connect("tcp", addr)
	if err != nil {
		return nil, err
	}
	_, err = auth(c, user, password)
	if err == nil {
		_, err = c.SelectBucket(bucketName)
	}
	if err == nil {
		_, err = c.EnableFeatures(memcached.Features{memcached.FeatureMutationToken, memcached.FeatureXerror, memcached.FeatureCollections})
	}
	if err == nil {
		err = learnMap(c, book)
	}
	if err != nil {
		return nil, errors.Join(err, c.Close())
	}
	return c, nil
}

// learnMap asks for the cluster configuration, a command that gomemcached has no name for.
func learnMap(c *memcached.Client, book *mapBook) error {
	r, err := c.Send(&gomemcached.MCRequest{Opcode: 0xb5})
	if err != nil {
		return err
	}
	return book.learn(r.Body)
}

// memcachedClient has a connection to each node, which one at a time may use.
type memcachedClient struct {
	w    *world
	book mapBook

	mu    sync.Mutex
	conns map[string]*sharedConn
}

type sharedConn struct {
	mu sync.Mutex
	c  *memcached.Client
}

func (w *world) memcachedClient() *memcachedClient {
	w.t.Helper()
	m := &memcachedClient{w: w, conns: map[string]*sharedConn{}}
	_, err := m.conn(w.seeds()[0])
	require.NoError(w.t, err)
	w.t.Cleanup(func() {
		for _, s := range m.conns {
			_ = s.c.Close()
		}
	})
	return m
}

func (m *memcachedClient) conn(addr string) (*sharedConn, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if s := m.conns[addr]; s != nil {
		return s, nil
	}
	c, err := memcachedConn(addr, (*memcached.Client).AuthScramSha, &m.book)
	if err != nil {
		return nil, err
	}
	s := &sharedConn{c: c}
	m.conns[addr] = s
	return s, nil
}

// learn asks a node that is there all the time for its map.
func (m *memcachedClient) learn() error {
	s, err := m.conn(m.w.nodes["n1"].Addr())
	if err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return learnMap(s.c, &m.book)
}

// onActive asks the active of a key's vbucket, again as long as it has moved or is about to.
func (m *memcachedClient) onActive(key string, ask func(c *memcached.Client, vb uint16) (*gomemcached.MCResponse, error)) (*gomemcached.MCResponse, error) {
	vb := vbucketOf(key)
	for m.w.ctx.Err() == nil {
		s, err := m.conn(m.book.active(vb))
		if err != nil {
			return nil, err
		}
		s.mu.Lock()
		r, err := ask(s.c, vb)
		s.mu.Unlock()
		switch {
		case r != nil && r.Status == gomemcached.NOT_MY_VBUCKET:
			if err := m.book.learn(r.Body); err != nil {
				return nil, fmt.Errorf("the map of vb %d: %w", vb, err)
			}
		case r != nil && r.Status == gomemcached.TMPFAIL:
		default:
			return r, err
		}
	}
	return nil, m.w.ctx.Err()
}

func (m *memcachedClient) set(key, value string) error {
	r, err := m.onActive(key, func(c *memcached.Client, vb uint16) (*gomemcached.MCResponse, error) {
		return c.Set(vb, key, 0, 0, []byte(value), &memcached.ClientContext{})
	})
	if err == nil && len(r.Extras) != 16 {
		return errors.New("no mutation token")
	}
	return err
}

func (m *memcachedClient) remove(key string) error {
	_, err := m.onActive(key, func(c *memcached.Client, vb uint16) (*gomemcached.MCResponse, error) {
		return c.Del(vb, key, &memcached.ClientContext{})
	})
	return err
}

func (m *memcachedClient) get(key string) (value string, found bool, err error) {
	r, err := m.onActive(key, func(c *memcached.Client, vb uint16) (*gomemcached.MCResponse, error) {
		return c.Get(vb, key, &memcached.ClientContext{})
	})
	if r != nil && r.Status == gomemcached.KEY_ENOENT {
		return "", false, nil
	}
	if err != nil {
		return "", false, err
	}
	return string(r.Body), true, nil
}

// uprConsumer follows all vbuckets with one UprFeed per node. A feed ends when a node refuses a stream, and all its streams with
// it: then they are opened again, wherever their vbuckets are.
type uprConsumer struct {
	*tracker
	*memcachedClient
	w    *world
	name string
	// ended has room for every vbucket: each has at most one stream, or request for one.
	ended chan endedStream

	feedsMu sync.Mutex
	feeds   map[string]*uprNode
	stop    chan struct{}
	all     sync.WaitGroup
}

// endedStream is a vbucket without a stream, and the address of the node that has ended it because its copy is no active any more.
type endedStream struct {
	vb   uint16
	from string
}

// uprNode is the feed from one node, and the vbuckets that it is asked for.
type uprNode struct {
	addr string
	conn *memcached.Client
	feed *memcached.UprFeed
	vbs  map[uint16]bool
}

func (w *world) uprConsumer(name string) *uprConsumer {
	w.t.Helper()
	u := &uprConsumer{
		tracker: newTracker(), memcachedClient: w.memcachedClient(), w: w, name: name, feeds: map[string]*uprNode{},
		ended: make(chan endedStream, vbuckets), stop: make(chan struct{}),
	}
	for vb := range uint16(vbuckets) {
		u.ended <- endedStream{vb: vb}
	}
	u.all.Go(u.run)
	w.t.Cleanup(func() {
		close(u.stop)
		u.feedsMu.Lock()
		for _, n := range u.feeds {
			n.feed.Close()
			_ = n.conn.Close()
		}
		u.feedsMu.Unlock()
		u.all.Wait()
	})
	return u
}

// run opens streams until it is stopped.
func (u *uprConsumer) run() {
	for {
		select {
		case e := <-u.ended:
			if err := u.awaitMove(e); err != nil {
				u.failf("vb %d: %v", e.vb, err)
			}
			u.open(e.vb)
		case <-u.stop:
			return
		}
	}
}

func (u *uprConsumer) stopped() bool {
	select {
	case <-u.stop:
		return true
	default:
		return false
	}
}

// awaitMove waits until the nodes tell of another active than the one that was, which they do soon after.
func (u *uprConsumer) awaitMove(e endedStream) error {
	for u.w.ctx.Err() == nil {
		if err := u.learn(); err != nil {
			return err
		}
		if u.book.active(e.vb) != e.from {
			return nil
		}
		select {
		case <-time.After(time.Millisecond):
		case <-u.stop:
			return nil
		}
	}
	return u.w.ctx.Err()
}

func (u *uprConsumer) open(vb uint16) {
	u.feedsMu.Lock()
	defer u.feedsMu.Unlock()
	if u.stopped() {
		return
	}
	n, err := u.node(u.book.active(vb))
	if err != nil {
		u.failf("vb %d: %v", vb, err)
		return
	}
	n.vbs[vb] = true
	r := u.resume(vb)
	const activeOnly = 0x10
	// If it fails, then because the feed has ended, which has the stream opened again.
	_ = n.feed.UprRequestStream(vb, 0, activeOnly, r.uuid, r.start, ^uint64(0), r.snapStart, r.snapEnd)
}

// node is the feed from a node. The caller holds feedsMu.
func (u *uprConsumer) node(addr string) (*uprNode, error) {
	if n := u.feeds[addr]; n != nil {
		return n, nil
	}
	c, err := memcachedConn(addr, (*memcached.Client).Auth, &u.book)
	if err != nil {
		return nil, err
	}
	feed, err := c.NewUprFeed()
	if err == nil {
		err = feed.UprOpen(u.name, 0, 64<<10)
	}
	if err == nil {
		err = feed.StartFeed()
	}
	if err != nil {
		return nil, errors.Join(err, c.Close())
	}
	n := &uprNode{addr: addr, conn: c, feed: feed, vbs: map[uint16]bool{}}
	u.feeds[addr] = n
	u.all.Go(func() { u.follow(n) })
	return n, nil
}

// follow takes what a feed brings until it ends.
func (u *uprConsumer) follow(n *uprNode) {
	for e := range n.feed.C {
		u.event(n, e)
	}
	u.feedsMu.Lock()
	defer u.feedsMu.Unlock()
	_ = n.conn.Close()
	if u.stopped() {
		return
	}
	delete(u.feeds, n.addr)
	for vb := range n.vbs {
		u.ended <- endedStream{vb: vb}
	}
}

func (u *uprConsumer) event(n *uprNode, e *memcached.UprEvent) {
	switch e.Opcode {
	case gomemcached.UPR_STREAMREQ:
		u.answered(n, e)
	case gomemcached.UPR_SNAPSHOT:
		u.marker(e.VBucket, e.SnapstartSeq, e.SnapendSeq)
	case gomemcached.UPR_MUTATION:
		u.document(e.VBucket, string(e.Key), version{seqno: e.Seqno})
	case gomemcached.UPR_DELETION:
		u.document(e.VBucket, string(e.Key), version{seqno: e.Seqno, deleted: true})
	case gomemcached.UPR_STREAMEND:
		u.done(n, endedStream{e.VBucket, n.addr})
	default:
		u.failf("vb %d: %v", e.VBucket, e.Opcode)
	}
}

func (u *uprConsumer) answered(n *uprNode, e *memcached.UprEvent) {
	switch e.Status {
	case gomemcached.SUCCESS:
		log := make([]entry, len(*e.FailoverLog))
		for i, pair := range *e.FailoverLog {
			log[i] = entry{pair[0], pair[1]}
		}
		u.opened(e.VBucket, log)
	case gomemcached.ROLLBACK:
		u.rollback(e.VBucket, binary.BigEndian.Uint64(e.Value))
		u.done(n, endedStream{vb: e.VBucket})
	default:
		u.failf("vb %d: status %v", e.VBucket, e.Status) // a feed does not tell of refusals: it ends
	}
}

// done has a stream of a living feed opened again.
func (u *uprConsumer) done(n *uprNode, e endedStream) {
	u.feedsMu.Lock()
	defer u.feedsMu.Unlock()
	if n.vbs[e.vb] {
		delete(n.vbs, e.vb)
		u.ended <- e
	}
}

func TestUprFeedSeesEverySeqno(t *testing.T) {
	w := newWorld(t)
	consumer := w.uprConsumer("interop-upr")
	c := w.memcachedClient()
	written := w.writeThroughRebalances(c)
	w.requireWritten(c, written)
	w.requireFollowed(consumer.tracker)
	w.requireLate(w.uprConsumer("interop-upr-late").tracker)
}

func TestUprFeedRollsBackAfterAFailover(t *testing.T) {
	w := newWorld(t)
	w.failover(w.uprConsumer("interop-upr").tracker, w.memcachedClient())
}
