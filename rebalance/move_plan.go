package rebalance

import (
	"slices"

	"github.com/shearpin/shearpin/rebalance/vbmap"
)

// movePlan is what one vbucket's move comes to: its two chains and the sets of nodes that follow from them
// (rebalance.md §4.0). It does not change while the move runs.
type movePlan struct {
	VB       uint16
	Old, New vbmap.Chain
	// From is the old active, empty if the vbucket has no copy anywhere; To is the new active.
	From, To string
	// Build are the members of the new chain that must have all data before the switch: all but the old active.
	Build vbmap.Chain
	// Fed are the nodes whose stream from the old active must end before their next one begins.
	Fed vbmap.Chain
	// Follow are the members of the new chain that replicate from the new active in the end.
	Follow vbmap.Chain
	// Drop are the nodes that keep no copy.
	Drop vbmap.Chain
}

// planMove refuses a vbucket that has copies but no active: nothing may be made active while another node has its data
// (design §6).
func planMove(vb uint16, old, new vbmap.Chain) (movePlan, error) {
	p := movePlan{VB: vb, Old: old, New: new, From: old.Active(), To: new.Active()}
	if p.To == "" || (p.From == "" && len(old.Members()) > 0) {
		chain := old
		if p.To == "" {
			chain = new
		}
		return movePlan{}, &NoActive{VB: vb, Chain: chain}
	}
	p.Follow = without(new, p.To)
	p.Drop = without(old, new...)
	if p.From == "" {
		return p, nil
	}
	p.Build = without(new, p.From)
	if p.movesActive() {
		p.Fed = without(distinct(old.Members(), p.Build), p.From, p.To)
	} else {
		p.Fed = p.Drop
	}
	return p, nil
}

// movesActive says whether the vbucket gets another active; if not, only its replicas change.
func (p movePlan) movesActive() bool { return p.From != p.To }

// fromNothing says that there is no data to move: the vbucket is created.
func (p movePlan) fromNothing() bool { return p.From == "" }

// destination is the node that the move is named after: the new active, else the first new replica.
func (p movePlan) destination() string {
	if p.movesActive() {
		return p.To
	}
	for _, node := range p.Follow {
		if !slices.Contains(p.Old, node) {
			return node
		}
	}
	if len(p.Follow) > 0 {
		return p.Follow[0]
	}
	return p.To
}

// uses says whether the move depends on the replication from producer to consumer, before or after its switch.
func (p movePlan) uses(producer, consumer string) bool {
	if producer == p.From && slices.Contains(distinct(p.Build, p.Fed), consumer) {
		return true
	}
	return producer == p.To && slices.Contains(p.Follow, consumer)
}
