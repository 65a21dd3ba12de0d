package rebalance_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/shearpin/shearpin/actors"
	"github.com/shearpin/shearpin/dcp"
	"github.com/shearpin/shearpin/dcp/kvnode/fault"
	"github.com/shearpin/shearpin/rebalance"
)

var orders = rebalance.BucketConfig{Name: "orders", VBuckets: 16, Replicas: 1}

func TestRebalanceOntoANewNode(t *testing.T) {
	w := newWorld(t, 4, 3, orders, noFault)
	written := w.write(200, "first ")
	w.requireAll(written)
	require.NoError(t, w.cluster.AddNode(t.Context(), w.node("n3")))

	report := w.rebalance(rebalance.Request{})
	require.NoError(t, report.Err)
	assert.Equal(t, rebalance.Complete, report.Outcome)
	assert.Empty(t, report.Cause)
	assert.Positive(t, report.MovesPlanned)
	assert.Equal(t, report.MovesPlanned, report.Moves)
	assert.True(t, w.activeMap().Balanced("n0", "n1", "n2", "n3"))
	w.requireAll(written)
	w.requireClean()
}

func TestRebalanceFailsAtOnceWithTheTrueCauseAndTheNextOneCompletes(t *testing.T) {
	for _, test := range []struct {
		kind fault.Kind
		// restarts says whether a connection crashes.
		restarts bool
		// named says whether what happened tells of which vbucket: a closed socket, or a made-up opaque, does not.
		named bool
		cause string
	}{
		{fault.EarlyStreamEnd, true, true, "unexpected_stream_end"},
		{fault.LateAnswer, true, true, "unexpected_stream_end"},
		{fault.NoAddResponse, true, true, "add_stream_timeout"},
		{fault.UnknownOpaque, true, false, "unknown_opaque"},
		{fault.DropConsumer, true, false, "socket closed"},
		{fault.DropProducer, true, false, "socket closed"},
		{fault.AddError, false, true, "not my vbucket"},
	} {
		t.Run(test.kind.String(), func(t *testing.T) {
			w := newWorld(t, 4, 3, orders, test.kind, func(c *rebalance.Config) {
				c.Limits.Replication.Add = 200 * time.Millisecond
			})
			written := w.write(100, "first ")
			require.NoError(t, w.cluster.AddNode(t.Context(), w.node("n3")))
			crashes := w.cluster.ReplicationEvents().Subscribe(1000)
			defer crashes.Close()
			w.faults.Arm()

			report := w.rebalance(rebalance.Request{})
			require.Equal(t, rebalance.Failed, report.Outcome)
			record, _ := w.faults.Record()
			link := fmt.Sprintf("replication %s→%s/0", record.Producer, record.Consumer)
			assert.Equal(t, `rebalance of "orders" aborted`, report.Cause[0])
			assert.Contains(t, report.Cause[1], "move of vb ")
			if test.named {
				assert.Contains(t, report.Cause[1], fmt.Sprintf("move of vb %d ", record.VB))
			}
			assert.Equal(t, link, report.Cause[2])
			assert.Contains(t, strings.Join(report.Cause[3:], "; "), test.cause)
			assert.Less(t, report.Moves, report.MovesPlanned)

			runs := w.cluster.JanitorRuns()
			require.Eventually(t, func() bool { return w.cluster.JanitorRuns() > runs }, 20*time.Second, time.Millisecond)
			janitor, err := w.cluster.Janitor(w.ctx)
			require.NoError(t, err)
			require.NoError(t, janitor.Problem())
			w.requireAll(written)
			w.requireClean()

			second := w.rebalance(rebalance.Request{})
			require.NoError(t, second.Err)
			assert.True(t, w.activeMap().Balanced("n0", "n1", "n2", "n3"))
			w.requireAll(written)
			w.requireClean()
			assert.Equal(t, test.restarts, crashed(crashes), "a healthy connection is not restarted")
		})
	}
}

// crashed says whether any link crashed.
func crashed(events *actors.Subscription[dcp.Event]) bool {
	for {
		select {
		case event := <-events.C():
			if _, ok := event.(dcp.LinkCrashed); ok {
				return true
			}
		default:
			return false
		}
	}
}

func TestALateStreamEndOfAnEarlierStreamDisturbsNothing(t *testing.T) {
	w := newWorld(t, 4, 3, orders, fault.StaleStreamEnd)
	written := w.write(100, "first ")
	require.NoError(t, w.cluster.AddNode(t.Context(), w.node("n3")))
	w.faults.Arm()
	report := w.rebalance(rebalance.Request{})
	require.NoError(t, report.Err)
	_, happened := w.faults.Record()
	assert.True(t, happened)
	w.requireAll(written)
	w.requireClean()
}
