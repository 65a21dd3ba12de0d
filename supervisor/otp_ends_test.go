package supervisor_test

import (
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/shearpin/shearpin/actors"
	"github.com/shearpin/shearpin/supervisor"
	"github.com/shearpin/shearpin/supervisor/internal/workers"
)

// The TestOTP tests of restarts, strategies, significance and robustness are the cases of OTP's supervisor_SUITE of the
// same names. They run in bubbles: where OTP's suite sleeps and hopes that all has happened, synctest.Wait returns when
// everybody has come to rest, and what has not happened by then does not happen.

var errInfo = errors.New("some info")

// end ends the worker that is registered under a child's id and returns it when everybody has done what follows.
func end(t testing.TB, sup *actors.PID, id string, how workers.How) *actors.PID {
	t.Helper()
	pid := sup.System().Whereis(id)
	require.True(t, pid.Alive(), "%s is not there", id)
	workers.Terminate(t, pid, how)
	synctest.Wait()
	return pid
}

// often describes a supervisor that allows so many restarts in an hour, which is as good as for ever.
func often(strategy supervisor.Strategy, intensity int, children ...supervisor.ChildSpec) supervisor.Spec {
	return supervisor.Spec{Name: "sup", Strategy: strategy, Intensity: intensity, Period: time.Hour, Children: children}
}

// worker describes a permanent child that runs a worker, registered under its id.
func worker(id string) supervisor.ChildSpec { return named(id, workers.Worker{}) }

func named(id string, w workers.Worker) supervisor.ChildSpec { return w.Child(id, actors.WithName(id)) }

func of(restart supervisor.Restart, spec supervisor.ChildSpec) supervisor.ChildSpec {
	spec.Restart = restart
	return spec
}

// add is StartChild.
func add(t testing.TB, sup *actors.PID, spec supervisor.ChildSpec) *actors.PID {
	t.Helper()
	pid, err := supervisor.StartChild(t.Context(), sup, spec)
	require.NoError(t, err)
	require.True(t, pid.Alive())
	return pid
}

// listed is WhichChildren with what is wanted of it here: the ids and states, the youngest child first.
func listed(t testing.TB, sup *actors.PID) []string {
	t.Helper()
	list, err := supervisor.WhichChildren(t.Context(), sup)
	require.NoError(t, err)
	lines := make([]string, 0, len(list))
	for _, c := range list {
		require.Equal(t, c.State == "running", c.PID.Alive(), "%v", c)
		lines = append(lines, c.ID+" "+c.State)
	}
	return lines
}

// requireGaveUp checks that the supervisor has ended by its own decision, and on whose account.
func requireGaveUp(t testing.TB, sup *actors.PID, id string, because error) {
	t.Helper()
	requireReason(t, sup, actors.Shutdown)
	var gaveUp *supervisor.GaveUpError
	require.ErrorAs(t, sup.Reason(), &gaveUp)
	require.Equal(t, id, gaveUp.ID)
	require.ErrorIs(t, gaveUp, because)
}
