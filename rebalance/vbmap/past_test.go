package vbmap

import (
	"slices"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

// generate is Generate for parameters that are good.
func generate(t require.TestingT, p Params) Map {
	m, err := Generate(p)
	require.NoError(t, err)
	require.NoError(t, Validate(m, Rules{VBuckets: p.VBuckets, Copies: p.Replicas + 1, Nodes: namesOf(p.Nodes), Complete: true}))
	return m
}

// renamed is a map with other nodes in the place of some.
func renamed(m Map, successor map[string]string) Map {
	m = m.Clone()
	for _, chain := range m {
		for i, name := range chain {
			if next, ok := successor[name]; ok {
				chain[i] = next
			}
		}
	}
	return m
}

// requireSameRoles asks that both maps have the same actives and the same replicas, in whatever order.
func requireSameRoles(t require.TestingT, want, got Map) {
	require.Len(t, got, len(want))
	for vb, chain := range want {
		require.Equalf(t, chain.Active(), got[vb].Active(), "vb %d", vb)
		require.ElementsMatchf(t, chain.Replicas(), got[vb].Replicas(), "vb %d", vb)
	}
}

// drawOld draws a cluster and the map that it had.
func drawOld(t *rapid.T, least int) (Params, Map) {
	p := Params{
		VBuckets: rapid.IntRange(1, 120).Draw(t, "vbuckets"), Replicas: rapid.IntRange(0, 3).Draw(t, "replicas"),
		Nodes: named(0, rapid.IntRange(least, 12).Draw(t, "nodes")), Seed: rapid.Uint64().Draw(t, "seed"),
	}
	m := generate(t, p)
	p.Seed++ // no accident makes the next map like this one
	return p, m
}

func groupsOf(nodes []Node) map[string]string {
	groups := map[string]string{}
	for _, node := range nodes {
		groups[node.Name] = node.Group
	}
	return groups
}

// rebalance.md §7.4: a node that was failed over and comes back finds its copies and its actives again.
func TestANodeThatIsAddedBackGetsItsOldPart(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		p, before := drawOld(t, 2)
		failed := rapid.SampledFrom(namesOf(p.Nodes)).Draw(t, "failed")
		p.Current, p.Past = Failover(before, failed), []Past{{before, p.Nodes}}
		requireSameRoles(t, before, generate(t, p))
	})
}

// The same if the cluster was rebalanced without it meanwhile: then its copies are still worth more than others.
func TestANodeThatIsAddedBackAfterARebalanceGetsItsOldCopies(t *testing.T) {
	for _, test := range []struct{ nodes, replicas, more int }{{4, 1, 0}, {5, 2, 0}, {15, 1, 0}, {4, 1, 1}, {15, 1, 1}} {
		p := Params{VBuckets: 1024, Replicas: test.replicas, Nodes: named(0, test.nodes)}
		before := generate(t, p)
		p.Seed, p.Nodes, p.Current = 1, named(1, test.nodes-1), Failover(before, "n00")
		without := generate(t, p)
		p.Seed, p.Nodes, p.Current = 2, named(0, test.nodes+test.more), without // maybe with a new one: no past map fits
		p.Past = []Past{{Map: without}, {Map: before}}
		m := generate(t, p)
		again, others := 0, 0
		for vb, chain := range m {
			switch {
			case !chain.Contains("n00"):
			case before[vb].Contains("n00"):
				again++
			default:
				others++
			}
		}
		assert.LessOrEqualf(t, others, again/10, "%+v: %d of its old copies", test, again)
		p.Past = nil
		assert.LessOrEqual(t, Moving(without, m).NewCopies, Moving(without, generate(t, p)).NewCopies*11/10, "and hardly more are built")
	}
}

// A node that takes the place of one that was failed over gets exactly its part.
func TestANewNodeTakesTheOldPartOfOneThatIsGone(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		p, before := drawOld(t, 2)
		gone := rapid.IntRange(0, len(p.Nodes)-1).Draw(t, "gone")
		name := p.Nodes[gone].Name
		p.Current, p.Past = Failover(before, name), []Past{{before, p.Nodes}}
		p.Nodes = slices.Clone(p.Nodes)
		p.Nodes[gone].Name = "n99"
		requireSameRoles(t, renamed(before, map[string]string{name: "n99"}), generate(t, p))
	})
}

// A rebalance that was stopped anywhere goes on to the map that it was on the way to.
func TestARebalanceThatWasStoppedGoesOn(t *testing.T) {
	for _, nodes := range []int{3, 4, 12} {
		p := Params{VBuckets: 256, Replicas: 1, Nodes: named(0, nodes)}
		before := generate(t, p)
		p.Nodes, p.Current, p.Seed = named(0, nodes+1), before, 1
		target := generate(t, p)
		p.Past = []Past{{Map: target}, {Map: before}}
		for done := range 10 {
			p.Current, p.Seed = before.Clone(), uint64(done)
			for i, change := range Diff(before, target) {
				if i%10 < done {
					p.Current[change.VB] = change.New
				}
			}
			m := generate(t, p)
			requireSameRoles(t, target, m)
		}
	}
}

// history.md 28: what was balanced for other parameters is not used for these.
func TestPastMapsThatDoNotFitAreNotUsed(t *testing.T) {
	p := Params{VBuckets: 240, Replicas: 1, Nodes: named(0, 4)}
	before := generate(t, p)
	for what, edit := range map[string]func(*Params){
		"a node more":      func(p *Params) { p.Nodes = named(0, 5) },
		"a node less":      func(p *Params) { p.Nodes = named(1, 3) },
		"another weight":   func(p *Params) { p.Nodes[2].Weight = 3 },
		"fewer slaves":     func(p *Params) { p.MaxSlaves = 1 },
		"a replica more":   func(p *Params) { p.Replicas = 2 },
		"groups":           func(p *Params) { p.Nodes[0].Group, p.Nodes[1].Group = "a", "a" },
		"a map cut short":  func(p *Params) { p.Past[0].Map = before[:100] },
		"no map":           func(p *Params) { p.Past[0].Map = nil },
		"a member missing": func(p *Params) { p.Past[0].Map[7] = Chain{"n00", Undefined} },
		"a member twice":   func(p *Params) { p.Past[0].Map[7] = Chain{"n00", "n00"} },
	} {
		p := p
		p.Nodes, p.Seed = named(0, 4), 1
		p.Current, p.Past = Failover(before, "n00"), []Past{{Map: before.Clone()}}
		edit(&p)
		m := generate(t, p)
		stats := m.Stats(namesOf(p.Nodes)...)
		weights := map[string]int{}
		sum := 0
		for _, node := range p.Nodes {
			weights[node.Name] = max(1, node.Weight)
			sum += max(1, node.Weight)
		}
		for name, load := range stats.Nodes {
			assert.InDeltaf(t, float64(p.VBuckets*weights[name])/float64(sum), load.Actives, 1, "%s: actives of %s", what, name)
		}
		for node, slaves := range slavesOf(m) {
			assert.LessOrEqualf(t, len(slaves), p.slaves(), "%s: %s", what, node)
		}
		if what == "groups" {
			for _, chain := range m {
				assert.NotEqual(t, chain[0] <= "n01", chain[1] <= "n01", what)
			}
		}
	}
}

// With one copy built from what is left and one from nothing to choose from, the former is chosen.
func TestWhatIsLeftOfACopyIsWorthSomething(t *testing.T) {
	p := Params{VBuckets: 4, Replicas: 0, Nodes: named(0, 2), Current: Map{{"n00"}, {"n00"}, {"n00"}, {"n00"}}}
	for vb := range p.Current {
		old := Map{{"n02"}, {"n02"}, {"n02"}, {"n02"}} // three nodes: it does not fit
		old[vb], old[(vb+1)%4] = Chain{"n01"}, Chain{"n01"}
		old[(vb+2)%4] = Chain{"n00"}
		p.Past = []Past{{Map: old}}
		m := generate(t, p)
		assert.Equal(t, "n01", m[vb].Active())
		assert.Equal(t, "n01", m[(vb+1)%4].Active())
	}
}

// rebalance.md §7.4: groups that were only given other names, and a node that changed its group.
func TestPastGroups(t *testing.T) {
	nodes := func(groups ...string) []Node {
		nodes := named(0, len(groups))
		for i, group := range groups {
			nodes[i].Group = group
		}
		return nodes
	}
	p := Params{VBuckets: 256, Replicas: 1, Nodes: nodes("a", "a", "b", "b", "c", "c")}
	before := generate(t, p)
	past := []Past{{before, p.Nodes}}
	p.Seed = 1
	t.Run("other names", func(t *testing.T) {
		p := p
		p.Nodes, p.Current, p.Past = nodes("x", "x", "a", "a", "b", "b"), Failover(before, "n03"), past
		requireSameRoles(t, before, generate(t, p))
	})
	t.Run("two nodes changed places", func(t *testing.T) {
		p := Params{VBuckets: 256, Replicas: 1, Nodes: nodes("a", "a", "a", "b", "b", "b")}
		before := generate(t, p)
		p.Past = []Past{{before, p.Nodes}}
		p.Nodes = nodes("a", "a", "b", "a", "b", "b")
		plan := planFor(t, p)
		require.True(t, plan.reuse(p.Past[0]))
		requireSameRoles(t, renamed(before, map[string]string{"n02": "n03", "n03": "n02"}), plan.chains())
	})
	t.Run("other sizes", func(t *testing.T) {
		p := p
		p.Nodes, p.Current, p.Past = nodes("a", "a", "a", "b", "c", "c"), Failover(before, "n03"), past
		group := groupsOf(p.Nodes)
		for _, chain := range generate(t, p) {
			require.NotEqual(t, group[chain[0]], group[chain[1]])
		}
	})
	t.Run("new nodes go where the old ones of their group were", func(t *testing.T) {
		p := p
		p.Nodes = append(nodes("a", "a", "b", "b", "c", "c")[:4:4], Node{Name: "n08", Group: "b"}, Node{Name: "n09", Group: "c"})
		p.Nodes = append(p.Nodes[:3:3], p.Nodes[4:]...) // n03 of b, n04 and n05 of c are gone; n08 of b, n09 and n07 of c are new
		p.Nodes = append(p.Nodes, Node{Name: "n07", Group: "c"})
		p.Current, p.Past = Failover(before, "n03", "n04", "n05"), past
		m := generate(t, p)
		for vb, chain := range before {
			if i := slices.Index(chain, "n03"); i >= 0 {
				require.Contains(t, m[vb], "n08", "vb %d", vb)
			}
		}
	})
}

// cheapestPairs tries every way to put new nodes into the place of those that are gone.
func cheapestPairs(p Params, before Map, gone, added []string) Cost {
	best := Cost{NewCopies: 1 << 30}
	var try func(successor map[string]string, left []string)
	try = func(successor map[string]string, left []string) {
		if len(left) == 0 {
			if cost := Moving(p.Current, renamed(before, successor)); cost.Less(best) {
				best = cost
			}
			return
		}
		for i, name := range left {
			successor[gone[len(successor)]] = name
			try(successor, slices.Delete(slices.Clone(left), i, i+1))
			delete(successor, gone[len(successor)-1])
		}
	}
	try(map[string]string{}, added)
	return best
}

// Several nodes are gone, and as many new: they are paired as cheaply as can be, whoever has which copies already.
func TestNewNodesArePairedAsCheaplyAsCanBe(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		n := rapid.IntRange(2, 8).Draw(t, "nodes")
		p := Params{
			VBuckets: rapid.IntRange(n, 40).Draw(t, "vbuckets"), Replicas: rapid.IntRange(0, min(n-1, 2)).Draw(t, "replicas"),
			Nodes: named(0, n), Seed: rapid.Uint64().Draw(t, "seed"),
		}
		before := generate(t, p)
		k := rapid.IntRange(1, min(n, 4)).Draw(t, "gone")
		p.Nodes, p.Past = named(k, n), []Past{{Map: before}}
		p.Current = drawMap(t, p, named(k, n))
		plan := planFor(t, p)
		require.True(t, plan.reuse(p.Past[0]))
		want := cheapestPairs(p, before, namesOf(named(0, k)), namesOf(named(n, k)))
		got := Moving(p.Current, plan.chains())
		require.Equal(t, want.NewCopies, got.NewCopies)
		require.Equal(t, want.ActiveChanges, got.ActiveChanges)
	})
}
