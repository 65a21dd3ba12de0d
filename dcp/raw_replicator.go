package dcp

import (
	"time"

	"github.com/shearpin/shearpin/actors"
)

// RawReplicator is the replicator's machine without its process: it takes the calls of one link, hands them to the
// connection, and sees to it that each is answered whatever happens to it. See [RawConsumer] on what it is for.
type RawReplicator struct{ machine *replicatorMachine }

// RawConn is one incarnation of a connection process, known by its address.
type RawConn struct{ pid *actors.PID }

// NewRawConn makes an incarnation that is equal to no other.
func NewRawConn() *RawConn { return &RawConn{pid: new(actors.PID)} }

// Effects of a [RawReplicator].
type (
	// RawJoin joins the sockets of two connections; the connection machine hears of it by [RawConsumer.Opened].
	RawJoin struct{}
	// RawForward hands a call to the connection machine; its answer comes back by [RawReplicator.Answered].
	RawForward struct {
		Call    RawCall
		Changes []RawChange
	}
	// RawReply answers a call or a fence. Err is the failure of the call as a whole; Incarnation counts from 1 and is 0
	// if no connection was told of the call.
	RawReply struct {
		Call        RawCall
		Errs        map[uint16]error
		Err         error
		Incarnation uint64
	}
	// RawPublish is news for subscribers.
	RawPublish struct{ Event Event }
	// RawCloseConsumer ends the consumer connection with a reason, so that it is started afresh.
	RawCloseConsumer struct{ Reason error }
)

func (RawJoin) rawEffect()          {}
func (RawForward) rawEffect()       {}
func (RawReply) rawEffect()         {}
func (RawPublish) rawEffect()       {}
func (RawCloseConsumer) rawEffect() {}

// NewRawReplicator makes the machine of a link without connections.
func NewRawReplicator(link Link, limits Limits) *RawReplicator {
	return &RawReplicator{newReplicatorMachine(link, limits)}
}

// Started registers a new incarnation of the connection of a role, [RoleConsumer] or [RoleProducer].
func (r *RawReplicator) Started(role string, conn *RawConn, now time.Time) []RawEffect {
	r.machine.started(role, conn.pid, now)
	return r.take()
}

// Refused remembers why a connection is not there yet.
func (r *RawReplicator) Refused(err error) []RawEffect {
	r.machine.connectFailed(err)
	return r.take()
}

// Opened says that a connection's socket has been opened as DCP.
func (r *RawReplicator) Opened(role string, conn *RawConn, now time.Time) []RawEffect {
	r.machine.opened(role, conn.pid, now)
	return r.take()
}

// Down is the end of a connection.
func (r *RawReplicator) Down(role string, conn *RawConn, reason error, now time.Time) []RawEffect {
	r.machine.down(role, conn.pid, reason, now)
	return r.take()
}

// Request takes a call. It is answered by one [RawReply].
func (r *RawReplicator) Request(call RawCall, changes []RawChange, now time.Time) []RawEffect {
	r.machine.request(call, changes, now)
	return r.take()
}

// Answered is the connection machine's answer to a forwarded call.
func (r *RawReplicator) Answered(call RawCall, errs map[uint16]error) []RawEffect {
	r.machine.answered(call, errs)
	return r.take()
}

// CancelWaiting answers the calls that no connection has been told of.
func (r *RawReplicator) CancelWaiting(err error) []RawEffect {
	r.machine.cancelWaiting(err)
	return r.take()
}

// Fence is answered, by a [RawReply], when the consumer connection has been opened again.
func (r *RawReplicator) Fence(call RawCall) []RawEffect {
	r.machine.fence(call)
	return r.take()
}

// FenceAfter is Fence for the streams of one incarnation: any later one will do.
func (r *RawReplicator) FenceAfter(call RawCall, incarnation uint64) []RawEffect {
	r.machine.fenceAfter(call, incarnation)
	return r.take()
}

// BeginShut refuses every later call.
func (r *RawReplicator) BeginShut() []RawEffect {
	r.machine.beginShut()
	return r.take()
}

// Tick looks at the deadlines. It must be called now and then while [RawReplicator.Waits].
func (r *RawReplicator) Tick(now time.Time) []RawEffect {
	r.machine.tick(now)
	return r.take()
}

// Waits reports whether a call waits for the sockets to be joined.
func (r *RawReplicator) Waits() bool { return r.machine.waits() }

// Joined reports whether the sockets are joined.
func (r *RawReplicator) Joined() bool { return r.machine.joined }

// Incarnation is that of the consumer connection; it counts from 1.
func (r *RawReplicator) Incarnation() uint64 { return r.machine.incarnation }

func (r *RawReplicator) take() []RawEffect {
	effects := r.machine.take()
	raw := make([]RawEffect, len(effects))
	for i, e := range effects {
		switch e := e.(type) {
		case joinSockets:
			raw[i] = RawJoin{}
		case forwardCall:
			raw[i] = RawForward{Call: e.call.id, Changes: e.call.changes}
		case answerLink:
			raw[i] = RawReply{Call: e.call, Errs: e.errs, Err: e.err, Incarnation: e.incarnation}
		case publishLink:
			raw[i] = RawPublish{Event: e.event}
		case closeLink:
			raw[i] = RawCloseConsumer{Reason: e.reason}
		}
	}
	return raw
}
