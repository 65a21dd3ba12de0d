package schedule

import (
	"fmt"
	"slices"
)

// Cancel takes the move of vb off the plan, and reports whether it was there and had not started. Its parts count as done in
// [Schedule.Progress].
func (s *Schedule) Cancel(vb int) bool {
	isIt := func(m Move) bool { return m.VB == vb }
	if slices.ContainsFunc(s.lost, isIt) {
		s.lost = slices.DeleteFunc(s.lost, isIt)
		s.left--
		return true
	}
	for index := range s.groups {
		g := &s.groups[index]
		at, found := slices.BinarySearch(g.vbuckets, vb)
		if !found {
			continue
		}
		g.vbuckets = slices.Delete(g.vbuckets, at, at+1)
		g.moves = slices.Delete(g.moves, at, at+1)
		s.left--
		s.forget(g)
		return true
	}
	return false
}

// Tightened is the limits with at most so many backfills and moves per node.
func (l Limits) Tightened(most int) Limits {
	l = l.withDefaults()
	l.BackfillsPerNode = min(l.BackfillsPerNode, max(most, 1))
	l.MovesPerNode = min(l.MovesPerNode, max(most, 1))
	return l
}

// forget takes one move of a group off what its nodes have to do.
func (s *Schedule) forget(g *group) {
	for _, number := range g.backfill {
		s.nodes[number].waiting--
	}
	for _, number := range []int{g.from, g.to} {
		n := &s.nodes[number]
		n.remaining--
		if g.handover() {
			n.handovers--
		}
	}
}

// SetLimits replaces the limits on backfills and moves, from the next [Schedule.Next] on. What has started stays, also
// where it is more than the new limits allow. It panics if MovesPerCompaction differs, because countdowns are under way.
func (s *Schedule) SetLimits(limits Limits) {
	limits = limits.withDefaults()
	if limits.group() != s.limits.group() || max(0, limits.MovesPerCompaction) != max(0, s.limits.MovesPerCompaction) {
		panic(fmt.Sprintf("schedule: moves per compaction change from %d to %d", s.limits.MovesPerCompaction, limits.MovesPerCompaction))
	}
	s.limits = limits
	for number := range s.nodes {
		s.full[number] = s.nodes[number].backfills >= limits.BackfillsPerNode
	}
	s.freeAll()
}
