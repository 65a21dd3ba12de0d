package dcp

import (
	"fmt"
	"log/slog"
	"net"
	"time"

	"github.com/shearpin/shearpin/actors"
	"github.com/shearpin/shearpin/dcp/mcbp"
)

// answerLimit is the outermost bound on an answer of the consumer connection. Its own deadlines crash it long before;
// this one only catches a process that is stuck.
const answerLimit = time.Hour

// replicator is the process that takes the calls of one link. It watches both connections by monitor: a crash reaches it
// before their supervisor restarts anything, and it fails the calls in flight with the true cause.
type replicator struct {
	actors.Base
	env      *linkEnv
	machine  *replicatorMachine
	callers  map[callID]actors.From
	nextID   callID
	roles    map[actors.Ref]string
	producer net.Conn
	ticking  bool
	log      *slog.Logger
}

// Messages of the replicator.
type (
	// linkRequest is a call of the manager: operations on the link's streams. The answer is a linkReply.
	linkRequest struct{ changes []streamChange }
	linkReply   struct {
		errs map[uint16]error
		err  error
		// incarnation is that of the connections that were told of the request, 0 if none were.
		incarnation uint64
	}
	// fenceRequest is answered when the consumer has been opened again; fenceAfter when an incarnation later than that one
	// has been.
	fenceRequest struct{}
	fenceAfter   struct{ incarnation uint64 }
	// shutRequest is the planned stop; the answer is an error or nil.
	shutRequest struct{ limit time.Duration }
	// cancelRequest answers the calls that wait for a connection.
	cancelRequest struct{}
	streamEnd     struct {
		vb     uint16
		reason mcbp.EndReason
	}
	replicatorTick struct{}
	// linkNews is what the manager hears of a link, in order. env says which link of that name it is.
	linkNews struct {
		env   *linkEnv
		event Event
	}
)

func newReplicator(env *linkEnv) *replicator {
	return &replicator{
		env:     env,
		machine: newReplicatorMachine(env.link, env.limits),
		callers: map[callID]actors.From{},
		roles:   map[actors.Ref]string{},
		log:     env.logger("replicator"),
	}
}

// Init has nothing to start: the connections register themselves.
func (r *replicator) Init(*actors.Context) error { return nil }

func (r *replicator) HandleCall(c *actors.Context, from actors.From, msg any) error {
	switch msg := msg.(type) {
	case linkRequest:
		r.machine.request(r.caller(from), msg.changes, c.Clock().Now())
	case fenceRequest:
		r.machine.fence(r.caller(from))
	case fenceAfter:
		r.machine.fenceAfter(r.caller(from), msg.incarnation)
	case shutRequest:
		r.machine.beginShut()
		r.shutConsumer(c, from, msg.limit)
	default:
		return r.Base.HandleCall(c, from, msg)
	}
	return r.perform(c)
}

func (r *replicator) caller(from actors.From) callID {
	r.nextID++
	r.callers[r.nextID] = from
	return r.nextID
}

// shutConsumer asks the consumer connection to close its streams; without an open one there is nothing to close.
func (r *replicator) shutConsumer(c *actors.Context, from actors.From, limit time.Duration) {
	if !r.machine.joined {
		from.Reply(nil)
		return
	}
	c.Request(r.machine.consumer.pid, limit, shutStreams{}, from)
}

func (r *replicator) HandleCast(c *actors.Context, msg any) error {
	if _, ok := msg.(cancelRequest); !ok {
		return r.Base.HandleCast(c, msg)
	}
	r.machine.cancelWaiting(ErrSuperseded)
	return r.perform(c)
}

func (r *replicator) HandleInfo(c *actors.Context, msg any) error {
	now := c.Clock().Now()
	switch msg := msg.(type) {
	case connStarted:
		r.machine.started(msg.role, msg.pid, now)
		r.roles[c.Monitor(msg.pid)] = msg.role
		if !msg.pid.Alive() {
			// It died before it was monitored: that Down comes behind the news of its successor, and knows no reason.
			r.machine.down(msg.role, msg.pid, msg.pid.Reason(), now)
		}
	case connRefused:
		r.machine.connectFailed(msg.err)
		r.env.meter.refused(msg.role, msg.err)
	case connOpened:
		if msg.role == RoleProducer && msg.pid == r.machine.producer.pid {
			r.producer = msg.conn
		}
		r.machine.opened(msg.role, msg.pid, now)
	case actors.Down:
		role := r.roles[msg.Ref]
		delete(r.roles, msg.Ref)
		r.machine.down(role, msg.PID, msg.Reason, now)
	case actors.Response:
		r.answered(msg)
	case streamEnd:
		r.publish(c, StreamEnded{Link: r.env.link, VB: msg.vb, Reason: msg.reason, At: now})
	case replicatorTick:
		r.ticking = false
		r.machine.tick(now)
	default:
		return fmt.Errorf("replicator: unexpected message %T", msg)
	}
	return r.perform(c)
}

// answered takes an answer of the consumer connection, or why there is none.
func (r *replicator) answered(msg actors.Response) {
	switch tag := msg.Tag.(type) {
	case callID:
		if msg.Err != nil {
			r.machine.failed(tag, msg.Err)
			return
		}
		errs, _ := msg.Value.(map[uint16]error)
		r.machine.answered(tag, errs)
	case actors.From:
		if msg.Err != nil {
			tag.Fail(msg.Err) // the manager says on which link
			return
		}
		tag.Reply(nil)
	}
}

func (r *replicator) perform(c *actors.Context) error {
	for _, e := range r.machine.take() {
		switch e := e.(type) {
		case joinSockets:
			r.log.Info("link_up", "incarnation", r.machine.incarnation)
			c.Send(e.consumer, joinProducer{conn: r.producer, pid: e.producer})
		case forwardCall:
			c.Request(r.machine.consumer.pid, answerLimit, changeStreams{changes: e.call.changes}, e.call.id)
		case answerLink:
			from := r.callers[e.call]
			delete(r.callers, e.call)
			from.Reply(linkReply{errs: e.errs, err: e.err, incarnation: e.incarnation})
		case publishLink:
			r.publish(c, e.event)
		case closeLink:
			c.Exit(r.machine.consumer.pid, e.reason)
		}
	}
	if r.machine.waits() && !r.ticking {
		r.ticking = true
		c.SendAfter(max(r.env.limits.withDefaults().Join/8, 10*time.Millisecond), replicatorTick{})
	}
	return nil
}

func (r *replicator) publish(c *actors.Context, event Event) {
	if crash, ok := event.(LinkCrashed); ok {
		r.log.Info("link_crashed", "incarnation", crash.Incarnation, "err", crash.Reason, "vbs", crash.VBs)
	}
	r.env.meter.event(event)
	c.Send(r.env.manager, linkNews{env: r.env, event: event})
	if r.env.events != nil {
		r.env.events.Publish(event)
	}
}
