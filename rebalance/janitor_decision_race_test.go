//go:build race

package rebalance

// exhaustiveStride leaves out cases where the race detector, which has nothing to find in a decision, makes each of
// them ten times as slow. It shares no factor with the number of cases.
const exhaustiveStride = 11
