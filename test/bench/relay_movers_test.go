package bench

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"runtime/pprof"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/shearpin/shearpin/dcp/relay"
)

// mover is a way to get the bytes of a producer to a consumer, in a process of its own that listens for the consumer and
// connects to the producer.
type mover struct {
	name string
	// start starts the process. It listens on addr when start returns. usage, to be called when all bytes have arrived, says
	// what moving them has cost, and ends the process.
	start func(t testing.TB, producer string) (addr string, usage func() usage)
}

// usage is what a mover has used.
type usage struct {
	cpu     time.Duration
	mallocs uint64 // of Go's heap
}

const ourRelay, ioCopy = 0, 1

// ourMovers need nothing but this test.
var ourMovers = []mover{
	{"relay", again("relay")},
	{"io.Copy", again("io.Copy")},
	{"loop", again("loop")},
	{"scan", again("scan")},
}

// movers are the contenders, in the order of the rows: ours, and haproxy if it is installed.
func movers() []mover {
	all := slices.Clone(ourMovers)
	if path, err := exec.LookPath("haproxy"); err == nil {
		all = append(all, mover{"haproxy", func(t testing.TB, producer string) (string, func() usage) { return haproxy(t, path, producer) }})
	}
	return all
}

// profileEnv names a file for the CPU profile of a mover in the test binary; the last one wins.
const profileEnv = "SHEARPIN_BENCH_PROFILE"

// again is a mover in the test binary.
func again(kind string) func(testing.TB, string) (string, func() usage) {
	return func(t testing.TB, producer string) (addr string, _ func() usage) {
		p := cast(t, "mover", kind, producer)
		p.hear(&addr)
		return addr, func() (u usage) {
			p.hear(&u.cpu, &u.mallocs)
			p.done()
			return u
		}
	}
}

var moves = map[string]func(consumer, producer *net.TCPConn) error{
	"relay": func(consumer, producer *net.TCPConn) error {
		return relay.New(relay.Config{Consumer: consumer, Producer: producer}).Run(context.Background())
	},
	// Between two TCP sockets this is splice, where there is one.
	"io.Copy": func(consumer, producer *net.TCPConn) error {
		_, err := io.Copy(consumer, producer)
		return err
	},
	"loop": func(consumer, producer *net.TCPConn) error {
		_, err := io.CopyBuffer(struct{ io.Writer }{consumer}, struct{ io.Reader }{producer}, make([]byte, 64<<10))
		return err
	},
	"scan": scan,
}

// scan is what one would write first: it looks at every header and writes what it has read.
func scan(consumer, producer *net.TCPConn) error {
	const header = 24
	buf := make([]byte, 64<<10)
	start, end, skip := 0, 0, 0 // pending bytes, and how many of a frame are still to come
	for {
		n, err := producer.Read(buf[end:])
		if err != nil {
			return err
		}
		end += n
		at := min(start+skip, end)
		skip -= at - start
		for skip == 0 && end-at >= header {
			if m := buf[at]; m != 0x80 && m != 0x81 {
				return fmt.Errorf("magic %#x", m)
			}
			length := header + int(binary.BigEndian.Uint32(buf[at+8:]))
			skip = max(0, length-(end-at))
			at += length - skip
		}
		if _, err := consumer.Write(buf[start:at]); err != nil {
			return err
		}
		start, end = 0, copy(buf, buf[at:end])
	}
}

// playMover is the process of a mover. It says its address, and when all is moved the CPU time and the allocations that the
// moving has taken.
func playMover(args string, out io.Writer) error {
	var kind, addr string
	if _, err := fmt.Sscan(args, &kind, &addr); err != nil {
		return err
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	fmt.Fprintln(out, l.Addr())
	consumer, err := l.Accept()
	if err != nil {
		return err
	}
	producer, err := net.Dial("tcp", addr)
	if err != nil {
		return err
	}
	if path := os.Getenv(profileEnv); path != "" {
		f, err := os.Create(path)
		if err != nil {
			return err
		}
		if err := pprof.StartCPUProfile(f); err != nil {
			return err
		}
		defer pprof.StopCPUProfile()
	}
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	cpu := cpuTime()
	err = moves[kind](consumer.(*net.TCPConn), producer.(*net.TCPConn))
	cpu = cpuTime() - cpu
	runtime.ReadMemStats(&after)
	if err != nil && !errors.Is(err, io.EOF) {
		return err
	}
	_ = consumer.Close()
	_ = producer.Close()
	fmt.Fprintln(out, int64(cpu), after.Mallocs-before.Mallocs)
	return nil
}

// haproxy is haproxy, with one thread and leave to splice.
func haproxy(t testing.TB, path, producer string) (string, func() usage) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	addr := l.Addr().String()
	require.NoError(t, l.Close())
	config := filepath.Join(t.TempDir(), "haproxy.cfg")
	require.NoError(t, os.WriteFile(config, []byte(strings.Join([]string{
		"global", " nbthread 1",
		"defaults", " mode tcp", " option splice-auto", " timeout connect 10s", " timeout client 60s", " timeout server 60s",
		"listen l", " bind " + addr, " server s " + producer, "",
	}, "\n")), 0o600))
	p := launch(t, "haproxy", exec.Command(path, "-db", "-q", "-f", config))
	for begin := time.Now(); ; {
		// Not by connecting: whoever connects is the consumer.
		if listening(addr) {
			break
		}
		require.Less(t, time.Since(begin), 20*time.Second, "haproxy does not listen")
		runtime.Gosched()
	}
	before := scheduled(t, p.cmd.Process.Pid)
	return addr, func() usage {
		cpu := scheduled(t, p.cmd.Process.Pid) - before
		p.kill()
		return usage{cpu: cpu}
	}
}

// listening looks for a listener of IPv4 in the kernel's list.
func listening(addr string) bool {
	_, port, _ := net.SplitHostPort(addr)
	n, _ := strconv.Atoi(port)
	list, _ := os.ReadFile("/proc/net/tcp")
	return strings.Contains(string(list), fmt.Sprintf(":%04X 00000000:0000 0A", n))
}

// scheduled is the CPU time that the threads of a process have had, from the scheduler of Linux.
func scheduled(t testing.TB, pid int) (sum time.Duration) {
	t.Helper()
	files, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/schedstat", pid))
	require.NoError(t, err)
	require.NotEmpty(t, files)
	for _, f := range files {
		text, err := os.ReadFile(f)
		require.NoError(t, err)
		var ns time.Duration
		_, err = fmt.Sscan(string(text), &ns)
		require.NoError(t, err)
		sum += ns
	}
	return sum
}
