// Package rebalance moves vbuckets between KV nodes, and keeps them replicated and repaired.
//
// A [Cluster] is opened on a store and a list of nodes. It creates buckets, runs the replications between the nodes, and
// moves vbuckets to other nodes on request:
//
//	cluster, err := rebalance.Open(ctx, rebalance.Config{Nodes: nodes, Credentials: admin})
//	err = cluster.CreateBucket(ctx, rebalance.BucketConfig{Name: "orders", Replicas: 1})
//	err = cluster.AddNode(ctx, rebalance.Node{Name: "n3", Addr: "10.0.0.4:11210"})
//	run, err := cluster.Rebalance(ctx, rebalance.Request{})
//	for p := range run.Progress() {
//		fmt.Printf("%3.0f %%\n", 100*p.Fraction)
//	}
//	report, err := run.Wait(ctx)
//
// The parts, each a pure machine that decides and a process that acts:
//
//   - the orchestrator takes requests, and lets the janitor run between two rebalances;
//   - a rebalancer takes the buckets one after another;
//   - a mover starts the moves of one bucket as its schedule allows, and ends everything at the first failure;
//   - a move carries out the steps for one vbucket;
//   - an agent, one per node and bucket, alone changes vbucket states there, and only for the epoch it was prepared for;
//   - the janitor brings copies and streams back to what the map says, as far as nothing is lost by it;
//   - the publisher brings the maps to the nodes, where clients find them.
//
// A rebalance that fails tells why at once: [Report].Cause is the chain from the outermost layer to the frame. Nothing is
// undone then; the janitor repairs, and another rebalance goes on from the map as it is.
package rebalance
