package rebalance

import "time"

// Outcome is how a rebalance ended.
type Outcome string

// The outcomes.
const (
	Complete Outcome = "complete"
	Stopped  Outcome = "stopped"
	Failed   Outcome = "failed"
)

// Report is the account of one rebalance.
type Report struct {
	ID      string  `json:"id"`
	Outcome Outcome `json:"outcome"`
	// MovesPlanned counts the vbuckets whose chains were to change, Moves those that were done to the end.
	MovesPlanned int `json:"moves_planned"`
	Moves        int `json:"moves"`
	// Started and Ended are zero for what never began or has not ended.
	Started time.Time `json:"started"`
	Ended   time.Time `json:"ended"`
	// Err is why it did not complete, nil if it did; Cause is the same, one text per layer, outermost first.
	Err   error    `json:"-"`
	Cause []string `json:"cause"`
	// Buckets are those that were begun, in order.
	Buckets []BucketReport `json:"buckets"`
}

// BucketReport is the account of one bucket's part in a rebalance.
type BucketReport struct {
	Name         string    `json:"name"`
	Epoch        uint64    `json:"epoch"`
	MovesPlanned int       `json:"moves_planned"`
	Moves        int       `json:"moves"`
	Started      time.Time `json:"started"`
	Ended        time.Time `json:"ended"`
	// Leftovers are copies that were to be deleted and are still there; the janitor deletes them.
	Leftovers []string `json:"leftovers,omitempty"`
}
