//go:build !race

package rebalance

// exhaustiveStride leaves out nothing.
const exhaustiveStride = 1

// fourNodesStride leaves out most cases of four nodes, of which there are too many for every run; -janitor.all tries them
// all. It shares no factor with their number.
const fourNodesStride = 7
