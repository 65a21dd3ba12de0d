package kvnode

import (
	"errors"
	"sync"
	"time"
)

// flusher brings a bucket to its disk, behind the writers' backs: they only tell it which vbuckets have changed. The disk
// lags as much as it must; documents that are waiting for it are in the vbuckets anyway, and what a newer version replaces
// meanwhile is not written at all, so what waits is bounded by the quota, as everything in memory is.
type flusher struct {
	b    *bucket
	file *bucketFile
	pace *pace

	mu sync.Mutex
	// queue is the changed vbuckets, each once, first come first served. passed, if somebody waits, is closed when all of it is
	// on disk.
	queue  []uint16
	queued map[uint16]bool
	passed chan struct{}
	wake   chan struct{}

	// quit is closed when the node goes down; flush says whether what is left is to be written then.
	quit  chan struct{}
	flush bool
	once  sync.Once
	done  chan struct{}
	err   error
}

const (
	// flushLimit is how many bytes a transaction gathers before it takes no further vbucket.
	flushLimit = 4 << 20
	// commitOverhead is what a transaction costs a disk besides what it writes, in bytes.
	commitOverhead = 4 << 10
	// A write that fails is tried again after a while, which doubles.
	firstFlushRetry = 100 * time.Millisecond
	lastFlushRetry  = 5 * time.Second
)

var errFrozen = errors.New("kvnode: the node goes down")

func newFlusher(b *bucket, file *bucketFile, p *pace) *flusher {
	return &flusher{
		b: b, file: file, pace: p, queued: map[uint16]bool{},
		wake: make(chan struct{}, 1), quit: make(chan struct{}), done: make(chan struct{}),
	}
}

// push enters a vbucket that has changed. It never blocks, and may be called with the vbucket locked.
func (w *flusher) push(vb uint16) {
	w.mu.Lock()
	if !w.queued[vb] {
		w.queued[vb] = true
		w.queue = append(w.queue, vb)
	}
	w.mu.Unlock()
	w.signal()
}

// barrier returns a channel that is closed when all that was entered so far is on disk. If the node goes down first, it stays open.
func (w *flusher) barrier() <-chan struct{} {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.passed == nil {
		w.passed = make(chan struct{})
	}
	w.signal()
	return w.passed
}

func (w *flusher) signal() {
	select {
	case w.wake <- struct{}{}:
	default:
	}
}

func (w *flusher) take() (vbs []uint16, passed chan struct{}) {
	w.mu.Lock()
	defer w.mu.Unlock()
	vbs, passed = w.queue, w.passed
	w.queue, w.passed = nil, nil
	clear(w.queued)
	return vbs, passed
}

// end stops the flusher and returns when it has stopped. If flush, it writes what is left first, at full speed, and marks
// the file as complete; else what is on disk is all that a restart finds. Only the first call decides.
func (w *flusher) end(flush bool) error {
	w.once.Do(func() {
		w.flush = flush
		close(w.quit)
	})
	<-w.done
	if errors.Is(w.err, errFrozen) {
		return nil
	}
	return w.err
}

// run is the flusher's goroutine.
func (w *flusher) run() {
	defer close(w.done)
	for {
		select {
		case <-w.quit:
			w.err = w.last()
			return
		case <-w.wake:
		}
		vbs, passed := w.take()
		if w.err = w.round(vbs); w.err != nil {
			return
		}
		if passed != nil {
			close(passed)
		}
	}
}

// last writes what is left, if that is asked for.
func (w *flusher) last() error {
	if !w.flush {
		return nil
	}
	for vbs, _ := w.take(); len(vbs) > 0; vbs, _ = w.take() {
		if err := w.round(vbs); err != nil {
			return err
		}
	}
	return w.file.setClean(true)
}

// flight is a batch on its way, with the copy that it is of; nil if the batch drops one.
type flight struct {
	v *vbucket
	batch
}

// round brings changed vbuckets to disk, a few per transaction. An error means that the node goes down.
func (w *flusher) round(vbs []uint16) error {
	for len(vbs) > 0 {
		var flights []flight
		size := int64(commitOverhead)
		for len(vbs) > 0 && size < flushLimit {
			f := w.capture(vbs[0])
			vbs = vbs[1:]
			flights = append(flights, f)
			size += f.size()
		}
		if err := w.commit(flights, size); err != nil {
			return err
		}
	}
	return nil
}

// capture takes what a vbucket has to write, as it is at this moment.
func (w *flusher) capture(vb uint16) flight {
	v := w.b.vb(vb)
	if v == nil {
		return flight{nil, batch{vb: vb, drop: true}}
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.deleted {
		return flight{nil, batch{vb: vb, drop: true}}
	}
	v.unflushed = false
	changes := v.history.appendSince(nil, v.disk.captured)
	return flight{v, v.disk.capture(vb, v.header(), changes)}
}

// commit writes batches, again and again until that succeeds, at the disk's pace.
func (w *flusher) commit(flights []flight, size int64) error {
	batches := make([]batch, len(flights))
	for i, f := range flights {
		batches[i] = f.batch
	}
	failing := false
	for retry := firstFlushRetry; ; retry = min(2*retry, lastFlushRetry) {
		w.b.node.beforeDisk(w.b.name, DiskWrite, w.quit)
		if !w.stopping() && !w.pace.wait(size, w.quit) && !w.flush {
			return errFrozen
		}
		err := w.file.write(batches, w.mayCommit)
		if err == nil {
			break
		}
		if w.stopping() {
			return err
		}
		if !failing {
			failing = true
			w.b.node.log.Error("flush_failed", "bucket", w.b.name, "file", w.file.path, "err", err)
		}
		select {
		case <-w.quit:
		case <-time.After(retry):
		}
	}
	if failing {
		w.b.node.log.Info("flush_resumed", "bucket", w.b.name, "file", w.file.path)
	}
	for _, f := range flights {
		if f.v != nil {
			f.v.flushed(f.batch)
		}
	}
	return nil
}

func (w *flusher) stopping() bool {
	select {
	case <-w.quit:
		return true
	default:
		return false
	}
}

// mayCommit refuses once the disk is frozen.
func (w *flusher) mayCommit() error {
	if w.stopping() && !w.flush {
		return errFrozen
	}
	return nil
}
