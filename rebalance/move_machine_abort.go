package rebalance

import (
	"slices"

	"github.com/shearpin/shearpin/dcp/mcbp"
)

// An aborted move leaves its vbucket as it was. Unlike a stop, which leaves what it finds to the janitor, it is not
// followed by a new epoch: the other moves go on. So the move itself takes back what clients and the replications would
// feel. The copies that it was building stay; the janitor decides on those.

// switching says that the vbucket may get its new active, or its new chain, at any time from now on.
func (m *moveMachine) switching() bool {
	return slices.ContainsFunc(m.steps[:m.at+1], func(s Step) bool {
		return s == StepTakeover || s == StepActivate || s == StepCommit
	})
}

// abort takes the move back, and reports whether it still can be. The end is a [moveFinished] with [ErrMoveAborted], or
// with what went wrong on the way. To ask once more changes nothing.
func (m *moveMachine) abort() ([]moveEffect, bool) {
	if m.aborted {
		return nil, true
	}
	if m.over || m.switching() {
		return nil, false
	}
	steps := []Step{StepUndoStreams}
	if slices.Contains(m.steps[:m.at+1], StepTopology) {
		steps = slices.Insert(steps, 0, StepUndoTopology)
	}
	m.aborted, m.abortedAt = true, m.step()
	m.steps, m.at = steps, -1
	// What has been asked for goes on at the nodes, and ends before what is asked for now: orders on a vbucket do not
	// overtake each other.
	clear(m.pending)
	clear(m.probes)
	return m.advance(), true
}

// enterUndo gives the requests that a step of the way back begins with.
func (m *moveMachine) enterUndo() (asks []moveEffect) {
	p := m.plan
	switch m.step() {
	case StepUndoTopology:
		// First, so that no durable write waits for a copy that loses its stream.
		return append(asks, m.ask(p.From, setState{
			stamp: m.stamp, VB: p.VB, State: mcbp.VBucketActive, Topology: [][]string{p.Old},
		}))
	case StepUndoStreams:
		for _, node := range p.Build {
			stream := setStream{stamp: m.stamp, VB: p.VB}
			if p.Old.Contains(node) {
				// Nobody's, as before the move: the replications look after it.
				stream.Owner, stream.Producer = "", p.From
			}
			asks = append(asks, m.ask(node, stream))
		}
	}
	return asks
}

// finishAborted is the end of the way back.
func (m *moveMachine) finishAborted() moveEffect {
	return moveFinished{
		Err:       &MoveError{VB: m.plan.VB, From: m.plan.From, To: m.plan.destination(), Step: m.abortedAt, Err: ErrMoveAborted},
		Leftovers: m.left,
	}
}
