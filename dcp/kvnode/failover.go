package kvnode

import (
	"math/rand/v2"
	"slices"

	"github.com/shearpin/shearpin/dcp/mcbp"
)

// maxFailoverEntries bounds a failover log, as in real engines (dcp-wire §9).
const maxFailoverEntries = 25

// failoverLog is a vbucket's branches of history, newest first. It is never empty.
type failoverLog []mcbp.FailoverEntry

// newUUID draws a vbucket UUID: 48 bits, never 0, because 0 means "from scratch" in a STREAM_REQ.
func newUUID() uint64 { return rand.Uint64N(1<<48-1) + 1 }

func newFailoverLog() failoverLog { return failoverLog{{UUID: newUUID()}} }

func (l failoverLog) uuid() uint64 { return l[0].UUID }

// branch begins a new history after seqno. Entries past seqno belong to a branch that was left, and go.
func (l failoverLog) branch(seqno uint64) failoverLog { return l.branchAs(seqno, newUUID()) }

// branchAs is branch with a UUID that the caller has drawn.
func (l failoverLog) branchAs(seqno, uuid uint64) failoverLog {
	kept := l.prune(seqno)
	if len(kept) == maxFailoverEntries {
		kept = kept[:maxFailoverEntries-1]
	}
	return slices.Insert(kept, 0, mcbp.FailoverEntry{UUID: uuid, Seqno: seqno})
}

// prune forgets what began after seqno. The result may be empty.
func (l failoverLog) prune(seqno uint64) failoverLog {
	for i, e := range l {
		if e.Seqno <= seqno {
			return slices.Clone(l[i:])
		}
	}
	return nil
}

// resumption is what decides whether a consumer can go on from where it stopped (dcp-wire §10.2).
type resumption struct {
	request mcbp.StreamRequest
	// consumerPurge is the purge seqno that the consumer says it knows; 0 if it says nothing.
	consumerPurge uint64
	// high, purge and log are the producer's own.
	high, purge uint64
	log         failoverLog
}

// rollback returns the seqno to which the consumer must roll back before it may stream, and whether it must. The rules
// are those of dcp-wire §10.2, in their order.
func (r resumption) rollback() (seqno uint64, needed bool) {
	start, snapStart, snapEnd := r.request.Start, r.request.SnapStart, r.request.SnapEnd
	strict := r.request.Flags&mcbp.StreamFlagStrictVBUUID != 0
	if start == 0 && (r.request.VBUUID == 0 || !strict) {
		return 0, false
	}
	ignorePurged := r.request.Flags&mcbp.StreamFlagIgnorePurged != 0
	if start != 0 && start < r.purge && r.consumerPurge != r.purge && !ignorePurged {
		return 0, true
	}
	at := slices.IndexFunc(r.log, func(e mcbp.FailoverEntry) bool { return e.UUID == r.request.VBUUID })
	if at < 0 {
		return 0, true
	}
	upper := r.high
	if at > 0 {
		upper = r.log[at-1].Seqno
	}
	if start == snapStart {
		snapEnd = start
	}
	if snapEnd <= upper {
		return 0, false
	}
	if start == snapEnd {
		snapStart = start
	}
	return min(upper, snapStart), true
}
