package kvnode

import (
	"encoding/json"

	"github.com/shearpin/shearpin/dcp/mcbp"
)

// This file decides what a disk is given of a copy, and what a restart makes of what it finds there. It knows no disk.
//
// The rule behind it: a batch is everything that the disk lacks of a copy at one moment, and is written as a whole or not
// at all. So what is on disk is the copy as it was at some earlier moment, with its high seqno, its snapshot and its
// failover log, and a copy that comes back is one that was there. Half a batch would not do: the history keeps the newest
// version of a key only, so the versions up to a seqno in the middle are not all to be had.

// header is what a copy is, but for its documents.
type header struct {
	State    mcbp.VBucketState `json:"state"`
	Topology json.RawMessage   `json:"topology,omitempty"`
	Log      failoverLog       `json:"log"`
	High     uint64            `json:"high"`
	// SnapStart and SnapEnd are the snapshot that High lies in; all three are equal at the end of one.
	SnapStart uint64 `json:"snap_start"`
	SnapEnd   uint64 `json:"snap_end"`
	LastCAS   uint64 `json:"last_cas"`
	// HighPrepared and HighCompleted are how far durable writes are.
	HighPrepared  uint64 `json:"high_prepared,omitempty"`
	HighCompleted uint64 `json:"high_completed,omitempty"`
}

// valid checks what a header promises about itself. The entries of a replica's failover log are its active's, and may
// begin after what the replica has.
func (h header) valid() bool {
	return h.State >= mcbp.VBucketActive && h.State <= mcbp.VBucketDead && len(h.Log) > 0 && len(h.Log) <= maxFailoverEntries &&
		h.SnapStart <= h.High && h.High <= h.SnapEnd && h.HighPrepared <= h.High && h.HighCompleted <= h.High
}

// revived is what a restart makes of a header. After a clean stop nothing has changed. After anything else an active copy
// may have told its peers of documents that it has lost, so what it writes from here on is another history: a new entry
// in the failover log, of the UUID given, where the last complete snapshot ends (dcp-wire §9, §10.2). Other copies have
// no history of their own: they go on with their active's, from where they are.
func (h header) revived(clean bool, uuid uint64) header {
	if clean || h.State != mcbp.VBucketActive {
		return h
	}
	complete := h.High
	if h.High < h.SnapEnd {
		complete = h.SnapStart
	}
	h.Log = h.Log.branchAs(complete, uuid)
	h.SnapStart, h.SnapEnd = h.High, h.High
	return h
}

// batch is what a disk has to do for one vbucket, in this order.
type batch struct {
	vb uint16
	// drop removes the vbucket; nothing else is set then.
	drop bool
	// fresh removes what is there of the vbucket, an older copy or one that was rolled back to nothing.
	fresh  bool
	remove []string
	// settle are keys that have no prepare any more, nor the mark of an abort. A document that is written settles its key as well.
	settle []string
	write  []*item
	header header
	// rollbacks is how often the copy had been rolled back when the batch was made.
	rollbacks int
}

// batchOverhead stands for what a disk has to do for a batch besides its documents, in bytes.
const batchOverhead = 512

// size is how much there is to write, in bytes.
func (b *batch) size() int64 {
	n := int64(batchOverhead)
	for _, it := range b.write {
		n += it.size()
	}
	for _, keys := range [][]string{b.remove, b.settle} {
		for _, key := range keys {
			n += int64(len(key))
		}
	}
	return n
}

// persistence knows what the disk has of one copy. There is at most one batch under way at a time, and it arrives in the
// end, unless the node goes down.
type persistence struct {
	// persisted is the newest seqno on disk; captured the newest in a batch.
	persisted, captured uint64
	// fresh says that the next batch is the first of this copy, or the first since it was rolled back to nothing.
	fresh bool
	// gone are keys that a rollback took away and that a batch brought to the disk; settled those of prepares that may have been.
	gone      []string
	settled   []string
	rollbacks int
}

// neverPersisted is the state of a copy that is new.
func neverPersisted() persistence { return persistence{fresh: true} }

// foundOnDisk is the state of a copy that was read from the disk.
func foundOnDisk(h header) persistence { return persistence{persisted: h.High, captured: h.High} }

// capture makes a batch of what has changed since the last one: the items after p.captured, oldest first, and the header
// that the copy has with them.
func (p *persistence) capture(vb uint16, h header, changes []*item) batch {
	b := batch{vb: vb, fresh: p.fresh, remove: p.gone, settle: p.settled, write: changes, header: h, rollbacks: p.rollbacks}
	p.captured, p.fresh, p.gone, p.settled = h.High, false, nil, nil
	return b
}

// rolledBack hears that the copy went back to a seqno and lost these items. What a batch has brought, or is bringing, to
// the disk must go again; the disk has it until the next batch.
func (p *persistence) rolledBack(to uint64, lost []*item) {
	p.rollbacks++
	if to == 0 {
		p.fresh, p.gone, p.settled = true, nil, nil
	} else {
		for _, it := range lost {
			if it.kind == document && it.seqno <= p.captured {
				p.gone = append(p.gone, it.key)
			}
			if it.kind != document || it.since != 0 {
				p.settled = append(p.settled, it.key)
			}
		}
	}
	p.captured, p.persisted = min(p.captured, to), min(p.persisted, to)
}

// committed hears that a batch is on disk. If the copy was rolled back meanwhile, the batch's seqnos mean something else
// by now, and only the next batch tells how far the disk is.
func (p *persistence) committed(b batch) {
	if b.rollbacks == p.rollbacks {
		p.persisted = b.header.High
	}
}
