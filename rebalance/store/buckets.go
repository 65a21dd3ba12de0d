package store

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"sync"

	"github.com/shearpin/shearpin/rebalance/vbmap"
)

const (
	schemaKey    = "schema"
	epochKey     = "epoch"
	bucketPrefix = "buckets/"
)

// Buckets is the typed view of a [Store]: the bucket documents and the epochs. All methods may be called from any
// goroutine, and several managers may have views of one store at the same time.
type Buckets struct {
	store Store

	mu    sync.Mutex
	lines map[string]*commitLine // by bucket
}

// NewBuckets returns the view of a store. A store that is empty is marked with our schema version; one of another
// version is refused with a *[SchemaError].
func NewBuckets(ctx context.Context, s Store) (*Buckets, error) {
	if err := checkSchema(ctx, s); err != nil {
		return nil, err
	}
	return &Buckets{store: s, lines: map[string]*commitLine{}}, nil
}

func checkSchema(ctx context.Context, s Store) error {
	found, err := counter(ctx, s, schemaKey)
	switch {
	case err != nil:
		return err
	case found.revision == 0:
		_, err := s.CompareAndSet(ctx, schemaKey, strconv.AppendInt(nil, SchemaVersion, 10), 0)
		if errors.Is(err, ErrConflict) {
			return checkSchema(ctx, s) // another manager was first
		}
		return err
	case found.value != SchemaVersion:
		return &SchemaError{Key: schemaKey, Found: int(min(found.value, 1<<30))}
	}
	return nil
}

// NextEpoch takes a new epoch: a number larger than every epoch taken before from this store. The first is 1.
func (b *Buckets) NextEpoch(ctx context.Context) (uint64, error) {
	for {
		last, err := counter(ctx, b.store, epochKey)
		if err != nil {
			return 0, err
		}
		next := last.value + 1
		_, err = b.store.CompareAndSet(ctx, epochKey, strconv.AppendUint(nil, next, 10), last.revision)
		if errors.Is(err, ErrConflict) {
			continue
		}
		return next, err
	}
}

type count struct{ value, revision uint64 }

// counter reads a decimal number; one that was never written is 0 with revision 0.
func counter(ctx context.Context, s Store, key string) (count, error) {
	value, revision, err := s.Get(ctx, key)
	if errors.Is(err, ErrNotFound) {
		return count{}, nil
	}
	if err != nil {
		return count{}, err
	}
	number, err := strconv.ParseUint(string(value), 10, 64)
	if err != nil {
		return count{}, &CorruptError{Key: key, Err: err}
	}
	return count{value: number, revision: revision}, nil
}

// Create stores a bucket that does not exist yet and returns it with its revision. If it exists, [ErrConflict].
func (b *Buckets) Create(ctx context.Context, doc BucketDoc) (BucketDoc, error) {
	return b.write(ctx, doc.Clone(), 0)
}

// Get returns a bucket, or [ErrNotFound].
func (b *Buckets) Get(ctx context.Context, bucket string) (BucketDoc, error) {
	key := bucketPrefix + bucket
	value, revision, err := b.store.Get(ctx, key)
	if err != nil {
		return BucketDoc{}, fmt.Errorf("bucket %q: %w", bucket, err)
	}
	return decode(key, value, revision)
}

// List returns all buckets by name.
func (b *Buckets) List(ctx context.Context) ([]BucketDoc, error) {
	entries, err := b.store.List(ctx, bucketPrefix)
	if err != nil {
		return nil, err
	}
	docs := make([]BucketDoc, len(entries))
	for i, entry := range entries {
		if docs[i], err = decode(entry.Key, entry.Value, entry.Revision); err != nil {
			return nil, err
		}
	}
	return docs, nil
}

// Delete removes a bucket as it was when doc was read; if it changed since, [ErrConflict].
func (b *Buckets) Delete(ctx context.Context, doc BucketDoc) error {
	return b.store.Delete(ctx, bucketPrefix+doc.Name, doc.Revision)
}

// Watch calls for every change of a bucket. What arrives is a reason to Get, see [Store] for what a slow receiver
// misses.
func (b *Buckets) Watch(ctx context.Context, bucket string) (<-chan Change, error) {
	return b.store.Watch(ctx, bucketPrefix+bucket)
}

// Update changes a bucket: edit gets the current document and alters it; if somebody else was faster, edit is called
// again with theirs. An error of edit is returned and nothing is changed. Name and Revision cannot be altered.
func (b *Buckets) Update(ctx context.Context, bucket string, edit func(doc *BucketDoc) error) (BucketDoc, error) {
	for {
		doc, err := b.Get(ctx, bucket)
		if err != nil {
			return BucketDoc{}, err
		}
		revision := doc.Revision
		if err := edit(&doc); err != nil {
			return BucketDoc{}, err
		}
		doc.Name = bucket
		doc, err = b.write(ctx, doc, revision)
		if errors.Is(err, ErrConflict) {
			continue
		}
		return doc, err
	}
}

// SetTarget puts the fast-forward map there, or with nil takes it away.
func (b *Buckets) SetTarget(ctx context.Context, bucket string, target vbmap.Map) error {
	_, err := b.Update(ctx, bucket, func(doc *BucketDoc) error {
		doc.Target = target
		return nil
	})
	return err
}

// SetServers says which nodes hold the bucket.
func (b *Buckets) SetServers(ctx context.Context, bucket string, servers []string) error {
	_, err := b.Update(ctx, bucket, func(doc *BucketDoc) error {
		doc.Servers = servers
		return nil
	})
	return err
}

// Claim makes the bucket refuse writes of lower epochs from now on, those under way included. A claim by a lower epoch
// than the one that holds it is refused with a *[StaleEpochError].
func (b *Buckets) Claim(ctx context.Context, bucket string, epoch uint64) error {
	_, err := b.Update(ctx, bucket, func(doc *BucketDoc) error { return doc.claim(epoch) })
	return err
}

// StaleEpochError refuses a write of somebody who was superseded.
type StaleEpochError struct {
	Bucket         string
	Epoch, Current uint64
}

func (e *StaleEpochError) Error() string {
	return fmt.Sprintf("store: bucket %q: epoch %d was superseded by %d", e.Bucket, e.Epoch, e.Current)
}

func (d *BucketDoc) claim(epoch uint64) error {
	if epoch < d.Epoch {
		return &StaleEpochError{Bucket: d.Name, Epoch: epoch, Current: d.Epoch}
	}
	d.Epoch = epoch
	return nil
}

func (b *Buckets) write(ctx context.Context, doc BucketDoc, expected uint64) (BucketDoc, error) {
	if err := doc.validate(); err != nil {
		return BucketDoc{}, fmt.Errorf("bucket %q: %w", doc.Name, err)
	}
	if strings.Contains(doc.Name, "/") {
		return BucketDoc{}, fmt.Errorf("bucket %q: a name has no slash", doc.Name)
	}
	value, err := encode(doc)
	if err != nil {
		return BucketDoc{}, fmt.Errorf("bucket %q: %w", doc.Name, err)
	}
	doc.Revision, err = b.store.CompareAndSet(ctx, bucketPrefix+doc.Name, value, expected)
	if err != nil {
		return BucketDoc{}, fmt.Errorf("bucket %q: %w", doc.Name, err)
	}
	return doc, nil
}
