package rebalance

import (
	"maps"
	"slices"

	"github.com/shearpin/shearpin/dcp/kv"
	"github.com/shearpin/shearpin/dcp/mcbp"
	"github.com/shearpin/shearpin/rebalance/vbmap"
)

// The janitor repairs vbuckets whose copies are not as the map wants them: after a rebalance that failed, after a node
// or a manager came back. What it does with one vbucket is decided here, from what the map says and what the nodes
// answered, and nothing else (rebalance.md §8.3, design §6).
//
// An active copy beats the map, because a takeover that completed must not be undone; the map beats everything else.
// Where that could lose data, nothing is changed and the decision says why.

// janitorCase is all that is known of one vbucket.
type janitorCase struct {
	VB uint16
	// Chain is in force.
	Chain vbmap.Chain
	// FastForward is the chain that the last rebalance wanted; nil if there is none.
	FastForward vbmap.Chain
	// Servers is every node that holds the bucket.
	Servers []string
	// FailedOver is the nodes that the operator gave up: nobody waits for them, and they are members of nothing any
	// more.
	FailedOver []string
	// Discard is the nodes whose copies the operator gave up, though they may have what others lack.
	Discard []string
	// Unfenced is the nodes on which a takeover of this vbucket was abandoned and could not be fenced: their copies may
	// still become active by themselves.
	Unfenced []string
	// Copies has one entry for every server that answered; a server without a copy answers mcbp.VBucketMissing.
	Copies map[string]janitorCopy
}

// janitorCopy is what a server said of its copy.
type janitorCopy struct {
	State mcbp.VBucketState
	// Topology is that of the last SET_VBUCKET.
	Topology [][]string
	// HighSeqno is the last seqno of the copy; 0 is an empty one.
	HighSeqno uint64
	// HighPrepared is the seqno of the last durable write that the copy knows of; only a failover that may lose data asks.
	HighPrepared uint64
	// UUID is the newest branch of the copy's history.
	UUID uint64
	// FailoverLog is the whole history, newest branch first. It may stay nil until a decision asks for it with
	// *HistoryNeeded; a log that cannot be read is empty, and then nothing is concluded from it.
	FailoverLog []kv.FailoverEntry
}

// exists reports whether there is a copy at all, with data or without.
func (c janitorCopy) exists() bool { return c.State != mcbp.VBucketMissing }

// hasData reports whether deleting the copy would delete something.
func (c janitorCopy) hasData() bool { return c.exists() && c.HighSeqno > 0 }

// janitorDecision is what to do with one vbucket.
type janitorDecision struct {
	VB uint16
	// Hold is why nothing may be changed now: one of *WaitingForNodes, *UnknownVBucket, *HistoryNeeded, *Conflict,
	// *StrayData and *NoData. If it is not nil, Chain is the one in force, nothing else is set, and streams that are
	// live stay.
	Hold error
	// Chain is what the map must say before any action is carried out. It has the length of the chain in force.
	Chain vbmap.Chain
	// Actions is the first phase: what to make of copies that are not as they should be, at most one per node, by node.
	// They may be carried out in any order, at the same time, and in part. Streams of the vbucket that are not in
	// Streams are closed before.
	Actions []copyAction
	// Streams is the second phase, for when all actions have succeeded: the replica streams to be live.
	Streams []vbmap.Stream
	// Again says that the vbucket is not yet as it shall be after this: the nodes must be asked once more, then decide
	// again.
	Again bool
	// Kept is the nodes whose copies nobody needs, but which hold data that the active lacks.
	Kept []string
	// Discarded is the nodes of which such a copy is deleted all the same.
	Discarded []string
}

// copyAction changes the copy of one node.
type copyAction struct {
	Node string
	// State is what the copy becomes; mcbp.VBucketMissing deletes it, any other creates it where there is none.
	State mcbp.VBucketState
	// Topology comes with an active: the one chain that durable writes must satisfy.
	Topology [][]string
}

// decideVBucket is the janitor's decision. Of the copies at most one is active when the actions, or some of them, have
// been carried out, provided that was so before; no copy is deleted but one whose data the active has, or that was given up. Once the actions
// have been carried out and Again is not set, the next decision is the same chain without actions.
func decideVBucket(c janitorCase) janitorDecision {
	j := newJanitorView(c)
	held := func(err error) janitorDecision {
		return janitorDecision{VB: c.VB, Hold: err, Chain: c.Chain.Clone()}
	}
	if len(c.Unfenced) > 0 {
		return held(&UnknownVBucket{VB: c.VB, Nodes: sorted(c.Unfenced)})
	}
	members := j.members()
	if silent := j.silent(members); len(silent) > 0 {
		return held(&WaitingForNodes{VB: c.VB, Nodes: silent})
	}
	actives := j.inState(mcbp.VBucketActive)
	if !slices.ContainsFunc(actives, func(node string) bool { return slices.Contains(members, node) }) {
		if silent := j.silent(j.servers); len(silent) > 0 {
			return held(&WaitingForNodes{VB: c.VB, Nodes: silent})
		}
	}
	var decision janitorDecision
	var err error
	switch len(actives) {
	case 0:
		decision, err = j.decideNoActive()
	case 1:
		decision, err = j.decideOneActive(actives[0])
	default:
		decision, err = j.decideSeveralActive(actives)
	}
	if err != nil {
		return held(err)
	}
	decision.VB = c.VB
	return decision
}

// janitorView is a case put in order: nodes that were failed over are gone, and servers are listed in the order in
// which they are preferred: the chain, the fast-forward chain, the others by name.
type janitorView struct {
	vb          uint16
	chain       vbmap.Chain
	fastForward vbmap.Chain
	servers     []string
	discard     []string
	copies      map[string]janitorCopy
}

func newJanitorView(c janitorCase) *janitorView {
	j := &janitorView{
		vb:          c.VB,
		chain:       c.Chain.Without(c.FailedOver...),
		fastForward: c.FastForward.Without(c.FailedOver...),
		discard:     c.Discard,
		copies:      c.Copies,
	}
	gone := func(node string) bool { return slices.Contains(c.FailedOver, node) }
	if len(c.FailedOver) > 0 {
		j.copies = maps.Clone(c.Copies)
		maps.DeleteFunc(j.copies, func(node string, _ janitorCopy) bool { return gone(node) })
	}
	others := slices.AppendSeq(slices.DeleteFunc(slices.Clone(c.Servers), gone), maps.Keys(j.copies))
	j.servers = distinct(j.chain.Members(), j.fastForward.Members(), sorted(others))
	return j
}

// silent is those of nodes that did not answer, by name.
func (j *janitorView) silent(nodes []string) []string {
	var silent []string
	for _, node := range nodes {
		if _, answered := j.copies[node]; !answered {
			silent = append(silent, node)
		}
	}
	return sorted(silent)
}

// inState is the servers whose copy is in a state, in order of preference.
func (j *janitorView) inState(state mcbp.VBucketState) []string {
	var nodes []string
	for _, node := range j.servers {
		if c, answered := j.copies[node]; answered && c.State == state {
			nodes = append(nodes, node)
		}
	}
	return nodes
}

// withData is those of nodes that hold data, in their order.
func (j *janitorView) withData(nodes []string) []string {
	var holders []string
	for _, node := range nodes {
		if j.copies[node].hasData() {
			holders = append(holders, node)
		}
	}
	return holders
}

// members is who is in one of the two chains, in order of preference.
func (j *janitorView) members() []string {
	return distinct(j.chain.Members(), j.fastForward.Members())
}

// sorted is a sorted copy of nodes.
func sorted(nodes []string) []string {
	nodes = slices.Clone(nodes)
	slices.Sort(nodes)
	return nodes
}

// distinct is the members of all lists in order, each once.
func distinct(lists ...[]string) []string {
	all := make([]string, 0, 8)
	for _, list := range lists {
		for _, node := range list {
			if !slices.Contains(all, node) {
				all = append(all, node)
			}
		}
	}
	return all
}
