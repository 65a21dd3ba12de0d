package actors_test

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/shearpin/shearpin/actors"
	"github.com/shearpin/shearpin/actors/actortest"
)

// The secrets of a safe, of its messages and of its reasons. None of them may ever be seen.
const secret = "swordfish"

// safe is a server that decides what may be seen of it.
type safe struct {
	*server
	pin    string
	format func(s *safe, shown actors.Status) actors.Status
}

func newSafe(format func(s *safe, shown actors.Status) actors.Status) *safe {
	return &safe{newServer(), secret, format}
}

func (s *safe) FormatStatus(shown actors.Status) actors.Status { return s.format(s, shown) }

// order is a message with a secret in it.
type order struct {
	PIN string
	Do  func(c *actors.Context) error
}

func (s *safe) HandleCall(c *actors.Context, from actors.From, msg any) error {
	if o, ok := msg.(order); ok {
		return o.Do(c)
	}
	return s.server.HandleCall(c, from, msg)
}

// redact is a formatter that shows that it was called, and no secret.
func redact(s *safe, shown actors.Status) actors.Status {
	shown.State = fmt.Sprintf("formatted, pin of %d digits", len(s.pin))
	if shown.Message != nil {
		shown.Message = fmt.Sprintf("formatted %T", shown.Message)
	}
	if shown.Reason != nil {
		shown.Reason = errors.New("formatted reason")
	}
	return shown
}

// formatters that crash, and whose crash gives the secret away.
var crashingFormatters = map[string]func(s *safe, shown actors.Status) actors.Status{
	"panic":  func(s *safe, _ actors.Status) actors.Status { panic(s.pin) },
	"error":  func(s *safe, _ actors.Status) actors.Status { panic(errors.New(s.pin)) },
	"index":  func(s *safe, _ actors.Status) actors.Status { return actors.Status{State: s.pin[99:]} },
	"goexit": func(*safe, actors.Status) actors.Status { runtime.Goexit(); return actors.Status{} },
}

var secretReason = errors.New("the pin is " + secret)

// get_status calls the server's formatter and shows what it returned, beside what is known of every process; a named
// server, one without a name, and one in another registry.
func TestOTP_call_format_status(t *testing.T) {
	sys := newSystem(t)
	_, parent := start(t, sys, false)
	for _, s := range []*actors.System{sys, newSystem(t)} {
		for _, name := range []string{"", "call_format_status"} {
			pid, err := s.Start(t.Context(), newSafe(redact), actors.WithName(name))
			require.NoError(t, err)
			for range 2 {
				got, err := actors.GetStatus(t.Context(), pid)
				require.NoError(t, err)
				require.Equal(t, actors.Status{PID: pid, State: "formatted, pin of 9 digits", MailboxLen: got.MailboxLen}, got)
			}
		}
	}
	trapping := newSafe(redact)
	trapping.onInit = func(c *actors.Context) error { c.TrapExits(); return nil }
	pid, _, err := starts[2].start(t, parent, trapping)
	require.NoError(t, err)
	got, err := actors.GetStatus(t.Context(), pid)
	require.NoError(t, err)
	require.Equal(t, actors.Status{
		PID: pid, Parent: parent, Trapping: true, State: "formatted, pin of 9 digits", MailboxLen: got.MailboxLen,
	}, got)

	pid.Kill()
	_, err = actors.GetStatus(t.Context(), pid)
	require.Same(t, actors.NoProcess, err)
}

// dies makes a safe crash in a call of a process with a secret in the message, in the state and in the reason, and returns
// its crash report.
func dies(t *testing.T, s *safe, reason error) string {
	t.Helper()
	lines, sys := logging(t)
	pid, err := sys.Start(t.Context(), s, actors.WithName("safe"))
	require.NoError(t, err)
	_, client := start(t, sys, false, actors.WithName("client"))
	actortest.Do(t, client, func(c *actors.Context) error {
		_, err := c.Call(c.Ctx(), pid, order{secret, func(*actors.Context) error { return reason }})
		assert.Error(t, err)
		return nil
	})
	actortest.AwaitDeath(t, pid)
	if s.onTerminate == nil {
		require.Same(t, reason, pid.Reason(), "what is shown changes nothing")
	}
	require.Len(t, lines(), 1)
	line := lines()[0]
	require.NotContains(t, line, secret)
	require.Contains(t, line, "msg=process_crashed part=process process=safe")
	require.Contains(t, line, " type=actors_test.order caller=client")
	return line
}

// The crash report shows message, state and reason as the formatter made them; without one, it shows nothing of message
// and state.
func TestOTP_error_format_status(t *testing.T) {
	line := dies(t, newSafe(redact), secretReason)
	require.Contains(t, line, `err="formatted reason"`)
	require.Contains(t, line, ` message="formatted actors_test.order" state="formatted, pin of 9 digits"`)

	lines, sys := logging(t)
	pid, err := sys.Start(t.Context(), newSafe(nil).server)
	require.NoError(t, err)
	pid.Send(onInfo(func(*actors.Context) error { return errBoom }))
	actortest.AwaitDeath(t, pid)
	require.Len(t, lines(), 1)
	require.NotContains(t, lines()[0], "message=")
	require.NotContains(t, lines()[0], "state=")
	require.Contains(t, lines()[0], "type=actors_test.onInfo")
	require.NotContains(t, lines()[0], "caller=")
}

// The formatter is asked when Terminate crashes too, with that reason, and after it.
func TestOTP_terminate_crash_format(t *testing.T) {
	terminated := false
	s := newSafe(func(s *safe, shown actors.Status) actors.Status {
		assert.True(t, terminated)
		assert.ErrorIs(t, shown.Reason, secretReason)
		return redact(s, shown)
	})
	s.onTerminate = func(*actors.Context, error) { terminated = true; panic(secretReason) }
	line := dies(t, s, errStopped)
	require.Contains(t, line, `level=WARN`)
	require.Contains(t, line, `err="formatted reason"`)
	require.Contains(t, line, `state="formatted, pin of 9 digits"`)
	require.Contains(t, line, "otp_debug_test.go", "the stack names functions, not values")
}

// A formatter that crashes hurts nobody: the server goes on, the caller is told, and nothing is shown of what it would have
// hidden; nor of its own panic.
func TestOTP_crash_in_format_status(t *testing.T) {
	for name, format := range crashingFormatters {
		t.Run(name, func(t *testing.T) { crashInFormat(t, format) })
	}
}

func crashInFormat(t *testing.T, format func(s *safe, shown actors.Status) actors.Status) {
	t.Helper()
	lines, sys := logging(t)
	pid, err := sys.Start(t.Context(), newSafe(format))
	require.NoError(t, err)
	got, err := actors.GetStatus(t.Context(), pid)
	require.NoError(t, err)
	require.Equal(t, actors.Status{PID: pid, MailboxLen: got.MailboxLen, Err: actors.ErrStatusHidden}, got)
	started(t, pid)
	require.Empty(t, lines())

	line := dies(t, newSafe(format), secretReason)
	require.Contains(t, line, `err="FormatStatus crashed" reason_type=*errors.errorString`)
	require.NotContains(t, line, "message=")
	require.NotContains(t, line, "state=")
}

// A value that is thrown by format_status is its result in OTP. Go throws by panic, and a panic is a crash, whatever its
// value: also if that is a Status, and if the formatter threw it on purpose.
func TestOTP_throw_in_format_status(t *testing.T) {
	crashInFormat(t, func(s *safe, shown actors.Status) actors.Status {
		shown.State = s.pin
		panic(shown)
	})
}

// All that the formatter is given is its to change, in a status and in a crash report, and what it leaves is shown; the
// pid is not its to change.
func TestOTP_format_all_status(t *testing.T) {
	var given []actors.Status
	format := func(_ *safe, shown actors.Status) actors.Status {
		given = append(given, shown)
		shown.PID, shown.MailboxLen, shown.Trapping = nil, -1, true
		shown.State = []string{"all", "formatted"}
		if o, ok := shown.Message.(order); ok {
			o.PIN, o.Do = "****", nil
			shown.Message = o
		}
		if shown.Reason != nil {
			shown.Reason = errors.Join(shown.Reason, errors.New("formatted"))
		}
		return shown
	}
	sys := newSystem(t)
	pid, err := sys.Start(t.Context(), newSafe(format))
	require.NoError(t, err)
	got, err := actors.GetStatus(t.Context(), pid)
	require.NoError(t, err)
	require.Equal(t, actors.Status{PID: pid, State: []string{"all", "formatted"}, MailboxLen: got.MailboxLen}, got)
	require.NotEqual(t, -1, got.MailboxLen)
	line := dies(t, newSafe(format), errBoom)
	require.Contains(t, line, `err="boom\nformatted"`)
	require.Contains(t, line, `message="{PIN:**** Do:<nil>}" state="[all formatted]"`)

	require.Len(t, given, 2)
	require.Nil(t, given[0].State)
	require.Nil(t, given[0].Message)
	require.NoError(t, given[0].Reason)
	require.Nil(t, given[1].State)
	require.Equal(t, secret, given[1].Message.(order).PIN)
	require.Same(t, errBoom, given[1].Reason)

	// What it takes away is not shown.
	line = dies(t, newSafe(func(*safe, actors.Status) actors.Status { return actors.Status{} }), secretReason)
	require.NotContains(t, line, "err=")
	require.NotContains(t, line, "message=")
	require.NotContains(t, line, "state=")
}

// holder is a server whose state can be looked at and replaced. It is a value, not a pointer.
type holder struct {
	actors.Base
	state []string
}

func (h holder) HandleCall(_ *actors.Context, from actors.From, _ any) error {
	from.Reply(slices.Clone(h.state))
	return nil
}

// The state of a server can be looked at from outside, by name and by pid, between two callbacks; looking in a way that
// crashes hurts nobody. OTP looks at a suspended server as well; sys:suspend serves code upgrade and is not ported.
func TestOTP_get_state(t *testing.T) {
	sys := newSystem(t)
	_, err := sys.Start(t.Context(), holder{state: []string{"x"}}, actors.WithName("get_state"))
	require.NoError(t, err)
	pid, err := sys.Start(t.Context(), holder{state: []string{"x"}})
	require.NoError(t, err)
	for _, pid := range []*actors.PID{sys.Whereis("get_state"), pid} {
		for range 2 {
			require.Equal(t, []string{"x"}, actortest.State(t, pid, func(h holder) []string { return slices.Clone(h.state) }))
		}
	}
	require.NoError(t, actors.Inspect(t.Context(), pid, func(actors.Process) {}), "any process is a Process")

	// It waits for its turn.
	probe, busy := start(t, sys, false)
	release := stuck(busy, func(*actors.Context) error { return nil })
	busy.Send("before")
	looked := make(chan []any, 1)
	go func() {
		var got []any
		assert.NoError(t, actors.Inspect(context.Background(), busy, func(p *actortest.Probe) { got = p.Received() }))
		looked <- got
	}()
	actortest.Eventually(t, func() bool { return busy.MailboxLen() == 3 })
	require.Empty(t, looked)
	release()
	require.Equal(t, []any{"before"}, <-looked)

	// Nobody looks any more, if he has given up, is the wrong one, or too late.
	release = stuck(busy, func(*actors.Context) error { return nil })
	ctx, cancel := context.WithCancelCause(t.Context())
	go func() {
		actortest.Eventually(t, func() bool { return busy.MailboxLen() == 2 })
		cancel(errBoom)
	}()
	err = actors.Inspect(ctx, busy, func(*actortest.Probe) { t.Error("given up") })
	require.Equal(t, &actors.WaitError{Op: "call", PID: busy, Err: errBoom}, err)
	release()
	settle(t, busy)
	err = actors.Inspect(t.Context(), pid, func(*holder) { t.Error("another type") })
	require.Equal(t, &actors.StateTypeError{PID: pid, Is: "actors_test.holder", Want: "*actors_test.holder"}, err)
	require.ErrorContains(t, err, "is a actors_test.holder, not a *actors_test.holder")

	err = actors.Inspect(t.Context(), pid, func(holder) { panic(errBoom) })
	isPanicIn("otp_debug_test.go")(t, err)
	err = actors.Inspect(t.Context(), pid, func(holder) { runtime.Goexit() })
	require.Same(t, actors.ErrGoexit, err)
	require.Equal(t, []string{"before"}, toStrings(probe.Received()))
	v, err := pid.Call(t.Context(), "x")
	require.NoError(t, err)
	require.Equal(t, []string{"x"}, v)
	pid.Kill()
	require.Same(t, actors.NoProcess, actors.Inspect(t.Context(), pid, func(holder) { t.Error("dead") }))
}

func toStrings(all []any) (s []string) {
	for _, v := range all {
		s = append(s, v.(string))
	}
	return s
}

// The state of a server can be replaced from outside. A function that crashes, or has nothing to put in place, leaves the
// state unchanged and the server alive, and whoever asked is told. Suspending is not ported, see TestOTP_get_state.
func TestOTP_replace_state(t *testing.T) {
	sys := newSystem(t)
	_, err := sys.Start(t.Context(), holder{state: []string{"x"}}, actors.WithName("replace_state"))
	require.NoError(t, err)
	for _, pid := range []*actors.PID{sys.Whereis("replace_state"), startHolder(t, sys, &pointedAt{holder{state: []string{"x"}}})} {
		require.NoError(t, replace(t, pid, func([]string) []string { return []string{"replaced"} }))
		actortest.Replace(t, pid, func(p actors.Process) actors.Process { return p })
		require.NoError(t, replace(t, pid, func(s []string) []string { return append(slices.Clone(s), "again") }))
		want := []string{"replaced", "again"}
		v, err := pid.Call(t.Context(), "x")
		require.NoError(t, err)
		require.Equal(t, want, v)

		isPanicIn("otp_debug_test.go")(t, replace(t, pid, func([]string) []string { panic(errBoom) }))
		require.Same(t, actors.ErrGoexit, replace(t, pid, func([]string) []string { runtime.Goexit(); return nil }))
		require.Same(t, actors.ErrNoState, actors.Replace(t.Context(), pid, func(actors.Process) actors.Process { return nil }))
		require.Same(t, actors.ErrNoState, actors.Replace(t.Context(), pid, func(actors.Process) actors.Process { return (*pointedAt)(nil) }))
		err = actors.Replace(t.Context(), pid, func(p *safe) *safe { return p })
		require.ErrorAs(t, err, new(*actors.StateTypeError))
		v, err = pid.Call(t.Context(), "x")
		require.NoError(t, err)
		require.Equal(t, want, v)
	}
}

// pointedAt is a holder whose process is a pointer.
type pointedAt struct{ holder }

func startHolder(t *testing.T, sys *actors.System, impl actors.Process) *actors.PID {
	t.Helper()
	pid, err := sys.Start(t.Context(), impl)
	require.NoError(t, err)
	return pid
}

// replace replaces the state of either kind of holder.
func replace(t *testing.T, pid *actors.PID, f func([]string) []string) error {
	t.Helper()
	if pid.Name() != "" {
		return actors.Replace(t.Context(), pid, func(h holder) holder { return holder{state: f(h.state)} })
	}
	return actors.Replace(t.Context(), pid, func(p *pointedAt) *pointedAt { return &pointedAt{holder{state: f(p.state)}} })
}
