package vbmap

import (
	"maps"
	"slices"
)

// Maps that a bucket had before are worth trying again: a node that was failed over and comes back finds the copies that
// it left, a node that took another's place its role, and a rebalance that was stopped half-way the map that it was on the
// way to (rebalance.md §7.4).

// Past is a map that was balanced when it was made.
type Past struct {
	Map Map
	// Nodes is who the map was made for, with the groups as they were then. Nil stands for the members of the map, all in
	// one group.
	Nodes []Node
}

// groups is the group of each node of then, by name.
func (p Past) groups() map[string]string {
	groups := make(map[string]string, len(p.Nodes))
	for _, node := range p.Nodes {
		groups[node.Name] = node.Group
	}
	if p.Nodes == nil {
		for _, name := range p.Map.Nodes() {
			groups[name] = ""
		}
	}
	return groups
}

// readPast finds the copies that returning nodes may still have: nodes without a copy in the current map, as the newest
// past map that knows them had it.
func (p *plan) readPast() {
	p.left = make([][]int, p.params.VBuckets)
	present := map[int]bool{}
	for _, held := range p.held {
		for _, node := range held {
			present[node] = true
		}
	}
	for _, past := range p.params.Past {
		found := map[string]int{}
		for _, name := range past.Map.Nodes() {
			if node, ok := p.numbers[name]; ok && !present[node] {
				found[name], present[node] = node, true
			}
		}
		if len(found) == 0 {
			continue
		}
		for vb := range min(len(past.Map), p.params.VBuckets) {
			for _, name := range past.Map[vb] {
				if node, ok := found[name]; ok {
					p.left[vb] = append(p.left[vb], node)
				}
			}
		}
	}
}

// reuse makes the plan a past map, with its nodes replaced by those of now; false if there are not as many, or if the
// map would not do any more.
func (p *plan) reuse(past Past) bool {
	if len(past.Map) != p.params.VBuckets {
		return false
	}
	successor, ok := p.successors(past)
	if !ok {
		return false
	}
	renamed := past.Map.Aligned(p.params.Replicas + 1)
	for _, chain := range renamed {
		for position, name := range chain {
			chain[position] = successor[name] // a member that is none of its nodes is nobody
		}
	}
	after := *p
	after.read(renamed)
	if !after.keep() {
		return false
	}
	p.active, p.replica, p.share = after.active, after.replica, after.share
	p.reused = true
	return true
}

// successors says which node of now is in the place of each node of a past map. Nodes that are still there keep theirs as
// far as groups allow; the others are paired so that as little as possible has to be built.
func (p *plan) successors(past Past) (map[string]string, bool) {
	then := past.groups()
	if len(then) != len(p.nodes) {
		return nil, false
	}
	groups := p.pairGroups(then)
	successor := map[string]string{Undefined: Undefined}
	for group, now := range groups {
		var gone []string
		added := map[int]bool{}
		for node := range p.nodes {
			if now == allGroups || p.group[node] == now {
				added[node] = true
			}
		}
		for _, name := range slices.Sorted(maps.Keys(then)) {
			if now != allGroups && then[name] != group {
				continue
			}
			node, stays := p.numbers[name]
			if stays && added[node] {
				successor[name] = name
				delete(added, node)
			} else {
				gone = append(gone, name)
			}
		}
		if len(gone) != len(added) {
			return nil, false
		}
		for i, node := range p.assign(past.Map, gone, slices.Sorted(maps.Keys(added))) {
			successor[gone[i]] = p.nodes[node].Name
		}
	}
	return successor, true
}

// allGroups stands for every group.
const allGroups = -1

// pairGroups says which group of now is in the place of each group of then: those with the most nodes in common first,
// among those of the same size. If groups do not matter, or cannot be paired, one entry takes them all.
func (p *plan) pairGroups(then map[string]string) map[string]int {
	one := map[string]int{"": allGroups}
	sizes, now := map[string]int{}, make([]int, p.groups)
	common := map[string][]int{}
	for name, group := range then {
		if common[group] == nil {
			common[group] = make([]int, p.groups)
		}
		sizes[group]++
		if node, ok := p.numbers[name]; ok {
			common[group][p.group[node]]++
		}
	}
	for _, group := range p.group {
		now[group]++
	}
	if len(sizes) != p.groups {
		return one
	}
	paired, taken := map[string]int{}, make([]bool, p.groups)
	for range p.groups {
		bestThen, bestNow, most := "", -1, -1
		for _, group := range slices.Sorted(maps.Keys(sizes)) {
			if _, done := paired[group]; done {
				continue
			}
			for other := range p.groups {
				if !taken[other] && now[other] == sizes[group] && common[group][other] > most {
					bestThen, bestNow, most = group, other, common[group][other]
				}
			}
		}
		if bestNow < 0 {
			return one
		}
		paired[bestThen], taken[bestNow] = bestNow, true
	}
	return paired
}

// What one unit costs when nodes are paired; each is worth more than all cheaper ones together.
const (
	pairActive  = 1
	pairToBuild = int64(1) << 20
)

// mostToAssign bounds the nodes that are paired with an eye on what has to be built; the pairs of more are as they come.
const mostToAssign = 128

// assign pairs nodes that are gone with nodes that are new, each with one: the result has a new node for each that is gone.
func (p *plan) assign(past Map, gone []string, added []int) []int {
	if len(gone) < 2 || len(gone) > mostToAssign {
		return added
	}
	cost := p.costOfPairs(past, gone, added)
	n := len(gone)
	f := newFlow(2*n+2, n*n+2*n)
	source, sink := 2*n, 2*n+1
	arcs := make([][]int, n)
	for i := range n {
		f.connect(source, i, 1, 0)
		f.connect(n+i, sink, 1, 0)
		for k := range n {
			arcs[i] = append(arcs[i], f.connect(i, n+k, 1, cost[i][k]))
		}
	}
	f.run(source, sink)
	chosen := make([]int, n)
	for i, row := range arcs {
		for k, arc := range row {
			if f.used(arc) > 0 {
				chosen[i] = added[k]
			}
		}
	}
	return chosen
}

// costOfPairs is, by node that is gone and node that is new, what it costs if the one gets what the other had.
func (p *plan) costOfPairs(past Map, gone []string, added []int) [][]int64 {
	cost := make([][]int64, len(gone))
	rows, columns := map[string]int{}, map[int]int{}
	for i, name := range gone {
		cost[i] = make([]int64, len(added))
		rows[name] = i
	}
	for k, node := range added {
		columns[node] = k
	}
	for vb, chain := range past {
		for position, name := range chain {
			row, ok := rows[name]
			if !ok {
				continue
			}
			for k := range cost[row] {
				cost[row][k] += int64(wholeCopy) * pairToBuild
				if position == 0 {
					cost[row][k] += pairActive
				}
			}
			for _, node := range p.held[vb] {
				if k, ok := columns[node]; ok {
					cost[row][k] -= int64(wholeCopy) * pairToBuild
				}
			}
			for _, node := range p.left[vb] {
				if k, ok := columns[node]; ok {
					cost[row][k] -= int64(wholeCopy-leftCopy) * pairToBuild
				}
			}
			if k, ok := columns[p.was[vb]]; ok && position == 0 {
				cost[row][k] -= pairActive
			}
		}
	}
	return cost
}
