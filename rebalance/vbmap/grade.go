package vbmap

import "slices"

// perfect reports whether only the cost of getting there could be better.
func (p *plan) perfect() bool {
	grade := p.grade()
	return grade[0] == 0 && grade[1] == 0
}

// betterThan compares finished plans: replicas in the wrong group, then balance, then the cost of getting there. Where
// groups or limits make perfect balance impossible, a little more of it is no reason to leave the current map; nor are a
// few handovers one to leave a past map, which may give the actives that are one too many to other nodes.
func (p *plan) betterThan(other *plan) bool {
	a, b := p.grade(), other.grade()
	if (other.kept || other.reused && a[2] >= b[2]) && a[0] == b[0] && 4*a[1] > 3*b[1] {
		return false
	}
	if other.reused && slices.Equal(a[:3], b[:3]) && a[3]+len(p.nodes) >= b[3] {
		return false
	}
	return slices.Compare(a[:], b[:]) < 0
}

// grade is what counts about a finished plan, most important first; less is better.
func (p *plan) grade() [5]int {
	var sameGroup, uneven, toBuild, activeChanges int
	loads := make([]int, len(p.nodes))
	for vb, active := range p.active {
		sameGroup += p.sameGroup(vb)
		if active != p.was[vb] {
			activeChanges++
		}
		toBuild += p.toBuild(vb, active)
		for _, node := range p.replica[vb] {
			loads[node]++
			toBuild += p.toBuild(vb, node)
		}
	}
	for node, load := range loads {
		excess := max(0, load-p.share[node]-1, p.share[node]-load)
		uneven += excess * excess
	}
	return [5]int{sameGroup, uneven, toBuild, activeChanges, p.unevenSizes()}
}

// What it costs to build a copy from nothing, and from what a node that returns has left of it.
const (
	wholeCopy = 2
	leftCopy  = 1
)

// toBuild is what it costs that a node has a copy of a vbucket.
func (p *plan) toBuild(vb, node int) int {
	switch {
	case slices.Contains(p.held[vb], node):
		return 0
	case slices.Contains(p.left[vb], node):
		return leftCopy
	default:
		return wholeCopy
	}
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
