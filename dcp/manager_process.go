package dcp

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/shearpin/shearpin/actors"
	"github.com/shearpin/shearpin/supervisor"
)

// managerTickEvery bounds how late a retry or the end of a grace is noticed.
const managerTickEvery = 250 * time.Millisecond

// managerProcess performs what the manager machine decides: it starts and stops links, calls their replicators without
// waiting for them, and answers. It never blocks on a peer.
type managerProcess struct {
	actors.Base
	opts    Options
	links   *actors.PID
	machine *managerMachine
	callers map[callID]actors.From
	nextID  callID
	running map[linkKey]*runningLink
	shut    *shutting
	log     *slog.Logger
}

// runningLink is a link's supervisor while it lives.
type runningLink struct {
	env      *linkEnv
	sup      *actors.PID
	ref      actors.Ref
	stopping bool
	// again says that the link is needed anew once it has stopped; held are its calls until then.
	again bool
	held  []callLink
}

// Requests to the manager.
type (
	prepareRequest struct{ epoch uint64 }
	applyRequest   struct {
		epoch   uint64
		owner   string
		changes map[uint16]string
		retain  bool
	}
	takeoverRequest struct {
		epoch    uint64
		owner    string
		vb       uint16
		producer string
	}
	wantRequest struct {
		epoch  uint64
		wanted map[uint16]string
	}
	releaseRequest struct {
		epoch uint64
		owner string
	}
	fenceVBucket struct {
		vb       uint16
		producer string
	}
	shutAll       struct{}
	statusRequest struct{}
	managerTick   struct{}
	linkStopped   struct {
		key linkKey
		err error
	}
	fenceDone struct {
		from actors.From
		err  error
	}
)

func newManagerProcess(opts Options, links *actors.PID) *managerProcess {
	return &managerProcess{
		opts:    opts,
		links:   links,
		machine: newManagerMachine(opts.Bucket, opts.Consumer, opts.Connections, opts.Limits),
		callers: map[callID]actors.From{},
		running: map[linkKey]*runningLink{},
		log:     opts.Log.With("part", "manager", "bucket", opts.Bucket, "consumer", opts.Consumer),
	}
}

func (p *managerProcess) Init(c *actors.Context) error {
	c.SendAfter(managerTickEvery, managerTick{})
	return nil
}

func (p *managerProcess) HandleCall(c *actors.Context, from actors.From, msg any) error {
	if p.shut != nil {
		switch msg.(type) {
		case shutAll, statusRequest:
		default:
			from.Fail(ErrShut)
			return nil
		}
	}
	now := c.Clock().Now()
	switch msg := msg.(type) {
	case prepareRequest:
		p.machine.prepare(p.caller(from), msg.epoch, now)
	case applyRequest:
		if msg.retain {
			p.machine.retain(p.caller(from), msg.epoch, msg.owner, msg.changes, now)
		} else {
			p.machine.apply(p.caller(from), msg.epoch, msg.owner, msg.changes, now)
		}
	case takeoverRequest:
		p.machine.takeover(p.caller(from), msg.epoch, msg.owner, msg.vb, msg.producer, now)
	case wantRequest:
		p.machine.want(p.caller(from), msg.epoch, msg.wanted, now)
	case releaseRequest:
		p.machine.release(p.caller(from), msg.epoch, msg.owner)
	case fenceVBucket:
		p.fence(c, from, msg)
	case shutAll:
		p.shutAll(c, from)
	case statusRequest:
		from.Reply(p.machine.status())
	default:
		return p.Base.HandleCall(c, from, msg)
	}
	return p.perform(c)
}

func (p *managerProcess) caller(from actors.From) callID {
	p.nextID++
	p.callers[p.nextID] = from
	return p.nextID
}

func (p *managerProcess) HandleInfo(c *actors.Context, msg any) error {
	now := c.Clock().Now()
	switch msg := msg.(type) {
	case linkNews:
		p.news(msg, now)
	case actors.Response:
		p.answered(msg, now)
	case actors.Down:
		p.linkDown(c, msg, now)
	case managerTick:
		if p.shut == nil {
			c.SendAfter(managerTickEvery, managerTick{})
			p.machine.tick(now)
		}
	case linkStopped:
		p.stopped(c, msg)
	case fenceDone:
		answerFence(msg.from, msg.err)
	case takeoverFenced:
		p.machine.takeoverFenced(msg.key, msg.after, msg.err)
	case leftoversNuked:
		p.machine.nuked(msg.err)
	default:
		return fmt.Errorf("replication manager: unexpected message %T", msg)
	}
	return p.perform(c)
}

// news follows the links. The replicator sends it after it has answered the calls that a crash took. What a link says
// that is being stopped, or has been, says nothing of its successor.
func (p *managerProcess) news(news linkNews, now time.Time) {
	l, ok := p.running[linkKey{producer: news.env.link.Producer, conn: news.env.link.Conn}]
	if !ok || l.env != news.env || l.stopping {
		return
	}
	switch e := news.event.(type) {
	case LinkUp:
		p.machine.linkIsUp(keyOf(e.Link), e.Incarnation, now)
	case LinkCrashed:
		p.machine.linkCrashed(keyOf(e.Link), e.Incarnation, e.Reason, e.VBs, now)
	case LinkFenced:
		p.machine.linkCrashed(keyOf(e.Link), e.Incarnation, ErrFenced, nil, now)
	case StreamEnded:
		p.machine.streamEnded(keyOf(e.Link), e.VB, now)
	}
}

func keyOf(l Link) linkKey { return linkKey{producer: l.Producer, conn: l.Conn} }

func (p *managerProcess) answered(msg actors.Response, now time.Time) {
	switch tag := msg.Tag.(type) {
	case sentCall:
		reply, ok := msg.Value.(linkReply)
		err := reply.err
		if msg.Err != nil {
			// The replicator died with the call: nobody knows how far it came.
			err = p.machine.linkOf(tag.key).wrap(msg.Err)
			reply.incarnation = p.machine.lastIncarnation(tag.key)
		} else if !ok {
			err = fmt.Errorf("replicator answered with %T", msg.Value)
		}
		p.machine.linkAnswered(tag.id, reply.errs, err, reply.incarnation, now)
	case fenceTakeover:
		p.machine.takeoverFenced(tag.key, tag.after, msg.Err)
	case fenceTag:
		err := msg.Err
		if reply, ok := msg.Value.(linkReply); ok && err == nil {
			err = reply.err
		}
		if tag.from != nil {
			answerFence(*tag.from, err)
		}
	}
}

// sentCall and fenceTag are the tags of our requests to replicators.
type (
	sentCall struct {
		id  callID
		key linkKey
	}
	fenceTag struct{ from *actors.From }
)

func (p *managerProcess) perform(c *actors.Context) error {
	effects := p.machine.take()
	for len(effects) > 0 {
		for _, e := range effects {
			switch e := e.(type) {
			case startLink:
				p.startLink(c, e.key)
			case stopLink:
				p.stopLink(c, e.key)
			case callLink:
				p.callLink(c, e)
			case cancelLink:
				p.cancelLink(c, e.key)
			case resetLink:
				p.resetLink(c, e.key)
			case fenceTakeover:
				p.fenceTakeover(c, e)
			case nukeLeftovers:
				p.nukeLeftovers(c)
			case answerManager:
				from := p.callers[e.call]
				delete(p.callers, e.call)
				if e.err != nil {
					from.Fail(e.err)
				} else {
					from.Reply(nil)
				}
			}
		}
		effects = p.machine.take()
	}
	return nil
}

func (p *managerProcess) startLink(c *actors.Context, key linkKey) {
	if l, ok := p.running[key]; ok {
		if l.stopping {
			l.again = true
		}
		return
	}
	env := &linkEnv{
		link:      p.machine.linkOf(key),
		limits:    p.opts.Limits,
		endpoints: p.opts.Endpoints,
		log:       p.opts.Log,
		events:    p.opts.Events,
		tree:      p.opts.SupervisorEvents,
		manager:   c.Self(),
	}
	ctx, cancel := context.WithTimeout(c.Ctx(), p.opts.Limits.Connect)
	defer cancel()
	sup, err := supervisor.StartChild(ctx, p.links, linkChild(env))
	if err != nil {
		p.log.Warn("link_start_failed", "producer", key.producer, "conn", key.conn, "err", err)
		p.machine.linkGone(key, err, c.Clock().Now())
		return
	}
	p.running[key] = &runningLink{env: env, sup: sup, ref: c.Monitor(sup)}
}

// callLink hands operations to the link's replicator; a link that is about to start again gets them then.
func (p *managerProcess) callLink(c *actors.Context, call callLink) {
	l, ok := p.running[call.key]
	switch {
	case !ok:
		err := p.machine.linkOf(call.key).wrap(errors.New("link did not start"))
		p.machine.linkAnswered(call.id, nil, err, 0, c.Clock().Now())
	case l.stopping:
		l.held = append(l.held, call)
	default:
		c.Request(l.env.replicator.Load(), answerLimit, linkRequest{changes: call.changes}, sentCall{id: call.id, key: call.key})
	}
}

func (p *managerProcess) cancelLink(c *actors.Context, key linkKey) {
	if l, ok := p.running[key]; ok && !l.stopping {
		c.Cast(l.env.replicator.Load(), cancelRequest{})
	}
}

// linkDown is the end of a link's supervisor that we did not ask for.
func (p *managerProcess) linkDown(c *actors.Context, down actors.Down, now time.Time) {
	for key, l := range p.running {
		if l.ref != down.Ref {
			continue
		}
		delete(p.running, key)
		p.log.Warn("link_gave_up", "producer", key.producer, "conn", key.conn, "err", down.Reason)
		p.machine.linkGone(key, down.Reason, now)
		if p.opts.Events != nil {
			p.opts.Events.Publish(LinkGaveUp{Link: l.env.link, Reason: l.env.link.wrap(down.Reason), At: c.Clock().Now()})
		}
		return
	}
}
