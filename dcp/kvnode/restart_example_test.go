package kvnode_test

import (
	"context"
	"encoding/binary"
	"fmt"
	"net"
	"os"

	"github.com/shearpin/shearpin/dcp/kvnode"
	"github.com/shearpin/shearpin/dcp/mcbp"
)

// A node is killed while its disk stands still. What had come to the disk before is there again, at the same address; what
// had not is gone, and the failover log says where the history that other copies may know has ended.
func ExampleNode_Kill() {
	dir, err := os.MkdirTemp("", "node")
	if err != nil {
		fmt.Println(err)
		return
	}
	defer func() { _ = os.RemoveAll(dir) }()
	node, err := kvnode.Start(kvnode.Options{Name: "n0", Dir: dir})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer node.Close()
	if err := node.CreateBucket("orders", 64); err != nil {
		fmt.Println(err)
		return
	}
	ask := func(packets ...*mcbp.Packet) {
		socket, err := net.Dial("tcp", node.Addr())
		if err != nil {
			fmt.Println(err)
			return
		}
		defer socket.Close()
		packets = append([]*mcbp.Packet{{Opcode: mcbp.OpSelectBucket, Key: []byte("orders")}}, packets...)
		for _, p := range packets {
			p.VBucket = 7
			answer, err := call(socket, p)
			if err != nil {
				fmt.Println(err)
				return
			}
			if p.Opcode == mcbp.OpSet || p.Opcode == mcbp.OpGet {
				fmt.Printf("%v %s: %v\n", answer.Opcode(), p.Key, answer.Status())
			}
		}
	}

	ask(
		&mcbp.Packet{Opcode: mcbp.OpSetVBucket, Extras: []byte{byte(mcbp.VBucketActive)}},
		&mcbp.Packet{Opcode: mcbp.OpSet, Extras: make([]byte, 8), Key: []byte("order-1"), Value: []byte("two apples")},
		&mcbp.Packet{Opcode: mcbp.OpSeqnoPersistence, Extras: binary.BigEndian.AppendUint64(nil, 1)},
	)
	node.SetDiskRate(kvnode.DiskStalled)
	ask(&mcbp.Packet{Opcode: mcbp.OpSet, Extras: make([]byte, 8), Key: []byte("order-2"), Value: []byte("a pear")})

	node.Kill()
	node.SetDiskRate(0)
	if err := node.Restart(); err != nil {
		fmt.Println(err)
		return
	}
	if err := node.Warm(context.Background()); err != nil {
		fmt.Println(err)
		return
	}
	ask(
		&mcbp.Packet{Opcode: mcbp.OpGet, Key: []byte("order-1")},
		&mcbp.Packet{Opcode: mcbp.OpGet, Key: []byte("order-2")},
	)
	// Output:
	// SET order-1: success (0x00)
	// SET order-2: success (0x00)
	// GET order-1: success (0x00)
	// GET order-2: not found (0x01)
}
