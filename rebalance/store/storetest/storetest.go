// Package storetest checks that a medium keeps what [store.Store] promises. Each implementation runs it in its own
// tests.
package storetest

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/shearpin/shearpin/rebalance/store"
)

// patience bounds every wait of the tests; a store that works never needs it.
const patience = 10 * time.Second

// Run tests the stores that open returns. Each call must return an empty one; it is closed when the test ends.
func Run(t *testing.T, open func(t *testing.T) store.Store) {
	t.Helper()
	for name, test := range map[string]func(*testing.T, store.Store){
		"a key without a value":                  testAbsent,
		"compare-and-set":                        testCompareAndSet,
		"revisions only grow":                    testRevisions,
		"values are copies":                      testCopies,
		"delete":                                 testDelete,
		"list":                                   testList,
		"of several writers one wins":            testWriters,
		"watch sees changes in order":            testWatch,
		"a slow watcher sees the last":           testSlowWatch,
		"a watch ends with its context":          testWatchEnds,
		"a context that has ended stops work":    testContext,
		"a closed store refuses work":            testClosed,
		"closing ends watches that nobody reads": testCloseEndsWatches,
	} {
		t.Run(name, func(t *testing.T) {
			s := open(t)
			t.Cleanup(func() { assert.NoError(t, s.Close()) })
			test(t, s)
		})
	}
}

func put(t *testing.T, s store.Store, key, value string, expected uint64) uint64 {
	t.Helper()
	revision, err := s.CompareAndSet(t.Context(), key, []byte(value), expected)
	require.NoError(t, err)
	return revision
}

func testAbsent(t *testing.T, s store.Store) {
	t.Helper()
	_, _, err := s.Get(t.Context(), "key")
	require.ErrorIs(t, err, store.ErrNotFound)
	entries, err := s.List(t.Context(), "")
	require.NoError(t, err)
	assert.Empty(t, entries)
}

func testCompareAndSet(t *testing.T, s store.Store) {
	t.Helper()
	first := put(t, s, "key", "one", 0)
	_, err := s.CompareAndSet(t.Context(), "key", []byte("again"), 0)
	require.ErrorIs(t, err, store.ErrConflict)
	assert.Equal(t, &store.ConflictError{Key: "key", Expected: 0, Found: first}, conflict(t, err))
	_, err = s.CompareAndSet(t.Context(), "other", []byte("new"), first)
	require.ErrorIs(t, err, store.ErrConflict)
	assert.Zero(t, conflict(t, err).Found)

	second := put(t, s, "key", "two", first)
	_, err = s.CompareAndSet(t.Context(), "key", []byte("late"), first)
	require.ErrorIs(t, err, store.ErrConflict)
	value, revision, err := s.Get(t.Context(), "key")
	require.NoError(t, err)
	assert.Equal(t, "two", string(value))
	assert.Equal(t, second, revision)

	put(t, s, "empty", "", 0)
	value, _, err = s.Get(t.Context(), "empty")
	require.NoError(t, err, "an empty value is a value")
	assert.Empty(t, value)
}

func conflict(t *testing.T, err error) *store.ConflictError {
	t.Helper()
	var e *store.ConflictError
	require.ErrorAs(t, err, &e)
	return e
}

func testRevisions(t *testing.T, s store.Store) {
	t.Helper()
	last := put(t, s, "a", "1", 0)
	assert.Positive(t, last)
	for i := range 5 {
		next := put(t, s, fmt.Sprint("key", i), "x", 0)
		assert.Greater(t, next, last)
		last = next
	}
	_, before, err := s.Get(t.Context(), "a")
	require.NoError(t, err)
	require.NoError(t, s.Delete(t.Context(), "a", before))
	again := put(t, s, "a", "2", 0)
	assert.Greater(t, again, last, "a key that comes back is not mistaken for the old one")
	_, err = s.CompareAndSet(t.Context(), "a", []byte("3"), before)
	require.ErrorIs(t, err, store.ErrConflict)
}

func testCopies(t *testing.T, s store.Store) {
	t.Helper()
	value := []byte("mine")
	changes, err := s.Watch(t.Context(), "")
	require.NoError(t, err)
	_, err = s.CompareAndSet(t.Context(), "key", value, 0)
	require.NoError(t, err)
	value[0] = 'X'
	got, _, err := s.Get(t.Context(), "key")
	require.NoError(t, err)
	require.Equal(t, "mine", string(got))
	got[0] = 'X'
	entries, err := s.List(t.Context(), "key")
	require.NoError(t, err)
	require.Equal(t, "mine", string(entries[0].Value))
	entries[0].Value[0] = 'X'
	change := next(t, changes)
	require.Equal(t, "mine", string(change.Value))
	change.Value[0] = 'X'
	got, _, err = s.Get(t.Context(), "key")
	require.NoError(t, err)
	require.Equal(t, "mine", string(got))
}

func testDelete(t *testing.T, s store.Store) {
	t.Helper()
	revision := put(t, s, "key", "one", 0)
	require.ErrorIs(t, s.Delete(t.Context(), "key", revision+1), store.ErrConflict)
	require.ErrorIs(t, s.Delete(t.Context(), "key", 0), store.ErrConflict)
	require.Error(t, s.Delete(t.Context(), "other", 0))
	require.NoError(t, s.Delete(t.Context(), "key", revision))
	_, _, err := s.Get(t.Context(), "key")
	require.ErrorIs(t, err, store.ErrNotFound)
	require.ErrorIs(t, s.Delete(t.Context(), "key", revision), store.ErrConflict)
}

func testList(t *testing.T, s store.Store) {
	t.Helper()
	b := put(t, s, "dir/b", "2", 0)
	a := put(t, s, "dir/a", "1", 0)
	put(t, s, "dirt", "3", 0)
	put(t, s, "other", "4", 0)
	entries, err := s.List(t.Context(), "dir/")
	require.NoError(t, err)
	assert.Equal(t, []store.Entry{
		{Key: "dir/a", Value: []byte("1"), Revision: a},
		{Key: "dir/b", Value: []byte("2"), Revision: b},
	}, entries)
}

func testWriters(t *testing.T, s store.Store) {
	t.Helper()
	const writers, each = 8, 25
	var running sync.WaitGroup
	for range writers {
		running.Go(func() {
			for range each {
				for {
					value, revision, err := s.Get(t.Context(), "count")
					if err != nil && !assert.ErrorIs(t, err, store.ErrNotFound) {
						return
					}
					_, err = s.CompareAndSet(t.Context(), "count", append(value, 'x'), revision)
					if err == nil {
						break
					}
					if !assert.ErrorIs(t, err, store.ErrConflict) {
						return
					}
				}
			}
		})
	}
	running.Wait()
	value, _, err := s.Get(t.Context(), "count")
	require.NoError(t, err)
	assert.Equal(t, strings.Repeat("x", writers*each), string(value), "no write was lost")
}

// next takes one change.
func next(t *testing.T, changes <-chan store.Change) store.Change {
	t.Helper()
	select {
	case change, open := <-changes:
		require.True(t, open, "the watch has ended")
		return change
	case <-time.After(patience):
		require.Fail(t, "no change came")
		return store.Change{}
	}
}

// ended waits until a watch has ended.
func ended(t *testing.T, changes <-chan store.Change) {
	t.Helper()
	deadline := time.After(patience)
	for {
		select {
		case _, open := <-changes:
			if !open {
				return
			}
		case <-deadline:
			require.Fail(t, "the watch has not ended")
		}
	}
}

func testWatch(t *testing.T, s store.Store) {
	t.Helper()
	old := put(t, s, "dir/old", "0", 0)
	changes, err := s.Watch(t.Context(), "dir/")
	require.NoError(t, err)
	all, err := s.Watch(t.Context(), "")
	require.NoError(t, err)
	first := put(t, s, "dir/a", "1", 0)
	aside := put(t, s, "other", "2", 0)
	require.NoError(t, s.Delete(t.Context(), "dir/old", old))
	last := put(t, s, "dir/b", "", 0)

	assert.Equal(t, store.Change{Key: "dir/a", Value: []byte("1"), Revision: first}, next(t, changes), "not what was there before")
	gone := next(t, changes)
	assert.Equal(t, "dir/old", gone.Key)
	assert.Nil(t, gone.Value)
	assert.Greater(t, gone.Revision, aside)
	assert.Equal(t, store.Change{Key: "dir/b", Value: []byte{}, Revision: last}, next(t, changes), "empty is not deleted")
	for _, key := range []string{"dir/a", "other", "dir/old", "dir/b"} {
		assert.Equal(t, key, next(t, all).Key)
	}
}

func testSlowWatch(t *testing.T, s store.Store) {
	t.Helper()
	changes, err := s.Watch(t.Context(), "")
	require.NoError(t, err)
	const writes = 1000
	var last uint64
	for i := range writes {
		last = put(t, s, "key", fmt.Sprint(i), last)
	}
	end := put(t, s, "end", "x", 0)
	seen, revision := 0, uint64(0)
	for {
		change := next(t, changes)
		assert.Greater(t, change.Revision, revision)
		revision = change.Revision
		if change.Revision == end {
			break
		}
		seen++
		if change.Revision == last {
			assert.Equal(t, fmt.Sprint(writes-1), string(change.Value))
		}
	}
	assert.Less(t, seen, writes, "what nobody took is not kept")
	assert.Positive(t, seen)
}

func testWatchEnds(t *testing.T, s store.Store) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	idle, err := s.Watch(ctx, "")
	require.NoError(t, err)
	unread, err := s.Watch(ctx, "")
	require.NoError(t, err)
	put(t, s, "key", "1", 0)
	next(t, idle)
	cancel()
	ended(t, idle)
	ended(t, unread)
	put(t, s, "other", "2", 0)
}

func testContext(t *testing.T, s store.Store) {
	t.Helper()
	revision := put(t, s, "key", "1", 0)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, _, err := s.Get(ctx, "key")
	require.ErrorIs(t, err, context.Canceled)
	_, err = s.CompareAndSet(ctx, "key", nil, revision)
	require.ErrorIs(t, err, context.Canceled)
	require.ErrorIs(t, s.Delete(ctx, "key", revision), context.Canceled)
	_, err = s.List(ctx, "")
	require.ErrorIs(t, err, context.Canceled)
	_, err = s.Watch(ctx, "")
	require.ErrorIs(t, err, context.Canceled)
}

func testClosed(t *testing.T, s store.Store) {
	t.Helper()
	revision := put(t, s, "key", "1", 0)
	require.NoError(t, s.Close())
	require.NoError(t, s.Close())
	_, _, err := s.Get(t.Context(), "key")
	require.ErrorIs(t, err, store.ErrClosed)
	_, err = s.CompareAndSet(t.Context(), "key", nil, revision)
	require.ErrorIs(t, err, store.ErrClosed)
	require.ErrorIs(t, s.Delete(t.Context(), "key", revision), store.ErrClosed)
	_, err = s.List(t.Context(), "")
	require.ErrorIs(t, err, store.ErrClosed)
	_, err = s.Watch(t.Context(), "")
	require.ErrorIs(t, err, store.ErrClosed)
}

func testCloseEndsWatches(t *testing.T, s store.Store) {
	t.Helper()
	idle, err := s.Watch(t.Context(), "idle")
	require.NoError(t, err)
	unread, err := s.Watch(t.Context(), "")
	require.NoError(t, err)
	put(t, s, "key", "1", 0)
	require.NoError(t, s.Close())
	ended(t, idle)
	ended(t, unread)
}
