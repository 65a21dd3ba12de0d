// Package demo runs the whole of Shearpin once on embedded nodes: it loads documents, keeps writing, adds and removes
// nodes, rebalances, breaks something on request, and checks that what happened is what must happen and that no
// acknowledged write was lost.
//
// [Run] is the sequence. What must be seen is decided afterwards from the recorded observations, in expect.go, without
// looking at the cluster again. [Result] is the outcome as it is printed with --json.
package demo
