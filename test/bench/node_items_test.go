package bench

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"runtime"
	"slices"
	"sync"
	"testing"
	"text/tabwriter"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sync/errgroup"

	"github.com/shearpin/shearpin/actors"
	"github.com/shearpin/shearpin/dcp"
	"github.com/shearpin/shearpin/dcp/kv"
	"github.com/shearpin/shearpin/dcp/kvnode"
	"github.com/shearpin/shearpin/dcp/mcbp"
)

// itemVBuckets is over how many vbuckets the documents are spread.
const itemVBuckets = 16

// itemPatience bounds everything that one measurement waits for.
const itemPatience = 2 * time.Minute

// embedded is an embedded node with the bucket "orders", whose copies are all in one state.
type embedded struct {
	t    testing.TB
	node *kvnode.Node
	// commands is a connection with the bucket selected.
	commands *kv.Client
}

func startEmbedded(t testing.TB, name string, state mcbp.VBucketState) *embedded {
	t.Helper()
	ctx := t.Context()
	node, err := kvnode.Start(kvnode.Options{Name: name, User: "bench", Password: "bench"})
	require.NoError(t, err)
	e := &embedded{t: t, node: node}
	e.commands, err = kv.Connect(ctx, e.endpoint(), "")
	require.NoError(t, err)
	require.NoError(t, e.commands.CreateBucket(ctx, "orders", fmt.Sprintf("max_size=%d;max_vbuckets=%d", int64(1)<<40, itemVBuckets)))
	require.NoError(t, e.commands.SelectBucket(ctx, "orders"))
	require.NoError(t, e.commands.EnableTraffic(ctx))
	for vb := range uint16(itemVBuckets) {
		require.NoError(t, e.commands.SetVBucket(ctx, vb, state, nil))
	}
	return e
}

func (e *embedded) endpoint() kv.Endpoint {
	return kv.Endpoint{Node: e.node.Name(), Addr: e.node.Addr(), Credentials: kv.Credentials{User: "bench", Password: "bench"}}
}

func (e *embedded) close() {
	_ = e.commands.Close()
	require.NoError(e.t, e.node.Close())
}

// load writes documents, as many to each vbucket.
func (e *embedded) load(docs, size int) {
	e.t.Helper()
	value := make([]byte, size)
	group, ctx := errgroup.WithContext(e.t.Context())
	for vb := range uint16(itemVBuckets) {
		group.Go(func() error {
			for i := range docs / itemVBuckets {
				if _, err := e.commands.Set(ctx, vb, fmt.Sprintf("key-%d-%d", vb, i), value, 0, 0, 0); err != nil {
					return err
				}
			}
			return nil
		})
	}
	require.NoError(e.t, group.Wait())
}

// await returns when the node's copies have that many changes, all together.
func (e *embedded) await(docs int) error {
	ctx, cancel := context.WithTimeout(e.t.Context(), itemPatience)
	defer cancel()
	ticker := time.NewTicker(time.Millisecond)
	defer ticker.Stop()
	for {
		seqnos, err := e.commands.AllVBSeqnos(ctx)
		if err != nil {
			return err
		}
		sum := 0
		for _, seqno := range seqnos {
			sum += int(seqno)
		}
		if sum >= docs {
			return nil
		}
		<-ticker.C
	}
}

// open opens a DCP connection to the node.
func (e *embedded) open(role kv.Role) net.Conn {
	e.t.Helper()
	conn, err := kv.OpenDCP(e.t.Context(), e.endpoint(), kv.DCPOpen{Bucket: "orders", Name: "replication:n0->n1:orders", Role: role, ConsumerName: consumerName(role)})
	require.NoError(e.t, err)
	return conn
}

func consumerName(role kv.Role) string {
	if role == kv.Consumer {
		return "n1"
	}
	return ""
}

// carriers are the ways in which the documents of a node are carried away.
var carriers = []struct {
	name string
	// carry returns how long docs documents took.
	carry func(t testing.TB, source *embedded, docs int) time.Duration
}{
	{"our link", carryByLink},
	{"io.Copy", carryByCopy},
	{"no consumer", carryNowhere},
}

// The places of carriers.
const (
	throughLink = iota
	throughCopy
	alone
)

// carryNowhere streams from the node and throws away what comes: what the node does alone.
func carryNowhere(t testing.TB, source *embedded, docs int) time.Duration {
	t.Helper()
	conn := source.open(kv.Producer)
	defer func() { _ = conn.Close() }()
	began := time.Now()
	for vb := range uint16(itemVBuckets) {
		_, err := conn.Write(mcbp.StreamRequest{VBucket: vb, Opaque: mcbp.Opaque{1, 0, byte(vb)}, End: mcbp.EndSeqnoForever}.Append(nil))
		require.NoError(t, err)
	}
	got := 0
	require.NoError(t, conn.SetReadDeadline(began.Add(itemPatience)))
	require.NoError(t, eachFrame(conn, func(f mcbp.Frame) error {
		if f.Opcode() == mcbp.OpDCPMutation {
			got++
		}
		if got == docs {
			return io.EOF
		}
		return nil
	}))
	return time.Since(began)
}

// carryByCopy replicates to a second node by io.Copy. In the other direction, where little is sent, the answers to ADD_STREAM are
// taken out, as a producer does not expect them.
func carryByCopy(t testing.TB, source *embedded, docs int) time.Duration {
	t.Helper()
	target := startEmbedded(t, "n1", mcbp.VBucketReplica)
	defer target.close()
	consumer, producer := target.open(kv.Consumer), source.open(kv.Producer)
	var running sync.WaitGroup
	defer running.Wait()
	defer func() { _ = consumer.Close() }()
	defer func() { _ = producer.Close() }()
	began := time.Now()
	running.Go(func() { _, _ = io.Copy(consumer, producer) })
	running.Go(func() {
		_ = eachFrame(consumer, func(f mcbp.Frame) error {
			if f.Opcode() == mcbp.OpDCPAddStream {
				return nil
			}
			_, err := producer.Write(f)
			return err
		})
	})
	for vb := range uint16(itemVBuckets) {
		_, err := consumer.Write(mcbp.AddStream{VBucket: vb, Opaque: mcbp.Opaque{0xff, 0, byte(vb), 0xff}}.Append(nil))
		require.NoError(t, err)
	}
	require.NoError(t, target.await(docs))
	return time.Since(began)
}

// carryByLink replicates to a second node by package dcp.
func carryByLink(t testing.TB, source *embedded, docs int) time.Duration {
	t.Helper()
	target := startEmbedded(t, "n1", mcbp.VBucketReplica)
	defer target.close()
	ctx := t.Context()
	sys := actors.NewSystem(actors.Options{})
	m, err := dcp.Start(ctx, dcp.Options{
		System: sys, Bucket: "orders", Consumer: "n1",
		Endpoints: func(node string) (kv.Endpoint, bool) {
			if node == "n1" {
				return target.endpoint(), true
			}
			return source.endpoint(), true
		},
	})
	require.NoError(t, err)
	require.NoError(t, m.Prepare(ctx, 1))
	began := time.Now()
	require.NoError(t, m.Apply(ctx, 1, "", vbuckets(itemVBuckets, "n0")))
	require.NoError(t, target.await(docs))
	took := time.Since(began)
	require.NoError(t, m.Stop(ctx))
	require.NoError(t, sys.Close(ctx))
	return took
}

// eachFrame hands out frames until there are no more or f returns an error; io.EOF is no failure.
func eachFrame(conn net.Conn, f func(mcbp.Frame) error) error {
	buf := make([]byte, 0, 1<<20)
	for {
		n, err := conn.Read(buf[len(buf):cap(buf)])
		if err != nil {
			return err
		}
		buf = buf[:len(buf)+n]
		rest := buf
		for {
			frame, next, err := mcbp.Parse(rest, mcbp.DefaultMaxBody)
			if errors.Is(err, mcbp.ErrShortHeader) {
				break
			}
			if err == nil {
				err = f(frame)
			}
			if errors.Is(err, io.EOF) {
				return nil
			}
			if err != nil {
				return err
			}
			rest = next
		}
		buf = append(buf[:0], rest...)
	}
}

// Every carrier carries every document.
func TestEveryCarrierDoesTheWork(t *testing.T) {
	source := startEmbedded(t, "n0", mcbp.VBucketActive)
	defer source.close()
	const docs = 10 * itemVBuckets
	source.load(docs, 64)
	for _, c := range carriers {
		t.Run(c.name, func(t *testing.T) { require.Positive(t, c.carry(t, source, docs)) })
	}
}

// BenchmarkNode measures how fast the documents of an embedded node leave it: see the package documentation.
func BenchmarkNode(b *testing.B) {
	w := tabwriter.NewWriter(os.Stdout, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "\nvalue\tcarried by\titems/s\tour link, of that\tby rounds")
	for _, size := range []int{64, 256, 1 << 10, 16 << 10} {
		b.Run(fmt.Sprint(size), func(b *testing.B) {
			docs := min(200_000, (256<<20)/size) / itemVBuckets * itemVBuckets
			source := startEmbedded(b, "n0", mcbp.VBucketActive)
			defer source.close()
			source.load(docs, size)
			rates := make([][]float64, len(carriers))
			for b.Loop() {
				begin := len(rates[0])
				for i := range carriers {
					c := (begin + i) % len(carriers)
					runtime.GC()
					rates[c] = append(rates[c], float64(docs)/carriers[c].carry(b, source, docs).Seconds())
				}
			}
			b.ReportMetric(0, "ns/op")
			b.ReportMetric(median(rates[alone]), "alone/s")
			b.ReportMetric(median(rates[throughLink]), "link/s")
			b.ReportMetric(over(median(rates[throughLink]), median(rates[throughCopy])), "link/io.Copy")
			for c, carrier := range carriers {
				var single []float64
				for i, rate := range rates[c] {
					single = append(single, over(rates[throughLink][i], rate))
				}
				slices.Sort(single)
				fmt.Fprintf(w, "%d\t%s\t%.0f\t%.2f\t%.2f (%.2f-%.2f)\n", size, carrier.name, median(rates[c]),
					over(median(rates[throughLink]), median(rates[c])), median(single), single[0], single[len(single)-1])
			}
		})
	}
	must(w.Flush())
}
