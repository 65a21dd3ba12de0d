package bench

import (
	"context"
	"fmt"
	"net"
	"os"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"text/tabwriter"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/shearpin/shearpin/actors"
	"github.com/shearpin/shearpin/dcp"
	"github.com/shearpin/shearpin/dcp/kv"
	"github.com/shearpin/shearpin/dcp/mcbp"
	"github.com/shearpin/shearpin/dcp/relay"
)

// troupe is the replications into one node, whose engines and those of all its producers are scripted.
type troupe struct {
	t       testing.TB
	sys     *actors.System
	engines *part
	addr    string
	load    string
	endings *endings
}

func openTroupe(t testing.TB, victim, flood, load int) *troupe {
	t.Helper()
	w := &troupe{t: t, sys: actors.NewSystem(actors.Options{}), engines: cast(t, "engines", victim, flood, load), endings: new(endings)}
	w.engines.hear(&w.addr)
	w.engines.hear(&w.load)
	return w
}

func (w *troupe) close() {
	require.NoError(w.t, w.sys.Close(context.Background()))
	w.engines.kill()
}

// manager is a new manager of its own. Every node's name leads to the engines.
func (w *troupe) manager() *dcp.Manager {
	w.t.Helper()
	m, err := dcp.Start(context.Background(), dcp.Options{
		System: w.sys, Bucket: "orders", Consumer: "n1",
		Endpoints: func(node string) (kv.Endpoint, bool) {
			ep := kv.Endpoint{Node: node, Addr: w.addr}
			if node == "n0" {
				ep.Dial = w.endings.dial
			}
			return ep, true
		},
	})
	require.NoError(w.t, err)
	require.NoError(w.t, m.Prepare(context.Background(), 1))
	return m
}

// endings notes when a STREAM_END was read last, and how much went the other way.
type endings struct {
	last     atomic.Pointer[time.Time]
	opposite atomic.Int64 // bytes
}

func (e *endings) dial(ctx context.Context, network, addr string) (net.Conn, error) {
	conn, err := new(net.Dialer).DialContext(ctx, network, addr)
	if err != nil {
		return nil, err
	}
	return &endingConn{Conn: conn, endings: e}, nil
}

// endingConn is a producer's connection. The scripted producers write little at a time, so a read begins with a frame.
type endingConn struct {
	net.Conn
	endings *endings
}

func (c *endingConn) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	now := time.Now()
	for rest := b[:n]; ; {
		f, next, err := mcbp.Parse(rest, mcbp.DefaultMaxBody)
		if err != nil {
			break
		}
		if f.Opcode() == mcbp.OpDCPStreamEnd {
			c.endings.last.Store(&now)
		}
		rest = next
	}
	return n, err
}

func (c *endingConn) Write(b []byte) (int, error) {
	n, err := c.Conn.Write(b)
	c.endings.opposite.Add(int64(n))
	return n, err
}

// vbuckets are n vbuckets that are to be streamed from a producer; "" closes.
func vbuckets(n int, producer string) map[uint16]string {
	changes := map[uint16]string{}
	for vb := range uint16(n) {
		changes[vb] = producer
	}
	return changes
}

// earlyEnds sets up streams, one of which is ended before its ADD_STREAM is answered, and returns how long the news took:
// from the return of the read that brought the STREAM_END, to the caller of the set-up.
func (w *troupe) earlyEnds(n int) (took []time.Duration) {
	const streams = 16
	for range n {
		m := w.manager()
		w.endings.last.Store(nil)
		err := m.Apply(context.Background(), 1, "bench", vbuckets(streams, "n0"))
		now := time.Now()
		var early *dcp.UnexpectedStreamEnd
		require.ErrorAs(w.t, err, &early)
		require.NotNil(w.t, w.endings.last.Load())
		took = append(took, now.Sub(*w.endings.last.Load()))
		require.NoError(w.t, m.Stop(context.Background()))
	}
	return took
}

// busy runs relays between sources and sinks of load until it is stopped, and says how many MiB they have moved. When it
// returns all are moving.
func (w *troupe) busy(links int) (stop func() float64) {
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	var relays []*relay.Relay
	for range links {
		var cfg relay.Config
		cfg.Producer, cfg.Consumer = w.loadConn(loadSource), w.loadConn(loadSink)
		r := relay.New(cfg)
		relays = append(relays, r)
		running.Go(func() { _ = r.Run(ctx) })
	}
	for _, r := range relays {
		require.Eventually(w.t, func() bool { return r.Stats().FromProducer.Bytes > 0 }, 20*time.Second, time.Millisecond)
	}
	return func() (moved float64) {
		cancel()
		running.Wait()
		for _, r := range relays {
			moved += float64(r.Stats().FromProducer.Bytes) / (1 << 20)
		}
		return moved
	}
}

func (w *troupe) loadConn(kind byte) net.Conn {
	w.t.Helper()
	conn, err := net.Dial("tcp", w.load)
	require.NoError(w.t, err)
	_, err = conn.Write([]byte{kind})
	require.NoError(w.t, err)
	return conn
}

// setUps sets streams up and closes them again, all of them with one call each, and returns the times for one stream.
func (w *troupe) setUps(streams, n int) (up, down []time.Duration) {
	m := w.manager()
	require.NoError(w.t, m.Apply(context.Background(), 1, "bench", map[uint16]string{0: "n2"}))
	require.NoError(w.t, m.Apply(context.Background(), 1, "bench", map[uint16]string{0: ""}))
	for range n {
		runtime.GC()
		begin := time.Now()
		require.NoError(w.t, m.Apply(context.Background(), 1, "bench", vbuckets(streams, "n2")))
		set := time.Now()
		require.NoError(w.t, m.Apply(context.Background(), 1, "bench", vbuckets(streams, "")))
		closed := time.Now()
		up = append(up, set.Sub(begin)/time.Duration(streams))
		down = append(down, closed.Sub(set)/time.Duration(streams))
	}
	require.NoError(w.t, m.Stop(context.Background()))
	return up, down
}

// idleLinks is the memory of a link that has one stream and nothing to do, in KB, and its goroutines.
func (w *troupe) idleLinks(n int) (memory, goroutines float64) {
	m := w.manager()
	before, routines := resident(), runtime.NumGoroutine()
	changes := map[uint16]string{}
	for vb := range uint16(n) {
		changes[vb] = fmt.Sprintf("p%d", vb)
	}
	require.NoError(w.t, m.Apply(context.Background(), 1, "bench", changes))
	after, all := resident(), runtime.NumGoroutine()
	status, err := m.Status(context.Background())
	require.NoError(w.t, err)
	require.Len(w.t, status.Links, n)
	require.NoError(w.t, m.Stop(context.Background()))
	return float64(after-before) / float64(n) / 1000, float64(all-routines) / float64(n)
}

// The links do what is measured of them.
func TestLinksDoTheWork(t *testing.T) {
	t.Run("early end", func(t *testing.T) {
		w := openTroupe(t, 0, 10, 10)
		defer w.close()
		stop := w.busy(2)
		require.Len(t, w.earlyEnds(3), 3)
		require.Positive(t, stop())
	})
	t.Run("set-up", func(t *testing.T) {
		w := openTroupe(t, -1, 0, 0)
		defer w.close()
		up, down := w.setUps(64, 2)
		require.Len(t, up, 2)
		require.Len(t, down, 2)
	})
	t.Run("idle", func(t *testing.T) {
		w := openTroupe(t, -1, 0, 0)
		defer w.close()
		_, goroutines := w.idleLinks(5)
		require.Positive(t, goroutines)
	})
}

// BenchmarkLinks measures whole links: see the package documentation.
func BenchmarkLinks(b *testing.B) {
	var text []string
	line := func(format string, args ...any) { text = append(text, fmt.Sprintf(format, args...)) }
	b.Run("early_end", func(b *testing.B) {
		for _, c := range []struct {
			name               string
			links, load, flood int
		}{
			{"idle", 0, 0, 0},
			{"others at a rate", 2, 100, 0},
			{"opposite at a rate", 0, 0, 200},
			{"both at half of it", 2, 50, 100},
			{"others at full rate", 2, fullRate, 0},
			{"opposite at full rate", 0, 0, fullRate},
			{"both at full rate", 2, fullRate, fullRate},
		} {
			w := openTroupe(b, 0, c.flood, c.load)
			stop := w.busy(c.links)
			w.earlyEnds(20)
			w.endings.opposite.Store(0)
			begin := time.Now()
			took := w.earlyEnds(earlyEnds)
			seconds := time.Since(begin).Seconds()
			others, opposite := stop()/seconds, float64(w.endings.opposite.Load())/(1<<20)/seconds
			w.close()
			slices.Sort(took)
			line("early STREAM_END to the caller's error\t%s\tothers %.0f MiB/s\topposite %.0f MiB/s\tp50 %v\tp99 %v\tmax %v", c.name,
				others, opposite, took[len(took)/2], took[len(took)*99/100], took[len(took)-1])
		}
	})
	b.Run("set_up", func(b *testing.B) {
		w := openTroupe(b, -1, 0, 0)
		defer w.close()
		up, down := w.setUps(1024, 20)
		line("1024 streams set up: %v per stream, torn down: %v per stream (medians of 20)", median(up), median(down))
	})
	b.Run("idle", func(b *testing.B) {
		w := openTroupe(b, -1, 0, 0)
		defer w.close()
		memory, goroutines := w.idleLinks(500)
		line("idle link: %.1f KB, %.1f goroutines", memory, goroutines)
	})
	w := tabwriter.NewWriter(os.Stdout, 0, 0, 2, ' ', 0)
	for _, l := range text {
		fmt.Fprintln(w, l)
	}
	must(w.Flush())
}

// earlyEnds is how many early ends are measured in each condition.
const earlyEnds = 1000
