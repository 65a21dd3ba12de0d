package store

import (
	"bytes"
	"context"
	"slices"
	"strings"
	"sync"
)

// Memory is a [Store] that forgets everything when the process ends. The zero value is not usable; see [NewMemory].
type Memory struct {
	mu       sync.Mutex
	revision uint64
	entries  map[string]Entry
	watches  map[*watch]struct{}
	closed   chan struct{}
	running  sync.WaitGroup
}

var _ Store = (*Memory)(nil)

// NewMemory returns an empty store. [Memory.Close] ends the goroutines of its watches.
func NewMemory() *Memory {
	return &Memory{
		entries: map[string]Entry{},
		watches: map[*watch]struct{}{},
		closed:  make(chan struct{}),
	}
}

// Get implements [Store].
func (m *Memory) Get(ctx context.Context, key string) ([]byte, uint64, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if err := m.usable(ctx); err != nil {
		return nil, 0, err
	}
	entry, ok := m.entries[key]
	if !ok {
		return nil, 0, ErrNotFound
	}
	return bytes.Clone(entry.Value), entry.Revision, nil
}

// CompareAndSet implements [Store].
func (m *Memory) CompareAndSet(ctx context.Context, key string, value []byte, expected uint64) (uint64, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if err := m.expect(ctx, key, expected); err != nil {
		return 0, err
	}
	m.apply(Change{Key: key, Value: append([]byte{}, value...), Revision: m.revision + 1})
	return m.revision, nil
}

// Delete implements [Store].
func (m *Memory) Delete(ctx context.Context, key string, expected uint64) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if err := m.expect(ctx, key, expected); err != nil {
		return err
	}
	if expected == 0 {
		return ErrNotFound
	}
	m.apply(Change{Key: key, Revision: m.revision + 1})
	return nil
}

// List implements [Store].
func (m *Memory) List(ctx context.Context, prefix string) ([]Entry, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if err := m.usable(ctx); err != nil {
		return nil, err
	}
	var found []Entry
	for key, entry := range m.entries {
		if strings.HasPrefix(key, prefix) {
			entry.Value = bytes.Clone(entry.Value)
			found = append(found, entry)
		}
	}
	slices.SortFunc(found, func(a, b Entry) int { return strings.Compare(a.Key, b.Key) })
	return found, nil
}

// Watch implements [Store].
func (m *Memory) Watch(ctx context.Context, prefix string) (<-chan Change, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if err := m.usable(ctx); err != nil {
		return nil, err
	}
	w := newWatch(prefix)
	m.watches[w] = struct{}{}
	m.running.Go(func() {
		w.deliver(ctx, m.closed)
		m.mu.Lock()
		defer m.mu.Unlock()
		delete(m.watches, w)
	})
	return w.out, nil
}

// Close implements [Store]. It returns when the goroutines of all watches have ended.
func (m *Memory) Close() error {
	m.mu.Lock()
	select {
	case <-m.closed:
	default:
		close(m.closed)
	}
	m.mu.Unlock()
	m.running.Wait()
	return nil
}

// usable says why nothing can be done now. The caller holds the lock.
func (m *Memory) usable(ctx context.Context) error {
	select {
	case <-m.closed:
		return ErrClosed
	default:
		return ctx.Err()
	}
}

// expect says why a write that expects a revision of key cannot be done. The caller holds the lock.
func (m *Memory) expect(ctx context.Context, key string, expected uint64) error {
	if err := m.usable(ctx); err != nil {
		return err
	}
	if found := m.entries[key].Revision; found != expected {
		return &ConflictError{Key: key, Expected: expected, Found: found}
	}
	return nil
}

// apply makes a write and hands it to every watch that wants it. The caller holds the lock, so that all watches see one
// order; the value is ours from now on.
func (m *Memory) apply(change Change) {
	m.revision = change.Revision
	if change.Value == nil {
		delete(m.entries, change.Key)
	} else {
		m.entries[change.Key] = Entry(change)
	}
	for w := range m.watches {
		if strings.HasPrefix(change.Key, w.prefix) {
			change := change
			change.Value = bytes.Clone(change.Value)
			w.add(change)
		}
	}
}
