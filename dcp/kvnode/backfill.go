package kvnode

import (
	"strconv"
	"sync/atomic"
)

// backfill is how far a stream has come with what its producer has to fetch from disk: the changes that have left the
// checkpoints in memory. A node without a disk behaves as if all but the newest changes of a vbucket had. Its answer to
// STAT dcp-vbtakeover has three forms, because "nothing left" and "not counted yet" must not look alike (history.md 14).
type backfill struct {
	phase atomic.Int32
	// left counts the items of a running backfill that are not in the outbox yet.
	left atomic.Int64
}

// backfillPhase is where a stream gets its items from.
type backfillPhase int32

const (
	// fromMemory: all that is left is in the checkpoints.
	fromMemory backfillPhase = iota
	// notCounted: there will be a backfill, and nobody knows yet of how many items.
	notCounted
	// fromDisk: the backfill runs.
	fromDisk
)

func (b *backfill) in() backfillPhase { return backfillPhase(b.phase.Load()) }

// expect says that the stream will begin with a backfill.
func (b *backfill) expect() { b.phase.Store(int32(notCounted)) }

// begin takes the number of items that were found; 0 if they all are in memory.
func (b *backfill) begin(items int) {
	b.left.Store(int64(items))
	phase := fromMemory
	if items > 0 {
		phase = fromDisk
	}
	b.phase.Store(int32(phase))
}

// sent takes one item that has gone out.
func (b *backfill) sent() {
	if b.in() == fromDisk && b.left.Add(-1) == 0 {
		b.phase.Store(int32(fromMemory))
	}
}

// outOfMemory reports whether a stream from seqno needs more items than the checkpoints have. The caller holds mu.
func (v *vbucket) outOfMemory(seqno uint64) bool {
	limit := v.bucket.node.opts.CheckpointItems
	it := v.history.newest
	for ; it != nil && it.seqno > seqno && limit > 0; it = it.older {
		limit--
	}
	return it != nil && it.seqno > seqno
}

// estimate is what dcp-vbtakeover says of a live stream. The number means nothing while the items are not counted.
func (s *activeStream) estimate() (status, backfillRemaining string, items, memory uint64) {
	left := s.remaining()
	switch s.backfill.in() {
	case notCounted:
		return "calculating-item-count", "unknown", 0, 0
	case fromDisk:
		disk := min(uint64(max(s.backfill.left.Load(), 0)), left)
		return "backfilling", strconv.FormatUint(disk, 10), left, left - disk
	default:
		return "in-memory", "0", left, left
	}
}
