package rebalance

import (
	"fmt"
	"strings"
	"time"
)

// Progress is how far a rebalance is. What is not known is not given as a number that looks like one.
type Progress struct {
	// State is Rebalancing or Stopping, or another state of a rebalance that has not ended; Idle when it has.
	State State `json:"state"`
	// Stage is what is being done with the bucket; empty before the first and after the last.
	Stage Stage `json:"stage,omitempty"`
	// Fraction is 0 to 1 and never falls. Buckets weigh alike, and so do the moves of one.
	Fraction float64 `json:"fraction"`
	// MovesDone and MovesPlanned count vbuckets. Those of a bucket are planned when its turn comes.
	MovesDone    int `json:"moves_done"`
	MovesPlanned int `json:"moves_planned"`
	// Bucket is the one that is being moved, empty before the first. BucketNumber counts from 1; Buckets is how many there
	// are, 0 until that is known.
	Bucket       string `json:"bucket,omitempty"`
	BucketNumber int    `json:"bucket_number"`
	Buckets      int    `json:"buckets"`
	// Nodes is the part of each node's moves of that bucket that is done, 0 to 1.
	Nodes map[string]float64 `json:"nodes,omitempty"`
	// Items are the documents that new copies need, of all moves that are planned by now.
	Items Amount `json:"items"`
	// Bytes are what the moves have made the replications carry until now. Engines do not tell how large a vbucket is, so
	// Total is no more than Done, and it is never Counted.
	Bytes Amount `json:"bytes"`
	// Rate is of the last two minutes, or of the time that the last twenty moves took if that is longer.
	Rate Rate `json:"rate"`
	// Remaining is how long it takes until all moves are done if it goes on like that; the slower of moves and items decides.
	// It says nothing unless RemainingKnown: at first, in a pause, after two minutes without an advance, and while a bucket
	// has yet to be planned.
	Remaining      time.Duration `json:"remaining_ns"`
	RemainingKnown bool          `json:"remaining_known"`
	// InFlight are the moves that are under way, by vbucket. What a move waits for is at most about a second old.
	InFlight []MoveStatus `json:"in_flight,omitempty"`
	// Stuck is not nil while nothing has advanced for Limits.Stuck.
	Stuck *Stuck `json:"stuck,omitempty"`
}

// Stage is what a rebalance does with a bucket.
type Stage string

// The stages of a bucket.
const (
	// StagePreparing brings the bucket to its new nodes, repairs it, and plans its moves.
	StagePreparing Stage = "preparing"
	// StageMoving is while vbuckets move.
	StageMoving Stage = "moving"
	// StageFinishing checks the result, and takes nodes that hold nothing any more out of the bucket.
	StageFinishing Stage = "finishing"
)

// Amount is how much of something there is, and how much of it is done. Done is never more than Total.
type Amount struct {
	Done  uint64 `json:"done"`
	Total uint64 `json:"total"`
	// Known says what the numbers are worth.
	Known Knowledge `json:"known"`
}

// Left is what is not done.
func (a Amount) Left() uint64 { return a.Total - min(a.Done, a.Total) }

// Knowledge is what is known of an [Amount].
type Knowledge string

// An amount is counted, or only a part of what it is made up of is, so that there is more, or nothing is and the numbers
// say nothing.
const (
	Uncounted     Knowledge = "no"
	PartlyCounted Knowledge = "partly"
	Counted       Knowledge = "yes"
)

// Rate is how fast a rebalance is, in units per second. All are 0 while nothing is known.
type Rate struct {
	Moves float64 `json:"moves_per_second"`
	Items float64 `json:"items_per_second"`
	Bytes float64 `json:"bytes_per_second"`
}

// MoveStatus is one move that is under way.
type MoveStatus struct {
	Bucket string `json:"bucket"`
	VB     uint16 `json:"vb"`
	// From is the old active, empty if there is none; To is the new active, or where only replicas change the first new one.
	From string `json:"from"`
	To   string `json:"to"`
	// Step is the one it is at, empty before the first, and Since is when that began.
	Step  Step      `json:"step"`
	Since time.Time `json:"since"`
	// WaitingFor says of whom what is missing, in words.
	WaitingFor string `json:"waiting_for,omitempty"`
	// Started is when the move began, Advanced when it last got anywhere.
	Started  time.Time `json:"started"`
	Advanced time.Time `json:"advanced"`
	// Items are the documents that its new copies need.
	Items Amount `json:"items"`
}

// Stuck is a rebalance in which nothing advances: no move begins, ends, or comes to its next step, and no copy that is
// being built gets a seqno further.
type Stuck struct {
	// Since is when something last advanced.
	Since time.Time `json:"since"`
	// Stage and Bucket are what is waited in; Moves those under way, each with its step and what it waits for.
	Stage  Stage        `json:"stage"`
	Bucket string       `json:"bucket,omitempty"`
	Moves  []MoveStatus `json:"moves"`
}

// String names the vbuckets, each with its step and what it waits for.
func (s Stuck) String() string {
	if len(s.Moves) == 0 {
		return fmt.Sprintf("%s %q", s.Stage, s.Bucket)
	}
	texts := make([]string, 0, describedProblems+1)
	for i, move := range s.Moves {
		if i == describedProblems {
			texts = append(texts, fmt.Sprintf("… (%d in all)", len(s.Moves)))
			break
		}
		texts = append(texts, move.String())
	}
	return strings.Join(texts, "; ")
}

// String is vb 7 n0→n3 at backfill: n3: backfill from n0.
func (m MoveStatus) String() string {
	return fmt.Sprintf("vb %d %s→%s at %s: %s", m.VB, m.From, m.To, m.Step, m.WaitingFor)
}
