package store_test

import (
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/shearpin/shearpin/rebalance/store"
	"github.com/shearpin/shearpin/rebalance/vbmap"
)

func openBuckets(t *testing.T) (*store.Buckets, *store.Memory) {
	t.Helper()
	memory := store.NewMemory()
	t.Cleanup(func() { assert.NoError(t, memory.Close()) })
	buckets, err := store.NewBuckets(t.Context(), memory)
	require.NoError(t, err)
	return buckets, memory
}

func orders() store.BucketDoc {
	return store.BucketDoc{
		Name: "orders", UUID: "u1", VBuckets: 4, Replicas: 1, Servers: []string{"n0", "n1", "n2"},
		Map: vbmap.Map{{"n0", "n1"}, {"n1", "n2"}, {"n2", ""}, {"", ""}},
	}
}

func created(t *testing.T, buckets *store.Buckets) store.BucketDoc {
	t.Helper()
	doc, err := buckets.Create(t.Context(), orders())
	require.NoError(t, err)
	return doc
}

func TestBucketsKeepWhatTheyAreGiven(t *testing.T) {
	buckets, _ := openBuckets(t)
	_, err := buckets.Get(t.Context(), "orders")
	require.ErrorIs(t, err, store.ErrNotFound)
	require.ErrorContains(t, err, `bucket "orders"`)

	doc := created(t, buckets)
	assert.Positive(t, doc.Revision)
	got, err := buckets.Get(t.Context(), "orders")
	require.NoError(t, err)
	assert.Equal(t, doc, got)
	want := orders()
	want.Revision = doc.Revision
	assert.Equal(t, want, got)

	_, err = buckets.Create(t.Context(), orders())
	require.ErrorIs(t, err, store.ErrConflict)

	other := orders()
	other.Name, other.Map = "a", nil
	_, err = buckets.Create(t.Context(), other)
	require.NoError(t, err)
	all, err := buckets.List(t.Context())
	require.NoError(t, err)
	require.Len(t, all, 2)
	assert.Equal(t, "a", all[0].Name)
	assert.Nil(t, all[0].Map)
	assert.Equal(t, doc, all[1])

	require.NoError(t, buckets.Delete(t.Context(), doc))
	_, err = buckets.Get(t.Context(), "orders")
	require.ErrorIs(t, err, store.ErrNotFound)
}

func TestAnyDocumentSurvivesTheStore(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		memory := store.NewMemory()
		defer memory.Close()
		buckets, err := store.NewBuckets(t.Context(), memory)
		require.NoError(t, err)
		node := rapid.SampledFrom([]string{"n0", "n1", "größer", "10.0.0.1:11210", `"`})
		chain := rapid.Custom(func(t *rapid.T) vbmap.Chain {
			members := rapid.SliceOfNDistinct(node, 0, 3, rapid.ID[string]).Draw(t, "members")
			return vbmap.Chain(members).Aligned(3)
		})
		doc := store.BucketDoc{
			Name: rapid.StringMatching(`[a-z%._-]{1,8}`).Draw(t, "name"), UUID: rapid.String().Draw(t, "uuid"),
			VBuckets: rapid.IntRange(1, 5).Draw(t, "vbuckets"), Replicas: 2, Epoch: rapid.Uint64().Draw(t, "epoch"),
			Servers: rapid.SliceOf(node).Draw(t, "servers"),
		}
		if rapid.Bool().Draw(t, "has a map") {
			doc.Map = rapid.SliceOfN(chain, doc.VBuckets, doc.VBuckets).Draw(t, "map")
		}
		if rapid.Bool().Draw(t, "has a target") {
			doc.Target = rapid.SliceOfN(chain, doc.VBuckets, doc.VBuckets).Draw(t, "target")
		}
		written, err := buckets.Create(t.Context(), doc)
		require.NoError(t, err)
		got, err := buckets.Get(t.Context(), doc.Name)
		require.NoError(t, err)
		doc.Revision = written.Revision
		doc.UUID = strings.ToValidUTF8(doc.UUID, "\uFFFD")
		require.Equal(t, doc, got)
	})
}

func TestBucketsRefuseDocumentsThatMakeNoSense(t *testing.T) {
	buckets, memory := openBuckets(t)
	for want, edit := range map[string]func(*store.BucketDoc){
		`bucket "": bucket without a name`:                                              func(d *store.BucketDoc) { d.Name = "" },
		`bucket "a/b": a name has no slash`:                                             func(d *store.BucketDoc) { d.Name = "a/b" },
		`bucket "orders": 0 vbuckets`:                                                   func(d *store.BucketDoc) { d.VBuckets = 0 },
		`bucket "orders": -1 replicas`:                                                  func(d *store.BucketDoc) { d.Replicas = -1 },
		`bucket "orders": map: wrong number of vbuckets: 3, not 4`:                      func(d *store.BucketDoc) { d.Map = d.Map[:3] },
		`bucket "orders": map: vb 0 [n0 n0]: node twice in a chain: "n0" at position 1`: func(d *store.BucketDoc) { d.Map[0][1] = "n0" },
		`bucket "orders": target: wrong number of vbuckets: 1, not 4`:                   func(d *store.BucketDoc) { d.Target = d.Map[:1] },
	} {
		doc := orders()
		edit(&doc)
		_, err := buckets.Create(t.Context(), doc)
		require.EqualError(t, err, want)
	}
	entries, err := memory.List(t.Context(), "buckets/")
	require.NoError(t, err)
	assert.Empty(t, entries)
}

func TestUpdateChainIsACompareAndSet(t *testing.T) {
	buckets, _ := openBuckets(t)
	before := created(t, buckets)
	old, moved := vbmap.Chain{"n1", "n2"}, vbmap.Chain{"n2", "n0"}

	require.NoError(t, buckets.UpdateChain(t.Context(), "orders", 1, old, moved))
	doc, err := buckets.Get(t.Context(), "orders")
	require.NoError(t, err)
	assert.Greater(t, doc.Revision, before.Revision)
	assert.Equal(t, []vbmap.Change{{VB: 1, Old: old, New: moved}}, vbmap.Diff(before.Map, doc.Map))

	require.NoError(t, buckets.UpdateChain(t.Context(), "orders", 1, old, moved), "the answer may have been lost")

	err = buckets.UpdateChain(t.Context(), "orders", 1, old, vbmap.Chain{"n0", "n1"})
	require.ErrorIs(t, err, store.ErrConflict)
	require.EqualError(t, err, `store: changed by somebody else: bucket "orders": vb 1 has chain [n2 n0], not [n1 n2]`)
	var conflict *store.ChainConflictError
	require.ErrorAs(t, err, &conflict)
	assert.Equal(t, &store.ChainConflictError{Bucket: "orders", VB: 1, Expected: old, Found: moved}, conflict)

	for _, vb := range []int{-1, 4} {
		require.ErrorIs(t, buckets.UpdateChain(t.Context(), "orders", vb, nil, nil), store.ErrNotFound)
	}
	require.ErrorIs(t, buckets.UpdateChain(t.Context(), "nobody", 0, nil, nil), store.ErrNotFound)
}

func TestUpdateChainsIsAllOrNothing(t *testing.T) {
	buckets, _ := openBuckets(t)
	before := created(t, buckets)
	good := store.ChainChange{VB: 0, Old: vbmap.Chain{"n0", "n1"}, New: vbmap.Chain{"n1", "n0"}}
	bad := store.ChainChange{VB: 1, Old: vbmap.Chain{"n0", "n1"}, New: vbmap.Chain{"n2", "n0"}}
	require.ErrorIs(t, buckets.UpdateChains(t.Context(), "orders", 0, good, bad), store.ErrConflict)
	invalid := store.ChainChange{VB: 0, Old: vbmap.Chain{"n0", "n1"}, New: vbmap.Chain{"n1", "n1"}}
	require.ErrorIs(t, buckets.UpdateChains(t.Context(), "orders", 0, invalid), vbmap.ErrTwice)
	doc, err := buckets.Get(t.Context(), "orders")
	require.NoError(t, err)
	assert.Equal(t, before, doc)
}

func TestManyCommitsAtOnceAllArrive(t *testing.T) {
	buckets, memory := openBuckets(t)
	doc := orders()
	doc.VBuckets = 64
	doc.Map = make(vbmap.Map, doc.VBuckets)
	for vb := range doc.Map {
		doc.Map[vb] = vbmap.Chain{"n0", "n1"}
	}
	_, err := buckets.Create(t.Context(), doc)
	require.NoError(t, err)
	// Two managers, each with commits of its own, and one that is always a step behind.
	other, err := store.NewBuckets(t.Context(), memory)
	require.NoError(t, err)
	var running sync.WaitGroup
	for vb := range doc.Map {
		running.Go(func() {
			from := []*store.Buckets{buckets, other}[vb%2]
			steps := []vbmap.Chain{{"n0", "n1"}, {"n1", "n2"}, {"n2", "n0"}, {fmt.Sprint("v", vb), "n0"}}
			for i := range len(steps) - 1 {
				assert.NoError(t, from.UpdateChain(t.Context(), "orders", vb, steps[i], steps[i+1]))
			}
			err := from.UpdateChain(t.Context(), "orders", vb, steps[0], steps[1])
			assert.ErrorIs(t, err, store.ErrConflict)
		})
	}
	running.Wait()
	got, err := buckets.Get(t.Context(), "orders")
	require.NoError(t, err)
	for vb, chain := range got.Map {
		assert.Equal(t, vbmap.Chain{fmt.Sprint("v", vb), "n0"}, chain)
	}
}

func TestEpochsOnlyGrow(t *testing.T) {
	buckets, memory := openBuckets(t)
	other, err := store.NewBuckets(t.Context(), memory)
	require.NoError(t, err)
	var mu sync.Mutex
	seen := map[uint64]bool{}
	var running sync.WaitGroup
	for _, from := range []*store.Buckets{buckets, other, buckets, other} {
		running.Go(func() {
			last := uint64(0)
			for range 20 {
				epoch, err := from.NextEpoch(t.Context())
				if !assert.NoError(t, err) {
					return
				}
				assert.Greater(t, epoch, last)
				last = epoch
				mu.Lock()
				assert.False(t, seen[epoch], "taken twice")
				seen[epoch] = true
				mu.Unlock()
			}
		})
	}
	running.Wait()
	assert.Len(t, seen, 80)
	assert.True(t, seen[1])
	assert.True(t, seen[80])
}

// history.md 24: whoever was superseded cannot write any more, though nobody touched the chain that it wants to change.
func TestASupersededEpochCannotWrite(t *testing.T) {
	buckets, _ := openBuckets(t)
	created(t, buckets)
	change := store.ChainChange{VB: 0, Old: vbmap.Chain{"n0", "n1"}, New: vbmap.Chain{"n1", "n0"}}
	back := store.ChainChange{VB: 0, Old: change.New, New: change.Old}

	require.NoError(t, buckets.UpdateChains(t.Context(), "orders", 5, change), "the first write claims")
	err := buckets.UpdateChains(t.Context(), "orders", 4, back)
	require.EqualError(t, err, `store: bucket "orders": epoch 4 was superseded by 5`)
	var stale *store.StaleEpochError
	require.ErrorAs(t, err, &stale)
	assert.Equal(t, &store.StaleEpochError{Bucket: "orders", Epoch: 4, Current: 5}, stale)

	require.NoError(t, buckets.Claim(t.Context(), "orders", 7))
	require.ErrorAs(t, buckets.UpdateChains(t.Context(), "orders", 5, back), &stale)
	require.ErrorAs(t, buckets.Claim(t.Context(), "orders", 6), &stale)
	require.NoError(t, buckets.Claim(t.Context(), "orders", 7), "claiming again changes nothing")
	require.NoError(t, buckets.UpdateChains(t.Context(), "orders", 7, back))
	doc, err := buckets.Get(t.Context(), "orders")
	require.NoError(t, err)
	assert.Equal(t, uint64(7), doc.Epoch)
}

func TestUpdateSeesWhatOthersWrote(t *testing.T) {
	buckets, memory := openBuckets(t)
	created(t, buckets)
	other, err := store.NewBuckets(t.Context(), memory)
	require.NoError(t, err)
	calls := 0
	doc, err := buckets.Update(t.Context(), "orders", func(doc *store.BucketDoc) error {
		if calls++; calls == 1 {
			require.NoError(t, other.SetServers(t.Context(), "orders", []string{"n9"}))
		}
		doc.Name = "stolen"
		doc.Servers = append(doc.Servers, "n8")
		return nil
	})
	require.NoError(t, err)
	assert.Equal(t, 2, calls)
	assert.Equal(t, "orders", doc.Name)
	assert.Equal(t, []string{"n9", "n8"}, doc.Servers)

	refusal := errors.New("no")
	_, err = buckets.Update(t.Context(), "orders", func(*store.BucketDoc) error { return refusal })
	require.ErrorIs(t, err, refusal)
}

func TestTargetComesAndGoes(t *testing.T) {
	buckets, _ := openBuckets(t)
	created(t, buckets)
	target := orders().Map
	target[3] = vbmap.Chain{"n0", "n1"}
	require.NoError(t, buckets.SetTarget(t.Context(), "orders", target))
	doc, err := buckets.Get(t.Context(), "orders")
	require.NoError(t, err)
	assert.Equal(t, target, doc.Target)
	require.NoError(t, buckets.SetTarget(t.Context(), "orders", nil))
	doc, err = buckets.Get(t.Context(), "orders")
	require.NoError(t, err)
	assert.Nil(t, doc.Target)
}

func TestWatchOfABucket(t *testing.T) {
	buckets, _ := openBuckets(t)
	changes, err := buckets.Watch(t.Context(), "orders")
	require.NoError(t, err)
	doc := created(t, buckets)
	assert.Equal(t, doc.Revision, (<-changes).Revision)
	require.NoError(t, buckets.Delete(t.Context(), doc))
	assert.Nil(t, (<-changes).Value)
}

func TestAStoreOfAnotherVersionIsRefused(t *testing.T) {
	memory := store.NewMemory()
	defer memory.Close()
	_, err := memory.CompareAndSet(t.Context(), "schema", []byte("2"), 0)
	require.NoError(t, err)
	_, err = store.NewBuckets(t.Context(), memory)
	require.EqualError(t, err, `store: "schema" has schema version 2, this program knows 1`)
	var schema *store.SchemaError
	require.ErrorAs(t, err, &schema)
}

func TestDocumentsThatCannotBeReadAreNamed(t *testing.T) {
	buckets, memory := openBuckets(t)
	for value, want := range map[string]string{
		`{`:            `store: "buckets/x" cannot be read: unexpected end of JSON input`,
		`{"schema":9}`: `store: "buckets/x" has schema version 9, this program knows 1`,
		`{"schema":1,"name":"x","vbuckets":1,"nodes":["n0"],"map":[[1]]}`:      `store: "buckets/x" cannot be read: map: vb 0: node number 1 of 1`,
		`{"schema":1,"name":"x","vbuckets":1,"nodes":["n0"],"servers":[-2]}`:   `store: "buckets/x" cannot be read: servers: node number -2 of 1`,
		`{"schema":1,"name":"x","vbuckets":1,"nodes":["n0"],"target":[[0,0]]}`: `store: "buckets/x" cannot be read: target: vb 0 [n0 n0]: node twice in a chain: "n0" at position 1`,
	} {
		_, revision, err := memory.Get(t.Context(), "buckets/x")
		if err != nil {
			require.ErrorIs(t, err, store.ErrNotFound)
		}
		_, err = memory.CompareAndSet(t.Context(), "buckets/x", []byte(value), revision)
		require.NoError(t, err)
		_, err = buckets.Get(t.Context(), "x")
		require.EqualError(t, err, want)
		_, err = buckets.List(t.Context())
		require.EqualError(t, err, want)
	}
	_, err := memory.CompareAndSet(t.Context(), "epoch", []byte("many"), 0)
	require.NoError(t, err)
	_, err = buckets.NextEpoch(t.Context())
	var corrupt *store.CorruptError
	require.ErrorAs(t, err, &corrupt)
	assert.Equal(t, "epoch", corrupt.Key)
}
