package rebalance

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/shearpin/shearpin/actors/actortest"
	"github.com/shearpin/shearpin/rebalance/store"
)

// inRetryingCluster is inFakeCluster with retries.
func inRetryingCluster(t *testing.T, retry RetryConfig, test func(t *testing.T, i *interrupted)) {
	inFakeCluster(t, func(t *testing.T, i *interrupted) {
		retry.Enabled = true
		i.retry = retry
		require.NoError(t, i.reopened())
		test(t, i)
	})
}

// failing lets every takeover fail until it is told not to.
func (i *interrupted) failing() {
	i.world.setGate(func(_ context.Context, op fakeOp) error {
		if op.What == "takeover" {
			return errInjected
		}
		return nil
	})
}

func (i *interrupted) pending() *PendingRetry {
	pending, err := i.cluster.PendingRetry(i.t.Context())
	require.NoError(i.t, err)
	return pending
}

func (i *interrupted) failed() *Report {
	i.t.Helper()
	report, err := i.start().Wait(i.t.Context())
	require.NoError(i.t, err)
	require.Equal(i.t, Failed, report.Outcome)
	synctest.Wait()
	return report
}

func TestARebalanceThatFailedIsStartedAgain(t *testing.T) {
	inRetryingCluster(t, RetryConfig{After: time.Minute, MaxAttempts: 2}, func(t *testing.T, i *interrupted) {
		i.failing()
		first := i.failed()
		assert.Equal(t, &PendingRetry{
			State: RetryPending, RebalanceID: first.ID, Type: SwapRebalance, AttemptsRemaining: 2,
			At: first.Ended.Add(time.Minute), RetryAfter: 60, Keep: request.Keep,
		}, i.pending())
		actortest.Elapse(30 * time.Second)
		assert.InDelta(t, 30, float64(i.pending().RetryAfter), 0.1)
		require.NoError(t, i.cluster.AddNode(t.Context(), fakeNodeNamed(4)), "has no part in it")

		actortest.Elapse(31 * time.Second)
		reports, err := i.cluster.Reports(t.Context())
		require.NoError(t, err)
		require.Len(t, reports, 2)
		assert.Equal(t, first.ID, reports[0].RetryOf)
		assert.Equal(t, 1, i.pending().AttemptsRemaining)
		i.world.setGate(nil)
		actortest.Elapse(2 * time.Minute)
		reports, err = i.cluster.Reports(t.Context())
		require.NoError(t, err)
		require.Len(t, reports, 3)
		assert.Equal(t, Complete, reports[0].Outcome)
		assert.Nil(t, i.pending())
		assert.True(t, i.chains().Balanced(request.Keep...))
		i.requireServed()
	})
}

func TestARetryIsGivenUp(t *testing.T) {
	for name, overtake := range map[string]func(t *testing.T, i *interrupted){
		"if it is cancelled": func(t *testing.T, i *interrupted) {
			require.NoError(t, i.cluster.CancelRetry(t.Context()))
			assert.Nil(t, i.pending())
		},
		"if a bucket was created": func(t *testing.T, i *interrupted) {
			_, err := i.cluster.env.buckets.Create(t.Context(), store.BucketDoc{Name: "more", UUID: "u", VBuckets: 1})
			require.NoError(t, err)
		},
		"if nodes are failed over": func(_ *testing.T, i *interrupted) {
			i.failOver(giveUp("n0"))
		},
		"if a node has another group": func(t *testing.T, i *interrupted) {
			require.NoError(t, i.cluster.env.changeCluster(t.Context(), func(doc *clusterDocument) error {
				doc.Members[1].Group = "elsewhere"
				return nil
			}))
		},
	} {
		t.Run(name, func(t *testing.T) {
			inRetryingCluster(t, RetryConfig{After: time.Minute}, func(t *testing.T, i *interrupted) {
				i.failing()
				i.failed()
				require.NotNil(t, i.pending())
				i.world.setGate(nil)
				overtake(t, i)
				actortest.Elapse(2 * time.Minute)
				reports, err := i.cluster.Reports(t.Context())
				require.NoError(t, err)
				assert.Len(t, reports, 1)
				assert.Nil(t, i.pending())
			})
		})
	}
}

// A graceful failover is tried again too, to its end.
func TestAGracefulFailoverIsTriedAgain(t *testing.T) {
	inRetryingCluster(t, RetryConfig{After: time.Minute}, func(t *testing.T, i *interrupted) {
		i.failing()
		report, err := i.gracefully("n0").Wait(t.Context())
		require.NoError(t, err)
		require.Equal(t, Failed, report.Outcome)
		synctest.Wait()
		assert.Equal(t, []string{"n0"}, i.pending().Nodes)
		i.world.setGate(nil)
		actortest.Elapse(2 * time.Minute)
		reports, err := i.cluster.Reports(t.Context())
		require.NoError(t, err)
		require.Len(t, reports, 2)
		assert.Equal(t, Complete, reports[0].Outcome)
		assert.Equal(t, FailedOver, i.members()[0].Membership)
		i.requireServed("n0")
	})
}
