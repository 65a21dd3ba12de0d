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
	nodes []Node
	// group is the number of each node's group, groups their count; 1 if groups do not matter.
	group  []int
	groups int
	// replicas is how many replicas each vbucket gets: fewer than asked for if there are too few nodes.
	replicas int

	// held is, by vbucket, the nodes that have a copy now and stay, in the order of the current chain; was is the
	// current active if it stays, or -1.
	held [][]int
	was  []int

	// The result of the steps: by vbucket the active, by node the slaves, by vbucket the replicas.
	active  []int
	slaves  [][]int
	replica [][]int
}

func newPlan(p Params, dice *rand.Rand) *plan {
	plan := &plan{
		params: p, dice: dice, nodes: slices.Clone(p.Nodes), replicas: min(p.Replicas, len(p.Nodes)-1),
		held: make([][]int, p.VBuckets), was: make([]int, p.VBuckets),
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
	for vb := range plan.held {
		plan.was[vb] = -1
		if vb >= len(p.Current) {
			continue
		}
		for position, name := range p.Current[vb] {
			node, stays := numbers[name]
			if !stays || slices.Contains(plan.held[vb], node) {
				continue
			}
			plan.held[vb] = append(plan.held[vb], node)
			if position == 0 {
				plan.was[vb] = node
			}
		}
	}
	return plan
}

// placeInTurn makes the plan step by step. It always succeeds.
func (p *plan) placeInTurn() bool {
	p.placeActives()
	p.chooseSlaves()
	p.placeReplicas()
	return true
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
// did not need to change did not; the places of new ones are dealt out so that every node is a first replica about as
// often.
func (p *plan) chains() Map {
	m := make(Map, p.params.VBuckets)
	for vb := range m {
		replicas := slices.Clone(p.replica[vb])
		slices.SortFunc(replicas, func(a, b int) int { return cmp.Compare(p.place(vb, a), p.place(vb, b)) })
		chain := make(Chain, 0, p.params.Replicas+1)
		chain = append(chain, p.nodes[p.active[vb]].Name)
		for _, node := range replicas {
			chain = append(chain, p.nodes[node].Name)
		}
		m[vb] = chain.Aligned(p.params.Replicas + 1)
	}
	return m
}

// place orders the replicas of a chain.
func (p *plan) place(vb, node int) int {
	if i := slices.Index(p.held[vb], node); i >= 0 {
		return i
	}
	return len(p.nodes) + (node+vb)%len(p.nodes)
}

// betterThan compares finished plans: replicas in the wrong group, then balance, then the cost of getting there.
func (p *plan) betterThan(other *plan) bool {
	a, b := p.grade(), other.grade()
	return slices.Compare(a[:], b[:]) < 0
}

// grade is what counts about a finished plan, most important first; less is better.
func (p *plan) grade() [4]int {
	var sameGroup, newCopies, activeChanges int
	loads := make([]int, len(p.nodes))
	for vb, active := range p.active {
		if active != p.was[vb] {
			activeChanges++
		}
		members := append([]int{active}, p.replica[vb]...)
		for i, node := range members {
			if !slices.Contains(p.held[vb], node) {
				newCopies++
			}
			if i > 0 {
				loads[node]++
			}
			for _, other := range members[:i] {
				if p.group[node] == p.group[other] {
					sameGroup++
				}
			}
		}
	}
	uneven := 0
	for _, load := range loads {
		uneven += load * load
	}
	return [4]int{sameGroup, uneven, newCopies, activeChanges}
}
