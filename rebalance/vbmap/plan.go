package vbmap

import (
	"cmp"
	"math/rand/v2"
	"slices"
)

// plan is a map in the making. Nodes are numbers here, dealt out anew by the dice of each plan, so that no name is
// preferred. A plan is made in three steps: first the actives, then which nodes may replicate which, then the replicas.
type plan struct {
	params Params
	dice   *rand.Rand
	// nodes is by number.
	nodes   []Node
	numbers map[string]int
	// group is the number of each node's group, groups their count; 1 if groups do not matter.
	group  []int
	groups int
	// replicas is how many replicas each vbucket gets: fewer than asked for if there are too few nodes.
	replicas int

	// held is, by vbucket, the nodes that have a copy now and stay, in the order of the current chain; was is the
	// current active if it stays, or -1.
	held [][]int
	was  []int
	// left is, by vbucket, the nodes without any copy in the current map that may have one of the vbucket from before.
	left [][]int

	// The result of the steps: by vbucket the active, by node the slaves, by vbucket the replicas.
	active  []int
	slaves  [][]int
	replica [][]int
	// share is, by node, how many replicas it should have, rounded down.
	share []int
	// kept says that the plan is the current map as it is, reused that it is a past one.
	kept, reused bool
}

func newPlan(p Params, dice *rand.Rand) *plan {
	plan := &plan{
		params: p, dice: dice, nodes: slices.Clone(p.Nodes), replicas: min(p.Replicas, len(p.Nodes)-1),
	}
	slices.SortFunc(plan.nodes, func(a, b Node) int { return cmp.Compare(a.Name, b.Name) })
	dice.Shuffle(len(plan.nodes), func(i, k int) { plan.nodes[i], plan.nodes[k] = plan.nodes[k], plan.nodes[i] })
	numbers := make(map[string]int, len(plan.nodes))
	groups := map[string]int{}
	for i, node := range plan.nodes {
		numbers[node.Name] = i
		if _, ok := groups[node.Group]; !ok {
			groups[node.Group] = len(groups)
		}
		plan.group = append(plan.group, groups[node.Group])
	}
	plan.groups = len(groups)
	plan.numbers = numbers
	plan.read(p.Current)
	plan.readPast()
	return plan
}

// read takes what a map has of the nodes that stay.
func (p *plan) read(current Map) {
	p.held, p.was = make([][]int, p.params.VBuckets), make([]int, p.params.VBuckets)
	for vb := range p.held {
		p.was[vb] = -1
		if vb >= len(current) {
			continue
		}
		for position, name := range current[vb] {
			node, stays := p.numbers[name]
			if !stays || slices.Contains(p.held[vb], node) {
				continue
			}
			p.held[vb] = append(p.held[vb], node)
			if position == 0 {
				p.was[vb] = node
			}
		}
	}
}

// placeInTurn makes the plan step by step. It always succeeds.
func (p *plan) placeInTurn() bool {
	p.setShares()
	p.placeActives()
	p.chooseSlaves()
	p.placeReplicas()
	p.level()
	p.evenOutSizes()
	return true
}

// setShares computes, by node, the replicas it should have, rounded down: its part by weight. With uneven groups nobody
// can have exactly that.
func (p *plan) setShares() {
	weights, sum := p.weights()
	p.share = make([]int, len(p.nodes))
	for node, weight := range weights {
		p.share[node] = p.replicas * p.params.VBuckets * weight / sum
	}
}

// weights is each node's weight and their sum.
func (p *plan) weights() (of []int, sum int) {
	of = make([]int, len(p.nodes))
	for i, node := range p.nodes {
		of[i] = max(1, node.Weight)
		sum += of[i]
	}
	return of, sum
}

// shuffled is the vbuckets in an order of the dice.
func (p *plan) shuffled() []int { return p.dice.Perm(p.params.VBuckets) }

// byActive is, by node, the vbuckets whose active it is.
func (p *plan) byActive() [][]int {
	vbuckets := make([][]int, len(p.nodes))
	for vb, node := range p.active {
		vbuckets[node] = append(vbuckets[node], vb)
	}
	return vbuckets
}

// chains is the finished map. Replicas that were members before come first, in their old order, so that a chain that
// did not need to change did not. Among new ones the first, who is the next active if the active fails, is the one that
// is least often first.
func (p *plan) chains() Map {
	m := make(Map, p.params.VBuckets)
	first := make([]int, len(p.nodes))
	for vb := range m {
		replicas := slices.Clone(p.replica[vb])
		place := func(node int) int {
			if i := slices.Index(p.held[vb], node); i >= 0 {
				return i - len(p.held[vb])
			}
			return first[node]
		}
		slices.SortFunc(replicas, func(a, b int) int { return cmp.Compare(place(a), place(b)) })
		if len(replicas) > 0 {
			first[replicas[0]]++
		}
		chain := make(Chain, 0, p.params.Replicas+1)
		chain = append(chain, p.nodes[p.active[vb]].Name)
		for _, node := range replicas {
			chain = append(chain, p.nodes[node].Name)
		}
		m[vb] = chain.Aligned(p.params.Replicas + 1)
	}
	return m
}
