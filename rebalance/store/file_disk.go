package store

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc64"
	"io/fs"
	"os"
	"runtime/debug"
	"strings"
	"time"

	"go.etcd.io/bbolt"
	bbolterrors "go.etcd.io/bbolt/errors"
)

// A store's file has two bbolt buckets:
//
//	head       "head": schema version, last revision, sum of the checksums of all entries; 8 bytes each
//	entries    a key of the store: revision, checksum of key, revision and value; 8 bytes each; then the value
//
// bbolt checks no more than its first pages. The checksums tell that an entry is as it was written; their sum, that none
// is missing or an older one.
var (
	headBucket    = []byte("shearpin.head")
	entriesBucket = []byte("shearpin.entries")
	headKey       = []byte("head")
	checksums     = crc64.MakeTable(crc64.ECMA)
)

const (
	headSize   = 24
	recordHead = 16
	maxFileKey = bbolt.MaxKeySize
	// lockTimeout is shorter than bbolt's pause before it tries again to get the lock: it tries once.
	lockTimeout = time.Millisecond
)

// fileDisk is an open bbolt file. It is used by one goroutine at a time.
type fileDisk struct {
	path string
	db   *bbolt.DB
	// handle is db's, to let go of the file when db itself cannot.
	handle *os.File
	sum    uint64
	// failed is why nothing is written any more.
	failed error
	// stuck says that db has panicked, and may hold its own locks.
	stuck bool
}

// fileTuning is for tests. The zero value is what users get.
type fileTuning struct {
	// maxSize bounds the file, in bytes; 0 does not.
	maxSize int
	// noSync leaves it to the kernel when to write.
	noSync bool
}

// openFileDisk opens or makes a file.
func openFileDisk(path string, tuning fileTuning) (*fileDisk, error) {
	if err := makeFile(path); err != nil {
		return nil, err
	}
	d := &fileDisk{path: path}
	if err := d.open(path, tuning); err != nil {
		return nil, err
	}
	removeUnfinished(path)
	return d, nil
}

// open opens or makes a bbolt file at path.
func (d *fileDisk) open(path string, tuning fileTuning) error {
	options := *bbolt.DefaultOptions
	options.Timeout, options.FreelistType = lockTimeout, bbolt.FreelistMapType
	options.MaxSize, options.NoSync = tuning.maxSize, tuning.noSync
	options.OpenFile = func(name string, flag int, mode os.FileMode) (*os.File, error) {
		var err error
		d.handle, err = os.OpenFile(name, flag, mode)
		return d.handle, err
	}
	err := d.guard(func() (err error) {
		d.db, err = bbolt.Open(path, 0o600, &options)
		return err
	})
	if d.stuck && d.handle != nil {
		_ = d.close() // bbolt has left it open, and locked
	}
	switch {
	case errors.Is(err, bbolterrors.ErrTimeout):
		return &FileError{Path: path, Err: ErrInUse}
	case errors.Is(err, bbolterrors.ErrInvalid), errors.Is(err, bbolterrors.ErrChecksum),
		errors.Is(err, bbolterrors.ErrVersionMismatch), err != nil && strings.Contains(err.Error(), "file size too small"):
		return d.corrupt(err)
	case err != nil && !d.stuck:
		return &FileError{Path: path, Err: fmt.Errorf("store: %w", err)}
	}
	return err
}

func (d *fileDisk) corrupt(err error) error { return &CorruptError{Key: d.path, Err: err} }

// guard turns what bbolt does when it meets a broken page, a panic or a fault in mapped memory, into an error.
func (d *fileDisk) guard(f func() error) (err error) {
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	defer func() {
		if p := recover(); p != nil {
			d.stuck = true
			err = d.corrupt(fmt.Errorf("%v", p))
		}
	}()
	return f()
}

// initialise makes an empty store of a file that has nothing in it.
func (d *fileDisk) initialise() error {
	return d.guard(func() error {
		return d.db.Update(func(tx *bbolt.Tx) error {
			head, err := tx.CreateBucket(headBucket)
			if err == nil {
				err = head.Put(headKey, encodeHead(0, 0))
			}
			if err == nil {
				_, err = tx.CreateBucket(entriesBucket)
			}
			return err
		})
	})
}

// empty says whether there is nothing in the file. One of another program is an error.
func (d *fileDisk) empty() (empty bool, err error) {
	err = d.guard(func() error {
		return d.db.View(func(tx *bbolt.Tx) error {
			if first, _ := tx.Cursor().First(); first == nil {
				empty = true
			} else if tx.Bucket(headBucket) == nil {
				return &FileError{Path: d.path, Err: ErrForeign}
			}
			return nil
		})
	})
	return empty, err
}

// load fills an empty store with what the file holds.
func (d *fileDisk) load(kept *Memory) error {
	empty, err := d.empty()
	if err == nil && empty {
		err = d.initialise()
	}
	if err != nil {
		return err
	}
	return d.guard(func() error {
		return d.db.View(func(tx *bbolt.Tx) error {
			head, entries := tx.Bucket(headBucket), tx.Bucket(entriesBucket)
			if entries == nil {
				return d.corrupt(fmt.Errorf("it has no %s", entriesBucket))
			}
			schema, revision, sum, err := decodeHead(head.Get(headKey))
			if err != nil {
				return d.corrupt(err)
			}
			if schema != SchemaVersion {
				return &SchemaError{Key: d.path, Found: int(min(schema, 1<<30))}
			}
			err = entries.ForEach(func(key, record []byte) error {
				entry, checksum, err := decodeRecord(key, record)
				if err == nil && entry.Revision > revision {
					err = fmt.Errorf("revision %d is later than the file's last, %d", entry.Revision, revision)
				}
				if err != nil {
					return d.corrupt(fmt.Errorf("entry %q: %w", key, err))
				}
				kept.entries[entry.Key] = entry
				d.sum += checksum
				return nil
			})
			if err == nil && d.sum != sum {
				err = d.corrupt(fmt.Errorf("its %d entries are not those that were written last", len(kept.entries)))
			}
			kept.revision = revision
			return err
		})
	})
}

// commit makes changes, all or none. When it returns without an error they are on disk.
func (d *fileDisk) commit(changes []Change) error {
	if d.failed != nil {
		return d.failed
	}
	sum, begun := d.sum, false
	err := d.guard(func() error {
		return d.db.Update(func(tx *bbolt.Tx) error {
			entries := tx.Bucket(entriesBucket)
			for _, change := range changes {
				if old := entries.Get([]byte(change.Key)); len(old) >= recordHead {
					sum -= binary.BigEndian.Uint64(old[8:])
				}
				if change.Value == nil {
					if err := entries.Delete([]byte(change.Key)); err != nil {
						return err
					}
					continue
				}
				record, checksum := encodeRecord(change)
				sum += checksum
				if err := entries.Put([]byte(change.Key), record); err != nil {
					return err
				}
			}
			err := tx.Bucket(headBucket).Put(headKey, encodeHead(changes[len(changes)-1].Revision, sum))
			begun = err == nil
			return err
		})
	})
	if err == nil {
		d.sum = sum
		return nil
	}
	err = &FileError{Path: d.path, Err: fmt.Errorf("store: not written: %w", err)}
	if d.stuck || begun && !nothingWritten(err) {
		d.failed = &FileError{Path: d.path, Err: fmt.Errorf("store: takes no more writes until it is opened anew: %w", err)}
	}
	return err
}

// nothingWritten says that a failed commit has left the file as it was: there was no room, or the disk refused data.
// Everything else, a failed fsync above all, leaves it in doubt what a reader would find after a crash.
func nothingWritten(err error) bool {
	var refused *fs.PathError
	return errors.Is(err, bbolterrors.ErrMaxSizeReached) || errors.As(err, &refused) && refused.Op == "write"
}

// close lets go of the file.
func (d *fileDisk) close() error {
	if d.stuck {
		return errors.Join(unlock(d.handle), d.handle.Close())
	}
	return d.guard(d.db.Close)
}

func encodeHead(revision, sum uint64) []byte {
	head := binary.BigEndian.AppendUint64(nil, SchemaVersion)
	head = binary.BigEndian.AppendUint64(head, revision)
	return binary.BigEndian.AppendUint64(head, sum)
}

func decodeHead(head []byte) (schema, revision, sum uint64, err error) {
	if len(head) < 8 {
		return 0, 0, 0, fmt.Errorf("its head has %d bytes, not %d", len(head), headSize)
	}
	schema = binary.BigEndian.Uint64(head)
	if schema == SchemaVersion && len(head) != headSize {
		return 0, 0, 0, fmt.Errorf("its head has %d bytes, not %d", len(head), headSize)
	}
	if schema != SchemaVersion {
		return schema, 0, 0, nil // what follows is for others to know
	}
	return schema, binary.BigEndian.Uint64(head[8:]), binary.BigEndian.Uint64(head[16:]), nil
}

func encodeRecord(change Change) (record []byte, checksum uint64) {
	checksum = checksumOf(change.Key, change.Value, change.Revision)
	record = make([]byte, 0, recordHead+len(change.Value))
	record = binary.BigEndian.AppendUint64(record, change.Revision)
	record = binary.BigEndian.AppendUint64(record, checksum)
	return append(record, change.Value...), checksum
}

// decodeRecord copies: key and record are the file's.
func decodeRecord(key, record []byte) (entry Entry, checksum uint64, err error) {
	if len(record) < recordHead {
		return Entry{}, 0, fmt.Errorf("%d bytes", len(record))
	}
	entry = Entry{
		Key: string(key), Value: append([]byte{}, record[recordHead:]...), Revision: binary.BigEndian.Uint64(record),
	}
	checksum = binary.BigEndian.Uint64(record[8:])
	if checksumOf(entry.Key, entry.Value, entry.Revision) != checksum {
		return Entry{}, 0, errors.New("its checksum is wrong")
	}
	return entry, checksum, nil
}

// checksumOf covers all of an entry. The key's length comes first: nothing can pass from the key to the value.
func checksumOf(key string, value []byte, revision uint64) uint64 {
	head := binary.BigEndian.AppendUint64(nil, revision)
	head = binary.BigEndian.AppendUint64(head, uint64(len(key)))
	sum := crc64.Update(0, checksums, head)
	sum = crc64.Update(sum, checksums, []byte(key))
	return crc64.Update(sum, checksums, value)
}
