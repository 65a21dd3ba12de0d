package store

import "os"

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
