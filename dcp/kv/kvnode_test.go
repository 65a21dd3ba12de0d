package kv_test

import (
	"fmt"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/shearpin/shearpin/dcp/kv"
	"github.com/shearpin/shearpin/dcp/kvnode"
	"github.com/shearpin/shearpin/dcp/mcbp"
)

// startNode starts an embedded node, and says how to reach it.
func startNode(t *testing.T, name string) kv.Endpoint {
	t.Helper()
	account := kv.Credentials{User: "admin", Password: password}
	node, err := kvnode.Start(kvnode.Options{Name: name, User: account.User, Password: account.Password})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, node.Close()) })
	return kv.Endpoint{Node: name, Addr: node.Addr(), Credentials: account}
}

// bucketOn creates a bucket over the wire and returns a client of it.
func bucketOn(t *testing.T, ep kv.Endpoint, bucket string) *kv.Client {
	t.Helper()
	c, err := kv.Connect(t.Context(), ep, "")
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, c.Close()) })
	require.NoError(t, c.CreateBucket(t.Context(), bucket, "max_vbuckets=16;bucket_type=persistent"))
	require.ErrorIs(t, c.CreateBucket(t.Context(), bucket, "max_vbuckets=16"), mcbp.StatusKeyExists)
	require.NoError(t, c.SelectBucket(t.Context(), bucket))
	require.NoError(t, c.EnableTraffic(t.Context()))
	return c
}

func TestEveryCommandOnAnEmbeddedNode(t *testing.T) {
	ctx := t.Context()
	ep := startNode(t, "n0")
	c := bucketOn(t, ep, "orders")

	topology := [][]string{{"n0", "n1", ""}}
	require.NoError(t, c.SetVBucket(ctx, 3, mcbp.VBucketActive, topology))
	require.NoError(t, c.SetVBucket(ctx, 4, mcbp.VBucketReplica, nil))

	token, err := c.Add(ctx, 3, "k", []byte("v1"), 7, 0)
	require.NoError(t, err)
	assert.EqualValues(t, 1, token.Seqno)
	assert.NotZero(t, token.UUID)
	_, err = c.Add(ctx, 3, "k", []byte("v1"), 7, 0)
	require.ErrorIs(t, err, mcbp.StatusKeyExists)
	token, err = c.Set(ctx, 3, "k", []byte("v2"), token.CAS, 8, 0)
	require.NoError(t, err)
	_, err = c.Set(ctx, 3, "k", []byte("v3"), token.CAS+1, 8, 0)
	require.ErrorIs(t, err, mcbp.StatusKeyExists)
	item, err := c.Get(ctx, 3, "k")
	require.NoError(t, err)
	assert.Equal(t, kv.Item{Value: []byte("v2"), CAS: token.CAS, Flags: 8}, item)
	_, err = c.Replace(ctx, 3, "absent", []byte("v"), 0, 0, 0)
	require.ErrorIs(t, err, mcbp.StatusKeyNotFound)
	token, err = c.Delete(ctx, 3, "k", 0)
	require.NoError(t, err)
	assert.EqualValues(t, 3, token.Seqno)
	_, err = c.Get(ctx, 3, "k")
	require.ErrorIs(t, err, mcbp.StatusKeyNotFound)

	config := []byte(`{"rev":2,"revEpoch":1}`)
	require.NoError(t, c.SetClusterConfig(ctx, "orders", 1, 2, config))
	published, err := c.ClusterConfig(ctx)
	require.NoError(t, err)
	assert.JSONEq(t, string(config), string(published))
	_, err = c.Get(ctx, 5, "k")
	require.ErrorIs(t, err, mcbp.StatusNotMyVBucket)
	var failed *kv.StatusError
	require.ErrorAs(t, err, &failed)
	assert.JSONEq(t, string(config), string(failed.Config))

	require.NoError(t, c.SeqnoPersistence(ctx, 3, 3))
	seqno, err := c.VBucketSeqno(ctx, 3)
	require.NoError(t, err)
	assert.Equal(t, kv.SeqnoInfo{High: 3, Persisted: 3, UUID: token.UUID}, seqno)
	_, err = c.VBucketSeqno(ctx, 5)
	require.ErrorIs(t, err, mcbp.StatusNotMyVBucket)

	infos, err := c.VBuckets(ctx)
	require.NoError(t, err)
	require.Len(t, infos, 2)
	assert.Equal(t, mcbp.VBucketActive, infos[3].State)
	assert.Equal(t, topology, infos[3].Topology)
	assert.EqualValues(t, 3, infos[3].HighSeqno)
	assert.Equal(t, token.UUID, infos[3].UUID)
	assert.Equal(t, mcbp.VBucketReplica, infos[4].State)
	assert.Nil(t, infos[4].Topology)

	seqnos, err := c.AllVBSeqnos(ctx)
	require.NoError(t, err)
	assert.Equal(t, map[uint16]uint64{3: 3, 4: 0}, seqnos)
	history, err := c.FailoverLog(ctx, 3)
	require.NoError(t, err)
	require.NotEmpty(t, history)
	assert.Equal(t, token.UUID, history[0].UUID)
	estimate, err := c.TakeoverEstimate(ctx, 3, "replication:n0->n1:orders")
	require.NoError(t, err)
	assert.Contains(t, estimate.Status, "does_not_exist")

	before, err := c.VBucketState(ctx, 4)
	require.NoError(t, err)
	assert.Equal(t, infos[4].State, before)
	require.NoError(t, c.DeleteVBucket(ctx, 4))
	require.NoError(t, c.DeleteVBucket(ctx, 4), "already gone")
	gone, err := c.VBucketState(ctx, 4)
	require.NoError(t, err)
	assert.Equal(t, mcbp.VBucketMissing, gone)
	infos, err = c.VBuckets(ctx)
	require.NoError(t, err)
	assert.NotContains(t, infos, uint16(4))
}

func TestConnectingToAnEmbeddedNodeFailsByStep(t *testing.T) {
	ep := startNode(t, "n0")
	bucketOn(t, ep, "orders")
	var failed *kv.ConnectError

	wrong := ep
	wrong.Credentials.Password = "wrong"
	_, err := kv.Connect(t.Context(), wrong, "orders")
	require.ErrorAs(t, err, &failed)
	assert.Equal(t, kv.StepSASL, failed.Step)
	assert.ErrorIs(t, err, mcbp.StatusAuthError)

	_, err = kv.Connect(t.Context(), ep, "absent")
	require.ErrorAs(t, err, &failed)
	assert.Equal(t, kv.StepSelectBucket, failed.Step)
	assert.ErrorIs(t, err, mcbp.StatusKeyNotFound)
}

func TestDCPConnectionsOfAnEmbeddedNode(t *testing.T) {
	ep := startNode(t, "n0")
	c := bucketOn(t, ep, "orders")
	const name = "replication:n1->n0:orders"
	conn, err := kv.OpenDCP(t.Context(), ep, kv.DCPOpen{Bucket: "orders", Name: name, Role: kv.Consumer, ConsumerName: "n0"})
	require.NoError(t, err)
	list, err := c.DCPConnections(t.Context())
	require.NoError(t, err)
	assert.Equal(t, []kv.DCPConnection{{Name: name, Type: "consumer"}}, list)

	require.NoError(t, kv.Nuke(t.Context(), ep, "orders", name))
	_, err = conn.Read(make([]byte, 1))
	require.Error(t, err, "the older connection of that name has been closed")
	require.NoError(t, conn.Close())
}

func TestPipelinedWritersOnAnEmbeddedNode(t *testing.T) {
	ep := startNode(t, "n0")
	c := bucketOn(t, ep, "orders")
	require.NoError(t, c.SetVBucket(t.Context(), 1, mcbp.VBucketActive, [][]string{{"n0"}}))
	const writers, each = 8, 200
	var calls []<-chan result[any]
	for w := range writers {
		calls = append(calls, outcome(func() (any, error) {
			for i := range each {
				key := fmt.Sprintf("%d-%d", w, i)
				if _, err := c.Set(t.Context(), 1, key, []byte(key), 0, 0, 0); err != nil {
					return nil, err
				}
				if item, err := c.Get(t.Context(), 1, key); err != nil || string(item.Value) != key {
					return nil, fmt.Errorf("%s holds %q: %w", key, item.Value, err)
				}
			}
			return nil, nil
		}))
	}
	for _, call := range calls {
		require.NoError(t, (<-call).err)
	}
	seqno, err := c.VBucketSeqno(t.Context(), 1)
	require.NoError(t, err)
	assert.EqualValues(t, writers*each, seqno.High)
}
