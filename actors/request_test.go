package actors_test

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/shearpin/shearpin/actors"
	"github.com/shearpin/shearpin/actors/actortest"
)

func request(t testing.TB, by, to *actors.PID, timeout time.Duration, msg, tag any) {
	t.Helper()
	actortest.Do(t, by, func(c *actors.Context) error {
		c.Request(to, timeout, msg, tag)
		return nil
	})
}

// OTP: send_request. One response per request, whatever comes first.
func TestRequest(t *testing.T) {
	clock := actortest.NewClock(time.Unix(0, 0))
	sys := actortest.NewSystem(t, actors.Options{Clock: clock})
	keeper := &keeper{froms: make(chan actors.From, 1)}
	callee, err := sys.Start(t.Context(), keeper)
	require.NoError(t, err)
	probe, pid := start(t, sys, false)
	base := clock.Pending()

	request(t, pid, callee, time.Second, "x", "replied")
	from := <-keeper.froms
	require.Same(t, pid, from.PID())
	from.Reply(1)
	from.Reply(2)
	probe.Expect(t, actors.Response{Tag: "replied", Value: 1})
	require.Equal(t, base, clock.Pending(), "its timer is gone")

	request(t, pid, callee, time.Second, "x", "failed")
	(<-keeper.froms).Fail(errBoom)
	probe.Await(t, actors.Response{Tag: "failed", Err: errBoom})

	request(t, pid, callee, time.Second, "x", "late")
	from = <-keeper.froms
	clock.Advance(time.Second)
	from.Reply("too late")
	settle(t, pid)
	got := probe.Received()
	require.Len(t, got, 3)
	require.Equal(t, "late", got[2].(actors.Response).Tag)
	require.ErrorIs(t, got[2].(actors.Response).Err, context.DeadlineExceeded)

	request(t, pid, callee, time.Second, "x", "died")
	<-keeper.froms
	callee.Exit(errBoom)
	probe.Await(t, actors.Response{Tag: "died", Err: errBoom})
	request(t, pid, callee, time.Second, "x", "dead")
	probe.Await(t, actors.Response{Tag: "dead", Err: actors.NoProcess})
	clock.Advance(time.Hour)
	settle(t, pid)
	require.Len(t, probe.Received(), 5)
	require.Equal(t, base, clock.Pending())
}

// A process may send a request to itself: it does not wait for the answer.
func TestRequestToOneself(t *testing.T) {
	sys := newSystem(t)
	probe, pid := start(t, sys, false)
	request(t, pid, pid, time.Hour, "x", "self")
	probe.Expect(t, actortest.Called{Msg: "x"}, actors.Response{Tag: "self", Value: "x"})
}

// A process that dies with requests under way leaves nothing behind, and its late answers go nowhere.
func TestRequesterDies(t *testing.T) {
	clock := actortest.NewClock(time.Unix(0, 0))
	sys := actortest.NewSystem(t, actors.Options{Clock: clock})
	keeper := &keeper{froms: make(chan actors.From, 1)}
	callee, err := sys.Start(t.Context(), keeper)
	require.NoError(t, err)
	_, pid := start(t, sys, false)
	request(t, pid, callee, time.Second, "x", "x")
	from := <-keeper.froms
	pid.Kill()
	from.Reply("nobody is there")
	actortest.Eventually(t, func() bool { return clock.Pending() == 0 })
	callee.Kill()
}

// Answer, deadline, the callee's death and the requester's death at the same moment.
func TestRequestsUnderAttack(t *testing.T) {
	sys := newSystem(t)
	for i := range 500 {
		keeper := &keeper{froms: make(chan actors.From, 1)}
		callee, err := sys.Start(t.Context(), keeper)
		require.NoError(t, err)
		probe, pid := start(t, sys, false)
		request(t, pid, callee, time.Duration(i)*time.Microsecond, "x", "tag")
		done := make(chan struct{})
		go func() {
			defer close(done)
			select {
			case from := <-keeper.froms:
				from.Reply("x")
			case <-callee.Done():
			}
		}()
		callee.Kill()
		<-done
		if i%2 == 0 {
			pid.Kill()
			continue
		}
		actortest.Eventually(t, func() bool { return len(probe.Received()) > 0 })
		settle(t, pid)
		require.Len(t, probe.Received(), 1)
		pid.Kill()
	}
}
