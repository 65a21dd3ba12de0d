package vbmap

import "slices"

// What one unit of flow costs when replicas are placed. Each is worth more than all cheaper ones together.
const (
	// Building more copies on a slave than evens out its master's replicas, or giving the replica too many to a node
	// that has an active too many.
	replicaUneven = 1
	// Building a copy; half of that for one of which the node may have a part.
	replicaToBuild = int64(1) << 18
	// Having one replica more than the share, rounded down; twice for the second, and so on.
	replicaTooMany = int64(1) << 36
	// Being in a group that has a replica of the vbucket already; twice for the group of the active.
	replicaSameGroup = int64(1) << 53
)

// placeReplicas gives every vbucket its replicas, among the slaves of its active: apart from each other, evenly, and
// with as few copies to build as that allows.
func (p *plan) placeReplicas() {
	p.replica = make([][]int, p.params.VBuckets)
	if p.replicas == 0 {
		return
	}
	n := newReplicaNet(p)
	for _, vb := range p.shuffled() {
		n.offer(vb)
	}
	n.f.run(n.source, n.sink)
	for vb, offers := range n.offers {
		for _, offer := range offers {
			if n.f.used(offer.arc) > 0 {
				p.replica[vb] = append(p.replica[vb], offer.node)
			}
		}
	}
}

// replicaNet is the flow from vbuckets to nodes. Copies that are there go straight; those to build go through the pair
// of master and slave, so that they spread.
type replicaNet struct {
	*plan
	f            *flow
	source, sink int
	// pair is, by master and place of the slave, the vertex between.
	pair [][]int
	// offers is what could carry a replica, by vbucket.
	offers [][]offer
	// vertices counts those that are in use.
	vertices int
}

type offer struct{ arc, node int }

func newReplicaNet(p *plan) *replicaNet {
	nodes, vbuckets := len(p.nodes), p.params.VBuckets
	pairs, candidates := 0, 0
	byActive := p.byActive()
	for master, slaves := range p.slaves {
		pairs += len(slaves)
		candidates += len(byActive[master]) * (len(slaves) + p.replicas)
	}
	groupVertices := 0
	if p.groups > 1 {
		groupVertices = min(candidates, vbuckets*p.groups)
	}
	steps := p.steps()
	n := &replicaNet{
		plan: p, source: nodes, sink: nodes + 1, vertices: nodes + 2,
		f:      newFlow(nodes+2+pairs+vbuckets+groupVertices, candidates+2*pairs+vbuckets+2*groupVertices+nodes*(len(steps)+1)),
		offers: make([][]offer, vbuckets), pair: make([][]int, nodes),
	}
	weights, sum := p.weights()
	for node, actives := range byActive {
		n.demand(node, len(actives)*sum > vbuckets*weights[node], steps)
	}
	uses := p.uses(byActive)
	for master, slaves := range p.slaves {
		for _, slave := range slaves {
			pair := n.vertex()
			even := (p.replicas*len(byActive[master]) + len(slaves) - 1) / len(slaves)
			n.f.connect(pair, slave, max(0, even-uses[master][slave]), 0)
			n.f.connect(pair, slave, vbuckets, replicaUneven)
			n.pair[master] = append(n.pair[master], pair)
		}
	}
	return n
}

// steps is how the replicas beyond a node's share are measured out, each step costing more than the one before: one by
// one at first. Only uneven groups get further, where the steps become longer, or there would be too many of them;
// within a group they are levelled afterwards.
func (p *plan) steps() []int {
	const fine = 16
	var steps []int
	for beyond := 0; beyond < p.params.VBuckets; {
		step := max(1, beyond/fine)
		steps = append(steps, step)
		beyond += step
	}
	return steps
}

func (n *replicaNet) vertex() int {
	n.vertices++
	return n.vertices - 1
}

// demand says what a node may get.
func (n *replicaNet) demand(node int, activeTooMany bool, steps []int) {
	n.f.connect(node, n.sink, n.share[node], 0)
	preference := int64(0)
	if activeTooMany {
		preference = replicaUneven
	}
	for i, step := range steps {
		n.f.connect(node, n.sink, step, int64(i+1)*replicaTooMany+preference)
	}
}

// offer connects a vbucket with everyone who may have a replica of it.
func (n *replicaNet) offer(vb int) {
	master := n.active[vb]
	here := n.vertex()
	n.f.connect(n.source, here, n.replicas, 0)
	through := func(int) int { return here }
	if n.groups > 1 {
		doors := make(map[int]int, n.groups)
		through = func(node int) int { return n.door(here, doors, n.group[node], n.group[master]) }
	}
	for i, slave := range n.slaves[master] {
		if !slices.Contains(n.held[vb], slave) {
			cost := replicaToBuild
			if slices.Contains(n.left[vb], slave) {
				cost /= 2
			}
			n.offers[vb] = append(n.offers[vb], offer{n.f.connect(through(slave), n.pair[master][i], 1, cost), slave})
		}
	}
	for _, node := range n.held[vb] {
		if node != master && (n.params.MaxSlaves == NoLimit || slices.Contains(n.slaves[master], node)) {
			n.offers[vb] = append(n.offers[vb], offer{n.f.connect(through(node), node, 1, 0), node})
		}
	}
}

// door is the vertex between a vbucket and the nodes of a group: the first replica in there is free unless the active
// is there too.
func (n *replicaNet) door(here int, doors map[int]int, group, home int) int {
	door, ok := doors[group]
	if ok {
		return door
	}
	door = n.vertex()
	doors[group] = door
	if group == home {
		n.f.connect(here, door, n.replicas, 2*replicaSameGroup)
		return door
	}
	n.f.connect(here, door, 1, 0)
	n.f.connect(here, door, n.replicas, replicaSameGroup)
	return door
}
