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
	defer func() {
		for number := range s.nodes {
			s.nodes[number].places = nil
		}
	}()
	byKey := make(map[groupKey]int, len(moves))
	byPair := make(map[uint64]int, len(moves))
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
			s.groups = append(s.groups, g)
			s.introduce(index)
		}
		s.groups[index].vbuckets = append(s.groups[index].vbuckets, move.VB)
		s.groups[index].moves = append(s.groups[index].moves, move)
		s.count(&s.groups[index])
	}
}

// partner is the groups of one node that need one other node too. Most nodes are full most of the time, and one look at
// the other node then rules out all of these.
type partner struct {
	// number is that of the other node, or nobody.
	number int32
	groups []member
}

// member is a group in the list of one of its nodes. It carries what is looked at most, side by side in memory.
type member struct {
	group int32
	// others is the backfill nodes besides the two that the list is about, or nobody. There are no more in chains of up
	// to four members.
	others [3]int32
}

const nobody = -1

// introduce lists a group at its backfill nodes: at the new active and the replicas under the old active, at the old
// active under one of these.
func (s *Schedule) introduce(index int) {
	g := &s.groups[index]
	for i, number := range g.backfill {
		other := g.from
		if i == 0 {
			other = nobody
			if len(g.backfill) > 1 {
				other = g.backfill[1]
			}
		}
		m := member{group: int32(index), others: [3]int32{nobody, nobody, nobody}}
		more := m.others[:0]
		for _, third := range g.backfill {
			if third != number && third != other && len(more) < cap(more) {
				more = append(more, int32(third))
			}
		}
		p := s.partner(number, other)
		p.groups = append(p.groups, m)
	}
}

func (s *Schedule) partner(number, other int) *partner {
	n := &s.nodes[number]
	place, ok := n.places[other]
	if !ok {
		place = len(n.partners)
		n.places[other] = place
		n.partners = append(n.partners, partner{number: int32(other)})
	}
	return &n.partners[place]
}

// groupKey tells groups apart. Replicas that are built are a set.
type groupKey struct {
	from, to int
	added    [4]int32
	// more is those beyond the fourth, of which chains of up to five members have none.
	more string
}

func (g *group) key(added []int) groupKey {
	key := groupKey{from: g.from, to: g.to, added: [4]int32{nobody, nobody, nobody, nobody}}
	sorted := slices.Clone(added)
	slices.Sort(sorted)
	for i, number := range sorted {
		if i < len(key.added) {
			key.added[i] = int32(number)
		} else {
			key.more += strconv.Itoa(number) + ","
		}
	}
	return key
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
		s.nodes = append(s.nodes, node{places: map[int]int{}})
		s.full = append(s.full, false)
	}
	return number
}

func (s *Schedule) link(byPair map[uint64]int, from, to int) int {
	pair := uint64(from)<<32 | uint64(to)
	link, ok := byPair[pair]
	if !ok {
		link = len(s.links)
		byPair[pair] = link
		s.links = append(s.links, 0)
	}
	return link
}
