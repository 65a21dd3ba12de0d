package actors_test

import (
	"context"
	"runtime"
	"testing"
	"testing/synctest"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/shearpin/shearpin/actors"
	"github.com/shearpin/shearpin/actors/actortest"
)

// OTP semantics 3: {stop, Reason, Reply, State}. Terminate runs, then the reply is sent, then the process exits.
func TestReplyLast(t *testing.T) {
	ends := map[string]struct {
		terminate func()
		check     func(*testing.T, error)
	}{
		"returns": {func() {}, is(actors.Shutdown)},
		"panics":  {func() { panic(errBoom) }, is(errBoom)},
		"goexit":  {runtime.Goexit, is(actors.ErrGoexit)},
	}
	for name, end := range ends {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) { replyLast(t, end.terminate, end.check) })
		})
	}
}

func replyLast(t *testing.T, terminate func(), check func(*testing.T, error)) {
	t.Helper()
	sys := newSystem(t)
	inTerminate, leave := make(chan struct{}), make(chan struct{})
	pid, err := sys.Start(t.Context(), &stopping{reason: actors.Shutdown, terminate: func() {
		close(inTerminate)
		<-leave
		terminate()
	}}, actors.WithName("x"))
	require.NoError(t, err)
	answer := make(chan any, 1)
	go func() {
		v, err := pid.Call(context.Background(), "x")
		answer <- []any{v, err}
	}()
	<-inTerminate
	synctest.Wait()
	require.Empty(t, answer, "Terminate has not returned")
	close(leave)
	require.Equal(t, []any{"x", nil}, <-answer)
	actortest.AwaitDeath(t, pid)
	check(t, pid.Reason())
	require.NoError(t, sys.Close(t.Context()))
}

// A process that has not ended yet, or that is not let to end, sends no last reply.
func TestReplyLastWaitsForTheEnd(t *testing.T) {
	sys := newSystem(t)
	probe := &stopping{terminate: func() {}}
	pid, err := sys.Start(t.Context(), probe)
	require.NoError(t, err)
	answers := make(chan any, 2)
	for range 2 {
		go func() {
			v, err := pid.Call(context.Background(), "x")
			assert.NoError(t, err)
			answers <- v
		}()
	}
	actortest.Eventually(t, func() bool { return probe.calls.Load() == 2 })
	require.Empty(t, answers)
	require.NoError(t, pid.Stop(t.Context(), nil))
	require.Equal(t, []any{"x", "x"}, []any{<-answers, <-answers})

	pid, err = sys.Start(t.Context(), &stopping{reason: errBoom, terminate: func() { pid.Kill() }})
	require.NoError(t, err)
	_, err = pid.Call(t.Context(), "x")
	require.ErrorIs(t, err, actors.Killed)
}

// The call that is answered last may be another process' call, which lives on. If the one who was to answer it is killed
// before Terminate, nobody is told that Terminate has run.
func TestReplyLastToAnothersCaller(t *testing.T) {
	for name, kill := range map[string]bool{"killed": true, "not killed": false} {
		t.Run(name, func(t *testing.T) {
			sys := newSystem(t)
			front := &keeper{froms: make(chan actors.From, 1)}
			servant, err := sys.Start(t.Context(), front)
			require.NoError(t, err)
			k := servant.SendRequest("x")
			from := <-front.froms
			_, back := start(t, sys, false)
			back.Send(actortest.Func(func(c *actors.Context) error {
				c.ReplyLast(from, "done")
				if kill {
					c.Self().Kill()
				}
				return actors.Normal
			}))
			actortest.AwaitDeath(t, back)
			actortest.Eventually(t, func() bool { return sys.Lingering() == 0 })
			_, answered, _ := k.Check()
			require.Equal(t, !kill, answered)
		})
	}
}
