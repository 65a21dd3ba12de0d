package actors_test

import (
	"context"
	"runtime"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/shearpin/shearpin/actors"
	"github.com/shearpin/shearpin/actors/actortest"
)

func TestStartReturnsAfterInit(t *testing.T) {
	sys := newSystem(t)
	done := false
	probe := &actortest.Probe{OnInit: func(*actors.Context) error {
		runtime.Gosched()
		done = true
		return nil
	}}
	probe.Start(t, sys)
	require.True(t, done)
}

// failures are all the ways in which Init can end a start.
var failures = map[string]struct {
	init  func(*actors.Context) error
	check func(*testing.T, error)
}{
	"error":    {func(*actors.Context) error { return errBoom }, is(errBoom)},
	"ignore":   {func(*actors.Context) error { return actors.ErrIgnore }, is(actors.ErrIgnore)},
	"normal":   {func(*actors.Context) error { return actors.Normal }, is(actors.Normal)},
	"panic":    {func(*actors.Context) error { panic(errBoom) }, isPanicIn("start_test.go")},
	"goexit":   {func(*actors.Context) error { runtime.Goexit(); return nil }, is(actors.ErrGoexit)},
	"exit":     {func(c *actors.Context) error { c.Exit(c.Self(), errBoom); return nil }, is(errBoom)},
	"kill":     {func(c *actors.Context) error { c.Exit(c.Self(), actors.Killed); return nil }, is(actors.Killed)},
	"deadline": {func(c *actors.Context) error { <-c.Ctx().Done(); return nil }, is(actors.ErrInitTimeout)},
}

func is(want error) func(*testing.T, error) {
	return func(t *testing.T, err error) { assert.ErrorIs(t, err, want) }
}

func isPanicIn(file string) func(*testing.T, error) {
	return func(t *testing.T, err error) {
		var p *actors.PanicError
		require.ErrorAs(t, err, &p)
		assert.ErrorIs(t, err, errBoom)
		lines := strings.Split(p.Stack(), "\n")
		assert.Contains(t, lines[1], file, "the stack begins with the function that panicked")
	}
}

func TestStartMonitor(t *testing.T) {
	sys := newSystem(t)
	starter, pid := start(t, sys, false)
	var child *actors.PID
	var ref actors.Ref
	actortest.Do(t, pid, func(c *actors.Context) (err error) {
		child, ref, err = c.StartMonitor(actortest.NewProbe(), actors.WithName("x"))
		return err
	})
	require.Same(t, child, sys.Whereis("x"))
	actortest.Crash(t, child, errBoom)
	starter.Expect(t, actors.Down{Ref: ref, PID: child, Reason: errBoom})
	require.True(t, pid.Alive(), "they are not linked")

	// The name is taken: nothing is monitored.
	_, holder := start(t, sys, false, actors.WithName("x"))
	actortest.Do(t, pid, func(c *actors.Context) error {
		_, ref, err := c.StartMonitor(actortest.NewProbe(), actors.WithName("x"))
		assert.Equal(t, &actors.AlreadyStartedError{Name: "x", PID: holder}, err)
		assert.Zero(t, ref)
		child, ref, err = c.StartMonitor(actortest.NewProbe())
		c.Demonitor(ref)
		return err
	})
	child.Kill()
	holder.Kill()
	settle(t, pid)
	require.Len(t, starter.Received(), 1)
}

// A monitor that is set after the start can be too late to hear the reason. This one never is.
func TestStartMonitorMissesNoDeath(t *testing.T) {
	sys := newSystem(t)
	starter, pid := start(t, sys, false)
	const rounds = 300
	actortest.Do(t, pid, func(c *actors.Context) error {
		for range rounds {
			_, _, err := c.StartMonitor(&actortest.Probe{OnInit: func(c *actors.Context) error {
				c.Self().Send(actortest.Func(func(*actors.Context) error { return errBoom }))
				return nil
			}})
			assert.NoError(t, err)
		}
		return nil
	})
	actortest.Eventually(t, func() bool { return len(starter.Received()) >= rounds })
	settle(t, pid)
	got := downs(starter.Received())
	require.Len(t, got, rounds)
	for _, down := range got {
		require.Same(t, errBoom, down.Reason)
	}
}

func TestNameIsTakenOnce(t *testing.T) {
	sys := newSystem(t)
	_, first := start(t, sys, false, actors.WithName("x"))
	_, err := sys.Start(t.Context(), actortest.NewProbe(), actors.WithName("x"))
	var taken *actors.AlreadyStartedError
	require.ErrorAs(t, err, &taken)
	require.Same(t, first, taken.PID)
	require.Same(t, first, sys.Whereis("x"))
	require.Len(t, sys.Processes(), 1)

	first.Kill()
	_, second := start(t, sys, false, actors.WithName("x"))
	require.Same(t, second, sys.Whereis("x"))
}

// A process can be found by its name while its Init runs, and what is sent to it then waits.
func TestMessagesDuringInitComeAfterIt(t *testing.T) {
	sys := newSystem(t)
	probe := &actortest.Probe{}
	probe.OnInit = func(c *actors.Context) error {
		sys.Whereis("x").Send("early")
		assert.Empty(t, probe.Received())
		return nil
	}
	pid := probe.Start(t, sys, actors.WithName("x"))
	settle(t, pid)
	require.Equal(t, "early", probe.Received()[0])
}

// Senders that know the name from before cannot overtake Init either.
func TestInitIsAlwaysFirst(t *testing.T) {
	sys := newSystem(t)
	stop := make(chan struct{})
	flooded := make(chan struct{})
	go func() {
		defer close(flooded)
		for {
			select {
			case <-stop:
				return
			default:
				sys.Whereis("x").Send("flood")
			}
		}
	}()
	for range 500 {
		probe := &actortest.Probe{}
		probe.OnInit = func(*actors.Context) error {
			assert.Empty(t, probe.Received())
			return nil
		}
		pid, err := sys.Start(t.Context(), probe, actors.WithName("x"))
		require.NoError(t, err)
		pid.Kill()
	}
	close(stop)
	<-flooded
}

func TestStartEndsWithItsContext(t *testing.T) {
	sys := newSystem(t)
	ctx, cancel := context.WithCancelCause(t.Context())
	probe := &actortest.Probe{OnInit: func(c *actors.Context) error {
		cancel(errBoom)
		<-c.Ctx().Done()
		return nil
	}}
	_, err := sys.Start(ctx, probe, actors.WithName("x"))
	require.ErrorIs(t, err, errBoom)
	require.EqualError(t, err, "start of x: boom")
	require.Nil(t, sys.Whereis("x"))
	actortest.Eventually(t, func() bool { return sys.Lingering() == 0 })
}

// A starter that dies while it waits takes the process that is being started with it, linked, monitored or neither, trapping or not.
func TestStarterDiesWhileItWaits(t *testing.T) {
	for _, how := range []string{"start", "link", "monitor"} {
		sys := newSystem(t)
		inInit := make(chan *actors.PID, 1)
		_, starter := start(t, sys, false)
		starter.Send(actortest.Func(func(c *actors.Context) error {
			child := &actortest.Probe{Trap: true, OnInit: func(c *actors.Context) error {
				inInit <- c.Self()
				<-c.Ctx().Done()
				return nil
			}}
			var err error
			switch how {
			case "link":
				_, err = c.StartLink(child)
			case "monitor":
				_, _, err = c.StartMonitor(child)
			default:
				_, err = c.Start(child)
			}
			assert.Error(t, err)
			return nil
		}))
		child := <-inInit
		starter.Kill()
		requireReason(t, child, actors.Killed)
		actortest.Eventually(t, func() bool { return sys.Lingering() == 0 })
	}
}

func TestDeadProcessStartsNobody(t *testing.T) {
	sys := newSystem(t)
	_, pid := start(t, sys, false)
	tried := make(chan error, 3)
	pid.Send(actortest.Func(func(c *actors.Context) error {
		c.Exit(c.Self(), actors.Killed)
		_, err := c.Start(actortest.NewProbe())
		tried <- err
		_, err = c.StartLink(actortest.NewProbe())
		tried <- err
		_, _, err = c.StartMonitor(actortest.NewProbe())
		tried <- err
		return nil
	}))
	require.ErrorIs(t, <-tried, actors.Killed)
	require.ErrorIs(t, <-tried, actors.Killed)
	require.ErrorIs(t, <-tried, actors.Killed)
	require.Empty(t, sys.Processes())
}

// slowStarter is a process whose Init takes longer than most.
type slowStarter struct {
	actors.Base
	limit time.Duration
}

func (s slowStarter) InitTimeout() time.Duration { return s.limit }

func (s slowStarter) Init(c *actors.Context) error {
	select {
	case <-c.Ctx().Done():
	case <-time.After(2 * actors.DefaultInitTimeout):
	}
	return nil
}

func TestInitTimeouts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		sys := newSystem(t)
		begin := time.Now()
		_, err := sys.Start(t.Context(), slowStarter{})
		require.ErrorIs(t, err, actors.ErrInitTimeout)
		require.Equal(t, actors.DefaultInitTimeout, time.Since(begin))

		_, err = sys.Start(t.Context(), slowStarter{limit: actors.NoInitTimeout})
		require.NoError(t, err)

		_, err = sys.Start(t.Context(), slowStarter{limit: actors.NoInitTimeout}, actors.WithInitTimeout(time.Second))
		require.ErrorIs(t, err, actors.ErrInitTimeout)
	})
}

func TestStartedProcessDescribesItself(t *testing.T) {
	sys := newSystem(t)
	_, named := start(t, sys, false, actors.WithName("x"), actors.WithKind("probe"))
	require.Equal(t, []string{"x", "probe", "x"}, []string{named.Name(), named.Kind(), named.String()})
	_, unnamed := start(t, sys, false, actors.WithKind("probe"))
	require.Equal(t, "probe#2", unnamed.String())
	require.Same(t, sys, named.System())
	require.Equal(t, []*actors.PID{named, unnamed}, sys.Processes())
}

func TestNilPIDIsDead(t *testing.T) {
	sys := newSystem(t)
	none := sys.Whereis("nobody")
	require.False(t, none.Alive())
	require.ErrorIs(t, none.Reason(), actors.NoProcess)
	<-none.Done()
	none.Send("x")
	none.Cast("x")
	none.Kill()
	_, err := none.Call(t.Context(), "x")
	require.ErrorIs(t, err, actors.NoProcess)
	require.ErrorIs(t, none.Stop(t.Context(), nil), actors.NoProcess)
	require.Zero(t, none.MailboxLen())
	require.Empty(t, none.Name()+none.Kind())
	require.Equal(t, "#0", none.String())

	probe, pid := start(t, sys, true)
	actortest.Do(t, pid, func(c *actors.Context) error {
		c.Send(none, "x")
		c.Monitor(none)
		c.Link(none)
		c.Unlink(none)
		c.Exit(none, errBoom)
		c.Request(none, time.Hour, "x", "tag")
		return nil
	})
	settle(t, pid)
	got := probe.Received()
	require.Len(t, got, 3)
	require.ErrorIs(t, got[0].(actors.Down).Reason, actors.NoProcess)
	require.Equal(t, actors.Exit{Reason: actors.NoProcess}, got[1])
	require.Equal(t, actors.Response{Tag: "tag", Err: actors.NoProcess}, got[2])
}

func TestStartInClosedSystem(t *testing.T) {
	sys := newSystem(t)
	require.NoError(t, sys.Close(t.Context()))
	_, err := sys.Start(t.Context(), actortest.NewProbe(), actors.WithName("x"))
	require.ErrorIs(t, err, actors.ErrSystemClosed)
	require.Nil(t, sys.Whereis("x"))
	require.NoError(t, sys.Close(t.Context()), "Close may be repeated")
	require.NotErrorIs(t, err, actors.NoProcess)
}
