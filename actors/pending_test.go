package actors_test

import (
	"context"
	"errors"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/shearpin/shearpin/actors"
	"github.com/shearpin/shearpin/actors/actortest"
)

// A process that dies has no use for answers: its requests are over, and who waits for one of them is told.
func TestPendingOfADeadProcess(t *testing.T) {
	sys := newSystem(t)
	keeper := &keeper{froms: make(chan actors.From, 2)}
	callee, err := sys.Start(t.Context(), keeper)
	require.NoError(t, err)
	_, pid := start(t, sys, false)
	var k *actors.Pending
	actortest.Do(t, pid, func(c *actors.Context) error { k = c.SendRequest(callee, "x"); return nil })
	from := <-keeper.froms
	require.Same(t, pid, from.PID())
	var all actors.Collection
	require.NoError(t, all.Add(k, "x"))
	release := stuck(pid, func(c *actors.Context) error {
		k := c.SendRequest(callee, "from the dead")
		_, done, err := k.Check()
		require.True(t, done)
		require.Equal(t, &actors.WaitError{Op: "call", PID: callee, Err: errBoom}, err)
		return nil
	})
	pid.Exit(errBoom)
	release()
	<-k.Done()
	from.Reply("too late")
	want := &actors.WaitError{Op: "call", PID: callee, Err: errBoom}
	_, err = k.Wait(t.Context())
	require.Equal(t, want, err)
	got, err := all.Wait(t.Context())
	require.NoError(t, err)
	require.Equal(t, actors.Outcome{Label: "x", Request: k, Err: want}, got)
	require.Zero(t, actors.From{}.PID())
	actortest.Eventually(t, func() bool { return sys.Lingering() == 0 })
	require.Empty(t, keeper.froms)
}

// Answer, abandonment, the deaths of both and the wait itself at the same moment: one outcome, and everybody sees that one.
func TestPendingUnderAttack(t *testing.T) {
	sys := newSystem(t)
	for i := range 500 {
		keeper := &keeper{froms: make(chan actors.From, 1)}
		callee, err := sys.Start(t.Context(), keeper)
		require.NoError(t, err)
		_, pid := start(t, sys, false)
		var k *actors.Pending
		actortest.Do(t, pid, func(c *actors.Context) error { k = c.SendRequest(callee, "x"); return nil })
		from := <-keeper.froms
		var all actors.Collection
		attacks := []func(){
			func() { from.Reply("x") },
			callee.Kill,
			func() { pid.Exit(errBoom) },
			k.Abandon,
			func() { require.NoError(t, all.Add(k, "x")) },
		}
		var wg sync.WaitGroup
		for j := range attacks {
			if j != i%4 { // each is left out in turn, the last one never
				wg.Go(attacks[j])
			}
		}
		seen := make([]any, 3)
		for j := range seen {
			wg.Go(func() {
				v, err := k.Wait(context.Background())
				seen[j] = []any{v, err}
			})
		}
		wg.Wait()
		got, err := all.Receive(t.Context())
		require.NoError(t, err)
		require.Zero(t, all.Len())
		for _, one := range seen {
			require.Equal(t, []any{got.Value, got.Err}, one)
		}
		callee.Kill()
		pid.Kill()
	}
}

// Many answers at once, taken by one: all arrive, each once.
func TestCollectionUnderAttack(t *testing.T) {
	sys := newSystem(t)
	keeper := &keeper{froms: make(chan actors.From, 200)}
	callee, err := sys.Start(t.Context(), keeper)
	require.NoError(t, err)
	var all actors.Collection
	var wg sync.WaitGroup
	for i := range 200 {
		wg.Go(func() {
			require.NoError(t, all.Add(callee.SendRequest(i), i))
			(<-keeper.froms).Reply("x")
		})
	}
	wg.Wait()
	labels := map[any]bool{}
	for all.Len() > 0 {
		o, err := all.Wait(t.Context())
		require.NoError(t, err)
		require.Equal(t, []any{"x", nil}, []any{o.Value, o.Err})
		labels[o.Label] = true
	}
	require.Len(t, labels, 200)
}

// A process may wait for its requests in a callback.
func TestPendingInACallback(t *testing.T) {
	sys := newSystem(t)
	_, callee := startServer(t, sys)
	_, pid := start(t, sys, false)
	actortest.Do(t, pid, func(c *actors.Context) error {
		var all actors.Collection
		for i := range 10 {
			if err := all.Add(c.SendRequest(callee, "started_p"), i); err != nil {
				return err
			}
		}
		for i := range 10 {
			o, err := all.Receive(c.Ctx())
			if err != nil || o.Label != i || o.Value != "ok" {
				return errors.Join(errBoom, err)
			}
		}
		return nil
	})

	// Its own death ends its wait.
	waited := make(chan error, 1)
	pid.Send(actortest.Func(func(c *actors.Context) error {
		var all actors.Collection
		_ = all.Add(c.SendRequest(callee, delayed(time.Hour, "x")), "x")
		c.Exit(c.Self(), actors.Killed)
		o, err := all.Receive(c.Ctx())
		waited <- errors.Join(err, o.Err)
		return nil
	}))
	require.ErrorIs(t, <-waited, actors.Killed)
}

// What is added while an empty collection is asked is not abandoned with what is not there.
func TestReceiveFromAnEmptyCollection(t *testing.T) {
	sys := newSystem(t)
	_, pid := start(t, sys, false)
	release := stuck(pid, nothing)
	defer release()
	for range 20000 {
		var all actors.Collection
		k := pid.SendRequest("x")
		ctx, cancel := context.WithCancel(t.Context())
		var added sync.WaitGroup
		added.Go(func() {
			_ = all.Add(k, nil)
			cancel()
		})
		_, err := all.Receive(ctx)
		added.Wait()
		if err == actors.ErrNoRequests {
			_, abandoned, _ := k.Check()
			require.False(t, abandoned)
		}
		k.Abandon()
	}
}

// A process that waits for nothing but answers of its own would wait for ever.
func TestCollectionOfRequestsToOneself(t *testing.T) {
	sys := newSystem(t)
	_, other := start(t, sys, false)
	_, pid := start(t, sys, false)
	actortest.Do(t, pid, func(c *actors.Context) error {
		var all actors.Collection
		require.NoError(t, all.Add(c.SendRequest(c.Self(), "x"), "self"))
		require.NoError(t, all.Add(c.SendRequest(other, "y"), "other"))
		o, err := all.Wait(c.Ctx())
		require.NoError(t, err)
		require.Equal(t, "other", o.Label)
		_, err = all.Wait(c.Ctx())
		require.Same(t, actors.ErrCallingSelf, err)
		require.Equal(t, 1, all.Len())
		_, err = all.Receive(c.Ctx())
		require.Same(t, actors.ErrCallingSelf, err)
		require.Zero(t, all.Len())
		return nil
	})
}
