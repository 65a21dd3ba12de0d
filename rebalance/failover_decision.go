package rebalance

import (
	"slices"

	"github.com/shearpin/shearpin/dcp/mcbp"
	"github.com/shearpin/shearpin/rebalance/vbmap"
)

// What becomes of a vbucket when nodes are given up is decided here, from what the map says and what the survivors answered
// after their streams from those nodes had ended (rebalance.md §8.7, design §6). The rules are the janitor's, with two more:
// where the surviving copies contradict each other nobody is promoted, and no copy is ever deleted.

// failoverCase is all that is known of one vbucket. Its FailedOver are the nodes that are given up.
type failoverCase struct {
	janitorCase
	// AllowUnsafe accepts that data is lost.
	AllowUnsafe bool
	// Fed is the survivors that still stream the vbucket from a node that is given up, and from which.
	Fed map[string]string
}

// failoverDecision is what to do with one vbucket.
type failoverDecision struct {
	// janitorDecision is what to do. Its Hold says why nothing is changed; it is errUntouched if the nodes have no part in
	// the vbucket.
	janitorDecision
	// Promoted says that the active is another one now.
	Promoted bool
	// Overruled says that the survivors contradict each other and one was chosen all the same.
	Overruled bool
	// Lost says that no copy is left: the chain is undefined.
	Lost bool
}

// decideFailover is the decision. A chain that is changed names none of the nodes any more, and has its old length. Its
// active has, unless the case allows to lose data, all that any survivor has.
func decideFailover(c failoverCase) failoverDecision {
	decision, err := failoverRule(c)
	if err != nil {
		return failoverDecision{janitorDecision: janitorDecision{VB: c.VB, Hold: err, Chain: c.Chain.Clone()}}
	}
	decision.VB = c.VB
	decision.Promoted = decision.Chain.Active() != c.Chain.Active() && !decision.Lost
	decision.Actions = slices.DeleteFunc(decision.Actions, func(a copyAction) bool { return a.State == mcbp.VBucketMissing })
	return decision
}

func failoverRule(c failoverCase) (failoverDecision, error) {
	if !slices.ContainsFunc(c.FailedOver, c.Chain.Contains) {
		return failoverDecision{}, errUntouched
	}
	j := newJanitorView(c.janitorCase)
	for _, node := range j.members() {
		if producer := c.Fed[node]; producer != vbmap.Undefined {
			return failoverDecision{}, &StillReplicating{VB: c.VB, Producer: producer, Consumer: node}
		}
	}
	if len(c.Unfenced) > 0 || len(j.silent(j.members())) > 0 || len(j.inState(mcbp.VBucketActive)) > 0 {
		// An active among the survivors, or nobody may change anything: as the janitor has it.
		decision := decideVBucket(c.janitorCase)
		return failoverDecision{janitorDecision: decision}, decision.Hold
	}
	if silent := j.silent(j.servers); len(silent) > 0 {
		return failoverDecision{}, &WaitingForNodes{VB: c.VB, Nodes: silent}
	}
	return j.replaceActive(c.AllowUnsafe)
}

// replaceActive chooses who becomes active. All surviving servers have answered, and none of them is it.
func (j *janitorView) replaceActive(unsafe bool) (failoverDecision, error) {
	members := slices.DeleteFunc(j.members(), func(node string) bool { return !j.copies[node].exists() })
	holders := j.withData(j.servers)
	candidates := j.withData(members)
	switch {
	case len(candidates) == 0 && len(holders) > 0:
		return j.lose(unsafe, &StrayData{VB: j.vb, Nodes: sorted(holders)})
	case len(members) == 0:
		return j.lose(unsafe, &NoData{VB: j.vb})
	case len(candidates) == 0: // an empty vbucket
		decision, err := j.apply(members[0], j.promoted(members[0]))
		return failoverDecision{janitorDecision: decision}, err
	}
	best, err := j.pick(candidates, holders)
	switch {
	case err != nil:
		return failoverDecision{}, err
	case best != vbmap.Undefined:
		decision, err := j.apply(best, j.promoted(best))
		return failoverDecision{janitorDecision: decision}, err
	case !unsafe:
		return failoverDecision{}, j.conflict(distinct(candidates, holders)...)
	}
	return j.overrule(candidates)
}

// lose gives a vbucket up of which no copy is left where it should be.
func (j *janitorView) lose(unsafe bool, why error) (failoverDecision, error) {
	if !unsafe {
		return failoverDecision{}, why
	}
	nobody := vbmap.Chain{}.Aligned(len(j.chain))
	return failoverDecision{janitorDecision: janitorDecision{Chain: nobody}, Lost: true}, nil
}

// overrule takes the copy with the most durable writes, then with the most writes, then the preferred one. Those that
// have what it lacks get no place in the chain, or they would roll back to it: their data stays.
func (j *janitorView) overrule(candidates []string) (failoverDecision, error) {
	best := candidates[0]
	for _, node := range candidates[1:] {
		if more(j.copies[node], j.copies[best]) {
			best = node
		}
	}
	chain := vbmap.Chain{best}
	for _, node := range j.chain.Without(best).Members() {
		if contains(j.copies[best], j.copies[node]) == yes {
			chain = append(chain, node)
		}
	}
	decision, err := j.apply(best, chain.Aligned(len(j.chain)))
	return failoverDecision{janitorDecision: decision, Overruled: true}, err
}

// more says whether a copy has more than another, whatever that is.
func more(a, b janitorCopy) bool {
	if a.HighPrepared != b.HighPrepared {
		return a.HighPrepared > b.HighPrepared
	}
	return a.HighSeqno > b.HighSeqno
}
