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
	nodes := map[string]kv.Endpoint{}
	for name, state := range map[string]mcbp.VBucketState{"n0": mcbp.VBucketActive, "n1": mcbp.VBucketReplica} {
		node, err := kvnode.Start(kvnode.Options{Name: name, User: "manager", Password: "secret"})
		check(err)
		defer node.Close()
		check(node.CreateBucket("orders", 1))
		nodes[name] = kv.Endpoint{Node: name, Addr: node.Addr(), Credentials: kv.Credentials{User: "manager", Password: "secret"}}
		client, err := kv.Connect(ctx, nodes[name], "orders")
		check(err)
		defer client.Close()
		check(client.SetVBucket(ctx, 0, state, nil))
	}

	system := actors.NewSystem(actors.Options{})
	defer system.Close(ctx)
	manager, err := dcp.Start(ctx, dcp.Options{
		System: system, Bucket: "orders", Consumer: "n1",
		Endpoints: func(node string) (kv.Endpoint, bool) { e, ok := nodes[node]; return e, ok },
	})
	check(err)
	defer manager.Stop(ctx)
	check(manager.Prepare(ctx, 1))
	check(manager.Apply(ctx, 1, "", map[uint16]string{0: "n0"}))

	status, err := manager.Status(ctx)
	check(err)
	for _, link := range status.Links {
		fmt.Println(link.Producer, link.State, link.Streams)
	}
	// Output: n0 up [0]
}

func check(err error) {
	if err != nil {
		panic(err)
	}
}
