package actors_test

import (
	"bytes"
	"errors"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/shearpin/shearpin/actors"
	"github.com/shearpin/shearpin/actors/actortest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var errBoom = errors.New("boom")

// newSystem returns a system with real time.
func newSystem(t testing.TB) *actors.System {
	t.Helper()
	return actortest.NewSystem(t, actors.Options{})
}

// start starts a probe that traps exits, or not.
func start(t testing.TB, sys *actors.System, trap bool, opts ...actors.StartOption) (*actortest.Probe, *actors.PID) {
	t.Helper()
	probe := &actortest.Probe{Trap: trap}
	return probe, probe.Start(t, sys, opts...)
}

// monitor makes one probe monitor a process.
func monitor(t testing.TB, by, target *actors.PID) (ref actors.Ref) {
	t.Helper()
	actortest.Do(t, by, func(c *actors.Context) error {
		ref = c.Monitor(target)
		return nil
	})
	return ref
}

// link makes one probe link to a process.
func link(t testing.TB, by, target *actors.PID) {
	t.Helper()
	actortest.Do(t, by, func(c *actors.Context) error {
		c.Link(target)
		return nil
	})
}

// settle returns when the probe has handled everything that was sent to it before.
func settle(t testing.TB, pid *actors.PID) {
	t.Helper()
	actortest.Do(t, pid, func(*actors.Context) error { return nil })
}

// requireReason waits for a death and checks its reason.
func requireReason(t testing.TB, pid *actors.PID, reason error) {
	t.Helper()
	actortest.AwaitDeath(t, pid)
	require.ErrorIs(t, pid.Reason(), reason)
}

// stopping answers calls with ReplyLast and what it was called with, and then ends with a reason, if it has one.
type stopping struct {
	actors.Base
	reason    error
	terminate func()
	calls     atomic.Int32
}

func (s *stopping) HandleCall(c *actors.Context, from actors.From, msg any) error {
	c.ReplyLast(from, msg)
	s.calls.Add(1)
	return s.reason
}

func (s *stopping) Terminate(*actors.Context, error) { s.terminate() }

// logging returns a system that logs, and what it has logged by now, in lines.
func logging(t testing.TB) (lines func() []string, sys *actors.System) {
	t.Helper()
	out := &lockedBuffer{}
	sys = actortest.NewSystem(t, actors.Options{Logger: slog.New(slog.NewTextHandler(out, &slog.HandlerOptions{Level: slog.LevelDebug}))})
	return out.lines, sys
}

// lockedBuffer can be read while others write.
type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (b *lockedBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

func (b *lockedBuffer) lines() []string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return strings.FieldsFunc(b.b.String(), func(r rune) bool { return r == '\n' })
}
