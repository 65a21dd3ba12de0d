package workers_test

import (
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/shearpin/shearpin/actors"
	"github.com/shearpin/shearpin/actors/actortest"
	"github.com/shearpin/shearpin/supervisor"
	"github.com/shearpin/shearpin/supervisor/internal/workers"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var errBoom = errors.New("boom")

func newParent(t *testing.T) (*actors.System, *workers.Parent) {
	t.Helper()
	sys := actortest.NewSystem(t, actors.Options{})
	return sys, workers.NewParent(t, sys)
}

// add starts a child under a supervisor.
func add(t *testing.T, sup *actors.PID, id string, w workers.Worker) *actors.PID {
	t.Helper()
	pid, err := supervisor.StartChild(t.Context(), sup, w.Child(id, actors.WithName(id)))
	require.NoError(t, err)
	return pid
}

// Each way to end a worker ends it with its reason, and the supervisor knows when Terminate returns.
func TestEnds(t *testing.T) {
	_, parent := newParent(t)
	sup := parent.Supervisor(t, supervisor.Spec{})
	child := workers.Worker{}.Child("a")
	child.Restart = supervisor.Temporary
	for _, how := range []workers.How{workers.Kill, workers.Shutdown, workers.Normal, workers.Abnormal, workers.ShutdownWith(errBoom), workers.ByAPI(sup, "a")} {
		t.Run(how.Name, func(t *testing.T) {
			pid, err := supervisor.StartChild(t.Context(), sup, child)
			require.NoError(t, err)
			workers.RequireCounts(t, sup, 1, 1, 0, 1)
			watch := workers.Monitor(t, pid.System(), pid)
			require.Empty(t, watch.Downs())
			workers.Terminate(t, pid, how)
			workers.RequireCounts(t, sup, 0, 0, 0, 0)
			watch.Expect(t, how.Reason)
		})
	}
	require.Empty(t, parent.Exits(t))
	parent.Shutdown(t, sup)
}

func TestOutcomes(t *testing.T) {
	_, parent := newParent(t)
	sup := parent.Supervisor(t, supervisor.Spec{})
	start := func(outcome func(*actors.Context) error) error {
		child := workers.Worker{Outcome: outcome}.Child("a")
		child.Restart = supervisor.Temporary
		pid, err := supervisor.StartChild(t.Context(), sup, child)
		if pid.Alive() {
			workers.Terminate(t, pid, workers.Normal)
		}
		return err
	}
	require.NoError(t, start(workers.Ignore))
	require.ErrorIs(t, start(workers.Fail), workers.ErrStart)
	once := workers.Once()
	require.NoError(t, start(once))
	require.ErrorIs(t, start(once), workers.ErrStart)
	require.ErrorIs(t, start(once), workers.ErrStart)
	var flag workers.Flag
	require.NoError(t, start(flag.Outcome))
	flag.Set()
	require.ErrorIs(t, start(flag.Outcome), workers.ErrStart)
	flag.Clear()
	require.NoError(t, start(flag.Outcome))
}

// A gate holds a start until the test has decided.
func TestGate(t *testing.T) {
	sys, parent := newParent(t)
	sup := parent.Supervisor(t, supervisor.Spec{Intensity: 10})
	gate := workers.NewGate()
	first := add(t, sup, "a", workers.Worker{Outcome: gate.Outcome})
	gate.Shut()
	workers.Terminate(t, first, workers.Abnormal)
	arrival := gate.Next(t)
	require.NotSame(t, first, arrival.PID)
	require.Same(t, arrival.PID, sys.Whereis("a"), "in Init")
	arrival.Return(workers.ErrStart)
	second := gate.Next(t)
	gate.Open()
	second.Return(nil)
	workers.RequireCounts(t, sup, 1, 1, 0, 1)
	require.Same(t, second.PID, sys.Whereis("a"))
	workers.Terminate(t, second.PID, workers.Abnormal)
	workers.RequireCounts(t, sup, 1, 1, 0, 1)

	gate.Shut()
	workers.Terminate(t, sys.Whereis("a"), workers.Abnormal)
	arrival = gate.Next(t)
	arrival.PID.Kill()
	arrival = gate.Next(t)
	arrival.Return(nil)
	workers.RequireCounts(t, sup, 1, 1, 0, 1)
}

// What takes time takes it by the clock.
func TestTimes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		sys, parent := newParent(t)
		sup := parent.Supervisor(t, supervisor.Spec{Intensity: supervisor.Never})
		begin := time.Now()
		passed := func(want time.Duration) {
			t.Helper()
			require.Equal(t, want, time.Since(begin))
			begin = time.Now()
		}
		slow := add(t, sup, "slow", workers.Worker{Slow: time.Second})
		require.NoError(t, supervisor.TerminateChild(t.Context(), sup, "slow"))
		passed(time.Second)
		require.Equal(t, actors.Shutdown, slow.Reason())

		slower := add(t, sup, "slower", workers.Worker{Slow: time.Hour})
		require.NoError(t, supervisor.TerminateChild(t.Context(), sup, "slower"))
		passed(5 * time.Second)
		require.Equal(t, actors.Killed, slower.Reason())
		synctest.Wait()
		require.Zero(t, sys.Lingering())

		asleep := add(t, sup, "asleep", workers.Worker{})
		release := workers.Block(t, asleep)
		require.NoError(t, supervisor.TerminateChild(t.Context(), sup, "asleep"))
		passed(5 * time.Second)
		require.Equal(t, actors.Killed, asleep.Reason())
		require.Equal(t, 1, sys.Lingering())
		release()
		synctest.Wait()
		require.Zero(t, sys.Lingering())

		flag := workers.Flag{Pause: 2 * time.Second}
		flag.Set()
		_, err := supervisor.StartChild(t.Context(), sup, workers.Worker{Outcome: flag.Outcome}.Child("flagged"))
		require.ErrorIs(t, err, workers.ErrStart)
		passed(2 * time.Second)
	})
}

// A worker with an answer ends with it whoever tells it to, and only then.
func TestAnswer(t *testing.T) {
	sys, parent := newParent(t)
	sup := parent.Supervisor(t, supervisor.Spec{})
	w := workers.Worker{Answer: errBoom}
	byAPI, byMessage, byItself := add(t, sup, "a", w), add(t, sup, "b", w), add(t, sup, "c", w)
	watch := workers.Monitor(t, sys, byAPI, byMessage, byItself)
	byItself.Cast(workers.Die{})
	byMessage.Send(workers.Stop{})
	require.NoError(t, supervisor.TerminateChild(t.Context(), sup, "a"))
	watch.Expect(t, errBoom, errBoom, workers.ErrDied)
	require.Len(t, watch.Downs(), 3)
}

// A worker that has cut its link dies without the supervisor's notice.
func TestUnlink(t *testing.T) {
	_, parent := newParent(t)
	sup := parent.Supervisor(t, supervisor.Spec{})
	pid := add(t, sup, "a", workers.Worker{})
	_, err := pid.Call(t.Context(), workers.Unlink{})
	require.NoError(t, err)
	workers.Terminate(t, pid, workers.Abnormal)
	workers.RequireCounts(t, sup, 1, 1, 0, 1)
	_, err = pid.Call(t.Context(), "what")
	require.ErrorIs(t, err, actors.NoProcess)
}

// A parent hears of its children's ends, and that of a supervisor it told to go is a shutdown.
func TestParent(t *testing.T) {
	_, parent := newParent(t)
	bad, err := parent.StartLink(t, supervisor.New(supervisor.Spec{Children: []supervisor.ChildSpec{workers.Worker{Outcome: workers.Fail}.Child("a")}}))
	require.ErrorIs(t, err, workers.ErrStart)
	require.Nil(t, bad)
	require.Empty(t, parent.Exits(t))
	sup := parent.Supervisor(t, supervisor.Spec{})
	sup.Kill()
	exits := parent.Exits(t)
	require.Len(t, exits, 1)
	require.Same(t, sup, exits[0].PID)
	require.Equal(t, actors.Killed, exits[0].Reason)
	parent.Shutdown(t, parent.Supervisor(t, supervisor.Spec{}))
}

// Under simple_one_for_one the argument is the recipe.
func TestStartWith(t *testing.T) {
	_, parent := newParent(t)
	sup := parent.Supervisor(t, supervisor.Spec{})
	start := func(arg any) (*actors.PID, error) {
		return supervisor.StartChild(t.Context(), sup, supervisor.ChildSpec{
			ID: "a", Restart: supervisor.Temporary,
			Start: func(c *actors.Context) (*actors.PID, error) { return workers.StartWith(c, arg) },
		})
	}
	_, err := start("nonsense")
	require.ErrorContains(t, err, "string is not the recipe of a worker")
	pid, err := start(workers.Worker{})
	require.NoError(t, err)
	workers.Terminate(t, pid, workers.Normal)
}
