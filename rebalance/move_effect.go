package rebalance

import (
	"fmt"
	"time"
)

// moveEffect is something that a [moveMachine] wants done.
type moveEffect interface{ String() string }

type (
	// moveStep tells that a step has begun.
	moveStep struct{ Step Step }
	// moveAsk sends a request to a node's agent. Its answer comes back by moveMachine.answered.
	moveAsk struct {
		ID      int
		Node    string
		Request agentRequest
	}
	// moveCommit writes the new chain into the map if the old one is still there. It is answered like a moveAsk.
	moveCommit struct{ ID int }
	// moveBackfillDone frees the move's backfill slots in the schedule.
	moveBackfillDone struct{}
	// moveSetTimer arms a timer; one with the same kind and node that is still running is replaced.
	moveSetTimer struct {
		Timer moveTimer
		After time.Duration
	}
	// moveFinished is the last effect. Leftovers are the copies that could not be deleted; they do not fail the move.
	moveFinished struct {
		Err       error
		Leftovers []*NodeError
	}
)

type timerKind uint8

const (
	timerWatchdog timerKind = iota
	timerPoll
	timerProbe
)

func (k timerKind) String() string { return [...]string{"watchdog", "poll", "probe"}[k] }

// moveTimer identifies a timer. Its step lets the machine tell a late one.
type moveTimer struct {
	Step Step
	Kind timerKind
	Node string
	// Late is how much later than it should have it fires.
	Late time.Duration
}

func (e moveStep) String() string       { return "step " + string(e.Step) }
func (e moveAsk) String() string        { return fmt.Sprintf("ask %d %s: %s", e.ID, e.Node, e.Request) }
func (e moveCommit) String() string     { return fmt.Sprintf("commit %d", e.ID) }
func (moveBackfillDone) String() string { return "backfill done" }
func (e moveSetTimer) String() string   { return fmt.Sprintf("timer %s %v", e.Timer, e.After) }
func (t moveTimer) String() string {
	if t.Node == "" {
		return t.Kind.String()
	}
	return t.Kind.String() + " " + t.Node
}

func (e moveFinished) String() string {
	text := "finished"
	if e.Err != nil {
		text += ": " + e.Err.Error()
	}
	for _, left := range e.Leftovers {
		text += "; left over on " + left.Error()
	}
	return text
}
