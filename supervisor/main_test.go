package supervisor_test

import (
	"context"
	"errors"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/shearpin/shearpin/actors"
	"github.com/shearpin/shearpin/actors/actortest"
	"github.com/shearpin/shearpin/supervisor"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var errBoom = errors.New("boom")

func newSystem(t testing.TB) *actors.System {
	t.Helper()
	return actortest.NewSystem(t, actors.Options{})
}

func start(t testing.TB, sys *actors.System, spec supervisor.Spec) *actors.PID {
	t.Helper()
	pid, err := sys.Start(context.Background(), supervisor.New(spec))
	require.NoError(t, err)
	return pid
}

// trace records what children do, in order.
type trace struct {
	mu    sync.Mutex
	lines []string
}

func (r *trace) add(line string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.lines = append(r.lines, line)
}

func (r *trace) take() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	lines := r.lines
	r.lines = nil
	return lines
}

// probe describes a child that is a probe registered under its id, traps exits and records its start and end.
func (r *trace) probe(id string) supervisor.ChildSpec {
	return supervisor.Worker(id, func() actors.Process {
		return &actortest.Probe{
			Trap:        true,
			OnInit:      func(*actors.Context) error { r.add("+" + id); return nil },
			OnTerminate: func(*actors.Context, error) { r.add("-" + id) },
		}
	}, actors.WithName(id))
}

// probe describes a child that is a probe registered under its id.
func probe(id string) supervisor.ChildSpec { return new(trace).probe(id) }

func with(spec supervisor.ChildSpec, change func(*supervisor.ChildSpec)) supervisor.ChildSpec {
	change(&spec)
	return spec
}

// next waits until another process than old has the name.
func next(t testing.TB, name string, old *actors.PID) *actors.PID {
	t.Helper()
	var pid *actors.PID
	actortest.Eventually(t, func() bool {
		pid = old.System().Whereis(name)
		return pid != old && pid.Alive()
	})
	return pid
}

func crash(t testing.TB, sys *actors.System, name string) *actors.PID {
	t.Helper()
	old := sys.Whereis(name)
	require.NotNil(t, old)
	actortest.Crash(t, old, errBoom)
	return old
}

func children(t testing.TB, sup *actors.PID) map[string]supervisor.ChildInfo {
	t.Helper()
	list, err := supervisor.WhichChildren(t.Context(), sup)
	require.NoError(t, err)
	byID := map[string]supervisor.ChildInfo{}
	for _, c := range list {
		byID[c.ID] = c
	}
	return byID
}

func requireReason(t testing.TB, pid *actors.PID, reason error) {
	t.Helper()
	actortest.AwaitDeath(t, pid)
	require.ErrorIs(t, pid.Reason(), reason)
}
