package dcp

import "time"

// This file says how much the manager takes on. What is beyond is refused with an *OverloadedError; nothing that was taken on
// is dropped.

// admit takes a request, or answers it at once.
func (m *managerMachine) admit(id callID) bool {
	var err error
	switch {
	case m.stop.asked:
		err = ErrShut
	case len(m.calls)+len(m.fences) >= m.limits.Calls:
		err = &OverloadedError{What: "calls", Limit: m.limits.Calls}
	default:
		return true
	}
	m.emit(answerManager{call: id, err: err})
	return false
}

// accept reports why a link cannot take n more operations, nil if it can. A link that is paused for longer than a call may
// wait for a connection does not take any.
func (m *managerMachine) accept(key linkKey, n int, now time.Time) error {
	l, ok := m.links[key]
	switch {
	case m.stop.asked:
		return m.linkOf(key).wrap(ErrShut)
	case !ok && len(m.links) >= m.limits.Links:
		return m.linkOf(key).wrap(&OverloadedError{What: "links", Limit: m.limits.Links})
	case !ok:
		return nil
	case l.backlog+n > m.limits.Backlog:
		return m.linkOf(key).wrap(&OverloadedError{What: "operations on the link", Limit: m.limits.Backlog})
	case l.refused != nil:
		return l.refused
	case l.phase == linkDown && l.retryAt.Sub(now) > m.limits.Join:
		return m.linkOf(key).wrap(&NotConnectedError{Err: l.lastErr})
	}
	return nil
}
