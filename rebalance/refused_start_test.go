package rebalance

import (
	"context"
	"sync"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// What was refused is forgotten: the next rebalance is the one that was asked for, and whoever asked hears of its end.
func TestARebalanceThatAFailoverRefusedIsForgotten(t *testing.T) {
	inFakeCluster(t, func(t *testing.T, i *interrupted) {
		promoting, tried := make(chan struct{}), make(chan struct{})
		promote := sync.OnceFunc(func() { close(promoting) })
		i.world.setGate(func(_ context.Context, op fakeOp) error {
			if op.What == "state active" {
				promote()
				<-tried
			}
			return nil
		})
		var failover sync.WaitGroup
		failover.Go(func() { i.failOver(giveUp("n0")) })
		<-promoting
		_, err := i.cluster.Rebalance(t.Context(), Request{Keep: []string{"n1", "n2"}})
		require.ErrorIs(t, err, ErrFailoverRunning)
		close(tried)
		failover.Wait()

		run, err := i.cluster.Rebalance(t.Context(), Request{Keep: []string{"n1", "n2", "n3"}})
		require.NoError(t, err)
		ctx, cancel := context.WithTimeout(t.Context(), janitorBackstop)
		defer cancel()
		report, err := run.Wait(ctx)
		require.NoError(t, err)
		assert.Equal(t, run.ID(), report.ID)
		assert.Equal(t, Complete, report.Outcome, "%v", report.Err)
		assert.Contains(t, i.chains().Nodes(), "n3")
	})
}
