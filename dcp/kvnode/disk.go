package kvnode

import (
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime/debug"
	"strings"
	"time"

	"go.etcd.io/bbolt"
	bbolterrors "go.etcd.io/bbolt/errors"
)

// disk is the directory of a node: a file per bucket, and one that keeps other processes out for as long as the node
// exists, also while it is down.
//
// A bucket has one file and not one per vbucket, so that one transaction, and one fsync, takes what all of its vbuckets
// have to write; a file each would cost a thousand of either to save nothing, because a bucket is flushed by one goroutine
// anyway. Two buckets do not wait for each other.
type disk struct {
	dir    string
	noSync bool
	lock   *bbolt.DB
}

const (
	lockFile     = "node.lock"
	bucketSuffix = ".bucket"
	// lockTimeout is how long a start waits for another process to let go of the directory.
	lockTimeout = time.Second
)

// ErrDirectoryInUse says that another node, in this process or another, has the directory of [Options].
var ErrDirectoryInUse = errors.New("the directory is another node's, which still runs")

// CorruptError says that a file of a node's directory holds what no node has written.
type CorruptError struct {
	File  string
	Cause error
}

func (e *CorruptError) Error() string { return fmt.Sprintf("%s is corrupt: %v", e.File, e.Cause) }
func (e *CorruptError) Unwrap() error { return e.Cause }

// openDisk takes a directory, which it makes if there is none.
func openDisk(dir string, noSync bool) (*disk, error) {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, err
	}
	lock, err := openFile(filepath.Join(dir, lockFile), noSync)
	if err != nil {
		return nil, err
	}
	return &disk{dir: dir, noSync: noSync, lock: lock}, nil
}

func (d *disk) close() error { return d.lock.Close() }

// openFile opens a file of the store, or makes an empty one.
func openFile(path string, noSync bool) (db *bbolt.DB, err error) {
	var file *os.File
	opts := *bbolt.DefaultOptions
	opts.Timeout, opts.NoSync, opts.FreelistType = lockTimeout, noSync, bbolt.FreelistMapType
	opts.OpenFile = func(name string, flag int, mode os.FileMode) (*os.File, error) {
		f, err := os.OpenFile(name, flag, mode)
		file = f
		return f, err
	}
	err = guard(path, func() error {
		var err error
		db, err = bbolt.Open(path, 0o600, &opts)
		return err
	})
	if err != nil && file != nil { // a store that panics while it opens leaves its file open, and locked
		_ = unlock(file)
		_ = file.Close()
	}
	switch {
	case errors.Is(err, bbolterrors.ErrTimeout):
		return nil, fmt.Errorf("%s: %w", path, ErrDirectoryInUse)
	case errors.Is(err, bbolterrors.ErrInvalid), errors.Is(err, bbolterrors.ErrChecksum), errors.Is(err, bbolterrors.ErrVersionMismatch),
		err != nil && strings.Contains(err.Error(), "file size too small"):
		return nil, &CorruptError{path, err}
	case err != nil:
		return nil, err
	}
	return db, nil
}

// guard turns what the store does when it meets a broken page, a panic or a fault in mapped memory, into an error.
func guard(path string, f func() error) (err error) {
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	defer func() {
		if p := recover(); p != nil {
			err = &CorruptError{path, fmt.Errorf("%v", p)}
		}
	}()
	return f()
}

// path is the file of a bucket. Names that could mean something to a file system are written in hexadecimal.
func (d *disk) path(bucket string) string {
	for _, r := range bucket {
		if !strings.ContainsRune("-_%.ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789", r) {
			bucket = "=" + hex.EncodeToString([]byte(bucket))
			break
		}
	}
	return filepath.Join(d.dir, bucket+bucketSuffix)
}

// bucketFiles lists the files that hold buckets.
func (d *disk) bucketFiles() ([]string, error) {
	entries, err := os.ReadDir(d.dir)
	if err != nil {
		return nil, err
	}
	var files []string
	for _, e := range entries {
		if strings.HasSuffix(e.Name(), bucketSuffix) {
			files = append(files, filepath.Join(d.dir, e.Name()))
		}
	}
	return files, nil
}

// remove deletes a bucket's file, which is closed.
func (d *disk) remove(path string) error { return os.Remove(path) }

// wipe removes every bucket.
func (d *disk) wipe() error {
	files, err := d.bucketFiles()
	for _, f := range files {
		err = errors.Join(err, d.remove(f))
	}
	return err
}
