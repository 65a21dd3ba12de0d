package relay_test

import (
	"fmt"
	"io"
	"net"
)

// peersEnv makes the test binary play the two KVs: address, size of values, number of frames.
const peersEnv = "RELAY_BENCH_PEERS"

func playPeers(arg string) error {
	var addr string
	var value, count int
	if _, err := fmt.Sscan(arg, &addr, &value, &count); err != nil {
		return err
	}
	consumer, err := net.Dial("tcp", addr)
	if err != nil {
		return err
	}
	producer, err := net.Dial("tcp", addr)
	if err != nil {
		return err
	}
	frame := mutation(1, 1, value)
	if _, err := io.ReadFull(producer, make([]byte, 1)); err != nil {
		return err
	}
	go func() {
		block := frame
		per := max(1, (1<<20)/len(frame))
		for range per - 1 {
			block = append(block, frame...)
		}
		for left := count; left > 0; left -= per {
			if _, err := producer.Write(block[:min(left, per)*len(frame)]); err != nil {
				return
			}
		}
	}()
	buf := make([]byte, 1<<20)
	for left := count * len(frame); left > 0; {
		n, err := consumer.Read(buf)
		if err != nil {
			return err
		}
		left -= n
	}
	return producer.Close()
}
