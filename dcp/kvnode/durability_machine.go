package kvnode

import (
	"slices"
	"time"

	"github.com/shearpin/shearpin/dcp/mcbp"
)

// This file decides how durable writes end. A durable write is prepared first: it has a seqno and is replicated, and nobody
// reads it. Copies acknowledge how far they have what was prepared; the active commits a write when a majority of each of its
// chains has it, and aborts it when its time is over.
//
// Writes are committed in the order of their seqnos. Only those that somebody still waits for are aborted, in any order. A
// write that a copy found when it became active, or when it came back, was perhaps committed and answered by another: it is
// committed again, whenever its chains allow, and never aborted.

// chain is the copies that a durable write is for, the active first; empty names are members that are not there. They count for
// the size of the majority.
type chain []string

func (c chain) majority() int { return len(c)/2 + 1 }

// preparedWrite is a durable write without an end.
type preparedWrite struct {
	seqno uint64
	key   string
	level mcbp.DurabilityLevel
	// deadline is when the write is aborted; the zero time if it must not be.
	deadline time.Time
}

// completion is the end of a prepared write.
type completion struct {
	preparedWrite
	commit bool
}

// durability is what one copy of a vbucket knows of its durable writes. As an active it decides their ends; as any other it
// tells how far it has them.
type durability struct {
	name   string
	active bool
	// chains are one or two, of which each has to have a majority; without any no durable write is possible.
	chains []chain
	// queue is the writes without an end, by seqno.
	queue []preparedWrite
	// acks is what other copies have acknowledged, by name.
	acks map[string]uint64
	// complete is the end of the last snapshot that is whole; persisted the newest seqno on disk.
	complete, persisted uint64
	// highPrepared is how far this copy has what was prepared, as the levels demand: every write at or before it is here, and on
	// disk if it has to be, or has ended. highCompleted is the newest prepare that has ended.
	highPrepared, highCompleted uint64
}

func newDurability(name string) durability {
	return durability{name: name, acks: map[string]uint64{}}
}

// possible reports whether the chains, all members being well, could have a write.
func (d *durability) possible() bool {
	for _, c := range d.chains {
		defined := 0
		for _, name := range c {
			if name != "" {
				defined++
			}
		}
		if defined < c.majority() {
			return false
		}
	}
	return len(d.chains) > 0
}

// assume takes the role that the copy has from now on. A change leaves nobody who waits for what was prepared before, so it is
// committed, never aborted, and what others acknowledged to the role before means nothing.
func (d *durability) assume(active bool, chains []chain) {
	if active != d.active {
		for i := range d.queue {
			d.queue[i].deadline = time.Time{}
		}
		clear(d.acks)
	}
	d.active, d.chains = active, chains
}

// prepare enters a write. Its seqno is the newest of all; one of its key that has no end yet has come to it unheard.
func (d *durability) prepare(w preparedWrite) { d.queue = append(d.queue, w) }

// acknowledged hears how far another copy has what was prepared. It never goes back while the copy stays.
func (d *durability) acknowledged(name string, seqno uint64) { d.acks[name] = max(d.acks[name], seqno) }

// left hears that a copy is gone, and its acknowledgement with it: who comes back says again what it has.
func (d *durability) left(name string) { delete(d.acks, name) }

// reached hears how far the copy itself has come.
func (d *durability) reached(complete, persisted uint64) {
	d.complete, d.persisted = complete, persisted
	d.raise()
}

// raise brings highPrepared to where it belongs. What has ended counts when the copy is whole only: before that, its end says nothing of
// others, which something newer may have replaced that has not come yet.
func (d *durability) raise() {
	at, _ := d.find(d.highPrepared + 1)
	for ; at < len(d.queue) && d.has(d.queue[at]); at++ {
		d.highPrepared = d.queue[at].seqno
	}
	if d.highCompleted <= d.complete && (at == len(d.queue) || d.queue[at].seqno > d.highCompleted) {
		d.highPrepared = max(d.highPrepared, d.highCompleted)
	}
}

// has says whether this copy has a write as its level demands of it.
func (d *durability) has(w preparedWrite) bool {
	onDisk := w.level == mcbp.DurabilityPersistToMajority || w.level == mcbp.DurabilityMajorityAndPersist && d.active
	return w.seqno <= d.complete && (!onDisk || w.seqno <= d.persisted)
}

// completed hears of the end of a write, whoever decided it.
func (d *durability) completed(seqno uint64) {
	if at, ok := d.find(seqno); ok {
		d.queue = slices.Delete(d.queue, at, at+1)
	}
	d.ended(seqno)
}

// ended hears of the newest write that has ended, of those too that this copy has never heard of, because something newer came in
// their place.
func (d *durability) ended(seqno uint64) {
	d.highCompleted = max(d.highCompleted, seqno)
	d.raise()
}

// rolledBack hears that there is nothing after a seqno any more.
func (d *durability) rolledBack(to uint64) {
	at, _ := d.find(to + 1)
	d.queue = d.queue[:at]
	d.highPrepared, d.highCompleted = min(d.highPrepared, to), min(d.highCompleted, to)
	d.complete, d.persisted = min(d.complete, to), min(d.persisted, to)
}

// decide ends what can be ended: it returns the ends in the order in which they are to be made, and takes them as heard.
func (d *durability) decide(now time.Time) []completion {
	if !d.active {
		return nil
	}
	var ends []completion
	for len(d.queue) > 0 {
		more := d.commits()
		if len(more) == 0 {
			more = d.aborts(now) // those behind them may be committed then
		}
		if len(more) == 0 {
			break
		}
		for _, e := range more {
			d.completed(e.seqno)
		}
		ends = append(ends, more...)
	}
	return ends
}

// commits are the writes at the head of the queue that may be committed.
func (d *durability) commits() (ends []completion) {
	for _, w := range d.queue {
		if !d.committable(w.seqno) {
			break
		}
		ends = append(ends, completion{w, true})
	}
	return ends
}

// aborts are the writes whose time is over, or all that somebody waits for if no write is possible.
func (d *durability) aborts(now time.Time) (ends []completion) {
	possible := d.possible()
	for _, w := range d.queue {
		if !w.deadline.IsZero() && (!possible || !now.Before(w.deadline)) {
			ends = append(ends, completion{w, false})
		}
	}
	return ends
}

// committable reports whether this copy and a majority of each chain have everything that was prepared up to a seqno.
func (d *durability) committable(seqno uint64) bool {
	if d.highPrepared < seqno || len(d.chains) == 0 {
		return false
	}
	for _, c := range d.chains {
		have := 0
		for _, name := range c {
			if name != "" && (name == d.name || d.acks[name] >= seqno) {
				have++
			}
		}
		if have < c.majority() {
			return false
		}
	}
	return true
}

// find is the position of the first write at or after a seqno, and whether it has this one.
func (d *durability) find(seqno uint64) (at int, found bool) {
	return slices.BinarySearchFunc(d.queue, seqno, func(w preparedWrite, seqno uint64) int {
		switch {
		case w.seqno < seqno:
			return -1
		case w.seqno > seqno:
			return 1
		}
		return 0
	})
}
