package schedule

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
)

// Move takes one vbucket from its old chain to its new one: position 0 is the active, the others are replicas, and the
// empty name is nobody.
type Move struct {
	VB       int
	Old, New []string
}

// Limits bound what runs at the same time. The zero value has the reference's defaults.
type Limits struct {
	// BackfillsPerNode is how many backfills may involve one node; 0 means 4.
	BackfillsPerNode int
	// MovesPerNode is how many moves in flight may have one node as their old or new active; 0 means 64.
	MovesPerNode int
	// MovesPerCompaction is after how many handovers of actives a node has to be compacted before it takes part in
	// another, which is what [Schedule.Compactions] is for. Only view indexes need that: 0 means never.
	MovesPerCompaction int
}

// The defaults of [Limits]. A node's moves are grouped by compactionGroup when nothing is compacted too: it is part of
// the order.
const (
	defaultBackfills = 4
	defaultMoves     = 64
	compactionGroup  = 64
)

// ErrMoves says that moves cannot be scheduled. The error that wraps it says why.
var ErrMoves = errors.New("schedule: unusable moves")

// Check returns nil if [New] accepts the moves: no vbucket twice, no negative one, and a new active for each. Else the
// error wraps [ErrMoves].
func Check(moves []Move) error {
	seen := make(map[int]bool, len(moves))
	for _, move := range moves {
		switch {
		case move.VB < 0:
			return fmt.Errorf("%w: vb %d", ErrMoves, move.VB)
		case seen[move.VB]:
			return fmt.Errorf("%w: vb %d twice", ErrMoves, move.VB)
		case active(move.New) == "":
			return fmt.Errorf("%w: vb %d has no new active", ErrMoves, move.VB)
		}
		seen[move.VB] = true
	}
	return nil
}

// Schedule holds the moves that are left and those in flight. It is not safe for concurrent use.
type Schedule struct {
	limits Limits
	// names and nodes are by number, numbers by name.
	names   []string
	nodes   []node
	numbers map[string]int
	groups  []group
	// full is, by node, whether it takes part in as many backfills as it may.
	full []bool
	// links counts the backfills in flight from one node to another, by number of the pair.
	links []int
	// fresh is the nodes that can take part in more than when moves were last looked for.
	fresh []int
	// lost is the moves of vbuckets that nobody is active of. They start first and obey no limit.
	lost []Move
	// left counts the moves that have not started, those of lost included.
	left     int
	inFlight map[int]flight // by vbucket

	queue candidates
	round int
}

// node is what the schedule knows of one node.
type node struct {
	// waiting counts the moves left that have the node as a backfill node.
	waiting int
	// backfills and moves are in flight; towards is those moves that bring it an active.
	backfills, moves, towards int
	// handovers counts the moves left that give it or take from it an active.
	handovers int
	// countdown is how many handovers may start before the next compaction.
	countdown  int
	compacting bool
	// initial and remaining count the parts it has in moves, as old and as new active, for progress.
	initial, remaining int
	// partners is the groups that have it as a backfill node, by another node that they need too.
	partners []partner
	// places finds a partner while the moves are being planned.
	places map[int]int
	fresh  bool
}

// flight is a move that has started. Moves of lost vbuckets have no group.
type flight struct {
	group       int
	backfilling bool
}

const noGroup = -1

// New plans the moves; those whose chains do not differ are left out. It panics if [Check] refuses them: a plan that
// does not come from two valid maps is a bug of the caller's.
func New(moves []Move, limits Limits) *Schedule {
	if err := Check(moves); err != nil {
		panic(err)
	}
	s := &Schedule{limits: limits.withDefaults(), numbers: map[string]int{}, inFlight: map[int]flight{}}
	moves = slices.DeleteFunc(slices.Clone(moves), func(m Move) bool { return slices.Equal(m.Old, m.New) })
	slices.SortFunc(moves, func(a, b Move) int { return cmp.Compare(a.VB, b.VB) })
	s.left = len(moves)
	s.plan(moves)
	for number := range s.nodes {
		s.nodes[number].countdown = s.limits.group()
		s.free(number)
	}
	return s
}

func (l Limits) withDefaults() Limits {
	l.BackfillsPerNode = cmp.Or(max(0, l.BackfillsPerNode), defaultBackfills)
	l.MovesPerNode = cmp.Or(max(0, l.MovesPerNode), defaultMoves)
	return l
}

func (l Limits) group() int { return cmp.Or(max(0, l.MovesPerCompaction), compactionGroup) }

// Done reports whether nothing is left to start, nothing is in flight, and nothing is being compacted.
func (s *Schedule) Done() bool {
	return s.Remaining() == 0 && !slices.ContainsFunc(s.nodes, func(n node) bool { return n.compacting })
}

// Remaining is the number of moves that are not done, those in flight included.
func (s *Schedule) Remaining() int { return s.left + len(s.inFlight) }

// Progress is each node's share, 0 to 1, of its parts in moves that is done. A node has a part in a move as its old
// active and one as its new active; nodes that have none, because they only get replicas, are not in it. It never goes
// back.
func (s *Schedule) Progress() map[string]float64 {
	progress := make(map[string]float64, len(s.nodes))
	for number, n := range s.nodes {
		if n.initial > 0 {
			progress[s.names[number]] = 1 - float64(n.remaining)/float64(n.initial)
		}
	}
	return progress
}

// BackfillDone says that the started move of vb has its data where it must be: others may use its places. Saying it
// again changes nothing. It panics if the move is not in flight.
func (s *Schedule) BackfillDone(vb int) {
	move := s.flying(vb)
	if !move.backfilling {
		return
	}
	move.backfilling = false
	s.inFlight[vb] = move
	g := &s.groups[move.group]
	for _, number := range g.backfill {
		s.nodes[number].backfills--
		s.full[number] = s.nodes[number].backfills >= s.limits.BackfillsPerNode
		s.free(number)
	}
	for _, link := range g.links {
		s.links[link]--
	}
}

// MoveDone says that the started move of vb is over, and with it its backfill. It panics if the move is not in flight.
func (s *Schedule) MoveDone(vb int) {
	s.BackfillDone(vb)
	move := s.flying(vb)
	delete(s.inFlight, vb)
	if move.group == noGroup {
		return
	}
	g := &s.groups[move.group]
	for _, number := range g.ends() {
		n := &s.nodes[number]
		if n.moves == s.limits.MovesPerNode {
			s.free(number)
		}
		n.moves--
	}
	s.nodes[g.from].remaining--
	s.nodes[g.to].remaining--
	if g.handover() {
		s.nodes[g.to].towards--
	}
}

func (s *Schedule) flying(vb int) flight {
	move, ok := s.inFlight[vb]
	if !ok {
		panic(fmt.Sprintf("schedule: vb %d is not in flight", vb))
	}
	return move
}

// free marks a node as able to do more.
func (s *Schedule) free(number int) {
	if n := &s.nodes[number]; !n.fresh {
		n.fresh = true
		s.fresh = append(s.fresh, number)
	}
}

// freeAll makes the next round look at all nodes.
func (s *Schedule) freeAll() {
	for number := range s.nodes {
		s.free(number)
	}
}

// active is the first member of a chain, empty if there is none.
func active(chain []string) string {
	if len(chain) == 0 {
		return ""
	}
	return chain[0]
}
