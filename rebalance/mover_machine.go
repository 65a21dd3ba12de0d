package rebalance

import (
	"errors"
	"maps"
	"slices"
	"time"

	"github.com/shearpin/shearpin/dcp"
	"github.com/shearpin/shearpin/rebalance/schedule"
)

// moverMachine decides the moves of one bucket: which start, and when the whole is over (rebalance.md §6). The first
// failure of a move, or of any replication of the bucket, ends it at once; moves that are under way are then left to
// themselves, and what they were doing is the next epoch's to wait for. It has no goroutine, clock or logger.
type moverMachine struct {
	schedule *schedule.Schedule
	plans    map[uint16]movePlan
	// flying are the moves that have started and not ended.
	flying map[uint16]movePlan

	// paused says that no move may begin.
	paused   bool
	stopping bool
	// vague is a failure that does not say why; it waits a moment for one that does.
	vague error
	// ended are moves that are over and still count as flying, so that a better cause can be put down to them.
	ended []uint16
	over  bool

	// aborting are the callers that wait for the end of a move that was asked to abort; aborted are the moves that did.
	aborting map[uint16][]int
	aborted  []uint16

	// bytes holds moves back while too much is carried; filling are those that are filling copies. throttled says that the next
	// look is armed.
	bytes     byteLimit
	filling   map[uint16]bool
	throttled bool

	planned, done int
	leftovers     []string
}

// moverEffect is something that a [moverMachine] wants done.
type moverEffect interface{ isMoverEffect() }

type (
	// startMove begins a move. Its end comes back by moverMachine.moveEnded.
	startMove struct{ Plan movePlan }
	// stopMove asks a move to stop, if it still can.
	stopMove struct{ VB uint16 }
	// tellStreamEnded tells a move that a stream of its vbucket has ended.
	tellStreamEnded struct {
		VB    uint16
		Event dcp.StreamEnded
	}
	// armSettle calls moverMachine.settled after the time that a better cause may take.
	armSettle struct{ After time.Duration }
	// moverProgressed tells how far the bucket is.
	moverProgressed struct {
		Done, Aborted, Planned int
		Nodes                  map[string]float64
	}
	// moverFinished is the last effect; moves that still fly are to be ended without waiting for them.
	moverFinished struct{ Err error }
)

func (startMove) isMoverEffect()       {}
func (stopMove) isMoverEffect()        {}
func (tellStreamEnded) isMoverEffect() {}
func (armSettle) isMoverEffect()       {}
func (moverProgressed) isMoverEffect() {}
func (moverFinished) isMoverEffect()   {}

// settleTime is how long a failure that does not say why waits for one that does. Both come from the same crash, by
// different ways through the same process, so it is short.
const settleTime = 20 * time.Millisecond

func newMoverMachine(plans []movePlan, limits schedule.Limits) *moverMachine {
	m := &moverMachine{
		plans: map[uint16]movePlan{}, flying: map[uint16]movePlan{}, aborting: map[uint16][]int{}, filling: map[uint16]bool{},
		planned: len(plans),
	}
	moves := make([]schedule.Move, len(plans))
	for i, p := range plans {
		m.plans[p.VB] = p
		moves[i] = schedule.Move{VB: int(p.VB), Old: p.Old, New: p.New}
	}
	m.schedule = schedule.New(moves, limits)
	return m
}

// begin starts the first moves. It is called once.
func (m *moverMachine) begin() []moverEffect { return m.round([]moverEffect{m.progress()}) }

// round starts every move that the schedule allows, or finishes if there is nothing left.
func (m *moverMachine) round(effects []moverEffect) []moverEffect {
	if m.over || m.vague != nil {
		return effects
	}
	if m.stopping {
		if len(m.flying) == 0 {
			return m.finish(effects, ErrStopped)
		}
		return effects
	}
	if !m.paused {
		for _, next := range m.next() {
			plan := m.plans[uint16(next.VB)]
			m.flying[plan.VB] = plan
			effects = append(effects, startMove{plan})
		}
	}
	if m.schedule.Done() && len(m.flying) == 0 {
		return m.finish(effects, nil)
	}
	return m.waitsForBytes(effects)
}

func (m *moverMachine) finish(effects []moverEffect, err error) []moverEffect {
	m.over = true
	effects = append(effects, m.answerAllAborting(err)...)
	return append(effects, moverFinished{err})
}

func (m *moverMachine) progress() moverEffect {
	return moverProgressed{Done: m.done, Aborted: len(m.aborted), Planned: m.planned, Nodes: m.schedule.Progress()}
}

// backfillDone takes the news that a move has freed its backfill slots.
func (m *moverMachine) backfillDone(vb uint16) []moverEffect {
	if _, ok := m.flying[vb]; !ok || m.over {
		return nil
	}
	m.schedule.BackfillDone(int(vb))
	m.filledUp(vb)
	return m.round(nil)
}

// moveEnded takes the end of a move.
func (m *moverMachine) moveEnded(vb uint16, err error, leftovers []string) []moverEffect {
	if _, ok := m.flying[vb]; !ok || m.over {
		return nil
	}
	m.leftovers = append(m.leftovers, leftovers...)
	m.filledUp(vb)
	if isAborted(err) {
		return m.moveAborted(vb)
	}
	if err != nil && !m.stopping {
		m.ended = append(m.ended, vb)
		return m.failed(m.attribute(err))
	}
	delete(m.flying, vb)
	if err != nil {
		// What goes wrong after a stop was asked for is the janitor's; the first reason wins.
		return m.round(nil)
	}
	m.done++
	m.schedule.MoveDone(int(vb))
	return m.round(append(m.answerAborting(vb, ErrSwitchBegun), m.progress()))
}

// linkCrashed takes the crash of any replication of the bucket.
func (m *moverMachine) linkCrashed(e dcp.LinkCrashed) []moverEffect {
	if m.over || m.stopping {
		return nil
	}
	return m.failed(m.crashCause(e))
}

// streamEnded takes the end of a stream that nobody asked for. One of a vbucket that does not move is its owner's.
func (m *moverMachine) streamEnded(e dcp.StreamEnded) []moverEffect {
	if _, ok := m.flying[e.VB]; !ok || m.over {
		return nil
	}
	return []moverEffect{tellStreamEnded{VB: e.VB, Event: e}}
}

// stop lets the moves whose switch has begun come to their end, and no others.
func (m *moverMachine) stop() []moverEffect {
	if m.over || m.stopping {
		return nil
	}
	m.stopping = true
	for _, vb := range m.ended {
		delete(m.flying, vb)
	}
	var effects []moverEffect
	for _, vb := range slices.Sorted(maps.Keys(m.flying)) {
		effects = append(effects, stopMove{vb})
	}
	m.vague = nil
	return m.round(effects)
}

// pause keeps moves from beginning, or lets them begin again. Those that fly are let alone.
func (m *moverMachine) pause(paused bool) []moverEffect {
	m.paused = paused
	return m.round(nil)
}

// failed ends everything with the cause, or waits a moment for a better one.
func (m *moverMachine) failed(cause error) []moverEffect {
	if m.vague == nil && isVague(cause) {
		m.vague = cause
		return []moverEffect{armSettle{settleTime}}
	}
	if isVague(cause) {
		return nil
	}
	return m.finish(nil, cause)
}

// settled ends the wait for a better cause.
func (m *moverMachine) settled() []moverEffect {
	if m.over || m.vague == nil {
		return nil
	}
	return m.finish(nil, m.vague)
}

// isVague says that an error only tells that something ended, not why.
func isVague(err error) bool {
	for _, end := range vagueEnds() {
		if errors.Is(err, end) {
			return true
		}
	}
	return false
}
