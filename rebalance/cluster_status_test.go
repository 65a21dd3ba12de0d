package rebalance

import (
	"context"
	"encoding/json"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/shearpin/shearpin/dcp/mcbp"
	"github.com/shearpin/shearpin/rebalance/vbmap"
)

// The status of a cluster says what goes on, and how each bucket is.
func TestTheStatusOfACluster(t *testing.T) {
	inFakeCluster(t, func(t *testing.T, i *interrupted) {
		status, err := i.cluster.Status(t.Context())
		require.NoError(t, err)
		assert.Equal(t, Idle, status.State)
		assert.Empty(t, status.Run)
		assert.Nil(t, status.Progress)
		assert.Nil(t, status.LastReport)
		assert.Nil(t, status.Retry)
		assert.Len(t, status.Members, 4)
		require.Len(t, status.Buckets, 1)
		b := status.Buckets[0]
		assert.Equal(t, "orders", b.Name)
		assert.Equal(t, []string{"n0", "n1", "n2"}, b.Servers)
		assert.NotZero(t, b.Checked)
		assert.Empty(t, b.Held)
		assert.Empty(t, b.Problems)
		var actives, replicas int
		for _, count := range b.Map.Nodes {
			actives, replicas = actives+count.Active, replicas+count.Replica
		}
		assert.Equal(t, b.VBuckets, actives)
		assert.Equal(t, b.VBuckets, replicas)
		assert.Zero(t, b.Map.Lost+b.Map.Short+b.Map.Moving)

		report, err := i.start().Wait(t.Context())
		require.NoError(t, err)
		require.NoError(t, report.Err)
		status, err = i.cluster.Status(t.Context())
		require.NoError(t, err)
		require.NotNil(t, status.LastReport)
		assert.Equal(t, report.ID, status.LastReport.ID)
		assert.Empty(t, status.LastReport.Buckets[0].VBuckets)
		assert.Equal(t, []string{"n1", "n2", "n3"}, status.Buckets[0].Servers)
		_, err = json.Marshal(status)
		require.NoError(t, err)
	})
}

// What the janitor left alone is in the status, with the reason, until it is repaired.
func TestTheStatusNamesWhatIsHeld(t *testing.T) {
	inFakeCluster(t, func(t *testing.T, i *interrupted) {
		m, err := i.cluster.Map(t.Context(), "orders")
		require.NoError(t, err)
		i.world.mu.Lock()
		for _, node := range i.world.nodes {
			if c := node.copies[2]; c != nil {
				c.state = mcbp.VBucketReplica // nobody is active
			}
		}
		i.world.mu.Unlock()
		silent := m[2].Replicas()[0]
		i.world.setGate(func(ctx context.Context, op fakeOp) error {
			if op.Node != silent {
				return nil
			}
			<-ctx.Done()
			return context.Cause(ctx)
		})
		_, err = i.cluster.Janitor(t.Context())
		require.NoError(t, err)
		asked := time.Now()
		status, err := i.cluster.Status(t.Context())
		require.NoError(t, err)
		assert.Zero(t, time.Since(asked))
		held := map[uint16]HeldVBucket{}
		for _, h := range status.Buckets[0].Held {
			held[h.VB] = h
		}
		require.Contains(t, held, uint16(2))
		assert.Equal(t, HeldWaiting, held[2].Kind)
		assert.Contains(t, held[2].Reason, "no answer from "+silent)
		assert.NotEmpty(t, status.Buckets[0].Problems)

		i.world.setGate(nil)
		_, err = i.cluster.Janitor(t.Context())
		require.NoError(t, err)
		status, err = i.cluster.Status(t.Context())
		require.NoError(t, err)
		assert.Empty(t, status.Buckets[0].Held)
		assert.Empty(t, status.Buckets[0].Problems)
	})
}

func TestAMapIsSummarised(t *testing.T) {
	inFakeCluster(t, func(t *testing.T, i *interrupted) {
		doc, err := i.cluster.env.buckets.Get(t.Context(), "orders")
		require.NoError(t, err)
		doc.Map = vbmap.Map{{"n0", "n1"}, {"", "n1"}, {"n0", ""}, {"", ""}}
		doc.Target = vbmap.Map{{"n0", "n1"}, {"n1", "n0"}, {"n0", "n1"}, {"", ""}}
		doc.Epoch = 7
		assert.Equal(t, MapSummary{
			Epoch: 7, Nodes: map[string]CopyCount{"n0": {Active: 2}, "n1": {Replica: 2}}, Lost: 2, Short: 2, Moving: 2,
		}, summarise(doc))
	})
}

// Whoever sees that a rebalance is over can read its report, and finds nothing that says it is still running (history 29).
func TestTheDeskTurnsOverAtOnce(t *testing.T) {
	d := newDesk()
	run := &Run{id: "r1", board: newBoard()}
	d.began(run)
	d.show(Rebalancing)
	d.ended(Report{ID: "another"})
	assert.Equal(t, Rebalancing, d.look().state)
	d.ended(Report{ID: "r1"})
	view := d.look()
	assert.Equal(t, Idle, view.state)
	assert.Nil(t, view.current)
	assert.Equal(t, "r1", view.reports[0].ID)
}

// Handles on runs can be had again, those of the last that ended too, and no more than are kept.
func TestRunsCanBeHadAgain(t *testing.T) {
	inFakeCluster(t, func(t *testing.T, i *interrupted) {
		assert.Nil(t, i.cluster.CurrentRun())
		assert.Nil(t, i.cluster.Run("nobody"))
		var runs []*Run
		for range keptReports + 2 {
			run := i.start()
			assert.Equal(t, run, i.cluster.CurrentRun())
			assert.Equal(t, run, i.cluster.Run(run.ID()))
			_, err := run.Wait(t.Context())
			require.NoError(t, err)
			assert.Nil(t, i.cluster.CurrentRun())
			runs = append(runs, run)
		}
		assert.Nil(t, i.cluster.Run(runs[0].ID()))
		for _, run := range runs[1:] {
			again := i.cluster.Run(run.ID())
			require.Equal(t, run, again)
			report, err := again.Wait(t.Context())
			require.NoError(t, err)
			assert.Equal(t, run.ID(), report.ID)
		}
	})
}

// A retry is in the status with the time that is left.
func TestTheStatusShowsTheRetry(t *testing.T) {
	inRetryingCluster(t, RetryConfig{After: time.Minute}, func(t *testing.T, i *interrupted) {
		i.failing()
		report := i.failed()
		require.NoError(t, after(t.Context(), 20*time.Second))
		status, err := i.cluster.Status(t.Context())
		require.NoError(t, err)
		require.NotNil(t, status.Retry)
		assert.Equal(t, RetryPending, status.Retry.State)
		assert.Equal(t, report.ID, status.Retry.RebalanceID)
		assert.InDelta(t, 40, float64(status.Retry.RetryAfter), 1)
		require.NoError(t, i.cluster.CancelRetry(t.Context()))
		status, err = i.cluster.Status(t.Context())
		require.NoError(t, err)
		assert.Nil(t, status.Retry)
	})
}
