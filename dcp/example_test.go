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

// Replicate a bucket from node n0 to node n1.
func Example() {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	nodes := startNodes(ctx, "n0", "n1") // all vbuckets of orders are active on n0 and replicas on n1
	defer nodes.close()
	nodes.write(ctx, "n0", 100)

	system := actors.NewSystem(actors.Options{})
	defer system.Close(ctx)
	manager, err := dcp.Start(ctx, dcp.Options{System: system, Bucket: "orders", Consumer: "n1", Endpoints: nodes.endpoint})
	check(err)
	check(manager.Prepare(ctx, 1))
	wanted := map[uint16]string{}
	for vb := range uint16(vbuckets) {
		wanted[vb] = "n0"
	}
	check(manager.Apply(ctx, 1, "", wanted)) // all streams are live, or this is the reason why not

	status, err := manager.Status(ctx)
	check(err)
	for _, link := range status.Links {
		fmt.Printf("%s→%s: %s, %d streams\n", link.Producer, status.Consumer, link.State, len(link.Streams))
	}
	nodes.write(ctx, "n0", 50)
	nodes.await(ctx, "n1", 150)
	fmt.Println("150 documents have arrived")
	check(manager.Shut(ctx)) // streams first, then connections
	check(manager.Stop(ctx))
	// Output:
	// n0→n1: up, 16 streams
	// 150 documents have arrived
}

const vbuckets = 16

// exampleNodes are embedded nodes with a bucket named orders, by name.
type exampleNodes map[string]*kvnode.Node

// startNodes runs nodes of which the first one has the active copies, the others replicas.
func startNodes(ctx context.Context, names ...string) exampleNodes {
	nodes := exampleNodes{}
	for i, name := range names {
		node, err := kvnode.Start(kvnode.Options{Name: name, User: "manager", Password: "secret"})
		check(err)
		nodes[name] = node
		check(node.CreateBucket("orders", vbuckets))
		state := mcbp.VBucketActive
		if i > 0 {
			state = mcbp.VBucketReplica
		}
		nodes.with(ctx, name, func(client *kv.Client) {
			for vb := range uint16(vbuckets) {
				check(client.SetVBucket(ctx, vb, state, nil))
			}
		})
	}
	return nodes
}

func (n exampleNodes) endpoint(name string) (kv.Endpoint, bool) {
	node, ok := n[name]
	if !ok {
		return kv.Endpoint{}, false
	}
	return kv.Endpoint{Node: name, Addr: node.Addr(), Credentials: kv.Credentials{User: "manager", Password: "secret"}}, true
}

func (n exampleNodes) with(ctx context.Context, name string, do func(*kv.Client)) {
	endpoint, _ := n.endpoint(name)
	client, err := kv.Connect(ctx, endpoint, "orders")
	check(err)
	defer func() { check(client.Close()) }()
	do(client)
}

// write sets documents, in all vbuckets one after another.
func (n exampleNodes) write(ctx context.Context, name string, documents int) {
	n.with(ctx, name, func(client *kv.Client) {
		for i := range documents {
			_, err := client.Set(ctx, uint16(i%vbuckets), fmt.Sprint("order ", i), []byte("paid"), 0, 0, 0)
			check(err)
		}
	})
}

// await returns when a node has so many changes of all vbuckets together.
func (n exampleNodes) await(ctx context.Context, name string, changes uint64) {
	n.with(ctx, name, func(client *kv.Client) {
		for sum := uint64(0); sum < changes; {
			infos, err := client.VBuckets(ctx)
			check(err)
			sum = 0
			for _, info := range infos {
				sum += info.HighSeqno
			}
		}
	})
}

func (n exampleNodes) close() {
	for _, node := range n {
		check(node.Close())
	}
}

func check(err error) {
	if err != nil {
		panic(err)
	}
}
