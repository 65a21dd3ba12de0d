package dcp

import (
	"slices"
	"time"
)

// prepare is a request for a new epoch that waits until nothing of an older one is on the wire.
type prepare struct {
	id      callID
	epoch   uint64
	expires time.Time
	reset   bool
}

// current refuses a request whose epoch is not the prepared one.
func (m *managerMachine) current(id callID, epoch uint64) bool {
	if epoch == m.epoch {
		return true
	}
	m.emit(answerManager{call: id, err: &StaleEpoch{Got: epoch, Current: m.epoch}})
	return false
}

// prepare raises the epoch. Callers of older epochs are answered at once, and what they had not begun is dropped; what
// the engines have been asked for is waited for, since a stream being added cannot be given up in place. After the grace
// its connections are rebuilt instead.
func (m *managerMachine) prepare(id callID, epoch uint64, now time.Time) {
	if epoch < m.epoch {
		m.emit(answerManager{call: id, err: &StaleEpoch{Got: epoch, Current: m.epoch}})
		return
	}
	m.epoch = epoch
	for _, r := range m.sortedReplicas() {
		for _, w := range r.queue {
			m.settle(w, ErrSuperseded)
		}
		r.queue = nil
		if r.work != nil {
			m.settle(r.work, ErrSuperseded)
		}
		if r.epoch < epoch {
			r.owner = ""
		}
		m.dropIfIdle(r)
	}
	for _, key := range m.sortedLinks() {
		m.emit(cancelLink{key: key})
	}
	m.prepares = append(m.prepares, prepare{id: id, epoch: epoch, expires: now.Add(m.limits.Grace)})
	m.fenceAll()
	m.drained()
}

// drained answers the prepares once nothing of an older epoch is on the wire, or can still be.
func (m *managerMachine) drained() {
	if len(m.prepares) == 0 || len(m.sent) > 0 || len(m.batches) > 0 || len(m.unfenced) > 0 || m.leftovers != leftoversGone {
		return
	}
	m.answerPrepares(nil)
}

func (m *managerMachine) answerPrepares(err error) {
	for _, p := range m.prepares {
		answer := err
		if answer == nil && p.epoch < m.epoch {
			answer = &StaleEpoch{Got: p.epoch, Current: m.epoch}
		}
		m.emit(answerManager{call: p.id, err: answer})
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
			if !slices.Contains(keys, b.key) {
				keys = append(keys, b.key)
			}
		}
		slices.SortFunc(keys, compareKeys)
		for _, key := range keys {
			m.emit(resetLink{key: key})
		}
	}
}
