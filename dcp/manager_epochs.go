package dcp

import (
	"slices"
	"time"
)

// prepare is a request for a new epoch that waits until nothing of an older one is on the wire.
type prepare struct {
	id      callID
	expires time.Time
	reset   bool
}

// current refuses a request whose epoch is not the prepared one, or that there is no room for.
func (m *managerMachine) current(id callID, epoch uint64) bool {
	if m.stop.asked || epoch == m.epoch && m.prepared {
		return m.admit(id)
	}
	stale := &StaleEpoch{Got: epoch}
	if epoch != m.epoch {
		stale.Current = m.epoch
	}
	m.emit(answerManager{call: id, err: stale})
	return false
}

// prepare raises the epoch. Callers of older epochs are answered at once, and what they had not begun is dropped; what
// the engines have been asked for is waited for, since a stream being added cannot be given up in place. After the grace
// its connections are rebuilt instead.
func (m *managerMachine) prepare(id callID, epoch uint64, now time.Time) {
	var err error
	switch {
	case m.stop.asked:
		err = ErrShut
	case epoch < m.epoch:
		err = &StaleEpoch{Got: epoch, Current: m.epoch}
	case epoch == m.epoch && len(m.prepares) >= m.limits.Calls:
		err = &OverloadedError{What: "calls", Limit: m.limits.Calls}
	}
	if err != nil {
		m.emit(answerManager{call: id, err: err})
		return
	}
	if epoch > m.epoch {
		m.answerPrepares(&StaleEpoch{Got: m.epoch, Current: epoch})
	}
	m.epoch, m.prepared = epoch, false
	// First, so that nothing is begun while the rest goes.
	m.prepares = append(m.prepares, prepare{id: id, expires: now.Add(m.limits.Grace)})
	for _, r := range m.sortedReplicas() {
		if r.next != nil {
			m.settle(r.next, ErrSuperseded)
			r.next = nil
		}
		if r.work != nil {
			m.settle(r.work, ErrSuperseded)
		}
		if r.epoch < epoch {
			r.owner = ""
		}
		m.dropIfIdle(r)
	}
	for _, key := range m.sortedLinks() {
		if l := m.links[key]; l.runs() {
			m.emit(cancelLink{key: key})
		} else {
			m.failHeld(l, ErrSuperseded, now)
		}
	}
	m.fenceAll()
	m.drained()
}

// drained answers the prepares once nothing of an older epoch is on the wire, or can still be.
func (m *managerMachine) drained() {
	if len(m.prepares) == 0 || len(m.sent) > 0 || len(m.batches) > 0 || len(m.unfenced) > 0 || m.leftovers != leftoversGone {
		return
	}
	m.prepared = true
	m.answerPrepares(nil)
}

func (m *managerMachine) answerPrepares(err error) {
	for _, p := range m.prepares {
		m.emit(answerManager{call: p.id, err: err})
	}
	m.prepares = nil
}

// expirePrepares rebuilds the connections that keep an older epoch's work for longer than the grace. Their calls fail
// with the crash, so the prepare is answered soon after.
func (m *managerMachine) expirePrepares(now time.Time) {
	for i := range m.prepares {
		p := &m.prepares[i]
		if p.reset || now.Before(p.expires) {
			continue
		}
		p.reset = true
		var keys []linkKey
		for _, b := range m.sent {
			if l, ok := m.links[b.key]; ok && l.runs() && !slices.Contains(keys, b.key) {
				keys = append(keys, b.key)
			}
		}
		slices.SortFunc(keys, compareKeys)
		for _, key := range keys {
			m.emit(resetLink{key: key})
		}
	}
}
