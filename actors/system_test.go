package actors_test

import (
	"context"
	"fmt"
	"runtime"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/shearpin/shearpin/actors"
	"github.com/shearpin/shearpin/actors/actortest"
)

// Close leaves nothing: processes, their goroutines, their timers, links between them, a full mailbox, a waiting caller.
func TestClose(t *testing.T) {
	actortest.NoLeaks(t)
	clock := actortest.NewClock(time.Unix(0, 0))
	sys := actors.NewSystem(actors.Options{Clock: clock})
	keeper := &keeper{froms: make(chan actors.From, 20)}
	callee, err := sys.Start(t.Context(), keeper)
	require.NoError(t, err)
	var pids []*actors.PID
	for i := range 10 {
		_, pid := start(t, sys, true, actors.WithName(fmt.Sprint(i)))
		pids = append(pids, pid)
		actortest.Do(t, pid, func(c *actors.Context) error {
			c.Link(callee)
			c.Link(pids[0])
			c.Monitor(callee)
			c.SendAfter(time.Hour, "x")
			c.Request(callee, time.Hour, "x", "x")
			c.Go(func(ctx context.Context) any { <-ctx.Done(); return "x" })
			_, err := c.StartLink(actortest.NewProbe())
			return err
		})
	}
	waiting := make(chan error, 1)
	go func() {
		_, err := callee.Call(context.Background(), "x")
		waiting <- err
	}()
	actortest.Eventually(t, func() bool { return len(keeper.froms) == len(pids)+1 })
	release := stuck(pids[3], nothing)
	for range 1000 {
		pids[3].Send("x")
	}
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(errBoom)
	err = sys.Close(ctx)
	require.ErrorIs(t, err, errBoom)
	var unfinished *actors.CloseError
	require.ErrorAs(t, err, &unfinished)
	require.Positive(t, unfinished.Lingering)
	require.ErrorContains(t, err, "callbacks or goroutines still run: boom")
	release()
	require.NoError(t, sys.Close(t.Context()))
	require.ErrorIs(t, <-waiting, actors.Killed)
	require.Empty(t, sys.Processes())
	require.Zero(t, sys.Lingering())
	require.Zero(t, clock.Pending())
	for i, pid := range pids {
		require.ErrorIs(t, pid.Reason(), actors.Killed)
		require.Nil(t, sys.Whereis(fmt.Sprint(i)))
	}
}

// Starts that race with Close either fail or are undone by it.
func TestCloseWhileStarting(t *testing.T) {
	for range 50 {
		sys := actors.NewSystem(actors.Options{})
		ended := make(chan error, 1)
		go func() {
			for {
				if _, err := sys.Start(context.Background(), actortest.NewProbe()); err != nil {
					ended <- err
					return
				}
			}
		}()
		require.NoError(t, sys.Close(t.Context()))
		require.Error(t, <-ended)
		require.Empty(t, sys.Processes())
	}
}

// An idle process has no goroutine. A few are kept for the system as a whole.
func TestIdleProcessesHaveNoGoroutine(t *testing.T) {
	sys := newSystem(t)
	before := runtime.NumGoroutine()
	for range 1000 {
		_, err := sys.Start(t.Context(), actortest.NewProbe())
		require.NoError(t, err)
	}
	actortest.Eventually(t, func() bool { return runtime.NumGoroutine() <= before+2*runtime.GOMAXPROCS(0) })
}

// An idle process gives back the memory of its fullest moment (in Proto.Actor's mailbox it stays for good).
func TestIdleProcessKeepsNoBurst(t *testing.T) {
	sys := newSystem(t)
	pid, err := sys.Start(t.Context(), &callbacks{told: make(chan error, 1)})
	require.NoError(t, err)
	heap := func() uint64 {
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return m.HeapAlloc
	}
	before := heap()
	for range 200_000 {
		pid.Send("x")
	}
	actortest.Eventually(t, func() bool { return pid.MailboxLen() == 0 })
	actortest.Eventually(t, func() bool { return heap() < before+1<<20 })
}

// Inside a bubble time is virtual, and a system whose processes are idle is idle.
func TestSynctest(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		sys := actors.NewSystem(actors.Options{})
		probe, pid := start(t, sys, false)
		begin := time.Now()
		actortest.Do(t, pid, func(c *actors.Context) error {
			c.SendAfter(24*time.Hour, "tomorrow")
			c.Go(func(ctx context.Context) any {
				<-ctx.Done()
				return nil
			})
			return nil
		})
		synctest.Wait()
		require.Empty(t, probe.Received())
		actortest.Elapse(24*time.Hour + time.Second)
		probe.Expect(t, "tomorrow")
		require.Equal(t, 24*time.Hour+time.Second, time.Since(begin))
		require.NoError(t, sys.Close(t.Context()))
	})
}

// queueing is a dispatcher that runs one mailbox at a time, when it is told to.
type queueing struct{ fns []func() }

func (q *queueing) Schedule(fn func()) { q.fns = append(q.fns, fn) }
func (*queueing) Throughput() int      { return 1 }

// runAll runs what there is, until there is nothing.
func (q *queueing) runAll() {
	for len(q.fns) > 0 {
		fn := q.fns[0]
		q.fns = q.fns[1:]
		fn()
	}
}

// start starts a process, for which somebody has to run it.
func (q *queueing) start(t testing.TB, sys *actors.System, impl actors.Process) *actors.PID {
	t.Helper()
	started := make(chan *actors.PID)
	go func() {
		pid, err := sys.Start(context.Background(), impl, actors.WithName("x"))
		assert.NoError(t, err)
		started <- pid
	}()
	actortest.Eventually(t, func() bool { return sys.Whereis("x") != nil })
	q.runAll()
	return <-started
}

func TestInjectedDispatcher(t *testing.T) {
	q := &queueing{}
	sys := actors.NewSystem(actors.Options{Dispatcher: q})
	probe := &actortest.Probe{}
	pid := q.start(t, sys, probe)
	pid.Send(1)
	pid.Send(2)
	require.Len(t, q.fns, 1, "one wake-up for both")
	require.Empty(t, probe.Received())
	q.runAll()
	require.Equal(t, []any{1, 2}, probe.Received())
	require.NoError(t, sys.Close(t.Context()))
}

// phoenix restarts a named process from the handler of its Down, as a supervisor does.
type phoenix struct {
	actors.Base
	t     *testing.T
	left  int
	child *actors.PID
	done  chan struct{}
}

func (p *phoenix) HandleInfo(c *actors.Context, msg any) error {
	if down, ok := msg.(actors.Exit); ok {
		assert.Same(p.t, p.child, down.PID)
		assert.Nil(p.t, c.System().Whereis("phoenix"))
	}
	if p.left == 0 {
		close(p.done)
		return nil
	}
	p.left--
	child, err := c.StartLink(&callbacks{
		told: make(chan error, 1),
		info: func() error { return errBoom },
		cast: func() error { panic(errBoom) },
	}, actors.WithName("phoenix"))
	if err != nil {
		// It was ended in its Init; there is no Exit for that, and its name is free all the same.
		assert.NotErrorAs(p.t, err, new(*actors.AlreadyStartedError))
		c.Continue("again")
	}
	p.child = child
	return nil
}

func (p *phoenix) Init(c *actors.Context) error {
	c.TrapExits()
	c.Self().Send("begin")
	return nil
}

// A named process crashes and is restarted under its name thousands of times, while others kill it, call it and look it
// up: no clash of names, no missed exit.
func TestCrashAndRestartManyTimes(t *testing.T) {
	sys := newSystem(t)
	p := &phoenix{t: t, left: 3000, done: make(chan struct{})}
	_, err := sys.Start(t.Context(), p)
	require.NoError(t, err)
	attacks := []func(*actors.PID){
		func(pid *actors.PID) { pid.Send("x") },
		func(pid *actors.PID) { pid.Cast("x") },
		func(pid *actors.PID) { pid.Kill() },
		func(pid *actors.PID) { pid.Exit(errBoom) },
		func(pid *actors.PID) { _ = pid.Stop(context.Background(), errBoom) },
	}
	for i := 0; ; i++ {
		select {
		case <-p.done:
			actortest.Eventually(t, func() bool { return len(sys.Processes()) == 1 })
			return
		default:
			attacks[i%len(attacks)](sys.Whereis("phoenix"))
		}
	}
}
