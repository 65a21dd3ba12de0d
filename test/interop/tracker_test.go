package interop

import (
	"fmt"
	"maps"
	"slices"
	"sync"

	"github.com/stretchr/testify/require"
)

// tracker is what a DCP consumer has to remember, whichever client it uses: for each vbucket the history it has followed, where it
// is in that, and every version that it has seen. It notes what a producer must never do.
type tracker struct {
	mu    sync.Mutex
	vbs   [vbuckets]tracked
	wrong []string
	// news has room for one sign that something was seen.
	news chan struct{}
}

type tracked struct {
	log                []entry
	high               uint64
	snapStart, snapEnd uint64
	seen               []seenVersion
	// whole are the seqnos at which everything up to them was there: older versions that a snapshot leaves out are missing only
	// until it is complete.
	whole []uint64
	// streams counts the streams that were opened, rollbacks those that began with one.
	streams, rollbacks int
}

// entry is one of a failover log.
type entry struct{ uuid, seqno uint64 }

type seenVersion struct {
	key string
	version
}

func newTracker() *tracker { return &tracker{news: make(chan struct{}, 1)} }

// resumption is what a STREAM_REQ says.
type resumption struct{ uuid, start, snapStart, snapEnd uint64 }

// resume is where the next stream of a vbucket has to begin.
func (k *tracker) resume(vb uint16) resumption {
	k.mu.Lock()
	defer k.mu.Unlock()
	v := &k.vbs[vb]
	r := resumption{start: v.high, snapStart: v.high, snapEnd: v.high}
	if len(v.log) > 0 && v.high > 0 {
		r.uuid = v.log[0].uuid
	}
	if v.high < v.snapEnd {
		r.snapStart, r.snapEnd = min(v.snapStart, v.high), v.snapEnd
	}
	return r
}

// opened takes the answer to a STREAM_REQ. The history it tells of has to go on from ours.
func (k *tracker) opened(vb uint16, log []entry) {
	k.mu.Lock()
	defer k.mu.Unlock()
	v := &k.vbs[vb]
	v.streams++
	if len(log) == 0 {
		k.sayf("vb %d: an empty failover log", vb)
		return
	}
	v.log = log
}

// rollback forgets what came after seqno: it goes back to where everything up to a seqno that is not greater was there.
func (k *tracker) rollback(vb uint16, seqno uint64) {
	k.mu.Lock()
	defer k.mu.Unlock()
	v := &k.vbs[vb]
	v.rollbacks++
	if seqno >= v.high {
		k.sayf("vb %d: a rollback to %d at %d", vb, seqno, v.high)
	}
	to := uint64(0)
	for _, at := range v.whole {
		if at <= seqno {
			to = at
		}
	}
	later := func(at uint64) bool { return at > to }
	v.whole = slices.DeleteFunc(v.whole, later)
	v.seen = slices.DeleteFunc(v.seen, func(s seenVersion) bool { return later(s.seqno) })
	v.log = slices.DeleteFunc(v.log, func(e entry) bool { return later(e.seqno) })
	v.high, v.snapStart, v.snapEnd = to, to, to
	k.tell()
}

func (k *tracker) marker(vb uint16, start, end uint64) {
	k.mu.Lock()
	defer k.mu.Unlock()
	v := &k.vbs[vb]
	switch {
	case start > end:
		k.sayf("vb %d: a snapshot from %d to %d", vb, start, end)
	case end <= v.high:
		k.sayf("vb %d: a snapshot to %d at %d", vb, end, v.high)
	}
	v.snapStart, v.snapEnd = start, end
}

func (k *tracker) document(vb uint16, key string, seen version) {
	k.mu.Lock()
	v := &k.vbs[vb]
	if vb != vbucketOf(key) {
		k.sayf("vb %d: %s is of vb %d", vb, key, vbucketOf(key))
	}
	k.goOn(vb, seen.seqno)
	v.seen = append(v.seen, seenVersion{key, seen})
	k.mu.Unlock()
	k.tell()
}

// advanced takes a seqno at which there is no document: a durable write that has not ended, or has come to nothing.
func (k *tracker) advanced(vb uint16, seqno uint64) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.goOn(vb, seqno)
}

// goOn takes the next seqno of a vbucket. The caller holds mu.
func (k *tracker) goOn(vb uint16, seqno uint64) {
	v := &k.vbs[vb]
	if seqno <= v.high || seqno > v.snapEnd || seqno < v.snapStart {
		k.sayf("vb %d: seqno %d at %d, in a snapshot from %d to %d", vb, seqno, v.high, v.snapStart, v.snapEnd)
	}
	v.high = seqno
	if v.high == v.snapEnd {
		v.whole = append(v.whole, v.high)
	}
}

// failf notes what must not have happened.
func (k *tracker) failf(format string, args ...any) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.sayf(format, args...)
}

func (k *tracker) sayf(format string, args ...any) {
	k.wrong = append(k.wrong, fmt.Sprintf(format, args...))
}

// newest are the newest versions that were seen of each key.
func (v *tracked) newest() versions {
	all := versions{}
	for _, s := range v.seen {
		all[s.key] = s.version
	}
	return all
}

// differing is the first vbucket of which something else is known than what is true, or -1. A consumer that has to go back knows
// too much until it has.
func (k *tracker) differing(truth []versions) int {
	k.mu.Lock()
	defer k.mu.Unlock()
	for vb, all := range truth {
		if !maps.Equal(all, k.vbs[vb].newest()) {
			return vb
		}
	}
	return -1
}

// tell lets who waits look again.
func (k *tracker) tell() {
	select {
	case k.news <- struct{}{}:
	default:
	}
}

// requireSeen waits until everything that the nodes have has been seen, compares, and returns how many streams, and rollbacks, that
// took.
func (w *world) requireSeen(k *tracker) (streams, rollbacks int) {
	w.t.Helper()
	truth := w.truth()
	for vb := k.differing(truth); vb >= 0; vb = k.differing(truth) {
		select {
		case <-k.news:
		case <-w.ctx.Done():
			k.mu.Lock()
			defer k.mu.Unlock()
			require.Equal(w.t, truth[vb], k.vbs[vb].newest(), "vb %d; wrong: %v", vb, k.wrong)
		}
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	require.Empty(w.t, k.wrong)
	keys := 0
	for vb, all := range truth {
		require.Equal(w.t, all, k.vbs[vb].newest(), "vb %d", vb)
		streams, rollbacks, keys = streams+k.vbs[vb].streams, rollbacks+k.vbs[vb].rollbacks, keys+len(all)
	}
	require.NotZero(w.t, keys)
	w.t.Logf("%d keys in %d streams, %d rollbacks", keys, streams, rollbacks)
	return streams, rollbacks
}

// requireFollowed is requireSeen by a consumer that had to go after vbuckets, and had nothing to forget.
func (w *world) requireFollowed(k *tracker) {
	w.t.Helper()
	streams, rollbacks := w.requireSeen(k)
	require.Greater(w.t, streams, vbuckets, "no stream had to be opened again")
	require.Zero(w.t, rollbacks, "moving takes nobody back")
}

// requireLate is requireSeen by a consumer that comes when all is quiet: each vbucket in one stream.
func (w *world) requireLate(k *tracker) {
	w.t.Helper()
	streams, _ := w.requireSeen(k)
	require.Equal(w.t, vbuckets, streams)
}
