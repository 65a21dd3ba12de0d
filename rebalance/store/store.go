package store

import (
	"context"
	"errors"
	"fmt"
)

var (
	// ErrNotFound says that a key has no value.
	ErrNotFound = errors.New("store: not found")
	// ErrConflict says that somebody else changed the value since it was read. A *[ConflictError] carries it.
	ErrConflict = errors.New("store: changed by somebody else")
	// ErrClosed refuses work on a store that has been closed.
	ErrClosed = errors.New("store: closed")
)

// ConflictError is a compare-and-set that did not find what it expected.
type ConflictError struct {
	Key string
	// Expected and Found are revisions; 0 stands for a key without a value.
	Expected, Found uint64
}

func (e *ConflictError) Error() string {
	return fmt.Sprintf("%v: %q has revision %d, not %d", ErrConflict, e.Key, e.Found, e.Expected)
}

func (e *ConflictError) Unwrap() error { return ErrConflict }

// Entry is the value of one key.
type Entry struct {
	Key   string
	Value []byte
	// Revision is that of the write that put the value there.
	Revision uint64
}

// Change is one write, as a watcher sees it.
type Change struct {
	Key string
	// Value is nil if the key was deleted.
	Value []byte
	// Revision is that of the write.
	Revision uint64
}

// Store keeps values under keys. Every write gets a revision, larger than that of every write before it in the whole
// store; a key that is deleted and written again never has an old revision.
//
// All methods may be called from any goroutine. Values that go in or out are copies: neither side may see the other
// change them. Calls on a closed store fail with [ErrClosed]; calls whose context ends fail with its error, and then a
// write may or may not have happened.
type Store interface {
	// Get returns the value of key and its revision, or [ErrNotFound].
	Get(ctx context.Context, key string) (value []byte, revision uint64, err error)
	// CompareAndSet writes value if and only if key's revision is expected, 0 meaning that there is no value. It
	// returns the new revision, or a *[ConflictError]. Of several writers that expect the same revision at most one
	// succeeds.
	CompareAndSet(ctx context.Context, key string, value []byte, expected uint64) (revision uint64, err error)
	// Delete removes key's value if and only if its revision is expected, which must not be 0; else as CompareAndSet.
	Delete(ctx context.Context, key string, expected uint64) error
	// List returns the values of all keys that begin with prefix, by key, all as of one moment.
	List(ctx context.Context, prefix string) ([]Entry, error)
	// Watch reports every change of keys that begin with prefix that happens after it returned, in the order of
	// revisions. A receiver that is slow sees only the last change of each key: the memory that it costs is bounded by
	// the number of keys. The channel is closed when ctx ends or the store is closed.
	Watch(ctx context.Context, prefix string) (<-chan Change, error)
	// Close ends all watches and makes further calls fail. It may be called more than once.
	Close() error
}
