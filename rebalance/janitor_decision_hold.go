package rebalance

import (
	"fmt"
	"strings"

	"github.com/shearpin/shearpin/dcp/kv"
	"github.com/shearpin/shearpin/dcp/mcbp"
)

// The reasons for which the janitor leaves a vbucket alone.

// WaitingForNodes says that nodes did not answer of which one may hold the only active copy, or the only data.
type WaitingForNodes struct {
	VB uint16
	// Nodes is sorted.
	Nodes []string
}

func (e *WaitingForNodes) Error() string {
	return fmt.Sprintf("vb %d is left alone: no answer from %s", e.VB, strings.Join(e.Nodes, ", "))
}

// UnknownVBucket says that a takeover was abandoned and could not be fenced, so that a copy may become active at any
// moment.
type UnknownVBucket struct {
	VB uint16
	// Nodes is the consumers that could not be fenced, sorted.
	Nodes []string
}

func (e *UnknownVBucket) Error() string {
	return fmt.Sprintf("vb %d is left alone: an abandoned takeover is not fenced on %s", e.VB, strings.Join(e.Nodes, ", "))
}

// HistoryNeeded says that the decision depends on failover logs that have not been read: read them and decide again.
type HistoryNeeded struct {
	VB uint16
	// Nodes is in no particular order, each once.
	Nodes []string
}

func (e *HistoryNeeded) Error() string {
	return fmt.Sprintf("vb %d is left alone: failover logs of %s are needed", e.VB, strings.Join(e.Nodes, ", "))
}

// Conflict says that no copy has the data of all others that count. Any choice would lose acknowledged writes, so the
// operator has to make it; until then the vbucket is not moved.
type Conflict struct {
	VB uint16
	// Copies is those that contradict each other, the preferred one first.
	Copies []ConflictingCopy
}

// ConflictingCopy is one side of a [Conflict].
type ConflictingCopy struct {
	Node        string
	State       mcbp.VBucketState
	HighSeqno   uint64
	UUID        uint64
	FailoverLog []kv.FailoverEntry
}

func (e *Conflict) Error() string {
	sides := make([]string, len(e.Copies))
	for i, side := range e.Copies {
		sides[i] = side.String()
	}
	return fmt.Sprintf("vb %d is in conflict and left alone: %s", e.VB, strings.Join(sides, " against "))
}

// String prints the copy as n0 (active, seqno 105, history 7@100 3@0): branch 7 begins at seqno 100.
func (c ConflictingCopy) String() string {
	history := fmt.Sprintf(" %x", c.UUID)
	if len(c.FailoverLog) > 0 {
		history = ""
	}
	for _, entry := range c.FailoverLog {
		history += fmt.Sprintf(" %x@%d", entry.UUID, entry.Seqno)
	}
	return fmt.Sprintf("%s (%v, seqno %d, history%s)", c.Node, c.State, c.HighSeqno, history)
}

// StrayData says that the only data of a vbucket is on nodes that neither chain knows. An empty active is not created
// over it.
type StrayData struct {
	VB uint16
	// Nodes is sorted.
	Nodes []string
}

func (e *StrayData) Error() string {
	return fmt.Sprintf("vb %d is left alone: its only data is on %s, which no chain names", e.VB, strings.Join(e.Nodes, ", "))
}

// NoData says that a vbucket is lost: its chain has no member and no server has data of it.
type NoData struct {
	VB uint16
}

func (e *NoData) Error() string {
	return fmt.Sprintf("vb %d is lost: nobody is its active and no server has data of it", e.VB)
}
