package rebalance

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/shearpin/shearpin/rebalance/store"
)

// A rebalance that is stopped ends within this time, whatever it waits for (history.md 20).
const stopBound = 10 * time.Second

// stopPoints is every kind of thing that a rebalance waits for: an answer of a node, of the replications into it, of the
// store. The tests of every point stop it at each single one; here each kind has its name, so that a new one is missed.
var stopPoints = []string{
	"create bucket", "enable traffic", "query", "look", "prepare", "state replica", "state active", "open", "close", "seqno",
	"estimate", "persistence", "takeover", "takeover with the consumer pending", "takeover with nobody active", "takeover that has happened", "delete", "release",
	"configuration", "node list", "shut",
	"store get", "store set", "store list",
}

// gatedStore holds up what the test wants held up.
type gatedStore struct {
	store.Store
	mu   sync.Mutex
	gate func(ctx context.Context, what string) error
}

func (s *gatedStore) pass(ctx context.Context, what string) error {
	s.mu.Lock()
	gate := s.gate
	s.mu.Unlock()
	if gate == nil {
		return ctx.Err()
	}
	return gate(ctx, what)
}

func (s *gatedStore) Get(ctx context.Context, key string) ([]byte, uint64, error) {
	if err := s.pass(ctx, "store get"); err != nil {
		return nil, 0, err
	}
	return s.Store.Get(ctx, key)
}

func (s *gatedStore) CompareAndSet(ctx context.Context, key string, value []byte, expected uint64) (uint64, error) {
	if err := s.pass(ctx, "store set"); err != nil {
		return 0, err
	}
	return s.Store.CompareAndSet(ctx, key, value, expected)
}

func (s *gatedStore) List(ctx context.Context, prefix string) ([]store.Entry, error) {
	if err := s.pass(ctx, "store list"); err != nil {
		return nil, err
	}
	return s.Store.List(ctx, prefix)
}

// A rebalance from n0, n1, n2 to n1, n2, n3 is stopped while the first, and while the last, of each kind hangs.
func TestStopAtEverySuspensionPoint(t *testing.T) {
	seen := map[string]int{}
	synctest.Test(t, func(t *testing.T) {
		i := newGated(t)
		defer func() { i.close() }()
		var mu sync.Mutex
		i.gate(func(_ context.Context, what string) error {
			mu.Lock()
			defer mu.Unlock()
			seen[what]++
			return nil
		})
		i.damageOneStream()
		report, err := i.start().Wait(t.Context())
		require.NoError(t, err)
		require.NoError(t, report.Err)
		i.gate(nil)
	})
	for what := range seen {
		require.Contains(t, stopPoints, what, "a wait that has no row here")
	}
	for _, point := range stopPoints {
		require.Positive(t, seen[point], point)
		for _, at := range []int{1, max(1, seen[point])} {
			t.Run(fmt.Sprintf("%s %d", point, at), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					i := newGated(t)
					defer func() { i.close() }()
					i.damageOneStream()
					i.stopsAt(point, at)
				})
			})
		}
	}
}

type gatedWorld struct {
	*interrupted
	gated *gatedStore
}

func newGated(t *testing.T) *gatedWorld {
	i := newInterrupted(t, 3)
	i.close()
	gated := &gatedStore{Store: i.store}
	i.store = gated
	i.open(4)
	synctest.Wait() // the janitor's first run
	return &gatedWorld{i, gated}
}

// gate is called for every operation, of the nodes and of the store.
func (i *gatedWorld) gate(gate func(ctx context.Context, what string) error) {
	i.gated.mu.Lock()
	i.gated.gate = gate
	i.gated.mu.Unlock()
	if gate == nil {
		i.world.setGate(nil)
		return
	}
	i.world.setGate(func(ctx context.Context, op fakeOp) error { return gate(ctx, op.What) })
}

// damageOneStream gives the janitor at the beginning of the rebalance something to do.
func (i *gatedWorld) damageOneStream() {
	chain := i.chains()[0]
	i.world.replications[chain[1]].set(0, "")
}

func (i *gatedWorld) stopsAt(point string, at int) {
	t := i.t
	reached := make(chan struct{})
	var mu sync.Mutex
	count := 0
	i.gate(func(ctx context.Context, what string) error {
		mu.Lock()
		if what == point {
			count++
		}
		here := what == point && count == at
		mu.Unlock()
		if !here {
			return nil
		}
		close(reached)
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
	case <-ended: // it may take fewer operations this time, or this was one that nobody waits for
	}
	began := time.Now()
	require.NoError(t, run.Stop(t.Context()))
	assert.LessOrEqual(t, time.Since(began), stopBound)
	report, err := run.Wait(t.Context())
	require.NoError(t, err)
	assert.NotEqual(t, Failed, report.Outcome)
	<-ended
	i.gate(nil)
	i.repaired()
}
