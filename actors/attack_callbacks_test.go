package actors_test

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"runtime"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/shearpin/shearpin/actors"
	"github.com/shearpin/shearpin/actors/actortest"
)

// anywhere is a process that runs f in one of its callbacks, and ends normally or by boom in the others that lead there.
type anywhere struct {
	where string
	f     func(c *actors.Context) error
	bus   *actors.Bus[int]
}

func (p *anywhere) at(where string, c *actors.Context) error {
	if p.where == where {
		return p.f(c)
	}
	return nil
}

func (p *anywhere) Init(c *actors.Context) error { return p.at("Init", c) }

func (p *anywhere) HandleCall(c *actors.Context, _ actors.From, _ any) error {
	if p.where == "late idle timeout" {
		c.SetIdleTimeout(time.Microsecond, "x") // the call has cancelled it
	}
	return p.at("HandleCall", c) // nobody is answered
}

// HandleCast does what leads to the place.
func (p *anywhere) HandleCast(c *actors.Context, _ any) error {
	switch p.where {
	case "Continue":
		c.Continue("x")
	case "idle timeout":
		c.SetIdleTimeout(0, "x")
	case "late idle timeout":
		c.SetIdleTimeout(time.Microsecond, "x")
	case "timer":
		c.SendAfter(0, "x")
	case "Down":
		c.Monitor(nil)
	case "Response":
		c.Request(nil, time.Hour, "x", "x")
	case "Exit":
		c.TrapExits()
		c.Link(nil)
	case "Go":
		c.Go(func(context.Context) any { return p.f(c) }) // uses c only to be like the others
	case "wrap":
		p.bus.Forward(c.Self(), func(int) any { return p.f(c) })
		go p.bus.Publish(1)
	case "Terminate", "log handler", "error text", "FormatStatus":
		return faultyError{p.where == "error text"}
	case "HandleStop":
		go func() { _ = c.Self().Stop(context.Background(), errBoom) }()
	case "HandleCall":
		go func() { _, _ = c.Self().Call(context.Background(), "x") }()
	case "HandleInfo":
		c.Send(c.Self(), "x")
	}
	return p.at("HandleCast", c)
}

func (p *anywhere) HandleInfo(c *actors.Context, _ any) error {
	switch p.where {
	case "Continue", "idle timeout", "late idle timeout", "timer", "Down", "Response", "Exit", "HandleInfo":
		return p.f(c)
	}
	return nil
}

func (p *anywhere) HandleStop(c *actors.Context, reason error) error {
	if err := p.at("HandleStop", c); err != nil {
		return err
	}
	return reason
}

func (p *anywhere) Terminate(c *actors.Context, _ error) { _ = p.at("Terminate", c) }

func (p *anywhere) FormatStatus(s actors.Status) actors.Status {
	if p.where == "FormatStatus" {
		_ = p.f(nil)
	}
	return s
}

// faultyError is a reason whose own text may crash.
type faultyError struct{ faulty bool }

func (e faultyError) Error() string {
	if e.faulty {
		panic("the text of an error")
	}
	return "boom"
}

// faultyHandler is a log handler that runs f.
type faultyHandler struct {
	slog.Handler
	f func()
}

func (h faultyHandler) Handle(ctx context.Context, r slog.Record) error {
	h.f()
	return h.Handler.Handle(ctx, r)
}

// callbackPlaces are all the places in which this package runs what users wrote.
var callbackPlaces = []string{
	"Init", "HandleCall", "HandleCast", "HandleInfo", "HandleStop", "Terminate", "Continue", "idle timeout", "late idle timeout",
	"timer", "Down", "Exit", "Response", "Go", "wrap", "log handler", "error text", "FormatStatus",
}

// crashes are the ways of leaving a callback that are not a return.
var crashes = map[string]func(){"panic": func() { panic(errBoom) }, "goexit": runtime.Goexit}

// Wherever users' code panics or calls runtime.Goexit, its process is dead afterwards: one Down, one Exit, one outcome of
// each call, the name free, nothing lingers, and the system goes on. Half of the rounds somebody kills it as well.
func TestCrashesUnderAttack(t *testing.T) {
	for _, where := range callbackPlaces {
		for how, crash := range crashes {
			t.Run(where+"/"+how, func(t *testing.T) {
				if where == "error text" && how == "goexit" {
					return // an error that ends the goroutine of whoever reads it is nobody's to catch
				}
				handler := slog.Handler(slog.NewTextHandler(new(bytes.Buffer), nil))
				if where == "log handler" {
					handler = faultyHandler{handler, crash}
				}
				sys := actortest.NewSystem(t, actors.Options{Logger: slog.New(handler)})
				rng := rand.New(rand.NewPCG(3, uint64(len(where))))
				for round := range 20 {
					p := &anywhere{where: where, bus: actors.NewBus[int](), f: func(*actors.Context) error { crash(); return nil }}
					crashOnce(t, sys, rng, p, round%2 == 0)
				}
			})
		}
	}
}

func crashOnce(t *testing.T, sys *actors.System, rng *rand.Rand, p *anywhere, kill bool) {
	t.Helper()
	diary, watcher := startDiary(t, sys)
	var victim *actors.PID
	_, err := watcher.Call(t.Context(), func(c *actors.Context) {
		var ref actors.Ref
		var err error
		if victim, ref, err = c.StartMonitor(p, actors.WithName("victim")); err != nil {
			return
		}
		diary.note(monitored{ref})
		diary.note(linked{victim})
		c.Link(victim)
	})
	require.NoError(t, err)
	if p.where == "Init" {
		require.Nil(t, victim)
	} else {
		outcomes := make(chan error, 1)
		attack(rng,
			func() { victim.Cast("crash") },
			func() {
				_, err := victim.Call(context.Background(), "x")
				outcomes <- err
			},
			func() {
				if kill {
					victim.Kill()
				}
			})
		actortest.AwaitDeath(t, victim)
		err := <-outcomes
		require.True(t, err == victim.Reason() || err == actors.NoProcess, "%v", err)
	}
	calm(t, sys, 1)
	settle2(t, watcher)
	require.Empty(t, checkDiary(diary.diary, true, finalWorld()))
	require.Nil(t, sys.Whereis("victim"))
	require.Equal(t, [3]int{}, watcher.Relations())
	watcher.Kill()
	calm(t, sys, 0)
}

// A callback that does not return is killed for everybody at once: monitors, links, callers, the name, Done. Its context
// has ended; it is counted as lingering; and nothing of what it does afterwards reaches anybody, wherever it was stuck.
func TestStuckCallbacksUnderAttack(t *testing.T) {
	for _, where := range callbackPlaces {
		switch where {
		case "log handler", "error text", "FormatStatus", "wrap":
			continue // they are not given a Context to do anything with
		}
		t.Run(where, func(t *testing.T) {
			sys := newSystem(t)
			for round := range 10 {
				stuckOnce(t, sys, where, round)
			}
		})
	}
}

func stuckOnce(t *testing.T, sys *actors.System, where string, round int) {
	t.Helper()
	inside, leave := make(chan *actors.Context, 1), make(chan struct{})
	other, otherPID := startDiary(t, sys)
	p := &anywhere{where: where, bus: actors.NewBus[int](), f: func(c *actors.Context) error {
		inside <- c
		<-leave
		haunt(t, c, otherPID)
		if where != "Go" { // a helper runs beside the mailbox, whose own these are
			c.Continue("x")
			c.SetIdleTimeout(0, "x")
		}
		if round%2 == 0 {
			panic(errBoom)
		}
		return errBoom
	}}
	started := make(chan error, 1)
	go func() {
		pid, err := sys.Start(context.Background(), p, actors.WithName("victim"))
		pid.Cast("get stuck")
		started <- err
	}()
	c := <-inside
	victim := c.Self()
	_, err := otherPID.Call(t.Context(), func(c *actors.Context) {
		other.note(monitored{c.Monitor(victim)})
		other.note(linked{victim})
		c.Link(victim)
	})
	require.NoError(t, err)
	outcome := make(chan error, 1)
	go func() {
		_, err := victim.Call(context.Background(), "x")
		outcome <- err
	}()
	ended := victim.Done()

	victim.Kill()
	require.Nil(t, sys.Whereis("victim"))
	<-ended
	err = <-outcome
	require.True(t, err == actors.Killed || err == actors.NoProcess, "%v", err)
	if err := <-started; where == "Init" {
		require.ErrorIs(t, err, actors.Killed)
	} else {
		require.NoError(t, err)
	}
	require.GreaterOrEqual(t, sys.Lingering(), 1)
	require.Equal(t, sys.Lingering(), victim.Lingering())
	settle2(t, otherPID)
	require.Empty(t, checkDiary(other.diary, true, finalWorld()))
	heard := len(other.diary)
	require.Equal(t, 4, heard, "Down and Exit")
	_, second := start(t, sys, false, actors.WithName("victim"))

	close(leave)
	actortest.Eventually(t, func() bool { return sys.Lingering() == 0 })
	settle2(t, otherPID)
	require.Len(t, other.diary, heard)
	require.Same(t, second, sys.Whereis("victim"))
	require.Len(t, sys.Processes(), 2)
	second.Kill()
	otherPID.Kill()
	calm(t, sys, 0)
}

// haunt does in a dead process everything that a living one can do to another.
func haunt(t *testing.T, c *actors.Context, other *actors.PID) {
	t.Helper()
	assert.ErrorIs(t, context.Cause(c.Ctx()), actors.Killed)
	c.Send(other, "x")
	c.Cast(other, "x")
	c.Exit(other, errBoom)
	c.Exit(other, actors.Killed)
	c.Link(other)
	c.Unlink(other)
	c.Monitor(other)
	c.Request(other, time.Nanosecond, "x", "x")
	c.SendAfter(0, "x")
	c.Go(func(context.Context) any { return "x" })
	_, err := c.SendRequest(other, "x").Wait(context.Background())
	assert.ErrorIs(t, err, actors.Killed)
	_, err = c.Call(context.Background(), other, "x")
	assert.ErrorIs(t, err, actors.Killed)
	for i, start := range []func() error{
		func() error { _, err := c.Start(actors.Base{}, actors.WithName("ghost")); return err },
		func() error { _, err := c.StartLink(actors.Base{}, actors.WithName("ghost")); return err },
		func() error { _, _, err := c.StartMonitor(actors.Base{}, actors.WithName("ghost")); return err },
	} {
		assert.ErrorIs(t, start(), actors.Killed, fmt.Sprint(i))
	}
}

// A wrap function of a bus is the subscriber's code in the publisher's goroutine. What goes wrong in it ends the
// subscriber, and the others get their events. Goexit ends the goroutine of the publisher too, because Go has no way to
// stop it, but the bus goes on.
func TestFaultyWrapEndsItsSubscriber(t *testing.T) {
	for name, f := range map[string]struct {
		wrap  func(int) any
		check func(*testing.T, error)
	}{
		"panic":  {func(int) any { panic(errBoom) }, isPanicIn("attack_callbacks_test.go")},
		"goexit": {func(int) any { runtime.Goexit(); return nil }, is(actors.ErrGoexit)},
	} {
		t.Run(name, func(t *testing.T) {
			sys := newSystem(t)
			bus := actors.NewBus[int]()
			faulty, faultyPID := start(t, sys, true)
			good, goodPID := start(t, sys, true)
			bus.Forward(goodPID, nil)
			bus.Forward(faultyPID, f.wrap)
			published := make(chan struct{})
			go func() {
				defer close(published)
				bus.Publish(1)
			}()
			<-published
			actortest.AwaitDeath(t, faultyPID)
			f.check(t, faultyPID.Reason())
			faulty.Expect(t, actortest.Terminated{Reason: faultyPID.Reason()})
			bus.Publish(2)
			settle(t, goodPID)
			require.Equal(t, []any{1, 2}, good.Received())
		})
	}
}
