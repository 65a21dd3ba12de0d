package interop

import (
	"context"
	"fmt"
	"hash/crc32"
	"log/slog"
	"net"
	"os"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/shearpin/shearpin/dcp/kv"
	"github.com/shearpin/shearpin/dcp/kvnode"
	"github.com/shearpin/shearpin/dcp/mcbp"
	"github.com/shearpin/shearpin/rebalance"
	"github.com/shearpin/shearpin/rebalance/vbmap"
)

const (
	bucketName = "orders"
	vbuckets   = 64
	user       = "manager"
	password   = "secret"
	// patience bounds whatever a test waits for, and the test.
	patience = time.Minute
)

// world is a cluster of embedded nodes under management, with one more node that is to join, and a bucket.
type world struct {
	t       *testing.T
	ctx     context.Context
	nodes   map[string]*kvnode.Node
	cluster *rebalance.Cluster
	// leave ends the management; the nodes are on their own then.
	leave func()
	// chains is the map of nodes that are on their own.
	chains vbmap.Map
}

// newWorld starts n0, n1, n2 and n3; the bucket is on the first three.
func newWorld(t *testing.T, change ...func(*kvnode.Options)) *world {
	t.Helper()
	return newManagedWorld(t, func(*rebalance.Config) {}, change...)
}

// newManagedWorld is newWorld with another management than usual.
func newManagedWorld(t *testing.T, manage func(*rebalance.Config), change ...func(*kvnode.Options)) *world {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	t.Cleanup(cancel)
	w := &world{t: t, ctx: ctx, nodes: map[string]*kvnode.Node{}}
	log := slog.New(slog.DiscardHandler)
	if os.Getenv("SHEARPIN_TEST_LOG") != "" {
		log = slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelDebug}))
	}
	config := rebalance.Config{Credentials: kv.Credentials{User: user, Password: password}, Log: log, JanitorInterval: time.Hour}
	for i := range 4 {
		name := fmt.Sprintf("n%d", i)
		opts := kvnode.Options{Name: name, User: user, Password: password, Log: log}
		for _, f := range change {
			f(&opts)
		}
		node, err := kvnode.Start(opts)
		require.NoError(t, err)
		t.Cleanup(func() { require.NoError(t, node.Close()) })
		w.nodes[name] = node
		if i < 3 {
			config.Nodes = append(config.Nodes, rebalance.Node{Name: name, Addr: node.Addr()})
		}
	}
	manage(&config)
	cluster, err := rebalance.Open(ctx, config)
	require.NoError(t, err)
	w.cluster, w.leave = cluster, sync.OnceFunc(func() {
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		require.NoError(t, cluster.Close(ctx))
	})
	t.Cleanup(w.leave)
	require.NoError(t, cluster.CreateBucket(ctx, rebalance.BucketConfig{Name: bucketName, VBuckets: vbuckets, Replicas: 1}))
	require.NoError(t, cluster.AddNode(ctx, rebalance.Node{Name: "n3", Addr: w.nodes["n3"].Addr()}))
	return w
}

// seeds are the addresses of the nodes that have the bucket from the start.
func (w *world) seeds() []string {
	return []string{w.nodes["n0"].Addr(), w.nodes["n1"].Addr(), w.nodes["n2"].Addr()}
}

// rebalance moves vbuckets to n3, and then everything away from n0.
func (w *world) rebalance() {
	w.t.Helper()
	for _, keep := range [][]string{nil, {"n1", "n2", "n3"}} {
		run, err := w.cluster.Rebalance(w.ctx, rebalance.Request{Keep: keep})
		require.NoError(w.t, err)
		report, err := run.Wait(w.ctx)
		require.NoError(w.t, err)
		require.Equal(w.t, rebalance.Complete, report.Outcome, "%v", report.Err)
		require.NotZero(w.t, report.Moves)
	}
}

// version is the newest of a key.
type version struct {
	seqno   uint64
	deleted bool
}

// versions are the newest of every key in one vbucket.
type versions map[string]version

// truth is what the actives have: the newest version of every key, by vbucket. It is read over DCP, by our own codec.
func (w *world) truth() []versions {
	w.t.Helper()
	chains := w.chains
	if chains == nil {
		var err error
		chains, err = w.cluster.Map(w.ctx, bucketName)
		require.NoError(w.t, err)
	}
	require.Len(w.t, chains, vbuckets)
	byNode := map[string][]uint16{}
	for vb, chain := range chains {
		byNode[chain.Active()] = append(byNode[chain.Active()], uint16(vb))
	}
	all := make([]versions, vbuckets)
	for node, vbs := range byNode {
		r := w.dial(node)
		_, err := r.Write(mcbp.Open{Name: "truth", Flags: mcbp.OpenFlagsReplicaProducer}.Append(nil))
		require.NoError(w.t, err)
		require.Equal(w.t, mcbp.StatusSuccess, r.next().Status())
		for _, vb := range vbs {
			all[vb] = r.dump(vb)
		}
		require.NoError(w.t, r.Close())
	}
	return all
}

// rawConn is a connection of our own.
type rawConn struct {
	net.Conn
	t   *testing.T
	buf []byte
}

// dial logs in to a node and selects the bucket.
func (w *world) dial(node string) *rawConn {
	w.t.Helper()
	socket, err := (&net.Dialer{}).DialContext(w.ctx, "tcp", w.nodes[node].Addr())
	require.NoError(w.t, err)
	r := &rawConn{Conn: socket, t: w.t}
	require.NoError(w.t, r.SetDeadline(time.Now().Add(patience)))
	r.ok(&mcbp.Packet{Opcode: mcbp.OpSASLAuth, Key: []byte("PLAIN"), Value: []byte("\x00" + user + "\x00" + password)})
	r.ok(&mcbp.Packet{Opcode: mcbp.OpSelectBucket, Key: []byte(bucketName)})
	return r
}

// ok sends a request and demands success.
func (r *rawConn) ok(p *mcbp.Packet) mcbp.Frame {
	r.t.Helper()
	_, err := r.Write(p.Frame())
	require.NoError(r.t, err)
	f := r.next()
	require.Equal(r.t, mcbp.StatusSuccess, f.Status(), "%v", p.Opcode)
	return f
}

func (r *rawConn) next() mcbp.Frame {
	r.t.Helper()
	for {
		if f, rest, err := mcbp.Parse(r.buf, mcbp.DefaultMaxBody); err == nil {
			r.buf = rest
			return f
		}
		chunk := make([]byte, 64<<10)
		n, err := r.Read(chunk)
		require.NoError(r.t, err)
		r.buf = append(r.buf, chunk[:n]...)
	}
}

// dump streams a vbucket up to now.
func (r *rawConn) dump(vb uint16) versions {
	r.t.Helper()
	_, err := r.Write(mcbp.StreamRequest{
		VBucket: vb, End: mcbp.EndSeqnoForever, Flags: mcbp.StreamFlagToLatest | mcbp.StreamFlagActiveOnly,
	}.Append(nil))
	require.NoError(r.t, err)
	require.Equal(r.t, mcbp.StatusSuccess, r.next().Status(), "vb %d", vb)
	all := versions{}
	for {
		switch f := r.next(); f.Opcode() {
		case mcbp.OpDCPMutation:
			m, err := mcbp.ParseMutation(f)
			require.NoError(r.t, err)
			all[string(m.Key)] = version{seqno: m.BySeqno}
		case mcbp.OpDCPDeletion:
			m, err := mcbp.ParseDeletion(f)
			require.NoError(r.t, err)
			all[string(m.Key)] = version{seqno: m.BySeqno, deleted: true}
		case mcbp.OpDCPStreamEnd:
			return all
		}
	}
}

// vbucketOf is where clients look for a key.
func vbucketOf(key string) uint16 {
	return uint16(crc32.ChecksumIEEE([]byte(key)) >> 16 & 0x7fff % vbuckets)
}
