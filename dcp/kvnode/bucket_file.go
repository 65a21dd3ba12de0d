package kvnode

import (
	"encoding/binary"
	"errors"
	"fmt"
	"slices"

	"go.etcd.io/bbolt"
	bbolterrors "go.etcd.io/bbolt/errors"
)

// bucketFile is a bucket on disk: its settings, whether it was closed in good order, and for each vbucket a header and the
// documents by key.
type bucketFile struct {
	path string
	db   *bbolt.DB
}

var (
	rootName     = []byte("bucket")
	vbucketsName = []byte("vbuckets")
	docsName     = []byte("documents")
	preparesName = []byte("prepares")
)

const (
	settingsKey = "settings"
	cleanKey    = "clean"
	headerKey   = "header"
)

// storedSettings are a bucket's, as it was created.
type storedSettings struct {
	Name     string `json:"name"`
	VBuckets int    `json:"vbuckets"`
	Quota    int64  `json:"quota"`
	// Traffic says whether clients are let in without an ENABLE_TRAFFIC.
	Traffic bool `json:"traffic"`
}

var errNotABucket = errors.New("no bucket lies in it")

// create makes the file of a new bucket. One that is left over from a creation which was cut short is used; one that
// holds a bucket is not, and an error.
func (d *disk) create(s storedSettings) (*bucketFile, error) {
	path := d.path(s.Name)
	db, err := openFile(path, d.noSync)
	if err != nil {
		return nil, err
	}
	f := &bucketFile{path: path, db: db}
	record, err := encodeJSON(settingsKey, s)
	if err == nil {
		err = f.update(func(tx *bbolt.Tx) error {
			root, err := tx.CreateBucket(rootName)
			if err == nil {
				err = root.Put([]byte(settingsKey), record)
			}
			if err == nil {
				_, err = tx.CreateBucket(vbucketsName)
			}
			return err
		})
	}
	if err != nil {
		return nil, errors.Join(err, db.Close())
	}
	return f, nil
}

// open opens a bucket's file and reads its settings. A file without a bucket is errNotABucket: its creation was cut short.
func (d *disk) open(path string) (f *bucketFile, s storedSettings, err error) {
	db, err := openFile(path, d.noSync)
	if err != nil {
		return nil, s, err
	}
	f = &bucketFile{path: path, db: db}
	err = f.view(func(tx *bbolt.Tx) error {
		root := tx.Bucket(rootName)
		if root == nil {
			return errNotABucket
		}
		if err := decodeJSON(settingsKey, root.Get([]byte(settingsKey)), &s); err != nil {
			return &CorruptError{path, fmt.Errorf("settings: %w", err)}
		}
		if tx.Bucket(vbucketsName) == nil || d.path(s.Name) != path {
			return &CorruptError{path, errRecordContent}
		}
		return nil
	})
	if err != nil {
		return nil, s, errors.Join(err, db.Close())
	}
	return f, s, nil
}

func (f *bucketFile) view(act func(tx *bbolt.Tx) error) error {
	return guard(f.path, func() error { return f.db.View(act) })
}

func (f *bucketFile) update(act func(tx *bbolt.Tx) error) error {
	return guard(f.path, func() error { return f.db.Update(act) })
}

func (f *bucketFile) close() error { return guard(f.path, f.db.Close) }

// setClean notes whether the file is complete: the next to open it will know if it was closed in good order.
func (f *bucketFile) setClean(clean bool) error {
	record, err := encodeJSON(cleanKey, clean)
	if err != nil {
		return err
	}
	return f.update(func(tx *bbolt.Tx) error { return tx.Bucket(rootName).Put([]byte(cleanKey), record) })
}

// clean reads what setClean noted. A bucket that was never closed is not clean.
func (f *bucketFile) clean() (clean bool, err error) {
	err = f.view(func(tx *bbolt.Tx) error {
		record := tx.Bucket(rootName).Get([]byte(cleanKey))
		if record == nil {
			return nil
		}
		if err := decodeJSON(cleanKey, record, &clean); err != nil {
			return &CorruptError{f.path, fmt.Errorf("clean mark: %w", err)}
		}
		return nil
	})
	return clean, err
}

func vbucketName(vb uint16) []byte { return binary.BigEndian.AppendUint16(nil, vb) }

// write does what batches say, all of it or nothing. Just before it is done, proceed is asked whether it may be.
func (f *bucketFile) write(batches []batch, proceed func() error) error {
	return f.update(func(tx *bbolt.Tx) error {
		vbs := tx.Bucket(vbucketsName)
		for i := range batches {
			if err := writeBatch(vbs, &batches[i]); err != nil {
				return fmt.Errorf("vbucket %d: %w", batches[i].vb, err)
			}
		}
		return proceed()
	})
}

func writeBatch(vbs *bbolt.Bucket, b *batch) error {
	name := vbucketName(b.vb)
	if b.drop || b.fresh {
		if err := vbs.DeleteBucket(name); err != nil && !errors.Is(err, bbolterrors.ErrBucketNotFound) {
			return err
		}
	}
	if b.drop {
		return nil
	}
	vb, err := vbs.CreateBucketIfNotExists(name)
	if err != nil {
		return err
	}
	docs, err := vb.CreateBucketIfNotExists(docsName)
	if err != nil {
		return err
	}
	for _, key := range b.remove {
		if err := docs.Delete([]byte(key)); err != nil {
			return err
		}
	}
	if err := writeItems(vb, docs, b); err != nil {
		return err
	}
	record, err := encodeJSON(headerKey, b.header)
	if err != nil {
		return err
	}
	return vb.Put([]byte(headerKey), record)
}

// writeItems puts documents and prepares, each where they belong. Most vbuckets have no place for prepares, because they never had one.
func writeItems(vb, docs *bbolt.Bucket, b *batch) (err error) {
	prepares := vb.Bucket(preparesName)
	for _, key := range b.settle {
		if prepares == nil {
			break
		}
		if err := prepares.Delete([]byte(key)); err != nil {
			return err
		}
	}
	for _, it := range b.write {
		to := docs
		switch {
		case it.kind != document:
			if prepares, err = vb.CreateBucketIfNotExists(preparesName); err != nil {
				return err
			}
			to = prepares
		case prepares != nil:
			if err := prepares.Delete([]byte(it.key)); err != nil {
				return err
			}
		}
		if err := to.Put([]byte(it.key), encodeItem(it)); err != nil {
			return err
		}
	}
	return nil
}

// vbuckets lists those that are there, in ascending order.
func (f *bucketFile) vbuckets(limit int) (ids []uint16, err error) {
	err = f.view(func(tx *bbolt.Tx) error {
		return tx.Bucket(vbucketsName).ForEachBucket(func(name []byte) error {
			if len(name) != 2 || int(binary.BigEndian.Uint16(name)) >= limit {
				return &CorruptError{f.path, fmt.Errorf("a vbucket of the name %x", name)}
			}
			ids = append(ids, binary.BigEndian.Uint16(name))
			return nil
		})
	})
	return ids, err
}

// read returns a vbucket's header and its documents, oldest first.
func (f *bucketFile) read(id uint16) (h header, items []*item, err error) {
	err = f.view(func(tx *bbolt.Tx) error {
		vb := tx.Bucket(vbucketsName).Bucket(vbucketName(id))
		if err := decodeJSON(headerKey, vb.Get([]byte(headerKey)), &h); err != nil {
			return f.corrupt(id, "header", err)
		}
		docs := vb.Bucket(docsName)
		if !h.valid() || docs == nil {
			return f.corrupt(id, "header", errRecordContent)
		}
		load := func(key, record []byte) error {
			it, err := decodeItem(string(key), record)
			if err == nil && it.seqno > h.High {
				err = errRecordContent
			}
			if err != nil {
				return f.corrupt(id, fmt.Sprintf("document %q", key), err)
			}
			items = append(items, it)
			return nil
		}
		if prepares := vb.Bucket(preparesName); prepares != nil {
			if err := prepares.ForEach(load); err != nil {
				return err
			}
		}
		return docs.ForEach(load)
	})
	if err != nil {
		return header{}, nil, err
	}
	slices.SortFunc(items, func(a, b *item) int {
		if a.seqno < b.seqno {
			return -1
		}
		return 1
	})
	for i := 1; i < len(items); i++ {
		if items[i].seqno == items[i-1].seqno {
			return header{}, nil, f.corrupt(id, fmt.Sprintf("document %q", items[i].key), errRecordContent)
		}
	}
	return h, items, nil
}

func (f *bucketFile) corrupt(vb uint16, what string, cause error) error {
	return &CorruptError{f.path, fmt.Errorf("vbucket %d: %s: %w", vb, what, cause)}
}
