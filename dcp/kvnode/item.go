package kvnode

import "github.com/shearpin/shearpin/dcp/mcbp"

// item is one version of a document, or of its deletion. Its content never changes once it is in a vbucket, so streams
// may encode it without a lock; the links belong to the vbucket's [history].
type item struct {
	key      string
	value    []byte
	datatype mcbp.Datatype
	deleted  bool
	cas      uint64
	seqno    uint64
	// rev counts the versions of the key, deletions included; 1 is its first.
	rev   uint64
	flags uint32
	// expiry is in Unix seconds, 0 if the document stays.
	expiry uint32
	// expired says of a deletion that nobody asked for it.
	expired bool
	// deleteTime is in Unix seconds.
	deleteTime uint32
	// kind says what the version is if it is not a document; level goes with a prepare.
	kind  itemKind
	level mcbp.DurabilityLevel
	// prior is the seqno of the prepare whose commit or abort this version is, 0 if it is something else. since is how long before
	// there was something prepared or aborted of the key all the time: from that seqno on, 0 if there was nothing.
	prior, since uint64

	older, newer *item
}

// itemKind tells documents, which readers see, from what durable writes leave beside them.
type itemKind uint8

const (
	document itemKind = iota
	// prepared is a durable write without an end.
	prepared
	// aborted is the mark of one that came to nothing.
	aborted
	// gap is nothing but a seqno. Streams send it; no vbucket has it.
	gap
)

// follows makes it the version that takes the place of a prepare, or of the mark of an abort.
func (it *item) follows(old *item) {
	it.since = old.seqno
	if old.since != 0 {
		it.since = old.since
	}
}

// live reports whether the version is a document that is there.
func (it *item) live() bool { return it.kind == document && !it.deleted }

// itemOverhead stands for what an item costs beyond its key and value.
const itemOverhead = 192

func (it *item) size() int64 { return int64(len(it.key)+len(it.value)) + itemOverhead }

// history is the newest version of every key, in the order of seqnos. Because an older version leaves when a newer one
// comes, a stream from any seqno sees each key at most once.
type history struct {
	oldest, newest *item
	count          int
}

func (h *history) push(it *item) {
	it.older, it.newer = h.newest, nil
	if h.newest != nil {
		h.newest.newer = it
	} else {
		h.oldest = it
	}
	h.newest = it
	h.count++
}

func (h *history) remove(it *item) {
	if it.older != nil {
		it.older.newer = it.newer
	} else {
		h.oldest = it.newer
	}
	if it.newer != nil {
		it.newer.older = it.older
	} else {
		h.newest = it.older
	}
	it.older, it.newer = nil, nil
	h.count--
}

// countSince is the number of items with seqnos greater than seqno. Its cost grows with the result only.
func (h *history) countSince(seqno uint64) int {
	n := 0
	for it := h.newest; it != nil && it.seqno > seqno; it = it.older {
		n++
	}
	return n
}

// appendSince appends the items with seqnos greater than seqno to list, oldest first.
func (h *history) appendSince(list []*item, seqno uint64) []*item {
	n := h.countSince(seqno)
	if n == 0 {
		return list
	}
	at := len(list) + n
	if cap(list) < at {
		grown := make([]*item, len(list), at)
		copy(grown, list)
		list = grown
	}
	list = list[:at]
	for it := h.newest; n > 0; it, n = it.older, n-1 {
		at--
		list[at] = it
	}
	return list
}
