package store

import (
	"context"
	"os"
)

// OpenFileOfSize is [OpenFile] with a bound on the file's size, in bytes.
func OpenFileOfSize(path string, size int) (Store, error) {
	disk, err := openFileDisk(path, fileTuning{maxSize: size})
	if err != nil {
		return nil, err
	}
	return newFile(disk)
}

// OpenUnsyncedFile is [OpenFile] for tests of many writes.
func OpenUnsyncedFile(path string) (Store, error) {
	disk, err := openFileDisk(path, fileTuning{noSync: true})
	if err != nil {
		return nil, err
	}
	return newFile(disk)
}

// FileHandle is what a store that [OpenFile] opened writes to.
func FileHandle(s Store) *os.File { return s.(*file).disk.handle }

// StuckFile is a store whose disk takes a write, then no other, and answers none. Nothing has to be closed.
func StuckFile() Store {
	f := &file{kept: NewMemory(), writes: make(chan *fileWrite, 1), closing: make(chan struct{})}
	return f
}

// Write is a call of CompareAndSet, or of Delete if Value is nil.
type Write struct {
	Key      string
	Value    []byte
	Expected uint64
}

// CommitTogether has a store that [OpenFile] opened, and that nobody uses, commit writes in one transaction.
func CommitTogether(s Store, writes []Write) (revisions []uint64, errs []error) {
	var together []*fileWrite
	for _, w := range writes {
		together = append(together, &fileWrite{
			ctx: context.Background(), key: w.Key, value: w.Value, expected: w.Expected, done: make(chan struct{}),
		})
	}
	s.(*file).commit(together)
	for _, w := range together {
		<-w.done
		revisions, errs = append(revisions, w.revision), append(errs, w.err)
	}
	return revisions, errs
}

// LastRevision is that of the last write to a store in memory.
func LastRevision(m *Memory) uint64 {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.revision
}
