package vbmap

import "slices"

// The slaves are chosen before it is known how the replicas will fit, and where few are allowed, and few vbuckets are
// to be spread, they sometimes do not. Then single replicas, or all that a node has of one master, change places
// afterwards.

// mostToLevel is vbuckets × nodes up to which that is tried; beyond it replicas fit.
const mostToLevel = 1 << 18

// level evens out the replicas as far as single changes of place can, within each group and within the limit of slaves.
func (p *plan) level() {
	if p.replicas == 0 || p.params.VBuckets*len(p.nodes) > mostToLevel {
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

// step makes one change that brings the loads closer together; false if all is well or nothing helps. Every step makes
// the sum of squares smaller, so there is an end.
func (l *leveller) step() bool {
	for from := range l.nodes {
		for to := range l.nodes {
			gap := l.loads[from] - l.share[from] - (l.loads[to] - l.share[to])
			if gap > 1 && l.group[from] == l.group[to] && l.shift(from, to, gap) {
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
