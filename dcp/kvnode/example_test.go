package kvnode_test

import (
	"fmt"
	"io"
	"net"

	"github.com/shearpin/shearpin/dcp/kvnode"
	"github.com/shearpin/shearpin/dcp/mcbp"
)

// A node with one active vbucket, and a client that writes a document and reads it back.
func ExampleStart() {
	node, err := kvnode.Start(kvnode.Options{Name: "n0"})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer node.Close()
	if err := node.CreateBucket("orders", 64); err != nil {
		fmt.Println(err)
		return
	}
	socket, err := net.Dial("tcp", node.Addr())
	if err != nil {
		fmt.Println(err)
		return
	}
	defer socket.Close()

	for _, p := range []*mcbp.Packet{
		{Opcode: mcbp.OpSelectBucket, Key: []byte("orders")},
		{Opcode: mcbp.OpSetVBucket, VBucket: 7, Extras: []byte{byte(mcbp.VBucketActive)}},
		{Opcode: mcbp.OpSet, VBucket: 7, Extras: make([]byte, 8), Key: []byte("order-1"), Value: []byte("two apples")},
		{Opcode: mcbp.OpGet, VBucket: 7, Key: []byte("order-1")},
		{Opcode: mcbp.OpGet, VBucket: 8, Key: []byte("order-1")},
	} {
		answer, err := call(socket, p)
		if err != nil {
			fmt.Println(err)
			return
		}
		fmt.Printf("%v: %v %q\n", answer.Opcode(), answer.Status(), answer.Value())
	}
	// Output:
	// SELECT_BUCKET: success (0x00) ""
	// SET_VBUCKET: success (0x00) ""
	// SET: success (0x00) ""
	// GET: success (0x00) "two apples"
	// GET: not my vbucket (0x07) ""
}

// call sends a request and reads its answer.
func call(socket net.Conn, p *mcbp.Packet) (mcbp.Frame, error) {
	if _, err := socket.Write(p.Frame()); err != nil {
		return nil, err
	}
	header := make(mcbp.Frame, mcbp.HeaderLen)
	if _, err := io.ReadFull(socket, header); err != nil {
		return nil, err
	}
	answer := make(mcbp.Frame, mcbp.HeaderLen+int(header.BodyLen()))
	copy(answer, header)
	_, err := io.ReadFull(socket, answer[mcbp.HeaderLen:])
	return answer, err
}
