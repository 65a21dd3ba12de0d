package rebalance

import (
	"context"
	"errors"
	"log/slog"

	"github.com/shearpin/shearpin/actors"
	"github.com/shearpin/shearpin/rebalance/store"
)

// publisher brings the maps of all buckets to their nodes, which hand them to clients. Changes that come while one is
// under way go out together. Nodes take a configuration that is older than the one they have (kv-observed), so each node has
// one sender at a time, whichever publisher it belongs to, and revisions are those of the store, which only grow. What is sent
// when is decided by its [publisherMachine].
//
// The list of nodes, which clients get before they have chosen a bucket, is published in the same way, as that of the bucket
// without a name.
type publisher struct {
	actors.Base
	env     *environment
	log     *slog.Logger
	machine *publisherMachine

	lastID  int
	callers map[int]actors.From
	lanes   map[lanePlace]*laneConnection
}

// laneConnection is a connection to a node, and what ends it.
type laneConnection struct {
	nodeKV
	end context.CancelFunc
}

// publishMap is cast when a bucket's map has changed, or called by who wants to know that the nodes have it.
type publishMap struct{ bucket string }

type (
	mapRead struct {
		bucket string
		ready  publishable
		err    error
	}
	mapSent struct {
		to       lanePlace
		revision int64
		err      error
	}
	rereadDue struct{ bucket string }
	laneDue   struct {
		lane  lanePlace
		timer int
	}
)

func newPublisher(e *environment) *publisher {
	return &publisher{
		env: e, log: e.log("publisher"), machine: newPublisherMachine(),
		callers: map[int]actors.From{}, lanes: map[lanePlace]*laneConnection{},
	}
}

func (p *publisher) HandleCall(c *actors.Context, from actors.From, msg any) error {
	m, ok := msg.(publishMap)
	if !ok {
		return p.Base.HandleCall(c, from, msg)
	}
	p.lastID++
	p.callers[p.lastID] = from
	p.perform(c, p.machine.asked(p.lastID, m.bucket))
	return nil
}

func (p *publisher) HandleCast(c *actors.Context, msg any) error {
	m, ok := msg.(publishMap)
	if !ok {
		return p.Base.HandleCast(c, msg)
	}
	p.perform(c, p.machine.changed(m.bucket))
	return nil
}

func (p *publisher) HandleInfo(c *actors.Context, msg any) error {
	switch m := msg.(type) {
	case mapRead:
		if m.err != nil && !errors.Is(m.err, store.ErrNotFound) {
			p.log.Warn("map_not_read", "bucket", m.bucket, "err", m.err)
		}
		p.perform(c, p.machine.mapRead(m.bucket, m.ready, m.err))
	case mapSent:
		if m.err != nil {
			p.log.Warn("map_not_published", "bucket", m.to.bucket, "node", m.to.node, "err", m.err)
		} else {
			p.log.Debug("map_published", "bucket", m.to.bucket, "node", m.to.node, "revision", m.revision)
		}
		p.perform(c, p.machine.mapSent(m.to, m.revision, m.err))
	case rereadDue:
		p.perform(c, p.machine.reread(m.bucket))
	case laneDue:
		p.perform(c, p.machine.laneDue(m.lane, m.timer))
	default:
		return p.Base.HandleInfo(c, msg)
	}
	return nil
}

func (p *publisher) perform(c *actors.Context, effects []publisherEffect) {
	for _, effect := range effects {
		switch e := effect.(type) {
		case readMap:
			c.Go(func(ctx context.Context) any {
				ready, err := readConfig(ctx, p.env, e.Bucket)
				return mapRead{e.Bucket, ready, err}
			})
		case armReread:
			c.SendAfter(e.After, rereadDue{e.Bucket})
		case sendMap:
			p.send(c, e.To, e.Map)
		case armLane:
			c.SendAfter(e.After, laneDue{e.Lane, e.Timer})
		case dropLane:
			if l := p.lanes[e.Lane]; l != nil {
				l.end()
				delete(p.lanes, e.Lane)
			}
		case answerPublish:
			p.answer(e.ID, e.Err)
		}
	}
}

func (p *publisher) answer(id int, err error) {
	from := p.callers[id]
	delete(p.callers, id)
	if err != nil {
		from.Fail(err)
		return
	}
	from.Reply(nil)
}

// send makes an attempt. The connection is there until the lane is dropped.
func (p *publisher) send(c *actors.Context, to lanePlace, ready publishable) {
	connection := p.lanes[to]
	var broken error
	if connection == nil {
		var kv nodeKV
		if kv, broken = p.env.connect(to.node, to.bucket); broken == nil {
			connection = &laneConnection{kv, closeWith(c, kv)}
			p.lanes[to] = connection
		}
	}
	turns := &p.env.publishing
	c.Go(func(ctx context.Context) any {
		if broken != nil {
			return mapSent{to, ready.revision, broken}
		}
		_, err := within(ctx, publishLimit, func(ctx context.Context) (struct{}, error) {
			done, err := turns.take(ctx, to)
			if err != nil {
				return struct{}{}, err
			}
			defer done()
			return struct{}{}, connection.SetClusterConfig(ctx, to.bucket, configEpoch, ready.revision, ready.config)
		})
		return mapSent{to, ready.revision, err}
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
		Servers: nodes, Map: doc.Map, Target: doc.Target, TLS: env.config.encrypted(),
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
	ready.byBucket = map[string][]string{}
	for _, doc := range docs {
		ready.revision = max(ready.revision, int64(doc.Revision))
		ready.byBucket[doc.Name] = doc.Servers
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
	ready.config, err = encodeNodeList(ready.revision, nodes, env.config.encrypted())
	return ready, err
}
