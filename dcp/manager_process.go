package dcp

import (
	"fmt"
	"log/slog"
	"time"

	"github.com/shearpin/shearpin/actors"
)

// managerTickEvery bounds how late a retry or the end of a grace is noticed.
const managerTickEvery = 250 * time.Millisecond

// managerProcess performs what the manager machine decides: it starts and stops links, calls their replicators without
// waiting for them, and answers. It never blocks on a peer, nor on a supervisor that waits for one.
type managerProcess struct {
	actors.Base
	opts    Options
	links   *actors.PID
	machine *managerMachine
	callers map[callID]actors.From
	nextID  callID
	running map[linkKey]*runningLink
	// heard outlives a link's restarts, so that it never goes back.
	heard map[linkKey]*hearing
	log   *slog.Logger
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
	refreshRequest struct{}
	shutAll        struct{}
	statusRequest  struct{}
	managerTick    struct{}
)

func newManagerProcess(opts Options, links *actors.PID) *managerProcess {
	p := &managerProcess{
		opts:    opts,
		links:   links,
		machine: newManagerMachine(opts.Bucket, opts.Consumer, opts.Connections, opts.Limits),
		callers: map[callID]actors.From{},
		running: map[linkKey]*runningLink{},
		heard:   map[linkKey]*hearing{},
		log:     opts.Log.With("part", "manager", "bucket", opts.Bucket, "consumer", opts.Consumer),
	}
	p.machine.jitter = opts.Jitter
	return p
}

func (p *managerProcess) Init(c *actors.Context) error {
	if err := p.opts.metrics.join(c.Ctx()); err != nil {
		return err
	}
	c.SendAfter(managerTickEvery, managerTick{})
	return nil
}

func (p *managerProcess) HandleCall(c *actors.Context, from actors.From, msg any) error {
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
		p.machine.fence(p.caller(from), msg.vb, msg.producer)
	case refreshRequest:
		p.machine.refresh(p.caller(from))
	case shutAll:
		p.machine.shut(p.caller(from), now)
	case flightRequest:
		p.flight(from, msg.key)
	case statusRequest:
		from.Reply(p.status())
	default:
		return p.Base.HandleCall(c, from, msg)
	}
	p.perform(c)
	return nil
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
		p.linkDown(msg, now)
	case managerTick:
		c.SendAfter(managerTickEvery, managerTick{})
		p.machine.tick(now)
		p.forgetUnheard()
	case linkLaunched:
		p.launched(c, msg, now)
	case linkTerminated:
		p.terminated(msg, now)
	case linkFenced:
		p.machine.fenced(msg.call, wrapFence(msg.err))
	case takeoverFenced:
		p.machine.takeoverFenced(msg.key, msg.after, msg.err)
	case leftoversNuked:
		p.machine.nuked(msg.err)
	case strangersEnded:
		p.machine.strangersNuked(msg.ended, msg.err, now)
	default:
		return fmt.Errorf("replication manager: unexpected message %T", msg)
	}
	p.perform(c)
	return nil
}

// news follows the links. The replicator sends it after it has answered the calls that a crash took. What a link says that
// has ended says nothing of its successor.
func (p *managerProcess) news(news linkNews, now time.Time) {
	key := keyOf(news.env.link)
	if l, ok := p.running[key]; !ok || l.env != news.env {
		return
	}
	switch e := news.event.(type) {
	case LinkUp:
		p.machine.linkIsUp(key, e.Incarnation, e.At)
	case LinkCrashed:
		p.machine.linkCrashed(key, e.Incarnation, e.Reason, e.VBs, e.At)
	case LinkFenced:
		p.machine.linkCrashed(key, e.Incarnation, ErrFenced, nil, e.At)
	case StreamEnded:
		p.machine.streamEnded(key, e.VB, now)
	}
}

func keyOf(l Link) linkKey { return linkKey{producer: l.Producer, conn: l.Conn} }

func (p *managerProcess) answered(msg actors.Response, now time.Time) {
	switch tag := msg.Tag.(type) {
	case sentCall:
		reply := p.replyOf(tag.key, msg)
		p.machine.linkAnswered(tag.id, reply.errs, reply.err, reply.incarnation, now)
	case fenceTakeover:
		p.machine.takeoverFenced(tag.key, tag.after, p.replyOf(tag.key, msg).err)
	case fenceLink:
		p.machine.fenced(tag.call, wrapFence(p.replyOf(tag.key, msg).err))
	case resetLink: // the link's news tell
	}
}

// replyOf is a replicator's answer. One that has died with the call gives none, and nobody knows how far the call came.
func (p *managerProcess) replyOf(key linkKey, msg actors.Response) linkReply {
	reply, ok := msg.Value.(linkReply)
	switch {
	case msg.Err != nil:
		return linkReply{err: p.machine.causeOf(key, msg.Err), incarnation: p.machine.lastIncarnation(key)}
	case !ok:
		return linkReply{err: fmt.Errorf("replicator answered with %T", msg.Value)}
	}
	return reply
}

// sentCall is the tag of our calls of replicators.
type sentCall struct {
	id  callID
	key linkKey
}

func (p *managerProcess) perform(c *actors.Context) {
	for effects := p.machine.take(); len(effects) > 0; effects = p.machine.take() {
		for _, e := range effects {
			p.act(c, e)
		}
	}
}

func (p *managerProcess) act(c *actors.Context, e managerEffect) {
	switch e := e.(type) {
	case startLink:
		p.startLink(c, e.key)
	case stopLink:
		p.stopLink(c, e.key)
	case callLink:
		p.request(c, e.key, p.answerLimit(), linkRequest{changes: e.changes}, sentCall{id: e.id, key: e.key})
	case cancelLink:
		c.Cast(p.running[e.key].env.replicator.Load(), cancelRequest{})
	case resetLink:
		p.log.Info("link_reset", "producer", e.key.producer, "conn", e.key.conn)
		p.request(c, e.key, p.fenceLimit(), fenceRequest{}, e)
	case fenceTakeover:
		p.fenceTakeover(c, e)
	case fenceLink:
		p.fence(c, e)
	case nukeLeftovers:
		p.nukeLeftovers(c)
	case nukeStrangers:
		p.nukeStrangers(c, e.ours)
	case answerManager:
		from := p.callers[e.call]
		delete(p.callers, e.call)
		if e.err != nil {
			from.Fail(e.err)
		} else {
			from.Reply(nil)
		}
	case publishManager:
		p.publish(e.event)
	}
}

// answerLimit leaves it to the replicator to say that a connection owes an answer for too long: it closes it.
func (p *managerProcess) answerLimit() time.Duration { return p.opts.Limits.Join + 2*answerLimit }

// request calls the replicator of a link that runs.
func (p *managerProcess) request(c *actors.Context, key linkKey, limit time.Duration, msg, tag any) {
	c.Request(p.running[key].env.replicator.Load(), limit, msg, tag)
}

func (p *managerProcess) publish(event Event) {
	switch e := event.(type) {
	case LinkGaveUp:
		p.opts.metrics.link(keyOf(e.Link)).event(e)
		p.log.Warn("link_gave_up", "producer", e.Producer, "conn", e.Conn, "err", e.Reason)
	case StreamLost:
		p.log.Info("stream_lost", "producer", e.Producer, "conn", e.Conn, "vb", e.VB, "owner", e.Owner, "epoch", e.Epoch)
	}
	if p.opts.Events != nil {
		p.opts.Events.Publish(event)
	}
}
