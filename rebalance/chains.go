package rebalance

import (
	"slices"

	"github.com/shearpin/shearpin/rebalance/vbmap"
)

// without is the defined members of a chain that are none of nodes, in order.
func without(chain vbmap.Chain, nodes ...string) vbmap.Chain {
	return slices.DeleteFunc(chain.Members(), func(node string) bool { return slices.Contains(nodes, node) })
}
