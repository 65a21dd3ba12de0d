package vbmap

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

func TestChain(t *testing.T) {
	chain := Chain{"a", Undefined, "b"}
	assert.Equal(t, "a", chain.Active())
	assert.Equal(t, []string{"b"}, chain.Replicas())
	assert.Equal(t, []string{"a", "b"}, chain.Members())
	assert.True(t, chain.Contains("b"))
	assert.False(t, chain.Contains("c"))
	assert.Equal(t, "[a - b]", chain.String())
	assert.Equal(t, Chain{"a", Undefined}, chain.Aligned(2))
	assert.Equal(t, Chain{"a", Undefined, "b", Undefined}, chain.Aligned(4))
	assert.Equal(t, Chain{"b", Undefined, Undefined}, chain.Without("a"))

	clone := chain.Clone()
	clone[0] = "z"
	aligned := chain.Aligned(3)
	aligned[0] = "z"
	chain.Replicas()[0] = "z"
	assert.Equal(t, Chain{"a", Undefined, "b"}, chain)

	var none Chain
	assert.Equal(t, Undefined, none.Active())
	assert.Empty(t, none.Replicas())
	assert.Empty(t, none.Members())
	assert.Equal(t, "[]", none.String())
	assert.True(t, none.Equal(Chain{}))
}

func TestDiff(t *testing.T) {
	old := Map{{"a", "b"}, {"b", "a"}, {"a", "c"}}
	updated := Map{{"a", "b"}, {"c", "a"}, {"a", "c"}, {"b", "c"}}
	assert.Equal(t, []Change{
		{VB: 1, Old: Chain{"b", "a"}, New: Chain{"c", "a"}},
		{VB: 3, Old: nil, New: Chain{"b", "c"}},
	}, Diff(old, updated))
	assert.Equal(t, []Change{
		{VB: 1, Old: Chain{"c", "a"}, New: Chain{"b", "a"}},
		{VB: 3, Old: Chain{"b", "c"}, New: nil},
	}, Diff(updated, old))
	assert.Empty(t, Diff(old, old.Clone()))
	assert.Empty(t, Diff(nil, nil))
}

func TestMoving(t *testing.T) {
	for want, maps := range map[Cost][2]Chain{
		{0, 0}: {{"a", "b"}, {"a", "b"}},
		{1, 0}: {{"a", "b"}, {"a", "c"}},
		{0, 1}: {{"a", "b"}, {"b", "a"}},
		{1, 1}: {{"a", "b"}, {"c", "a"}},
		{2, 1}: {nil, {"a", "b"}},
	} {
		assert.Equal(t, want, Moving(Map{maps[0]}, Map{maps[1]}), "%v to %v", maps[0], maps[1])
	}
	assert.Equal(t, Cost{}, Moving(Map{{"a", "b", "c"}}, Map{{"a", "c", "b"}}), "order costs no copy")
	assert.Equal(t, Cost{}, Moving(Map{{"a", "b"}}, Map{{"a", Undefined}}), "nor does giving one up")
	assert.True(t, Cost{1, 9}.Less(Cost{2, 0}))
	assert.True(t, Cost{1, 1}.Less(Cost{1, 2}))
	assert.False(t, Cost{1, 1}.Less(Cost{1, 1}))
}

// rebalance.md §7.7: the survivors keep their order, the first of them becomes active, nobody else is touched.
func TestFailover(t *testing.T) {
	m := Map{{"a", "b", "c"}, {"b", "a", "c"}, {"c", "b", Undefined}, {"a", Undefined, Undefined}}
	assert.Equal(t, Map{
		{"b", "c", Undefined}, {"b", "c", Undefined}, {"c", "b", Undefined}, {Undefined, Undefined, Undefined},
	}, Failover(m, "a"))
	assert.Equal(t, Map{
		{"c", Undefined, Undefined}, {"c", Undefined, Undefined}, {"c", Undefined, Undefined}, {Undefined, Undefined, Undefined},
	}, Failover(m, "a", "b"))
	assert.Equal(t, m, Failover(m))
}

func TestWantedStreams(t *testing.T) {
	m := Map{{"a", "b", "c"}, {"b", Undefined, Undefined}, {Undefined, "a", Undefined}, {"c", Undefined, "a"}, nil}
	assert.Equal(t, []Stream{
		{VB: 0, Producer: "a", Consumer: "b"},
		{VB: 0, Producer: "a", Consumer: "c"},
		{VB: 3, Producer: "c", Consumer: "a"},
	}, WantedStreams(m))
}

func TestStats(t *testing.T) {
	m := Map{{"a", "b"}, {"a", "c"}, {"b", Undefined}, {Undefined, Undefined}}
	stats := m.Stats("a", "d")
	assert.Equal(t, Stats{
		Nodes: map[string]Load{"a": {Actives: 2}, "b": {Actives: 1, Replicas: 1}, "c": {Replicas: 1}, "d": {}},
		Lost:  1, Missing: 3,
	}, stats)
	assert.Equal(t, 2, stats.ActiveRange())
	assert.Equal(t, 1, stats.ReplicaRange())
	assert.Equal(t, 2, stats.Nodes["b"].Total())
	assert.Zero(t, Map{}.Stats().ActiveRange())
}

// rebalance.md §7.8.
func TestBalanced(t *testing.T) {
	full := Map{{"a", "b"}, {"b", "a"}, {"a", "b"}}
	assert.True(t, full.Balanced("a", "b"))
	assert.False(t, full.Balanced("a", "b", "c"), "a node that has nothing")
	assert.False(t, full.Balanced("a"), "a node that should have nothing")
	assert.False(t, Map{{"a", "b"}, {"a", "b"}}.Balanced("a", "b"), "actives on one node")
	assert.False(t, Map{{"a", Undefined}, {"b", "a"}}.Balanced("a", "b"), "a copy is missing")
	assert.True(t, Map{{"a", Undefined}, {"a", Undefined}}.Balanced("a"), "no node could have it")

	uneven := func(extra int) Map {
		var m Map
		for range extra {
			m = append(m, Chain{"a", "d"}, Chain{"b", "d"}, Chain{"c", "d"}, Chain{"d", "a"})
		}
		return m
	}
	assert.True(t, uneven(1).Balanced("a", "b", "c", "d"), "replicas 3, 1, 0, 0")
	assert.False(t, uneven(2).Balanced("a", "b", "c", "d"), "replicas 6, 2, 0, 0")
}

func TestValidate(t *testing.T) {
	rules := Rules{VBuckets: 1, Copies: 3, Nodes: []string{"a", "b", "c"}, Complete: true}
	require.NoError(t, Validate(Map{{"a", "b", "c"}}, rules))
	require.NoError(t, Validate(Map{{"a", "b", Undefined}}, Rules{Copies: 3, Nodes: []string{"a", "b"}, Complete: true}))
	require.NoError(t, Validate(Map{{"x"}, nil, {"y", "z"}, {Undefined, Undefined}}, Rules{}))
	for _, test := range []struct {
		chain    Chain
		position int
		err      error
		text     string
	}{
		{Chain{"a", "b"}, -1, ErrLength, `vb 0 [a b]: wrong chain length: 2 members`},
		{Chain{"a", "b", "a"}, 2, ErrTwice, `vb 0 [a b a]: node twice in a chain: "a" at position 2`},
		{Chain{"a", Undefined, "b"}, 1, ErrGap, `vb 0 [a - b]: undefined member before a defined one: position 1`},
		{Chain{"a", "x", "b"}, 1, ErrStranger, `vb 0 [a x b]: unknown node in a chain: "x" at position 1`},
		{Chain{"a", "b", Undefined}, 2, ErrUndefined, `vb 0 [a b -]: undefined member although there are nodes enough: position 2`},
	} {
		err := Validate(Map{test.chain}, rules)
		require.EqualError(t, err, test.text)
		require.ErrorIs(t, err, test.err)
		var wrong *ChainError
		require.ErrorAs(t, err, &wrong)
		assert.Equal(t, &ChainError{VB: 0, Chain: test.chain, Position: test.position, Err: test.err}, wrong)
		require.EqualError(t, ValidateChain(0, test.chain, rules), test.text)
	}
	err := Validate(Map{{"a", "a", "b"}, {"a", "b", "c"}, {"b", "b", "c"}}, rules)
	require.EqualError(t, err, "wrong number of vbuckets: 3, not 1\n"+
		"vb 0 [a a b]: node twice in a chain: \"a\" at position 1\nvb 2 [b b c]: node twice in a chain: \"b\" at position 1")
	require.ErrorIs(t, err, ErrVBuckets)
}

func TestAReportOfErrorsIsBounded(t *testing.T) {
	m := make(Map, 1000)
	for vb := range m {
		m[vb] = Chain{"a", "a"}
	}
	err := Validate(m, Rules{})
	joined, ok := err.(interface{ Unwrap() []error })
	require.True(t, ok)
	assert.Len(t, joined.Unwrap(), 16)
}

func TestCloneSharesNothing(t *testing.T) {
	m := Map{{"a", "b"}}
	clone := m.Clone()
	clone[0][0] = "z"
	m.Aligned(2)[0][0] = "z"
	Failover(m)[0][0] = "z"
	assert.Equal(t, Map{{"a", "b"}}, m)
	assert.Nil(t, Map(nil).Clone())
	assert.True(t, m.Equal(Map{{"a", "b"}}))
	assert.False(t, m.Equal(clone))
	assert.Equal(t, []string{"a", "b"}, m.Nodes())
	assert.Equal(t, Map{{"a", "b", Undefined}}, m.Aligned(3))
}

// What a diff says, carried out, makes the one map of the other.
func TestDiffLeadsFromOneMapToTheOther(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		p := drawParams(t)
		old := drawMap(t, p, named(0, 5))
		if old == nil {
			old = make(Map, p.VBuckets)
		}
		updated := drawMap(t, p, named(2, 5))
		if updated == nil {
			updated = make(Map, p.VBuckets)
		}
		reached := old.Clone()
		for _, change := range Diff(old, updated) {
			require.Equal(t, reached[change.VB], change.Old)
			reached[change.VB] = change.New
		}
		require.Equal(t, updated, reached)
	})
}
