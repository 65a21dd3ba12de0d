package actors_test

import (
	"bytes"
	"context"
	"encoding/json"
	"log/slog"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/shearpin/shearpin/actors"
	"github.com/shearpin/shearpin/actors/actortest"
)

// OTP's semantics 6. Only abnormal ends are logged; a panic with its stack.
func TestCrashesAreLogged(t *testing.T) {
	var out bytes.Buffer
	sys := actortest.NewSystem(t, actors.Options{Logger: slog.New(slog.NewTextHandler(&out, nil))})
	for _, end := range []actortest.Func{
		func(*actors.Context) error { return actors.Normal },
		func(*actors.Context) error { return actors.ShutdownWith(errBoom) },
		func(c *actors.Context) error { c.Exit(c.Self(), actors.Killed); return errBoom },
	} {
		_, pid := start(t, sys, false)
		pid.Send(end)
		actortest.AwaitDeath(t, pid)
	}
	_, err := sys.Start(t.Context(), &actortest.Probe{OnInit: func(*actors.Context) error { return errBoom }})
	require.ErrorIs(t, err, errBoom)
	actortest.Eventually(t, func() bool { return sys.Lingering() == 0 })
	require.Empty(t, out.String())

	_, pid := start(t, sys, false, actors.WithName("x"))
	actortest.Crash(t, pid, errBoom)
	require.Contains(t, out.String(), "level=INFO msg=process_crashed part=process process=x err=boom type=actortest.Func\n")
	out.Reset()
	_, pid = start(t, sys, false)
	pid.Send(actortest.Func(func(*actors.Context) error { panic("x") }))
	actortest.AwaitDeath(t, pid)
	require.Contains(t, out.String(), "level=WARN msg=process_crashed")
	require.Contains(t, out.String(), "crash_test.go")
	out.Reset()

	// A panic is a fault of the program even if the process has been killed meanwhile.
	killed, begun := make(chan struct{}), make(chan struct{})
	_, pid = start(t, sys, false)
	pid.Send(actortest.Func(func(*actors.Context) error { close(begun); <-killed; panic("late") }))
	<-begun
	pid.Kill()
	close(killed)
	actortest.Eventually(t, func() bool { return sys.Lingering() == 0 })
	require.Contains(t, out.String(), "level=WARN msg=process_crashed")
	require.Contains(t, out.String(), "panic: late")
	require.Contains(t, out.String(), " lingering=true\n")
	out.Reset()

	// Base says what it drops.
	pid, err = sys.Start(t.Context(), struct{ actors.Base }{}, actors.WithName("base"))
	require.NoError(t, err)
	pid.Cast(7)
	pid.Send("x")
	require.NoError(t, pid.Stop(t.Context(), nil))
	require.Equal(t, 1, strings.Count(out.String(), "msg=unexpected_cast process=base part=process type=int"), out.String())
	require.Equal(t, 1, strings.Count(out.String(), "msg=unexpected_message process=base part=process type=string"))
}

// revealing is a message, and a process, that says itself what may be seen of it.
type revealing struct {
	actors.Base
	pin   string
	value func() slog.Value
}

func (r *revealing) LogValue() slog.Value { return r.value() }

func (r *revealing) HandleInfo(_ *actors.Context, msg any) error { panic(errBoom) }

// A crash report shows of message and state what they show by slog.LogValuer, and nothing of them if that crashes.
func TestCrashReportShowsLogValues(t *testing.T) {
	for name, f := range map[string]struct {
		value   func() slog.Value
		message string
		state   string
	}{
		"value": {func() slog.Value { return slog.StringValue("redacted") }, "message=redacted", "state=redacted"},
		"group": {
			func() slog.Value { return slog.GroupValue(slog.Int("digits", 9)) },
			"message.digits=9", "state.digits=9",
		},
		"panic":  {func() slog.Value { panic(secret) }, "LogValue panicked", "LogValue panicked"},
		"goexit": {func() slog.Value { runtime.Goexit(); return slog.Value{} }, "", ""},
	} {
		t.Run(name, func(t *testing.T) {
			lines, sys := logging(t)
			r := &revealing{pin: secret, value: f.value}
			pid, err := sys.Start(t.Context(), r)
			require.NoError(t, err)
			status, err := actors.GetStatus(t.Context(), pid)
			require.NoError(t, err)
			require.Equal(t, f.state == "", status.State == nil)
			pid.Send(r)
			actortest.AwaitDeath(t, pid)
			require.Len(t, lines(), 1)
			line := lines()[0]
			require.NotContains(t, line, secret)
			require.Contains(t, line, "type=*actors_test.revealing")
			require.Contains(t, line, f.message)
			require.Contains(t, line, f.state)
			require.Equal(t, f.message != "", strings.Contains(line, " message"))
			require.Equal(t, f.state != "", strings.Contains(line, " state"))
		})
	}
}

// The type in a crash report is that of what the callback was given; a call says who called, and nothing else does.
func TestCrashReportKnowsTheLastMessage(t *testing.T) {
	clock := actortest.NewClock(time.Unix(0, 0))
	var out bytes.Buffer
	sys := actortest.NewSystem(t, actors.Options{Clock: clock, Logger: slog.New(slog.NewJSONHandler(&out, nil))})
	_, client := start(t, sys, false, actors.WithName("client"))
	end := func(*actors.Context) error { return errBoom }
	for name, f := range map[string]struct {
		crash  func(pid *actors.PID)
		typ    any
		caller any
	}{
		"call": {func(pid *actors.PID) {
			actortest.Do(t, client, func(c *actors.Context) error {
				_, err := c.Call(c.Ctx(), pid, onCall(func(*actors.Context, actors.From) error { return errBoom }))
				assert.Same(t, errBoom, err)
				return nil
			})
		}, "actors_test.onCall", "client"},
		"call of nobody": {func(pid *actors.PID) {
			_ = pid.SendRequest(onCall(func(*actors.Context, actors.From) error { return errBoom }))
		}, "actors_test.onCall", "goroutine"},
		"cast": {func(pid *actors.PID) { pid.Cast(onCast(end)) }, "actors_test.onCast", nil},
		"info": {func(pid *actors.PID) { pid.Send(onInfo(end)) }, "actors_test.onInfo", nil},
		"nil":  {func(pid *actors.PID) { pid.Send(nil) }, nil, nil},
		"continue": {func(pid *actors.PID) {
			pid.SendRequest(onCall(func(c *actors.Context, _ actors.From) error { c.Continue(onInfo(end)); return nil }))
		}, "actors_test.onInfo", nil},
		"after continue": {func(pid *actors.PID) {
			pid.Send(onInfo(func(c *actors.Context) error { c.Continue(onInfo(nothing)); return nil }))
			pid.Cast(onCast(end))
		}, "actors_test.onCast", nil},
		"timer": {func(pid *actors.PID) {
			pid.Send(onInfo(func(c *actors.Context) error { c.SendAfter(0, onInfo(end)); return nil }))
			started(t, pid)
			clock.Advance(0)
		}, "actors_test.onInfo", nil},
		"down": {func(pid *actors.PID) {
			pid.Send(onInfo(func(c *actors.Context) error { c.Monitor(nil); return nil }))
		}, "actors.Down", nil},
		"response": {func(pid *actors.PID) {
			pid.Send(onInfo(func(c *actors.Context) error { c.Request(nil, time.Hour, "x", "x"); return nil }))
		}, "actors.Response", nil},
		"exit": {func(pid *actors.PID) {
			pid.Send(onInfo(func(c *actors.Context) error { c.TrapExits(); c.Link(nil); return nil }))
		}, "actors.Exit", nil},
		"helper": {func(pid *actors.PID) {
			pid.Send(onInfo(func(c *actors.Context) error { c.Go(func(context.Context) any { panic(errBoom) }); return nil }))
		}, nil, nil},
		"stop": {func(pid *actors.PID) { _ = pid.Stop(context.Background(), errBoom) }, nil, nil},
	} {
		t.Run(name, func(t *testing.T) {
			out.Reset()
			pid, err := sys.Start(t.Context(), &lastMessages{server: newServer()}, actors.WithKind("server"))
			require.NoError(t, err)
			f.crash(pid)
			actortest.AwaitDeath(t, pid)
			require.Equal(t, 1, strings.Count(out.String(), "\n"))
			var line map[string]any
			require.NoError(t, json.Unmarshal(out.Bytes(), &line))
			require.Equal(t, "process_crashed", line["msg"])
			require.Equal(t, []any{"process", pid.String(), "server"}, []any{line["part"], line["process"], line["kind"]})
			require.Equal(t, []any{f.typ, f.caller}, []any{line["type"], line["caller"]})
		})
	}
}

// lastMessages is a server that crashes of what is no function.
type lastMessages struct{ *server }

func (s *lastMessages) HandleInfo(c *actors.Context, msg any) error {
	if _, ok := msg.(onInfo); ok {
		return s.server.HandleInfo(c, msg)
	}
	return errBoom
}

// What nobody would see is not made.
func TestCrashReportThatIsNotWanted(t *testing.T) {
	sys := newSystem(t)
	pid, err := sys.Start(t.Context(), newSafe(func(*safe, actors.Status) actors.Status { t.Error("not asked for"); return actors.Status{} }))
	require.NoError(t, err)
	pid.Send(onInfo(func(*actors.Context) error { return errBoom }))
	requireReason(t, pid, errBoom)
}

// panicking is a log handler that is itself at fault.
type panicking struct{ slog.Handler }

func (panicking) Handle(context.Context, slog.Record) error { panic("log") }

func TestFaultyLogHandlerDoesNotHurt(t *testing.T) {
	sys := actortest.NewSystem(t, actors.Options{Logger: slog.New(panicking{slog.NewTextHandler(&bytes.Buffer{}, nil)})})
	probe, watcher := start(t, sys, false)
	_, pid := start(t, sys, false)
	ref := monitor(t, watcher, pid)
	actortest.Crash(t, pid, errBoom)
	probe.Expect(t, actors.Down{Ref: ref, PID: pid, Reason: errBoom})
	actortest.Eventually(t, func() bool { return sys.Lingering() == 0 })
}
