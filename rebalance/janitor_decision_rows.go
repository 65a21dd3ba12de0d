package rebalance

import (
	"slices"

	"github.com/shearpin/shearpin/dcp/mcbp"
	"github.com/shearpin/shearpin/rebalance/vbmap"
)

// decideNoActive chooses who becomes active. All servers have answered.
func (j *janitorView) decideNoActive() (janitorDecision, error) {
	members := j.members()
	holders := j.withData(j.servers)
	candidates := j.withData(members)
	switch {
	case len(candidates) == 0 && len(holders) > 0:
		return janitorDecision{}, &StrayData{VB: j.vb, Nodes: sorted(holders)}
	case len(candidates) == 0 && j.chain.Active() == vbmap.Undefined:
		return janitorDecision{}, &NoData{VB: j.vb}
	case len(candidates) == 0:
		return j.apply(j.chain.Active(), j.chain)
	}
	best, err := j.pick(candidates, holders)
	switch {
	case err != nil:
		return janitorDecision{}, err
	case best == vbmap.Undefined:
		// The map's choice stands against replicas, which roll back; but a dead copy may have been active and hold
		// writes that were acknowledged.
		best = j.chain.Active()
		if !slices.Contains(candidates, best) {
			return janitorDecision{}, j.conflict(candidates...)
		}
		if err := j.mustContain(best, j.inState(mcbp.VBucketDead)...); err != nil {
			return janitorDecision{}, err
		}
	}
	return j.apply(best, j.promoted(best))
}

// decideOneActive keeps the only active and asks which chain fits it.
func (j *janitorView) decideOneActive(node string) (janitorDecision, error) {
	chain := j.chainFor(node)
	if err := j.mustContain(node, j.mustSurvive(node, chain)...); err != nil {
		return janitorDecision{}, err
	}
	return j.apply(node, chain)
}

// mustSurvive is the copies whose data would be lost, or would roll back, with this active and chain although more than
// a replica's word stands for it.
func (j *janitorView) mustSurvive(node string, chain vbmap.Chain) []string {
	var nodes []string
	for _, member := range j.withData(j.members()) {
		state := j.copies[member].State
		switch {
		case member == node:
		case !j.copies[node].hasData(): // the active came up empty
			if !j.follows(member, node) {
				nodes = append(nodes, member)
			}
		case state == mcbp.VBucketDead && chain.Contains(member): // it may have been active
			nodes = append(nodes, member)
		case node != j.chain.Active() && member == j.chain.Active(): // the map believes in it
			nodes = append(nodes, member)
		case !j.chain.Contains(node) && !j.fastForward.Contains(node): // nobody expected this active
			nodes = append(nodes, member)
		}
	}
	return nodes
}

// follows reports whether a copy can only have its newest branch from the active of the chain, which went on while the
// nodes were being asked: then it is not ahead, however it looks.
func (j *janitorView) follows(node, active string) bool {
	c := j.copies[node]
	fed := c.State == mcbp.VBucketReplica || c.State == mcbp.VBucketPending
	return fed && active == j.chain.Active() && c.UUID == j.copies[active].UUID
}

// decideSeveralActive keeps the active whose history contains those of all others. The others only stop being active
// for now: what clients wrote to them since they were asked shows when they are asked again.
func (j *janitorView) decideSeveralActive(actives []string) (janitorDecision, error) {
	keep, err := j.pick(actives, actives)
	switch {
	case err != nil:
		return janitorDecision{}, err
	case keep == vbmap.Undefined:
		return janitorDecision{}, j.conflict(actives...)
	}
	demoted := *j
	demoted.copies = make(map[string]janitorCopy, len(j.copies))
	decision := janitorDecision{Chain: j.chain, Again: true}
	for node, c := range j.copies {
		if c.State == mcbp.VBucketActive && node != keep {
			c.State = mcbp.VBucketDead
		}
		demoted.copies[node] = c
	}
	if _, err := demoted.decideOneActive(keep); err != nil {
		return janitorDecision{}, err
	}
	for _, node := range sorted(actives) {
		if node != keep {
			decision.Actions = append(decision.Actions, copyAction{Node: node, State: mcbp.VBucketDead})
		}
	}
	return decision, nil
}

// chainFor is the chain that fits the only active, of the same length as the chain in force.
func (j *janitorView) chainFor(node string) vbmap.Chain {
	copies := len(j.chain)
	switch position := slices.Index(j.chain, node); {
	case position == 0:
		return j.chain
	case node == j.fastForward.Active() && j.fastForwardReady():
		return j.fastForward.Aligned(copies)
	case position > 0:
		return j.chain[position:].Aligned(copies)
	default:
		return vbmap.Chain{node}.Aligned(copies)
	}
}

// fastForwardReady reports whether the replicas of the fast-forward chain are there: in state replica or, for the old
// active only, dead.
func (j *janitorView) fastForwardReady() bool {
	for _, replica := range j.fastForward.Replicas() {
		switch j.copies[replica].State {
		case mcbp.VBucketReplica:
		case mcbp.VBucketDead:
			if replica != j.chain.Active() {
				return false
			}
		default:
			return false
		}
	}
	return true
}

// promoted is the chain after a member that was not active becomes it. Nobody loses a place whom the length of the
// chain leaves one; who has data comes first.
func (j *janitorView) promoted(node string) vbmap.Chain {
	switch {
	case node == j.chain.Active():
		return j.chain
	case node == j.fastForward.Active() && j.fastForwardReady():
		return j.fastForward.Aligned(len(j.chain))
	}
	chain := vbmap.Chain{node}
	members := j.chain.Without(node).Members()
	chain = append(chain, j.withData(members)...)
	return vbmap.Chain(distinct(chain, members)).Aligned(len(j.chain))
}
