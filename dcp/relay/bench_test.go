//go:build unix

package relay_test

import (
	"context"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/shearpin/shearpin/dcp/relay"
)

// BenchmarkThroughput compares the relay with io.Copy, and with a plain loop of a 64 KiB buffer, between the same kind of
// sockets. The two peers run in a process of their own, so the metric that counts, cpu-ns/KiB, is the moving of bytes alone.
func BenchmarkThroughput(b *testing.B) {
	movers := []struct {
		name string
		move func(consumer, producer net.Conn)
	}{
		{"relay", func(consumer, producer net.Conn) {
			_ = relay.New(relay.Config{Consumer: consumer, Producer: producer}).Run(context.Background())
		}},
		{"io.Copy", func(consumer, producer net.Conn) { _, _ = io.Copy(consumer, producer) }},
		{"loop", func(consumer, producer net.Conn) {
			_, _ = io.CopyBuffer(struct{ io.Writer }{consumer}, struct{ io.Reader }{producer}, make([]byte, 64<<10))
		}},
	}
	for _, value := range []int{64, 256, 1 << 10, 16 << 10, 256 << 10, 1 << 20, 8 << 20} {
		for _, m := range movers {
			b.Run(fmt.Sprintf("%d/%s", value, m.name), func(b *testing.B) { benchmarkMover(b, value, m.move) })
		}
	}
}

func benchmarkMover(b *testing.B, value int, move func(consumer, producer net.Conn)) {
	frame := mutation(1, 1, value)
	b.SetBytes(int64(len(frame)))
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(b, err)
	defer l.Close()
	peers := exec.Command(os.Args[0])
	peers.Env = append(os.Environ(), fmt.Sprintf("%s=%s %d %d", peersEnv, l.Addr(), value, b.N))
	peers.Stderr = os.Stderr
	require.NoError(b, peers.Start())
	consumer, err := l.Accept()
	require.NoError(b, err)
	producer, err := l.Accept()
	require.NoError(b, err)

	b.ResetTimer()
	before := cpu(b)
	_, err = producer.Write([]byte{1}) // the starting signal
	require.NoError(b, err)
	move(consumer, producer)
	used := cpu(b) - before
	b.StopTimer()
	_ = consumer.Close()
	_ = producer.Close()
	require.NoError(b, peers.Wait())
	b.ReportMetric(float64(used)/(float64(b.N)*float64(len(frame))/1024), "cpu-ns/KiB")
}

// cpu is the time this process has used, in nanoseconds.
func cpu(b *testing.B) int64 {
	var u syscall.Rusage
	require.NoError(b, syscall.Getrusage(syscall.RUSAGE_SELF, &u))
	return u.Utime.Nano() + u.Stime.Nano()
}
