package rebalance

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"time"

	"github.com/shearpin/shearpin/actors"
	"github.com/shearpin/shearpin/rebalance/store"
)

// publisher brings the maps of all buckets to their nodes, which hand them to clients. Changes that come while one is
// under way go out together. Nodes take a configuration that is older than the one they have (kv-observed), so each node has
// one sender at a time, whichever publisher it belongs to, and revisions are those of the store, which only grow. What a
// sender left on the wire when it gave up may still arrive after its successor's, which is therefore sent once more later.
//
// The list of nodes, which clients get before they have chosen a bucket, is published in the same way, as that of the bucket
// without a name.
type publisher struct {
	actors.Base
	env     *environment
	log     *slog.Logger
	buckets map[string]*publication
}

// publication is one bucket's way out.
type publication struct {
	// reading says that the map is being read from the store; again that it has to be read once more after that.
	reading, again bool
	// newest is what was read last.
	newest  publishable
	lanes   map[string]*lane
	waiters []*publishWaiter
}

// lane is one node's way to get the configuration.
type lane struct {
	connection nodeKV
	latest     publishable
	sent       int64
	sending    bool
	// doubtful says that an attempt was abandoned whose configuration may yet arrive: this publisher's own, or one of the
	// publisher before it.
	doubtful bool
	// leaving says that the node is no server any more: it is told of latest and then of nothing.
	leaving bool
}

// publishable is a configuration that can be sent.
type publishable struct {
	revision int64
	config   []byte
	servers  []string
}

// publishWaiter waits until every server has got, or been tried with, a revision that was read after it came.
type publishWaiter struct {
	answer *publishAnswer
	// revision is 0 until the map has been read for it.
	revision int64
	left     []string
	failed   *NodesError
}

// publishAnswer is owed to a caller, once all it waits for has come to an end.
type publishAnswer struct {
	from actors.From
	open int
	err  error
}

func (a *publishAnswer) settle(err error) {
	a.open--
	if a.err == nil {
		a.err = err
	}
	switch {
	case a.open > 0:
	case a.err != nil:
		a.from.Fail(a.err)
	default:
		a.from.Reply(nil)
	}
}

// publishRetry is the pause before a node that refused or did not answer is tried again.
const publishRetry = time.Second

// publishLimit bounds one attempt.
const publishLimit = 10 * time.Second

// publishMap is cast when a bucket's map has changed, or called by who wants to know that the nodes have it.
type publishMap struct{ bucket string }

type (
	mapRead struct {
		bucket string
		ready  publishable
		err    error
	}
	mapSent struct {
		bucket, node string
		revision     int64
		err          error
	}
	retryLane struct{ bucket, node string }
	// repeatLane is told once no abandoned attempt can arrive any more.
	repeatLane struct{ bucket, node string }
)

func newPublisher(e *environment) *publisher {
	return &publisher{env: e, log: e.log("publisher"), buckets: map[string]*publication{}}
}

func (p *publisher) HandleCall(c *actors.Context, from actors.From, msg any) error {
	m, ok := msg.(publishMap)
	if !ok {
		return p.Base.HandleCall(c, from, msg)
	}
	answer := &publishAnswer{from: from, open: 2}
	for _, bucket := range []string{m.bucket, nodeList} {
		pub := p.publication(bucket)
		pub.waiters = append(pub.waiters, &publishWaiter{answer: answer, failed: &NodesError{Doing: "publishing the map"}})
		p.read(c, bucket, pub)
	}
	return nil
}

func (p *publisher) HandleCast(c *actors.Context, msg any) error {
	m, ok := msg.(publishMap)
	if !ok {
		return p.Base.HandleCast(c, msg)
	}
	p.read(c, m.bucket, p.publication(m.bucket))
	return nil
}

func (p *publisher) publication(bucket string) *publication {
	pub := p.buckets[bucket]
	if pub == nil {
		pub = &publication{lanes: map[string]*lane{}}
		p.buckets[bucket] = pub
	}
	return pub
}

func (p *publisher) read(c *actors.Context, bucket string, pub *publication) {
	if pub.reading {
		pub.again = true
		return
	}
	pub.reading = true
	// Who comes from now on waits for the next reading: this one may have begun before their change.
	for _, w := range pub.waiters {
		if w.revision == 0 {
			w.revision = -1
		}
	}
	env := p.env
	c.Go(func(ctx context.Context) any {
		ready, err := readConfig(ctx, env, bucket)
		return mapRead{bucket, ready, err}
	})
}

func readConfig(ctx context.Context, env *environment, bucket string) (publishable, error) {
	if bucket == nodeList {
		return readNodeList(ctx, env)
	}
	doc, err := env.buckets.Get(ctx, bucket)
	if err != nil {
		return publishable{}, err
	}
	// Nodes on their way out are still in the map; nodes without a copy keep telling clients who has them.
	nodes, err := env.nodes.named(doc.Servers)
	if err != nil {
		return publishable{}, err
	}
	config, err := clusterConfig{
		Bucket: doc.Name, UUID: doc.UUID, Revision: int64(doc.Revision), Replicas: doc.Replicas,
		Servers: nodes, Map: doc.Map, Target: doc.Target,
	}.encode()
	return publishable{revision: int64(doc.Revision), config: config, servers: doc.Servers}, err
}

// readNodeList makes the configuration without a bucket: the servers of all buckets, as new as the newest of them.
func readNodeList(ctx context.Context, env *environment) (ready publishable, err error) {
	docs, err := env.buckets.List(ctx)
	if err != nil {
		return publishable{}, err
	}
	serving := map[string]bool{}
	for _, doc := range docs {
		ready.revision = max(ready.revision, int64(doc.Revision))
		for _, server := range doc.Servers {
			serving[server] = true
		}
	}
	var nodes []Node
	for _, node := range env.nodes.all() {
		if serving[node.Name] {
			nodes = append(nodes, node)
			ready.servers = append(ready.servers, node.Name)
		}
	}
	ready.config, err = encodeNodeList(ready.revision, nodes)
	return ready, err
}

func (p *publisher) HandleInfo(c *actors.Context, msg any) error {
	switch m := msg.(type) {
	case mapRead:
		p.mapRead(c, m)
	case mapSent:
		p.mapSent(c, m)
	case publishMap:
		p.read(c, m.bucket, p.publication(m.bucket))
	case retryLane:
		pub := p.publication(m.bucket)
		if l := pub.lanes[m.node]; l != nil {
			p.send(c, m.bucket, m.node, l)
		}
	case repeatLane:
		if l := p.publication(m.bucket).lanes[m.node]; l != nil {
			l.sent = 0
			p.send(c, m.bucket, m.node, l)
		}
	default:
		return p.Base.HandleInfo(c, msg)
	}
	return nil
}

func (p *publisher) mapRead(c *actors.Context, m mapRead) {
	pub := p.publication(m.bucket)
	pub.reading = false
	if m.err != nil {
		p.readFailed(c, pub, m)
	} else {
		p.fresh(c, m.bucket, pub, m.ready)
	}
	if pub.again {
		pub.again = false
		p.read(c, m.bucket, pub)
	}
}

func (p *publisher) readFailed(c *actors.Context, pub *publication, m mapRead) {
	pub.waiters = slices.DeleteFunc(pub.waiters, func(w *publishWaiter) bool {
		if w.revision != -1 {
			return false
		}
		w.answer.settle(m.err)
		return true
	})
	if errors.Is(m.err, store.ErrNotFound) {
		return
	}
	p.log.Warn("map_not_read", "bucket", m.bucket, "err", m.err)
	c.SendAfter(publishRetry, publishMap{m.bucket})
}

// fresh takes what was read. The list of nodes is only as new as its last change: every move of a vbucket makes a bucket newer,
// and is no news to who has chosen none.
func (p *publisher) fresh(c *actors.Context, bucket string, pub *publication, ready publishable) {
	changed := !slices.Equal(ready.servers, pub.newest.servers)
	if bucket == nodeList && !changed {
		ready = pub.newest
	}
	pub.newest = ready
	p.fanOut(c, bucket, pub, ready)
	if bucket != nodeList && changed {
		p.read(c, nodeList, p.publication(nodeList))
	}
}

// fanOut gives every server the configuration. A node that was one keeps the last map that it was in, which says where everything is:
// NOT_MY_VBUCKET brings the map, and if the node is not in it gocbcore closes the connection on which it is just learning, and never
// gets over that. The list of nodes comes in no such answer; a node that was a server is told of it once more, whoever asks it.
func (p *publisher) fanOut(c *actors.Context, bucket string, pub *publication, ready publishable) {
	for _, node := range ready.servers {
		if pub.lanes[node] != nil {
			continue
		}
		connection, err := p.env.connect(node, bucket)
		if err != nil {
			p.log.Warn("map_not_published", "bucket", bucket, "node", node, "err", err)
			continue
		}
		closeWith(c, connection)
		pub.lanes[node] = &lane{connection: connection, doubtful: true}
	}
	for _, w := range pub.waiters {
		if w.revision == -1 {
			w.revision, w.left = ready.revision, slices.Clone(ready.servers)
		}
	}
	for node, l := range pub.lanes {
		l.leaving = !slices.Contains(ready.servers, node)
		if !l.leaving || bucket == nodeList {
			l.latest = ready
			p.send(c, bucket, node, l)
		} else if !l.sending {
			pub.drop(node)
		}
	}
	p.answerWaiters(pub)
}

// drop ends the way to a node.
func (pub *publication) drop(node string) {
	_ = pub.lanes[node].connection.Close()
	delete(pub.lanes, node)
}

func (p *publisher) send(c *actors.Context, bucket, node string, l *lane) {
	if l.sending || l.sent >= l.latest.revision {
		p.tell(p.publication(bucket), mapSent{bucket: bucket, node: node, revision: l.sent})
		return
	}
	l.sending = true
	connection, ready, turns := l.connection, l.latest, &p.env.publishing
	c.Go(func(ctx context.Context) any {
		_, err := within(ctx, publishLimit, func(ctx context.Context) (struct{}, error) {
			done, err := turns.take(ctx, lanePlace{bucket, node})
			if err != nil {
				return struct{}{}, err
			}
			defer done()
			return struct{}{}, connection.SetClusterConfig(ctx, bucket, configEpoch, ready.revision, ready.config)
		})
		return mapSent{bucket, node, ready.revision, err}
	})
}

func (p *publisher) mapSent(c *actors.Context, m mapSent) {
	pub := p.publication(m.bucket)
	l := pub.lanes[m.node]
	l.sending = false
	p.tell(pub, m)
	switch {
	case m.err == nil:
		l.sent = m.revision
		p.log.Debug("map_published", "bucket", m.bucket, "node", m.node, "revision", m.revision)
		if l.leaving && l.sent >= l.latest.revision {
			pub.drop(m.node)
			return
		}
		if l.doubtful {
			l.doubtful = false
			c.SendAfter(publishLimit, repeatLane{m.bucket, m.node})
		}
		p.send(c, m.bucket, m.node, l)
	case l.leaving:
		// It holds nothing any more, and may be switched off.
		pub.drop(m.node)
	default:
		l.doubtful = true
		p.log.Warn("map_not_published", "bucket", m.bucket, "node", m.node, "err", m.err)
		c.SendAfter(publishRetry, retryLane{m.bucket, m.node})
	}
}

// tell marks a node as served, or failed, for whoever waits.
func (p *publisher) tell(pub *publication, m mapSent) {
	for _, w := range pub.waiters {
		if w.revision <= 0 || (m.err == nil && m.revision < w.revision) || !slices.Contains(w.left, m.node) {
			continue
		}
		w.left = slices.DeleteFunc(w.left, func(node string) bool { return node == m.node })
		if m.err != nil {
			w.failed.Failed = append(w.failed.Failed, &NodeError{Node: m.node, Err: m.err})
		}
	}
	p.answerWaiters(pub)
}

func (p *publisher) answerWaiters(pub *publication) {
	pub.waiters = slices.DeleteFunc(pub.waiters, func(w *publishWaiter) bool {
		switch {
		case w.revision <= 0 || len(w.left) > 0:
			return false
		case len(w.failed.Failed) > 0:
			w.answer.settle(w.failed)
		default:
			w.answer.settle(nil)
		}
		return true
	})
}
