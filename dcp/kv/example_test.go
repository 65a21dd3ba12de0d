package kv_test

import (
	"context"
	"fmt"
	"time"

	"github.com/shearpin/shearpin/dcp/kv"
	"github.com/shearpin/shearpin/dcp/kvnode"
	"github.com/shearpin/shearpin/dcp/mcbp"
)

// A cluster manager creates a bucket on a node, makes a vbucket active there, and asks how far it has come.
func Example() {
	node, err := kvnode.Start(kvnode.Options{Name: "n0", User: "admin", Password: "secret"})
	if err != nil {
		panic(err)
	}
	defer node.Close()

	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	client, err := kv.Connect(ctx, kv.Endpoint{
		Node: "n0", Addr: node.Addr(), Credentials: kv.Credentials{User: "admin", Password: "secret"},
	}, "")
	if err != nil {
		panic(err) // a *kv.ConnectError, which names the step
	}
	defer client.Close()

	for _, do := range []func() error{
		func() error { return client.CreateBucket(ctx, "orders", "max_vbuckets=16") },
		func() error { return client.SelectBucket(ctx, "orders") },
		func() error { return client.EnableTraffic(ctx) },
		func() error { return client.SetVBucket(ctx, 3, mcbp.VBucketActive, [][]string{{"n0"}}) },
		func() error { _, err := client.Set(ctx, 3, "order-1", []byte("42"), 0, 0, 0); return err },
	} {
		if err := do(); err != nil {
			panic(err)
		}
	}
	info, err := client.VBucketSeqno(ctx, 3)
	fmt.Println(info.High, err)
	_, err = client.Get(ctx, 4, "order-2")
	fmt.Println(err)
	// Output:
	// 1 <nil>
	// GET vb 4: not my vbucket (0x07)
}
