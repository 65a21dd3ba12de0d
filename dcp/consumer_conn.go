package dcp

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"time"

	"github.com/shearpin/shearpin/actors"
	"github.com/shearpin/shearpin/dcp/mcbp"
	"github.com/shearpin/shearpin/dcp/relay"
)

// siblingPatience is how long the consumer connection waits for the supervisor to take it down after the producer
// connection was told that its socket failed. The producer's exit is the true cause, so it goes first.
const siblingPatience = time.Second

// consumerConn is the process of the consumer's end of a link. It holds the connection machine and runs the relay; every
// frame that needs a decision, from either socket, comes to it. When the machine says crash, the process exits with that
// reason, its context closes both sockets, and no further packet is processed.
type consumerConn struct {
	actors.Base
	env     *linkEnv
	connect connecting
	machine *consumerMachine
	socket  net.Conn
	relay   *relay.Relay
	partner *actors.PID
	callers map[callID]actors.From
	nextID  callID
	ticking bool
	// lost is set when the relay has ended and the producer connection was told that its socket was the reason. What is
	// left to do here is to be taken down.
	lost   bool
	flight *flightRecorder
	// now is when the event in hand came; phase is the machine's, as recorded last.
	now   time.Time
	phase connPhase
	log   *slog.Logger
}

// Messages of the consumer connection.
type (
	// joinProducer gives it the producer's socket.
	joinProducer struct {
		conn net.Conn
		pid  *actors.PID
	}
	// changeStreams is a call; the answer is a map[uint16]error, nil if all is as asked for.
	changeStreams struct{ changes []streamChange }
	// shutStreams is the call of a planned stop.
	shutStreams struct{}
	// askedFrames is the relay's call; the verdicts are filled in before it is answered.
	askedFrames struct {
		from     relay.Side
		frames   []mcbp.Frame
		verdicts []relay.Verdict
	}
	relayStopped struct{ err error }
	machineTick  struct{}
	partnerLate  struct{ err error }
)

func newConsumerConn(env *linkEnv) *consumerConn {
	return &consumerConn{
		env:     env,
		machine: newConsumerMachine(env.limits),
		callers: map[callID]actors.From{},
		log:     env.logger("connection"),
	}
}

func (p *consumerConn) Init(c *actors.Context) error {
	p.now = c.Clock().Now()
	p.flight = newFlightRecorder(p.env.limits.withDefaults().Flight, p.now)
	p.env.flight.Store(p.flight)
	p.machine.changed = p.changed
	p.connect = connecting{env: p.env, role: RoleConsumer}
	p.connect.begin(c)
	return nil
}

func (p *consumerConn) HandleCall(c *actors.Context, from actors.From, msg any) error {
	now := c.Clock().Now()
	p.now = now
	switch msg := msg.(type) {
	case *askedFrames:
		p.judge(msg)
		if err := p.perform(c); err != nil {
			return err
		}
		from.Reply(nil)
	case changeStreams:
		p.machine.request(p.caller(from), msg.changes, now)
		return p.perform(c)
	case shutStreams:
		p.machine.shut(p.caller(from), now)
		return p.perform(c)
	default:
		return p.Base.HandleCall(c, from, msg)
	}
	return nil
}

// judge decides a batch of frames. Behind one that crashes the connection nothing is looked at.
func (p *consumerConn) judge(batch *askedFrames) {
	for i, f := range batch.frames {
		if batch.from == relay.Producer && f.Opcode() == mcbp.OpDCPStreamEnd && !f.IsResponse() {
			p.env.meter.ended(f, p.machine.endsIn(f))
		}
		event := p.flight.read(p.now, batch.from, f)
		batch.verdicts[i] = p.machine.frame(batch.from, f, p.now)
		switch {
		case p.machine.phase == phaseCrashed:
			p.flight.judged(event, flightCrashed)
			return
		case batch.verdicts[i] == relay.Drop:
			p.flight.judged(event, flightDropped)
		}
	}
}

// changed records and counts a vbucket's change of state; the connection's, if that was the reason, goes first.
func (p *consumerConn) changed(vb uint16, from, to streamState) {
	p.enter(p.machine.phase)
	p.flight.vbucket(p.now, vb, from, to)
	p.env.meter.changed(p.now, vb, from, to)
}

func (p *consumerConn) caller(from actors.From) callID {
	p.nextID++
	p.callers[p.nextID] = from
	return p.nextID
}

func (p *consumerConn) HandleInfo(c *actors.Context, msg any) error {
	p.now = c.Clock().Now()
	switch msg := msg.(type) {
	case retryConnect:
		p.connect.attempt(c)
	case connectFailed:
		p.connect.failed(c, msg.err)
	case socketOpened:
		p.socket = msg.conn
		p.connect.opened(c, msg.conn)
	case joinProducer:
		return p.join(c, msg)
	case machineTick:
		p.ticking = false
		p.machine.tick(c.Clock().Now(), p)
		return p.perform(c)
	case relayStopped:
		if !p.lost {
			return p.relayStopped(c, msg.err)
		}
	case partnerLate:
		return p.crashed(RoleProducer, msg.err)
	default:
		return fmt.Errorf("consumer connection: unexpected message %T", msg)
	}
	return nil
}

// join starts the relay between the two sockets; only now may streams be added.
func (p *consumerConn) join(c *actors.Context, msg joinProducer) error {
	if err := p.env.snappy.check(p.env.link); err != nil {
		return p.crashed(RoleConsumer, err)
	}
	p.partner = msg.pid
	p.relay = relay.New(relay.Config{
		Consumer: p.socket,
		Producer: msg.conn,
		Decider:  askProcess{pid: c.Self()},
		Stall:    p.env.limits.withDefaults().Stall,
		Log:      p.env.logger("relay"),
	})
	p.env.heard.listen(p.relay)
	p.env.meter.listen(p.relay)
	p.env.carriage.listen(linkKey{p.env.link.Producer, p.env.link.Conn}, p.relay)
	running := p.relay
	c.Go(func(ctx context.Context) any { return relayStopped{err: running.Run(ctx)} })
	p.machine.opened(c.Clock().Now())
	return p.perform(c)
}

// askProcess hands the relay's questions to the connection process.
type askProcess struct{ pid *actors.PID }

func (a askProcess) Decide(ctx context.Context, from relay.Side, frames []mcbp.Frame, verdicts []relay.Verdict) error {
	_, err := a.pid.Call(ctx, &askedFrames{from: from, frames: frames, verdicts: verdicts})
	return err
}

// perform carries out what the machine decided.
func (p *consumerConn) perform(c *actors.Context) error {
	p.enter(p.machine.phase)
	for _, e := range p.machine.take() {
		switch e := e.(type) {
		case injectFrame:
			p.flight.injected(p.now, e.to, e.frame)
			if err := p.relay.Inject(e.to, e.frame); err != nil && !p.lost {
				return p.relayStopped(c, err)
			}
		case answerCall:
			p.reply(e.call, e.errs)
		case publishEnd:
			p.log.Info("stream_ended", "vb", e.vb, "stream_opaque", e.opaque, "reason", e.reason)
			c.Send(p.env.replicator.Load(), streamEnd{vb: e.vb, reason: e.reason})
		case watchStreams:
			p.relay.Watch(e.vbs)
		case shutDone:
			p.reply(e.call, nil)
		case crashConn:
			return p.crashed(RoleConsumer, e.reason)
		}
	}
	if p.machine.awaits() && !p.ticking {
		p.ticking = true
		c.SendAfter(p.tickEvery(), machineTick{})
	}
	return nil
}

// enter records a change of the connection's state. Nothing follows a crash.
func (p *consumerConn) enter(phase connPhase) {
	if phase != p.phase && p.phase != phaseCrashed {
		p.flight.connection(p.now, p.phase, phase)
		p.phase = phase
	}
}

func (p *consumerConn) reply(id callID, errs map[uint16]error) {
	from := p.callers[id]
	delete(p.callers, id)
	from.Reply(errs)
}

// tickEvery is fine enough that a deadline is missed by at most an eighth of it.
func (p *consumerConn) tickEvery() time.Duration {
	limits := p.env.limits.withDefaults()
	return max(min(limits.Add, limits.Close, limits.Takeover)/8, 10*time.Millisecond)
}

func (p *consumerConn) progress(vb uint16) uint64 { return p.relay.Seen(vb) + p.relay.Controls() }

func (p *consumerConn) unwritten(side relay.Side) bool { return p.relay.Unwritten(side) > 0 }

// relayStopped finds out whose socket failed. If it was the producer's, the producer connection exits first. If that is dead
// already, its socket was closed because it died: then its reason is the true cause, whoever is heard of first.
func (p *consumerConn) relayStopped(c *actors.Context, err error) error {
	var failure *relay.Failure
	cause := err
	if errors.As(err, &failure) {
		cause = failure.Err
	}
	cause = closedSocket(cause)
	if failure == nil || failure.Side != relay.Producer {
		return p.crashed(RoleConsumer, cause)
	}
	if !p.partner.Alive() {
		if reason := p.partner.Reason(); !planned(reason) {
			return p.crashed(RoleProducer, reason)
		}
		return p.crashed(RoleConsumer, cause)
	}
	p.lost = true
	p.enter(phaseCrashed)
	c.Send(p.partner, relayFailed{err: cause, flight: p.flight.events()})
	c.SendAfter(siblingPatience, partnerLate{err: cause})
	return nil
}

// closedSocket makes every way in which a peer can close a socket one thing.
func closedSocket(err error) error {
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, net.ErrClosed) || errors.Is(err, io.ErrClosedPipe) || isReset(err) {
		return &SocketClosedError{Err: err}
	}
	return err
}

func (p *consumerConn) crashed(role string, err error) error {
	p.enter(phaseCrashed)
	reason := &CrashError{Role: role, Err: err, Flight: p.flight.events()}
	p.log.Info("connection_crashed", "role", role, "err", reason, "vbs", NamedVBuckets(reason))
	return reason
}
