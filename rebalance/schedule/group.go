package schedule

import (
	"slices"
	"strconv"
)

// group is the moves left that differ in nothing that counts but their vbucket: they have the same ends and the same
// backfill nodes, and so always the same score up to the tie break.
type group struct {
	// vbuckets is ascending; the highest starts first.
	vbuckets []int
	// moves is those of vbuckets, in the same order.
	moves []Move
	// from and to are the old and the new active.
	from, to int
	// backfill is the nodes that a backfill involves: from, to, and every new replica that had no copy. Each once.
	backfill []int
	// links is the connections from the old active to every member that had no copy.
	links []int
	// seen is the last round in which the group was looked at.
	seen int
}

// handover reports whether the active changes.
func (g *group) handover() bool { return g.from != g.to }

// ends is the old and the new active, once if they are the same.
func (g *group) ends() []int {
	if g.handover() {
		return []int{g.from, g.to}
	}
	return []int{g.from}
}

// plan sorts the moves, which are ascending by vbucket, into groups and counts who has what to do.
func (s *Schedule) plan(moves []Move) {
	byKey := map[string]int{}
	byPair := map[[2]int]int{}
	for _, move := range moves {
		if active(move.Old) == "" {
			s.lost = append(s.lost, move)
			continue
		}
		g := group{from: s.number(active(move.Old)), to: s.number(active(move.New))}
		g.backfill = g.ends()
		var added []int
		for _, name := range move.New {
			if name == "" || slices.Contains(move.Old, name) {
				continue
			}
			number := s.number(name)
			added = append(added, number)
			if !slices.Contains(g.backfill, number) {
				g.backfill = append(g.backfill, number)
			}
		}
		key := g.key(added)
		index, ok := byKey[key]
		if !ok {
			index = len(s.groups)
			byKey[key] = index
			for _, number := range added {
				g.links = append(g.links, s.link(byPair, g.from, number))
			}
			for _, number := range g.backfill {
				s.nodes[number].groups = append(s.nodes[number].groups, index)
			}
			s.groups = append(s.groups, g)
		}
		s.groups[index].vbuckets = append(s.groups[index].vbuckets, move.VB)
		s.groups[index].moves = append(s.groups[index].moves, move)
		s.count(&s.groups[index])
	}
}

// key tells groups apart. Replicas that are built are a set.
func (g *group) key(added []int) string {
	added = slices.Clone(added)
	slices.Sort(added)
	key := strconv.AppendInt(nil, int64(g.from), 10)
	key = append(key, '>')
	key = strconv.AppendInt(key, int64(g.to), 10)
	for _, number := range added {
		key = append(key, ',')
		key = strconv.AppendInt(key, int64(number), 10)
	}
	return string(key)
}

// count adds one move of the group to what its nodes have to do.
func (s *Schedule) count(g *group) {
	for _, number := range g.backfill {
		s.nodes[number].waiting++
	}
	for _, number := range []int{g.from, g.to} {
		n := &s.nodes[number]
		n.initial++
		n.remaining++
		if g.handover() {
			n.handovers++
		}
	}
}

func (s *Schedule) number(name string) int {
	number, ok := s.numbers[name]
	if !ok {
		number = len(s.names)
		s.numbers[name] = number
		s.names = append(s.names, name)
		s.nodes = append(s.nodes, node{})
	}
	return number
}

func (s *Schedule) link(byPair map[[2]int]int, from, to int) int {
	pair := [2]int{from, to}
	link, ok := byPair[pair]
	if !ok {
		link = len(s.links)
		byPair[pair] = link
		s.links = append(s.links, 0)
	}
	return link
}
