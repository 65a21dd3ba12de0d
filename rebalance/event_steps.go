package rebalance

import (
	"time"

	"github.com/shearpin/shearpin/dcp/mcbp"
	"github.com/shearpin/shearpin/rebalance/vbmap"
)

// This file has the news of what a rebalance does on its way. They are many: several for each vbucket.

type (
	// RebalanceBegan is published when it is decided who takes part, before anything is changed.
	RebalanceBegan struct {
		ID      string
		Buckets []string
		Nodes   ReportNodes
		At      time.Time
	}
	// BucketRebalanceStarted is published when a bucket's turn comes.
	BucketRebalanceStarted struct {
		ID, Bucket string
		At         time.Time
	}
	// BucketRebalanceEnded is published when its part is over; Err is nil if that was done to the end.
	BucketRebalanceEnded struct {
		ID, Bucket string
		Err        error
		At         time.Time
	}
	// MoveStepped is published when a move comes to a step, and with no Step when it ends.
	MoveStepped struct {
		Bucket string
		VB     uint16
		// From and To are the old and the new active; From is empty if there is none. Build are the nodes that get a copy.
		From, To string
		Build    []string
		Step     Step
		// Previous is the step that is over, and Took how long it took; empty at the first.
		Previous Step
		Took     time.Duration
		At       time.Time
	}
	// ChainChanged is published when a vbucket has another chain in the map that is in force.
	ChainChanged struct {
		Bucket        string
		VB            uint16
		Before, After vbmap.Chain
		At            time.Time
	}
	// TargetSet is published when a bucket has a fast-forward map; Moves is how many of its chains differ from the map in force.
	TargetSet struct {
		Bucket string
		Moves  int
		At     time.Time
	}
	// TargetReset is published when it has none any more.
	TargetReset struct {
		Bucket string
		At     time.Time
	}
	// VBucketStateSet is published when a node has acknowledged the state of a copy.
	VBucketStateSet struct {
		Bucket, Node string
		VB           uint16
		State        mcbp.VBucketState
		Topology     [][]string
		At           time.Time
	}
	// BucketCreated is published when a bucket's copies exist and its replication runs.
	BucketCreated struct {
		Bucket string
		At     time.Time
	}
)

func (RebalanceBegan) clusterEvent()         {}
func (BucketRebalanceStarted) clusterEvent() {}
func (BucketRebalanceEnded) clusterEvent()   {}
func (MoveStepped) clusterEvent()            {}
func (ChainChanged) clusterEvent()           {}
func (TargetSet) clusterEvent()              {}
func (TargetReset) clusterEvent()            {}
func (VBucketStateSet) clusterEvent()        {}
func (BucketCreated) clusterEvent()          {}
