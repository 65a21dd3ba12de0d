package workload

import (
	"fmt"
	"sync/atomic"
)

// Ledger remembers, for every document, which version was acknowledged last and which was sent last.
//
// A document has one writer at a time: calls about one document must not overlap; calls about different documents may.
// Its size is fixed when it is made.
type Ledger struct {
	docs  []entry
	acked atomic.Int64
}

// entry is about 16 bytes per document; versions count from 1, and 0 is "none".
type entry struct {
	cas         uint64
	acked, sent uint32
}

// NewLedger is the ledger of docs documents of which nothing was written yet.
func NewLedger(docs int) *Ledger { return &Ledger{docs: make([]entry, docs)} }

// Docs is the number of documents.
func (l *Ledger) Docs() int { return len(l.docs) }

// Begin counts a new version of doc as sent and returns it, with the CAS that its predecessor must still have; 0 means
// that the document must not exist yet.
func (l *Ledger) Begin(doc int) (version uint32, cas uint64) {
	e := &l.docs[doc]
	e.sent++
	return e.sent, e.cas
}

// Ack counts version of doc, which Begin gave out, as acknowledged with that CAS.
func (l *Ledger) Ack(doc int, version uint32, cas uint64) {
	e := &l.docs[doc]
	e.acked, e.cas = version, cas
	l.acked.Add(1)
}

// Acknowledged is the version of doc that was acknowledged last; 0 is none.
func (l *Ledger) Acknowledged(doc int) uint32 { return l.docs[doc].acked }

// Unanswered are the versions of doc that were sent after the acknowledged one: from and up to, or ok false.
func (l *Ledger) Unanswered(doc int) (from, to uint32, ok bool) {
	e := l.docs[doc]
	return e.acked + 1, e.sent, e.sent > e.acked
}

// AckedWrites is the number of acknowledged writes so far. Any goroutine may ask.
func (l *Ledger) AckedWrites() int { return int(l.acked.Load()) }

// Found is what reading a document gave.
type Found struct {
	// Exists is false if the node said that there is no such document.
	Exists bool
	// Known says whether the value is one of ours, and Version which.
	Known   bool
	Version uint32
}

func (f Found) String() string {
	switch {
	case !f.Exists:
		return "no document"
	case !f.Known:
		return "a value that nobody wrote"
	}
	return fmt.Sprintf("version %d", f.Version)
}

// Loss is an acknowledged write that is not there any more.
type Loss struct {
	Key string
	// Acked is the version that was acknowledged last, Sent the last one that was sent.
	Acked, Sent uint32
	Found       Found
}

func (l Loss) String() string {
	return fmt.Sprintf("%s: version %d was acknowledged (last sent %d), found %v", l.Key, l.Acked, l.Sent, l.Found)
}

// Holds decides whether found is what doc may hold: the version acknowledged last, or a later one that was sent and
// never answered; or nothing, if nothing was acknowledged.
func (l *Ledger) Holds(doc int, found Found) bool {
	e := l.docs[doc]
	if !found.Exists {
		return e.acked == 0
	}
	return found.Known && found.Version >= max(e.acked, 1) && found.Version <= e.sent
}
