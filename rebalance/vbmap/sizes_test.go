package vbmap

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

// held is how much each node holds.
func heldBy(m Map, sizes []int64) map[string]int64 {
	held := map[string]int64{}
	for vb, chain := range m {
		for _, node := range chain.Members() {
			held[node] += sizes[vb]
		}
	}
	return held
}

// skewed is sizes of which one in ten is large.
func skewed(vbuckets int, seed uint64) []int64 {
	dice := rand.New(rand.NewPCG(seed, 7))
	sizes := make([]int64, vbuckets)
	for vb := range sizes {
		sizes[vb] = 1 + dice.Int64N(100)
		if dice.IntN(10) == 0 {
			sizes[vb] *= 50
		}
	}
	return sizes
}

// What has to move anyway moves so that all nodes hold about as much.
func TestSizesAreEven(t *testing.T) {
	for _, test := range []struct{ vbuckets, nodes, replicas, slaves int }{
		{1024, 4, 1, 0}, {1024, 10, 1, 0}, {1024, 10, 2, 0}, {256, 3, 0, 0}, {8192, 10, 1, 0}, {1024, 20, 1, 10},
	} {
		t.Run(fmt.Sprintf("%+v", test), func(t *testing.T) {
			p := Params{
				VBuckets: test.vbuckets, Replicas: test.replicas, Nodes: named(0, test.nodes), MaxSlaves: test.slaves,
				Sizes: skewed(test.vbuckets, 1),
			}
			furthest := func(m Map) float64 {
				worst, total := 0.0, 0.0
				held := heldBy(m, p.Sizes)
				for _, size := range held {
					total += float64(size)
				}
				share := total / float64(len(p.Nodes))
				for _, node := range p.Nodes {
					worst = max(worst, float64(held[node.Name])/share-1, 1-float64(held[node.Name])/share)
				}
				return worst
			}
			first := generate(t, p)
			assert.LessOrEqual(t, furthest(first), 1.0/sizeTolerance+0.001, "a new map")

			p.Current, p.Nodes = first, named(0, test.nodes+1)
			joined := generate(t, p)
			assert.LessOrEqual(t, furthest(joined), 0.15, "a node joins")

			sizes := p.Sizes
			p.Sizes = nil
			blind := generate(t, p)
			p.Sizes = sizes
			assert.Equal(t, Moving(first, blind), Moving(first, joined), "at the same cost")
			assert.LessOrEqual(t, furthest(joined), furthest(blind))
		})
	}
}

// Sizes decide between maps that are equal in everything else: they cost no copy, no handover, no balance of counts, no
// group and no slave.
func TestSizesCostNothing(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		p := drawParams(t)
		if rapid.Bool().Draw(t, "groups") {
			for i := range p.Nodes {
				p.Nodes[i].Group = fmt.Sprint("group ", i%3)
			}
		}
		if rapid.Bool().Draw(t, "few slaves") {
			p.MaxSlaves = max(1, p.Replicas)
		}
		grade := func(m Map) [5]int {
			plan := planFor(t, p)
			plan.setShares()
			plan.active, plan.replica = make([]int, len(m)), make([][]int, len(m))
			for vb, chain := range m {
				plan.active[vb] = plan.numbers[chain.Active()]
				for _, node := range chain.Replicas() {
					plan.replica[vb] = append(plan.replica[vb], plan.numbers[node])
				}
			}
			return plan.grade()
		}
		blind := generate(t, p)
		p.Sizes = skewed(p.VBuckets, p.Seed)
		m := generate(t, p)
		if p.Seed%4 == 0 {
			require.Equal(t, m, generate(t, p), "equal parameters, equal maps")
		}
		require.LessOrEqual(t, m.Stats(namesOf(p.Nodes)...).ActiveRange(), 1)
		for _, slaves := range slavesOf(m) {
			require.LessOrEqual(t, len(slaves), max(1, p.slaves()))
		}
		before, after := grade(blind), grade(m)
		require.LessOrEqual(t, slices.Compare(after[:], before[:]), 0, "%v, without sizes %v", after, before)
	})
}

func TestEqualSizesChangeNothing(t *testing.T) {
	p := Params{VBuckets: 256, Replicas: 1, Nodes: named(0, 4)}
	p.Current = generate(t, p)
	p.Nodes = named(0, 5)
	want := generate(t, p)
	p.Sizes = make([]int64, 256)
	assert.Equal(t, want, generate(t, p), "no data at all")
	for vb := range p.Sizes {
		p.Sizes[vb] = 7
	}
	assert.Equal(t, want, generate(t, p))
}
