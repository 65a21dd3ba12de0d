package relay

import (
	"sync/atomic"

	"github.com/shearpin/shearpin/dcp/mcbp"
)

// watchSet is the set of vbuckets whose frames are counted. It is immutable apart from the counters, so that the direction
// that counts needs no lock; a page covers 256 vbuckets and exists only if one of them is watched.
type watchSet struct {
	pages [256]*watchPage
}

type watchPage struct {
	on     [4]uint64
	counts *[256]atomic.Uint64 // shared with the sets before and after
}

// with builds the set for vbs. Counters of pages that were in s go on.
func (s *watchSet) with(vbs []uint16) *watchSet {
	if len(vbs) == 0 {
		return nil
	}
	next := new(watchSet)
	for _, vb := range vbs {
		p := next.pages[vb>>8]
		if p == nil {
			p = new(watchPage)
			if s != nil && s.pages[vb>>8] != nil {
				p.counts = s.pages[vb>>8].counts
			} else {
				p.counts = new([256]atomic.Uint64)
			}
			next.pages[vb>>8] = p
		}
		p.on[(vb&255)>>6] |= 1 << (vb & 63)
	}
	return next
}

// counter is the counter of a watched vbucket, or nil.
func (s *watchSet) counter(vb uint16) *atomic.Uint64 {
	if s == nil {
		return nil
	}
	p := s.pages[vb>>8]
	if p == nil || p.on[(vb&255)>>6]&(1<<(vb&63)) == 0 {
		return nil
	}
	return &p.counts[vb&255]
}

// count counts one frame that came from the producer.
func (s *watchSet) count(f mcbp.Frame) {
	if f.IsResponse() || f.Opcode() == mcbp.OpDCPNoop {
		return
	}
	if c := s.counter(f.VBucket()); c != nil {
		c.Add(1)
	}
}

// Watch replaces the set of vbuckets whose frames from the producer are counted; an empty set makes counting free. It may
// be called from any goroutine, and costs about a microsecond plus a nanosecond per vbucket.
func (r *Relay) Watch(vbs []uint16) {
	r.watchMu.Lock()
	defer r.watchMu.Unlock()
	r.watched.Store(r.watched.Load().with(vbs))
}

// Seen is the number of requests from the producer for a watched vbucket, NOOP excepted. Only its growth means anything:
// counting may have begun before the vbucket was watched last. It is 0 for a vbucket that is not watched.
func (r *Relay) Seen(vb uint16) uint64 {
	if c := r.watched.Load().counter(vb); c != nil {
		return c.Load()
	}
	return 0
}
