package schedule

import "slices"

// rule is the dumb second implementation: it looks at every move each time and counts everything anew (rebalance.md
// §5.1 to §5.3). Only the countdowns, which depend on when compactions happened, it reads from the schedule it checks.
type rule struct {
	limits     Limits
	left, lost []Move
	flying     map[int]Move
	filling    map[int]Move
}

func newRule(moves []Move, limits Limits) *rule {
	r := &rule{limits: limits.withDefaults(), flying: map[int]Move{}, filling: map[int]Move{}}
	for _, move := range moves {
		switch {
		case slices.Equal(move.Old, move.New):
		case active(move.Old) == "":
			r.lost = append(r.lost, move)
		default:
			r.left = append(r.left, move)
		}
	}
	return r
}

func (r *rule) backfillDone(vb int) { delete(r.filling, vb) }

func (r *rule) moveDone(vb int) {
	delete(r.filling, vb)
	delete(r.flying, vb)
}

// backfillNodes is A, N if it is another, and every defined new replica that is not in the old chain.
func backfillNodes(m Move) []string {
	nodes := []string{active(m.Old)}
	for i, name := range m.New {
		if name != "" && !slices.Contains(nodes, name) && (i == 0 || !slices.Contains(m.Old, name)) {
			nodes = append(nodes, name)
		}
	}
	return nodes
}

func (r *rule) next(s *Schedule) []int {
	started := vbuckets(r.lost)
	r.lost = nil
	countdowns := map[string]int{}
	compacting := map[string]bool{}
	for number, name := range s.names {
		countdowns[name] = s.nodes[number].countdown
		compacting[name] = s.nodes[number].compacting
	}
	// The schedule has made its choice already; take back what its starts counted down.
	for _, move := range s.inFlight {
		if move.group == noGroup || !s.groups[move.group].handover() {
			continue
		}
		for _, number := range s.groups[move.group].ends() {
			countdowns[s.names[number]]++
		}
	}
	for _, move := range r.flying {
		r.count(move, countdowns)
	}
	for {
		best := -1
		var bestScore [6]int
		for i, move := range r.left {
			if !r.possible(move, countdowns, compacting) {
				continue
			}
			score := r.score(move, countdowns)
			if best < 0 || slices.Compare(score[:], bestScore[:]) > 0 {
				best, bestScore = i, score
			}
		}
		if best < 0 {
			return started
		}
		move := r.left[best]
		r.left = slices.Delete(r.left, best, best+1)
		r.flying[move.VB], r.filling[move.VB] = move, move
		r.count(move, countdowns)
		started = append(started, move.VB)
	}
}

func (r *rule) count(m Move, countdowns map[string]int) {
	if active(m.Old) != "" && active(m.Old) != active(m.New) {
		countdowns[active(m.Old)]--
		countdowns[active(m.New)]--
	}
}

func (r *rule) backfills(name string) int {
	n := 0
	for _, move := range r.filling {
		if slices.Contains(backfillNodes(move), name) {
			n++
		}
	}
	return n
}

func (r *rule) possible(m Move, countdowns map[string]int, compacting map[string]bool) bool {
	for _, name := range backfillNodes(m) {
		if r.backfills(name) >= r.limits.BackfillsPerNode {
			return false
		}
	}
	for _, end := range []string{active(m.Old), active(m.New)} {
		inFlight := 0
		for _, move := range r.flying {
			if active(move.Old) == end || active(move.New) == end {
				inFlight++
			}
		}
		if inFlight >= r.limits.MovesPerNode || compacting[end] || r.limits.MovesPerCompaction > 0 && countdowns[end] <= 0 {
			return false
		}
	}
	return true
}

func (r *rule) score(m Move, countdowns map[string]int) [6]int {
	from, to := active(m.Old), active(m.New)
	score := [6]int{5: m.VB}
	for _, name := range backfillNodes(m) {
		waiting := 0
		for _, other := range r.left {
			if slices.Contains(backfillNodes(other), name) {
				waiting++
			}
		}
		score[0] = max(score[0], waiting)
		score[3] -= r.backfills(name)
	}
	for _, member := range m.New {
		if member == "" || slices.Contains(m.Old, member) {
			continue
		}
		for _, move := range r.filling {
			if active(move.Old) == from && slices.Contains(move.New, member) && !slices.Contains(move.Old, member) {
				score[1]--
			}
		}
	}
	if from != to {
		score[2], score[4] = 1000, 1000-countdowns[to]-countdowns[from]
		for _, move := range r.flying {
			if active(move.New) == to && active(move.Old) != to {
				score[2]--
			}
		}
	}
	return score
}
