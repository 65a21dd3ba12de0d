package rebalance

import (
	"time"

	"github.com/shearpin/shearpin/rebalance/vbmap"
)

// Event is news of a cluster, published on [Cluster.Events]. A subscriber that is slow loses events, never holds
// anybody up.
type Event interface{ clusterEvent() }

type (
	// RebalanceStarted is published when a rebalance was accepted.
	RebalanceStarted struct {
		ID string
		// RetryOf is as in [Report].
		RetryOf string
		At      time.Time
	}
	// RebalanceEnded is published when its report is complete.
	RebalanceEnded struct{ Report Report }
	// MoveStarted is published when the move of a vbucket begins.
	MoveStarted struct {
		Bucket   string
		VB       uint16
		Old, New vbmap.Chain
		At       time.Time
	}
	// MoveEnded is published when a move has ended; Err is nil if it was done to the end.
	MoveEnded struct {
		Bucket string
		VB     uint16
		Err    error
		At     time.Time
	}
	// RebalanceStuck is published when nothing has advanced for Limits.Stuck.
	RebalanceStuck struct {
		ID    string
		Stuck Stuck
		At    time.Time
	}
	// RebalanceUnstuck is published when something advances again. A rebalance may end before.
	RebalanceUnstuck struct {
		ID     string
		Bucket string
		At     time.Time
	}
	// JanitorStarted is published when a run of the janitor begins.
	JanitorStarted struct {
		Reason string
		At     time.Time
	}
	// JanitorEnded is published when it ends.
	JanitorEnded struct{ Report JanitorReport }
)

func (RebalanceStarted) clusterEvent() {}
func (RebalanceEnded) clusterEvent()   {}
func (MoveStarted) clusterEvent()      {}
func (MoveEnded) clusterEvent()        {}
func (RebalanceStuck) clusterEvent()   {}
func (RebalanceUnstuck) clusterEvent() {}
func (JanitorStarted) clusterEvent()   {}
func (JanitorEnded) clusterEvent()     {}
