//go:build !race

package rebalance

// exhaustiveStride leaves out nothing.
const exhaustiveStride = 1
