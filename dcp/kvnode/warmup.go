package kvnode

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"github.com/shearpin/shearpin/dcp/mcbp"
)

// warmup brings a bucket from its disk into memory after a restart. Until it has ended, the bucket answers every command
// with a temporary failure but STAT warmup.
type warmup struct {
	file *bucketFile
	// quit is closed to cut it short; done is closed when it has ended, and err is set then.
	quit, done chan struct{}
	once       sync.Once
	err        error
}

func (w *warmup) cut() { w.once.Do(func() { close(w.quit) }) }

// warmupGroup is the one statistic that a bucket has while it warms up.
const warmupGroup = "warmup"

var errDown = errors.New("kvnode: the node is down")

// warming reports whether the bucket is not ready yet. One whose disk is broken never will be.
func (b *bucket) warming() bool {
	if b.warmup == nil {
		return false
	}
	select {
	case <-b.warmup.done:
		return b.warmup.err != nil
	default:
		return true
	}
}

// warmUp is the goroutine of a warm-up, and what begins the flusher's.
func (b *bucket) warmUp() {
	w := b.warmup
	defer close(w.done)
	err := b.load(w)
	if err == nil {
		err = w.file.setClean(false)
	}
	if w.err = err; err != nil {
		if !errors.Is(err, errDown) {
			b.node.log.Error("warmup_failed", "bucket", b.name, "err", err)
		}
		close(b.flusher.done)
		return
	}
	go b.flusher.run()
	b.node.log.Info("warmup_finished", "bucket", b.name)
}

// load reads vbucket after vbucket.
func (b *bucket) load(w *warmup) error {
	clean, err := w.file.clean()
	if err != nil {
		return err
	}
	ids, err := w.file.vbuckets(len(b.vbs))
	if err != nil {
		return err
	}
	for _, id := range ids {
		b.node.beforeDisk(b.name, DiskRead, w.quit)
		h, items, err := w.file.read(id)
		if err != nil {
			return err
		}
		found := batch{write: items}
		if !b.flusher.pace.wait(found.size(), w.quit) {
			return errDown
		}
		b.vbs[id].Store(restored(b, id, h, items, clean))
	}
	return nil
}

// statWarmup tells whether the bucket is ready.
func statWarmup(b *bucket, s stats, args []string) mcbp.Status {
	if len(args) != 0 {
		return mcbp.StatusInvalid
	}
	state := "complete"
	if b.warming() {
		state = "running"
	}
	s.add("ep_warmup_thread", state)
	return mcbp.StatusSuccess
}

// Warm returns when every bucket has been read from the disk, after a start or restart: nil if all can be used now, or why
// one cannot, a [CorruptError] for example, or the context's error.
func (n *Node) Warm(ctx context.Context) error {
	for _, b := range n.allBuckets() {
		if b.warmup == nil {
			continue
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("kvnode: bucket %q warms up: %w", b.name, ctx.Err())
		case <-b.warmup.done:
			if err := b.warmup.err; err != nil {
				return fmt.Errorf("kvnode: bucket %q: %w", b.name, err)
			}
		}
	}
	return nil
}
