package rebalance

import (
	"slices"

	"github.com/shearpin/shearpin/dcp/mcbp"
	"github.com/shearpin/shearpin/rebalance/vbmap"
)

// apply finds what has to be done on each node so that the copies are as chain wants them, with active, its first
// member.
//
// Copies that nobody needs are deleted only when the active is active already: until then it may still fail, and they
// are what is left.
func (j *janitorView) apply(active string, chain vbmap.Chain) (janitorDecision, error) {
	decision := janitorDecision{Chain: chain.Clone()}
	confirmed := j.copies[active].State == mcbp.VBucketActive
	topology := [][]string{chain.Clone()}
	for _, node := range sorted(j.servers) {
		c, answered := j.copies[node]
		switch {
		case !answered:
		case node == active:
			if c.State != mcbp.VBucketActive || !slices.EqualFunc(c.Topology, topology, slices.Equal) {
				decision.Actions = append(decision.Actions, copyAction{Node: node, State: mcbp.VBucketActive, Topology: topology})
			}
		case chain.Contains(node):
			if c.State != mcbp.VBucketReplica {
				decision.Actions = append(decision.Actions, copyAction{Node: node, State: mcbp.VBucketReplica})
			}
		case !c.exists():
		case !confirmed:
			decision.Again = true
		default:
			switch contains(j.copies[active], c) {
			case yes:
				decision.Actions = append(decision.Actions, copyAction{Node: node, State: mcbp.VBucketMissing})
			case no:
				if slices.Contains(j.discard, node) {
					decision.Actions = append(decision.Actions, copyAction{Node: node, State: mcbp.VBucketMissing})
					decision.Discarded = append(decision.Discarded, node)
					continue
				}
				decision.Kept = append(decision.Kept, node)
			case unread:
				return janitorDecision{}, j.needHistory([]string{active, node})
			}
		}
	}
	for _, replica := range chain.Replicas() {
		decision.Streams = append(decision.Streams, vbmap.Stream{VB: int(j.vb), Producer: active, Consumer: replica})
	}
	return decision, nil
}
