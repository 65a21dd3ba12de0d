package kvnode

import (
	"maps"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/shearpin/shearpin/dcp/mcbp"
)

// content is what a document says, without its place in a vbucket.
type content struct {
	value   string
	deleted bool
	cas     uint64
	seqno   uint64
	rev     uint64
	kind    itemKind
	prior   uint64
	since   uint64
}

func contentOf(it *item) content {
	return content{string(it.value), it.deleted, it.cas, it.seqno, it.rev, it.kind, it.prior, it.since}
}

// image is a copy of a vbucket at one moment: in memory, or on a disk.
type image struct {
	header   header
	docs     map[string]content
	prepares map[string]content
}

func imageOf(v *vbucket) image {
	i := image{v.header(), map[string]content{}, map[string]content{}}
	for key, it := range v.items {
		i.docs[key] = contentOf(it)
	}
	for key, it := range v.prepares {
		i.prepares[key] = contentOf(it)
	}
	return i
}

// apply does to an image what a batch says.
func (i *image) apply(b batch) {
	if b.drop || b.fresh || i.docs == nil {
		i.docs, i.prepares = map[string]content{}, map[string]content{}
	}
	i.docs, i.prepares = maps.Clone(i.docs), maps.Clone(i.prepares)
	for _, key := range b.remove {
		delete(i.docs, key)
	}
	for _, key := range b.settle {
		delete(i.prepares, key)
	}
	for _, it := range b.write {
		if it.kind != document {
			i.prepares[it.key] = contentOf(it)
			continue
		}
		i.docs[it.key] = contentOf(it)
		delete(i.prepares, it.key)
	}
	i.header = b.header
}

// flushing is a state machine of rapid's. An action that does not apply now does nothing. It is a copy, what a disk that knows only batches has of it, and the batch that is on its way, with the copy as it was when the
// batch was made.
type flushing struct {
	b      *bucket
	v      *vbucket
	image  image
	file   *bucketFile
	flight *batch
	then   image
	// past is the copy as it was at each seqno of its history.
	past map[uint64]image
}

func (m *flushing) write(t *rapid.T) {
	key := rapid.SampledFrom([]string{"a", "b", "c", "d", "e", "f"}).Draw(t, "key")
	it := &item{key: key, seqno: m.v.high + 1, rev: 1, cas: m.v.nextCAS(), deleted: rapid.Bool().Draw(t, "deleted")}
	it.value = []byte(rapid.StringN(0, 4, -1).Draw(t, "value"))
	if old := m.v.items[key]; old != nil {
		it.rev = old.rev + 1
	}
	m.v.put(it)
}

func (m *flushing) prepare(t *rapid.T) {
	key := rapid.SampledFrom([]string{"a", "b", "c", "d", "e", "f"}).Draw(t, "key")
	it := &item{kind: prepared, key: key, seqno: m.v.high + 1, rev: 1, cas: m.v.nextCAS(), level: mcbp.DurabilityMajority}
	if old := m.v.items[key]; old != nil {
		it.rev = old.rev + 1
	}
	m.v.hold(it)
}

// end ends a prepare that is there, which was perhaps brought to the disk before.
func (m *flushing) end(t *rapid.T) {
	if len(m.v.durability.queue) == 0 {
		return
	}
	p := m.v.prepares[rapid.SampledFrom(m.v.durability.queue).Draw(t, "prepare").key]
	if rapid.Bool().Draw(t, "commit") {
		m.v.put(p.commitAt(m.v.high + 1))
	} else {
		m.v.hold(p.abortAt(m.v.high + 1))
	}
}

func (m *flushing) marker(t *rapid.T) {
	v := m.v
	if v.high >= v.snapEnd {
		v.snapStart = v.high
	}
	v.snapEnd = v.high + rapid.Uint64Range(1, 5).Draw(t, "length")
}

func (m *flushing) rollback(t *rapid.T) {
	if to := m.v.rollback(rapid.Uint64Range(0, m.v.high).Draw(t, "to")); to > 0 && m.past[to].docs != nil {
		then, now := m.past[to], imageOf(m.v)
		require.Equal(t, then.docs, now.docs)
		require.Equal(t, then.prepares, now.prepares)
	}
}

func (m *flushing) state(t *rapid.T) {
	states := []mcbp.VBucketState{mcbp.VBucketActive, mcbp.VBucketReplica, mcbp.VBucketPending, mcbp.VBucketDead}
	m.v.setState(rapid.SampledFrom(states).Draw(t, "state"), nil, rapid.Bool().Draw(t, "transfer"))
}

func (m *flushing) capture(t *rapid.T) {
	if m.flight != nil {
		return
	}
	v := m.v
	b := v.disk.capture(v.id, v.header(), v.history.appendSince(nil, v.disk.captured))
	m.flight, m.then = &b, imageOf(v)
}

func (m *flushing) arrive(t *rapid.T) {
	if m.flight == nil {
		return
	}
	m.image.apply(*m.flight)
	require.NoError(t, m.file.write([]batch{*m.flight}, func() error { return nil }))
	require.Equal(t, m.then, m.image, "what is on disk is what the copy was")
	m.v.flushed(*m.flight)
	m.flight = nil
}

// crash loses everything but the disk.
func (m *flushing) crash(t *rapid.T) {
	if m.image.docs == nil {
		return
	}
	h, items, err := m.file.read(7)
	require.NoError(t, err)
	m.b.memory.Store(0)
	m.v = restored(m.b, 7, h, items, false)
	m.flight = nil
	clear(m.past) // it may have been another history
	back := imageOf(m.v)
	require.Equal(t, m.image.docs, back.docs)
	require.Equal(t, m.image.prepares, back.prepares)
	require.Equal(t, h.High, back.header.High)
	require.Equal(t, h.High, m.v.persisted())
	require.True(t, back.header.valid())
}

func (m *flushing) check(t *rapid.T) {
	v := m.v
	require.LessOrEqual(t, v.persisted(), v.high)
	now := imageOf(v)
	m.past[v.high] = now
	open := 0
	for key, it := range v.prepares {
		if it.kind == prepared {
			open++
		}
		if it.seqno <= v.persisted() {
			require.Equal(t, contentOf(it), m.image.prepares[key], "the prepare of %s is said to be on disk", key)
		}
	}
	require.Len(t, v.durability.queue, open)
	for key, it := range v.items {
		if it.seqno <= v.persisted() {
			require.Equal(t, contentOf(it), m.image.docs[key], "%s is said to be on disk", key)
		}
	}
	if m.flight == nil && v.persisted() == v.high && v.disk.captured == v.high && !v.disk.fresh && len(v.disk.gone)+len(v.disk.settled) == 0 {
		require.Equal(t, now.docs, m.image.docs, "the disk lacks nothing")
		require.Equal(t, now.prepares, m.image.prepares, "the disk lacks no prepare")
	}
}

// Whatever happens to a copy while its disk lags, the disk has the copy as it was at one moment, a seqno that counts as
// persisted is on disk, and a copy that comes back from it is one that was there.
func TestTheDiskHasTheCopyAsItWas(t *testing.T) {
	dir := t.TempDir()
	runs := 0
	rapid.Check(t, func(t *rapid.T) {
		runs++
		d := &disk{dir: filepath.Join(dir), noSync: true}
		file, err := d.create(storedSettings{Name: "b" + string(rune('a'+runs%26)), VBuckets: 8})
		require.NoError(t, err)
		defer func() {
			require.NoError(t, file.close())
			require.NoError(t, d.remove(file.path))
		}()
		// A flusher that nobody runs makes the bucket one that has a disk.
		b := &bucket{quota: defaultQuota}
		b.flusher = newFlusher(b, file, newPace(0))
		m := &flushing{b: b, v: newVBucket(b, 7, mcbp.VBucketReplica), file: file, past: map[uint64]image{}}
		t.Repeat(map[string]func(*rapid.T){
			"write": m.write, "write again": m.write, "prepare": m.prepare, "end": m.end, "marker": m.marker, "rollback": m.rollback, "state": m.state,
			"capture": m.capture, "arrive": m.arrive, "crash": m.crash, "": m.check,
		})
	})
}

// After an unclean restart an active's peers cannot have more of its history than it has itself.
func TestAnUncleanRestartOfAnActiveBeginsABranch(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		h := header{State: mcbp.VBucketActive, High: rapid.Uint64Range(0, 50).Draw(t, "high"), Log: failoverLog{{UUID: 1}}}
		h.SnapStart, h.SnapEnd = h.High, h.High
		if rapid.Bool().Draw(t, "partial") {
			h.SnapStart = rapid.Uint64Range(0, h.High).Draw(t, "start")
			h.SnapEnd = h.High + rapid.Uint64Range(1, 9).Draw(t, "rest")
		}
		back := h.revived(false, 2)
		require.True(t, back.valid())
		require.Equal(t, h.High, back.High)
		require.Equal(t, failoverLog{{UUID: 2, Seqno: h.SnapStart}, {UUID: 1}}, back.Log)
		require.Equal(t, failoverLog{{UUID: 1}}, h.Log, "what was read is not changed")

		start := rapid.Uint64Range(1, 80).Draw(t, "position")
		r := resumption{high: back.High + 100, log: back.Log}
		r.request = mcbp.StreamRequest{VBUUID: 1, Start: start, SnapStart: start, SnapEnd: start}
		to, needed := r.rollback()
		require.Equal(t, start > h.SnapStart, needed, "a peer that has more than is complete here rolls back, no other")
		if needed {
			require.LessOrEqual(t, to, h.SnapStart)
		}
	})
}

func TestOtherRestartsChangeNothing(t *testing.T) {
	for _, state := range []mcbp.VBucketState{mcbp.VBucketActive, mcbp.VBucketReplica, mcbp.VBucketPending, mcbp.VBucketDead} {
		h := header{State: state, Log: failoverLog{{UUID: 1}}, High: 7, SnapStart: 5, SnapEnd: 9, LastCAS: 4}
		assert.Equal(t, h, h.revived(true, 2), "a clean stop")
		if state != mcbp.VBucketActive {
			assert.Equal(t, h, h.revived(false, 2), "a %v has no history of its own", state)
		}
	}
}

func TestRecordsThatAreNotOursAreRefused(t *testing.T) {
	it := &item{key: "k", value: []byte("v"), seqno: 3, rev: 2, cas: 9, flags: 1, expiry: 2, datatype: mcbp.DatatypeJSON}
	record := encodeItem(it)
	back, err := decodeItem("k", record)
	require.NoError(t, err)
	assert.Equal(t, it, back)
	gone := &item{key: "k", deleted: true, expired: true, seqno: 3, rev: 2, cas: 9, deleteTime: 77}
	back, err = decodeItem("k", encodeItem(gone))
	require.NoError(t, err)
	assert.Equal(t, gone, back)
	for _, kind := range []itemKind{document, prepared, aborted} {
		durable := &item{key: "k", value: []byte("v"), seqno: 9, rev: 2, kind: kind, level: mcbp.DurabilityMajority, prior: 7, since: 5}
		back, err = decodeItem("k", encodeItem(durable))
		require.NoError(t, err)
		assert.Equal(t, durable, back)
	}
	_, err = decodeItem("k", seal("k", append(make([]byte, recordPrefix), append([]byte{itemDurable}, make([]byte, itemFixed)...)...)))
	require.ErrorIs(t, err, errRecordShort, "no seqnos")

	_, err = decodeItem("other", record)
	require.ErrorIs(t, err, errRecordChecksum)
	_, err = decodeItem("k", nil)
	require.ErrorIs(t, err, errRecordShort)
	_, err = decodeItem("k", seal("k", make([]byte, recordPrefix)))
	require.ErrorIs(t, err, errRecordShort)
	_, err = decodeItem("k", seal("k", make([]byte, recordPrefix+itemFixed)))
	require.ErrorIs(t, err, errRecordContent, "seqno 0")
	for i := range record {
		broken := append([]byte(nil), record...)
		broken[i] ^= 0x40
		_, err = decodeItem("k", broken)
		require.Error(t, err, "byte %d", i)
	}
	record[0] = 9
	_, err = decodeItem("k", record)
	require.ErrorIs(t, err, errRecordVersion)
}
