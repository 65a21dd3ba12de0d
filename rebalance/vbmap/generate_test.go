package vbmap

import (
	"fmt"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

// drawParams draws a cluster that has changed: nodes joined, left, or both.
func drawParams(t *rapid.T) Params {
	p := Params{
		VBuckets: rapid.IntRange(1, 150).Draw(t, "vbuckets"),
		Replicas: rapid.IntRange(0, MaxReplicas).Draw(t, "replicas"),
		Nodes:    named(0, rapid.IntRange(1, 16).Draw(t, "nodes")),
		Seed:     rapid.Uint64().Draw(t, "seed"),
	}
	first := rapid.IntRange(0, 3).Draw(t, "nodes joined at the front")
	before := named(first, rapid.IntRange(1, 16).Draw(t, "nodes before"))
	p.Current = drawMap(t, p, before)
	return p
}

func TestGeneratedMapsAreValidAndBalanced(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		p := drawParams(t)
		current := p.Current.Clone()
		m, err := Generate(p)
		require.NoError(t, err)
		names := namesOf(p.Nodes)
		require.NoError(t, Validate(m, Rules{VBuckets: p.VBuckets, Copies: p.Replicas + 1, Nodes: names, Complete: true}))
		stats := m.Stats(names...)
		require.LessOrEqual(t, stats.ActiveRange(), 1)
		require.LessOrEqual(t, stats.ReplicaRange(), 1)
		require.Zero(t, stats.Lost)
		require.True(t, m.Balanced(names...), "history.md 28: both notions of balance agree")
		for _, slaves := range slavesOf(m) {
			require.LessOrEqual(t, len(slaves), DefaultMaxSlaves)
		}
		require.Equal(t, current, p.Current, "the current map is only read")

		again, err := Generate(p)
		require.NoError(t, err)
		require.Equal(t, m, again, "equal parameters, equal maps")

		p.Current, p.Seed = m, p.Seed+1
		same, err := Generate(p)
		require.NoError(t, err)
		require.Equal(t, m, same, "a map that is good is not changed")
	})
}

func TestTheOrderOfNodesMeansNothing(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		p := drawParams(t)
		m, err := Generate(p)
		require.NoError(t, err)
		p.Nodes = rapid.Permutation(p.Nodes).Draw(t, "order")
		other, err := Generate(p)
		require.NoError(t, err)
		require.Equal(t, m, other)
	})
}

func TestSeedsGiveDifferentMapsOfEqualWorth(t *testing.T) {
	p := Params{VBuckets: 64, Replicas: 1, Nodes: named(0, 5)}
	a, err := Generate(p)
	require.NoError(t, err)
	p.Seed = 1
	b, err := Generate(p)
	require.NoError(t, err)
	assert.NotEqual(t, a, b)
}

// No move is made that does not have to be: every copy that is built replaces one that went, or evens out.
func TestFewMoves(t *testing.T) {
	tests := []struct {
		name               string
		vbuckets, copies   int
		before, after      []Node
		newCopies, actives int
	}{
		{"nothing changed", 1024, 2, named(0, 4), named(0, 4), 0, 0},
		{"one joins three", 1024, 2, named(0, 3), named(0, 4), 512, 256},
		{"one leaves four", 1024, 2, named(0, 4), named(0, 3), 512, 256},
		{"one joins ten", 1024, 2, named(0, 10), named(0, 11), 186, 93},
		{"one joins four, two replicas", 1000, 3, named(0, 4), named(0, 5), 600, 200},
		{"one for another", 1024, 2, named(0, 4), named(1, 4), 512, 256},
		{"two for two others, two replicas", 1000, 3, named(0, 5), named(2, 5), 1200, 400},
		{"the second node", 1024, 2, named(0, 1), named(0, 2), 1024, 512},
		{"all but one leave", 1024, 2, named(0, 3), named(0, 1), 341, 683},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			p := Params{VBuckets: test.vbuckets, Replicas: test.copies - 1, Nodes: test.before}
			var err error
			p.Current, err = Generate(p)
			require.NoError(t, err)
			p.Nodes = test.after
			m, err := Generate(p)
			require.NoError(t, err)
			cost := Moving(p.Current, m)
			assert.InDelta(t, test.newCopies, cost.NewCopies, 2)
			assert.InDelta(t, test.actives, cost.ActiveChanges, 2)
		})
	}
}

// Where nodes have slaves, few copies more have to be built than go or even out.
func TestFewMovesWithSlaves(t *testing.T) {
	for _, nodes := range []int{15, 20, 30, 60} {
		for replicas := 1; replicas <= 2; replicas++ {
			t.Run(fmt.Sprintf("%d nodes, %d replicas", nodes, replicas), func(t *testing.T) {
				p := Params{VBuckets: 1024, Replicas: replicas, Nodes: named(0, nodes)}
				generate := func(current Map, nodes []Node) (Map, Cost) {
					p.Current, p.Nodes = current, nodes
					m, err := Generate(p)
					require.NoError(t, err)
					return m, Moving(current, m)
				}
				m, _ := generate(nil, named(0, nodes))
				joined, cost := generate(m, named(0, nodes+1))
				assert.LessOrEqual(t, cost.NewCopies, 1024*(replicas+1)/(nodes+1)*8/5, "joins")
				assert.LessOrEqual(t, cost.ActiveChanges, 1024/(nodes+1)+1)
				_, cost = generate(joined, named(0, nodes))
				assert.LessOrEqual(t, cost.NewCopies, 1024*(replicas+1)/(nodes+1)*8/5, "leaves")
				failed := Failover(m, "n00")
				_, cost = generate(failed, named(1, nodes-1))
				assert.LessOrEqual(t, cost.NewCopies, failed.Stats().Missing*8/5, "failed over")
			})
		}
	}
}

func TestFirstReplicasAreSpreadToo(t *testing.T) {
	m, err := Generate(Params{VBuckets: 1024, Replicas: 2, Nodes: named(0, 5)})
	require.NoError(t, err)
	first := map[string]int{}
	for _, chain := range m {
		first[chain[1]]++
	}
	for _, node := range named(0, 5) {
		assert.InDelta(t, 1024/5, first[node.Name], 10)
	}
}

// history.md 28: a node that takes another's place takes exactly its copies, and nothing else moves.
func TestSwapMovesOnlyBetweenTheSwappedNodes(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		nodes, swapped := rapid.IntRange(1, 14).Draw(t, "nodes"), rapid.IntRange(1, 3).Draw(t, "swapped")
		swapped = min(swapped, nodes)
		p := Params{
			VBuckets: rapid.IntRange(nodes, 100).Draw(t, "vbuckets"), Replicas: rapid.IntRange(0, 3).Draw(t, "replicas"),
			Nodes: named(0, nodes), Seed: rapid.Uint64().Draw(t, "seed"),
		}
		var err error
		p.Current, err = Generate(p)
		require.NoError(t, err)
		p.Nodes = named(swapped, nodes)
		m, err := Generate(p)
		require.NoError(t, err)
		successor := map[string]string{}
		for i, gone := range named(0, swapped) {
			successor[gone.Name] = named(nodes+i, 1)[0].Name
		}
		for vb, chain := range p.Current {
			want := map[string]bool{}
			for _, name := range chain.Members() {
				if next, ok := successor[name]; ok {
					name = next
				}
				want[name] = true
			}
			got := map[string]bool{}
			for _, name := range m[vb].Members() {
				got[name] = true
			}
			require.Equal(t, want, got)
			if next, ok := successor[chain.Active()]; ok {
				require.Equal(t, next, m[vb].Active())
			} else {
				require.Equal(t, chain.Active(), m[vb].Active())
			}
		}
	})
}

func TestReplicasThatStayKeepTheirOrder(t *testing.T) {
	current := Map{{"a", "b", "c"}, {"b", "c", "a"}, {"c", "a", "b"}}
	m, err := Generate(Params{
		VBuckets: 3, Replicas: 2, Current: current, Nodes: []Node{{Name: "a"}, {Name: "b"}, {Name: "c"}},
	})
	require.NoError(t, err)
	assert.Equal(t, current, m)

	current = Map{{"a", "gone", "c"}}
	m, err = Generate(Params{
		VBuckets: 1, Replicas: 2, Current: current, Nodes: []Node{{Name: "a"}, {Name: "c"}, {Name: "d"}},
	})
	require.NoError(t, err)
	assert.Equal(t, Map{{"a", "c", "d"}}, m)
}

// A failed over vbucket keeps the active that failover gave it, if that is not too many for the node.
func TestGenerationAfterFailoverOnlyFillsUp(t *testing.T) {
	p := Params{VBuckets: 900, Replicas: 1, Nodes: named(0, 4)}
	full, err := Generate(p)
	require.NoError(t, err)
	p.Current = Failover(full, "n00")
	p.Nodes = named(1, 3)
	m, err := Generate(p)
	require.NoError(t, err)
	cost := Moving(p.Current, m)
	assert.Equal(t, p.Current.Stats().Missing, cost.NewCopies, "one copy for each that is missing")
	assert.LessOrEqual(t, cost.ActiveChanges, 2, "failover spread the actives already")
}

func TestUndefinedMembersOnlyWhereNodesAreMissing(t *testing.T) {
	m, err := Generate(Params{VBuckets: 3, Replicas: 3, Nodes: named(0, 2)})
	require.NoError(t, err)
	for _, chain := range m {
		assert.Len(t, chain, 4)
		assert.Len(t, chain.Members(), 2)
		assert.Equal(t, Chain{Undefined, Undefined}, chain[2:])
	}
}

func TestMaxSlaves(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		p := drawParams(t)
		p.Replicas = max(1, p.Replicas)
		p.MaxSlaves = rapid.IntRange(p.Replicas, 8).Draw(t, "slaves at most")
		m, err := Generate(p)
		require.NoError(t, err)
		require.NoError(t, Validate(m, Rules{VBuckets: p.VBuckets, Copies: p.Replicas + 1, Nodes: namesOf(p.Nodes), Complete: true}))
		for node, slaves := range slavesOf(m) {
			require.LessOrEqual(t, len(slaves), p.MaxSlaves, node)
		}
		stats := m.Stats(namesOf(p.Nodes)...)
		require.LessOrEqual(t, stats.ActiveRange(), 1)
		if p.MaxSlaves >= 2*p.Replicas { // with fewer there is hardly a choice
			require.LessOrEqual(t, stats.ReplicaRange(), 1)
		}
	})
}

func TestALowerLimitOfSlavesIsObeyedAtOnce(t *testing.T) {
	p := Params{VBuckets: 256, Replicas: 1, Nodes: named(0, 8)}
	var err error
	p.Current, err = Generate(p)
	require.NoError(t, err)
	p.MaxSlaves = 2
	m, err := Generate(p)
	require.NoError(t, err)
	for _, slaves := range slavesOf(m) {
		assert.Len(t, slaves, 2)
	}
}

// Seven vbuckets on thirteen nodes that have four slaves each: what flow leaves uneven is levelled.
func TestReplicasAreLevelledWhereSlavesDoNotFit(t *testing.T) {
	p := Params{VBuckets: 7, Replicas: 2, Nodes: named(1, 3), Seed: 0x848}
	var err error
	p.Current, err = Generate(p)
	require.NoError(t, err)
	p.Nodes, p.MaxSlaves = named(0, 13), 4
	for p.Seed = range 50 {
		m, err := Generate(p)
		require.NoError(t, err)
		require.LessOrEqual(t, m.Stats(namesOf(p.Nodes)...).ReplicaRange(), 1)
	}
}

// A node's replicas are spread over its slaves, so that if it fails its load is too.
func TestReplicasSpreadOverSlaves(t *testing.T) {
	m, err := Generate(Params{VBuckets: 1024, Replicas: 1, Nodes: named(0, 5)})
	require.NoError(t, err)
	pairs := map[[2]string]int{}
	for _, chain := range m {
		pairs[[2]string{chain[0], chain[1]}]++
	}
	assert.Len(t, pairs, 20)
	for pair, n := range pairs {
		assert.InDeltaf(t, 1024/20, n, 3, "%v", pair)
	}
}

func TestGroups(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		p := drawParams(t)
		groups := map[string]int{}
		for i := range p.Nodes {
			p.Nodes[i].Group = rapid.SampledFrom([]string{"east", "west", "north"}).Draw(t, "group")
			groups[p.Nodes[i].Group]++
		}
		if rapid.Bool().Draw(t, "few slaves") {
			p.MaxSlaves = max(1, 2*p.Replicas)
		}
		group := map[string]string{}
		for _, node := range p.Nodes {
			group[node.Name] = node.Group
		}
		m, err := Generate(p)
		require.NoError(t, err)
		require.NoError(t, Validate(m, Rules{VBuckets: p.VBuckets, Copies: p.Replicas + 1, Nodes: namesOf(p.Nodes), Complete: true}))
		require.LessOrEqual(t, m.Stats(namesOf(p.Nodes)...).ActiveRange(), 1)
		for vb, chain := range m {
			seen := map[string]bool{}
			for _, node := range chain.Members() {
				seen[group[node]] = true
			}
			require.Lenf(t, seen, min(len(groups), len(chain.Members())), "vb %d %v of %v", vb, chain, groups)
		}
	})
}

// Replicas of a large group's actives all go to the small one, but evenly within each.
func TestUnevenGroups(t *testing.T) {
	nodes := named(0, 4)
	for i, group := range []string{"big", "big", "big", "small"} {
		nodes[i].Group = group
	}
	p := Params{VBuckets: 1000, Replicas: 1, Nodes: nodes}
	m, err := Generate(p)
	require.NoError(t, err)
	loads := m.Stats().Nodes
	assert.Equal(t, Load{Actives: 250, Replicas: 750}, loads["n03"])
	for _, name := range []string{"n00", "n01", "n02"} {
		assert.Equal(t, 250, loads[name].Actives)
		assert.InDelta(t, 83, loads[name].Replicas, 1)
	}
	p.Current, p.Seed = m, 7
	same, err := Generate(p)
	require.NoError(t, err)
	assert.Equal(t, m, same)
}

// Nobody moves data for a little more balance where perfect balance is impossible.
func TestALittleMoreBalanceIsNoReasonToMove(t *testing.T) {
	nodes := named(0, 4)
	for i, group := range []string{"big", "big", "big", "small"} {
		nodes[i].Group = group
	}
	p := Params{VBuckets: 1000, Replicas: 1, Nodes: nodes}
	m, err := Generate(p)
	require.NoError(t, err)
	shifted := 0
	for _, chain := range m {
		if chain[1] == "n01" && shifted < 3 {
			chain[1] = "n02"
			shifted++
		}
	}
	require.Equal(t, 3, shifted)
	p.Current, p.Seed = m, 7
	same, err := Generate(p)
	require.NoError(t, err)
	assert.Equal(t, m, same)
}

func TestWeights(t *testing.T) {
	nodes := named(0, 4)
	nodes[1].Weight, nodes[3].Weight = 2, 3
	p := Params{VBuckets: 1001, Replicas: 1, Nodes: nodes}
	m, err := Generate(p)
	require.NoError(t, err)
	for node, weight := range map[string]int{"n00": 1, "n01": 2, "n02": 1, "n03": 3} {
		load := m.Stats().Nodes[node]
		assert.InDeltaf(t, 1001*weight/7, load.Actives, 1, "actives of %s", node)
		assert.InDeltaf(t, 1001*weight/7, load.Replicas, 1, "replicas of %s", node)
	}
}

func TestUnusableParams(t *testing.T) {
	good := Params{VBuckets: 8, Replicas: 1, Nodes: named(0, 2)}
	_, err := Generate(good)
	require.NoError(t, err)
	for want, edit := range map[string]func(*Params){
		"0 vbuckets, not 1 to 65536":                 func(p *Params) { p.VBuckets = 0 },
		"65537 vbuckets, not 1 to 65536":             func(p *Params) { p.VBuckets = MaxVBuckets + 1 },
		"-1 replicas, not 0 to 3":                    func(p *Params) { p.Replicas = -1 },
		"4 replicas, not 0 to 3":                     func(p *Params) { p.Replicas = 4 },
		"1 slaves at most for 2 replicas":            func(p *Params) { p.Replicas, p.MaxSlaves = 2, 1 },
		"-2 slaves at most for 1 replicas":           func(p *Params) { p.MaxSlaves = -2 },
		"no nodes":                                   func(p *Params) { p.Nodes = nil },
		"a node has no name":                         func(p *Params) { p.Nodes[1].Name = "" },
		`node "n00" is there twice`:                  func(p *Params) { p.Nodes[1].Name = "n00" },
		`node "n01" has weight -1, not 0 to 1048576`: func(p *Params) { p.Nodes[1].Weight = -1 },
		"the current map has 3 vbuckets, not 8":      func(p *Params) { p.Current = make(Map, 3) },
		"sizes of 3 vbuckets, not 8":                 func(p *Params) { p.Sizes = make([]int64, 3) },
		"vb 6 has size -5, not 0 to 17592186044416":  func(p *Params) { p.Sizes = []int64{0, 1, 2, 3, 4, 5, -5, 7} },
	} {
		p := good
		p.Nodes = named(0, 2)
		edit(&p)
		_, err := Generate(p)
		require.EqualError(t, err, "vbmap: unusable parameters: "+want)
		require.ErrorIs(t, err, ErrParams)
	}
}

func ExampleGenerate() {
	current := Map{{"n0", "n1"}, {"n1", "n0"}, {"n0", "n1"}, {"n1", "n0"}, {"n0", "n1"}, {"n1", "n0"}}
	target, err := Generate(Params{
		VBuckets: 6,
		Replicas: 1,
		Nodes:    []Node{{Name: "n0"}, {Name: "n1"}, {Name: "n2"}},
		Current:  current,
	})
	if err != nil {
		panic(err)
	}
	stats := target.Stats()
	fmt.Println("new copies:", Moving(current, target).NewCopies)
	fmt.Println("on the new node:", stats.Nodes["n2"].Actives, "actives,", stats.Nodes["n2"].Replicas, "replicas")
	// Output:
	// new copies: 4
	// on the new node: 2 actives, 2 replicas
}
