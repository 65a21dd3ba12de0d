package actors_test

import (
	"context"
	"fmt"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/shearpin/shearpin/actors"
	"github.com/shearpin/shearpin/actors/actortest"
)

// The traps of Proto.Actor that were measured before this package was written (spec/protoactor.md), each with a test that
// it cannot be reached through this package. Those about supervision (E2, E9, E13, E15, E16, E17, the producer, #299, #391)
// are in supervisor/traps_test.go.
//
// What is not tested, because there is nothing to test:
//
//	E11  a bounded mailbox spins for ever    there is no bounded mailbox; a Subscription that is full counts what it loses
//	                                         (TestBusSubscription), and an idle process has no goroutine (TestIdleProcessesHaveNoGoroutine)
//	E12  a priority mailbox ignores requests there are no priorities: one queue, in the order of arrival (TestCastAndInfo)
//	R1   tell, request, stop: clean          not a trap; TestStorm runs them under the race detector
//	R5   reply against timeout: clean        not a trap; TestReplyRacesWithTheDeadline, TestLateRepliesUnderAttack
//	R6   the same of futures: clean          not a trap; there are no futures
//	-    RootContext.Request is Send         PID.Call works from any goroutine (TestCall)
//	-    no context.Context                  every process has one (TestKilledInACallbackThatDoesNotReturn)
//	-    own system messages are unknown     signals travel in the one queue there is (TestSignalOrderUnderAttack)
//	-    #351 StopFuture's fixed timeout     PID.Stop has the context of its caller (TestStopThatFails)
//	-    #838 ping/pong became slower        measured in test/bench

// E1: a panic while handling Stopping makes the parent restart the actor, and the stop is lost. Here a process that crashes
// on its way out is out: nothing but its own exit follows a callback that did not return.
func TestTrap_E1(t *testing.T) {
	for _, where := range []string{"HandleStop", "Terminate"} {
		sys := newSystem(t)
		p := &anywhere{where: where, f: func(*actors.Context) error { panic(errBoom) }}
		pid, err := sys.Start(t.Context(), p, actors.WithName("x"))
		require.NoError(t, err)
		require.ErrorIs(t, pid.Stop(t.Context(), actors.Shutdown), errBoom)
		require.False(t, pid.Alive())
		require.Nil(t, sys.Whereis("x"))
		calm(t, sys, 0)
	}
}

// E2: after a panic while handling Stopped the parent is never told and cannot stop either. Here Terminate runs before the
// exit, and the exit, which tells everybody, does not depend on it. With a supervisor: supervisor/traps_test.go.
func TestTrap_E2(t *testing.T) {
	sys := newSystem(t)
	probe, parent := start(t, sys, true)
	child := &actortest.Probe{OnTerminate: func(*actors.Context, error) { panic(errBoom) }}
	var pid *actors.PID
	actortest.Do(t, parent, func(c *actors.Context) (err error) {
		pid, err = c.StartLink(child)
		c.Exit(pid, actors.Normal) // does not trap: ignored
		return err
	})
	require.ErrorIs(t, pid.Stop(t.Context(), actors.Shutdown), errBoom)
	probe.Expect(t, actors.Exit{PID: pid, Reason: pid.Reason()})
	require.NoError(t, parent.Stop(t.Context(), actors.Shutdown))
}

// E3: a parent that also watches its child is told twice. Here a link and a monitor are different things, and each is one
// message of its own kind.
func TestTrap_E3(t *testing.T) {
	sys := newSystem(t)
	probe, parent := start(t, sys, true)
	var pid *actors.PID
	var ref actors.Ref
	actortest.Do(t, parent, func(c *actors.Context) (err error) {
		pid, err = c.StartLink(actortest.NewProbe())
		ref = c.Monitor(pid)
		return err
	})
	actortest.Crash(t, pid, errBoom)
	probe.Expect(t, actors.Down{Ref: ref, PID: pid, Reason: errBoom}, actors.Exit{PID: pid, Reason: errBoom})
	calm(t, sys, 1)
	settle(t, parent)
	require.Len(t, probe.Received(), 2)
}

// E4: Terminated overtakes messages that the dead one had sent before (200 of 200). Here news of a death takes the way of
// messages. TestSignalOrderUnderAttack adds kills.
func TestTrap_E4(t *testing.T) {
	sys := newSystem(t)
	for range 200 {
		probe, receiver := start(t, sys, false)
		_, sender := start(t, sys, false)
		ref := monitor(t, receiver, sender)
		sender.Send(actortest.Func(func(c *actors.Context) error {
			c.Send(receiver, 1)
			c.Send(receiver, 2)
			return errBoom
		}))
		probe.Expect(t, 1, 2, actors.Down{Ref: ref, PID: sender, Reason: errBoom})
	}
}

// E5: user messages are still handled after Stopping while children stop. Here nothing is handled after the callback that
// ended the process, and Terminate is the last one. Only a Drainer, which has said so, goes on.
func TestTrap_E5(t *testing.T) {
	sys := newSystem(t)
	inTerminate, leave := make(chan struct{}), make(chan struct{})
	probe := &actortest.Probe{OnTerminate: func(*actors.Context, error) { close(inTerminate); <-leave }}
	pid := probe.Start(t, sys)
	stopped := make(chan error, 1)
	go func() { stopped <- pid.Stop(context.Background(), actors.Shutdown) }()
	<-inTerminate
	pid.Send("while it terminates")
	pid.Cast("while it terminates")
	close(leave)
	require.NoError(t, <-stopped)
	calm(t, sys, 0)
	require.Equal(t, []any{actortest.Terminated{Reason: actors.Shutdown}}, probe.Received())
}

// E6: messages queued at the stop are dropped in silence, and requests among them wait for their full timeouts. Here the
// callee's death is an outcome of every call, wherever it waits.
func TestTrap_E6(t *testing.T) {
	sys := newSystem(t)
	_, pid := start(t, sys, false)
	requester, requesterPID := start(t, sys, false)
	release := stuck(pid, nothing)
	stopped := make(chan error, 1)
	go func() { stopped <- pid.Stop(context.Background(), actors.Shutdown) }()
	actortest.Eventually(t, func() bool { return pid.MailboxLen() == 2 })
	var wg sync.WaitGroup
	for range 10 {
		wg.Go(func() {
			_, err := pid.Call(context.Background(), "x")
			assert.ErrorIs(t, err, actors.Shutdown)
		})
	}
	request(t, requesterPID, pid, time.Hour, "x", "tag")
	pending := pid.SendRequest("x")
	actortest.Eventually(t, func() bool { return pid.MailboxLen() == 14 })
	release()
	wg.Wait()
	require.NoError(t, <-stopped)
	requester.Expect(t, actors.Response{Tag: "tag", Err: actors.Shutdown})
	_, err := pending.Wait(t.Context())
	require.ErrorIs(t, err, actors.Shutdown)
}

// E7: sending to a named actor while it is being spawned panics in the sender, and the actor is stuck for ever; sending to
// oneself at the start panics. Here a process is complete before it can be found, with its first message in the mailbox.
// TestInitIsAlwaysFirst floods it.
func TestTrap_E7(t *testing.T) {
	sys := newSystem(t)
	for range 500 {
		probe := &actortest.Probe{}
		probe.OnInit = func(c *actors.Context) error {
			assert.Empty(t, probe.Received(), "nothing comes before Init")
			c.Send(c.Self(), "to myself")
			return nil
		}
		found := make(chan struct{})
		go func() {
			defer close(found)
			for sys.Whereis("x") == nil {
				runtime.Gosched()
			}
			sys.Whereis("x").Send("early")
		}()
		pid := probe.Start(t, sys, actors.WithName("x"))
		<-found
		settle(t, pid)
		require.ElementsMatch(t, []any{"to myself", "early"}, probe.Received())
		pid.Kill()
	}
}

// E8: runtime.Goexit in Receive leaves a zombie, and nobody is told. Here a deferred function sees that the callback has
// not returned. TestCrashesUnderAttack does it in every place.
func TestTrap_E8(t *testing.T) {
	sys := newSystem(t)
	probe, watcher := start(t, sys, false)
	_, pid := start(t, sys, false, actors.WithName("x"))
	ref := monitor(t, watcher, pid)
	pid.Send(actortest.Func(func(*actors.Context) error { runtime.Goexit(); return nil }))
	probe.Expect(t, actors.Down{Ref: ref, PID: pid, Reason: actors.ErrGoexit})
	require.Nil(t, sys.Whereis("x"))
}

// E10: a stash replays in reverse order and without the sender. There is no stash; what takes its place are messages that
// a process puts off by Continue and calls that it answers later: both keep their order, and a From its caller.
func TestTrap_E10(t *testing.T) {
	sys := newSystem(t)
	p := &puttingOff{}
	pid, err := sys.Start(t.Context(), p)
	require.NoError(t, err)
	var wg sync.WaitGroup
	for i := range 5 {
		wg.Go(func() {
			v, err := pid.Call(context.Background(), i)
			assert.NoError(t, err)
			assert.Equal(t, i, v)
		})
	}
	wg.Wait()
	require.Equal(t, p.asked, p.answered)
	require.Len(t, p.answered, 5)
}

// puttingOff answers when five calls have come, by messages to itself.
type puttingOff struct {
	actors.Base
	froms           []actors.From
	asked, answered []any
}

func (p *puttingOff) HandleCall(c *actors.Context, from actors.From, msg any) error {
	p.froms, p.asked = append(p.froms, from), append(p.asked, msg)
	if len(p.asked) == 5 {
		for _, msg := range p.asked {
			c.Continue(msg)
		}
	}
	return nil
}

func (p *puttingOff) HandleInfo(_ *actors.Context, msg any) error {
	p.answered = append(p.answered, msg)
	p.froms[len(p.answered)-1].Reply(msg)
	return nil
}

// E13: the list of children is the internal slice, and its order changes. What this package lists is a copy, in the order
// of the starts. Children: supervisor/traps_test.go.
func TestTrap_E13(t *testing.T) {
	sys := newSystem(t)
	var pids []*actors.PID
	for range 4 {
		_, pid := start(t, sys, false)
		pids = append(pids, pid)
	}
	listed := sys.Processes()
	pids[0].Kill()
	clear(listed)
	require.Equal(t, pids[1:], sys.Processes())
}

// E14: two Watch are one Terminated for a living target, and two for a dead one. Here each monitor is one Down of its own,
// before and after the death.
func TestTrap_E14(t *testing.T) {
	sys := newSystem(t)
	probe, watcher := start(t, sys, false)
	_, pid := start(t, sys, false)
	first, second := monitor(t, watcher, pid), monitor(t, watcher, pid)
	pid.Kill()
	third, fourth := monitor(t, watcher, pid), monitor(t, watcher, pid)
	probe.Expect(t,
		actors.Down{Ref: first, PID: pid, Reason: actors.Killed}, actors.Down{Ref: second, PID: pid, Reason: actors.Killed},
		actors.Down{Ref: third, PID: pid, Reason: actors.NoProcess}, actors.Down{Ref: fourth, PID: pid, Reason: actors.NoProcess})
	settle(t, watcher)
	require.Len(t, probe.Received(), 4)
}

// E15: one blocked child and the parent can never finish stopping. Here a process that does not return is killed, which
// takes effect at once for everybody. With a supervisor's timeout: supervisor/traps_test.go.
func TestTrap_E15(t *testing.T) {
	sys := newSystem(t)
	probe, parent := start(t, sys, true)
	var child *actors.PID
	actortest.Do(t, parent, func(c *actors.Context) (err error) {
		child, err = c.StartLink(actortest.NewProbe())
		return err
	})
	release := stuck(child, nothing)
	defer release()
	actortest.Do(t, parent, func(c *actors.Context) error { c.Exit(child, actors.Killed); return nil })
	require.False(t, child.Alive())
	probe.Expect(t, actors.Exit{PID: child, Reason: actors.Killed})
	require.NoError(t, parent.Stop(t.Context(), actors.Shutdown))
}

// E18: on a conflict of names the new actor's code has already run, and an old PID reaches a new process of the same name.
// Here a start whose name is taken runs nothing of the process, and a PID is one incarnation.
func TestTrap_E18(t *testing.T) {
	sys := newSystem(t)
	_, old := start(t, sys, false, actors.WithName("x"))
	ran := false
	_, err := sys.Start(t.Context(), &actortest.Probe{OnInit: func(*actors.Context) error { ran = true; return nil }}, actors.WithName("x"))
	require.ErrorAs(t, err, new(*actors.AlreadyStartedError))
	require.False(t, ran)

	old.Kill()
	probe, pid := start(t, sys, false, actors.WithName("x"))
	require.NotSame(t, old, pid)
	old.Send("x")
	old.Cast("x")
	old.Exit(errBoom)
	old.Kill()
	_, err = old.Call(t.Context(), "x")
	require.ErrorIs(t, err, actors.NoProcess)
	settle(t, pid)
	require.Empty(t, probe.Received())
}

// E19: of three goroutines that wait for one future, one is woken. Here what several can wait for is a channel that is
// closed: Done of a process and of a Pending; and every Stop has its own slot.
func TestTrap_E19(t *testing.T) {
	sys := newSystem(t)
	keeper := &keeper{froms: make(chan actors.From, 1)}
	pid, err := sys.Start(t.Context(), keeper)
	require.NoError(t, err)
	pending := pid.SendRequest("x")
	var waiters, stoppers sync.WaitGroup
	for range 3 {
		waiters.Go(func() {
			v, err := pending.Wait(context.Background())
			assert.NoError(t, err)
			assert.Equal(t, "answer", v)
		})
	}
	(<-keeper.froms).Reply("answer")
	waiters.Wait()
	release := make(chan struct{})
	for range 3 {
		stoppers.Go(func() { <-pid.Done() })
		stoppers.Go(func() {
			<-release
			if err := pid.Stop(context.Background(), errBoom); err != nil {
				assert.ErrorIs(t, err, actors.NoProcess, "it came too late")
			}
		})
	}
	close(release)
	stoppers.Wait()
	require.Equal(t, errBoom, pid.Reason())
}

// E20: a second Shutdown panics, and Shutdown stops no actors. Here Close may be called by anybody, again and at the same
// time, and ends every process.
func TestTrap_E20(t *testing.T) {
	sys := actors.NewSystem(actors.Options{})
	_, pid := start(t, sys, true)
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() { assert.NoError(t, sys.Close(context.Background())) })
	}
	wg.Wait()
	require.ErrorIs(t, pid.Reason(), actors.Killed)
	require.NoError(t, sys.Close(t.Context()))
}

// E21: an idle actor keeps its biggest queue. Here what a process does not use goes when it rests.
// TestIdleProcessKeepsNoBurst looks at the heap.
func TestTrap_E21(t *testing.T) {
	sys := newSystem(t)
	_, pid := start(t, sys, false)
	for _, burst := range []int{500, 100_000, 500} {
		release := stuck(pid, nothing)
		for range burst {
			pid.Send(actortest.Func(nothing))
		}
		require.GreaterOrEqual(t, pid.InboxRoom(), burst)
		release()
		settle(t, pid)
		actortest.Eventually(t, func() bool { return pid.MailboxLen() == 0 && pid.InboxRoom() <= 16 })
	}
}

// E22: watching an actor that is stopping answers Terminated before it has stopped. Here a process is alive until its exit,
// Terminate included, and only the exit sends a Down.
func TestTrap_E22(t *testing.T) {
	sys := newSystem(t)
	watching, watcher := start(t, sys, false)
	inTerminate, leave := make(chan struct{}), make(chan struct{})
	probe := &actortest.Probe{OnTerminate: func(*actors.Context, error) { close(inTerminate); <-leave }}
	pid := probe.Start(t, sys, actors.WithName("x"))
	stopped := make(chan error, 1)
	go func() { stopped <- pid.Stop(context.Background(), actors.Shutdown) }()
	<-inTerminate
	ref := monitor(t, watcher, pid)
	settle(t, watcher)
	require.Empty(t, watching.Received())
	require.Same(t, pid, sys.Whereis("x"))
	close(leave)
	watching.Expect(t, actors.Down{Ref: ref, PID: pid, Reason: actors.Shutdown})
	require.NoError(t, <-stopped)
}

// R2: two answers to one future are a data race, and the second replaces the first. Here the first one wins by a
// compare-and-swap.
func TestTrap_R2(t *testing.T) {
	sys := newSystem(t)
	var first atomic.Int64
	pid := startAnswering(t, sys, func(_ *actors.Context, from actors.From, msg any) error {
		n := msg.(int64)
		if n%2 == 0 {
			first.Store(n)
			from.Reply(n)
			go from.Reply(-n)
			return nil
		}
		go from.Reply(n)
		go from.Reply(n)
		return nil
	})
	for n := range int64(2000) {
		v, err := actors.Call[int64](t.Context(), pid, n)
		require.NoError(t, err)
		require.Equal(t, n, v)
	}
	require.EqualValues(t, 1998, first.Load())
}

// R3: the receive timeout is a data race. Here the idle timeout belongs to the callbacks, and its timer is a timer like
// others; it is set, cancelled by messages and fires all at once.
func TestTrap_R3(t *testing.T) {
	sys := newSystem(t)
	p := &idling{}
	pid, err := sys.Start(t.Context(), p)
	require.NoError(t, err)
	var wg sync.WaitGroup
	for range 3 {
		wg.Go(func() {
			for range 500 {
				pid.Cast("x")
				runtime.Gosched()
			}
		})
	}
	wg.Wait()
	var idles int
	actortest.Eventually(t, func() bool {
		idles, err = actors.Call[int](t.Context(), pid, nil)
		return err != nil || idles > 0
	})
	require.NoError(t, err)
	require.Positive(t, idles)
	pid.Kill()
	calm(t, sys, 0)
}

// idling waits for a moment without messages after each cast, and after each question.
type idling struct {
	actors.Base
	waiting bool
	idles   int
}

func (p *idling) wait(c *actors.Context) {
	p.waiting = true
	c.SetIdleTimeout(time.Microsecond, "idle")
}

func (p *idling) HandleCall(c *actors.Context, from actors.From, _ any) error {
	from.Reply(p.idles)
	p.wait(c)
	return nil
}

func (p *idling) HandleCast(c *actors.Context, _ any) error {
	p.wait(c)
	return nil
}

func (p *idling) HandleInfo(*actors.Context, any) error {
	if !p.waiting {
		return errBoom // it came twice
	}
	p.waiting = false
	p.idles++
	return nil
}

// R4: a repeated message and its cancel are a data race. Here a repetition is a timer that is set again, and Stop may be
// called by anybody, at the moment at which it fires.
func TestTrap_R4(t *testing.T) {
	sys := newSystem(t)
	for range 200 {
		ticking := &ticking{}
		pid, err := sys.Start(t.Context(), ticking)
		require.NoError(t, err)
		for stopped := false; !stopped; {
			stopped = ticking.timer.Load().Stop()
			runtime.Gosched()
		}
		ticks, err := actors.Call[int](t.Context(), pid, nil)
		require.NoError(t, err)
		runtime.Gosched()
		again, err := actors.Call[int](t.Context(), pid, nil)
		require.NoError(t, err)
		require.Equal(t, ticks, again)
		require.Equal(t, [3]int{}, pid.Relations())
		pid.Kill()
	}
}

// ticking sets its timer again at every tick.
type ticking struct {
	actors.Base
	timer atomic.Pointer[actors.Timer]
	ticks int
}

func (p *ticking) set(c *actors.Context) {
	timer := c.SendAfter(time.Microsecond, "tick")
	p.timer.Store(&timer)
}

func (p *ticking) Init(c *actors.Context) error {
	p.set(c)
	return nil
}

func (p *ticking) HandleCall(_ *actors.Context, from actors.From, _ any) error {
	from.Reply(p.ticks)
	return nil
}

func (p *ticking) HandleInfo(c *actors.Context, _ any) error {
	p.ticks++
	p.set(c)
	return nil
}

// R7: futures that were given up stay registered until their timeout, and one that is cancelled yields neither value nor
// error. Here who gives up takes out what he left, and is told why.
func TestTrap_R7(t *testing.T) {
	clock := actortest.NewClock(time.Unix(0, 0))
	sys := actortest.NewSystem(t, actors.Options{Clock: clock})
	keeper := &keeper{froms: make(chan actors.From, 20_000)}
	pid, err := sys.Start(t.Context(), keeper)
	require.NoError(t, err)
	_, _, registered := sys.Tables()
	ctx, cancel := context.WithCancelCause(t.Context())
	var wg sync.WaitGroup
	for range 1000 {
		wg.Go(func() {
			v, err := pid.Call(ctx, "x")
			assert.Nil(t, v)
			assert.ErrorIs(t, err, errBoom)
		})
	}
	actortest.Eventually(t, func() bool { return pid.Relations()[0] == 1000 })
	cancel(errBoom)
	wg.Wait()
	for range 10_000 {
		k := pid.SendRequest("x")
		k.Abandon()
		_, err := k.Wait(t.Context())
		require.ErrorIs(t, err, actors.ErrAbandoned)
	}
	_, requester := start(t, sys, false)
	for range 10 {
		request(t, requester, pid, time.Hour, "x", "x")
	}
	require.Equal(t, 10, clock.Pending())
	requester.Kill()
	calm(t, sys, 1)
	require.Equal(t, [3]int{}, pid.Relations())
	require.Zero(t, clock.Pending())
	_, _, after := sys.Tables()
	require.Equal(t, registered, after)
}

// The PID that Spawn returns comes too late: the actor may be running, and dead, before anybody can link to it. Here a
// process knows itself in Init, and the link or the monitor of its starter is there before it is.
func TestTrap_PIDComesTooLate(t *testing.T) {
	sys := newSystem(t)
	probe, parent := start(t, sys, true)
	for range 200 {
		var linked, monitored *actors.PID
		var ref actors.Ref
		dying := func(self **actors.PID) *actortest.Probe {
			return &actortest.Probe{OnInit: func(c *actors.Context) error {
				*self = c.Self()
				c.Send(c.Self(), actortest.Func(func(*actors.Context) error { return errBoom }))
				return nil
			}}
		}
		actortest.Do(t, parent, func(c *actors.Context) error {
			var self *actors.PID
			var err error
			linked, err = c.StartLink(dying(&self))
			assert.NoError(t, err)
			assert.Same(t, self, linked)
			monitored, ref, err = c.StartMonitor(dying(&self))
			assert.Same(t, self, monitored)
			return err
		})
		probe.Await(t, actors.Exit{PID: linked, Reason: errBoom})
		probe.Await(t, actors.Down{Ref: ref, PID: monitored, Reason: errBoom})
	}
	require.Len(t, probe.Received(), 400)
}

// A MessageBatch is delivered in parts and as a whole. Here a message is what was sent, whatever methods it has.
func TestTrap_MessageBatch(t *testing.T) {
	sys := newSystem(t)
	probe, pid := start(t, sys, false)
	pid.Send(batch{})
	pid.Cast(batch{})
	v, err := pid.Call(t.Context(), batch{})
	require.NoError(t, err)
	require.Equal(t, batch{}, v)
	require.Equal(t, []any{batch{}, actortest.Casted{Msg: batch{}}, actortest.Called{Msg: batch{}}}, probe.Received())
}

// SubscribeWithPredicate of the event stream is a data race. Here subscribing, publishing, forwarding, cancelling and a
// subscriber's death may happen at the same time.
func TestTrap_EventStreamRace(t *testing.T) {
	sys := newSystem(t)
	bus := actors.NewBus[int]()
	var wg sync.WaitGroup
	for i := range 4 {
		wg.Go(func() {
			for range 100 {
				sub := bus.Subscribe(1)
				probe := &actortest.Probe{}
				pid, err := sys.Start(context.Background(), probe, actors.WithName(fmt.Sprint(i)))
				assert.NoError(t, err)
				cancel := bus.Forward(pid, func(n int) any {
					if n%2 == 0 {
						return nil
					}
					return n
				})
				bus.Publish(i)
				pid.Kill()
				cancel()
				sub.Close()
			}
		})
	}
	wg.Wait()
	calm(t, sys, 0)
	last := bus.Subscribe(1)
	bus.Publish(7)
	last.Close()
	require.Equal(t, []int{7}, collect(last))
}
