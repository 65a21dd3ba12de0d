package vbmap

// What one unit of flow costs when actives are placed. Each is worth more than all cheaper ones together.
const (
	// Handing a vbucket over to a node that has a copy, or to one that gets the copy that is missing anyway.
	activeToMember = 4
	activeToLeft   = 5 // to one that may have a part of it
	activeToNew    = 6
	// Building a copy only for that.
	activeToBuilt = int64(1) << 20
	// Having one active more than the share, rounded down.
	activeTooMany = int64(1) << 42
)

// placeActives gives every vbucket an active: each node its share, rounded down or up, with as few copies to build, and
// then as few handed over, as that allows.
func (p *plan) placeActives() {
	vbuckets, nodes := p.params.VBuckets, len(p.nodes)
	// Vertices: the nodes, the vbuckets, and three more. Anywhere leads to all nodes.
	anywhere, source, sink := nodes+vbuckets, nodes+vbuckets+1, nodes+vbuckets+2
	f := newFlow(nodes+vbuckets+3, vbuckets*(3+p.replicas)+3*nodes)
	weights, sum := p.weights()
	places := make([]int, nodes) // arcs from anywhere, by node
	for node := range nodes {
		f.connect(node, sink, vbuckets*weights[node]/sum, 0)
		f.connect(node, sink, 1, activeTooMany)
		places[node] = f.connect(anywhere, node, vbuckets, 0)
	}
	members := make([][]int, vbuckets) // arcs, by vbucket, in the order of held and then left
	order := p.shuffled()
	for _, vb := range order {
		f.connect(source, nodes+vb, 1, 0)
		f.connect(nodes+vb, anywhere, 1, p.costOfNewActive(vb))
		for _, node := range p.held[vb] {
			cost := int64(activeToMember)
			if node == p.was[vb] {
				cost = 0
			}
			members[vb] = append(members[vb], f.connect(nodes+vb, node, 1, cost))
		}
		for _, node := range p.left[vb] {
			members[vb] = append(members[vb], f.connect(nodes+vb, node, 1, p.costOfLeftActive(vb)))
		}
	}
	f.run(source, sink)

	// Those that went anywhere are not told apart on the way: each takes one of the places that are left.
	var free []int
	for node, arc := range places {
		for range f.used(arc) {
			free = append(free, node)
		}
	}
	p.active = make([]int, vbuckets)
	for _, vb := range order {
		p.active[vb] = -1
		for i, arc := range members[vb] {
			switch {
			case f.used(arc) == 0:
			case i < len(p.held[vb]):
				p.active[vb] = p.held[vb][i]
			default:
				p.active[vb] = p.left[vb][i-len(p.held[vb])]
			}
		}
		if p.active[vb] < 0 {
			p.active[vb], free = free[len(free)-1], free[:len(free)-1]
		}
	}
}

// costOfNewActive is what it costs to make a node active that has no copy.
func (p *plan) costOfNewActive(vb int) int64 {
	if len(p.held[vb]) <= p.replicas {
		return activeToNew
	}
	return activeToBuilt
}

// costOfLeftActive is what it costs to make a node active that may have a part of the copy from before.
func (p *plan) costOfLeftActive(vb int) int64 {
	if len(p.held[vb]) <= p.replicas {
		return activeToLeft
	}
	return activeToBuilt / 2
}
