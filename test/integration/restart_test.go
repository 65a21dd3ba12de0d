package integration

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/shearpin/shearpin/dcp/kv"
	"github.com/shearpin/shearpin/dcp/kvnode"
	"github.com/shearpin/shearpin/rebalance"
	"github.com/shearpin/shearpin/rebalance/vbmap"
)

// disked is a cluster of three nodes with disks, of which each can be killed, emptied and started again.
type disked struct {
	t       *testing.T
	nodes   map[string]*kvnode.Node
	login   kv.Credentials
	cluster *rebalance.Cluster
}

const diskedVBuckets = 12

func newDisked(t *testing.T, replicas int) *disked {
	t.Helper()
	d := &disked{t: t, nodes: map[string]*kvnode.Node{}, login: kv.Credentials{User: "manager", Password: "secret"}}
	var said bytes.Buffer
	t.Cleanup(func() {
		if t.Failed() {
			t.Log(said.String())
		}
	})
	config := rebalance.Config{Credentials: d.login, JanitorInterval: 100 * time.Millisecond, Log: slog.New(slog.NewTextHandler(&said, nil))}
	for i := range 3 {
		name := fmt.Sprintf("n%d", i)
		node, err := kvnode.Start(kvnode.Options{
			Name: name, User: d.login.User, Password: d.login.Password, Dir: t.TempDir(), DiskNoSync: true,
		})
		require.NoError(t, err)
		t.Cleanup(func() { require.NoError(t, node.Close()) })
		d.nodes[name] = node
		config.Nodes = append(config.Nodes, rebalance.Node{Name: name, Addr: node.Addr()})
	}
	cluster, err := rebalance.Open(t.Context(), config)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, cluster.Close(context.WithoutCancel(t.Context()))) })
	d.cluster = cluster
	require.NoError(t, cluster.CreateBucket(t.Context(), rebalance.BucketConfig{Name: "orders", VBuckets: diskedVBuckets, Replicas: replicas}))
	return d
}

// onActive does something at the node that the map says is a vbucket's active, again until it succeeds.
func (d *disked) onActive(vb uint16, do func(ctx context.Context, client *kv.Client) error) {
	d.t.Helper()
	eventually(d.t, func() error {
		ctx, cancel := context.WithTimeout(d.t.Context(), 5*time.Second)
		defer cancel()
		m, err := d.cluster.Map(ctx, "orders")
		if err != nil {
			return err
		}
		node := d.nodes[m[vb].Active()]
		if node == nil {
			return errors.New("no active")
		}
		client, err := kv.Connect(ctx, kv.Endpoint{Node: node.Name(), Addr: node.Addr(), Credentials: d.login}, "orders")
		if err != nil {
			return err
		}
		defer func() { _ = client.Close() }()
		if err := do(ctx, client); err != nil {
			return fmt.Errorf("vb %d of %v: %w", vb, m[vb], err)
		}
		return nil
	})
}

// eventually tries until it succeeds, for a minute.
func eventually(t *testing.T, try func() error) {
	t.Helper()
	var last error
	if !assert.Eventually(t, func() bool {
		last = try()
		return last == nil
	}, time.Minute, 20*time.Millisecond) {
		require.NoError(t, last)
	}
}

// write writes a document to each vbucket, and waits until it is on disk.
func (d *disked) write(key string) {
	d.t.Helper()
	for vb := range uint16(diskedVBuckets) {
		d.onActive(vb, func(ctx context.Context, client *kv.Client) error {
			token, err := client.Set(ctx, vb, key, []byte(key), 0, 0, 0)
			if err != nil {
				return err
			}
			return client.SeqnoPersistence(ctx, vb, token.Seqno)
		})
	}
}

func (d *disked) requireRead(keys ...string) {
	d.t.Helper()
	for vb := range uint16(diskedVBuckets) {
		for _, key := range keys {
			d.onActive(vb, func(ctx context.Context, client *kv.Client) error {
				item, err := client.Get(ctx, vb, key)
				if err == nil && string(item.Value) != key {
					err = fmt.Errorf("%s is %q", key, item.Value)
				}
				return err
			})
		}
	}
}

// requireWhole waits until every member of every chain has its copy and its stream.
func (d *disked) requireWhole() {
	d.t.Helper()
	eventually(d.t, func() error {
		report, err := d.cluster.Janitor(d.t.Context())
		if err == nil {
			err = report.Problem()
		}
		if err != nil {
			return err
		}
		m, err := d.cluster.Map(d.t.Context(), "orders")
		for vb, chain := range m {
			if slices.Contains(chain, vbmap.Undefined) {
				return fmt.Errorf("vb %d is on %v", vb, chain)
			}
		}
		return err
	})
}

// An engine lets no clients in after a restart, and nobody but the manager tells it to. Without replicas there is no stream whose
// loss would tell the manager.
func TestANodeThatWasStartedAgainLetsClientsIn(t *testing.T) {
	for _, replicas := range []int{0, 1} {
		t.Run(fmt.Sprint(replicas), func(t *testing.T) {
			d := newDisked(t, replicas)
			d.write("before")
			for _, node := range d.nodes {
				node.Kill()
				require.NoError(t, node.Restart())
				d.requireRead("before")
				d.write("after")
			}
			d.requireWhole()
		})
	}
}

// A node that comes back with an empty disk gets the bucket again, and its copies from the others.
func TestANodeThatCameBackEmptyIsFilledAgain(t *testing.T) {
	d := newDisked(t, 1)
	d.write("before")
	for _, name := range []string{"n0", "n1", "n2"} {
		d.requireWhole()
		d.awaitReplicas()
		node := d.nodes[name]
		node.Kill()
		require.NoError(t, node.Wipe())
		require.NoError(t, node.Restart())
		d.requireRead("before")
	}
	d.requireWhole()
}

// awaitReplicas waits until every replica has what its active has.
func (d *disked) awaitReplicas() {
	d.t.Helper()
	m, err := d.cluster.Map(d.t.Context(), "orders")
	require.NoError(d.t, err)
	for vb, chain := range m {
		var high uint64
		d.onActive(uint16(vb), func(ctx context.Context, client *kv.Client) error {
			info, err := client.VBucketSeqno(ctx, uint16(vb))
			high = info.High
			return err
		})
		for _, name := range chain[1:] {
			client, err := kv.Connect(d.t.Context(), kv.Endpoint{Node: name, Addr: d.nodes[name].Addr(), Credentials: d.login}, "orders")
			require.NoError(d.t, err)
			eventually(d.t, func() error {
				info, err := client.VBucketSeqno(d.t.Context(), uint16(vb))
				if err == nil && info.High != high {
					err = fmt.Errorf("vb %d on %s has %d of %d", vb, name, info.High, high)
				}
				return err
			})
			require.NoError(d.t, client.Close())
		}
	}
}
