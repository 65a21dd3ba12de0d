package dcp

import (
	"errors"
	"maps"
	"slices"

	"github.com/shearpin/shearpin/dcp/mcbp"
)

// A takeover cannot be cancelled, only fenced (design §6). When one fails, the state change that makes the consumer active
// may already be in its socket, so which node is active is unknown until the engine has answered a new OPEN under the same
// name: it has then ended the old connection's streams. No epoch is prepared before that. The same holds for whatever
// connections an earlier manager of this node has left at the engine.

// unfenced are the takeovers that failed on a link, the last one on connections of that incarnation. asked says that its fence
// is under way.
type unfenced struct {
	vbs   []uint16
	after uint64
	asked bool
}

// leftovers says what is known of an earlier manager's connections.
type leftovers uint8

const (
	leftoversUnknown leftovers = iota
	leftoversAsked
	leftoversGone
)

// takeoverFailed remembers a takeover that an engine may have been told of.
func (m *managerMachine) takeoverFailed(vb uint16, key linkKey, err error, incarnation uint64) {
	if incarnation == 0 || refusedBeforehand(err) {
		return
	}
	u := m.unfenced[key]
	if incarnation > u.after {
		u.after, u.asked = incarnation, false
	}
	if at, there := slices.BinarySearch(u.vbs, vb); !there {
		u.vbs = slices.Insert(slices.Clone(u.vbs), at, vb)
	}
	m.unfenced[key] = u
	if len(m.prepares) > 0 {
		m.fenceAll()
	}
}

// refusedBeforehand reports whether a takeover ended before its stream began: nothing of it is under way.
func refusedBeforehand(err error) bool {
	var refused *StreamStatusError
	if errors.As(err, &refused) {
		return refused.Op == mcbp.OpDCPAddStream || refused.Op == mcbp.OpDCPCloseStream
	}
	return errors.Is(err, ErrStreamOpen)
}

// fenceAll begins what has to be done before an epoch can be prepared.
func (m *managerMachine) fenceAll() {
	if m.leftovers == leftoversUnknown {
		m.leftovers = leftoversAsked
		m.emit(nukeLeftovers{})
	}
	for _, key := range slices.SortedFunc(maps.Keys(m.unfenced), compareKeys) {
		u := m.unfenced[key]
		l, ok := m.links[key]
		if u.asked || ok && l.phase == linkStarting {
			// One that starts is asked as soon as it runs.
			continue
		}
		u.asked = true
		m.unfenced[key] = u
		m.emit(fenceTakeover{key: key, after: u.after, byName: !ok || !l.runs()})
	}
}

// fence opens the consumer of the link that carries a vbucket again; it is answered by fenced.
func (m *managerMachine) fence(id callID, vb uint16, producer string) {
	if !m.admit(id) {
		return
	}
	key := m.key(producer, vb)
	m.fences[id] = struct{}{}
	l, ok := m.links[key]
	if ok && l.phase == linkStarting {
		l.heldFences = append(l.heldFences, id)
		return
	}
	m.emit(fenceLink{call: id, key: key, byName: !ok || !l.runs()})
}

// fenced is the outcome of fenceLink.
func (m *managerMachine) fenced(id callID, err error) {
	if _, ok := m.fences[id]; ok {
		delete(m.fences, id)
		m.emit(answerManager{call: id, err: err})
	}
}

// takeoverFenced is the outcome of a fence: the consumer has been opened again after that incarnation, or could not be. It says
// nothing of takeovers that have failed on later ones.
func (m *managerMachine) takeoverFenced(key linkKey, after uint64, err error) {
	u, ok := m.unfenced[key]
	switch {
	case !ok || u.after > after:
		m.drained()
	case err != nil:
		u.asked = false
		m.unfenced[key] = u
		m.answerPrepares(&UnfencedError{VBs: u.vbs, Err: err})
	default:
		delete(m.unfenced, key)
		m.drained()
	}
}

// opened says that the link's consumer connection of that incarnation is open; it fences what earlier ones had under way.
func (m *managerMachine) opened(key linkKey, incarnation uint64) {
	if u, ok := m.unfenced[key]; ok && u.after < incarnation {
		m.takeoverFenced(key, incarnation-1, nil)
	}
}

// forgetIncarnations is for a link that is started anew, whose incarnations count from 1 again: any of them fences.
func (m *managerMachine) forgetIncarnations(key linkKey) {
	if u, ok := m.unfenced[key]; ok {
		u.after = 0
		m.unfenced[key] = u
	}
}

// lastIncarnation is the newest of a link's that may have been told of a call, at least 1.
func (m *managerMachine) lastIncarnation(key linkKey) uint64 {
	if l, ok := m.links[key]; ok {
		return max(l.incarnation, 1)
	}
	return 1
}

// nuked is the outcome of nukeLeftovers.
func (m *managerMachine) nuked(err error) {
	if err != nil {
		m.leftovers = leftoversUnknown
		m.answerPrepares(err)
		return
	}
	m.leftovers = leftoversGone
	m.drained()
}
