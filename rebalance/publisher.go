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
	lanes          map[string]*lane
	waiters        []*publishWaiter
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
}

// publishable is a configuration that can be sent.
type publishable struct {
	revision int64
	config   []byte
	servers  []string
}

// publishWaiter waits until every server has got, or been tried with, a revision that was read after it came.
type publishWaiter struct {
	from actors.From
	// revision is 0 until the map has been read for it.
	revision int64
	left     []string
	failed   *NodesError
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
	pub := p.publication(m.bucket)
	pub.waiters = append(pub.waiters, &publishWaiter{from: from, failed: &NodesError{Doing: "publishing the map"}})
	p.read(c, m.bucket, pub)
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
		p.fanOut(c, m.bucket, pub, m.ready)
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
		w.from.Fail(m.err)
		return true
	})
	if errors.Is(m.err, store.ErrNotFound) {
		return
	}
	p.log.Warn("map_not_read", "bucket", m.bucket, "err", m.err)
	c.SendAfter(publishRetry, publishMap{m.bucket})
}

// fanOut gives every server, and every node that was one, the configuration.
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
		l.latest = ready
		p.send(c, bucket, node, l)
	}
	p.answerWaiters(pub)
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
		if !slices.Contains(l.latest.servers, m.node) && l.sent == l.latest.revision {
			_ = l.connection.Close()
			delete(pub.lanes, m.node)
			return
		}
		if l.doubtful {
			l.doubtful = false
			c.SendAfter(publishLimit, repeatLane{m.bucket, m.node})
		}
		p.send(c, m.bucket, m.node, l)
	case !slices.Contains(l.latest.servers, m.node):
		// It holds nothing any more, and may be switched off.
		_ = l.connection.Close()
		delete(pub.lanes, m.node)
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
			w.from.Fail(w.failed)
		default:
			w.from.Reply(nil)
		}
		return true
	})
}
