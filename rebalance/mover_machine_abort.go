package rebalance

import (
	"errors"
	"fmt"
	"slices"
)

// Moves can be aborted one by one (Run.AbortMove). One that waits for its turn is taken off the plan; one that is under way
// is asked, because only it knows whether its switch has begun.

type (
	// askAbort asks a move to abort. If it refuses, that comes back by moverMachine.abortRefused; else its end does.
	askAbort struct{ VB uint16 }
	// answerAbort answers a caller: nil if the move has been aborted.
	answerAbort struct {
		ID  int
		Err error
	}
)

func (askAbort) isMoverEffect()    {}
func (answerAbort) isMoverEffect() {}

// abort takes the request to abort the move of a vbucket.
func (m *moverMachine) abort(caller int, vb uint16) []moverEffect {
	plan, planned := m.plans[vb]
	_, flying := m.flying[vb]
	switch {
	case m.over || m.stopping:
		return []moverEffect{answerAbort{caller, ErrNotRunning}}
	case slices.Contains(m.aborted, vb):
		return []moverEffect{answerAbort{ID: caller}}
	case flying:
		m.aborting[vb] = append(m.aborting[vb], caller)
		return []moverEffect{askAbort{vb}}
	case planned && m.schedule.Cancel(int(plan.VB)):
		m.aborted = append(m.aborted, vb)
		return m.round([]moverEffect{answerAbort{ID: caller}, m.progress()})
	}
	return []moverEffect{answerAbort{caller, ErrNotMoving}}
}

// abortRefused takes the answer of a move whose switch has begun, or that is over.
func (m *moverMachine) abortRefused(vb uint16) []moverEffect {
	return m.answerAborting(vb, ErrSwitchBegun)
}

// answerAborting answers all who wait for the end of a move.
func (m *moverMachine) answerAborting(vb uint16, err error) (effects []moverEffect) {
	for _, caller := range m.aborting[vb] {
		effects = append(effects, answerAbort{caller, err})
	}
	delete(m.aborting, vb)
	return effects
}

// answerAllAborting answers everybody who still waits, when the mover ends.
func (m *moverMachine) answerAllAborting(err error) (effects []moverEffect) {
	answer := ErrNotRunning
	if err != nil {
		// In words only: what the cause is made of is no property of the answer.
		answer = fmt.Errorf("%w: %s", ErrNotRunning, err.Error())
	}
	for _, vb := range sortedKeys(m.aborting) {
		effects = append(effects, m.answerAborting(vb, answer)...)
	}
	return effects
}

// moveAborted takes the end of a move that was aborted.
func (m *moverMachine) moveAborted(vb uint16) []moverEffect {
	delete(m.flying, vb)
	m.aborted = append(m.aborted, vb)
	m.schedule.MoveDone(int(vb))
	return m.round(append(m.answerAborting(vb, nil), m.progress()))
}

func isAborted(err error) bool { return errors.Is(err, ErrMoveAborted) }
