package integration

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/shearpin/shearpin/dcp"
	"github.com/shearpin/shearpin/dcp/kv"
	"github.com/shearpin/shearpin/dcp/kvnode/fault"
	"github.com/shearpin/shearpin/dcp/mcbp"
)

func TestAPeerThatIsDownIsAnErrorInTimeAndStatusAnswersMeanwhile(t *testing.T) {
	p := newPair(t, healthy, dcp.Limits{Join: 300 * time.Millisecond})
	require.NoError(t, p.nodes[producer].Close())
	done := make(chan error, 1)
	go func() { done <- p.apply(1) }()
	p.eventually("the link is known", func() bool {
		status, err := p.manager.Status(p.ctx)
		return err == nil && len(status.Links) == 1 && status.Links[0].State == "connecting"
	})
	err := <-done
	var link *dcp.LinkError
	require.ErrorAs(t, err, &link)
	require.ErrorContains(t, err, "not connected")
}

func TestAnEndThatNobodyAskedForIsPublishedAndTheStreamRestored(t *testing.T) {
	p := newPair(t, healthy, dcp.Limits{})
	require.NoError(t, p.apply(7))
	p.setState(producer, 7, mcbp.VBucketDead)
	p.eventually("the end is published", func() bool {
		p.mu.Lock()
		defer p.mu.Unlock()
		for _, e := range p.news {
			if end, ok := e.(dcp.StreamEnded); ok && end.VB == 7 && end.Reason == mcbp.EndStateChanged {
				return true
			}
		}
		return false
	})
	p.setState(producer, 7, mcbp.VBucketActive)
	p.eventually("the stream is back", func() bool { return len(p.streams()) == 1 })
	assert.Empty(t, p.crashes())
}

func TestFenceOpensTheConsumerAgain(t *testing.T) {
	p := newPair(t, healthy, dcp.Limits{})
	require.NoError(t, p.apply(7))
	require.NoError(t, p.manager.Fence(p.ctx, 7, producer))
	assert.Empty(t, p.crashes())
	p.write(7, 10)
	p.requireReplicated(7)
	p.eventually("the manager knows it", func() bool { return len(p.streams()) == 1 })
	assert.Equal(t, 2, p.incarnation())
}

func TestFenceWithoutALink(t *testing.T) {
	p := newPair(t, healthy, dcp.Limits{})
	require.NoError(t, p.manager.Fence(p.ctx, 7, producer))
	assert.Equal(t, 0, p.incarnation())
}

func TestShutClosesTheStreamsAtTheConsumer(t *testing.T) {
	p := newPair(t, healthy, dcp.Limits{})
	require.NoError(t, p.apply(all()...))
	require.NoError(t, p.manager.Shut(p.ctx))
	assert.Empty(t, p.crashes())
	require.ErrorIs(t, p.apply(1), dcp.ErrShut)
	p.eventually("the engine has no connection left", func() bool {
		connections, err := p.clients[consumer].DCPConnections(p.ctx)
		return err == nil && len(connections) == 0
	})
}

func TestACallersContextEndsItsWait(t *testing.T) {
	p := newPair(t, fault.NoAddResponse, dcp.Limits{})
	p.plan.Arm()
	ctx, cancel := context.WithCancel(p.ctx)
	done := make(chan error, 1)
	go func() { done <- p.manager.Apply(ctx, 1, "", map[uint16]string{1: producer}) }()
	<-p.plan.Happened()
	cancel()
	require.ErrorIs(t, <-done, context.Canceled)
}

func TestANewEpochOvertakesAnAddThatIsNeverAnswered(t *testing.T) {
	p := newPair(t, fault.NoAddResponse, dcp.Limits{Grace: 200 * time.Millisecond})
	p.plan.Arm()
	done := make(chan error, 1)
	go func() { done <- p.apply(1) }()
	<-p.plan.Happened()
	require.NoError(t, p.manager.Prepare(p.ctx, 2))
	require.ErrorIs(t, <-done, dcp.ErrSuperseded)
	require.NoError(t, p.manager.Apply(p.ctx, 2, "", map[uint16]string{1: producer}))
}

func TestATakeoverThatFailedIsFencedBeforeTheNextEpoch(t *testing.T) {
	p := newPair(t, healthy, dcp.Limits{Join: 300 * time.Millisecond})
	require.NoError(t, p.apply(5))
	require.NoError(t, p.nodes[producer].Close())
	require.Error(t, p.manager.Takeover(p.ctx, 1, "move", 5, producer))
	require.NoError(t, p.manager.Prepare(p.ctx, 2), "the consumer's OPEN is enough; the producer may stay down")
	info, err := p.clients[consumer].VBuckets(p.ctx)
	require.NoError(t, err)
	assert.Equal(t, mcbp.VBucketReplica, info[5].State)
}

func TestTheFirstEpochEndsWhatAnEarlierManagerLeft(t *testing.T) {
	p := newPair(t, healthy, dcp.Limits{})
	name := dcp.ConnectionName("n7", consumer, bucket, 0)
	conn, err := kv.OpenDCP(p.ctx, p.endpoint(consumer), kv.DCPOpen{Bucket: bucket, Name: name, Role: kv.Consumer, ConsumerName: consumer})
	require.NoError(t, err)
	defer conn.Close()
	p.startManager(dcp.Limits{})
	_, err = conn.Read(make([]byte, 1))
	require.Error(t, err, "the engine has closed it")
}

func TestBystandersOfARebuiltConnectionKeepReplicating(t *testing.T) {
	p := newPair(t, fault.NoAddResponse, dcp.Limits{Grace: 200 * time.Millisecond})
	require.NoError(t, p.apply(7, 8))
	p.plan.Arm()
	done := make(chan error, 1)
	go func() { done <- p.apply(1) }()
	p.record()
	require.NoError(t, p.manager.Prepare(p.ctx, 2))
	require.ErrorIs(t, <-done, dcp.ErrSuperseded)
	p.write(7, 20)
	p.requireReplicated(7)
}

func TestARefusedTakeoverLeavesTheTruthBehind(t *testing.T) {
	p := newPair(t, healthy, dcp.Limits{})
	require.NoError(t, p.apply(5))
	p.setState(consumer, 5, mcbp.VBucketActive)
	require.ErrorIs(t, p.manager.Takeover(p.ctx, 1, "move", 5, producer), mcbp.StatusNotMyVBucket)
	assert.Empty(t, p.streams())
	assert.Empty(t, p.crashes())
	p.setState(consumer, 5, mcbp.VBucketReplica)
	require.NoError(t, p.apply(5))
	p.write(5, 20)
	p.requireReplicated(5)
}
