package vbmap

import (
	"cmp"
	"maps"
	"slices"
)

// Nodes with the same number of copies hold as much data only as long as all vbuckets are of a size. Where they are not,
// copies change places: one of a large vbucket on a node that holds much with one of a smaller vbucket on a node that holds
// less, if that costs no copy and no handover more. Counts stay as they are.

const (
	// sizeTolerance is by which part of its share a node may hold more or less than that before anything is done about it:
	// one in so many.
	sizeTolerance = 16
	// maxSize keeps sums far from overflowing.
	maxSize = int64(1) << 44
	// mostSizeWork bounds how often a node or a copy is looked at.
	mostSizeWork = 1 << 20
	// sizeTakers is with how many of the emptiest nodes a full one tries to exchange copies.
	sizeTakers = 8
)

// excess is, by node, how much it holds beyond its share of all data by weight, and these shares.
func (p *plan) excess() (excess, share []int64) {
	excess, share = make([]int64, len(p.nodes)), make([]int64, len(p.nodes))
	total := int64(0)
	for vb, active := range p.active {
		size := p.params.Sizes[vb]
		excess[active] += size
		total += size
		for _, node := range p.replica[vb] {
			excess[node] += size
			total += size
		}
	}
	weights, sum := p.weights()
	for node, weight := range weights {
		share[node] = int64(float64(total) * float64(weight) / float64(sum))
		excess[node] -= share[node]
	}
	return excess, share
}

// unevenSizes is by how much the node that is furthest off its share is beyond what is tolerated.
func (p *plan) unevenSizes() int {
	if p.params.Sizes == nil {
		return 0
	}
	worst := int64(0)
	excess, share := p.excess()
	for node, e := range excess {
		worst = max(worst, max(e, -e)-share[node]/sizeTolerance)
	}
	return int(worst)
}

// evenOutSizes exchanges copies between nodes as long as that brings the two closer to their shares.
func (p *plan) evenOutSizes() {
	if p.params.Sizes == nil {
		return
	}
	l := sizeLeveller{plan: p, on: make([][2][]int, len(p.nodes)), work: mostSizeWork}
	l.excess, l.share = p.excess()
	for vb, active := range p.active {
		l.on[active][activeRole] = append(l.on[active][activeRole], vb)
		for _, node := range p.replica[vb] {
			l.on[node][replicaRole] = append(l.on[node][replicaRole], vb)
		}
	}
	for l.work > 0 && l.step() {
	}
}

// The roles that a copy can have.
const (
	activeRole = iota
	replicaRole
)

type sizeLeveller struct {
	*plan
	excess, share []int64
	// on is, by node and role, the vbuckets of which it has a copy.
	on [][2][]int
	// work is how many copies may still be looked at.
	work int
}

// step makes one exchange: between the fullest node and the emptiest with which there is one; false if there is none.
// Every exchange makes the sum of squares smaller, so there is an end.
func (l *sizeLeveller) step() bool {
	l.work -= len(l.nodes)
	order := make([]int, len(l.nodes))
	for node := range order {
		order[node] = node
	}
	slices.SortStableFunc(order, func(a, b int) int { return cmp.Compare(l.excess[b], l.excess[a]) })
	for _, from := range order {
		for _, to := range slices.Backward(order[max(0, len(order)-sizeTakers):]) {
			off := max(l.excess[from]-l.share[from]/sizeTolerance, -l.excess[to]-l.share[to]/sizeTolerance)
			if l.excess[from] <= l.excess[to] || off <= 0 {
				break
			}
			if l.exchange(from, to) {
				return true
			}
			if l.work <= 0 {
				return false
			}
		}
	}
	return false
}

// exchange finds the two copies of the same role whose exchange brings two nodes closest to each other.
func (l *sizeLeveller) exchange(from, to int) bool {
	gap := l.excess[from] - l.excess[to]
	best, bestLeft := [3]int{-1}, gap
	for role := range l.on[from] {
		byCost := l.sorted(to, from, role)
		for _, cost := range slices.Sorted(maps.Keys(byCost)) {
			theirs := byCost[cost]
			for _, vb := range l.on[from][role] {
				l.work--
				if slices.Contains(l.replica[vb], to) || l.active[vb] == to || l.costOf(vb, from, to, role)+cost > 0 {
					continue
				}
				// The best has half of the gap less.
				at, _ := slices.BinarySearchFunc(theirs, l.params.Sizes[vb]-gap/2, func(other int, size int64) int {
					return cmp.Compare(l.params.Sizes[other], size)
				})
				for _, other := range theirs[max(0, at-4):min(len(theirs), at+4)] {
					l.work--
					left := gap - 2*(l.params.Sizes[vb]-l.params.Sizes[other])
					if left = max(left, -left); left < bestLeft && l.allowed(vb, other, from, to, role) {
						best, bestLeft = [3]int{vb, other, role}, left
					}
				}
			}
		}
	}
	if best[0] < 0 {
		return false
	}
	l.swapCopies(best[0], best[1], from, to, best[2])
	return true
}

// sorted is the vbuckets of a node that another node may take, ascending by size, by what that costs.
func (l *sizeLeveller) sorted(node, taker, role int) map[int][]int {
	byCost := map[int][]int{}
	for _, vb := range l.on[node][role] {
		l.work--
		if l.active[vb] != taker && !slices.Contains(l.replica[vb], taker) {
			cost := l.costOf(vb, node, taker, role)
			byCost[cost] = append(byCost[cost], vb)
		}
	}
	for _, vbuckets := range byCost {
		slices.SortStableFunc(vbuckets, func(a, b int) int { return cmp.Compare(l.params.Sizes[a], l.params.Sizes[b]) })
	}
	return byCost
}

// costOf is what it costs more if a copy is on another node: what has to be built, which is worth more than any handover,
// and handovers.
func (l *sizeLeveller) costOf(vb, from, to, role int) int {
	const build = 8
	cost := build * (l.toBuild(vb, to) - l.toBuild(vb, from))
	if role == activeRole {
		if l.was[vb] == from {
			cost++
		}
		if l.was[vb] == to {
			cost--
		}
	}
	return cost
}

// allowed reports whether an exchange keeps groups apart and slaves few: these stay as they are if the one is replicated
// by or from the same nodes as the other.
func (l *sizeLeveller) allowed(vb, other, from, to, role int) bool {
	if l.params.slaves() < len(l.nodes)-1 {
		same := l.active[vb] == l.active[other]
		if role == activeRole {
			same = len(l.replica[vb]) == len(l.replica[other]) && !slices.ContainsFunc(l.replica[vb], func(node int) bool {
				return !slices.Contains(l.replica[other], node)
			})
		}
		if !same {
			return false
		}
	}
	if l.groups == 1 {
		return true
	}
	before := l.sameGroup(vb) + l.sameGroup(other)
	l.replaceCopy(vb, from, to, role)
	l.replaceCopy(other, to, from, role)
	after := l.sameGroup(vb) + l.sameGroup(other)
	l.replaceCopy(vb, to, from, role)
	l.replaceCopy(other, from, to, role)
	return after <= before
}

func (l *sizeLeveller) replaceCopy(vb, from, to, role int) {
	if role == activeRole {
		l.active[vb] = to
	} else {
		l.replica[vb][slices.Index(l.replica[vb], from)] = to
	}
}

func (l *sizeLeveller) swapCopies(vb, other, from, to, role int) {
	l.replaceCopy(vb, from, to, role)
	l.replaceCopy(other, to, from, role)
	l.on[from][role][slices.Index(l.on[from][role], vb)] = other
	l.on[to][role][slices.Index(l.on[to][role], other)] = vb
	more := l.params.Sizes[vb] - l.params.Sizes[other]
	l.excess[from] -= more
	l.excess[to] += more
}
