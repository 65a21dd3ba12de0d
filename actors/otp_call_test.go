package actors_test

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/shearpin/shearpin/actors"
	"github.com/shearpin/shearpin/actors/actortest"
)

// reply is an answer that a server gives at once.
func reply(v any) onCall {
	return func(_ *actors.Context, from actors.From) error { from.Reply(v); return nil }
}

// delayed is an answer that a server gives when it has been idle for d, as OTP's {noreply, State, Timeout} does.
func delayed(d time.Duration, v any) onCall {
	return func(c *actors.Context, from actors.From) error {
		c.SetIdleTimeout(d, onInfo(func(*actors.Context) error { from.Reply(v); return nil }))
		return nil
	}
}

// A call is answered, at once, later from a timeout, or by another process; a timeout between two calls is seen by the
// second; a caller that has given up gets nothing of the reply any more, nor does its next call. The bad return value of
// OTP's case does not compile in Go.
func TestOTP_call(t *testing.T) {
	bubble := func(name string, f func(t *testing.T, sys *actors.System)) {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				sys := newSystem(t)
				f(t, sys)
				require.NoError(t, sys.Close(t.Context()))
			})
		})
	}
	bubble("delayed", func(t *testing.T, sys *actors.System) {
		_, pid := startServer(t, sys, actors.WithName("my_test_name"))
		started(t, pid)
		begin := time.Now()
		v, err := sys.Whereis("my_test_name").Call(t.Context(), delayed(time.Second, "delayed"))
		require.NoError(t, err)
		require.Equal(t, "delayed", v)
		require.Equal(t, time.Second, time.Since(begin))
	})
	bubble("within", func(t *testing.T, sys *actors.System) {
		_, pid := startServer(t, sys)
		within := true
		callWithin := onCall(func(c *actors.Context, from actors.From) error {
			within = true
			c.SetIdleTimeout(time.Second, onInfo(func(*actors.Context) error { within = false; return nil }))
			from.Reply("ok")
			return nil
		})
		for pause, want := range map[time.Duration]bool{500 * time.Millisecond: true, 1500 * time.Millisecond: false} {
			_, err := pid.Call(t.Context(), callWithin)
			require.NoError(t, err)
			actortest.Elapse(pause)
			v, err := pid.Call(t.Context(), onCall(func(_ *actors.Context, from actors.From) error {
				from.Reply(within)
				return nil
			}))
			require.NoError(t, err)
			require.Equal(t, want, v)
		}
	})
	bubble("timeout", func(t *testing.T, sys *actors.System) {
		_, pid := startServer(t, sys)
		ctx, cancel := context.WithTimeout(t.Context(), 30*time.Millisecond)
		defer cancel()
		v, err := pid.Call(ctx, delayed(time.Millisecond, "delayed"))
		require.NoError(t, err)
		require.Equal(t, "delayed", v)

		begin := time.Now()
		ctx, cancel = context.WithTimeout(t.Context(), time.Millisecond)
		defer cancel()
		_, err = pid.Call(ctx, delayed(30*time.Millisecond, "delayed"))
		require.Equal(t, &actors.WaitError{Op: "call", PID: pid, Err: context.DeadlineExceeded}, err)
		require.Equal(t, time.Millisecond, time.Since(begin))
		actortest.Elapse(time.Second)
		v, err = pid.Call(t.Context(), reply("next"))
		require.NoError(t, err)
		require.Equal(t, "next", v)
	})
	// The reply comes after the caller gave up, while the same caller waits in its next call.
	bubble("late", func(t *testing.T, sys *actors.System) {
		keeper := &keeper{froms: make(chan actors.From, 1)}
		pid, err := sys.Start(t.Context(), keeper)
		require.NoError(t, err)
		for range 3 {
			ctx, cancel := context.WithTimeout(t.Context(), time.Second)
			_, err = pid.Call(ctx, "early")
			cancel()
			require.ErrorIs(t, err, context.DeadlineExceeded)
			require.ErrorAs(t, err, new(*actors.WaitError))
			early := <-keeper.froms

			go func() {
				late := <-keeper.froms
				early.Reply("wrong")
				late.Reply("right")
			}()
			v, err := pid.Call(t.Context(), "late")
			require.NoError(t, err)
			require.Equal(t, "right", v)
		}
	})
	bubble("by another process", func(t *testing.T, sys *actors.System) {
		_, helper := start(t, sys, false)
		_, pid := startServer(t, sys)
		v, err := pid.Call(t.Context(), onCall(func(c *actors.Context, from actors.From) error {
			c.Send(helper, actortest.Func(func(*actors.Context) error {
				from.Reply("x")
				return nil
			}))
			return nil
		}))
		require.NoError(t, err)
		require.Equal(t, "x", v)
	})
}

// sending is how a request is sent: by nobody, or by a process, which then is the caller.
var sending = map[string]func(t *testing.T, sys *actors.System, pid *actors.PID, msg any) *actors.Pending{
	"goroutine": func(_ *testing.T, _ *actors.System, pid *actors.PID, msg any) *actors.Pending {
		return pid.SendRequest(msg)
	},
	"process": func(t *testing.T, sys *actors.System, pid *actors.PID, msg any) (k *actors.Pending) {
		t.Helper()
		_, client := start(t, sys, false)
		actortest.Do(t, client, func(c *actors.Context) error {
			k = c.SendRequest(pid, msg)
			return nil
		})
		return k
	},
}

// requests runs f in a bubble, for either way to send a request.
func requests(t *testing.T, f func(t *testing.T, sys *actors.System, send func(pid *actors.PID, msg any) *actors.Pending)) {
	t.Helper()
	for name, send := range sending {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				sys := newSystem(t)
				f(t, sys, func(pid *actors.PID, msg any) *actors.Pending { return send(t, sys, pid, msg) })
				require.NoError(t, sys.Close(t.Context()))
			})
		})
	}
}

// limit is a context with a timeout, zero for one that has ended.
func limit(t *testing.T, d time.Duration) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), d)
	t.Cleanup(cancel)
	return ctx
}

// A request that is sent without waiting. Its outcome is looked at or waited for; a wait that is given up (OTP's
// wait_response) can be repeated; the death of the server is the outcome if it comes first; a missing server is no
// process. OTP's receive_response, which drops the request on a timeout, is a Wait and an Abandon. Nodes are left out.
func TestOTP_send_request(t *testing.T) {
	requests(t, func(t *testing.T, sys *actors.System, send func(*actors.PID, any) *actors.Pending) {
		_, pid := startServer(t, sys, actors.WithName("my_test_name"))
		k := send(sys.Whereis("my_test_name"), "started_p")
		v, err := k.Wait(t.Context())
		require.NoError(t, err)
		require.Equal(t, "ok", v)
		require.Same(t, pid, k.PID())

		// A timeout of zero, one that is too short, and one that is not.
		k = send(pid, delayed(time.Second, "delayed"))
		_, done, err := k.Check()
		require.False(t, done)
		require.NoError(t, err)
		for _, d := range []time.Duration{0, time.Millisecond} {
			_, err = k.Wait(limit(t, d))
			require.Equal(t, &actors.WaitError{Op: "call", PID: pid, Err: context.DeadlineExceeded}, err)
		}
		v, err = k.Wait(limit(t, time.Minute))
		require.NoError(t, err)
		require.Equal(t, "delayed", v)
		<-k.Done()
		v, done, err = k.Check()
		require.Equal(t, []any{"delayed", true, nil}, []any{v, done, err}, "the outcome stays")
		v, err = k.Wait(limit(t, 0))
		require.Equal(t, []any{"delayed", nil}, []any{v, err})
		k.Abandon()
		v, err = k.Wait(t.Context())
		require.Equal(t, []any{"delayed", nil}, []any{v, err})

		// Abandoned: the reply is dropped.
		k = send(pid, delayed(time.Second, "delayed"))
		k.Abandon()
		actortest.Elapse(time.Minute)
		_, err = k.Wait(t.Context())
		require.Same(t, actors.ErrAbandoned, err)

		// The server fails the request, dies before it answers, and is dead.
		k = send(pid, onCall(func(_ *actors.Context, from actors.From) error { from.Fail(errBoom); return nil }))
		_, err = k.Wait(t.Context())
		require.Same(t, errBoom, err)
		unanswered := send(pid, delayed(time.Hour, "x"))
		k = send(pid, "stop")
		v, err = k.Wait(t.Context())
		require.NoError(t, err)
		require.Equal(t, "ok", v)
		_, err = unanswered.Wait(t.Context())
		require.Same(t, errStopped, err)
		for _, gone := range []*actors.PID{pid, sys.Whereis("my_test_name")} {
			_, done, err = send(gone, "started_p").Check()
			require.True(t, done)
			require.Same(t, actors.NoProcess, err)
		}
	})
}

// collection sends requests that are answered after the given times, labelled by these.
func collection(t *testing.T, sys *actors.System, send func(*actors.PID, any) *actors.Pending, delays ...time.Duration) *actors.Collection {
	t.Helper()
	all := &actors.Collection{}
	for _, d := range delays {
		_, pid := startServer(t, sys)
		require.NoError(t, all.Add(send(pid, delayed(d, d.String())), d))
	}
	require.Equal(t, len(delays), all.Len())
	return all
}

// outcomes is what the three ways to take outcomes out of a collection have in common: they come as the answers come,
// under their labels, errors among them; a request is added once; a collection that is empty has nothing to wait for.
func outcomes(t *testing.T, take func(all *actors.Collection) (actors.Outcome, error)) {
	t.Helper()
	requests(t, func(t *testing.T, sys *actors.System, send func(*actors.PID, any) *actors.Pending) {
		all := collection(t, sys, send, 3*time.Second, time.Second, 2*time.Second)
		for _, want := range []time.Duration{time.Second, 2 * time.Second, 3 * time.Second} {
			got, err := take(all)
			require.NoError(t, err)
			require.Equal(t, []any{want, want.String(), nil}, []any{got.Label, got.Value, got.Err})
			v, done, err := got.Request.Check()
			require.Equal(t, []any{want.String(), true, nil}, []any{v, done, err})
		}
		require.Zero(t, all.Len())
		_, err := take(all)
		require.Same(t, actors.ErrNoRequests, err)

		// Errors are outcomes of their requests, also of those that have failed before they are added.
		_, pid := startServer(t, sys)
		_, other := startServer(t, sys)
		dying := send(pid, onCall(func(*actors.Context, actors.From) error { return errBoom }))
		require.NoError(t, all.Add(send(other, delayed(time.Second, "x")), "alive"))
		require.NoError(t, all.Add(dying, "dies"))
		require.NoError(t, all.Add(send(nil, "x"), "dead"))
		for _, again := range []*actors.Collection{all, {}} {
			require.Same(t, actors.ErrInCollection, again.Add(dying, "again"))
		}
		require.Equal(t, 3, all.Len())
		got := map[any]error{}
		for range 3 {
			o, err := take(all)
			require.NoError(t, err)
			got[o.Label] = o.Err
		}
		require.Equal(t, map[any]error{"alive": nil, "dies": errBoom, "dead": actors.NoProcess}, got)
		require.Same(t, actors.ErrInCollection, all.Add(dying, "again"), "once for all")
	})
}

// Receive takes outcomes as they come; on a timeout all requests that are left are abandoned and late replies are dropped.
func TestOTP_send_request_receive_reqid_collection(t *testing.T) {
	outcomes(t, func(all *actors.Collection) (actors.Outcome, error) { return all.Receive(context.Background()) })
	requests(t, func(t *testing.T, sys *actors.System, send func(*actors.PID, any) *actors.Pending) {
		all := collection(t, sys, send, time.Second, 2*time.Second, time.Minute)
		_, pid := startServer(t, sys)
		k := send(pid, delayed(time.Minute, "late"))
		require.NoError(t, all.Add(k, "late"))
		got, err := all.Receive(limit(t, 90*time.Second))
		require.NoError(t, err)
		require.Equal(t, time.Second, got.Label)
		_, err = all.Receive(limit(t, time.Millisecond))
		require.Equal(t, &actors.WaitError{Op: "requests", Err: context.DeadlineExceeded}, err)
		require.EqualError(t, err, "wait for requests: context deadline exceeded")
		require.Zero(t, all.Len())
		actortest.Elapse(time.Hour)
		_, err = all.Receive(t.Context())
		require.Same(t, actors.ErrNoRequests, err)
		_, err = k.Wait(t.Context())
		require.Same(t, actors.ErrAbandoned, err)

		// An outcome that is there counts, though the time is over; the collection goes on being useful.
		require.NoError(t, all.Add(send(pid, "x"), "there"))
		synctest.Wait()
		got, err = all.Receive(limit(t, 0))
		require.NoError(t, err)
		require.Equal(t, []any{"there", "ok"}, []any{got.Label, got.Value})
	})
}

// Wait takes outcomes as they come; on a timeout the requests that are left stay, and late replies are still read.
func TestOTP_send_request_wait_reqid_collection(t *testing.T) {
	outcomes(t, func(all *actors.Collection) (actors.Outcome, error) { return all.Wait(context.Background()) })
	requests(t, func(t *testing.T, sys *actors.System, send func(*actors.PID, any) *actors.Pending) {
		all := collection(t, sys, send, 3*time.Second, 2*time.Second)
		for _, d := range []time.Duration{0, time.Second} {
			_, err := all.Wait(limit(t, d))
			require.Equal(t, &actors.WaitError{Op: "requests", Err: context.DeadlineExceeded}, err)
			require.Equal(t, 2, all.Len())
		}
		actortest.Elapse(time.Hour)
		for _, want := range []time.Duration{2 * time.Second, 3 * time.Second} {
			got, err := all.Wait(limit(t, 0))
			require.NoError(t, err)
			require.Equal(t, []any{want, want.String(), nil}, []any{got.Label, got.Value, got.Err})
		}
		_, err := all.Wait(t.Context())
		require.Same(t, actors.ErrNoRequests, err)
	})
}

// Check takes an outcome if there is one. In OTP it is given the messages of the mailbox one by one; here outcomes are no
// messages.
func TestOTP_send_request_check_reqid_collection(t *testing.T) {
	outcomes(t, func(all *actors.Collection) (actors.Outcome, error) {
		for {
			if o, ok := all.Check(); ok {
				return o, nil
			}
			if all.Len() == 0 {
				return actors.Outcome{}, actors.ErrNoRequests
			}
			actortest.Elapse(time.Millisecond)
		}
	})
	requests(t, func(t *testing.T, sys *actors.System, send func(*actors.PID, any) *actors.Pending) {
		all := collection(t, sys, send, time.Second)
		_, ok := all.Check()
		require.False(t, ok)
		require.Equal(t, 1, all.Len())
		actortest.Elapse(time.Minute)
		got, ok := all.Check()
		require.True(t, ok)
		require.Equal(t, []any{time.Second, "1s"}, []any{got.Label, got.Value})
		_, ok = all.Check()
		require.False(t, ok)
	})
}

// A call to oneself fails at once, instead of waiting for itself, however the call is made. A goroutine of the process may
// call it: it is not the one that would have to answer.
func TestOTP_calling_self(t *testing.T) {
	sys := newSystem(t)
	probe, pid := start(t, sys, false, actors.WithName("self"))
	actortest.Do(t, pid, func(c *actors.Context) error {
		_, err := c.Call(c.Ctx(), pid, "x")
		assert.Same(t, actors.ErrCallingSelf, err)
		_, err = c.Call(context.Background(), c.System().Whereis("self"), "x")
		assert.Same(t, actors.ErrCallingSelf, err)
		_, err = pid.Call(c.Ctx(), "x")
		assert.Same(t, actors.ErrCallingSelf, err)
		ctx, cancel := context.WithTimeout(c.Ctx(), time.Hour)
		defer cancel()
		_, err = pid.Call(ctx, "x")
		assert.Same(t, actors.ErrCallingSelf, err)
		assert.Same(t, actors.ErrCallingSelf, pid.Stop(ctx, nil))
		_, err = actors.GetStatus(ctx, pid)
		assert.Same(t, actors.ErrCallingSelf, err)
		_, err = c.SendRequest(pid, "sent").Wait(ctx)
		assert.Same(t, actors.ErrCallingSelf, err, "the request is on its way all the same")
		return nil
	})
	probe.Expect(t, actortest.Called{Msg: "sent"})
	actortest.Do(t, pid, func(c *actors.Context) error {
		c.Go(func(ctx context.Context) any {
			v, err := pid.Call(ctx, "from a helper")
			return errors.Join(err, toError(v))
		})
		return nil
	})
	probe.Await(t, actortest.Called{Msg: "from a helper"})
}

func toError(v any) error {
	if v == "from a helper" {
		return nil
	}
	return errBoom
}

// A caller with a full mailbox calls as fast as another one: the reply does not go through its mailbox, and nothing in it
// is touched. OTP compares times; what makes them equal can be seen directly.
func TestOTP_call_with_huge_message_queue(t *testing.T) {
	sys := newSystem(t)
	_, callee := startServer(t, sys)
	probe, caller := start(t, sys, false)
	actortest.Do(t, caller, func(c *actors.Context) error {
		for range 500_000 {
			caller.Send("noise")
		}
		waiting := caller.MailboxLen()
		for range 1000 {
			_, err := c.Call(c.Ctx(), callee, "x")
			assert.NoError(t, err)
			_, err = c.SendRequest(callee, "x").Wait(c.Ctx())
			assert.NoError(t, err)
		}
		assert.Equal(t, waiting, caller.MailboxLen())
		assert.Empty(t, probe.Received(), "nothing of the mailbox was handled before")
		return nil
	})
}

// A server without HandleCall says so to the caller and goes on: Base has one. In Erlang it crashes with undef.
func TestOTP_undef_handle_call(t *testing.T) {
	sys := newSystem(t)
	pid, err := sys.Start(t.Context(), struct{ actors.Base }{})
	require.NoError(t, err)
	for range 2 {
		_, err = pid.Call(t.Context(), "x")
		require.Same(t, actors.ErrUnexpectedCall, err)
	}
	require.NoError(t, pid.Stop(t.Context(), nil))
}
