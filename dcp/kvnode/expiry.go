package kvnode

import (
	"time"

	"github.com/shearpin/shearpin/dcp/mcbp"
)

// A document with an expiry is gone for clients from that second on. That it is gone becomes a change with a seqno of its own
// when somebody asks for the document, or when the pager comes by, and only on the active copy: replicas are told.

// longestRelative is the largest expiry, in seconds, that counts from now; a larger one is a Unix time.
const longestRelative = 30 * 24 * 60 * 60

// expiryAt is the Unix time that a client means by an expiry; 0 is never.
func expiryAt(word uint32, now time.Time) uint32 {
	if word == 0 || word > longestRelative {
		return word
	}
	return uint32(now.Unix()) + word
}

// expiredAt says whether clients do not see the document any more.
func (it *item) expiredAt(now time.Time) bool {
	return !it.deleted && it.expiry != 0 && int64(it.expiry) <= now.Unix()
}

// live returns the document of a key as clients see it, or nil. An expired one becomes a deletion, unless the end of a takeover
// keeps new changes out. The caller holds mu, and the copy is active.
func (v *vbucket) live(key string, now time.Time) *item {
	it := v.items[key]
	if it == nil || it.deleted {
		return nil
	}
	if it.expiredAt(now) {
		if !v.backup && v.pending(key) == nil {
			v.expire(it, now)
		}
		return nil
	}
	return it
}

// expire puts the deletion in place that an expired document leaves. The caller holds mu.
func (v *vbucket) expire(it *item, now time.Time) {
	v.put(&item{
		key: it.key, deleted: true, expired: true, deleteTime: uint32(now.Unix()), rev: it.rev + 1, cas: v.nextCAS(), seqno: v.high + 1,
	})
}

// noteExpiry remembers the earliest expiry. The caller holds mu.
func (v *vbucket) noteExpiry(it *item) {
	if !it.deleted && it.expiry != 0 && (v.nextExpiry == 0 || it.expiry < v.nextExpiry) {
		v.nextExpiry = it.expiry
	}
}

// page expires every document that is due. It looks at the documents only if one may be.
func (v *vbucket) page(now time.Time) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.nextExpiry == 0 || int64(v.nextExpiry) > now.Unix() || v.admits() != mcbp.StatusSuccess || v.backup {
		return
	}
	var due []*item
	v.nextExpiry = 0
	for it := v.history.oldest; it != nil; it = it.newer {
		switch {
		case it.kind != document:
		case it.expiredAt(now) && v.pending(it.key) == nil:
			due = append(due, it)
		default:
			v.noteExpiry(it)
		}
	}
	for _, it := range due {
		v.expire(it, now)
	}
}

// page is the expiry pager's round.
func (n *Node) page(now time.Time) {
	for _, b := range n.allBuckets() {
		for i := range b.vbs {
			if v := b.vbs[i].Load(); v != nil {
				v.page(now)
			}
		}
	}
}
