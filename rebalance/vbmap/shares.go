package vbmap

// How many replicas each node should have. Without groups that is a matter of weights. With groups, a small group gets
// more from all the others than it can give away: its nodes have more replicas than others, and the question is how
// many.

const (
	// groupStep is the number of steps in which the mean load of a group is measured out; groupSteps bounds them.
	groupStep  = 64
	groupSteps = 512
	// mostGroups is how many groups are looked at as such; more of them hardly get in each other's way.
	mostGroups = 64
	// groupSlack is how many replicas more or less than computed a node may have where there are groups: nobody moves
	// data for less.
	groupSlack = 2
)

// setShares computes, by node, the replicas it should have, rounded down. The actives must have been placed.
func (p *plan) setShares() {
	weights, sum := p.weights()
	total := p.replicas * p.params.VBuckets
	p.share = make([]int, len(p.nodes))
	if p.groups == 1 || p.groups > mostGroups {
		for node := range p.nodes {
			p.share[node] = total * weights[node] / sum
		}
		return
	}
	weight, load := p.groupLoads(weights, sum)
	for node, group := range p.group {
		p.share[node] = load[group] * weights[node] / weight[group]
	}
}

// groupLoads is, by group, its weight and the replicas that it should have: as even as it can be, with replicas in
// other groups than their actives.
func (p *plan) groupLoads(weights []int, sum int) (weight, load []int) {
	weight, load = make([]int, p.groups), make([]int, p.groups)
	actives := make([]int, p.groups)
	for node, group := range p.group {
		weight[group] += weights[node]
	}
	for _, node := range p.active {
		actives[p.group[node]]++
	}
	total := p.replicas * p.params.VBuckets
	// Vertices: each group as the home of actives, each as a host of replicas, and two more.
	source, sink := 2*p.groups, 2*p.groups+1
	f := newFlow(2*p.groups+2, p.groups*(2*p.groups+groupSteps+2))
	var taken [][]int
	for host := range p.groups {
		var arcs []int
		step := max(1, total*weight[host]/sum/groupStep)
		for level := range groupSteps {
			arcs = append(arcs, f.connect(p.groups+host, sink, step, int64(level+1)))
		}
		taken = append(taken, append(arcs, f.connect(p.groups+host, sink, total, groupSteps+1)))
	}
	for home := range p.groups {
		f.connect(source, home, p.replicas*actives[home], 0)
		for host := range p.groups {
			if host == home {
				f.connect(home, p.groups+host, total, 4*replicaTooMany)
				continue
			}
			f.connect(home, p.groups+host, actives[home], 0)
			f.connect(home, p.groups+host, total, 2*replicaTooMany)
		}
	}
	f.run(source, sink)
	for host, arcs := range taken {
		for _, arc := range arcs {
			load[host] += f.used(arc)
		}
	}
	return weight, load
}

// tolerance is how many replicas more and how many less than its share a node may have without being out of balance.
func (p *plan) tolerance() (more, less int) {
	if p.groups == 1 {
		return 1, 0
	}
	return 1 + groupSlack, groupSlack
}
