package rebalance

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/shearpin/shearpin/rebalance/vbmap"
)

// Sentinels that errors.Is finds in the errors of this package.
var (
	// ErrRebalanceRunning refuses what cannot be done while a rebalance runs.
	ErrRebalanceRunning = errors.New("a rebalance is running")
	// ErrFailoverRunning refuses what cannot be done while nodes are failed over.
	ErrFailoverRunning = errors.New("a failover is running")
	// ErrMembersChanging refuses what cannot be done while a member is removed or added back.
	ErrMembersChanging = errors.New("the members of the cluster are being changed")
	// ErrNoNodesLeft refuses a failover of all nodes that may hold data.
	ErrNoNodesLeft = errors.New("no node would be left")
	// ErrStopped is the cause of a rebalance that was stopped on request.
	ErrStopped = errors.New("stopped on request")
	// ErrNotRunning refuses to steer a rebalance that has ended or is being stopped.
	ErrNotRunning = errors.New("the rebalance does not run any more")
	// ErrClosed refuses calls on a cluster that has been closed.
	ErrClosed = errors.New("cluster is closed")
	// ErrUnknownNode says that a node is not one of the cluster's.
	ErrUnknownNode = errors.New("unknown node")
	// ErrMapChanged says that somebody else changed a chain between reading and writing it.
	ErrMapChanged = errors.New("the map was changed by somebody else")
)

// RebalanceError is the outermost cause of a rebalance that failed.
type RebalanceError struct {
	// Bucket is the one that was being moved; empty if the rebalance failed outside of any.
	Bucket string
	Err    error
}

func (e *RebalanceError) Error() string {
	if e.Bucket == "" {
		return fmt.Sprintf("rebalance aborted: %v", e.Err)
	}
	return fmt.Sprintf("rebalance of %q aborted: %v", e.Bucket, e.Err)
}

func (e *RebalanceError) Unwrap() error { return e.Err }

// MoveError is the failure of one vbucket's move.
type MoveError struct {
	VB uint16
	// From is the old active, To the new active, or where only replicas change the first new one.
	From, To string
	Step     Step
	Err      error
}

func (e *MoveError) Error() string {
	from := e.From
	if from == "" {
		from = "-"
	}
	return fmt.Sprintf("move of vb %d %s→%s: %v", e.VB, from, e.To, e.Err)
}

func (e *MoveError) Unwrap() error { return e.Err }

// StepTimeout is a step of a move that made no progress within its limit.
type StepTimeout struct {
	VB   uint16
	Step Step
	// WaitedFor says of whom what was missing.
	WaitedFor string
	// Limit is how long there was no progress.
	Limit time.Duration
}

func (e *StepTimeout) Error() string {
	return fmt.Sprintf("step %s of vb %d made no progress for %v: waited for %s", e.Step, e.VB, e.Limit, e.WaitedFor)
}

// StepUnanswered is a step of a move in which a question, or the store, was not answered in time.
type StepUnanswered struct {
	VB   uint16
	Step Step
	// WaitedFor says of whom what was missing.
	WaitedFor string
	Err       error
}

func (e *StepUnanswered) Error() string {
	return fmt.Sprintf("step %s of vb %d was not answered: waited for %s: %v", e.Step, e.VB, e.WaitedFor, e.Err)
}

func (e *StepUnanswered) Unwrap() error { return e.Err }

// NodeError says at which node something failed.
type NodeError struct {
	Node string
	Err  error
}

func (e *NodeError) Error() string { return fmt.Sprintf("node %s: %v", e.Node, e.Err) }

func (e *NodeError) Unwrap() error { return e.Err }

// NodesError is the failure of something that was asked of several nodes, node by node.
type NodesError struct {
	// Doing says what was asked for.
	Doing string
	// Failed is not empty and sorted by node.
	Failed []*NodeError
}

func (e *NodesError) Error() string {
	if len(e.Failed) == 1 {
		return fmt.Sprintf("%s failed: %v", e.Doing, e.Failed[0])
	}
	texts := make([]string, len(e.Failed))
	for i, failed := range e.Failed {
		texts[i] = failed.Error()
	}
	return fmt.Sprintf("%s failed on %d nodes: %s", e.Doing, len(e.Failed), strings.Join(texts, "; "))
}

// Unwrap gives errors.Is and errors.As the causes in node order.
func (e *NodesError) Unwrap() []error {
	errs := make([]error, len(e.Failed))
	for i, failed := range e.Failed {
		errs[i] = failed
	}
	return errs
}

// EstimateError is a backfill whose producer gave an answer that cannot be read as progress.
type EstimateError struct {
	Producer, Consumer string
	// Status is the word that the producer used.
	Status string
	// Waited is how long it had been given to become a better one; 0 for a status that never becomes one.
	Waited time.Duration
}

func (e *EstimateError) Error() string {
	text := fmt.Sprintf("backfill %s→%s: status %q", e.Producer, e.Consumer, e.Status)
	if e.Waited > 0 {
		text += fmt.Sprintf(" for %v", e.Waited)
	}
	return text
}

// StreamLost is the end of a replica stream that a move depended on and nobody had asked for.
type StreamLost struct {
	Producer, Consumer string
	Err                error
}

func (e *StreamLost) Error() string {
	return fmt.Sprintf("replication %s→%s: %v", e.Producer, e.Consumer, e.Err)
}

func (e *StreamLost) Unwrap() error { return e.Err }

// NoActive refuses to move a vbucket that has copies, but none that may become active without losing data.
type NoActive struct {
	VB    uint16
	Chain vbmap.Chain
}

func (e *NoActive) Error() string {
	return fmt.Sprintf("vb %d has no active in its chain %v", e.VB, e.Chain)
}

// ActiveCopy refuses to delete a copy because it is active. Nobody who knows what he does asks for that.
type ActiveCopy struct{ VB uint16 }

func (e *ActiveCopy) Error() string {
	return fmt.Sprintf("the copy of vb %d is active and is not deleted", e.VB)
}

// Leftovers says that a bucket is not as the map wants it at the end of a rebalance.
type Leftovers struct {
	// Problems has one text per difference, sorted.
	Problems []string
}

// KeptCopies refuses a rebalance that would delete or overwrite copies with data that no active has. Somebody has to decide
// what becomes of them.
type KeptCopies struct {
	Bucket string
	// ByVB is vbucket to the nodes with such a copy.
	ByVB map[uint16][]string
}

func (e *KeptCopies) Error() string {
	var copies []string
	for _, vb := range slices.Sorted(maps.Keys(e.ByVB)) {
		if len(copies) == describedProblems {
			copies = append(copies, "…")
			break
		}
		copies = append(copies, fmt.Sprintf("vb %d on %s", vb, strings.Join(e.ByVB[vb], ", ")))
	}
	return fmt.Sprintf("%d vbuckets of %q have copies with data that their active lacks: %s", len(e.ByVB), e.Bucket, strings.Join(copies, "; "))
}

// describedProblems bounds how many differences an error text spells out.
const describedProblems = 4

func (e *Leftovers) Error() string {
	shown := e.Problems[:min(len(e.Problems), describedProblems)]
	text := fmt.Sprintf("%d differences from the map: %s", len(e.Problems), strings.Join(shown, "; "))
	if len(shown) < len(e.Problems) {
		text += "; …"
	}
	return text
}
