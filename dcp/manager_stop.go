package dcp

import (
	"errors"
	"time"
)

// managerStop is the planned stop of everything.
type managerStop struct {
	asked   bool
	callers []callID
	errs    []error
}

// shut stops every link; each closes its streams first. Requests that come later are refused, those that wait for an epoch
// are answered.
func (m *managerMachine) shut(id callID, now time.Time) {
	m.stop.callers = append(m.stop.callers, id)
	if !m.stop.asked {
		m.stop.asked = true
		m.answerPrepares(ErrShut)
		for _, key := range m.sortedLinks() {
			switch l := m.links[key]; {
			case l.runs():
				m.stopLink(l)
			case l.phase == linkDown:
				delete(m.links, key)
				m.ended(l, ErrShut, now)
			}
		}
	}
	m.answerShut()
}

// linkShut is the end of one link during the stop.
func (m *managerMachine) linkShut(err error) {
	if err != nil {
		m.stop.errs = append(m.stop.errs, err)
	}
	m.answerShut()
}

func (m *managerMachine) answerShut() {
	if len(m.links) > 0 {
		return
	}
	err := errors.Join(m.stop.errs...)
	for _, id := range m.stop.callers {
		m.emit(answerManager{call: id, err: err})
	}
	m.stop.callers = nil
}
