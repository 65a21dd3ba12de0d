package vbmap

import (
	"math/rand/v2"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// planFor is a plan whose nodes are numbered by name, without dice.
func planFor(t require.TestingT, p Params) *plan {
	require.NoError(t, p.check())
	return newPlan(p, rand.New(rand.NewPCG(p.Seed, 0)))
}

func (p *plan) activeNames() []string {
	names := make([]string, len(p.active))
	for vb, node := range p.active {
		names[vb] = p.nodes[node].Name
	}
	return names
}

// A copy is worth more than any number of handovers: actives go round by way of nodes that have copies.
func TestActivesGoWhereCopiesAre(t *testing.T) {
	for seed := range uint64(20) {
		p := planFor(t, Params{
			VBuckets: 3, Replicas: 1, Seed: seed,
			Nodes:   []Node{{Name: "a"}, {Name: "b"}, {Name: "c"}},
			Current: Map{{"a", "b"}, {"a", "b"}, {"b", "c"}}, // a has one too many, c one too few
		})
		p.placeActives()
		names := p.activeNames()
		assert.Equal(t, "c", names[2])
		assert.ElementsMatch(t, []string{"a", "b"}, names[:2])
	}
}

// Who has a copy is preferred even if a copy has to be built anyway: clients then wait for a switch only.
func TestSurvivingReplicasArePromoted(t *testing.T) {
	for seed := range uint64(20) {
		p := planFor(t, Params{
			VBuckets: 2, Replicas: 1, Seed: seed,
			Nodes:   []Node{{Name: "b"}, {Name: "c"}},
			Current: Map{{"gone", "b"}, {"gone", "c"}},
		})
		p.placeActives()
		assert.Equal(t, []string{"b", "c"}, p.activeNames())
	}
}

func TestLevelMovesSingleReplicasAndWholeShares(t *testing.T) {
	// Two masters, a and b; all replicas are on c, and d has none.
	level := func(limit int) map[string]int {
		p := planFor(t, Params{
			VBuckets: 8, Replicas: 1, MaxSlaves: limit,
			Nodes:   []Node{{Name: "a"}, {Name: "b"}, {Name: "c"}, {Name: "d"}},
			Current: Map{{"a", "c"}, {"a", "c"}, {"a", "c"}, {"a", "c"}, {"b", "c"}, {"b", "c"}, {"b", "c"}, {"b", "c"}},
		})
		p.active, p.share = p.was, []int{2, 2, 2, 2}
		p.replica = make([][]int, 8)
		for vb := range p.replica {
			p.replica[vb] = []int{p.numbers["c"]}
		}
		p.level()
		loads := map[string]int{}
		for vb, replicas := range p.replica {
			require.Len(t, replicas, 1)
			require.NotEqual(t, p.active[vb], replicas[0])
			loads[p.nodes[replicas[0]].Name]++
		}
		return loads
	}
	assert.Equal(t, map[string]int{"a": 2, "b": 2, "c": 2, "d": 2}, level(NoLimit))
	whole := level(1)
	assert.Len(t, whole, 2, "a master's only slave changes as a whole, while that helps")
	assert.Equal(t, 4, whole["c"])
}

func TestSwapNeedsAsManyNewNodesAsGo(t *testing.T) {
	current := Map{{"a", "b"}, {"b", "a"}}
	for _, nodes := range [][]Node{
		{{Name: "a"}, {Name: "b"}},
		{{Name: "a"}},
		{{Name: "a"}, {Name: "b"}, {Name: "c"}},
		{{Name: "a"}, {Name: "c"}, {Name: "d"}},
	} {
		p := planFor(t, Params{VBuckets: 2, Replicas: 1, Nodes: nodes, Current: current})
		assert.False(t, p.swap(), "%v", nodes)
	}
	p := planFor(t, Params{VBuckets: 2, Replicas: 1, Nodes: []Node{{Name: "a"}, {Name: "c"}}, Current: current})
	require.True(t, p.swap())
	assert.Equal(t, Map{{"a", "c"}, {"c", "a"}}, p.chains())
}
