package rebalance_test

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/shearpin/shearpin/dcp"
	"github.com/shearpin/shearpin/dcp/kv"
	"github.com/shearpin/shearpin/dcp/kvnode"
	"github.com/shearpin/shearpin/dcp/kvnode/fault"
	"github.com/shearpin/shearpin/dcp/mcbp"
	"github.com/shearpin/shearpin/rebalance"
)

// Start three nodes, break a replication into a fourth while a rebalance runs, and see the rebalance fail with the cause,
// and the next one complete.
func Example_faults() {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	script := fault.NewScript(1)
	nodes := make([]rebalance.Node, 4)
	for i := range nodes {
		name := fmt.Sprintf("n%d", i)
		node, err := kvnode.Start(kvnode.Options{Name: name, User: "manager", Password: "secret", Faults: script})
		check(err)
		defer node.Close()
		nodes[i] = rebalance.Node{Name: name, Addr: node.Addr()}
	}
	cluster, err := rebalance.Open(ctx, rebalance.Config{
		Nodes:       nodes[:3],
		Credentials: kv.Credentials{User: "manager", Password: "secret"},
	})
	check(err)
	defer cluster.Close(ctx)
	check(cluster.CreateBucket(ctx, rebalance.BucketConfig{Name: "orders", VBuckets: 12, Replicas: 1}))
	check(cluster.AddNode(ctx, nodes[3]))

	cut, err := script.Add(fault.Rule{
		Match: fault.Match{Node: "n3", Role: fault.Consumer, Opcodes: []mcbp.Opcode{mcbp.OpDCPAddStream}},
		Times: 1,
		Do:    fault.Close{How: fault.RST},
	})
	check(err)
	for range 2 {
		run, err := cluster.Rebalance(ctx, rebalance.Request{})
		check(err)
		report, err := run.Wait(ctx)
		check(err)
		fmt.Println(report.Outcome, errors.Is(report.Err, dcp.ErrSocketClosed), cut.Count())
	}
	// Output:
	// failed true 1
	// complete false 1
}
