package actors_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/shearpin/shearpin/actors"
	"github.com/shearpin/shearpin/actors/actortest"
)

// answering answers calls with what answer does.
type answering struct {
	actors.Base
	answer func(c *actors.Context, from actors.From, msg any) error
}

func (a *answering) HandleCall(c *actors.Context, from actors.From, msg any) error {
	return a.answer(c, from, msg)
}

func startAnswering(t testing.TB, sys *actors.System, f func(*actors.Context, actors.From, any) error) *actors.PID {
	t.Helper()
	pid, err := sys.Start(context.Background(), &answering{answer: f})
	require.NoError(t, err)
	t.Cleanup(pid.Kill)
	return pid
}

func TestCall(t *testing.T) {
	sys := newSystem(t)
	pid := startAnswering(t, sys, func(_ *actors.Context, from actors.From, msg any) error {
		switch msg {
		case "fail":
			from.Fail(errBoom)
		case "twice":
			from.Reply(1)
			from.Reply(2)
			from.Fail(errBoom)
		default:
			from.Reply(msg)
		}
		return nil
	})
	v, err := pid.Call(t.Context(), nil)
	require.NoError(t, err)
	require.Nil(t, v)
	_, err = pid.Call(t.Context(), "fail")
	require.Same(t, errBoom, err)
	v, err = pid.Call(t.Context(), "twice")
	require.NoError(t, err)
	require.Equal(t, 1, v)

	n, err := actors.Call[int](t.Context(), pid, 7)
	require.NoError(t, err)
	require.Equal(t, 7, n)
	_, err = actors.Call[int](t.Context(), pid, "seven")
	require.ErrorAs(t, err, new(*actors.ReplyTypeError))
	require.ErrorContains(t, err, "unexpected reply of type string")
	_, err = actors.Call[int](t.Context(), pid, "fail")
	require.Same(t, errBoom, err)
	none, err := actors.Call[error](t.Context(), pid, nil)
	require.NoError(t, err)
	require.NoError(t, none)
}

// OTP's semantics 2. A call fails with exactly the reason of the callee's death.
func TestCallFailsWithTheExitReason(t *testing.T) {
	sys := newSystem(t)
	for _, reason := range []error{actors.Shutdown, actors.ShutdownWith(errBoom), errBoom, actors.Killed} {
		pid := startAnswering(t, sys, func(*actors.Context, actors.From, any) error { return reason })
		_, err := pid.Call(t.Context(), "x")
		require.Same(t, reason, err)
		_, err = pid.Call(t.Context(), "x")
		require.ErrorIs(t, err, actors.NoProcess)
	}
}

// The normal end of the callee is none of the caller: who returns the error of the call has failed.
func TestCallOfAProcessThatEndsNormally(t *testing.T) {
	sys := newSystem(t)
	callee := startAnswering(t, sys, func(*actors.Context, actors.From, any) error { return actors.Normal })
	_, caller := start(t, sys, false)
	caller.Send(actortest.Func(func(c *actors.Context) error {
		_, err := c.Call(c.Ctx(), callee, "x")
		return fmt.Errorf("asking: %w", err)
	}))
	actortest.AwaitDeath(t, caller)
	require.ErrorIs(t, caller.Reason(), actors.Normal)
	require.Equal(t, &actors.UnansweredError{PID: callee}, errors.Unwrap(caller.Reason()))
	require.False(t, actors.IsNormal(caller.Reason()))
	require.True(t, actors.IsNormal(fmt.Errorf("its own: %w", actors.Normal)))

	asked, asker := start(t, sys, false)
	callee = startAnswering(t, sys, func(*actors.Context, actors.From, any) error { return actors.Normal })
	actortest.Do(t, asker, func(c *actors.Context) error { c.Request(callee, time.Hour, "x", "tag"); return nil })
	actortest.Eventually(t, func() bool { return len(asked.Received()) == 1 })
	require.Equal(t, actors.Response{Tag: "tag", Err: &actors.UnansweredError{PID: callee}}, asked.Received()[0])
}

// Calls that wait in the mailbox when the callee dies fail at once too (Proto.Actor lets them wait for their timeouts).
func TestQueuedCallsFailAtOnce(t *testing.T) {
	sys := newSystem(t)
	_, pid := start(t, sys, false)
	release := stuck(pid, func(*actors.Context) error { return errBoom })
	var wg sync.WaitGroup
	const callers = 20
	for range callers {
		wg.Go(func() {
			_, err := pid.Call(context.Background(), "x")
			assert.ErrorIs(t, err, errBoom)
		})
	}
	actortest.Eventually(t, func() bool { return pid.MailboxLen() == callers+1 })
	release()
	wg.Wait()
}

// A reply and the caller's deadline at the same moment: the caller gets one of the two, and a reply is never lost to a
// later call.
func TestReplyRacesWithTheDeadline(t *testing.T) {
	sys := newSystem(t)
	keeper := &keeper{froms: make(chan actors.From, 1)}
	pid, err := sys.Start(t.Context(), keeper)
	require.NoError(t, err)
	for i := range 2000 {
		ctx, cancel := context.WithCancelCause(t.Context())
		var wg sync.WaitGroup
		wg.Go(func() { from := <-keeper.froms; wg.Go(func() { from.Reply(i) }); cancel(errBoom) })
		v, err := pid.Call(ctx, "x")
		if err != nil {
			require.ErrorIs(t, err, errBoom)
		} else {
			require.Equal(t, i, v)
		}
		wg.Wait()
	}
}

func TestCallWithAContextThatHasEnded(t *testing.T) {
	sys := newSystem(t)
	probe, pid := start(t, sys, false)
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(errBoom)
	_, err := pid.Call(ctx, "x")
	require.Equal(t, &actors.WaitError{Op: "call", PID: pid, Err: errBoom}, err)
	require.ErrorIs(t, err, errBoom)
	require.EqualError(t, err, "call of #1: boom")
	settle(t, pid)
	require.Empty(t, probe.Received())
}

func TestFromKnowsTheCaller(t *testing.T) {
	sys := newSystem(t)
	callers := make(chan *actors.PID, 3)
	pid := startAnswering(t, sys, func(_ *actors.Context, from actors.From, _ any) error {
		callers <- from.PID()
		from.Reply(nil)
		return nil
	})
	_, caller := start(t, sys, false)
	actortest.Do(t, caller, func(c *actors.Context) error {
		_, err := c.Call(context.Background(), pid, "x")
		assert.NoError(t, err)
		_, err = pid.Call(c.Ctx(), "x")
		return err
	})
	_, err := pid.Call(t.Context(), "x")
	require.NoError(t, err)
	require.Same(t, caller, <-callers)
	require.Same(t, caller, <-callers)
	require.Nil(t, <-callers)

	var nobody actors.From
	nobody.Reply("x")
	nobody.Fail(errBoom)
	require.Nil(t, nobody.PID())
}

// batch is what Proto.Actor's mailbox would take apart.
type batch struct{}

func (batch) GetMessages() []any { return []any{1, 2} }

func TestMessagesArriveAsTheyAre(t *testing.T) {
	sys := newSystem(t)
	probe, pid := start(t, sys, false)
	pid.Send(batch{})
	settle(t, pid)
	require.Equal(t, []any{batch{}}, probe.Received())
}
