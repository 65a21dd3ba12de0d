package demo

import (
	"strconv"
	"time"
)

// Values of Result.Status.
const (
	StatusComplete = "complete"
	StatusFailed   = "failed"
)

// Result is the outcome of a run as --json prints it. Every field is always there; what did not happen is null, 0 or an
// empty list.
type Result struct {
	// Status is complete if and only if every expectation held.
	Status string `json:"status"`
	// Failures names the expectations that did not hold.
	Failures []string `json:"failures"`
	// Error says why the run could not begin or go on.
	Error *string `json:"error"`
	// Rebalances are in the order in which they ran.
	Rebalances []Rebalance `json:"rebalances"`
	Fault      *Fault      `json:"fault"`
	// AckedWrites counts the load and the writers.
	AckedWrites int `json:"acked_writes"`
	LostWrites  int `json:"lost_writes"`
	// MismatchedReplicas counts (vbucket, replica) pairs.
	MismatchedReplicas int `json:"mismatched_replicas"`
	// ConnectionRestarts counts the incarnations of consumer connections beyond the first of each.
	ConnectionRestarts int     `json:"connection_restarts"`
	JanitorRuns        int     `json:"janitor_runs"`
	Seconds            Decimal `json:"seconds"`
}

// Rebalance is one of the run's rebalances.
type Rebalance struct {
	// Outcome is complete, failed or stopped.
	Outcome      string `json:"outcome"`
	MovesPlanned int    `json:"moves_planned"`
	// Moves counts those that were completed.
	Moves   int     `json:"moves"`
	Seconds Decimal `json:"seconds"`
	// Cause has one text per layer, outermost first.
	Cause []string `json:"cause"`
}

// Fault is the fault that was injected.
type Fault struct {
	Kind     string `json:"kind"`
	VB       int    `json:"vb"`
	Producer string `json:"producer"`
	Consumer string `json:"consumer"`
	// AbortMS is the time in milliseconds from the faulty frame on the wire, or from the expiry of the deadline that has
	// to catch it, to the rebalance being reported as failed; null if it did not fail.
	AbortMS *Decimal `json:"abort_ms"`
}

// Decimal is a number that is printed with a decimal point even if it is whole, so that readers with typed numbers
// always see a fraction.
type Decimal float64

// MarshalJSON prints six digits after the point.
func (d Decimal) MarshalJSON() ([]byte, error) {
	return strconv.AppendFloat(nil, float64(d), 'f', 6, 64), nil
}

// Seconds is d in seconds.
func Seconds(d time.Duration) Decimal { return Decimal(d.Seconds()) }

// Milliseconds is d in milliseconds.
func Milliseconds(d time.Duration) Decimal { return Decimal(float64(d) / float64(time.Millisecond)) }

// Failed is the result of a run that could not begin.
func Failed(err error) *Result {
	text := err.Error()
	return &Result{Status: StatusFailed, Failures: []string{}, Error: &text, Rebalances: []Rebalance{}}
}

// Fail adds an expectation that did not hold.
func (r *Result) Fail(failure string) {
	r.Status = StatusFailed
	r.Failures = append(r.Failures, failure)
}
