package store

import (
	"context"
	"errors"
	"fmt"
	"sync"
)

// ErrInUse says that another process, or another part of this one, has a store's file open. A *[FileError] names it.
var ErrInUse = errors.New("store: in use by another manager")

// ErrForeign says that a file is a data base of another program. A *[FileError] names it.
var ErrForeign = errors.New("store: the file belongs to another program")

// FileError is what went wrong with a store's file.
type FileError struct {
	Path string
	Err  error
}

func (e *FileError) Error() string { return fmt.Sprintf("%s: %v", e.Path, e.Err) }
func (e *FileError) Unwrap() error { return e.Err }

// file is a [Store] in a bbolt file. What it holds is small, so that all of it is in memory too: reads never wait for the
// disk, and a watch sees what is on disk already. Writes are committed by one goroutine, in the order of their revisions,
// those that wait for it together.
type file struct {
	disk *fileDisk
	// kept is what is on disk. It changes only after a commit, and only by the goroutine that commits.
	kept   *Memory
	writes chan *fileWrite
	// closing is closed by the first Close, ended when the goroutine has.
	closing, ended chan struct{}
	close          sync.Once
	closed         error
}

var _ Store = (*file)(nil)

// OpenFile opens the store that a file holds; if there is none, it makes an empty one, readable by its owner only. The
// directory must exist.
//
// An acknowledged write is on disk, and survives the kill of the process at any moment and the loss of power. Writes that
// wait at the same time are committed together. One process at a time has the file: while another has it, the answer is
// at once a *[FileError] that wraps [ErrInUse]. A file that cannot be read is a *[CorruptError], one of a version that
// this program does not know a *[SchemaError], one of another program a *[FileError] that wraps [ErrForeign]; none of
// them is changed.
//
// A key has 1 to 32 768 bytes. If the disk refuses a write because it is full, that write fails; after a failure that
// leaves in doubt what is on disk all writes fail, with that cause, until the file is opened anew.
//
// Close waits for the commit that is under way, however long the disk takes.
func OpenFile(path string) (Store, error) {
	disk, err := openFileDisk(path, fileTuning{})
	if err != nil {
		return nil, err
	}
	return newFile(disk)
}

// newFile takes an open file.
func newFile(disk *fileDisk) (Store, error) {
	f := &file{
		disk: disk, kept: NewMemory(),
		writes: make(chan *fileWrite), closing: make(chan struct{}), ended: make(chan struct{}),
	}
	if err := disk.load(f.kept); err != nil {
		return nil, errors.Join(err, disk.close())
	}
	go f.commitAll()
	return f, nil
}

// Get implements [Store].
func (f *file) Get(ctx context.Context, key string) ([]byte, uint64, error) {
	return f.kept.Get(ctx, key)
}

// List implements [Store].
func (f *file) List(ctx context.Context, prefix string) ([]Entry, error) {
	return f.kept.List(ctx, prefix)
}

// Watch implements [Store].
func (f *file) Watch(ctx context.Context, prefix string) (<-chan Change, error) {
	return f.kept.Watch(ctx, prefix)
}

// CompareAndSet implements [Store].
func (f *file) CompareAndSet(ctx context.Context, key string, value []byte, expected uint64) (uint64, error) {
	// The caller may alter its value as soon as we return, and then the commit may still be under way.
	return f.write(ctx, &fileWrite{key: key, value: append([]byte{}, value...), expected: expected})
}

// Delete implements [Store].
func (f *file) Delete(ctx context.Context, key string, expected uint64) error {
	_, err := f.write(ctx, &fileWrite{key: key, expected: expected})
	return err
}

// Close implements [Store].
func (f *file) Close() error {
	f.close.Do(func() {
		close(f.closing)
		<-f.ended
		f.closed = errors.Join(f.kept.Close(), f.disk.close())
	})
	return f.closed
}

// fileWrite is one call that waits for its commit. revision and err are read after done was closed.
type fileWrite struct {
	ctx      context.Context // whoever commits asks whether the caller still waits
	key      string
	value    []byte // nil deletes
	expected uint64
	done     chan struct{}
	revision uint64
	err      error
}

// write hands a write to the goroutine that commits, and waits.
func (f *file) write(ctx context.Context, w *fileWrite) (uint64, error) {
	if err := ctx.Err(); err != nil {
		return 0, err
	}
	w.ctx, w.done = ctx, make(chan struct{})
	select {
	case f.writes <- w:
	case <-f.closing:
		return 0, ErrClosed
	case <-ctx.Done():
		return 0, ctx.Err()
	}
	select {
	case <-w.done:
		return w.revision, w.err
	case <-ctx.Done():
		return 0, ctx.Err()
	}
}

// maxTogether bounds the writes of one commit, so that its memory is bounded and no answer waits for an endless stream of
// others.
const maxTogether = 64

// commitAll takes writes until the store is closed.
func (f *file) commitAll() {
	defer close(f.ended)
	for {
		select {
		case w := <-f.writes:
			f.commit(f.together(w))
		case <-f.closing:
			return
		}
	}
}

// together is a write and those that wait behind it.
func (f *file) together(first *fileWrite) []*fileWrite {
	writes := []*fileWrite{first}
	for len(writes) < maxTogether {
		select {
		case w := <-f.writes:
			writes = append(writes, w)
		default:
			return writes
		}
	}
	return writes
}

// commit decides each write as if those before it were made, puts those that may be made on disk in one transaction, and
// answers all.
func (f *file) commit(writes []*fileWrite) {
	var changes []Change
	last := f.kept.revision // nobody else writes to it
	made := map[string]uint64{}
	for _, w := range writes {
		found, ok := made[w.key]
		if !ok {
			found = f.kept.entries[w.key].Revision
		}
		if w.err = w.refuse(found); w.err != nil {
			continue
		}
		last++
		w.revision, made[w.key] = last, last
		if w.value == nil {
			made[w.key] = 0
		}
		changes = append(changes, Change{Key: w.key, Value: w.value, Revision: last})
	}
	if len(changes) > 0 {
		if err := f.disk.commit(changes); err != nil {
			for _, w := range writes {
				w.revision, w.err = 0, err // what was refused may have been so because of a write that has not happened
			}
		} else {
			f.kept.applyAll(changes)
		}
	}
	for _, w := range writes {
		close(w.done)
	}
}

// refuse says why a write cannot be made, if its key has the revision found.
func (w *fileWrite) refuse(found uint64) error {
	switch {
	case w.ctx.Err() != nil:
		return w.ctx.Err()
	case found != w.expected:
		return &ConflictError{Key: w.key, Expected: w.expected, Found: found}
	case w.value == nil && w.expected == 0:
		return ErrNotFound
	case len(w.key) == 0 || len(w.key) > maxFileKey:
		return fmt.Errorf("store: a key of %d bytes, must be 1 to %d", len(w.key), maxFileKey)
	}
	return nil
}

// applyAll makes several writes at once, as far as readers see.
func (m *Memory) applyAll(changes []Change) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, change := range changes {
		m.apply(change)
	}
}
