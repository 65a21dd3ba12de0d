// Package sim runs whole clusters, as they are shipped, in virtual time: embedded nodes, a manager with all its processes,
// writers, and a network in memory between them that is slow, stands still and breaks. A seed decides what happens to them and
// when; hours of it take a second. It contains no code for others.
//
//	go test ./test/sim -sims 1000 -v
//
// runs a thousand of them; -seed 17 runs that one alone. A seed decides the plan of faults, not the order in which goroutines
// run between two of them: a failure may need a few runs of its seed to come back.
//
// What must hold at every moment, and is looked at whenever nothing moves:
//
//   - no vbucket has two actives, whoever can be reached or not, but for nodes that were failed over;
//   - every rebalance, stop and failover ends within a bound, with an outcome, and if it failed with a cause.
//
// When the faults are over, whoever was given up is a member again, and the janitor has had its time:
//
//   - a rebalance over all nodes completes;
//   - every document has the value that was acknowledged last, or one that was tried later; where nodes are given up, a write
//     counts as acknowledged when all replicas have it;
//   - every replica is where the map has it, and equals its active;
//   - everything can be closed, and nobody is left.
package sim
