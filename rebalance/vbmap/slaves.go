package vbmap

import (
	"cmp"
	"slices"
)

// The fewer nodes replicate one node, the fewer connections there are, and the fewer pairs of nodes whose failure loses
// data. So a node's replicas are placed among its slaves only. Which nodes these are is chosen here; the replicas that
// are there already have a say.

// mostCandidates bounds vbuckets × slaves where there is no limit, and with it the work of placing replicas.
const mostCandidates = 1 << 22

// chooseSlaves picks each node's slaves.
func (p *plan) chooseSlaves() {
	nodes := len(p.nodes)
	limit := min(p.params.slaves(), max(p.replicas, mostCandidates/p.params.VBuckets))
	p.slaves = make([][]int, nodes)
	if limit >= nodes-1 {
		for node := range nodes {
			for other := range nodes {
				if other != node {
					p.slaves[node] = append(p.slaves[node], other)
				}
			}
		}
		return
	}
	r := newRelation(p, limit)
	r.keep()
	r.fill()
	r.admit()
}

// relation is the slaves in the making.
type relation struct {
	*plan
	limit int
	// uses counts, by master and possible slave, the master's vbuckets that the slave has a copy of.
	uses []map[int]int
	// even is, by master, how many replicas each slave gets if all get the same.
	even []int
	// masters counts, by node, whose slave it is.
	masters []int
	// surplus is, by node, how many replicas its masters have for it beyond its share.
	surplus []int
}

func newRelation(p *plan, limit int) *relation {
	nodes := len(p.nodes)
	r := &relation{
		plan: p, limit: limit,
		even: make([]int, nodes), masters: make([]int, nodes), surplus: make([]int, nodes),
	}
	byActive := p.byActive()
	r.uses = p.uses(byActive)
	for node, vbuckets := range byActive {
		r.even[node] = (p.replicas*len(vbuckets) + limit - 1) / limit
		r.surplus[node] = -p.share[node]
	}
	return r
}

// uses counts, by active and other node, the vbuckets of the one that the other has a copy of.
func (p *plan) uses(byActive [][]int) []map[int]int {
	uses := make([]map[int]int, len(p.nodes))
	for node, vbuckets := range byActive {
		uses[node] = map[int]int{}
		for _, vb := range vbuckets {
			for _, held := range p.held[vb] {
				if held != node {
					uses[node][held]++
				}
			}
		}
	}
	return uses
}

// supply is how many replicas a slave can expect of a master.
func (r *relation) supply(master, slave int) int { return max(r.uses[master][slave], r.even[master]) }

func (r *relation) add(master, slave int) {
	r.slaves[master] = append(r.slaves[master], slave)
	r.masters[slave]++
	r.surplus[slave] += r.supply(master, slave)
}

func (r *relation) replace(master, place, slave int) {
	old := r.slaves[master][place]
	r.slaves[master] = slices.Delete(r.slaves[master], place, place+1)
	r.masters[old]--
	r.surplus[old] -= r.supply(master, old)
	r.add(master, slave)
}

// keep makes slaves of those whose copies can stay, the most useful first. Places are kept free for other groups.
func (r *relation) keep() {
	for master, uses := range r.uses {
		useful := make([]int, 0, len(uses))
		for slave := range uses {
			useful = append(useful, slave)
		}
		slices.SortFunc(useful, func(a, b int) int {
			return cmp.Or(cmp.Compare(uses[b], uses[a]), cmp.Compare(a, b))
		})
		for _, slave := range useful {
			if len(r.slaves[master])+r.groupsMissing(master, slave) < r.limit {
				r.add(master, slave)
			}
		}
	}
}

// groupsMissing is how many slaves of other groups master needs besides the ones it has and one more.
func (r *relation) groupsMissing(master, next int) int {
	if r.groups == 1 {
		return 0
	}
	seen := map[int]bool{r.group[master]: true, r.group[next]: true}
	for _, slave := range r.slaves[master] {
		seen[r.group[slave]] = true
	}
	return max(0, min(r.replicas, r.groups-1)-(len(seen)-1))
}

// admit makes room for nodes that get less than their share from those whose slaves they are, as new nodes do: they
// take the places of slaves that get more.
func (r *relation) admit() {
	for _, node := range r.dice.Perm(len(r.nodes)) {
		for r.surplus[node] < 0 && r.makeRoom(node) {
		}
	}
}

// makeRoom makes a node one more master's slave; false if nobody can spare a place.
func (r *relation) makeRoom(node int) bool {
	master, place := r.dispensable(node)
	if master >= 0 {
		r.replace(master, place, node)
	}
	return master >= 0
}

// dispensable finds the place that node may take: one whose loss its slave can bear best, and among these the one with
// the least use for its master. Master is -1 if there is none.
func (r *relation) dispensable(node int) (master, place int) {
	master = -1
	most, least := r.surplus[node], 0
	for candidate, slaves := range r.slaves {
		if candidate == node || slices.Contains(slaves, node) || r.closer(candidate, node) {
			continue
		}
		for i, slave := range slaves {
			if r.group[slave] != r.group[node] && r.onlyOfItsGroup(candidate, slave) {
				continue
			}
			use := r.uses[candidate][slave]
			left := r.surplus[slave] - r.supply(candidate, slave)
			if left > most || left == most && use < least {
				master, place, most, least = candidate, i, left, use
			}
		}
	}
	return master, place
}

// onlyOfItsGroup reports whether no other slave of master is in the group of slave, and that matters.
func (r *relation) onlyOfItsGroup(master, slave int) bool {
	if r.groups == 1 || r.closer(master, slave) {
		return false
	}
	return !slices.ContainsFunc(r.slaves[master], func(other int) bool {
		return other != slave && r.group[other] == r.group[slave]
	})
}

// closer reports whether node is in the group of master, and that matters.
func (r *relation) closer(master, node int) bool {
	return r.groups > 1 && r.group[master] == r.group[node]
}

// fill gives every node as many slaves as it may have: from other groups first, then those with the fewest masters.
func (r *relation) fill() {
	rank := r.dice.Perm(len(r.nodes))
	for range r.limit {
		for _, master := range r.dice.Perm(len(r.nodes)) {
			if len(r.slaves[master]) >= r.limit {
				continue
			}
			if slave := r.bestSlave(master, rank); slave >= 0 {
				r.add(master, slave)
			}
		}
	}
}

func (r *relation) bestSlave(master int, rank []int) int {
	best := -1
	worth := func(node int) [4]int {
		same := 0
		if r.closer(master, node) {
			same = 1
		}
		return [4]int{same, r.groupsMissing(master, node), r.masters[node], rank[node]}
	}
	var bestWorth [4]int
	for node := range r.nodes {
		if node == master || slices.Contains(r.slaves[master], node) {
			continue
		}
		if w := worth(node); best < 0 || slices.Compare(w[:], bestWorth[:]) < 0 {
			best, bestWorth = node, w
		}
	}
	return best
}
