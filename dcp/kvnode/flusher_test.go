package kvnode

import (
	"log/slog"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.etcd.io/bbolt"
	bbolterrors "go.etcd.io/bbolt/errors"

	"github.com/shearpin/shearpin/dcp/mcbp"
)

// diskBucket is a bucket with a disk, but without a node around it.
func diskBucket(t *testing.T) *bucket {
	t.Helper()
	d := &disk{dir: t.TempDir(), noSync: true}
	b := &bucket{
		node: &Node{disk: d, pace: newPace(0), log: slog.New(slog.DiscardHandler)}, name: "b", quota: defaultQuota,
	}
	v, err := newBucket(b.node, "b", 8, 0, true)
	require.NoError(t, err)
	b.vbs = v.vbs
	require.NoError(t, b.createFile())
	return b
}

// A disk that fails is tried again for as long as the node lives, and nothing that failed counts as persisted. A stop says
// that it could not save everything, and the file does not pass for complete.
func TestADiskThatFails(t *testing.T) {
	b := diskBucket(t)
	require.Equal(t, mcbp.StatusSuccess, b.setVBucket(7, mcbp.VBucketActive, nil))
	<-b.flusher.barrier()
	path := b.flusher.file.path
	require.NoError(t, b.flusher.file.close())
	_, status := b.vb(7).write(mcbp.OpSet, &item{key: "k"}, 0, time.Now())
	require.Equal(t, mcbp.StatusSuccess, status)
	w := b.vb(7).await(1)
	require.NotNil(t, w, "it is not persisted")
	require.ErrorIs(t, b.flusher.end(true), bbolterrors.ErrDatabaseNotOpen)
	select {
	case <-w.done:
		require.Fail(t, "it counts as persisted")
	default:
	}
	f, _, err := b.node.disk.open(path)
	require.NoError(t, err)
	clean, err := f.clean()
	require.NoError(t, err)
	assert.False(t, clean)
	require.NoError(t, f.close())
}

// One transaction takes many vbuckets, but not without end.
func TestATransactionIsOfAFewMegabytes(t *testing.T) {
	b := diskBucket(t)
	b.node.pace.set(DiskStalled)
	for vb := range uint16(8) {
		require.Equal(t, mcbp.StatusSuccess, b.setVBucket(vb, mcbp.VBucketActive, nil))
		_, status := b.vb(vb).write(mcbp.OpSet, &item{key: "k", value: make([]byte, flushLimit/2)}, 0, time.Now())
		require.Equal(t, mcbp.StatusSuccess, status)
	}
	before := transactions(t, b.flusher.file)
	b.node.pace.set(0)
	<-b.flusher.barrier()
	assert.GreaterOrEqual(t, transactions(t, b.flusher.file)-before, 3)
	require.NoError(t, b.flusher.end(true))
	for vb := range uint16(8) {
		h, items, err := b.flusher.file.read(vb)
		require.NoError(t, err)
		assert.EqualValues(t, 1, h.High)
		assert.Len(t, items, 1)
	}
	require.NoError(t, b.flusher.file.close())
}

// However many come to wait while the disk stands still, and go again, nothing of them is kept.
func TestWhoWaitsForTheDiskTakesNoMemory(t *testing.T) {
	b := diskBucket(t)
	b.node.pace.set(DiskStalled)
	require.Equal(t, mcbp.StatusSuccess, b.setVBucket(7, mcbp.VBucketActive, nil))
	barriers := map[<-chan struct{}]bool{}
	for range 100 {
		barriers[b.flusher.barrier()] = true
	}
	assert.LessOrEqual(t, len(barriers), 2, "one of the write that stands still, one of the next")
	b.node.pace.set(0)
	for c := range barriers {
		<-c
	}
	assert.NotContains(t, barriers, b.flusher.barrier(), "who comes later waits for what is entered by then")
	require.NoError(t, b.flusher.end(true))
	require.NoError(t, b.flusher.file.close())
}

// transactions is how many there have been.
func transactions(t *testing.T, f *bucketFile) (n int) {
	t.Helper()
	require.NoError(t, f.view(func(tx *bbolt.Tx) error {
		n = tx.ID()
		return nil
	}))
	return n
}

// A node that goes down leaves a transaction undone in whose middle it is.
func TestATransactionIsDoneOrNot(t *testing.T) {
	b := diskBucket(t)
	file := b.flusher.file
	h := header{State: mcbp.VBucketActive, Log: newFailoverLog(), High: 1, SnapStart: 1, SnapEnd: 1}
	writes := []batch{
		{vb: 3, fresh: true, header: h, write: []*item{{key: "k", seqno: 1}}},
		{vb: 4, fresh: true, header: h},
	}
	require.ErrorIs(t, file.write(writes, func() error { return errFrozen }), errFrozen)
	ids, err := file.vbuckets(8)
	require.NoError(t, err)
	assert.Empty(t, ids)
	require.NoError(t, b.flusher.end(false))
	require.ErrorIs(t, file.write(writes, b.flusher.mayCommit), errFrozen)
	require.NoError(t, file.close())
}

// Nobody waits longer than the disk is slow, and a change of its speed is felt at once.
func TestThePaceChangesUnderWay(t *testing.T) {
	p := newPace(1) // a byte a second
	done := make(chan bool)
	go func() { done <- p.wait(1<<40, nil) }()
	p.set(DiskStalled)
	p.set(1 << 50)
	assert.True(t, <-done)

	quit := make(chan struct{})
	p.set(DiskStalled)
	go func() { done <- p.wait(1, quit) }()
	close(quit)
	assert.False(t, <-done)
}

func TestBucketNamesThatAFileSystemWouldMisread(t *testing.T) {
	d := &disk{dir: "dir"}
	assert.Equal(t, filepath.Join("dir", "travel-sample_1%.2.bucket"), d.path("travel-sample_1%.2"))
	assert.Equal(t, filepath.Join("dir", "..bucket"), d.path("."))
	assert.Equal(t, filepath.Join("dir", "=2f2e2e.bucket"), d.path("/.."))
	assert.NotEqual(t, d.path("=41"), d.path("A"))
	assert.NotEqual(t, d.path("=2f"), d.path("/"))
}
