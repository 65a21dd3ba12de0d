package rebalance

import (
	"fmt"
	"slices"
	"time"
)

// conclude fills in what follows from the rest of a report that has ended.
func (r *Report) conclude() {
	r.Cause = Causes(r.Err)
	if r.Cause == nil {
		r.Cause = []string{}
	}
	r.Took = took(r.Started, r.Ended)
	for i := range r.Buckets {
		if r.Buckets[i].Ended.IsZero() && !r.Buckets[i].Started.IsZero() {
			r.Buckets[i].Ended = r.Ended
		}
		r.Buckets[i].Took = took(r.Buckets[i].Started, r.Buckets[i].Ended)
	}
	if r.Outcome == Complete {
		r.Fraction = 1
	}
	if r.Items.Known == "" {
		r.Items.Known = Uncounted
	}
	if r.Bytes.Known == "" {
		r.Bytes.Known = Uncounted
	}
	if r.Type == "" {
		r.Type = NormalRebalance
	}
	r.Message = r.message()
}

// took is the time between two moments, 0 if one of them is not known.
func took(from, to time.Time) Seconds {
	if from.IsZero() || to.Before(from) {
		return 0
	}
	return Seconds(to.Sub(from).Seconds())
}

// message is how the rebalance ended, in a sentence.
func (r *Report) message() string {
	moves := fmt.Sprintf("%d of %d moves in %v", r.Moves, r.MovesPlanned, r.Took.Duration().Round(time.Millisecond))
	switch r.Outcome {
	case Complete:
		return fmt.Sprintf("Rebalance completed: %s.", moves)
	case Partial:
		return fmt.Sprintf("Rebalance completed but for moves that were aborted on request: %s.", moves)
	case Stopped:
		return fmt.Sprintf("Rebalance stopped on request: %s.", moves)
	case Interrupted:
		return fmt.Sprintf("Rebalance interrupted, because %v. At least %d of %d moves were done.", ErrInterrupted, r.Moves, r.MovesPlanned)
	}
	return fmt.Sprintf("Rebalance failed after %s: %v.", moves, r.Err)
}

// rebalanceType tells it by the nodes that come and go.
func rebalanceType(added, removed int) RebalanceType {
	switch {
	case added == removed && added > 0:
		return SwapRebalance
	case added > 0 && removed == 0:
		return NodeAddition
	case removed > 0 && added == 0:
		return NodeRemoval
	}
	return NormalRebalance
}

// describeNodes says which nodes take part, from those that have something now and those that shall.
func (r *Report) describeNodes(servers, keep []string) {
	active, kept := distinct(servers), distinct(keep)
	slices.Sort(active)
	slices.Sort(kept)
	r.NodesAdded, r.NodesRemoved = some(without(kept, active...)), some(without(active, kept...))
	r.Nodes.Active, r.Nodes.Keep, r.Nodes.Eject = some(active), some(kept), r.NodesRemoved
	r.Nodes.Failed, r.Nodes.Delta = some(r.Nodes.Failed), some(r.Nodes.Delta)
	r.Type = rebalanceType(len(r.NodesAdded), len(r.NodesRemoved))
}

// some is never nil, so that its JSON is a list.
func some(names []string) []string {
	if names == nil {
		return []string{}
	}
	return names
}
