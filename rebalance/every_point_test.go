package rebalance

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/shearpin/shearpin/actors"
	"github.com/shearpin/shearpin/dcp"
	"github.com/shearpin/shearpin/rebalance/store"
)

// These tests interrupt a rebalance at each of its operations, one after another: every state change, stream, question,
// takeover and publication that it makes. Afterwards the janitor must have repaired what it can, no vbucket may have lost
// data or ever had two actives, and another rebalance must complete.

// interrupted is a cluster of fakes in the middle of a rebalance from three nodes to four with one leaving.
type interrupted struct {
	t       *testing.T
	world   *fakeWorld
	store   store.Store
	cluster *Cluster
	before  map[uint16]uint64
	// retry is for those that are opened again.
	retry  RetryConfig
	limits Limits
}

func newInterrupted(t *testing.T, vbuckets int) *interrupted {
	i := &interrupted{t: t, world: newFakeWorld(4), store: store.NewMemory()}
	i.open(3)
	require.NoError(t, i.cluster.CreateBucket(t.Context(), BucketConfig{Name: "orders", VBuckets: vbuckets, Replicas: 1}))
	i.world.write(100)
	i.before = i.world.data()
	require.Len(t, i.before, vbuckets)
	i.addNode()
	return i
}

// open manages the first nodes.
func (i *interrupted) open(nodes int) {
	config := Config{Store: i.store, JanitorInterval: 24 * time.Hour, Limits: i.limits}
	for n := range nodes {
		config.Nodes = append(config.Nodes, fakeNodeNamed(n))
	}
	config, err := config.validate()
	require.NoError(i.t, err)
	buckets, err := store.NewBuckets(i.t.Context(), i.store)
	require.NoError(i.t, err)
	env := newEnvironment(config, buckets)
	env.connect, env.replicate = i.world.connect, i.world.replicate
	i.cluster, err = (&Cluster{}).start(i.t.Context(), env)
	require.NoError(i.t, err)
}

func (i *interrupted) addNode() {
	require.NoError(i.t, i.cluster.AddNode(i.t.Context(), fakeNodeNamed(3)))
}

func fakeNodeNamed(n int) Node {
	return Node{Name: fmt.Sprintf("n%d", n), Addr: fmt.Sprintf("127.0.0.1:%d", 5000+n)}
}

// request swaps node n0 for n3.
var request = Request{Keep: []string{"n1", "n2", "n3"}}

func (i *interrupted) start() *Run {
	run, err := i.cluster.Rebalance(i.t.Context(), request)
	require.NoError(i.t, err)
	return run
}

func (i *interrupted) close() {
	require.NoError(i.t, i.cluster.Close(context.Background()))
}

// repaired lets the janitor look after the cluster and completes the rebalance.
func (i *interrupted) repaired() {
	i.t.Helper()
	i.world.setGate(nil)
	janitor, err := i.cluster.Janitor(i.t.Context())
	require.NoError(i.t, err)
	require.NoError(i.t, janitor.Problem())
	require.Equal(i.t, i.before, i.world.data(), "after the janitor")
	i.requireStreams()
	repaired, err := i.cluster.Map(i.t.Context(), "orders")
	require.NoError(i.t, err)
	again, err := i.cluster.Janitor(i.t.Context())
	require.NoError(i.t, err)
	require.NoError(i.t, again.Problem())
	require.Zero(i.t, again.Fixes(), "once is enough")
	settled, err := i.cluster.Map(i.t.Context(), "orders")
	require.NoError(i.t, err)
	require.Equal(i.t, repaired, settled)
	report, err := i.start().Wait(i.t.Context())
	require.NoError(i.t, err)
	require.NoError(i.t, report.Err)
	require.Equal(i.t, i.before, i.world.data())
	require.Empty(i.t, i.world.wrong)
	m, err := i.cluster.Map(i.t.Context(), "orders")
	require.NoError(i.t, err)
	require.True(i.t, m.Balanced(request.Keep...))
	require.Empty(i.t, i.world.nodes["n0"].copies)
}

// requireStreams checks that every replica has its stream, and that there is no other.
func (i *interrupted) requireStreams() {
	i.t.Helper()
	m, err := i.cluster.Map(i.t.Context(), "orders")
	require.NoError(i.t, err)
	wanted, live := map[string]map[uint16]string{}, map[string]map[uint16]string{}
	for node, r := range i.world.replications {
		wanted[node], live[node] = map[uint16]string{}, map[uint16]string{}
		r.mu.Lock()
		for vb, producer := range r.streams {
			live[node][vb] = producer
		}
		r.mu.Unlock()
	}
	for vb, chain := range m {
		for _, replica := range chain.Replicas() {
			wanted[replica][uint16(vb)] = chain.Active()
		}
	}
	require.Equal(i.t, wanted, live)
}

// everyPoint calls interrupt for each operation of a rebalance, with a gate that lets it do something at that operation.
func everyPoint(t *testing.T, interrupt func(t *testing.T, i *interrupted, at int)) {
	t.Helper()
	t.Parallel()
	operations := 0
	synctest.Test(t, func(t *testing.T) {
		i := newInterrupted(t, 3)
		defer i.close()
		i.world.setGate(func(context.Context, fakeOp) error { return nil })
		report, err := i.start().Wait(t.Context())
		require.NoError(t, err)
		require.NoError(t, report.Err)
		i.world.mu.Lock()
		operations = i.world.number
		i.world.mu.Unlock()
	})
	require.Greater(t, operations, 50)
	for at := 1; at <= operations; at++ {
		synctest.Test(t, func(t *testing.T) {
			i := newInterrupted(t, 3)
			defer func() { i.close() }()
			interrupt(t, i, at)
			if t.Failed() {
				t.Logf("interrupted at operation %d", at)
			}
		})
		if t.Failed() {
			return
		}
	}
	t.Logf("%d operations", operations)
}

var errInjected = errors.New("injected")

func TestARebalanceThatFailsAtAnyPoint(t *testing.T) {
	failed := 0
	everyPoint(t, func(t *testing.T, i *interrupted, at int) {
		i.world.setGate(func(_ context.Context, op fakeOp) error {
			if op.Number == at {
				return errInjected
			}
			return nil
		})
		began := time.Now()
		report, err := i.start().Wait(t.Context())
		require.NoError(t, err)
		assert.Less(t, time.Since(began), 10*time.Second)
		if report.Outcome == Failed {
			failed++
			assert.Contains(t, report.Cause[len(report.Cause)-1], errInjected.Error())
		}
		i.repaired()
	})
	assert.Greater(t, failed, 20)
}

// An operation that is never answered ends in a failure that says what was waited for, and is fenced.
func TestARebalanceThatHangsAtAnyPoint(t *testing.T) {
	everyPoint(t, func(t *testing.T, i *interrupted, at int) {
		i.world.setGate(func(ctx context.Context, op fakeOp) error {
			if op.Number != at {
				return nil
			}
			<-ctx.Done()
			return context.Cause(ctx)
		})
		began := time.Now()
		report, err := i.start().Wait(t.Context())
		require.NoError(t, err)
		assert.Less(t, time.Since(began), 15*time.Minute)
		if report.Outcome == Failed {
			assert.NotEmpty(t, report.Cause)
		}
		i.repaired()
	})
}

func TestARebalanceThatIsStoppedAtAnyPoint(t *testing.T) {
	everyPoint(t, func(t *testing.T, i *interrupted, at int) {
		stopAt(t, i, at, func(ctx context.Context) error { return after(ctx, time.Millisecond) })
	})
}

// Also one that hangs, in a takeover for example, stops in time.
func TestARebalanceThatHangsIsStoppedAtAnyPoint(t *testing.T) {
	everyPoint(t, func(t *testing.T, i *interrupted, at int) {
		stopAt(t, i, at, func(ctx context.Context) error {
			<-ctx.Done()
			return context.Cause(ctx)
		})
	})
}

// stopAt stops the rebalance while it is at an operation that takes as long as hold does.
func stopAt(t *testing.T, i *interrupted, at int, hold func(ctx context.Context) error) {
	reached := make(chan struct{})
	i.world.setGate(func(ctx context.Context, op fakeOp) error {
		if op.Number == at {
			close(reached)
			return hold(ctx)
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
	}
	began := time.Now()
	require.NoError(t, run.Stop(t.Context()))
	assert.LessOrEqual(t, time.Since(began), 10*time.Second)
	report, err := run.Wait(t.Context())
	require.NoError(t, err)
	assert.NotEqual(t, Failed, report.Outcome)
	<-ended
	i.repaired()
}

// The manager dies and another one takes over its store (history 25).
func TestAManagerThatDiesAtAnyPoint(t *testing.T) {
	everyPoint(t, func(t *testing.T, i *interrupted, at int) {
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
		run := i.start()
		ended := make(chan struct{})
		go func() {
			_, _ = run.Wait(t.Context())
			close(ended)
		}()
		select {
		case <-reached:
		case <-ended:
		}
		i.close()
		<-ended
		i.world.setGate(nil)
		i.open(4)
		i.repaired()
	})
}

// A process dies while it is needed. Its supervisor starts it again; the rebalance fails and says so to whoever waits,
// unless the process was not needed.
func TestAProcessThatDiesAtAnyPoint(t *testing.T) {
	t.Parallel()
	for _, name := range []string{orchestratorName, membersName, agentName("orders", "n1")} {
		t.Run(name, func(t *testing.T) {
			everyPoint(t, func(t *testing.T, i *interrupted, at int) {
				var victim *actors.PID
				i.world.setGate(func(ctx context.Context, op fakeOp) error {
					if op.Number == at {
						victim = i.cluster.env.system.Whereis(name)
						victim.Exit(errInjected)
						victim.Kill() // of those that trap exits
					}
					return ctx.Err()
				})
				began := time.Now()
				run, err := i.cluster.Rebalance(t.Context(), request)
				if err == nil {
					_, err = run.Wait(t.Context())
				}
				assert.Less(t, time.Since(began), time.Minute)
				if name == agentName("orders", "n1") {
					require.NoError(t, err)
				}
				require.NoError(t, after(t.Context(), time.Second), "let the supervisor restart it")
				i.repaired()
			})
		})
	}
}

// A replication's crash ends the rebalance in the moment in which it is told, whatever the moves are doing.
func TestAReplicationThatCrashesAtAnyPoint(t *testing.T) {
	failed := 0
	everyPoint(t, func(t *testing.T, i *interrupted, at int) {
		crash := dcp.LinkCrashed{
			Link:   dcp.Link{Bucket: "orders", Producer: "n1", Consumer: "n2"},
			Reason: &dcp.CrashError{Role: dcp.RoleConsumer, Err: errInjected},
		}
		var told time.Time
		i.world.setGate(func(_ context.Context, op fakeOp) error {
			if op.Number == at {
				told = time.Now()
				i.cluster.ReplicationEvents().Publish(crash)
			}
			return nil
		})
		report, err := i.start().Wait(t.Context())
		require.NoError(t, err)
		if report.Outcome == Failed {
			failed++
			assert.Equal(t, told, report.Ended)
			assert.ErrorIs(t, report.Err, errInjected)
			assert.Contains(t, report.Err.Error(), "replication n1→n2/0: consumer connection crashed: injected")
		}
		i.repaired()
	})
	assert.Greater(t, failed, 20)
}
