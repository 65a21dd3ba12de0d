package actors_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/shearpin/shearpin/actors"
	"github.com/shearpin/shearpin/actors/actortest"
)

// The files otp_*_test.go hold OTP's gen_server_SUITE: one test per case that makes sense in Go, TestOTP_ and the case's
// name. What serves code upgrade, remote nodes and hibernation is left out, and so is sys:suspend, which is a part of code
// upgrade. A name is registered in a System, which takes the place of the local, global and via registries.

var errStopped = errors.New("stopped")

// server is the suite's own gen_server. It answers "started_p", stops with "stop" as OTP's {stop, stopped, ok, State}, and
// runs what else it is called, cast or sent if that is a function of the right kind. The rest it keeps.
type server struct {
	actors.Base
	onInit      func(c *actors.Context) error
	onTerminate func(c *actors.Context, reason error)
	got         chan any
}

type (
	onCall func(c *actors.Context, from actors.From) error
	onCast func(c *actors.Context) error
	onInfo func(c *actors.Context) error
)

func newServer() *server { return &server{got: make(chan any, 100)} }

// startServer starts one that is linked to nobody.
func startServer(t testing.TB, sys *actors.System, opts ...actors.StartOption) (*server, *actors.PID) {
	t.Helper()
	s := newServer()
	pid, err := sys.Start(context.Background(), s, opts...)
	require.NoError(t, err)
	t.Cleanup(pid.Kill)
	return s, pid
}

func (s *server) Init(c *actors.Context) error {
	if s.onInit != nil {
		return s.onInit(c)
	}
	return nil
}

func (s *server) HandleCall(c *actors.Context, from actors.From, msg any) error {
	switch msg := msg.(type) {
	case onCall:
		return msg(c, from)
	case string:
		if msg == "stop" {
			c.ReplyLast(from, "ok")
			return errStopped
		}
	}
	from.Reply("ok")
	return nil
}

func (s *server) HandleCast(c *actors.Context, msg any) error {
	if f, ok := msg.(onCast); ok {
		return f(c)
	}
	s.got <- msg
	return nil
}

func (s *server) HandleInfo(c *actors.Context, msg any) error {
	if f, ok := msg.(onInfo); ok {
		return f(c)
	}
	s.got <- msg
	return nil
}

func (s *server) Terminate(c *actors.Context, reason error) {
	if s.onTerminate != nil {
		s.onTerminate(c, reason)
	}
}

// next waits for the next message that s has kept.
func (s *server) next(t testing.TB) any {
	t.Helper()
	select {
	case msg := <-s.got:
		return msg
	case <-time.After(20 * time.Second):
		t.Fatal("no message")
		return nil
	}
}

// started checks that a server works.
func started(t testing.TB, pid *actors.PID) {
	t.Helper()
	v, err := pid.Call(context.Background(), "started_p")
	require.NoError(t, err)
	require.Equal(t, "ok", v)
}

// starting is one of the functions that start a process, on behalf of a process where there is one. What that must hear
// of the death is given by end.
type starting struct {
	name  string
	start func(t testing.TB, starter *actors.PID, impl actors.Process, opts ...actors.StartOption) (*actors.PID, actors.Ref, error)
	end   func(pid *actors.PID, ref actors.Ref, reason error) []any
}

// starts are all of them.
var starts = []starting{
	{"system", func(_ testing.TB, starter *actors.PID, impl actors.Process, opts ...actors.StartOption) (*actors.PID, actors.Ref, error) {
		pid, err := starter.System().Start(context.Background(), impl, opts...)
		return pid, actors.Ref{}, err
	}, nil},
	{"start", inStarter(func(c *actors.Context, impl actors.Process, opts []actors.StartOption) (*actors.PID, actors.Ref, error) {
		pid, err := c.Start(impl, opts...)
		return pid, actors.Ref{}, err
	}), nil},
	{"start_link", inStarter(func(c *actors.Context, impl actors.Process, opts []actors.StartOption) (*actors.PID, actors.Ref, error) {
		pid, err := c.StartLink(impl, opts...)
		return pid, actors.Ref{}, err
	}), func(pid *actors.PID, _ actors.Ref, reason error) []any {
		return []any{actors.Exit{PID: pid, Reason: reason}}
	}},
	{"start_monitor", inStarter(func(c *actors.Context, impl actors.Process, opts []actors.StartOption) (*actors.PID, actors.Ref, error) {
		return c.StartMonitor(impl, opts...)
	}), func(pid *actors.PID, ref actors.Ref, reason error) []any {
		return []any{actors.Down{Ref: ref, PID: pid, Reason: reason}}
	}},
}

func inStarter(f func(*actors.Context, actors.Process, []actors.StartOption) (*actors.PID, actors.Ref, error)) func(testing.TB, *actors.PID, actors.Process, ...actors.StartOption) (*actors.PID, actors.Ref, error) {
	return func(t testing.TB, starter *actors.PID, impl actors.Process, opts ...actors.StartOption) (pid *actors.PID, ref actors.Ref, err error) {
		t.Helper()
		actortest.Do(t, starter, func(c *actors.Context) error {
			pid, ref, err = f(c, impl, opts)
			return nil
		})
		return pid, ref, err
	}
}

// heard checks what a starter has heard, and that there is nothing else.
func heard(t testing.TB, probe *actortest.Probe, pid *actors.PID, want ...any) {
	t.Helper()
	actortest.Eventually(t, func() bool { return len(probe.Received()) >= len(want) }, want)
	settle(t, pid)
	if len(want) == 0 {
		require.Empty(t, probe.Received())
	} else {
		probe.Expect(t, want...)
	}
}

func wantDead(t testing.TB, pid *actors.PID) {
	t.Helper()
	_, err := pid.Call(context.Background(), "started_p")
	assert.ErrorIs(t, err, actors.NoProcess)
}
