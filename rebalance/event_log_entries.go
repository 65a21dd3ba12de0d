package rebalance

import (
	"fmt"
	"strings"

	"github.com/shearpin/shearpin/dcp"
)

// What the log says of each event. The types are those of rebalance.md §11.2 where there is one that fits.

// logged is the entries of a cluster's event; none for what is not worth one.
func logged(event Event) []LoggedEvent {
	one := func(e LoggedEvent) []LoggedEvent { return []LoggedEvent{e} }
	switch e := event.(type) {
	case RebalanceStarted:
		return one(LoggedEvent{Type: "rebalanceAccepted", At: e.At, Run: e.ID})
	case RebalanceBegan:
		return one(LoggedEvent{
			Type: "rebalanceStart", At: e.At, Run: e.ID, Keep: listOf(e.Nodes.Keep), Eject: listOf(e.Nodes.Eject),
			Failed: listOf(e.Nodes.Failed), Delta: listOf(e.Nodes.Delta), Count: len(e.Buckets),
		})
	case RebalanceEnded:
		return one(LoggedEvent{
			Type: "rebalanceEnd", At: e.Report.Ended, Run: e.Report.ID, Reason: string(e.Report.Outcome), Cause: e.Report.Cause,
			Count: e.Report.Moves,
		})
	case RebalanceStuck:
		return one(LoggedEvent{Type: "rebalanceStuck", At: e.At, Run: e.ID, Bucket: e.Stuck.Bucket, Reason: e.Stuck.String(), Count: len(e.Stuck.Moves)})
	case RebalanceUnstuck:
		return one(LoggedEvent{Type: "rebalanceUnstuck", At: e.At, Run: e.ID, Bucket: e.Bucket})
	case BucketRebalanceStarted:
		return one(LoggedEvent{Type: "bucketRebalanceStarted", At: e.At, Run: e.ID, Bucket: e.Bucket})
	case BucketRebalanceEnded:
		return one(LoggedEvent{Type: "bucketRebalanceEnded", At: e.At, Run: e.ID, Bucket: e.Bucket, Cause: Causes(e.Err)})
	case BucketCreated:
		return one(LoggedEvent{Type: "createBucket", At: e.At, Bucket: e.Bucket})
	case TargetSet:
		return one(LoggedEvent{Type: "updateFastForwardMap", At: e.At, Bucket: e.Bucket, Count: e.Moves})
	case TargetReset:
		return one(LoggedEvent{Type: "resetFastForwardMap", At: e.At, Bucket: e.Bucket})
	case ChainChanged:
		return one(LoggedEvent{Type: "updateMap", At: e.At, Bucket: e.Bucket, HasVB: true, VB: e.VB, Before: e.Before, After: e.After})
	case VBucketStateSet:
		return one(LoggedEvent{
			Type: "vbucketStateChange", At: e.At, Bucket: e.Bucket, Node: e.Node, HasVB: true, VB: e.VB, State: e.State.String(),
			Reason: strings.TrimPrefix(topologyText(e.Topology), " with "),
		})
	case JanitorEnded:
		return loggedJanitor(e.Report)
	case FailoverStarted:
		return one(LoggedEvent{Type: "failoverStarted", At: e.At, Nodes: listOf(e.Nodes)})
	case FailoverEnded:
		return loggedFailover(e.Report)
	}
	return loggedMove(event)
}

// loggedMove is the entries of what happens to one move.
func loggedMove(event Event) []LoggedEvent {
	switch e := event.(type) {
	case MoveStarted:
		return []LoggedEvent{{
			Type: "vbucketMoveStart", At: e.At, Bucket: e.Bucket, HasVB: true, VB: e.VB, Node: e.Old.Active(), Before: e.Old, After: e.New,
		}}
	case MoveEnded:
		entry := LoggedEvent{Type: "vbucketMoveDone", At: e.At, Bucket: e.Bucket, HasVB: true, VB: e.VB}
		if e.Err != nil {
			entry.Type, entry.Cause = "vbucketMoverTerminate", Causes(e.Err)
		}
		return []LoggedEvent{entry}
	case MoveStepped:
		return loggedSteps(e)
	}
	return nil
}

// loggedSteps is the phases that end and begin with a step.
func loggedSteps(e MoveStepped) (entries []LoggedEvent) {
	phase := func(what string, step Step) {
		var name string
		switch step {
		case StepBackfill:
			name = "backfillPhase"
		case StepPersist, StepBarrier:
			name = "seqnoWaiting"
		case StepTakeover:
			name = "takeover"
		default:
			return
		}
		entry := LoggedEvent{Type: name + what, At: e.At, Bucket: e.Bucket, HasVB: true, VB: e.VB, Step: step, Producer: e.From}
		if step == StepTakeover {
			entry.Node = e.To
		} else {
			entry.Nodes = e.Build
		}
		entries = append(entries, entry)
	}
	phase("Ended", e.Previous)
	phase("Started", e.Step)
	return entries
}

// loggedJanitor leaves out periodic runs that have found nothing.
func loggedJanitor(r JanitorReport) []LoggedEvent {
	problem := r.Problem()
	if problem == nil && r.Fixes() == 0 && r.Reason == reasonPeriodic {
		return nil
	}
	return []LoggedEvent{{Type: "janitorRun", At: r.Ended, Reason: r.Reason, Count: r.Fixes(), Cause: Causes(problem)}}
}

func loggedFailover(r FailoverReport) (entries []LoggedEvent) {
	for _, b := range r.Buckets {
		entries = append(entries, LoggedEvent{
			Type: "bucketFailoverEnded", At: r.Ended, Bucket: b.Name, Nodes: listOf(r.Nodes), Count: len(b.Promoted),
			Reason: fmt.Sprintf("%d promoted, %d lost, %d refused", len(b.Promoted), len(b.Lost), len(b.Refused)),
		})
	}
	return append(entries, LoggedEvent{Type: "failover", At: r.Ended, Nodes: listOf(r.Nodes), Cause: r.Cause})
}

// loggedReplication is the entries of a replication's event.
func loggedReplication(event dcp.Event) []LoggedEvent {
	link := func(kind string, l dcp.Link) LoggedEvent {
		return LoggedEvent{Type: kind, Bucket: l.Bucket, Node: l.Consumer, Producer: l.Producer, Connection: l.Name()}
	}
	var entry LoggedEvent
	switch e := event.(type) {
	case dcp.ConsumerStarted:
		entry = link("dcpReplicatorStart", e.Link)
		entry.At = e.At
	case dcp.LinkUp:
		entry = link("dcpReplicatorUp", e.Link)
		entry.At = e.At
	case dcp.LinkCrashed:
		entry = link("dcpReplicatorTerminate", e.Link)
		entry.At, entry.Reason, entry.Cause = e.At, "crashed", Causes(e.Reason)
	case dcp.LinkFenced:
		entry = link("dcpReplicatorTerminate", e.Link)
		entry.At, entry.Reason = e.At, "fenced"
	case dcp.LinkGaveUp:
		entry = link("dcpReplicatorTerminate", e.Link)
		entry.At, entry.Reason, entry.Cause = e.At, "given up for a while", Causes(e.Reason)
	case dcp.StreamEnded:
		entry = link("dcpStreamEnd", e.Link)
		entry.At, entry.HasVB, entry.VB, entry.Reason = e.At, true, e.VB, e.Reason.String()
	case dcp.StreamLost:
		entry = link("dcpStreamLost", e.Link)
		entry.At, entry.HasVB, entry.VB, entry.Reason = e.At, true, e.VB, e.Owner
	default:
		return nil
	}
	return []LoggedEvent{entry}
}
