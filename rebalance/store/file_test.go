package store_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.etcd.io/bbolt"
	"pgregory.net/rapid"

	"github.com/shearpin/shearpin/rebalance/store"
	"github.com/shearpin/shearpin/rebalance/store/storetest"
	"github.com/shearpin/shearpin/rebalance/vbmap"
)

func TestFile(t *testing.T) {
	storetest.Run(t, func(t *testing.T) store.Store { return openFile(t, filepath.Join(t.TempDir(), "store")) })
}

// openFile opens a store that is closed at the latest when the test ends.
func openFile(t *testing.T, path string) store.Store {
	t.Helper()
	s, err := store.OpenFile(path)
	require.NoError(t, err)
	t.Cleanup(func() { assert.NoError(t, s.Close()) })
	return s
}

// set writes a value whatever was there.
func set(t *testing.T, s store.Store, key, value string) uint64 {
	t.Helper()
	_, revision, err := s.Get(t.Context(), key)
	if err != nil {
		require.ErrorIs(t, err, store.ErrNotFound)
	}
	revision, err = s.CompareAndSet(t.Context(), key, []byte(value), revision)
	require.NoError(t, err)
	return revision
}

func TestAFileThatIsOpenedAgainHoldsWhatItHeld(t *testing.T) {
	path := filepath.Join(t.TempDir(), "store")
	s := openFile(t, path)
	set(t, s, "a", "1")
	kept := set(t, s, "a", "2")
	empty := set(t, s, "empty", "")
	gone := set(t, s, "gone", "x")
	require.NoError(t, s.Delete(t.Context(), "gone", gone))
	require.NoError(t, s.Close())

	s = openFile(t, path)
	entries, err := s.List(t.Context(), "")
	require.NoError(t, err)
	assert.Equal(t, []store.Entry{
		{Key: "a", Value: []byte("2"), Revision: kept},
		{Key: "empty", Value: []byte{}, Revision: empty},
	}, entries)
	assert.Greater(t, set(t, s, "gone", "y"), gone+1, "also the delete, of which nothing is left, had a revision")
}

func TestAFileIsItsOwnersOnly(t *testing.T) {
	path := filepath.Join(t.TempDir(), "store")
	openFile(t, path)
	info, err := os.Stat(path)
	require.NoError(t, err)
	assert.Equal(t, os.FileMode(0o600), info.Mode().Perm())
	assert.Equal(t, []string{"store"}, namesIn(t, filepath.Dir(path)), "nothing else is left there")
}

func namesIn(t *testing.T, dir string) (names []string) {
	t.Helper()
	entries, err := os.ReadDir(dir)
	require.NoError(t, err)
	for _, entry := range entries {
		names = append(names, entry.Name())
	}
	return names
}

func TestAFileThatIsOpenIsRefusedAtOnce(t *testing.T) {
	path := filepath.Join(t.TempDir(), "store")
	s := openFile(t, path)
	_, err := store.OpenFile(path)
	require.ErrorIs(t, err, store.ErrInUse)
	var failed *store.FileError
	require.ErrorAs(t, err, &failed)
	assert.Equal(t, path, failed.Path)
	require.ErrorContains(t, err, path)
	set(t, s, "key", "the first goes on")
	require.NoError(t, s.Close())
	openFile(t, path)
}

func TestOfSeveralWhoMakeAFileOneHasIt(t *testing.T) {
	path := filepath.Join(t.TempDir(), "store")
	var (
		running sync.WaitGroup
		opened  = make(chan store.Store, 8)
	)
	for range cap(opened) {
		running.Go(func() {
			s, err := store.OpenFile(path)
			if err == nil {
				opened <- s
				return
			}
			assert.ErrorIs(t, err, store.ErrInUse)
		})
	}
	running.Wait()
	close(opened)
	require.Len(t, opened, 1)
	s := <-opened
	set(t, s, "key", "value")
	require.NoError(t, s.Close())
	value, _, err := openFile(t, path).Get(t.Context(), "key")
	require.NoError(t, err, "it was the file that bears the name")
	assert.Equal(t, "value", string(value))
	assert.Equal(t, []string{"store"}, namesIn(t, filepath.Dir(path)))
}

func TestWhatKilledMakersLeaveIsRemoved(t *testing.T) {
	dir := t.TempDir()
	for _, name := range []string{"store.new-123", "store.new-", "store.new-1x", "other.new-5", "store.old"} {
		require.NoError(t, os.WriteFile(filepath.Join(dir, name), []byte("half"), 0o600))
	}
	openFile(t, filepath.Join(dir, "store"))
	assert.Equal(t, []string{"other.new-5", "store", "store.new-", "store.new-1x", "store.old"}, namesIn(t, dir))
}

func TestAnEmptyFileBecomesAStore(t *testing.T) {
	path := filepath.Join(t.TempDir(), "store")
	require.NoError(t, os.WriteFile(path, nil, 0o600))
	s := openFile(t, path)
	set(t, s, "key", "value")
}

func TestAFileThatCannotBeMadeIsNamed(t *testing.T) {
	path := filepath.Join(t.TempDir(), "missing", "store")
	_, err := store.OpenFile(path)
	require.ErrorIs(t, err, os.ErrNotExist)
	var failed *store.FileError
	require.ErrorAs(t, err, &failed)
	assert.Equal(t, path, failed.Path)
}

// fill makes a store with entries, and returns the content of its file.
func fill(t *testing.T, path string) []byte {
	t.Helper()
	s, err := store.OpenFile(path)
	require.NoError(t, err)
	var writing sync.WaitGroup
	for i := range 200 {
		writing.Go(func() {
			value := fmt.Sprintf("that one can find %03d", i) + strings.Repeat(".", 100)
			_, err := s.CompareAndSet(t.Context(), fmt.Sprintf("key %03d", i), []byte(value), 0)
			assert.NoError(t, err)
		})
	}
	writing.Wait()
	require.NoError(t, s.Close())
	whole, err := os.ReadFile(path)
	require.NoError(t, err)
	return whole
}

func TestAFileThatIsBrokenIsToldAndNotTouched(t *testing.T) {
	path := filepath.Join(t.TempDir(), "store")
	whole := fill(t, path)
	page := os.Getpagesize()
	for what, content := range map[string][]byte{
		"garbage":    bytes.Repeat([]byte("garbage "), 4096),
		"a text":     []byte("nodes: [n0, n1]\n"),
		"short":      whole[:3000],
		"cut":        whole[:3*page],
		"zeros":      make([]byte, len(whole)),
		"an entry":   bytes.ReplaceAll(whole, []byte("that one can find 150"), []byte("that nobody finds 150")),
		"free pages": breakFreePages(whole),
	} {
		require.NoError(t, os.WriteFile(path, content, 0o600))
		_, err := store.OpenFile(path)
		var corrupt *store.CorruptError
		require.ErrorAs(t, err, &corrupt, what)
		assert.Equal(t, path, corrupt.Key, what)
		require.ErrorContains(t, err, path, what)
		after, err := os.ReadFile(path)
		require.NoError(t, err)
		assert.True(t, bytes.Equal(content, after), "%s: the file is as it was", what)
		require.NoError(t, os.WriteFile(path, whole, 0o600))
		s, err := store.OpenFile(path)
		require.NoError(t, err, "after %s nobody has the file", what)
		require.NoError(t, s.Close())
	}
}

// breakFreePages writes over the pages of a bbolt file that list the free ones: they are read when it is opened.
func breakFreePages(whole []byte) []byte {
	broken := bytes.Clone(whole)
	pageSize := uint64(os.Getpagesize())
	for meta := range uint64(2) {
		const freePages = 48 // the offset of the number of that page, in a meta page
		page := binary.NativeEndian.Uint64(whole[meta*pageSize+freePages:]) * pageSize
		copy(broken[page:page+pageSize], bytes.Repeat([]byte{0xff}, int(pageSize)))
	}
	return broken
}

// alter changes a file behind the store's back.
func alter(t *testing.T, path string, change func(tx *bbolt.Tx) error) {
	t.Helper()
	db, err := bbolt.Open(path, 0o600, nil)
	require.NoError(t, err)
	require.NoError(t, db.Update(change))
	require.NoError(t, db.Close())
}

func TestWhatIsMissingOrOldInAFileIsNoticed(t *testing.T) {
	for what, change := range map[string]func(tx *bbolt.Tx) error{
		"an entry less": func(tx *bbolt.Tx) error {
			return tx.Bucket([]byte("shearpin.entries")).Delete([]byte("key 007"))
		},
		"two that changed places": func(tx *bbolt.Tx) error {
			entries := tx.Bucket([]byte("shearpin.entries"))
			one, two := bytes.Clone(entries.Get([]byte("key 001"))), bytes.Clone(entries.Get([]byte("key 002")))
			return errors.Join(entries.Put([]byte("key 001"), two), entries.Put([]byte("key 002"), one))
		},
		"a record that is too short": func(tx *bbolt.Tx) error {
			return tx.Bucket([]byte("shearpin.entries")).Put([]byte("key 007"), []byte("short"))
		},
		"no entries": func(tx *bbolt.Tx) error { return tx.DeleteBucket([]byte("shearpin.entries")) },
		"no head": func(tx *bbolt.Tx) error {
			return tx.Bucket([]byte("shearpin.head")).Delete([]byte("head"))
		},
		"a head that is too short": func(tx *bbolt.Tx) error {
			return tx.Bucket([]byte("shearpin.head")).Put([]byte("head"), []byte{7: store.SchemaVersion})
		},
		"a head that is older": func(tx *bbolt.Tx) error {
			head := tx.Bucket([]byte("shearpin.head"))
			older := bytes.Clone(head.Get([]byte("head")))
			older[15]--
			return head.Put([]byte("head"), older)
		},
	} {
		path := filepath.Join(t.TempDir(), "store")
		fill(t, path)
		alter(t, path, change)
		_, err := store.OpenFile(path)
		var corrupt *store.CorruptError
		require.ErrorAs(t, err, &corrupt, what)
		assert.Equal(t, path, corrupt.Key, what)
	}
}

func TestAFileOfAnotherVersionIsRefused(t *testing.T) {
	path := filepath.Join(t.TempDir(), "store")
	fill(t, path)
	alter(t, path, func(tx *bbolt.Tx) error {
		return tx.Bucket([]byte("shearpin.head")).Put([]byte("head"), []byte{7: store.SchemaVersion + 1, 30: 1})
	})
	before, err := os.ReadFile(path)
	require.NoError(t, err)
	_, err = store.OpenFile(path)
	var schema *store.SchemaError
	require.ErrorAs(t, err, &schema)
	assert.Equal(t, &store.SchemaError{Key: path, Found: store.SchemaVersion + 1}, schema)
	after, err := os.ReadFile(path)
	require.NoError(t, err)
	assert.True(t, bytes.Equal(before, after))
}

func TestAFileOfAnotherProgramIsRefused(t *testing.T) {
	path := filepath.Join(t.TempDir(), "store")
	alter(t, path, func(tx *bbolt.Tx) error {
		_, err := tx.CreateBucket([]byte("theirs"))
		return err
	})
	before, err := os.ReadFile(path)
	require.NoError(t, err)
	_, err = store.OpenFile(path)
	require.ErrorIs(t, err, store.ErrForeign)
	var failed *store.FileError
	require.ErrorAs(t, err, &failed)
	assert.Equal(t, path, failed.Path)
	after, err := os.ReadFile(path)
	require.NoError(t, err)
	assert.True(t, bytes.Equal(before, after))
}

// What memory does is right; a file does the same, also if it is closed and opened in between.
func TestAFileDoesWhatMemoryDoes(t *testing.T) {
	dir := t.TempDir()
	files := 0
	rapid.Check(t, func(t *rapid.T) {
		files++
		path := filepath.Join(dir, fmt.Sprint(files))
		ctx := context.Background()
		memory := store.NewMemory()
		defer memory.Close()
		s, err := store.OpenUnsyncedFile(path)
		require.NoError(t, err)
		defer func() { assert.NoError(t, s.Close()) }()
		key := rapid.SampledFrom([]string{"a", "b", "b/1", "b/2", "c"})
		value := rapid.SliceOfN(rapid.Byte(), 0, 8)
		t.Repeat(map[string]func(*rapid.T){
			"": func(t *rapid.T) {
				wanted, err := memory.List(ctx, "")
				require.NoError(t, err)
				found, err := s.List(ctx, "")
				require.NoError(t, err)
				require.Equal(t, wanted, found)
			},
			"set": func(t *rapid.T) {
				k, v := key.Draw(t, "key"), value.Draw(t, "value")
				expected := expect(ctx, t, memory, k)
				wanted, wantedErr := memory.CompareAndSet(ctx, k, v, expected)
				found, err := s.CompareAndSet(ctx, k, v, expected)
				require.Equal(t, wanted, found)
				require.Equal(t, wantedErr, err)
			},
			"delete": func(t *rapid.T) {
				k := key.Draw(t, "key")
				expected := expect(ctx, t, memory, k)
				require.Equal(t, memory.Delete(ctx, k, expected), s.Delete(ctx, k, expected))
			},
			"together": func(t *rapid.T) {
				var (
					writes    []store.Write
					revisions []uint64
					errs      []error
				)
				for range rapid.IntRange(2, 6).Draw(t, "writes") {
					w := store.Write{Key: key.Draw(t, "key")}
					w.Expected = expect(ctx, t, memory, w.Key)
					var revision uint64
					var err error
					if rapid.IntRange(0, 3).Draw(t, "kind") > 0 {
						w.Value = append([]byte{}, value.Draw(t, "value")...)
						revision, err = memory.CompareAndSet(ctx, w.Key, w.Value, w.Expected)
					} else {
						err = memory.Delete(ctx, w.Key, w.Expected)
						if err == nil {
							revision = store.LastRevision(memory)
						}
					}
					writes, revisions, errs = append(writes, w), append(revisions, revision), append(errs, err)
				}
				gotRevisions, gotErrs := store.CommitTogether(s, writes)
				require.Equal(t, revisions, gotRevisions)
				require.Equal(t, errs, gotErrs)
			},
			"reopen": func(t *rapid.T) {
				require.NoError(t, s.Close())
				s, err = store.OpenUnsyncedFile(path)
				require.NoError(t, err)
			},
		})
	})
}

// expect is mostly the revision that a key has.
func expect(ctx context.Context, t *rapid.T, s store.Store, key string) uint64 {
	_, revision, _ := s.Get(ctx, key)
	return uint64(max(0, int(revision)+rapid.SampledFrom([]int{0, 0, 0, 0, -1, 1}).Draw(t, "off by")))
}

func TestKeysThatAFileCannotHaveAreRefused(t *testing.T) {
	s := openFile(t, filepath.Join(t.TempDir(), "store"))
	for _, key := range []string{"", strings.Repeat("x", 32769)} {
		_, err := s.CompareAndSet(t.Context(), key, []byte("value"), 0)
		require.ErrorContains(t, err, fmt.Sprintf("%d bytes", len(key)))
	}
	set(t, s, strings.Repeat("x", 32768), "fits")
}

func TestNobodyWaitsForADiskLongerThanItsContext(t *testing.T) {
	s := store.StuckFile()
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error)
	for range 2 { // one waits for its commit, one for its turn
		go func() {
			_, err := s.CompareAndSet(ctx, "key", []byte("value"), 0)
			ended <- err
		}()
	}
	_, _, err := s.Get(t.Context(), "key")
	require.ErrorIs(t, err, store.ErrNotFound, "reads do not wait")
	cancel()
	for range 2 {
		require.ErrorIs(t, <-ended, context.Canceled)
	}
}

func TestAFullDiskCostsTheWriteAndNothingElse(t *testing.T) {
	path := filepath.Join(t.TempDir(), "store")
	s, err := store.OpenFileOfSize(path, 1<<20)
	require.NoError(t, err)
	defer func() { require.NoError(t, s.Close()) }()
	first := set(t, s, "small", "1")
	changes, err := s.Watch(t.Context(), "")
	require.NoError(t, err)
	_, err = s.CompareAndSet(t.Context(), "large", make([]byte, 4<<20), 0)
	var failed *store.FileError
	require.ErrorAs(t, err, &failed)
	assert.Equal(t, path, failed.Path)
	_, _, err = s.Get(t.Context(), "large")
	require.ErrorIs(t, err, store.ErrNotFound)
	next, err := s.CompareAndSet(t.Context(), "small", []byte("2"), first)
	require.NoError(t, err, "smaller ones are still written")
	assert.Equal(t, store.Change{Key: "small", Value: []byte("2"), Revision: next}, <-changes, "of the other nobody heard")
	require.NoError(t, s.Close())

	value, _, err := openFile(t, path).Get(t.Context(), "small")
	require.NoError(t, err)
	assert.Equal(t, "2", string(value))
}

// A map of 65 536 vbuckets is one value.
func TestAFileHoldsLargeMaps(t *testing.T) {
	path := filepath.Join(t.TempDir(), "store")
	s := openFile(t, path)
	buckets, err := store.NewBuckets(t.Context(), s)
	require.NoError(t, err)
	nodes := []string{"n0", "n1", "n2", "n3"}
	m := make(vbmap.Map, 65536)
	for vb := range m {
		m[vb] = vbmap.Chain{nodes[vb%4], nodes[(vb+1)%4]}
	}
	_, err = buckets.Create(t.Context(), store.BucketDoc{
		Name: "b", UUID: "u", VBuckets: len(m), Replicas: 1, Servers: nodes, Map: m,
	})
	require.NoError(t, err)
	require.NoError(t, buckets.UpdateChain(t.Context(), "b", 65535, m[65535], vbmap.Chain{"n0", "n1"}))
	require.NoError(t, s.Close())

	buckets, err = store.NewBuckets(t.Context(), openFile(t, path))
	require.NoError(t, err)
	doc, err := buckets.Get(t.Context(), "b")
	require.NoError(t, err)
	m[65535] = vbmap.Chain{"n0", "n1"}
	assert.Equal(t, m, doc.Map)
}
