package metrics_test

import (
	"context"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/shearpin/shearpin/actors"
	"github.com/shearpin/shearpin/supervisor"
	"github.com/shearpin/shearpin/supervisor/metrics"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const patience = 20 * time.Second

// worker blocks in HandleCast for as long as it is told to.
type worker struct{ actors.Base }

type block struct{ begun, until chan struct{} }

func (worker) HandleCast(_ *actors.Context, msg any) error {
	b := msg.(block)
	close(b.begun)
	<-b.until
	return nil
}

type world struct {
	system   *actors.System
	registry *prometheus.Registry
	top      *actors.PID
}

func start(t *testing.T, spec supervisor.Spec) world {
	t.Helper()
	w := world{system: actors.NewSystem(actors.Options{Logger: slog.New(slog.DiscardHandler)}), registry: prometheus.NewPedanticRegistry()}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		require.NoError(t, w.system.Close(ctx))
	})
	spec.Events = actors.NewBus[supervisor.Event]()
	collector, err := metrics.New(t.Context(), w.system, spec.Events)
	require.NoError(t, err)
	require.NoError(t, w.registry.Register(collector))
	w.top, err = w.system.Start(t.Context(), supervisor.New(spec), actors.WithKind("supervisor"))
	require.NoError(t, err)
	return w
}

func child(id string, strategy supervisor.Restart, kind string) supervisor.ChildSpec {
	return supervisor.ChildSpec{ID: id, Restart: strategy, Start: func(c *actors.Context) (*actors.PID, error) {
		return c.StartLink(&worker{}, actors.WithKind(kind), actors.WithName(id))
	}}
}

// kill ends a named process and waits until its successor is there, if it has one.
func (w world) kill(t *testing.T, name string, restarted bool) {
	t.Helper()
	old := w.system.Whereis(name)
	old.Kill()
	require.Eventually(t, func() bool {
		pid := w.system.Whereis(name)
		return !w.top.Alive() || pid != nil == restarted && pid != old
	}, patience, time.Millisecond)
}

func (w world) require(t *testing.T, want string, names ...string) {
	t.Helper()
	require.EventuallyWithT(t, func(c *assert.CollectT) {
		assert.NoError(c, testutil.GatherAndCompare(w.registry, strings.NewReader(want), names...))
	}, patience, time.Millisecond)
}

func TestRestartsAreCountedByKind(t *testing.T) {
	w := start(t, supervisor.Spec{Name: "top", Intensity: 10, Period: time.Hour, Children: []supervisor.ChildSpec{
		child("a", supervisor.Permanent, "reader"), child("b", supervisor.Permanent, "reader"),
		child("c", supervisor.Permanent, "writer"), child("d", supervisor.Temporary, "writer"),
	}})
	w.kill(t, "a", true)
	w.kill(t, "b", true)
	w.kill(t, "c", true)
	w.kill(t, "a", true)
	w.kill(t, "d", false)
	w.require(t, `
# HELP shearpin_actor_give_ups_total Supervisors that ended because too many restarts were needed.
# TYPE shearpin_actor_give_ups_total counter
shearpin_actor_give_ups_total 0
# HELP shearpin_actor_lingering Callbacks and goroutines that still run of processes that are dead.
# TYPE shearpin_actor_lingering gauge
shearpin_actor_lingering 0
# HELP shearpin_actor_processes Living processes, by kind.
# TYPE shearpin_actor_processes gauge
shearpin_actor_processes{kind="metrics"} 1
shearpin_actor_processes{kind="reader"} 2
shearpin_actor_processes{kind="supervisor"} 1
shearpin_actor_processes{kind="writer"} 1
# HELP shearpin_actor_restarts_total Processes that a supervisor started again, by kind.
# TYPE shearpin_actor_restarts_total counter
shearpin_actor_restarts_total{kind="reader"} 3
shearpin_actor_restarts_total{kind="writer"} 1
`)
	problems, err := testutil.GatherAndLint(w.registry)
	require.NoError(t, err)
	assert.Empty(t, problems)
}

func TestASupervisorThatGivesUpIsCounted(t *testing.T) {
	w := start(t, supervisor.Spec{Name: "top", Intensity: supervisor.Never, Children: []supervisor.ChildSpec{
		child("a", supervisor.Permanent, "reader"),
	}})
	w.kill(t, "a", true)
	<-w.top.Done()
	w.require(t, `
# HELP shearpin_actor_give_ups_total Supervisors that ended because too many restarts were needed.
# TYPE shearpin_actor_give_ups_total counter
shearpin_actor_give_ups_total 1
`, "shearpin_actor_give_ups_total", "shearpin_actor_restarts_total")
}

func TestWhatLingersIsShown(t *testing.T) {
	w := start(t, supervisor.Spec{Name: "top", Intensity: 10, Period: time.Hour, Children: []supervisor.ChildSpec{
		child("a", supervisor.Permanent, "reader"),
	}})
	lingering := func(n string) {
		w.require(t, `
# HELP shearpin_actor_lingering Callbacks and goroutines that still run of processes that are dead.
# TYPE shearpin_actor_lingering gauge
shearpin_actor_lingering `+n+"\n", "shearpin_actor_lingering")
	}
	b := block{begun: make(chan struct{}), until: make(chan struct{})}
	w.system.Whereis("a").Cast(b)
	<-b.begun
	w.kill(t, "a", true)
	lingering("1")
	close(b.until)
	lingering("0")
}
