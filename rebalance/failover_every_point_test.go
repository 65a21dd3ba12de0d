package rebalance

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// history.md 26, as a matrix: at every operation of a rebalance a node dies, and is failed over: the one that leaves, one
// that stays, one that joins. Nothing is lost, there never are two actives, and another rebalance completes without it.
func TestANodeThatDiesAtAnyPointOfARebalanceIsFailedOver(t *testing.T) {
	t.Parallel()
	for _, victim := range []string{"n0", "n1", "n3"} {
		t.Run(victim, func(t *testing.T) {
			everyPoint(t, func(t *testing.T, i *interrupted, at int) {
				reached := make(chan struct{})
				i.world.setGate(func(_ context.Context, op fakeOp) error {
					if op.Number == at {
						i.world.giveUp(victim)
						close(reached)
					}
					return nil
				})
				run := i.start()
				ended := make(chan struct{})
				go func() {
					_, _ = run.Wait(t.Context())
					close(ended)
				}()
				select {
				case <-reached:
				case <-ended: // it may take fewer operations this time
					i.world.giveUp(victim)
				}
				i.failsOver(victim)
				report, err := run.Wait(t.Context())
				require.NoError(t, err)
				if report.Outcome == Stopped {
					assert.Equal(t, &StoppedByFailover{Nodes: []string{victim}}, report.Err)
				}
				i.balancedWithout(victim)
			})
		})
	}
}

// failsOver gives a node up that is down, and has the janitor look at what is left.
func (i *interrupted) failsOver(victim string) {
	i.t.Helper()
	began := time.Now()
	report, err := i.cluster.Failover(i.t.Context(), giveUp(victim))
	require.NoError(i.t, err)
	require.NoError(i.t, report.Err)
	assert.Less(i.t, time.Since(began), time.Minute)
	i.world.setGate(nil)
	require.NoError(i.t, i.janitor().Problem())
	i.requireServed(victim)
}

func (i *interrupted) balancedWithout(victim string) {
	i.t.Helper()
	nodes := without([]string{"n0", "n1", "n2", "n3"}, victim)
	run, err := i.cluster.Rebalance(i.t.Context(), Request{Keep: nodes})
	require.NoError(i.t, err)
	report, err := run.Wait(i.t.Context())
	require.NoError(i.t, err)
	require.NoError(i.t, report.Err)
	require.True(i.t, i.chains().Balanced(nodes...))
	i.requireServed(victim)
}

// everyPointOfAFailover calls interrupt for each operation of a failover of n0.
func everyPointOfAFailover(t *testing.T, interrupt func(t *testing.T, i *interrupted, at int)) {
	t.Helper()
	t.Parallel()
	operations := 0
	inFakeCluster(t, func(t *testing.T, i *interrupted) {
		i.world.setGate(func(context.Context, fakeOp) error { return nil })
		require.NoError(t, i.failOver(giveUp("n0")).Err)
		i.world.mu.Lock()
		defer i.world.mu.Unlock()
		operations = i.world.number
	})
	require.Greater(t, operations, 15)
	for at := 1; at <= operations && !t.Failed(); at++ {
		inFakeCluster(t, func(t *testing.T, i *interrupted) {
			i.world.giveUp("n0")
			interrupt(t, i, at)
			if t.Failed() {
				t.Logf("interrupted at operation %d", at)
			}
		})
	}
	t.Logf("%d operations", operations)
}

// Whatever fails, the same again goes on with it.
func TestAFailoverThatFailsAtAnyPoint(t *testing.T) {
	everyPointOfAFailover(t, func(t *testing.T, i *interrupted, at int) {
		i.world.setGate(func(_ context.Context, op fakeOp) error {
			if op.Number == at {
				return errInjected
			}
			return nil
		})
		_, err := i.cluster.Failover(t.Context(), giveUp("n0"))
		require.NoError(t, err)
		i.failsOver("n0")
	})
}

func TestAFailoverThatHangsAtAnyPoint(t *testing.T) {
	everyPointOfAFailover(t, func(t *testing.T, i *interrupted, at int) {
		i.world.setGate(func(ctx context.Context, op fakeOp) error {
			if op.Number != at {
				return nil
			}
			<-ctx.Done()
			return context.Cause(ctx)
		})
		began := time.Now()
		_, err := i.cluster.Failover(t.Context(), giveUp("n0"))
		require.NoError(t, err)
		assert.Less(t, time.Since(began), 10*time.Minute)
		i.failsOver("n0")
	})
}

// A manager that dies in the middle goes on with it when it is opened again, by itself.
func TestAManagerThatDiesAtAnyPointOfAFailover(t *testing.T) {
	everyPointOfAFailover(t, func(t *testing.T, i *interrupted, at int) {
		reached := make(chan struct{})
		i.world.setGate(func(ctx context.Context, op fakeOp) error {
			if op.Number < at {
				return nil
			}
			if op.Number == at {
				close(reached)
			}
			<-ctx.Done()
			return context.Cause(ctx)
		})
		told := make(chan struct{})
		go func() {
			_, _ = i.cluster.Failover(context.Background(), giveUp("n0"))
			close(told)
		}()
		select {
		case <-reached:
		case <-told:
		}
		i.close()
		<-told
		i.world.setGate(nil)
		require.NoError(t, i.reopened())
		synctest.Wait()
		require.NoError(t, i.janitor().Problem())
		i.requireServed("n0")
		assert.Equal(t, FailedOver, i.members()[0].Membership)
	})
}
