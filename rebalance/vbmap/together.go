package vbmap

import "slices"

// Placing the actives first can cost copies: a node may get a vbucket that it has to build although it is to lose the
// replica of another. The other way round, copies first and then among them the actives, builds as few copies as there
// can be, but has no eye for slaves and groups, and does not always end up even. So where these do not matter both ways
// are tried.

// What one unit of flow costs when copies are placed without regard to who is active.
const (
	copyOfReplica = 1
	copyToBuild   = int64(1) << 18
	copyTooMany   = int64(1) << 42
)

// placeTogether gives every vbucket its copies and then, among them, its active. It returns false if that cannot be
// done evenly.
func (p *plan) placeTogether() bool {
	members := p.placeCopies()
	if !p.chooseActives(members) {
		return false
	}
	p.setShares()
	p.replica = make([][]int, len(members))
	for vb, nodes := range members {
		p.replica[vb] = slices.DeleteFunc(nodes, func(node int) bool { return node == p.active[vb] })
	}
	p.evenOutSizes()
	return true
}

// placeCopies is, by vbucket, the nodes that shall have a copy.
func (p *plan) placeCopies() [][]int {
	vbuckets, nodes := p.params.VBuckets, len(p.nodes)
	source, sink := nodes+vbuckets, nodes+vbuckets+1
	f := newFlow(nodes+vbuckets+2, vbuckets*(nodes+1)+2*nodes)
	for node := range nodes {
		f.connect(node, sink, vbuckets/nodes+vbuckets*p.replicas/nodes, 0)
		f.connect(node, sink, 2, copyTooMany) // one more active, one more replica
	}
	first := make([]int, vbuckets) // edge to node 0, those to the others follow
	for _, vb := range p.shuffled() {
		f.connect(source, nodes+vb, p.replicas+1, 0)
		for node := range nodes {
			cost := copyToBuild
			if node == p.was[vb] {
				cost = 0
			} else if slices.Contains(p.held[vb], node) {
				cost = copyOfReplica
			} else if slices.Contains(p.left[vb], node) {
				cost = copyToBuild / 2
			}
			arc := f.connect(nodes+vb, node, 1, cost)
			if node == 0 {
				first[vb] = arc
			}
		}
	}
	f.run(source, sink)
	members := make([][]int, vbuckets)
	for vb, arc := range first {
		for node := range nodes {
			if f.used(arc+node) > 0 {
				members[vb] = append(members[vb], node)
			}
		}
	}
	return members
}

// chooseActives picks the actives among the members so that both they and the replicas that remain are even.
func (p *plan) chooseActives(members [][]int) bool {
	vbuckets, nodes := p.params.VBuckets, len(p.nodes)
	copies := make([]int, nodes)
	for _, chosen := range members {
		for _, node := range chosen {
			copies[node]++
		}
	}
	source, sink := nodes+vbuckets, nodes+vbuckets+1
	f := newFlow(nodes+vbuckets+2, vbuckets*(p.replicas+2)+2*nodes)
	fewest, mostReplicas := vbuckets/nodes, (vbuckets*p.replicas+nodes-1)/nodes
	musts := make([]int, nodes)
	for node := range nodes {
		least := max(fewest, copies[node]-mostReplicas)
		most := min((vbuckets+nodes-1)/nodes, copies[node]-vbuckets*p.replicas/nodes)
		if least > most {
			return false
		}
		musts[node] = f.connect(node, sink, least, 0)
		f.connect(node, sink, most-least, activeTooMany)
	}
	arcs := make([][]int, vbuckets)
	for _, vb := range p.shuffled() {
		f.connect(source, nodes+vb, 1, 0)
		for _, node := range members[vb] {
			cost := int64(activeToNew)
			if node == p.was[vb] {
				cost = 0
			} else if slices.Contains(p.held[vb], node) {
				cost = activeToMember
			}
			arcs[vb] = append(arcs[vb], f.connect(nodes+vb, node, 1, cost))
		}
	}
	if f.run(source, sink) < vbuckets {
		return false
	}
	for _, must := range musts {
		if f.left(must) > 0 {
			return false
		}
	}
	p.active = make([]int, vbuckets)
	for vb := range arcs {
		for i, arc := range arcs[vb] {
			if f.used(arc) > 0 {
				p.active[vb] = members[vb][i]
			}
		}
	}
	return true
}
