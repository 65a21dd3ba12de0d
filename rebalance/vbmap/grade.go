package vbmap

import "slices"

// perfect reports whether only the cost of getting there could be better.
func (p *plan) perfect() bool {
	grade := p.grade()
	return grade[0] == 0 && grade[1] == 0
}

// betterThan compares finished plans: replicas in the wrong group, then balance, then the cost of getting there. Where
// groups or limits make perfect balance impossible, a little more of it is no reason to leave the current map.
func (p *plan) betterThan(other *plan) bool {
	a, b := p.grade(), other.grade()
	if other.kept && a[0] == b[0] && 4*a[1] > 3*b[1] {
		return false
	}
	return slices.Compare(a[:], b[:]) < 0
}

// grade is what counts about a finished plan, most important first; less is better.
func (p *plan) grade() [4]int {
	var sameGroup, uneven, newCopies, activeChanges int
	loads := make([]int, len(p.nodes))
	for vb, active := range p.active {
		sameGroup += p.sameGroup(vb)
		if active != p.was[vb] {
			activeChanges++
		}
		if !slices.Contains(p.held[vb], active) {
			newCopies++
		}
		for _, node := range p.replica[vb] {
			loads[node]++
			if !slices.Contains(p.held[vb], node) {
				newCopies++
			}
		}
	}
	for node, load := range loads {
		excess := max(0, load-p.share[node]-1, p.share[node]-load)
		uneven += excess * excess
	}
	return [4]int{sameGroup, uneven, newCopies, activeChanges}
}

// sameGroup is how often a vbucket's replicas are in a group that has a copy already, twice for that of the active.
func (p *plan) sameGroup(vb int) int {
	if p.groups == 1 {
		return 0
	}
	times := 0
	for i, node := range p.replica[vb] {
		switch {
		case p.group[node] == p.group[p.active[vb]]:
			times += 2
		case slices.ContainsFunc(p.replica[vb][:i], func(other int) bool { return p.group[other] == p.group[node] }):
			times++
		}
	}
	return times
}
