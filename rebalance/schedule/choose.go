package schedule

import "slices"

// Next returns every move that may start now, in the order in which they shall start, and counts them as started. First
// come the vbuckets that nobody is active of: there is nothing to wait for.
//
// The rule is to start, again and again, the possible move with the largest score (rebalance.md §5.3). Two facts save
// most of the work. A move that was not possible at the end of the last call can only have become so through a node
// that was freed since. And while moves are being started no score grows: starting a move takes from the waiting moves
// of its nodes, adds to their backfills, connections and moves under way, and where it brings a compaction closer for
// another move, it has added to that one's backfills, which count more. So a score that is still right when it comes
// out of the queue as the largest is the largest.
func (s *Schedule) Next() []Move { return s.NextFew(s.left) }

// NextFew is [Schedule.Next], but starts at most so many moves of vbuckets that somebody is active of. They are those with
// which Next would begin.
func (s *Schedule) NextFew(most int) []Move {
	started := s.startLost()
	most += len(started)
	s.round++
	s.queue = s.queue[:0]
	for _, number := range s.fresh {
		s.nodes[number].fresh = false
		if !s.full[number] {
			s.collect(number)
		}
	}
	s.fresh = s.fresh[:0]
	s.queue.order()
	for len(s.queue) > 0 {
		if len(started) >= most {
			s.freeAll()
			break
		}
		top := s.queue[0]
		g := &s.groups[top.group]
		if !s.possible(g) {
			s.queue.pop()
			continue
		}
		score := s.score(top.group)
		if score != top {
			s.queue.replace(score)
			continue
		}
		started = append(started, s.start(top.group))
		if len(g.vbuckets) == 0 {
			s.queue.pop()
		}
	}
	return started
}

func (s *Schedule) startLost() []Move {
	started := s.lost
	s.lost = nil
	for _, move := range started {
		s.inFlight[move.VB] = flight{group: noGroup}
	}
	s.left -= len(started)
	return started
}

// collect queues the possible groups of a node, and forgets those that it finds to have no moves left.
func (s *Schedule) collect(number int) {
	n, emptied := &s.nodes[number], false
	for i := range n.partners {
		p := &n.partners[i]
		if p.number != nobody && s.full[p.number] {
			continue
		}
		for k := 0; k < len(p.groups); k++ {
			m := &p.groups[k]
			if s.anyFull(&m.others) {
				continue
			}
			g := &s.groups[m.group]
			if len(g.vbuckets) == 0 {
				last := len(p.groups) - 1
				p.groups[k] = p.groups[last]
				p.groups = p.groups[:last]
				k--
				emptied = emptied || last == 0
				continue
			}
			if g.seen != s.round && s.possible(g) {
				g.seen = s.round
				s.queue = append(s.queue, s.score(int(m.group)))
			}
		}
	}
	if emptied {
		n.partners = slices.DeleteFunc(n.partners, func(p partner) bool { return len(p.groups) == 0 })
	}
}

func (s *Schedule) anyFull(nodes *[3]int32) bool {
	for _, number := range nodes {
		if number != nobody && s.full[number] {
			return true
		}
	}
	return false
}

// possible reports whether the limits allow a move of the group to start.
func (s *Schedule) possible(g *group) bool {
	for _, number := range g.backfill {
		if s.full[number] {
			return false
		}
	}
	return s.mayMove(g.from) && s.mayMove(g.to)
}

// mayMove reports whether a node may be an end of one more move.
func (s *Schedule) mayMove(number int) bool {
	n := &s.nodes[number]
	return n.moves < s.limits.MovesPerNode && !n.compacting && (s.limits.MovesPerCompaction <= 0 || n.countdown > 0)
}

// start takes the highest vbucket of a group.
func (s *Schedule) start(index int) Move {
	g := &s.groups[index]
	last := len(g.vbuckets) - 1
	move := g.moves[last]
	g.vbuckets, g.moves = g.vbuckets[:last], g.moves[:last]
	s.left--
	s.inFlight[move.VB] = flight{group: index, backfilling: true}
	for _, number := range g.backfill {
		s.nodes[number].waiting--
		s.nodes[number].backfills++
		s.full[number] = s.nodes[number].backfills >= s.limits.BackfillsPerNode
	}
	for _, link := range g.links {
		s.links[link]++
	}
	for _, number := range g.ends() {
		n := &s.nodes[number]
		n.moves++
		if g.handover() {
			n.handovers--
			n.countdown--
		}
	}
	if g.handover() {
		s.nodes[g.to].towards++
	}
	return move
}

// candidate is a group with its score, most important component first; larger is better.
type candidate struct {
	// bottleneck is how many moves wait for the backfill node for which most wait.
	bottleneck int
	// connections is minus the backfills that use the connections which the move would use.
	connections int
	// spread puts handovers first, and among them those to nodes that get few actives at present.
	spread int
	// idle is minus the backfills that involve the backfill nodes.
	idle int
	// compaction completes groups of moves between two compactions.
	compaction int
	// vb breaks ties.
	vb    int
	group int
}

func (s *Schedule) score(index int) candidate {
	g := &s.groups[index]
	c := candidate{group: index, vb: g.vbuckets[len(g.vbuckets)-1]}
	for _, number := range g.backfill {
		c.bottleneck = max(c.bottleneck, s.nodes[number].waiting)
		c.idle -= s.nodes[number].backfills
	}
	for _, link := range g.links {
		c.connections -= s.links[link]
	}
	if g.handover() {
		c.spread = 1000 - s.nodes[g.to].towards
		c.compaction = 1000 - s.nodes[g.to].countdown - s.nodes[g.from].countdown
	}
	return c
}

// less compares scores.
func (c *candidate) less(other *candidate) bool {
	switch {
	case c.bottleneck != other.bottleneck:
		return c.bottleneck < other.bottleneck
	case c.connections != other.connections:
		return c.connections < other.connections
	case c.spread != other.spread:
		return c.spread < other.spread
	case c.idle != other.idle:
		return c.idle < other.idle
	case c.compaction != other.compaction:
		return c.compaction < other.compaction
	default:
		return c.vb < other.vb
	}
}

// candidates is a heap, the largest score first.
type candidates []candidate

// order makes a heap of what was appended.
func (q candidates) order() {
	for i := len(q)/2 - 1; i >= 0; i-- {
		q.sink(i)
	}
}

// replace puts another score in the place of the first.
func (q candidates) replace(c candidate) {
	q[0] = c
	q.sink(0)
}

// pop drops the first.
func (q *candidates) pop() {
	last := len(*q) - 1
	(*q)[0] = (*q)[last]
	*q = (*q)[:last]
	q.sink(0)
}

func (q candidates) sink(i int) {
	for {
		child := 2*i + 1
		if child >= len(q) {
			return
		}
		if child+1 < len(q) && q[child].less(&q[child+1]) {
			child++
		}
		if !q[i].less(&q[child]) {
			return
		}
		q[i], q[child] = q[child], q[i]
		i = child
	}
}
