package rebalance

import (
	"context"
	"encoding/json"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/shearpin/shearpin/rebalance/store"
)

// touch changes the bucket's document, so that there is something to publish, and returns its revision.
func (i *interrupted) touch() int64 {
	doc, err := i.cluster.env.buckets.Update(i.t.Context(), "orders", func(*store.BucketDoc) error { return nil })
	require.NoError(i.t, err)
	return int64(doc.Revision)
}

func (i *interrupted) revisions() map[string]int64 {
	i.world.mu.Lock()
	defer i.world.mu.Unlock()
	revisions := map[string]int64{}
	for name, node := range i.world.nodes {
		revisions[name] = node.revision
	}
	return revisions
}

// published waits until the nodes have what is in the store now.
func (i *interrupted) published() error {
	_, err := i.cluster.env.system.Whereis(publisherName).Call(i.t.Context(), publishMap{"orders"})
	return err
}

func TestChangesThatComeWhileOneIsUnderWayGoOutTogether(t *testing.T) {
	inFakeCluster(t, func(t *testing.T, i *interrupted) {
		ops := i.journal()
		gate := i.world.gate
		i.world.setGate(func(ctx context.Context, op fakeOp) error {
			_ = gate(ctx, op)
			return after(ctx, time.Second)
		})
		var last int64
		for range 20 {
			last = i.touch()
			i.cluster.env.publish("orders")
		}
		require.NoError(t, i.published())
		assert.Equal(t, map[string]int64{"n0": last, "n1": last, "n2": last, "n3": 0}, i.revisions())
		assert.LessOrEqual(t, len(ops()), 2*3)
	})
}

// A node that does not answer holds up nobody else, and gets the newest when it does.
func TestANodeThatDoesNotTakeItsMapIsTriedAgain(t *testing.T) {
	inFakeCluster(t, func(t *testing.T, i *interrupted) {
		i.world.setGate(func(ctx context.Context, op fakeOp) error {
			if op.Node != "n1" {
				return nil
			}
			<-ctx.Done()
			return context.Cause(ctx)
		})
		i.touch()
		began := time.Now()
		i.cluster.env.publish("orders")
		synctest.Wait()
		last := i.touch()
		err := i.published()
		var failed *NodesError
		require.ErrorAs(t, err, &failed)
		require.Len(t, failed.Failed, 1)
		assert.Equal(t, "n1", failed.Failed[0].Node)
		assert.LessOrEqual(t, time.Since(began), 2*publishLimit)
		assert.Equal(t, last, i.revisions()["n0"])

		i.world.setGate(nil)
		require.NoError(t, after(t.Context(), publishLimit+2*publishRetry))
		assert.Equal(t, last, i.revisions()["n1"])
	})
}

func TestWhatIsUnchangedIsNotSentAgain(t *testing.T) {
	inFakeCluster(t, func(t *testing.T, i *interrupted) {
		ops := i.journal()
		require.NoError(t, i.published())
		require.NoError(t, i.published())
		assert.Empty(t, ops())
	})
}

// A publisher that dies leaves an attempt behind that has not noticed. Its successor does not overtake it: nodes take whatever
// comes last, and that must be the newest.
func TestAPublisherDoesNotOvertakeTheAttemptOfOneThatDied(t *testing.T) {
	inFakeCluster(t, func(t *testing.T, i *interrupted) {
		underWay, goOn := make(chan struct{}), make(chan struct{})
		i.world.setGate(func(_ context.Context, op fakeOp) error {
			if op.Number == 1 {
				close(underWay)
				<-goOn
			}
			return nil
		})
		i.touch()
		i.cluster.env.publish("orders")
		<-underWay
		i.cluster.env.system.Whereis(publisherName).Kill()
		synctest.Wait()
		last := i.touch()
		i.cluster.env.publish("orders")
		synctest.Wait()
		close(goOn)
		synctest.Wait()
		require.NoError(t, i.published())
		assert.Equal(t, map[string]int64{"n0": last, "n1": last, "n2": last, "n3": 0}, i.revisions())
		assert.Empty(t, i.world.wrong)
	})
}

// An attempt that was given up may be on the wire, and arrive behind the next one: the newest is sent once more when that can
// not happen any more, and then no more.
func TestAfterAnAttemptThatWasGivenUpTheNewestIsRepeated(t *testing.T) {
	for name, c := range map[string]struct {
		interrupt func(*interrupted)
		repeated  map[string]int
	}{
		"a failure": {func(i *interrupted) {
			i.world.setGate(func(context.Context, fakeOp) error { return errInjected })
			i.touch()
			assert.Error(i.t, i.published())
		}, map[string]int{"configuration": 3}},
		"another publisher": {func(i *interrupted) {
			i.cluster.env.system.Whereis(publisherName).Kill()
			synctest.Wait()
		}, map[string]int{"configuration": 3, "node list": 3}},
	} {
		t.Run(name, func(t *testing.T) {
			inFakeCluster(t, func(t *testing.T, i *interrupted) {
				require.NoError(t, after(t.Context(), 2*publishLimit))
				c.interrupt(i)
				i.world.setGate(nil)
				require.NoError(t, after(t.Context(), 2*publishRetry))
				require.NoError(t, i.published())

				late := i.revisions()["n1"] - 1
				ops := i.journal()
				i.world.mu.Lock()
				i.world.nodes["n1"].revision = late // the one that arrives late
				i.world.mu.Unlock()
				require.NoError(t, after(t.Context(), publishLimit+publishRetry))
				assert.Equal(t, late+1, i.revisions()["n1"])
				assert.Equal(t, c.repeated, whats(ops()))
				require.NoError(t, after(t.Context(), time.Minute))
				assert.Equal(t, c.repeated, whats(ops()))
			})
		})
	}
}

func TestAMapOfABucketThatIsNotThere(t *testing.T) {
	inFakeCluster(t, func(t *testing.T, i *interrupted) {
		publisher := i.cluster.env.system.Whereis(publisherName)
		_, err := publisher.Call(t.Context(), publishMap{"nothing"})
		require.ErrorIs(t, err, store.ErrNotFound)
		assert.True(t, publisher.Alive())
	})
}

// listed is what each node tells clients that have chosen no bucket.
func (i *interrupted) listed() map[string]string {
	i.world.mu.Lock()
	defer i.world.mu.Unlock()
	lists := map[string]string{}
	for name, node := range i.world.nodes {
		lists[name] = node.list
	}
	return lists
}

// Who has chosen no bucket is told of the nodes, all of them, and only when they are others than before.
func TestTheListOfNodesIsPublishedToo(t *testing.T) {
	inFakeCluster(t, func(t *testing.T, i *interrupted) {
		addrs := func(names ...string) (exts []configNodeExt) {
			for _, name := range names {
				node, ok := i.cluster.env.nodes.get(name)
				require.True(t, ok)
				ext, err := node.configExt(false)
				require.NoError(t, err)
				exts = append(exts, ext)
			}
			return exts
		}
		parsed := func(text string) (list nodeListJSON) {
			require.NoError(t, json.Unmarshal([]byte(text), &list), "%q", text)
			assert.EqualValues(t, configEpoch, list.Epoch)
			return list
		}
		require.NoError(t, i.published())
		before := parsed(i.listed()["n0"])
		assert.Equal(t, addrs("n0", "n1", "n2"), before.NodesExt)
		assert.Equal(t, i.listed()["n0"], i.listed()["n2"])
		assert.Empty(t, i.listed()["n3"])
		require.NoError(t, after(t.Context(), 2*publishLimit), "the publisher sends its first map twice")

		ops := i.journal()
		i.touch()
		require.NoError(t, i.published())
		assert.Equal(t, map[string]int{"configuration": 3}, whats(ops()), "a newer bucket is no news")

		ops = i.journal()
		require.NoError(t, i.cluster.env.buckets.SetServers(t.Context(), "orders", []string{"n3", "n0", "n1", "n2"}))
		i.cluster.env.publish("orders")
		synctest.Wait()
		assert.Equal(t, map[string]int{"configuration": 4, "node list": 4}, whats(ops()))
		now := parsed(i.listed()["n3"])
		assert.Equal(t, addrs("n0", "n1", "n2", "n3"), now.NodesExt, "in the order in which they came")
		assert.Greater(t, now.Revision, before.Revision)
		for name, list := range i.listed() {
			assert.Equal(t, i.listed()["n3"], list, name)
		}
		assert.Empty(t, i.world.wrong)
	})
}

// Who waits until a bucket is published may then send clients to the nodes: they need the list as well.
func TestPublishedMeansTheListOfNodesToo(t *testing.T) {
	inFakeCluster(t, func(t *testing.T, i *interrupted) {
		require.NoError(t, after(t.Context(), 2*publishLimit), "the publisher sends its first map twice")
		i.world.setGate(func(ctx context.Context, op fakeOp) error {
			switch {
			case op.What == "node list" && op.Node == "n2":
				return errInjected
			case op.What == "node list":
				return after(ctx, time.Second)
			}
			return nil
		})
		require.NoError(t, i.cluster.env.buckets.SetServers(t.Context(), "orders", []string{"n0", "n1", "n2", "n3"}))
		err := i.published()
		assert.NotEmpty(t, i.listed()["n3"])
		var failed *NodesError
		require.ErrorAs(t, err, &failed)
		require.Len(t, failed.Failed, 1)
		assert.Equal(t, "n2", failed.Failed[0].Node)
		assert.Equal(t, i.revisions()["n0"], i.revisions()["n2"], "the bucket's map is there")
		i.world.setGate(nil)
		require.NoError(t, i.published())
		require.NoError(t, after(t.Context(), 2*publishRetry))
		assert.Equal(t, i.listed()["n3"], i.listed()["n2"])
	})
}

// Clients that learn from a node of a map without it close their connection to it, and one that is widely used never gets over that:
// a node that leaves keeps the last map that it is in, which says where everything is by then.
func TestANodeThatLeavesIsNotToldOfAMapWithoutIt(t *testing.T) {
	inFakeCluster(t, func(t *testing.T, i *interrupted) {
		require.NoError(t, after(t.Context(), 2*publishLimit), "the publisher sends its first map twice")
		last := i.touch()
		ops := i.journal()
		gate := i.world.gate
		i.world.setGate(func(ctx context.Context, op fakeOp) error {
			_ = gate(ctx, op)
			return after(ctx, time.Second)
		})
		i.cluster.env.publish("orders")
		synctest.Wait() // the last map with n2 is under way
		_, err := i.cluster.env.buckets.Update(t.Context(), "orders", func(doc *store.BucketDoc) error {
			for vb, chain := range doc.Map {
				doc.Map[vb] = chain.Without("n2").Aligned(2)
			}
			doc.Servers = []string{"n0", "n1"}
			return nil
		})
		require.NoError(t, err)
		require.NoError(t, i.published())
		require.NoError(t, after(t.Context(), time.Minute))
		assert.Equal(t, last, i.revisions()["n2"])
		assert.Greater(t, i.revisions()["n0"], last)
		assert.Equal(t, i.revisions()["n0"], i.revisions()["n1"])
		assert.Equal(t, i.listed()["n0"], i.listed()["n2"], "which is told of the others, all the same")
		told := 0
		for _, op := range ops() {
			if op.Node == "n2" {
				told++
			}
		}
		assert.Equal(t, 2, told, "the map, the list, and no more")

		require.NoError(t, i.cluster.env.buckets.SetServers(t.Context(), "orders", []string{"n0", "n1", "n2"}))
		require.NoError(t, i.published())
		assert.Equal(t, i.revisions()["n0"], i.revisions()["n2"], "back again")
		assert.Equal(t, i.listed()["n0"], i.listed()["n2"])
	})
}

// A client that takes two maps at once may be left with the older one. The last map of a rebalance comes alone.
func TestTheLastMapOfARebalanceComesAlone(t *testing.T) {
	inFakeCluster(t, func(t *testing.T, i *interrupted) {
		require.NoError(t, after(t.Context(), 2*publishLimit), "the publisher sends its first map twice")
		var sent []time.Time
		i.world.setGate(func(_ context.Context, op fakeOp) error {
			if op.What == "configuration" && op.Node == "n0" {
				i.world.mu.Lock()
				defer i.world.mu.Unlock()
				sent = append(sent, time.Now())
			}
			return nil
		})
		run, err := i.cluster.Rebalance(t.Context(), Request{Keep: []string{"n0", "n1"}})
		require.NoError(t, err)
		report, err := run.Wait(t.Context())
		require.NoError(t, err)
		require.Equal(t, Complete, report.Outcome, "%v", report.Err)
		i.world.mu.Lock()
		defer i.world.mu.Unlock()
		require.Greater(t, len(sent), 2)
		last := len(sent) - 1
		assert.GreaterOrEqual(t, sent[last].Sub(sent[last-1]), lastMapPause)
	})
}

// A node that is down is tried again at the publisher's pace, however many changes it has missed.
func TestMissedChangesAreNotTriedAgainOneByOne(t *testing.T) {
	inFakeCluster(t, func(t *testing.T, i *interrupted) {
		require.NoError(t, after(t.Context(), 2*publishLimit), "the publisher sends its first map twice")
		i.world.setGate(func(_ context.Context, op fakeOp) error {
			if op.Node == "n0" {
				return nil
			}
			return errInjected
		})
		for range 20 {
			i.touch()
			var failed *NodesError
			require.ErrorAs(t, i.published(), &failed)
			require.Len(t, failed.Failed, 2)
			assert.Equal(t, "n1", failed.Failed[0].Node, "sorted")
		}
		ops := i.journal()
		gate := i.world.gate
		i.world.setGate(func(ctx context.Context, op fakeOp) error {
			_ = gate(ctx, op)
			return errInjected
		})
		require.NoError(t, after(t.Context(), 10*publishRetry+publishRetry/2))
		assert.Equal(t, map[string]int{"configuration": 2 * 10}, whats(ops()))
	})
}

func TestAStopDoesNotWaitUntilTheLastMapMayCome(t *testing.T) {
	inFakeCluster(t, func(t *testing.T, i *interrupted) {
		require.NoError(t, after(t.Context(), 2*publishLimit), "the publisher sends its first map twice")
		ops := i.journal()
		run, err := i.cluster.Rebalance(t.Context(), Request{Keep: []string{"n0", "n1"}})
		require.NoError(t, err)
		for before := -1; len(ops()) > before; { // nothing else is as quiet
			before = len(ops())
			require.NoError(t, after(t.Context(), lastMapPause/2))
		}
		began := time.Now()
		require.NoError(t, run.Stop(t.Context()))
		report, err := run.Wait(t.Context())
		require.NoError(t, err)
		assert.Equal(t, Stopped, report.Outcome, "%v", report.Err)
		assert.Zero(t, time.Since(began))
		assert.NotZero(t, report.Moves)
		assert.Equal(t, report.MovesPlanned, report.Moves, "it was over but for that")
	})
}
