package interop

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/couchbase/gocb/v2"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/shearpin/shearpin/dcp/kvnode"
	"github.com/shearpin/shearpin/rebalance"
)

// durableClient is the SDK as an application uses it that cannot afford to lose a write. The levels take turns. Who is told that a write is
// ambiguous, because its vbucket was handed over in the middle of it, makes it again.
type durableClient struct {
	sdkClient
	w                 *world
	writes, ambiguous *atomic.Int64
}

func (w *world) durableSDK() durableClient {
	return durableClient{w.sdk(), w, &atomic.Int64{}, &atomic.Int64{}}
}

var durabilityLevels = []gocb.DurabilityLevel{
	gocb.DurabilityLevelMajority, gocb.DurabilityLevelMajorityAndPersistOnMaster, gocb.DurabilityLevelPersistToMajority,
}

func (c durableClient) level() gocb.DurabilityLevel {
	return durabilityLevels[c.writes.Add(1)%int64(len(durabilityLevels))]
}

// unambiguously makes a write until it is clear how it ended.
func (c durableClient) unambiguously(write func(again bool) error) error {
	err := write(false)
	for errors.Is(err, gocb.ErrDurabilityAmbiguous) && c.w.ctx.Err() == nil {
		c.ambiguous.Add(1)
		err = write(true)
	}
	return err
}

func (c durableClient) set(key, value string) error {
	return c.unambiguously(func(bool) error {
		_, err := c.collection.Upsert(key, json.RawMessage(value), &gocb.UpsertOptions{DurabilityLevel: c.level()})
		return err
	})
}

func (c durableClient) remove(key string) error {
	return c.unambiguously(func(again bool) error {
		_, err := c.collection.Remove(key, &gocb.RemoveOptions{DurabilityLevel: c.level()})
		if again && errors.Is(err, gocb.ErrDocumentNotFound) {
			return nil
		}
		return err
	})
}

// onDisk gives a node a directory.
func onDisk(t *testing.T) func(*kvnode.Options) {
	return func(o *kvnode.Options) { o.Dir, o.DiskNoSync = t.TempDir(), true }
}

func TestTheSDKWritesDurablyThroughRebalances(t *testing.T) {
	w := newWorld(t, onDisk(t))
	consumer := w.coreConsumer("interop-gocbcore")
	c := w.durableSDK()
	written := w.writeThrough(c, enoughDurable)
	t.Logf("%d durable writes, %d of them again", c.writes.Load(), c.ambiguous.Load())
	w.requireWritten(c, written)
	w.requireWritten(w.sdk(), written)
	w.requireFollowed(consumer.tracker)
}

// What was answered before a node died is there when the replicas have taken over, whether it was committed on them or not.
func TestDurableWritesOfTheSDKOutliveTheirNode(t *testing.T) {
	w := newWorld(t, onDisk(t))
	c := w.durableSDK()
	var mu sync.Mutex
	var all sync.WaitGroup
	written := map[string]string{}
	enough := make(chan struct{})
	for writer := range writers {
		all.Go(func() {
			for i := 0; ; i++ {
				key, value := fmt.Sprintf("key-%d-%d", writer, i), fmt.Sprintf(`{"n":%d}`, i)
				if err := c.set(key, value); err != nil {
					return // its node is gone, or there is no majority any more
				}
				mu.Lock()
				written[key] = value
				if len(written) == writers*enoughDurable {
					close(enough)
				}
				mu.Unlock()
			}
		})
	}
	select {
	case <-enough:
	case <-w.ctx.Done():
		require.Fail(t, "nothing is written")
	}
	w.nodes["n0"].Kill()
	report, err := w.cluster.Failover(w.ctx, rebalance.FailoverRequest{Nodes: []string{"n0"}})
	require.NoError(t, err)
	require.NoError(t, report.Err)
	all.Wait()
	run, err := w.cluster.Rebalance(w.ctx, rebalance.Request{}) // with replicas again, there is a majority
	require.NoError(t, err)
	ended, err := run.Wait(w.ctx)
	require.NoError(t, err)
	require.Equal(t, rebalance.Complete, ended.Outcome, "%v", ended.Err)
	assert.GreaterOrEqual(t, len(written), writers*enoughDurable)
	w.requireWritten(c, maps.Clone(written))
	require.NoError(t, c.set("afterwards", `"v"`))
}
