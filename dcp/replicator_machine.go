package dcp

import (
	"errors"
	"slices"
	"time"

	"github.com/shearpin/shearpin/actors"
)

// replicatorMachine takes the calls of one link and watches its two connections. It is pure. Calls that come before both
// sockets are joined wait, with a deadline; when a connection crashes, every call that was handed to it fails with the
// crash's reason, at once.
type replicatorMachine struct {
	link        Link
	limits      Limits
	incarnation uint64
	consumer    connection
	producer    connection
	joined      bool
	// crashed is the first abnormal reason since the connections were last joined or started.
	crashed error
	// refused is why the last attempt to connect failed, for the error of a call that waited in vain.
	refused error
	calls   map[callID]*linkCall
	fences  []fence
	shut    bool
	out     []linkEffect
}

// connection is what the replicator knows of one of its two connection processes.
type connection struct {
	pid  *actors.PID
	open bool
}

// linkCall is one call of the manager.
type linkCall struct {
	id        callID
	changes   []streamChange
	expires   time.Time
	forwarded bool
}

// fence waits for the consumer connection to have been opened again, in an incarnation newer than the one it closed.
type fence struct {
	id    callID
	after uint64
}

// linkEffect is something that the replicator process has to do, in order.
type linkEffect interface{ linkEffect() }

type (
	joinSockets struct{ consumer, producer *actors.PID }
	forwardCall struct{ call *linkCall }
	// answerLink answers a call. The incarnation is that of the connections it was handed to, 0 if to none.
	answerLink struct {
		call        callID
		errs        map[uint16]error
		err         error
		incarnation uint64
	}
	publishLink struct{ event Event }
	closeLink   struct{ reason error }
)

func (joinSockets) linkEffect() {}
func (forwardCall) linkEffect() {}
func (answerLink) linkEffect()  {}
func (publishLink) linkEffect() {}
func (closeLink) linkEffect()   {}

func newReplicatorMachine(link Link, limits Limits) *replicatorMachine {
	return &replicatorMachine{link: link, limits: limits.withDefaults(), calls: map[callID]*linkCall{}}
}

func (m *replicatorMachine) take() []linkEffect {
	out := m.out
	m.out = nil
	return out
}

func (m *replicatorMachine) emit(e linkEffect) { m.out = append(m.out, e) }

func (m *replicatorMachine) side(role string) *connection {
	if role == RoleConsumer {
		return &m.consumer
	}
	return &m.producer
}

// started registers a new incarnation of a connection process.
func (m *replicatorMachine) started(role string, pid *actors.PID, now time.Time) {
	*m.side(role) = connection{pid: pid}
	m.joined = false
	if role == RoleConsumer {
		m.incarnation++
		m.crashed = nil
		m.emit(publishLink{ConsumerStarted{Link: m.link, Incarnation: m.incarnation, At: now}})
	}
}

// connectFailed remembers why a connection is not there yet.
func (m *replicatorMachine) connectFailed(err error) { m.refused = err }

// opened says that a connection's socket has been opened as DCP. When both are, they are joined and the waiting calls go.
func (m *replicatorMachine) opened(role string, pid *actors.PID, now time.Time) {
	side := m.side(role)
	if side.pid != pid {
		return
	}
	side.open = true
	if role == RoleConsumer {
		m.answerFences()
	}
	if !m.consumer.open || !m.producer.open || m.joined {
		return
	}
	m.joined, m.refused = true, nil
	m.emit(joinSockets{consumer: m.consumer.pid, producer: m.producer.pid})
	m.emit(publishLink{LinkUp{Link: m.link, Incarnation: m.incarnation, At: now}})
	for _, call := range m.sortedCalls() {
		m.forward(call)
	}
}

func (m *replicatorMachine) answerFences() {
	m.fences = slices.DeleteFunc(m.fences, func(f fence) bool {
		if m.incarnation <= f.after {
			return false
		}
		m.emit(answerLink{call: f.id})
		return true
	})
}

func (m *replicatorMachine) forward(call *linkCall) {
	if call.forwarded {
		return
	}
	call.forwarded = true
	m.emit(forwardCall{call: call})
}

// request takes a call.
func (m *replicatorMachine) request(id callID, changes []streamChange, now time.Time) {
	if m.shut {
		m.emit(answerLink{call: id, err: m.link.wrap(ErrShut)})
		return
	}
	call := &linkCall{id: id, changes: changes, expires: now.Add(m.limits.Join)}
	m.calls[id] = call
	if m.joined {
		m.forward(call)
	}
}

// answered is the consumer connection's answer to a forwarded call.
func (m *replicatorMachine) answered(id callID, errs map[uint16]error) {
	if _, ok := m.calls[id]; !ok {
		return
	}
	delete(m.calls, id)
	for vb, err := range errs {
		errs[vb] = m.link.wrap(err)
	}
	m.emit(answerLink{call: id, errs: errs, incarnation: m.incarnation})
}

// failed says that a forwarded call gets no answer. If its connection has died, the Down has said so already. One that lives
// is closed: nobody knows what has become of the streams that it was asked for.
func (m *replicatorMachine) failed(id callID, err error) {
	if _, ok := m.calls[id]; !ok {
		return
	}
	delete(m.calls, id)
	m.emit(answerLink{call: id, err: m.link.wrap(err), incarnation: m.incarnation})
	m.emit(closeLink{reason: &CrashError{Role: RoleConsumer, Err: err}})
}

// down is the death of a connection process. The first abnormal reason is the true cause: the supervisor takes the
// sibling down after it, with shutdown, and that death says nothing new.
func (m *replicatorMachine) down(role string, pid *actors.PID, reason error, now time.Time) {
	side := m.side(role)
	if side.pid != pid {
		return
	}
	*side = connection{}
	m.joined = false
	wanted := planned(reason)
	if wanted && (m.crashed != nil || m.consumer.pid != nil || m.producer.pid != nil) {
		return
	}
	if m.crashed != nil {
		return
	}
	m.crashed = reason
	for _, call := range m.sortedCalls() {
		if call.forwarded {
			delete(m.calls, call.id)
			m.emit(answerLink{call: call.id, err: m.link.wrap(reason), incarnation: m.incarnation})
		}
	}
	switch {
	case wanted:
		return
	case errors.Is(reason, ErrFenced):
		m.emit(publishLink{LinkFenced{Link: m.link, Incarnation: m.incarnation, At: now}})
		return
	}
	m.emit(publishLink{LinkCrashed{
		Link: m.link, Incarnation: m.incarnation, Reason: m.link.wrap(reason), VBs: NamedVBuckets(reason), At: now,
	}})
}

// planned says that a process has ended because somebody wanted it to.
func planned(reason error) bool {
	return errors.Is(reason, actors.Shutdown) || errors.Is(reason, actors.Normal)
}

// cancelWaiting answers the calls that no connection has been told of.
func (m *replicatorMachine) cancelWaiting(err error) {
	for _, call := range m.sortedCalls() {
		if !call.forwarded {
			delete(m.calls, call.id)
			m.emit(answerLink{call: call.id, err: m.link.wrap(err)})
		}
	}
}

// fence closes the consumer connection, if it is open, and is answered when it has been opened again: the engine has then
// ended every stream of the old one.
func (m *replicatorMachine) fence(id callID) {
	after := m.incarnation
	if !m.consumer.open {
		// The next OPEN, of the incarnation that is connecting or the one after, is the fence.
		after -= min(after, 1)
	}
	m.fenceAfter(id, after)
}

// fenceAfter is fence for the streams of an incarnation: it is answered once a later one has been opened.
func (m *replicatorMachine) fenceAfter(id callID, incarnation uint64) {
	if len(m.fences) >= m.limits.Calls {
		m.emit(answerLink{call: id, err: m.link.wrap(&OverloadedError{What: "fences of the link", Limit: m.limits.Calls})})
		return
	}
	m.fences = append(m.fences, fence{id: id, after: incarnation})
	switch {
	case !m.consumer.open:
	case m.incarnation > incarnation:
		m.answerFences()
	default:
		m.emit(closeLink{reason: ErrFenced})
	}
}

// beginShut refuses every later call; those that wait are answered.
func (m *replicatorMachine) beginShut() {
	m.shut = true
	m.cancelWaiting(ErrShut)
}

// waits reports whether a call waits for the sockets to be joined, so that ticks are needed.
func (m *replicatorMachine) waits() bool {
	for _, call := range m.calls {
		if !call.forwarded {
			return true
		}
	}
	return false
}

// tick answers the calls whose connection did not come up in time.
func (m *replicatorMachine) tick(now time.Time) {
	for _, call := range m.sortedCalls() {
		if call.forwarded || now.Before(call.expires) {
			continue
		}
		delete(m.calls, call.id)
		err := &NotConnectedError{Err: ErrDeadline}
		if m.refused != nil {
			err.Err = m.refused
		}
		m.emit(answerLink{call: call.id, err: m.link.wrap(err)})
	}
}

func (m *replicatorMachine) sortedCalls() []*linkCall {
	calls := make([]*linkCall, 0, len(m.calls))
	for _, call := range m.calls {
		calls = append(calls, call)
	}
	slices.SortFunc(calls, func(a, b *linkCall) int { return int(int64(a.id) - int64(b.id)) })
	return calls
}
