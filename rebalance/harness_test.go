package rebalance_test

import (
	"context"
	"errors"
	"fmt"
	"hash/crc32"
	"log/slog"
	"os"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/shearpin/shearpin/dcp/kv"
	"github.com/shearpin/shearpin/dcp/kvnode"
	"github.com/shearpin/shearpin/dcp/kvnode/fault"
	"github.com/shearpin/shearpin/dcp/mcbp"
	"github.com/shearpin/shearpin/rebalance"
	"github.com/shearpin/shearpin/rebalance/vbmap"
)

// world is a cluster of embedded nodes, over real sockets, under management.
type world struct {
	t       *testing.T
	ctx     context.Context
	nodes   map[string]*kvnode.Node
	cluster *rebalance.Cluster
	faults  *fault.Plan

	mu      sync.Mutex
	clients map[string]*kv.Client
	bucket  rebalance.BucketConfig
}

var admin = kv.Credentials{User: "manager", Password: "secret"}

// noFault arms nothing.
const noFault fault.Kind = 0

type worldOption func(*rebalance.Config)

// newWorld starts nodes n0, n1, … of which the first are known to the cluster, and creates a bucket on those.
func newWorld(t *testing.T, nodes, known int, bucket rebalance.BucketConfig, kind fault.Kind, options ...worldOption) *world {
	t.Helper()
	return newWorldOf(t, nodes, known, bucket, kind, func(*kvnode.Options) {}, options...)
}

// newWorldOf is newWorld with nodes that are not the usual ones.
func newWorldOf(
	t *testing.T, nodes, known int, bucket rebalance.BucketConfig, kind fault.Kind, tune func(*kvnode.Options), options ...worldOption,
) *world {
	t.Helper()
	// Registered first, so that it looks when all else has been closed.
	t.Cleanup(func() { goleak.VerifyNone(t) })
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	t.Cleanup(cancel)
	w := &world{t: t, ctx: ctx, nodes: map[string]*kvnode.Node{}, clients: map[string]*kv.Client{}, bucket: bucket}
	log := slog.New(slog.DiscardHandler)
	if os.Getenv("SHEARPIN_TEST_LOG") != "" {
		log = slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelDebug}))
	}
	if kind != noFault {
		w.faults = fault.New(fault.Options{Kind: kind, VB: fault.AnyVBucket, Log: log})
	}
	config := rebalance.Config{Credentials: admin, Log: log, JanitorInterval: time.Hour}
	for i := range nodes {
		name := fmt.Sprintf("n%d", i)
		options := kvnode.Options{Name: name, User: admin.User, Password: admin.Password, Log: log}
		if w.faults != nil {
			options.Hooks = w.faults.For(name)
		}
		tune(&options)
		node, err := kvnode.Start(options)
		require.NoError(t, err)
		t.Cleanup(func() { _ = node.Close() })
		w.nodes[name] = node
		if i < known {
			config.Nodes = append(config.Nodes, w.node(name))
		}
	}
	for _, option := range options {
		option(&config)
	}
	cluster, err := rebalance.Open(ctx, config)
	require.NoError(t, err)
	w.cluster = cluster
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		require.NoError(t, cluster.Close(ctx))
	})
	require.NoError(t, cluster.CreateBucket(ctx, bucket))
	return w
}

func (w *world) node(name string) rebalance.Node {
	return rebalance.Node{Name: name, Addr: w.nodes[name].Addr()}
}

func (w *world) client(node string) *kv.Client {
	w.mu.Lock()
	defer w.mu.Unlock()
	if client := w.clients[node]; client != nil {
		return client
	}
	client, err := kv.Connect(w.ctx, kv.Endpoint{Node: node, Addr: w.nodes[node].Addr(), Credentials: admin}, w.bucket.Name)
	if errors.Is(err, mcbp.StatusKeyNotFound) {
		return nil // the bucket is not there
	}
	require.NoError(w.t, err)
	w.t.Cleanup(func() { _ = client.Close() })
	w.clients[node] = client
	return client
}

func (w *world) activeMap() vbmap.Map {
	m, err := w.cluster.Map(w.ctx, w.bucket.Name)
	require.NoError(w.t, err)
	return m
}

func (w *world) vb(key string) uint16 {
	return uint16((crc32.ChecksumIEEE([]byte(key)) >> 16 & 0x7fff) % uint32(w.bucket.VBuckets))
}

// write sets keys through the map, looking again when a node says that the vbucket is elsewhere.
func (w *world) write(documents int, value string) map[string]string {
	w.t.Helper()
	written := map[string]string{}
	for i := range documents {
		key := fmt.Sprintf("key-%d", i)
		require.NoError(w.t, w.set(key, value+key))
		written[key] = value + key
	}
	return written
}

func (w *world) set(key, value string) error {
	vb := w.vb(key)
	for {
		_, err := w.client(w.activeMap()[vb].Active()).Set(w.ctx, vb, key, []byte(value), 0, 0, 0)
		if !errors.Is(err, mcbp.StatusNotMyVBucket) && !errors.Is(err, mcbp.StatusTemporaryFailure) {
			return err
		}
		select {
		case <-time.After(time.Millisecond):
		case <-w.ctx.Done():
			return w.ctx.Err()
		}
	}
}

// requireAll checks that every key has its value on its active, and that every replica equals its active.
func (w *world) requireAll(written map[string]string) {
	w.t.Helper()
	m := w.activeMap()
	for key, value := range written {
		vb := w.vb(key)
		item, err := w.client(m[vb].Active()).Get(w.ctx, vb, key)
		require.NoError(w.t, err, "%s in vb %d on %s", key, vb, m[vb].Active())
		require.Equal(w.t, value, string(item.Value))
	}
	require.Eventually(w.t, func() bool { return len(w.unequalReplicas(m)) == 0 }, 10*time.Second, 10*time.Millisecond,
		"replicas equal their actives")
}

func (w *world) unequalReplicas(m vbmap.Map) (unequal []string) {
	for vb, chain := range m {
		wanted := w.digest(chain.Active(), vb)
		for _, node := range chain.Replicas() {
			if got := w.digest(node, vb); got != wanted {
				unequal = append(unequal, fmt.Sprintf("vb %d: %s has %s, %s has %s", vb, chain.Active(), wanted, node, got))
			}
		}
	}
	return unequal
}

func (w *world) digest(node string, vb int) string {
	var seqno, digest string
	err := w.client(node).Stats(w.ctx, fmt.Sprintf("vbucket-digest %d", vb), func(key, value string) {
		switch key {
		case fmt.Sprintf("vb_%d:high_seqno", vb):
			seqno = value
		case fmt.Sprintf("vb_%d:digest", vb):
			digest = value
		}
	})
	require.NoError(w.t, err)
	return seqno + "/" + digest
}

func (w *world) rebalance(request rebalance.Request) *rebalance.Report {
	w.t.Helper()
	run, err := w.cluster.Rebalance(w.ctx, request)
	require.NoError(w.t, err)
	report, err := run.Wait(w.ctx)
	require.NoError(w.t, err)
	return report
}

// requireClean checks that the nodes have exactly the copies that the map wants.
func (w *world) requireClean() {
	w.t.Helper()
	m := w.activeMap()
	for name := range w.nodes {
		client := w.client(name)
		if client == nil {
			require.NotContains(w.t, m.Nodes(), name)
			continue
		}
		infos, err := client.VBuckets(w.ctx)
		require.NoError(w.t, err)
		for vb, chain := range m {
			state := mcbp.VBucketMissing
			switch {
			case chain.Active() == name:
				state = mcbp.VBucketActive
			case chain.Contains(name):
				state = mcbp.VBucketReplica
			}
			require.Equal(w.t, state, infos[uint16(vb)].State, "vb %d on %s", vb, name)
			if state == mcbp.VBucketActive {
				require.Equal(w.t, [][]string{chain}, infos[uint16(vb)].Topology, "vb %d on %s", vb, name)
			}
		}
	}
}
