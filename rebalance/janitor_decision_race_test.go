//go:build race

package rebalance

// exhaustiveStride leaves out cases where the race detector, which has nothing to find in a decision, makes each of
// them ten times as slow. It shares no factor with the number of cases.
const exhaustiveStride = 11

// fourNodesStride is the same for four nodes, of which there are too many cases for every run; -janitor.all tries them
// all.
const fourNodesStride = 53
