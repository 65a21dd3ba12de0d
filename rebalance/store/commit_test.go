package store

import (
	"context"
	"testing"
	"testing/synctest"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/shearpin/shearpin/rebalance/vbmap"
)

// gated is a store whose writes wait until the test lets them pass, one by one.
type gated struct {
	Store
	pass chan struct{}
}

func (g *gated) CompareAndSet(ctx context.Context, key string, value []byte, expected uint64) (uint64, error) {
	select {
	case <-g.pass:
		return g.Store.CompareAndSet(ctx, key, value, expected)
	case <-ctx.Done():
		return 0, ctx.Err()
	}
}

// openGate is a store with a bucket of five vbuckets, all [a b], whose next write waits for the gate.
func openGate(t *testing.T) (*Buckets, *gated) {
	t.Helper()
	memory := NewMemory()
	t.Cleanup(func() { assert.NoError(t, memory.Close()) })
	buckets, err := NewBuckets(t.Context(), memory)
	require.NoError(t, err)
	doc := BucketDoc{Name: "orders", VBuckets: 5, Map: make(vbmap.Map, 5)}
	for vb := range doc.Map {
		doc.Map[vb] = vbmap.Chain{"a", "b"}
	}
	_, err = buckets.Create(t.Context(), doc)
	require.NoError(t, err)
	gate := &gated{Store: memory, pass: make(chan struct{})}
	return &Buckets{store: gate, lines: map[string]*commitLine{}}, gate
}

// commitLater starts the commit of one chain and returns when it waits: for the gate or in line.
func commitLater(ctx context.Context, b *Buckets, vb int, updated ...string) <-chan error {
	result := make(chan error, 1)
	go func() { result <- b.UpdateChain(ctx, "orders", vb, vbmap.Chain{"a", "b"}, updated) }()
	synctest.Wait()
	return result
}

func chainsIn(t *testing.T, b *Buckets) vbmap.Map {
	t.Helper()
	doc, err := b.Get(t.Context(), "orders")
	require.NoError(t, err)
	return doc.Map
}

func TestCommitsThatWaitGoTogether(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		buckets, gate := openGate(t)
		first := commitLater(t.Context(), buckets, 0, "b", "a")
		second := commitLater(t.Context(), buckets, 1, "b", "a")
		third := commitLater(t.Context(), buckets, 2, "b", "a")
		assert.Empty(t, first)
		gate.pass <- struct{}{}
		require.NoError(t, <-first)
		synctest.Wait()
		assert.Empty(t, second)
		gate.pass <- struct{}{}
		require.NoError(t, <-second)
		require.NoError(t, <-third)
		assert.Equal(t, vbmap.Map{{"b", "a"}, {"b", "a"}, {"b", "a"}, {"a", "b"}, {"a", "b"}}, chainsIn(t, buckets))
	})
}

// One bad commit does not take those down that are written with it.
func TestABadCommitFailsAlone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		buckets, gate := openGate(t)
		first := commitLater(t.Context(), buckets, 0, "b", "a")
		invalid := commitLater(t.Context(), buckets, 1, "b", "b")
		unknown := commitLater(t.Context(), buckets, 9, "b", "a")
		good := commitLater(t.Context(), buckets, 2, "b", "a")
		gate.pass <- struct{}{}
		gate.pass <- struct{}{}
		require.NoError(t, <-first)
		require.ErrorIs(t, <-unknown, ErrNotFound)
		require.EqualError(t, <-invalid, `bucket "orders": vb 1 [b b]: node twice in a chain: "b" at position 1`)
		require.NoError(t, <-good)
		assert.Equal(t, vbmap.Map{{"b", "a"}, {"a", "b"}, {"b", "a"}, {"a", "b"}, {"a", "b"}}, chainsIn(t, buckets))
	})
}

// A caller that gives up while it writes for others does not give up for them.
func TestACommitOutlivesTheCallerThatWritesIt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		buckets, gate := openGate(t)
		first := commitLater(t.Context(), buckets, 0, "b", "a")
		impatient, cancel := context.WithCancel(t.Context())
		defer cancel()
		// These two go together, and the one that gives up may be the one that writes.
		writes := commitLater(impatient, buckets, 1, "b", "a")
		other := commitLater(t.Context(), buckets, 2, "b", "a")
		gate.pass <- struct{}{}
		require.NoError(t, <-first)
		synctest.Wait()
		cancel()
		require.ErrorIs(t, <-writes, context.Canceled)
		gate.pass <- struct{}{}
		require.NoError(t, <-other)
		assert.Equal(t, vbmap.Chain{"b", "a"}, chainsIn(t, buckets)[2])
	})
}

func TestACallerThatGivesUpInLineLeavesIt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		buckets, gate := openGate(t)
		first := commitLater(t.Context(), buckets, 0, "b", "a")
		impatient, cancel := context.WithCancel(t.Context())
		gone := commitLater(impatient, buckets, 1, "b", "a")
		cancel()
		require.ErrorIs(t, <-gone, context.Canceled)
		assert.Empty(t, buckets.line("orders").waiting)
		gate.pass <- struct{}{}
		require.NoError(t, <-first)
		assert.Equal(t, vbmap.Chain{"a", "b"}, chainsIn(t, buckets)[1], "it was not written")
	})
}
