package workers

import (
	"context"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/shearpin/shearpin/actors"
	"github.com/shearpin/shearpin/actors/actortest"
	"github.com/shearpin/shearpin/supervisor"
)

// patience is how long to wait for what must happen before the test fails.
const patience = 20 * time.Second

// How is a way to end a worker.
type How struct {
	Name string
	// End begins the end.
	End func(t testing.TB, pid *actors.PID)
	// Reason is what the worker dies of.
	Reason error
}

// The ways of OTP's suite, besides ShutdownWith and ByAPI.
var (
	// Kill kills it.
	Kill = How{"kill", func(_ testing.TB, pid *actors.PID) { pid.Kill() }, actors.Killed}
	// Shutdown sends it an exit signal.
	Shutdown = How{"shutdown", func(_ testing.TB, pid *actors.PID) { pid.Exit(actors.Shutdown) }, actors.Shutdown}
	// Normal lets it end by itself. The worker must not have an Answer.
	Normal = How{"normal", func(_ testing.TB, pid *actors.PID) { pid.Send(Stop{}) }, actors.Normal}
	// Abnormal lets it die by itself.
	Abnormal = How{"abnormal", func(_ testing.TB, pid *actors.PID) { pid.Send(Die{}) }, ErrDied}
)

// ShutdownWith sends an exit signal that is a shutdown with a detail.
func ShutdownWith(detail error) How {
	reason := actors.ShutdownWith(detail)
	return How{"shutdown with " + detail.Error(), func(_ testing.TB, pid *actors.PID) { pid.Exit(reason) }, reason}
}

// ByAPI is supervisor.TerminateChild.
func ByAPI(sup *actors.PID, id string) How {
	return How{"terminate_child", func(t testing.TB, _ *actors.PID) {
		t.Helper()
		require.NoError(t, supervisor.TerminateChild(context.Background(), sup, id))
	}, actors.Shutdown}
}

// Terminate ends a living worker and checks what it dies of. When it returns, the exit signal is in the mailbox of the
// worker's supervisor: what the test asks the supervisor now is answered by one that knows.
func Terminate(t testing.TB, pid *actors.PID, how How) {
	t.Helper()
	// Links are told in the order in which they were made, so this one hears of the death after the supervisor.
	var observer actortest.Probe
	observer.Trap = true
	observing := observer.Start(t, pid.System())
	actortest.Do(t, observing, func(c *actors.Context) error {
		c.Link(pid)
		return nil
	})
	how.End(t, pid)
	observer.Expect(t, actors.Exit{PID: pid, Reason: how.Reason})
	observing.Kill()
}

// Watch is a process that monitors others and remembers what they died of.
type Watch struct {
	probe actortest.Probe
	pids  []*actors.PID
}

// Monitor sets one monitor on each process.
func Monitor(t testing.TB, sys *actors.System, pids ...*actors.PID) *Watch {
	t.Helper()
	w := &Watch{pids: pids}
	actortest.Do(t, w.probe.Start(t, sys), func(c *actors.Context) error {
		for _, pid := range pids {
			c.Monitor(pid)
		}
		return nil
	})
	return w
}

// Downs returns what has been heard so far, oldest first.
func (w *Watch) Downs() []actors.Down {
	var downs []actors.Down
	for _, msg := range w.probe.Received() {
		downs = append(downs, msg.(actors.Down))
	}
	return downs
}

// Await waits until all processes are dead, and returns their reasons in the order in which Monitor was given them.
func (w *Watch) Await(t testing.TB) []error {
	t.Helper()
	actortest.Eventually(t, func() bool { return len(w.probe.Received()) >= len(w.pids) }, "deaths of", w.pids)
	downs := w.Downs()
	reasons := make([]error, len(w.pids))
	for i, pid := range w.pids {
		at := slices.IndexFunc(downs, func(d actors.Down) bool { return d.PID == pid })
		require.GreaterOrEqual(t, at, 0, "no Down of %v", pid)
		reasons[i] = downs[at].Reason
		downs = slices.Delete(downs, at, at+1)
	}
	require.Empty(t, downs, "more than one Down of a process")
	return reasons
}

// Expect waits until all processes are dead and checks their reasons, in the order in which Monitor was given them. One
// reason stands for all.
func (w *Watch) Expect(t testing.TB, reasons ...error) {
	t.Helper()
	got := w.Await(t)
	if len(reasons) == 1 {
		reasons = slices.Repeat(reasons, len(got))
	}
	require.Len(t, reasons, len(got))
	for i, want := range reasons {
		require.Equal(t, want, got[i], "reason of %v, number %d", w.pids[i], i)
	}
}
