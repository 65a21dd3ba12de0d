package rebalance

import "fmt"

// A rebalance that runs can be steered: paused, resumed, relieved of a move. Who is asked for that passes it on, down to the
// mover, which is the one that knows; its answer is the caller's. A rebalance that is paused is still the one that runs: no
// other can begin, and the janitor does not run.

// steerRebalance passes an order on to the rebalance and answers the caller with the outcome.
type steerRebalance struct {
	ID    int
	Order steering
}

func (steerRebalance) isOrchestratorEffect() {}

// steering is an order to a rebalance that runs.
type steering interface{ String() string }

type (
	// pauseMoves keeps moves from beginning, or lets them begin again.
	pauseMoves struct{ paused bool }
	// abortMove ends the move of one vbucket and leaves it as it was.
	abortMove struct {
		bucket string
		vb     uint16
	}
)

func (o abortMove) String() string {
	return fmt.Sprintf("abort of the move of vb %d of %q", o.vb, o.bucket)
}

func (o pauseMoves) String() string {
	if o.paused {
		return "pause"
	}
	return "resume"
}

// moving says that a rebalance runs that was not asked to stop.
func (m *orchestratorMachine) moving() bool { return m.state == Rebalancing || m.state == Paused }

// steer takes an order to a rebalance. One that is being stopped takes none any more.
func (m *orchestratorMachine) steer(caller int, run string, order steering) []orchestratorEffect {
	if !m.moving() || m.run != run {
		return []orchestratorEffect{answerCaller{ID: caller, Err: ErrNotRunning}}
	}
	if pause, ok := order.(pauseMoves); ok {
		m.state = Rebalancing
		if pause.paused {
			m.state = Paused
		}
	}
	return []orchestratorEffect{steerRebalance{ID: caller, Order: order}}
}
