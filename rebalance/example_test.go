package rebalance_test

import (
	"context"
	"fmt"
	"time"

	"github.com/shearpin/shearpin/dcp/kv"
	"github.com/shearpin/shearpin/dcp/kvnode"
	"github.com/shearpin/shearpin/rebalance"
)

// Create a replicated bucket on two nodes, then spread it over three.
func Example() {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	nodes := make([]rebalance.Node, 3)
	for i := range nodes {
		name := fmt.Sprintf("n%d", i)
		node, err := kvnode.Start(kvnode.Options{Name: name, User: "manager", Password: "secret"})
		check(err)
		defer node.Close()
		nodes[i] = rebalance.Node{Name: name, Addr: node.Addr()}
	}

	cluster, err := rebalance.Open(ctx, rebalance.Config{
		Nodes:       nodes[:2],
		Credentials: kv.Credentials{User: "manager", Password: "secret"},
	})
	check(err)
	defer cluster.Close(ctx)
	check(cluster.CreateBucket(ctx, rebalance.BucketConfig{Name: "orders", VBuckets: 12, Replicas: 1}))
	check(cluster.AddNode(ctx, nodes[2]))

	run, err := cluster.Rebalance(ctx, rebalance.Request{})
	check(err)
	for p := range run.Progress() {
		_ = p.Fraction // draw a bar
	}
	report, err := run.Wait(ctx)
	check(err)
	fmt.Println(report.Outcome, report.Cause)
	// Output: complete []
}

func check(err error) {
	if err != nil {
		panic(err)
	}
}
