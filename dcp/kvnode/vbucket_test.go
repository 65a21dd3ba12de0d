package kvnode

import (
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/shearpin/shearpin/dcp/mcbp"
)

func testVBucket(t testing.TB, state mcbp.VBucketState) *vbucket {
	t.Helper()
	b, err := newBucket(nil, "b", 16, 0, true)
	require.NoError(t, err)
	return newVBucket(b, 3, state)
}

func (v *vbucket) set(t testing.TB, key string) *item {
	t.Helper()
	it := &item{key: key, value: []byte(key)}
	_, status := v.write(mcbp.OpSet, it, 0, time.Now())
	require.Equal(t, mcbp.StatusSuccess, status)
	return it
}

func (v *vbucket) keysSince(seqno uint64) []string {
	var keys []string
	for _, it := range v.history.appendSince(nil, seqno) {
		keys = append(keys, fmt.Sprintf("%s@%d", it.key, it.seqno))
	}
	return keys
}

func TestHistoryKeepsTheNewestVersionOfEachKeyInOrder(t *testing.T) {
	v := testVBucket(t, mcbp.VBucketActive)
	for _, key := range []string{"a", "b", "c", "a", "d", "b"} {
		v.set(t, key)
	}
	assert.Equal(t, []string{"c@3", "a@4", "d@5", "b@6"}, v.keysSince(0))
	assert.Equal(t, []string{"d@5", "b@6"}, v.keysSince(4))
	assert.Empty(t, v.keysSince(6))
	assert.Equal(t, 2, v.history.countSince(4))
	assert.Equal(t, 4, v.documents)
	assert.EqualValues(t, 2, v.items["a"].rev)
}

// The history against the obvious slow way to keep it.
func TestHistoryAgainstAModel(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		v := testVBucket(t, mcbp.VBucketActive)
		var writes []string
		for range rapid.IntRange(0, 60).Draw(rt, "writes") {
			key := rapid.SampledFrom([]string{"a", "b", "c", "d", "e", "f"}).Draw(rt, "key")
			v.set(t, key)
			writes = append(writes, key)
		}
		since := rapid.IntRange(0, len(writes)).Draw(rt, "since")
		var want []string
		for i := since; i < len(writes); i++ {
			last := true
			for _, later := range writes[i+1:] {
				last = last && later != writes[i]
			}
			if last {
				want = append(want, fmt.Sprintf("%s@%d", writes[i], i+1))
			}
		}
		require.Equal(rt, want, v.keysSince(uint64(since)))
		require.Equal(rt, len(want), v.history.countSince(uint64(since)))
		require.Equal(rt, len(v.items), v.history.count)
	})
}

func TestMemoryAccountReturnsToZero(t *testing.T) {
	v := testVBucket(t, mcbp.VBucketActive)
	v.set(t, "a")
	v.set(t, "a")
	v.set(t, "b")
	require.Equal(t, v.items["a"].size()+v.items["b"].size(), v.bucket.memory.Load())
	v.mu.Lock()
	v.destroy()
	v.mu.Unlock()
	assert.Zero(t, v.bucket.memory.Load())
}

func TestPromotionBranchesHistory(t *testing.T) {
	v := testVBucket(t, mcbp.VBucketReplica)
	v.high, v.snapStart, v.snapEnd = 7, 3, 7
	v.setState(mcbp.VBucketActive, nil, false)
	assert.Equal(t, []uint64{7, 0}, seqnos(v.log), "a complete snapshot")

	v.setState(mcbp.VBucketActive, []byte("[[]]"), false)
	assert.Len(t, v.log, 2, "active already")

	v.setState(mcbp.VBucketDead, nil, false)
	v.setState(mcbp.VBucketActive, nil, true)
	assert.Len(t, v.log, 2, "a takeover goes on with the history")
}

// A copy that was promoted in the middle of a snapshot may lack versions that a peer with all of it has.
func TestPromotionInsideASnapshotBranchesBeforeIt(t *testing.T) {
	v := testVBucket(t, mcbp.VBucketReplica)
	v.high, v.snapStart, v.snapEnd = 7, 3, 10
	v.setState(mcbp.VBucketActive, nil, false)
	assert.Equal(t, []uint64{3, 0}, seqnos(v.log))
	start, end := v.snapshot()
	assert.EqualValues(t, 7, start)
	assert.EqualValues(t, 7, end)
}

func TestRollbackIsExactOrComplete(t *testing.T) {
	v := testVBucket(t, mcbp.VBucketActive)
	for _, key := range []string{"a", "b", "c", "d"} {
		v.set(t, key)
	}
	assert.EqualValues(t, 2, v.rollback(2), "c and d were new: taking them away is exact")
	assert.Equal(t, []string{"a@1", "b@2"}, v.keysSince(0))
	assert.Equal(t, 2, v.documents)

	v.set(t, "a") // the version at 1 is gone
	assert.Zero(t, v.rollback(2))
	assert.Empty(t, v.keysSince(0))
	assert.Empty(t, v.items)
	assert.Zero(t, v.high)
	assert.Zero(t, v.bucket.memory.Load())
	assert.Len(t, v.log, 1)
}

func TestRollbackPrunesTheFailoverLog(t *testing.T) {
	v := testVBucket(t, mcbp.VBucketActive)
	for range 3 {
		v.set(t, fmt.Sprint(v.high))
		v.log = v.log.branch(v.high)
	}
	v.rollback(2)
	assert.Equal(t, []uint64{2, 1, 0}, seqnos(v.log))
	v.log = failoverLog{{UUID: 5, Seqno: 1}}
	v.rollback(0)
	require.Len(t, v.log, 1)
	assert.NotEqualValues(t, 5, v.log.uuid(), "nothing of the old history is left, so it has another name")
}

func TestCASGrowsWithTimeAndWithoutIt(t *testing.T) {
	v := testVBucket(t, mcbp.VBucketActive)
	v.lastCAS = 1 << 62
	assert.EqualValues(t, 1<<62+1, v.nextCAS(), "the clock is behind")
	v.lastCAS = 0
	first := v.nextCAS()
	assert.Zero(t, first&0xffff)
	assert.Greater(t, v.nextCAS(), first)
}

func TestDigestDoesNotDependOnOrder(t *testing.T) {
	a := &item{key: "a", value: []byte("1"), cas: 1, seqno: 1, rev: 1}
	b := &item{key: "b", value: []byte("2"), cas: 2, seqno: 2, rev: 1}
	gone := &item{key: "c", deleted: true, seqno: 3}
	whole := digest([]*item{a, b})
	assert.Equal(t, whole, digest([]*item{b, gone, a}))
	for name, other := range map[string]*item{
		"key":                {key: "x", value: []byte("2"), cas: 2, seqno: 2, rev: 1},
		"value":              {key: "b", value: []byte("3"), cas: 2, seqno: 2, rev: 1},
		"cas":                {key: "b", value: []byte("2"), cas: 3, seqno: 2, rev: 1},
		"seqno":              {key: "b", value: []byte("2"), cas: 2, seqno: 3, rev: 1},
		"rev":                {key: "b", value: []byte("2"), cas: 2, seqno: 2, rev: 2},
		"flags":              {key: "b", value: []byte("2"), cas: 2, seqno: 2, rev: 1, flags: 1},
		"where the key ends": {key: "b2", cas: 2, seqno: 2, rev: 1},
	} {
		assert.NotEqual(t, whole, digest([]*item{a, other}), name)
	}
}

// The pager looks through a vbucket only if a document may be due.
func TestThePagerRemembersTheNextExpiry(t *testing.T) {
	now := time.Unix(1000, 0)
	v := testVBucket(t, mcbp.VBucketActive)
	for key, expiry := range map[string]uint32{"a": 1010, "b": 1020, "stays": 0} {
		_, status := v.write(mcbp.OpSet, &item{key: key, expiry: expiry}, 0, now)
		require.Equal(t, mcbp.StatusSuccess, status)
	}
	assert.EqualValues(t, 1010, v.nextExpiry)
	v.page(now.Add(9 * time.Second))
	assert.EqualValues(t, 3, v.high)
	v.page(now.Add(10 * time.Second))
	assert.EqualValues(t, 4, v.high)
	assert.EqualValues(t, 1020, v.nextExpiry)
	v.page(now.Add(time.Hour))
	assert.EqualValues(t, 5, v.high)
	assert.Zero(t, v.nextExpiry)
	assert.Equal(t, 1, v.documents)
}
