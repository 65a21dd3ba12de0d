package dcp

import (
	"errors"
	"maps"
	"slices"
	"time"

	"github.com/shearpin/shearpin/dcp/mcbp"
)

// apply takes a request to change single vbuckets: the producer to replicate from, "" for none.
func (m *managerMachine) apply(id callID, epoch uint64, owner string, changes map[uint16]string, now time.Time) {
	if !m.current(id, epoch) {
		return
	}
	m.begin(id, epoch, owner, changes, now)
}

// retain closes every stream, and forgets every desired one, that is not in wanted; it opens nothing.
func (m *managerMachine) retain(id callID, epoch uint64, owner string, wanted map[uint16]string, now time.Time) {
	if !m.current(id, epoch) {
		return
	}
	changes := map[uint16]string{}
	for _, r := range m.replicas {
		keep := wanted[r.vb]
		r.owner, r.epoch = owner, epoch
		if r.desired != "" && r.desired != keep || r.has && r.on != m.key(keep, r.vb) || r.work != nil || r.next != nil {
			changes[r.vb] = ""
		}
	}
	m.begin(id, epoch, owner, changes, now)
	m.stopIdleLinks()
}

// want notes what is to be streamed from where and begins nothing: the streams are opened as after a crash, the healthy
// ones first and those kept apart one by one when their pause is over.
func (m *managerMachine) want(id callID, epoch uint64, wanted map[uint16]string, now time.Time) {
	if !m.current(id, epoch) {
		return
	}
	for _, vb := range slices.Sorted(maps.Keys(wanted)) {
		r := m.replica(vb)
		r.owner, r.epoch = "", epoch
		if r.work == nil && r.next == nil && !r.has {
			r.desired = wanted[vb]
			m.setLost(r, true)
			m.dropIfIdle(r)
		}
		if m.missing(r) {
			m.linkFor(m.key(r.desired, vb))
		}
	}
	m.reconcile(now)
	m.emit(answerManager{call: id})
}

// takeover takes a request to make this node active for a vbucket, by a takeover stream from its producer.
func (m *managerMachine) takeover(id callID, epoch uint64, owner string, vb uint16, producer string, now time.Time) {
	if !m.current(id, epoch) {
		return
	}
	call := m.newCall(id, 1)
	r := m.replica(vb)
	r.owner, r.epoch = owner, epoch
	m.enqueue(r, &work{kind: workTakeover, replica: r, producer: producer, call: call}, now)
}

// release lets the manager look after the vbuckets of an owner that is done.
func (m *managerMachine) release(id callID, epoch uint64, owner string) {
	if !m.current(id, epoch) {
		return
	}
	for _, r := range m.replicas {
		if r.owner == owner {
			r.owner = ""
		}
	}
	m.emit(answerManager{call: id})
}

func (m *managerMachine) begin(id callID, epoch uint64, owner string, changes map[uint16]string, now time.Time) {
	call := m.newCall(id, len(changes))
	for _, vb := range slices.Sorted(maps.Keys(changes)) {
		r := m.replica(vb)
		r.owner, r.epoch = owner, epoch
		m.enqueue(r, &work{kind: workSet, replica: r, producer: changes[vb], call: call}, now)
	}
	if len(changes) == 0 {
		m.answer(call)
	}
}

func (m *managerMachine) newCall(id callID, open int) *applyCall {
	call := &applyCall{id: id, open: open}
	m.calls[id] = call
	return call
}

// enqueue puts work behind what the vbucket is doing. What waits there and has not begun is overtaken: only the last
// request matters.
func (m *managerMachine) enqueue(r *replica, w *work, now time.Time) {
	if r.next != nil {
		m.settle(r.next, ErrSuperseded)
	}
	r.next = w
	m.startNext(r, now)
}

// startNext begins the vbucket's next work.
func (m *managerMachine) startNext(r *replica, now time.Time) {
	if r.work != nil || r.next == nil {
		return
	}
	w := r.next
	r.work, r.next = w, nil
	w.previous = r.desired
	r.desired = w.producer
	if w.kind == workTakeover {
		r.desired = ""
	}
	m.step(w, now)
}

// step does the next thing that a work item needs: close the stream where it runs, then open it where it is wanted.
func (m *managerMachine) step(w *work, now time.Time) {
	r := w.replica
	target := m.key(w.producer, r.vb)
	switch {
	case r.has && (w.producer == "" || r.on != target):
		w.closing = true
		m.batch(r.on, w, now, streamChange{VB: r.vb, Kind: opClose})
	case w.kind == workTakeover && r.has:
		m.batch(target, w, now, streamChange{VB: r.vb, Kind: opClose}, streamChange{VB: r.vb, Kind: opTakeover})
	case w.kind == workTakeover:
		m.batch(target, w, now, streamChange{VB: r.vb, Kind: opTakeover})
	case w.producer == "":
		m.finish(w, nil, now)
	default:
		// Also where a stream is known to run: only the connection knows the truth, and has nothing to do if it lives.
		m.batch(target, w, now, streamChange{VB: r.vb, Kind: opAdd})
	}
}

// batch collects operations for a link, or fails the work if the link cannot take them. Then no engine is told, and the
// stream is where it was.
func (m *managerMachine) batch(key linkKey, w *work, now time.Time, changes ...streamChange) {
	if err := m.accept(key, len(changes), now); err != nil {
		m.finish(w, err, now)
		return
	}
	m.ensureLink(key)
	l := m.links[key]
	if l.phase == linkDown && !now.Before(l.retryAt) {
		m.startLink(l)
	}
	l.backlog += len(changes)
	b, ok := m.batches[key]
	if !ok {
		b = &batch{key: key}
		m.batches[key] = b
	}
	b.changes = append(b.changes, changes...)
	b.works = append(b.works, w)
}

// linkAnswered takes a replicator's answer: err for the whole call, errs for single vbuckets. The incarnation is that of
// the connections that were told of the call, 0 if none were.
func (m *managerMachine) linkAnswered(id callID, errs map[uint16]error, err error, incarnation uint64, now time.Time) {
	b, ok := m.sent[id]
	if !ok {
		return
	}
	delete(m.sent, id)
	if l, there := m.links[b.key]; there {
		l.backlog = max(l.backlog-len(b.changes), 0)
		if err != nil && l.phase == linkUp && incarnation >= l.incarnation {
			// Its connections are gone; the news of it is on its way.
			l.phase = linkConnecting
		}
	}
	for _, w := range b.works {
		failed := err
		if failed == nil {
			failed = errs[w.replica.vb]
		}
		if w.kind == workTakeover && !w.closing && failed != nil {
			m.takeoverFailed(w.replica.vb, b.key, failed, incarnation)
		}
		w.bystander = err != nil && w.replica.failures == 0
		if w.bystander && w.own && incarnation == 0 {
			w.replica.notBefore = now.Add(m.pause(0, firstReplicaRetry))
		}
		m.moved(w, b.key, failed, now)
	}
	m.drained()
	if l, there := m.links[b.key]; there && len(b.works) == 1 && b.works[0].trial {
		m.tried(l, now)
		return
	}
	m.reconcile(now)
}

// moved follows up one vbucket of an answered call.
func (m *managerMachine) moved(w *work, key linkKey, err error, now time.Time) {
	r, refused := w.replica, refusedClose(err)
	switch {
	case refused != nil && refused.Gone:
		// Closed on request all the same, so it is not to come back by itself.
		r.has = false
		m.setLost(r, false)
		m.finish(w, err, now)
	case err != nil && (w.closing || refused != nil):
		m.finish(w, err, now)
	case err != nil:
		// A stream that was there went with its connection, or had ended unseen. One that a takeover has closed is not
		// wanted any more.
		if r.has {
			m.setLost(r, true)
		}
		r.has = false
		m.finish(w, err, now)
	case w.closing:
		// On request, so it is not to come back by itself.
		w.closing, r.has = false, false
		m.setLost(r, false)
		if w.call == nil {
			// Overtaken between the close and what was to follow it, and its caller knows.
			m.finish(w, ErrSuperseded, now)
			return
		}
		m.step(w, now)
	case w.kind == workTakeover:
		r.has = false
		m.setLost(r, false)
		m.finish(w, nil, now)
	default:
		if !r.has {
			r.since = now
		}
		r.has, r.on, r.exists = true, key, time.Time{}
		m.setLost(r, false)
		m.finish(w, nil, now)
	}
}

// refusedClose is an engine's refusal to close a stream, nil if err is none.
func refusedClose(err error) *StreamStatusError {
	var refused *StreamStatusError
	if errors.As(err, &refused) && refused.Op == mcbp.OpDCPCloseStream {
		return refused
	}
	return nil
}

// finish settles a work item. One that failed leaves the desired state as before the request.
func (m *managerMachine) finish(w *work, err error, now time.Time) {
	r := w.replica
	r.work = nil
	if err != nil && w.kind == workSet {
		r.desired = w.previous
	}
	switch {
	case err != nil && existsAlready(err) && w.own:
		m.retryExisting(r, now)
	case err != nil && w.own && w.bystander:
	case err != nil && w.own:
		m.postpone(r, now)
	case err != nil && existsAlready(err) && now.Sub(m.strangers.last) >= m.limits.Close:
		// The caller has his answer; what is in the way goes before he asks again.
		m.askForStrangers(now)
	case err == nil && !r.has:
		r.failures, r.notBefore, r.exists = 0, time.Time{}, time.Time{}
	}
	m.settle(w, err)
	m.startNext(r, now)
	m.dropIfIdle(r)
}

func (m *managerMachine) settle(w *work, err error) {
	call := w.call
	if call == nil {
		return
	}
	w.call = nil
	if err != nil {
		if call.errs == nil {
			call.errs = map[uint16]error{}
		}
		call.errs[w.replica.vb] = err
	}
	call.open--
	if call.open == 0 {
		m.answer(call)
	}
}

func (m *managerMachine) answer(call *applyCall) {
	if _, ok := m.calls[call.id]; !ok {
		return
	}
	delete(m.calls, call.id)
	var err error
	if len(call.errs) > 0 {
		err = &ApplyError{ByVB: call.errs}
	}
	m.emit(answerManager{call: call.id, err: err})
}

// dropIfIdle forgets a vbucket of which nothing is wanted and nothing is known.
func (m *managerMachine) dropIfIdle(r *replica) {
	if r.desired == "" && !r.has && r.work == nil && r.next == nil {
		delete(m.replicas, r.vb)
		delete(m.lost, r.vb)
	}
}
