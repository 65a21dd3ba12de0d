package rebalance

import "time"

type (
	// FailoverStarted is published when it is in the store that nodes are given up, and nothing has been changed yet.
	FailoverStarted struct {
		ID    string
		Nodes []string
		At    time.Time
	}
	// FailoverEnded is published when its report is complete.
	FailoverEnded struct{ Report FailoverReport }
)

func (FailoverStarted) clusterEvent() {}
func (FailoverEnded) clusterEvent()   {}
