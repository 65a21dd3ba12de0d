package dcp_test

import (
	"context"
	"fmt"
	"time"

	"github.com/shearpin/shearpin/actors"
	"github.com/shearpin/shearpin/dcp"
	"github.com/shearpin/shearpin/dcp/kv"
	"github.com/shearpin/shearpin/dcp/kvnode"
	"github.com/shearpin/shearpin/dcp/mcbp"
)

// Replicate vbucket 0 of a bucket from node n0 to node n1.
func Example() {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	n0, stop0 := startNode(ctx, "n0", mcbp.VBucketActive)
	defer stop0()
	n1, stop1 := startNode(ctx, "n1", mcbp.VBucketReplica)
	defer stop1()
	nodes := map[string]kv.Endpoint{"n0": n0, "n1": n1}

	system := actors.NewSystem(actors.Options{})
	manager, err := dcp.Start(ctx, dcp.Options{
		System: system, Bucket: "orders", Consumer: "n1",
		Endpoints: func(node string) (kv.Endpoint, bool) { e, ok := nodes[node]; return e, ok },
	})
	check(err)
	check(manager.Prepare(ctx, 1))
	check(manager.Apply(ctx, 1, "", map[uint16]string{0: "n0"}))

	status, err := manager.Status(ctx)
	check(err)
	for _, link := range status.Links {
		fmt.Println(link.Producer, link.State, link.Streams)
	}
	check(manager.Stop(ctx))
	check(system.Close(ctx))
	// Output: n0 up [0]
}

// startNode runs an embedded node that holds vbucket 0 in a state.
func startNode(ctx context.Context, name string, state mcbp.VBucketState) (endpoint kv.Endpoint, stop func()) {
	node, err := kvnode.Start(kvnode.Options{Name: name, User: "manager", Password: "secret"})
	check(err)
	check(node.CreateBucket("orders", 1))
	endpoint = kv.Endpoint{Node: name, Addr: node.Addr(), Credentials: kv.Credentials{User: "manager", Password: "secret"}}
	client, err := kv.Connect(ctx, endpoint, "orders")
	check(err)
	defer func() { check(client.Close()) }()
	check(client.SetVBucket(ctx, 0, state, nil))
	return endpoint, func() { check(node.Close()) }
}

func check(err error) {
	if err != nil {
		panic(err)
	}
}
