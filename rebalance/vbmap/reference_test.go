package vbmap

import (
	"cmp"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

// The reference's old generator and move minimiser (rebalance.md §7.6), to compare with: it makes a balanced set of
// chains without a look at the current map, and then finds out which vbucket best takes which of them.

// reference makes a map as the reference does: the cheapest of several orders of the nodes. Nil if none is as balanced
// as ours are within the same limits: where there are more nodes than slaves, the reference's own rings may give a node
// more of them than it is allowed.
func reference(p Params, dice *rand.Rand) (best Map, cost Cost) {
	nodes := namesOf(p.Nodes)
	for i := range 3 {
		if i > 0 {
			dice.Shuffle(len(nodes), func(a, b int) { nodes[a], nodes[b] = nodes[b], nodes[a] })
		}
		candidate := minimised(p.Current, referenceBalanced(nodes, p), nodes)
		if stats := candidate.Stats(nodes...); stats.ActiveRange() > 1 || stats.ReplicaRange() > 1 || manySlaves(candidate, p) {
			continue
		}
		if c := Moving(p.Current, candidate); best == nil || c.Less(cost) {
			best, cost = candidate, c
		}
	}
	return best, cost
}

func manySlaves(m Map, p Params) bool {
	for _, slaves := range slavesOf(m) {
		if len(slaves) > p.slaves() {
			return true
		}
	}
	return false
}

// referenceBalanced is its balance(): chains are built vbucket by vbucket; a node's slaves are those that follow it in
// the ring.
func referenceBalanced(nodes []string, p Params) Map {
	n := len(nodes)
	copies := min(n, p.Replicas+1)
	totals := make([][]int, copies)
	for position := range totals {
		totals[position] = make([]int, n)
	}
	uses := map[[3]int]int{} // by predecessor, position and node
	m := make(Map, p.VBuckets)
	for vb := range m {
		var members []int
		for position := range copies {
			best := -1
			better := func(node int) bool {
				if best < 0 {
					return true
				}
				rank := cmp.Compare(totals[position][node], totals[position][best])
				if position > 0 {
					previous := members[position-1]
					rank = cmp.Or(cmp.Compare(uses[[3]int{previous, position, node}], uses[[3]int{previous, position, best}]), rank)
				}
				return rank < 0
			}
			candidates := n
			if position > 0 {
				candidates = min(DefaultMaxSlaves, n-1)
			}
			for i := range candidates {
				node := i
				if position > 0 {
					node = (members[position-1] + 1 + i) % n
				}
				if !slices.Contains(members, node) && better(node) {
					best = node
				}
			}
			if position > 0 {
				uses[[3]int{members[position-1], position, best}]++
			}
			totals[position][best]++
			members = append(members, best)
		}
		chain := Chain{}
		for _, node := range members {
			chain = append(chain, nodes[node])
		}
		m[vb] = chain.Aligned(p.Replicas + 1)
	}
	return m
}

// minimised gives each vbucket one of the chains of candidate: in rounds, those whose current chain, less its first
// members, is how the candidate begins.
func minimised(current, candidate Map, nodes []string) Map {
	copies := len(candidate[0].Members())
	stripped := current.Aligned(copies)
	for _, chain := range stripped {
		for i, node := range chain {
			if !slices.Contains(nodes, node) {
				chain[i] = Undefined
			}
		}
	}
	result := make(Map, len(candidate))
	chains := slices.Clone(candidate)
	slices.SortFunc(chains, slices.Compare)
	vbuckets := make([]int, len(candidate))
	for vb := range vbuckets {
		vbuckets[vb] = vb
	}
	for shift := range copies + 1 {
		tail := func(vb int) Chain {
			if vb >= len(stripped) {
				return nil
			}
			return stripped[vb][shift:]
		}
		slices.SortStableFunc(vbuckets, func(a, b int) int { return slices.Compare(tail(a), tail(b)) })
		var vbucketsLeft []int
		var chainsLeft []Chain
		for len(vbuckets) > 0 && len(chains) > 0 {
			wanted := tail(vbuckets[0])
			switch order := slices.Compare(wanted, chains[0][:len(wanted)]); {
			case order == 0:
				result[vbuckets[0]] = chains[0]
				vbuckets, chains = vbuckets[1:], chains[1:]
			case order < 0:
				vbucketsLeft = append(vbucketsLeft, vbuckets[0])
				vbuckets = vbuckets[1:]
			default:
				chainsLeft = append(chainsLeft, chains[0])
				chains = chains[1:]
			}
		}
		vbuckets, chains = append(vbucketsLeft, vbuckets...), append(chainsLeft, chains...)
	}
	return result
}

// Generation never asks for more work than the reference's minimiser.
func TestNoMoreMovesThanTheReference(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		p := drawParams(t)
		if rapid.Bool().Draw(t, "the current map is the reference's") {
			before := p
			before.Nodes = named(rapid.IntRange(0, 3).Draw(t, "first"), rapid.IntRange(1, 20).Draw(t, "n"))
			p.Current = referenceBalanced(namesOf(before.Nodes), before)
		}
		theirs, cost := reference(p, rand.New(rand.NewPCG(p.Seed, 0)))
		if theirs == nil {
			return
		}
		m, err := Generate(p)
		require.NoError(t, err)
		require.Falsef(t, cost.Less(Moving(p.Current, m)), "reference %+v, ours %+v", cost, Moving(p.Current, m))
	})
}
