package rebalance

import "time"

// Step is one stage of a vbucket's move. The steps follow each other in the order in which they are listed here;
// rebalance.md §4 says why each is there.
type Step string

// The steps. A move whose active stays skips takeover and state and activates after its commit; one from nothing begins
// with activate.
const (
	// StepReplica creates the copies that are to be built, as replicas.
	StepReplica Step = "replica"
	// StepStream opens their streams from the old active.
	StepStream Step = "stream"
	// StepBackfill waits until they have nearly all data.
	StepBackfill Step = "backfill"
	// StepPersist waits until they have persisted what the active has; then the backfill's slot is free.
	StepPersist Step = "persist"
	// StepTopology makes durable writes satisfy the old and the new chain.
	StepTopology Step = "topology"
	// StepBarrier waits until the writes that were committed on the old chain alone are persisted everywhere.
	StepBarrier Step = "barrier"
	// StepVerify, if Config.Verify asks for it, compares the new copies with the active.
	StepVerify Step = "verify"
	// StepTakeover makes the new active take over from the old one.
	StepTakeover Step = "takeover"
	// StepActivate gives the new active the topology of the new chain.
	StepActivate Step = "activate"
	// StepCommit writes the new chain into the map.
	StepCommit Step = "commit"
	// StepClose closes the streams that the old active feeds, before its state changes.
	StepClose Step = "close"
	// StepState makes replicas of the copies that will follow the new active.
	StepState Step = "state"
	// StepOpen opens their streams from the new active, where they are not open, and hands them to the replications.
	StepOpen Step = "open"
	// StepDelete drops the copies that are in no chain any more.
	StepDelete Step = "delete"
	// StepUndoTopology, of a move that is aborted, makes durable writes satisfy the old chain alone again.
	StepUndoTopology Step = "undo-topology"
	// StepUndoStreams closes the streams to the copies that were being built, and hands those to the old replicas back.
	StepUndoStreams Step = "undo-streams"
)

// MoveLimits say how long a step of a move may make no progress (design §6). A zero field means its default.
type MoveLimits struct {
	// Backfill: an estimate, its status or a seqno changed. Default 2 min.
	Backfill time.Duration
	// Persistence: the persisted seqno grew, or the node asked to be asked again. Default 2 min.
	Persistence time.Duration
	// Takeover: the new active's seqno grew. The replication has its own, sharper limit on the stream's bytes; this one is
	// for the case that its answer is lost. Default 2 min.
	Takeover time.Duration
	// State: the answer to a state change, a deletion, or the commit of a chain. Default 2 min.
	State time.Duration
	// Stream: the answer to a stream's set-up or close. The replication has its own, sharper limits; this one is for the
	// case that its answer is lost. Default 11 min.
	Stream time.Duration
	// Missing is how long a producer may not know the connection or stream it is asked about, as it does right after a
	// connection is made. Default 10 s.
	Missing time.Duration
	// CaughtUp is the number of items under which a backfill counts as done; the rest is the takeover's. Default 1000.
	CaughtUp uint64
}

func (l MoveLimits) withDefaults() MoveLimits {
	set := func(d *time.Duration, v time.Duration) {
		if *d <= 0 {
			*d = v
		}
	}
	set(&l.Backfill, 2*time.Minute)
	set(&l.Persistence, 2*time.Minute)
	set(&l.Takeover, 2*time.Minute)
	set(&l.State, 2*time.Minute)
	set(&l.Stream, 11*time.Minute)
	set(&l.Missing, 10*time.Second)
	if l.CaughtUp == 0 {
		l.CaughtUp = 1000
	}
	return l
}

func (l MoveLimits) of(s Step) time.Duration {
	switch s {
	case StepBackfill:
		return l.Backfill
	case StepPersist, StepBarrier, StepVerify:
		return l.Persistence
	case StepTakeover:
		return l.Takeover
	case StepStream, StepClose, StepOpen, StepUndoStreams:
		return l.Stream
	}
	return l.State
}
