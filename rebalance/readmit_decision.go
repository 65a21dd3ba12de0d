package rebalance

import (
	"github.com/shearpin/shearpin/dcp/mcbp"
	"github.com/shearpin/shearpin/rebalance/vbmap"
)

// A node that joins a bucket may have copies from an earlier time, as one that was failed over and is added back. Copies
// whose history is contained in their active's are worth keeping: as replicas they go on where they ended. So they get the
// places of the chain that are free, before the janitor, which deletes what no chain names, sees them (rebalance.md §9.8).

// readmitCase is what is known of one vbucket.
type readmitCase struct {
	VB    uint16
	Chain vbmap.Chain
	// Joining are the nodes that join, in order of preference.
	Joining []string
	// Copies are those of the chain's active and of the joining nodes.
	Copies map[string]janitorCopy
}

// decideReadmission is the chain with the copies that are taken up: as it is, if there are none; of the same length; and
// with the same active, unless there is none. The error is *[HistoryNeeded].
func decideReadmission(c readmitCase) (vbmap.Chain, error) {
	j := &janitorView{vb: c.VB, chain: c.Chain, servers: c.Joining, copies: c.Copies}
	returning := j.withData(without(c.Joining, c.Chain...))
	active := c.Chain.Active()
	if len(c.Chain.Members()) == 0 && len(returning) > 0 {
		best, err := j.pick(returning, returning)
		if err != nil || best == vbmap.Undefined {
			return c.Chain, err
		}
		active = best
	} else if c.Copies[active].State != mcbp.VBucketActive {
		return c.Chain, nil // the janitor has to look at it first
	}
	members := distinct(c.Chain.Members(), vbmap.Chain{active}.Members())
	for _, node := range without(returning, active) {
		if len(members) >= len(c.Chain) {
			break
		}
		switch contains(c.Copies[active], c.Copies[node]) {
		case yes:
			members = append(members, node)
		case unread:
			return c.Chain, j.needHistory([]string{active, node})
		case no:
		}
	}
	return vbmap.Chain(members).Aligned(len(c.Chain)), nil
}
