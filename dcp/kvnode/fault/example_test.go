package fault_test

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/shearpin/shearpin/dcp/kv"
	"github.com/shearpin/shearpin/dcp/kvnode"
	"github.com/shearpin/shearpin/dcp/kvnode/fault"
	"github.com/shearpin/shearpin/dcp/mcbp"
)

// Start three nodes, cut one, and see what the code under test makes of it.
func Example() {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	script := fault.NewScript(1)
	nodes := startNodes(script, "n0", "n1", "n2")
	for _, n := range nodes {
		defer n.Close()
	}
	fmt.Println("all up:", reachable(ctx, nodes))

	cut, err := script.Add(fault.Rule{Match: fault.Match{Node: "n1"}, Do: fault.Cut{}})
	check(err)
	fmt.Println("one cut:", reachable(ctx, nodes))
	check(cut.Wait(ctx, 1)) // it has been tried

	cut.Remove()
	fmt.Println("healed:", reachable(ctx, nodes))
	// Output:
	// all up: [n0 n1 n2]
	// one cut: [n0 n2]
	// healed: [n0 n1 n2]
}

// reachable is the code under test: it says which nodes can be talked to.
func reachable(ctx context.Context, nodes []*kvnode.Node) (names []string) {
	for _, n := range nodes {
		client, err := kv.Connect(ctx, kv.Endpoint{Node: n.Name(), Addr: n.Addr()}, "orders")
		if err == nil {
			names = append(names, n.Name())
			_ = client.Close()
		}
	}
	return names
}

// The second write of a vbucket is refused, and everything else works.
func ExampleScript_Add() {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	script := fault.NewScript(1)
	node := startNodes(script, "n0")[0]
	defer node.Close()
	client, err := kv.Connect(ctx, kv.Endpoint{Node: "n0", Addr: node.Addr()}, "orders")
	check(err)
	defer client.Close()
	check(client.SetVBucket(ctx, 7, mcbp.VBucketActive, nil))

	_, err = script.Add(fault.Rule{
		Match: fault.Match{Direction: fault.Received, Opcodes: []mcbp.Opcode{mcbp.OpSet}, VBuckets: []uint16{7}},
		After: 1, Times: 1,
		Do: fault.Answer{Status: mcbp.StatusTemporaryFailure},
	})
	check(err)
	for i := range 3 {
		_, err := client.Set(ctx, 7, "key", []byte("value"), 0, 0, 0)
		fmt.Printf("write %d is refused: %v\n", i, errors.Is(err, mcbp.StatusTemporaryFailure))
	}
	for _, s := range script.Strikes() {
		fmt.Printf("%v vb %d: %v\n", s.Opcode, s.VBucket, s.Action)
	}
	// Output:
	// write 0 is refused: false
	// write 1 is refused: true
	// write 2 is refused: false
	// SET vb 7: answer temporary failure (0x86)
}

func startNodes(script *fault.Script, names ...string) (nodes []*kvnode.Node) {
	for _, name := range names {
		n, err := kvnode.Start(kvnode.Options{Name: name, Faults: script})
		check(err)
		check(n.CreateBucket("orders", 64))
		nodes = append(nodes, n)
	}
	return nodes
}

func check(err error) {
	if err != nil {
		panic(err)
	}
}
