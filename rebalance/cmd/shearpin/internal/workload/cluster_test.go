package workload_test

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net"
	"strconv"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/shearpin/shearpin/dcp/kv"
	"github.com/shearpin/shearpin/dcp/kvnode"
	"github.com/shearpin/shearpin/dcp/mcbp"
	"github.com/shearpin/shearpin/rebalance/cmd/shearpin/internal/workload"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const (
	bucket   = "test"
	vbuckets = 4
)

var credentials = kv.Credentials{User: "u", Password: "p"}

// cluster is two embedded nodes, a and b, with a manager's connection to each. Every vbucket is active on a at first.
type cluster struct {
	t       *testing.T
	nodes   []*kvnode.Node
	manager []*kv.Client
	rev     int64
	owner   [vbuckets]int
}

func newCluster(t *testing.T) *cluster {
	t.Helper()
	c := &cluster{t: t}
	for _, name := range []string{"a", "b"} {
		node, err := kvnode.Start(kvnode.Options{Name: name, User: credentials.User, Password: credentials.Password})
		require.NoError(t, err)
		t.Cleanup(func() { assert.NoError(t, node.Close()) })
		require.NoError(t, node.CreateBucket(bucket, vbuckets))
		manager, err := kv.Connect(c.ctx(), kv.Endpoint{Node: name, Addr: node.Addr(), Credentials: credentials}, bucket)
		require.NoError(t, err)
		t.Cleanup(func() { assert.NoError(t, manager.Close()) })
		c.nodes, c.manager = append(c.nodes, node), append(c.manager, manager)
	}
	for vb := range uint16(vbuckets) {
		c.set(0, vb, mcbp.VBucketActive)
		c.set(1, vb, mcbp.VBucketReplica)
	}
	c.publish(0, 1)
	return c
}

func (c *cluster) ctx() context.Context {
	ctx, cancel := context.WithTimeout(c.t.Context(), 20*time.Second)
	c.t.Cleanup(cancel)
	return ctx
}

func (c *cluster) set(node int, vb uint16, state mcbp.VBucketState) {
	c.t.Helper()
	require.NoError(c.t, c.manager[node].SetVBucket(c.ctx(), vb, state, nil))
	if state == mcbp.VBucketActive {
		c.owner[vb] = node
	}
}

// publish gives the map as it is now, under a new revision, to these nodes.
func (c *cluster) publish(nodes ...int) {
	c.t.Helper()
	c.rev++
	type object = map[string]any
	var ext []any
	for _, node := range c.nodes {
		_, port, err := net.SplitHostPort(node.Addr())
		require.NoError(c.t, err)
		number, err := strconv.Atoi(port)
		require.NoError(c.t, err)
		ext = append(ext, object{"hostname": "127.0.0.1", "services": object{"kv": number, "mgmt": 1}})
	}
	var chains [][]int
	for _, owner := range c.owner {
		chains = append(chains, []int{owner, 1 - owner})
	}
	config, err := json.Marshal(object{
		"rev": c.rev, "revEpoch": 1, "nodesExt": ext, "vBucketServerMap": object{"vBucketMap": chains},
	})
	require.NoError(c.t, err)
	for _, node := range nodes {
		require.NoError(c.t, c.manager[node].SetClusterConfig(c.ctx(), bucket, 1, c.rev, config))
	}
}

// client knows only the first node until it has asked it.
func (c *cluster) client(dial func(context.Context, string, string) (net.Conn, error)) *workload.Client {
	client := workload.NewClient(workload.ClientOptions{
		Bucket: bucket, Credentials: credentials, Seeds: []string{c.nodes[0].Addr()}, Dial: dial,
	})
	c.t.Cleanup(client.Close)
	return client
}

func (c *cluster) chains() [][]string {
	chains := make([][]string, vbuckets)
	for vb := range chains {
		chains[vb] = []string{"a", "b"}
	}
	return chains
}

func (c *cluster) members() []workload.Node {
	return []workload.Node{{Name: "a", Addr: c.nodes[0].Addr()}, {Name: "b", Addr: c.nodes[1].Addr()}}
}

func corpusOf(docs int) *workload.Corpus {
	return workload.NewCorpus(workload.NewContent(1, 64), docs)
}

func nothing(int) {}

func TestClientFollowsTheMapThatComesWithTheRefusal(t *testing.T) {
	c := newCluster(t)
	var asked counter
	client := c.client(asked.dial)
	_, err := client.Set(c.ctx(), "k", []byte("1"), 0)
	require.NoError(t, err)

	vb := workload.VBucketOf("k", vbuckets)
	c.set(0, vb, mcbp.VBucketDead)
	c.set(1, vb, mcbp.VBucketActive)
	c.publish(0)
	_, err = client.Set(c.ctx(), "k", []byte("2"), 0)
	require.NoError(t, err, "b has no such document, so it can be added there")
	value, _, err := client.Get(c.ctx(), "k")
	require.NoError(t, err)
	assert.Equal(t, "2", string(value))
	item, err := c.manager[1].Get(c.ctx(), vb, "k")
	require.NoError(t, err)
	assert.Equal(t, "2", string(item.Value))
	assert.EqualValues(t, 1, asked.configs.Load(), "only the first map was asked for")
}

// counter makes connections that count how often a configuration is asked for.
type counter struct{ configs atomic.Int64 }

func (c *counter) dial(ctx context.Context, network, addr string) (net.Conn, error) {
	conn, err := new(net.Dialer).DialContext(ctx, network, addr)
	return &countedConn{Conn: conn, counter: c}, err
}

type countedConn struct {
	net.Conn
	counter *counter
}

func (c *countedConn) Write(b []byte) (int, error) {
	if mcbp.Frame(b).Opcode() == mcbp.OpGetClusterConfig {
		c.counter.configs.Add(1)
	}
	return c.Conn.Write(b)
}

func TestClientWaitsForAnActiveToAppear(t *testing.T) {
	c := newCluster(t)
	client := c.client(nil)
	_, _, err := client.Get(c.ctx(), "k")
	require.ErrorIs(t, err, mcbp.StatusKeyNotFound)

	vb := workload.VBucketOf("k", vbuckets)
	c.set(0, vb, mcbp.VBucketDead)
	done := make(chan error, 1)
	go func() {
		_, err := client.Set(c.ctx(), "k", []byte("1"), 0)
		done <- err
	}()
	c.set(1, vb, mcbp.VBucketActive)
	c.publish(1)
	require.NoError(t, <-done, "only b knows the new map: a refused client asks other nodes too")
}

func TestClientGivesUpWithTheLastAnswer(t *testing.T) {
	c := newCluster(t)
	client := c.client(nil)
	_, _, err := client.Get(c.ctx(), "k")
	require.ErrorIs(t, err, mcbp.StatusKeyNotFound)
	c.set(0, workload.VBucketOf("k", vbuckets), mcbp.VBucketDead)

	late := errors.New("too late")
	ctx, cancel := context.WithTimeoutCause(t.Context(), 50*time.Millisecond, late)
	defer cancel()
	_, _, err = client.Get(ctx, "k")
	require.ErrorIs(t, err, late)
	assert.ErrorIs(t, err, mcbp.StatusNotMyVBucket)
}

func TestClosedClientRefuses(t *testing.T) {
	c := newCluster(t)
	client := c.client(nil)
	client.Close()
	_, _, err := client.Get(c.ctx(), "k")
	require.ErrorIs(t, err, workload.ErrClientClosed)
}

func TestLoadAndVerify(t *testing.T) {
	c := newCluster(t)
	clients := []*workload.Client{c.client(nil), c.client(nil)}
	corpus := corpusOf(1000)
	var last atomic.Int64
	require.NoError(t, workload.Load(c.ctx(), clients, corpus, func(done int) { last.Store(int64(done)) }))
	assert.EqualValues(t, 1000, last.Load())
	assert.Equal(t, 1000, corpus.Ledger.AckedWrites())

	writers := workload.StartWriters(c.ctx(), clients, corpus, 1)
	require.Eventually(t, func() bool { return corpus.Ledger.AckedWrites() > 1050 }, 20*time.Second, time.Millisecond)
	require.NoError(t, writers.Stop())
	acked := corpus.Ledger.AckedWrites()
	require.NoError(t, writers.Stop(), "stopping twice is harmless")

	losses, err := workload.VerifyDocuments(c.ctx(), clients, corpus, nothing)
	require.NoError(t, err)
	assert.Empty(t, losses)
	assert.Equal(t, acked, corpus.Ledger.AckedWrites())
}

func TestVerifyFindsEveryKindOfLoss(t *testing.T) {
	c := newCluster(t)
	clients := []*workload.Client{c.client(nil)}
	corpus := corpusOf(20)
	require.NoError(t, workload.Load(c.ctx(), clients, corpus, nothing))
	at := func(doc int) (uint16, string) {
		key := corpus.Content.Key(doc)
		return workload.VBucketOf(key, vbuckets), key
	}
	vb, gone := at(3)
	_, err := c.manager[0].Delete(c.ctx(), vb, gone, 0)
	require.NoError(t, err)
	vb, alien := at(5)
	_, err = c.manager[0].Set(c.ctx(), vb, alien, []byte("somebody else's"), 0, 0, 0)
	require.NoError(t, err)
	vb, swapped := at(7)
	_, err = c.manager[0].Set(c.ctx(), vb, swapped, corpus.Content.Value(8, 1), 0, 0, 0)
	require.NoError(t, err)

	losses, err := workload.VerifyDocuments(c.ctx(), clients, corpus, nothing)
	require.NoError(t, err)
	assert.Equal(t, []workload.Loss{
		{Key: gone, Acked: 1, Sent: 1, Found: workload.Found{}},
		{Key: alien, Acked: 1, Sent: 1, Found: workload.Found{Exists: true}},
		{Key: swapped, Acked: 1, Sent: 1, Found: workload.Found{Exists: true}},
	}, losses)
	assert.Equal(t, "doc-00000003: version 1 was acknowledged (last sent 1), found no document", losses[0].String())
}

// A loss that a later write has covered up is still a loss: each write checks its predecessor.
func TestWriterMeetsALossThatItCoversUp(t *testing.T) {
	c := newCluster(t)
	clients := []*workload.Client{c.client(nil)}
	corpus := corpusOf(1)
	require.NoError(t, workload.Load(c.ctx(), clients, corpus, nothing))
	key := corpus.Content.Key(0)
	vb := workload.VBucketOf(key, vbuckets)
	_, err := c.manager[0].Delete(c.ctx(), vb, key, 0)
	require.NoError(t, err)

	writers := workload.StartWriters(c.ctx(), clients, corpus, 1)
	require.Eventually(t, func() bool { return corpus.Ledger.AckedWrites() > 1 }, 20*time.Second, time.Millisecond)
	require.NoError(t, writers.Stop())

	losses, err := workload.VerifyDocuments(c.ctx(), clients, corpus, nothing)
	require.NoError(t, err)
	assert.Equal(t, []workload.Loss{{Key: key, Acked: 1, Sent: 2}}, losses)
}

// mute makes connections that lose the first answer to a SET: the node has carried it out, the client never hears of it.
type mute struct{ once atomic.Bool }

func (m *mute) dial(ctx context.Context, network, addr string) (net.Conn, error) {
	conn, err := new(net.Dialer).DialContext(ctx, network, addr)
	if err != nil {
		return nil, err
	}
	return &mutedConn{Conn: conn, mute: m}, nil
}

type mutedConn struct {
	net.Conn
	mute  *mute
	heard atomic.Bool
}

func (c *mutedConn) Write(b []byte) (int, error) {
	if mcbp.Frame(b).Opcode() == mcbp.OpSet && c.mute.once.CompareAndSwap(false, true) {
		c.heard.Store(true)
	}
	return c.Conn.Write(b)
}

func (c *mutedConn) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	if c.heard.Load() {
		return 0, errors.Join(io.EOF, c.Close())
	}
	return n, err
}

func TestUnansweredWriteIsRepeatedSafely(t *testing.T) {
	c := newCluster(t)
	var m mute
	clients := []*workload.Client{c.client(m.dial)}
	corpus := corpusOf(1)
	require.NoError(t, workload.Load(c.ctx(), clients, corpus, nothing))

	writers := workload.StartWriters(c.ctx(), clients, corpus, 1)
	require.Eventually(t, func() bool { return corpus.Ledger.AckedWrites() > 3 }, 20*time.Second, time.Millisecond)
	require.NoError(t, writers.Stop())
	assert.True(t, m.once.Load(), "an answer was lost")

	losses, err := workload.VerifyDocuments(c.ctx(), clients, corpus, nothing)
	require.NoError(t, err)
	assert.Empty(t, losses)
}

func TestSetWithoutAnswerSaysSo(t *testing.T) {
	c := newCluster(t)
	var m mute
	client := c.client(m.dial)
	cas, err := client.Set(c.ctx(), "k", []byte("1"), 0)
	require.NoError(t, err)
	_, err = client.Set(c.ctx(), "k", []byte("2"), cas)
	var silence *workload.UnansweredError
	require.ErrorAs(t, err, &silence)
	value, _, err := client.Get(c.ctx(), "k")
	require.NoError(t, err)
	assert.Equal(t, "2", string(value))
}

func TestWriterWithoutAnActiveFails(t *testing.T) {
	c := newCluster(t)
	clients := []*workload.Client{c.client(nil)}
	corpus := corpusOf(1)
	require.NoError(t, workload.Load(c.ctx(), clients, corpus, nothing))
	c.set(0, workload.VBucketOf(corpus.Content.Key(0), vbuckets), mcbp.VBucketDead)

	late := errors.New("the run is over")
	ctx, cancel := context.WithTimeoutCause(t.Context(), 50*time.Millisecond, late)
	defer cancel()
	writers := workload.StartWriters(ctx, clients, corpus, 1)
	<-ctx.Done()
	err := writers.Stop()
	require.ErrorIs(t, err, late)
	from, to, ok := corpus.Ledger.Unanswered(0)
	assert.True(t, ok)
	assert.Equal(t, []uint32{2, 2}, []uint32{from, to})
}

func TestVerifyReplicas(t *testing.T) {
	c := newCluster(t)
	same, err := workload.VerifyReplicas(c.ctx(), c.members(), credentials, bucket, c.chains())
	require.NoError(t, err)
	assert.Empty(t, same, "empty copies are equal")

	clients := []*workload.Client{c.client(nil)}
	corpus := corpusOf(1)
	require.NoError(t, workload.Load(c.ctx(), clients, corpus, nothing))
	vb := workload.VBucketOf(corpus.Content.Key(0), vbuckets)
	other := (vb + 1) % vbuckets
	c.set(1, other, mcbp.VBucketDead)

	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Second) // logging in is part of it
	defer cancel()
	mismatches, err := workload.VerifyReplicas(ctx, c.members(), credentials, bucket, c.chains())
	require.NoError(t, err)
	assert.ElementsMatch(t, []workload.Mismatch{
		{VB: vb, Active: "a", Replica: "b", Why: "high seqno 0, the active has 1"},
		{VB: other, Active: "a", Replica: "b", Why: "is dead, must be replica"},
	}, mismatches)
}
