package vbmap

import "slices"

// The slaves are chosen before it is known how the replicas will fit, and where few are allowed, and few vbuckets are
// to be spread, they sometimes do not. Then single replicas, or all that a node has of one master, change places
// afterwards.

// level evens out the replicas as far as single changes of place can, within the limit of slaves. Groups are let be.
func (p *plan) level() {
	if p.groups > 1 || p.replicas == 0 {
		return
	}
	l := leveller{plan: p, loads: make([]int, len(p.nodes)), uses: make([]map[int]int, len(p.nodes))}
	for node := range l.uses {
		l.uses[node] = map[int]int{}
	}
	for vb, replicas := range p.replica {
		for _, node := range replicas {
			l.loads[node]++
			l.uses[p.active[vb]][node]++
		}
	}
	for l.step() {
	}
}

type leveller struct {
	*plan
	loads []int
	// uses counts, by master and slave, the replicas.
	uses []map[int]int
}

// above is by how much a node has more than its share, negative if less.
func (l *leveller) above(node int) int { return l.loads[node] - l.share[node] }

// step makes one change that brings the loads closer together; false if all is well or nothing helps. Every step makes
// the sum of squares smaller, so there is an end.
func (l *leveller) step() bool {
	least, most := 0, 0
	for node := range l.nodes {
		if l.above(node) < l.above(least) {
			least = node
		}
		if l.above(node) > l.above(most) {
			most = node
		}
	}
	if l.above(most) <= 1 && l.above(least) >= 0 {
		return false
	}
	for from := range l.nodes {
		for to := range l.nodes {
			gap := l.above(from) - l.above(to)
			if (from == most || to == least) && gap > 1 && l.shift(from, to, gap) {
				return true
			}
		}
	}
	return false
}

// shift gives to replicas that from has: one, if its master may have one more slave or has to as one, else all of a
// master.
func (l *leveller) shift(from, to, gap int) bool {
	for vb, replicas := range l.replica {
		master := l.active[vb]
		place := slices.Index(replicas, from)
		if place < 0 || master == to || slices.Contains(replicas, to) {
			continue
		}
		uses := l.uses[master]
		switch {
		case uses[to] > 0 || len(uses) < l.params.slaves():
			l.give(vb, place, to)
			return true
		case uses[from] < gap: // to is new to this master, so none of these vbuckets has it
			for other, replicas := range l.replica {
				if place := slices.Index(replicas, from); place >= 0 && l.active[other] == master {
					l.give(other, place, to)
				}
			}
			return true
		}
	}
	return false
}

func (l *leveller) give(vb, place, to int) {
	from, uses := l.replica[vb][place], l.uses[l.active[vb]]
	l.replica[vb][place] = to
	l.loads[from]--
	l.loads[to]++
	uses[to]++
	if uses[from]--; uses[from] == 0 {
		delete(uses, from)
	}
}
