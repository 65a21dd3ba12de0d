package vbmap

import (
	"maps"
	"slices"
)

// The best plan is often to leave everything as it is, or everything but the nodes that are exchanged.

// keep makes the plan the current map as it is; false if that is not complete, has uneven actives or too many slaves.
func (p *plan) keep() bool {
	p.active, p.replica = p.was, make([][]int, len(p.held))
	slaves := make([]map[int]bool, len(p.nodes))
	for node := range slaves {
		slaves[node] = map[int]bool{}
	}
	for vb, held := range p.held {
		if p.was[vb] < 0 || len(held) != p.replicas+1 {
			return false
		}
		p.replica[vb] = held[1:]
		for _, node := range held[1:] {
			slaves[p.was[vb]][node] = true
		}
	}
	weights, sum := p.weights()
	for node, actives := range p.byActive() {
		share := p.params.VBuckets * weights[node] / sum
		if len(actives) < share || len(actives) > share+1 || len(slaves[node]) > p.params.slaves() {
			return false
		}
	}
	p.setShares()
	p.kept = true
	return true
}

// swap lets nodes that are new take the places of as many that go, and leaves everything else as it is; false if that
// is not what happens, or if the current map was not good enough. No plan is cheaper.
func (p *plan) swap() bool {
	added := map[string]bool{}
	for _, node := range p.nodes {
		added[node.Name] = true
	}
	var gone []string
	for _, name := range p.params.Current.Nodes() {
		if !added[name] {
			gone = append(gone, name)
		}
		delete(added, name)
	}
	if len(gone) == 0 || len(gone) != len(added) {
		return false
	}
	successor := make(map[string]string, len(gone))
	for i, name := range slices.Sorted(maps.Keys(added)) {
		successor[gone[i]] = name
	}
	swapped := p.params.Current.Clone()
	for _, chain := range swapped {
		for position, name := range chain {
			if next, ok := successor[name]; ok {
				chain[position] = next
			}
		}
	}
	after := *p
	after.read(swapped)
	if !after.keep() {
		return false
	}
	p.active, p.replica, p.share = after.active, after.replica, after.share
	return true
}
