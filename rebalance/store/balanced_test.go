package store_test

import (
	"context"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/shearpin/shearpin/rebalance/store"
	"github.com/shearpin/shearpin/rebalance/vbmap"
)

func nodesNamed(names ...string) (nodes []vbmap.Node) {
	for _, name := range names {
		nodes = append(nodes, vbmap.Node{Name: name, Group: "g of " + name})
	}
	return nodes
}

func TestBalancedMapsAreKeptNewestFirst(t *testing.T) {
	s := store.NewMemory()
	defer s.Close()
	buckets, err := store.NewBuckets(t.Context(), s)
	require.NoError(t, err)
	past, err := buckets.Balanced(t.Context(), "b", "u")
	require.NoError(t, err)
	assert.Empty(t, past)

	keep := func(uuid string, m vbmap.Map, nodes ...string) vbmap.Past {
		kept := vbmap.Past{Map: m, Nodes: nodesNamed(nodes...)}
		require.NoError(t, buckets.KeepBalanced(t.Context(), "b", uuid, kept))
		return kept
	}
	two := keep("u", vbmap.Map{{"n0", "n1"}, {"n1", "n0"}}, "n0", "n1")
	one := keep("u", vbmap.Map{{"n0", ""}, {"n0", ""}}, "n0")
	past, err = buckets.Balanced(t.Context(), "b", "u")
	require.NoError(t, err)
	assert.Equal(t, []vbmap.Past{one, two}, past)

	other := keep("u", vbmap.Map{{"n1", "n0"}, {"n0", "n1"}}, "n1", "n0")
	past, err = buckets.Balanced(t.Context(), "b", "u")
	require.NoError(t, err)
	assert.Equal(t, []vbmap.Past{other, one}, past, "of the maps for the same nodes the last")

	three := keep("u", vbmap.Map{{"n2", "n0"}, {"n0", "n1"}}, "n0", "n1", "n2")
	four := keep("u", vbmap.Map{{"n3", "n0"}, {"n0", "n1"}}, "n0", "n1", "n3")
	past, err = buckets.Balanced(t.Context(), "b", "u")
	require.NoError(t, err)
	assert.Equal(t, []vbmap.Past{four, three, other}, past, "no more than three")

	past, err = buckets.Balanced(t.Context(), "b", "another bucket of this name")
	require.NoError(t, err)
	assert.Empty(t, past)
	first := keep("another bucket of this name", vbmap.Map{{"n0"}}, "n0")
	past, err = buckets.Balanced(t.Context(), "b", "another bucket of this name")
	require.NoError(t, err)
	assert.Equal(t, []vbmap.Past{first}, past)

	require.ErrorIs(t, buckets.KeepBalanced(t.Context(), "b", "u", vbmap.Past{Map: vbmap.Map{{"n0", "n0"}}}), vbmap.ErrTwice)
	docs, err := buckets.List(t.Context())
	require.NoError(t, err)
	assert.Empty(t, docs, "they are no buckets")
}

// interrupted does something between the first read and the write that follows it.
type interrupted struct {
	store.Store
	meanwhile func()
}

func (s *interrupted) Get(ctx context.Context, key string) ([]byte, uint64, error) {
	value, revision, err := s.Store.Get(ctx, key)
	if meanwhile := s.meanwhile; meanwhile != nil {
		s.meanwhile = nil
		meanwhile()
	}
	return value, revision, err
}

func TestABalancedMapThatSomebodyElseKeepsMeanwhileIsNotLost(t *testing.T) {
	memory := store.NewMemory()
	defer memory.Close()
	theirs, err := store.NewBuckets(t.Context(), memory)
	require.NoError(t, err)
	s := &interrupted{Store: memory}
	ours, err := store.NewBuckets(t.Context(), s)
	require.NoError(t, err)
	first := vbmap.Past{Map: vbmap.Map{{"n0"}}, Nodes: nodesNamed("n0")}
	second := vbmap.Past{Map: vbmap.Map{{"n1"}}, Nodes: nodesNamed("n1")}
	s.meanwhile = func() { require.NoError(t, theirs.KeepBalanced(t.Context(), "b", "u", first)) }
	require.NoError(t, ours.KeepBalanced(t.Context(), "b", "u", second))
	past, err := ours.Balanced(t.Context(), "b", "u")
	require.NoError(t, err)
	assert.Equal(t, []vbmap.Past{second, first}, past)
}

func TestBalancedMapsThatCannotBeReadAreNamed(t *testing.T) {
	for value, message := range map[string]string{
		`nonsense`:     "cannot be read",
		`{"schema":9}`: "schema version 9",
		`{"schema":1,"uuid":"u","maps":[{"map":[[0]]}]}`:                   "node number 0 of 0",
		`{"schema":1,"uuid":"u","maps":[{"members":["a"],"map":[[0,0]]}]}`: "node twice",
	} {
		s := store.NewMemory()
		buckets, err := store.NewBuckets(t.Context(), s)
		require.NoError(t, err)
		_, err = s.CompareAndSet(t.Context(), "balanced/b", []byte(value), 0)
		require.NoError(t, err)
		_, err = buckets.Balanced(t.Context(), "b", "u")
		require.ErrorContains(t, err, message)
		require.ErrorContains(t, err, "balanced/b")

		m := vbmap.Past{Map: vbmap.Map{{"n0"}}, Nodes: nodesNamed("n0")}
		err = buckets.KeepBalanced(t.Context(), "b", "u", m)
		if message == "schema version 9" {
			require.ErrorContains(t, err, message, "a newer program may need it")
		} else {
			require.NoError(t, err)
			past, err := buckets.Balanced(t.Context(), "b", "u")
			require.NoError(t, err)
			assert.Equal(t, []vbmap.Past{m}, past)
		}
		require.NoError(t, s.Close())
	}
}
