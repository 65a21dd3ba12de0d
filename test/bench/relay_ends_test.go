package bench

import (
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"net"
	"time"

	"github.com/shearpin/shearpin/dcp/mcbp"
)

// The two ends of a replication that does nothing but send documents, each a process.

// document is a frame with a value of n bytes.
func document(n int) mcbp.Frame {
	value := make([]byte, n)
	for i := range value {
		value[i] = byte(i) ^ byte(i>>8)
	}
	return (&mcbp.Packet{Opcode: mcbp.OpDCPMutation, Extras: make([]byte, 31), Key: []byte("key-00000001"), Value: value}).Frame()
}

// block is as many whole frames as are sent with one write, and how many that is.
func block(value int) ([]byte, int) {
	frame := document(value)
	n := max(1, (1<<20)/len(frame))
	b := make([]byte, 0, n*len(frame))
	for range n {
		b = append(b, frame...)
	}
	return b, n
}

// playProducer says its address, sends a number of blocks to whoever connects first, and closes. If it is to check, it says
// what their sum is.
func playProducer(args string, out io.Writer) error {
	var value, blocks int
	var check bool
	if _, err := fmt.Sscan(args, &value, &blocks, &check); err != nil {
		return err
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	fmt.Fprintln(out, l.Addr())
	conn, err := l.Accept()
	if err != nil {
		return err
	}
	b, _ := block(value)
	var sum uint32
	for range blocks {
		if check {
			sum = crc32.Update(sum, crc32.IEEETable, b)
		}
		if _, err := conn.Write(b); err != nil {
			return err
		}
	}
	fmt.Fprintln(out, sum)
	return conn.Close()
}

// playConsumer connects to a mover and reads until the end. It says how many bytes came, in which time from the first one,
// and, if it is to check, their sum.
func playConsumer(args string, out io.Writer) error {
	var addr string
	var check bool
	if _, err := fmt.Sscan(args, &addr, &check); err != nil {
		return err
	}
	conn, err := net.Dial("tcp", addr)
	if err != nil {
		return err
	}
	buf := make([]byte, 1<<20)
	var bytes int64
	var sum uint32
	var begin time.Time
	for {
		n, err := conn.Read(buf)
		if bytes == 0 {
			begin = time.Now()
		}
		bytes += int64(n)
		if check {
			sum = crc32.Update(sum, crc32.IEEETable, buf[:n])
		}
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return err
		}
	}
	fmt.Fprintln(out, bytes, int64(time.Since(begin)), sum)
	return conn.Close()
}
