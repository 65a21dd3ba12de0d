package rebalance

import (
	"encoding/json"
	"math"
	"time"

	"github.com/shearpin/shearpin/rebalance/vbmap"
)

// Outcome is how a rebalance ended.
type Outcome string

// The outcomes.
const (
	Complete Outcome = "complete"
	Stopped  Outcome = "stopped"
	Failed   Outcome = "failed"
	// Partial is complete but for moves that were aborted on request. It is not Complete, because a node that was to leave
	// may still hold what was not moved: look at [BucketReport.Aborted] before it is switched off.
	Partial Outcome = "partial"
	// Interrupted is a rebalance whose manager, or orchestrator, died: nobody knows how far it came.
	Interrupted Outcome = "interrupted"
)

// RebalanceType says what a rebalance did to the set of nodes.
type RebalanceType string

// The types. A swap adds as many nodes as it removes; what is none of the others is normal.
const (
	NormalRebalance RebalanceType = "normal"
	NodeAddition    RebalanceType = "node_addition"
	NodeRemoval     RebalanceType = "node_removal"
	SwapRebalance   RebalanceType = "swap_rebalance"
	// GracefulFailoverType is a graceful failover: the nodes removed are failed over at its end.
	GracefulFailoverType RebalanceType = "graceful_failover"
)

// Seconds is a length of time.
type Seconds float64

// MarshalJSON implements [json.Marshaler]: to the microsecond.
func (s Seconds) MarshalJSON() ([]byte, error) { return json.Marshal(math.Round(float64(s)*1e6) / 1e6) }

// Duration is the same in Go's terms.
func (s Seconds) Duration() time.Duration { return time.Duration(float64(s) * float64(time.Second)) }

// Report is the account of one rebalance. docs/operations.md shows its JSON.
type Report struct {
	ID      string        `json:"id"`
	Outcome Outcome       `json:"outcome"`
	Type    RebalanceType `json:"type"`
	// Message is the outcome in a sentence.
	Message string `json:"completion_message"`
	// MovesPlanned counts the vbuckets whose chains were to change, Moves those that were done to the end.
	MovesPlanned int `json:"moves_planned"`
	Moves        int `json:"moves"`
	// Fraction is how far it came, 0 to 1.
	Fraction float64 `json:"fraction"`
	// Items are the documents that new copies needed, as far as they were counted.
	Items Amount `json:"items"`
	// Bytes are as in [Progress].
	Bytes Amount `json:"bytes"`
	// Started and Ended are zero for what never began or has not ended. The end of an interrupted rebalance is when that was
	// found out.
	Started time.Time `json:"started"`
	Ended   time.Time `json:"ended"`
	Took    Seconds   `json:"took_s"`
	// Err is why it did not complete, nil if it did; Cause is the same, one text per layer, outermost first.
	Err   error    `json:"-"`
	Cause []string `json:"cause"`
	// NodesAdded and NodesRemoved are sorted: nodes that held nothing of these buckets before, or were to hold nothing of
	// them afterwards.
	NodesAdded   []string    `json:"nodes_added"`
	NodesRemoved []string    `json:"nodes_removed"`
	Nodes        ReportNodes `json:"nodes_info"`
	// Buckets are those that were begun, in order.
	Buckets []BucketReport `json:"buckets"`
	// RetryOf is the rebalance that failed first, if this one was started again by itself.
	RetryOf string `json:"retry_of,omitempty"`
	// Failover is the end of a graceful failover; nil if it did not come to that.
	Failover *FailoverReport `json:"failover,omitempty"`
}

// ReportNodes are the nodes of a rebalance by their part in it. All are sorted.
type ReportNodes struct {
	// Active held something when it began.
	Active []string `json:"active_nodes"`
	// Keep were to hold something at its end, Eject no longer.
	Keep  []string `json:"keep_nodes"`
	Eject []string `json:"eject_nodes"`
	// Failed were failed over before, Delta were added back.
	Failed []string `json:"failed_nodes"`
	Delta  []string `json:"delta_nodes"`
}

// BucketReport is the account of one bucket's part in a rebalance.
type BucketReport struct {
	Name         string    `json:"name"`
	Epoch        uint64    `json:"epoch"`
	MovesPlanned int       `json:"moves_planned"`
	Moves        int       `json:"moves"`
	Started      time.Time `json:"started"`
	Ended        time.Time `json:"ended"`
	Took         Seconds   `json:"took_s"`
	// Nodes is the part of each node's moves that was done, 0 to 1.
	Nodes map[string]float64 `json:"nodes,omitempty"`
	// Leftovers are copies that were to be deleted and are still there; the janitor deletes them.
	Leftovers []string `json:"leftovers,omitempty"`
	// Aborted are the vbuckets whose moves were aborted on request, sorted. They are as they were before; nodes that were to
	// leave and are in their chains stay servers of the bucket.
	Aborted []uint16 `json:"aborted,omitempty"`
	// Steps sums up the steps of all moves, those that were not ended included.
	Steps map[Step]StepSummary `json:"steps,omitempty"`
	// Move sums up the moves that were done.
	Move StepSummary `json:"move"`
	// Items are the documents that new copies needed, as far as they were counted.
	Items Amount `json:"items"`
	// VBuckets are the moves that were begun, by vbucket. Of a very large bucket only some are listed: those that were not
	// done, and the slowest; Omitted counts the others.
	VBuckets []VBucketReport `json:"vbuckets,omitempty"`
	Omitted  int             `json:"omitted,omitempty"`
}

// StepSummary sums up how long something took.
type StepSummary struct {
	Count   int     `json:"count"`
	Total   Seconds `json:"total_s"`
	Average Seconds `json:"average_s"`
	Longest Seconds `json:"longest_s"`
}

func (s *StepSummary) add(took Seconds) {
	s.Count++
	s.Total += took
	s.Average = s.Total / Seconds(s.Count)
	s.Longest = max(s.Longest, took)
}

// MoveOutcome is how a move ended.
type MoveOutcome string

// The outcomes of moves.
const (
	MoveDone MoveOutcome = "done"
	// MoveFailed caused the rebalance to fail, or was found to have failed with it.
	MoveFailed MoveOutcome = "failed"
	// MoveStopped ended before its switch because the rebalance was stopped.
	MoveStopped MoveOutcome = "stopped"
	// MoveAborted was ended alone, on request.
	MoveAborted MoveOutcome = "aborted"
	// MoveUnfinished was under way when the rebalance ended; the janitor finds out what became of it.
	MoveUnfinished MoveOutcome = "unfinished"
)

// VBucketReport is the account of one move.
type VBucketReport struct {
	VB      uint16      `json:"vb"`
	Outcome MoveOutcome `json:"outcome"`
	// Before and After are its chains. If it was not done, the chain in force is the map's to say.
	Before vbmap.Chain `json:"before_chain"`
	After  vbmap.Chain `json:"after_chain"`
	// Started and Ended are zero for what never began or has not ended.
	Started time.Time `json:"started"`
	Ended   time.Time `json:"ended"`
	Took    Seconds   `json:"took_s"`
	// Steps are in the order in which they were taken. The last of a move that is unfinished goes up to the report's end.
	Steps []StepTime `json:"steps"`
	// Copies are the nodes that got the vbucket's documents.
	Copies []CopyReport `json:"copies,omitempty"`
	// Cause is why it was not done, one text per layer, outermost first; empty for one that was.
	Cause []string `json:"cause,omitempty"`
}

// StepTime is how long a move was at one step.
type StepTime struct {
	Step    Step      `json:"step"`
	Started time.Time `json:"started"`
	Took    Seconds   `json:"took_s"`
}

// CopyReport is what one new copy needed.
type CopyReport struct {
	Node  string `json:"node"`
	Items Amount `json:"items"`
}
