package vbmap

import (
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// cheapest tries every map of a tiny cluster and returns the least cost of a balanced one.
func cheapest(p Params) Cost {
	names := namesOf(p.Nodes)
	search := bruteForce{
		params: p, chains: everyChain(names, p.Replicas+1), actives: map[string]int{}, replicas: map[string]int{},
		best: Cost{NewCopies: 1 << 30},
	}
	search.try(0, Cost{})
	return search.best
}

type bruteForce struct {
	params            Params
	chains            []Chain
	actives, replicas map[string]int
	best              Cost
}

// try goes through the chains of a vbucket and all after it.
func (b *bruteForce) try(vb int, cost Cost) {
	n, v, r := len(b.params.Nodes), b.params.VBuckets, b.params.Replicas
	if !cost.Less(b.best) {
		return
	}
	if vb == v {
		for _, node := range b.params.Nodes {
			if b.actives[node.Name] < v/n || b.replicas[node.Name] < v*r/n {
				return
			}
		}
		b.best = cost
		return
	}
	for _, chain := range b.chains {
		if !b.room(chain, (v+n-1)/n, (v*r+n-1)/n) {
			continue
		}
		b.count(chain, 1)
		step := Moving(Map{b.params.Current[vb]}, Map{chain})
		b.try(vb+1, Cost{cost.NewCopies + step.NewCopies, cost.ActiveChanges + step.ActiveChanges})
		b.count(chain, -1)
	}
}

func (b *bruteForce) room(chain Chain, actives, replicas int) bool {
	if b.actives[chain.Active()] >= actives {
		return false
	}
	for _, replica := range chain.Replicas() {
		if b.replicas[replica] >= replicas {
			return false
		}
	}
	return true
}

func (b *bruteForce) count(chain Chain, by int) {
	b.actives[chain.Active()] += by
	for _, replica := range chain.Replicas() {
		b.replicas[replica] += by
	}
}

func everyChain(nodes []string, copies int) []Chain {
	var chains []Chain
	var extend func(Chain)
	extend = func(chain Chain) {
		if len(chain) == copies {
			chains = append(chains, chain)
			return
		}
		for _, node := range nodes {
			if !chain.Contains(node) {
				extend(append(chain.Clone(), node))
			}
		}
	}
	extend(nil)
	return chains
}

// In tiny clusters, whatever the current map, no balanced map needs fewer copies than the generated one, and hardly one
// fewer handovers of actives.
func TestAsCheapAsTheBestOfAllMaps(t *testing.T) {
	more, cases := 0, 0
	for _, size := range []struct{ nodes, replicas, vbuckets int }{
		{2, 1, 5}, {3, 0, 5}, {3, 1, 3}, {3, 1, 4}, {3, 1, 5}, {3, 2, 4}, {4, 1, 4}, {4, 1, 5}, {4, 2, 3},
	} {
		for seed := range uint64(40) {
			dice := rand.New(rand.NewPCG(seed, 0))
			before := namesOf(named(dice.IntN(2), size.nodes+dice.IntN(2)))
			chains := everyChain(before, min(len(before), size.replicas+1))
			p := Params{
				VBuckets: size.vbuckets, Replicas: size.replicas, Nodes: named(0, size.nodes), Seed: seed,
				Current: make(Map, size.vbuckets),
			}
			for vb := range p.Current {
				p.Current[vb] = chains[dice.IntN(len(chains))]
			}
			m, err := Generate(p)
			require.NoError(t, err)
			best, cost := cheapest(p), Moving(p.Current, m)
			name := fmt.Sprintf("%v to %v", p.Current, m)
			require.Equal(t, best.NewCopies, cost.NewCopies, name)
			require.LessOrEqual(t, cost.ActiveChanges, best.ActiveChanges+1, name)
			more += cost.ActiveChanges - best.ActiveChanges
			cases++
		}
	}
	assert.LessOrEqual(t, more, cases/50)
}
