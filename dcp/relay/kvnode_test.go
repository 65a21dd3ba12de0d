package relay_test

import (
	"context"
	"encoding/binary"
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/shearpin/shearpin/dcp/kv"
	"github.com/shearpin/shearpin/dcp/kvnode"
	"github.com/shearpin/shearpin/dcp/mcbp"
	"github.com/shearpin/shearpin/dcp/relay"
)

const bucket = "orders"

// node starts an embedded node with one bucket and connects to it.
func node(t *testing.T, name string) (kv.Endpoint, *kv.Client) {
	t.Helper()
	n, err := kvnode.Start(kvnode.Options{Name: name, User: "admin", Password: "secret"})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, n.Close()) })
	require.NoError(t, n.CreateBucket(bucket, 16))
	ep := kv.Endpoint{Node: name, Addr: n.Addr(), Credentials: kv.Credentials{User: "admin", Password: "secret"}}
	c, err := kv.Connect(t.Context(), ep, bucket)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, c.Close()) })
	return ep, c
}

// A replication between two nodes, from the injected ADD_STREAM to a takeover, with nothing but a relay between them.
func TestReplicationAndTakeoverBetweenEmbeddedNodes(t *testing.T) {
	const vb, name = 5, "replication:n0->n1:orders"
	ctx := t.Context()
	producerEP, producer := node(t, "n0")
	consumerEP, consumer := node(t, "n1")
	require.NoError(t, producer.SetVBucket(ctx, vb, mcbp.VBucketActive, [][]string{{"n0", "n1"}}))
	require.NoError(t, consumer.SetVBucket(ctx, vb, mcbp.VBucketReplica, nil))
	write := func(from, to int) {
		for i := from; i < to; i++ {
			_, err := producer.Set(ctx, vb, fmt.Sprint("key", i), make([]byte, i*100), 0, 0, 0)
			require.NoError(t, err)
		}
	}
	write(0, 200)

	var cfg relay.Config
	var err error
	cfg.Consumer, err = kv.OpenDCP(ctx, consumerEP, kv.DCPOpen{Bucket: bucket, Name: name, Role: kv.Consumer, ConsumerName: "n1"})
	require.NoError(t, err)
	cfg.Producer, err = kv.OpenDCP(ctx, producerEP, kv.DCPOpen{Bucket: bucket, Name: name, Role: kv.Producer})
	require.NoError(t, err)
	answers := make(chan mcbp.Frame, 10)
	cfg.Decider = deciderFunc(func(ctx context.Context, side relay.Side, frames []mcbp.Frame, verdicts []relay.Verdict) error {
		for _, f := range frames {
			if f.IsResponse() && side == relay.Consumer && f.Opcode() != mcbp.OpDCPSetVBucketState || f.Opcode() == mcbp.OpDCPStreamEnd {
				answers <- append(mcbp.Frame(nil), f...)
			}
		}
		return dropAnswers(ctx, side, frames, verdicts)
	})
	r := relay.New(cfg)
	running, cancel := context.WithCancel(ctx)
	ended := make(chan error, 1)
	go func() { ended <- r.Run(running) }()

	add := func(flags uint32, opaque mcbp.Opaque) {
		require.NoError(t, r.Inject(relay.Consumer, (&mcbp.Packet{
			Opcode: mcbp.OpDCPAddStream, VBucket: vb, Opaque: opaque, Extras: binary.BigEndian.AppendUint32(nil, flags),
		}).Frame()))
		answer := <-answers
		require.Equal(t, mcbp.OpDCPAddStream, answer.Opcode())
		require.Equal(t, mcbp.StatusSuccess, answer.Status())
		require.Equal(t, opaque, answer.Opaque())
	}
	r.Watch([]uint16{vb})
	add(0, mcbp.Opaque{0xff, 0, 1, 0xff})
	write(200, 250)
	require.Eventually(t, func() bool {
		got, err := consumer.VBucketSeqno(ctx, vb)
		return err == nil && got.High == 250
	}, patience, time.Millisecond)
	assert.GreaterOrEqual(t, r.Seen(vb), uint64(250))
	assert.NotZero(t, r.Controls())

	closing := (&mcbp.Packet{Opcode: mcbp.OpDCPCloseStream, VBucket: vb, Opaque: mcbp.Opaque{0xff, 0, 2, 0xff}}).Frame()
	require.NoError(t, r.Inject(relay.Producer, closing))
	require.NoError(t, r.Inject(relay.Consumer, closing))
	for range 2 { // the consumer's answer, and the producer's end of the closed stream
		<-answers
	}
	add(mcbp.StreamFlagTakeover, mcbp.Opaque{0xff, 0, 3, 0xff})
	end := <-answers
	require.Equal(t, mcbp.OpDCPStreamEnd, end.Opcode())
	assert.EqualValues(t, mcbp.EndOK, binary.BigEndian.Uint32(end.Extras()))
	infos, err := consumer.VBuckets(ctx)
	require.NoError(t, err)
	assert.Equal(t, mcbp.VBucketActive, infos[vb].State)
	assert.EqualValues(t, 250, infos[vb].HighSeqno)
	_, err = producer.Get(ctx, vb, "key1")
	require.ErrorIs(t, err, mcbp.StatusNotMyVBucket)

	cancel()
	require.ErrorIs(t, <-ended, context.Canceled)
}
