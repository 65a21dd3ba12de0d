package store

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/shearpin/shearpin/rebalance/vbmap"
)

// Chains are committed one by one, each with compare-and-set, but a rebalance commits many at about the same time and
// every write costs the whole document. So commits of one bucket that wait while another is being written go together
// in the next write; each still succeeds or fails for itself.

// ChainChange is one chain's compare-and-set.
type ChainChange struct {
	VB       int
	Old, New vbmap.Chain
}

// ChainConflictError is a chain that somebody else changed; errors.Is finds [ErrConflict].
type ChainConflictError struct {
	Bucket          string
	VB              int
	Expected, Found vbmap.Chain
}

func (e *ChainConflictError) Error() string {
	return fmt.Sprintf("%v: bucket %q: vb %d has chain %v, not %v", ErrConflict, e.Bucket, e.VB, e.Found, e.Expected)
}

func (e *ChainConflictError) Unwrap() error { return ErrConflict }

// UpdateChain is UpdateChains for one chain and no epoch.
func (b *Buckets) UpdateChain(ctx context.Context, bucket string, vb int, old, updated vbmap.Chain) error {
	return b.UpdateChains(ctx, bucket, 0, ChainChange{VB: vb, Old: old, New: updated})
}

// UpdateChains changes chains of a bucket's map, all or none: those that are Old become New. A chain that is New
// already counts as changed, so that a call whose answer was lost can be repeated. If one is neither, a
// *[ChainConflictError].
//
// The bucket is claimed for epoch as by [Buckets.Claim]; 0 claims nothing and is never refused.
func (b *Buckets) UpdateChains(ctx context.Context, bucket string, epoch uint64, changes ...ChainChange) error {
	line := b.line(bucket)
	c := &commit{epoch: epoch, changes: changes, done: make(chan struct{})}
	b.enqueue(line, c)
	select {
	case <-c.done:
		return c.err
	case <-ctx.Done():
		b.leave(line, c)
		return ctx.Err()
	case line.writing <- struct{}{}:
	}
	defer func() { <-line.writing }()
	batch := b.takeAll(line)
	if len(batch) > 0 { // else the writer before us took ours along
		b.writeBatch(ctx, bucket, line, batch)
	}
	select {
	case <-c.done:
		return c.err
	default:
		b.leave(line, c)
		return ctx.Err()
	}
}

// commitLine is where the commits of one bucket wait.
type commitLine struct {
	// writing has room for the one who writes.
	writing chan struct{}
	// waiting is guarded by Buckets.mu.
	waiting []*commit
}

// commit is one call of UpdateChains. err is read after done was closed.
type commit struct {
	epoch   uint64
	changes []ChainChange
	done    chan struct{}
	err     error
}

func (b *Buckets) line(bucket string) *commitLine {
	b.mu.Lock()
	defer b.mu.Unlock()
	line := b.lines[bucket]
	if line == nil {
		line = &commitLine{writing: make(chan struct{}, 1)}
		b.lines[bucket] = line
	}
	return line
}

func (b *Buckets) enqueue(line *commitLine, commits ...*commit) {
	b.mu.Lock()
	defer b.mu.Unlock()
	line.waiting = append(line.waiting, commits...)
}

func (b *Buckets) leave(line *commitLine, c *commit) {
	b.mu.Lock()
	defer b.mu.Unlock()
	line.waiting = slices.DeleteFunc(line.waiting, func(other *commit) bool { return other == c })
}

func (b *Buckets) takeAll(line *commitLine) []*commit {
	b.mu.Lock()
	defer b.mu.Unlock()
	batch := line.waiting
	line.waiting = nil
	return batch
}

// writeBatch commits a batch with the writer's context. If that ends first, the batch goes back in line: the others
// have contexts of their own.
func (b *Buckets) writeBatch(ctx context.Context, bucket string, line *commitLine, batch []*commit) {
	_, err := b.Update(ctx, bucket, func(doc *BucketDoc) error {
		changed := false
		for _, c := range batch {
			c.err = c.apply(doc)
			changed = changed || c.err == nil
		}
		if !changed {
			return errNothingToWrite
		}
		return nil
	})
	if err != nil && ctx.Err() != nil {
		b.enqueue(line, batch...)
		return
	}
	for _, c := range batch {
		if err != nil && !errors.Is(err, errNothingToWrite) {
			c.err = err
		}
		close(c.done)
	}
}

// errNothingToWrite ends a batch of which every commit was refused.
var errNothingToWrite = errors.New("store: nothing to write")

// apply alters the document, or leaves it as it was and says why.
func (c *commit) apply(doc *BucketDoc) error {
	if c.epoch != 0 && c.epoch < doc.Epoch {
		return &StaleEpochError{Bucket: doc.Name, Epoch: c.epoch, Current: doc.Epoch}
	}
	for _, change := range c.changes {
		if change.VB < 0 || change.VB >= len(doc.Map) {
			return fmt.Errorf("bucket %q: vb %d: %w", doc.Name, change.VB, ErrNotFound)
		}
		found := doc.Map[change.VB]
		if !found.Equal(change.Old) && !found.Equal(change.New) {
			return &ChainConflictError{Bucket: doc.Name, VB: change.VB, Expected: change.Old, Found: found}
		}
		if err := vbmap.ValidateChain(change.VB, change.New, vbmap.Rules{}); err != nil {
			return fmt.Errorf("bucket %q: %w", doc.Name, err)
		}
	}
	for _, change := range c.changes {
		doc.Map[change.VB] = change.New.Clone()
	}
	doc.Epoch = max(doc.Epoch, c.epoch)
	return nil
}
