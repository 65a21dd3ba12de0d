package rebalance

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// figures are the values of all series of a meter, by name and labels, those of histograms as their counts.
func figures(t *testing.T, m *meter) map[string]float64 {
	t.Helper()
	registry := prometheus.NewPedanticRegistry()
	require.NoError(t, registry.Register(m))
	families, err := registry.Gather()
	require.NoError(t, err)
	all := map[string]float64{}
	for _, f := range families {
		for _, s := range f.GetMetric() {
			var labels []string
			for _, l := range s.GetLabel() {
				labels = append(labels, l.GetValue())
			}
			value := s.GetGauge().GetValue() + s.GetCounter().GetValue()
			if h := s.GetHistogram(); h != nil {
				value = float64(h.GetSampleCount())
			}
			all[strings.TrimPrefix(f.GetName(), "shearpin_")+" "+strings.Join(labels, ",")] = value
		}
	}
	return all
}

// What a cluster does is seen in its metrics, while it does it and afterwards.
func TestMetricsOfARebalance(t *testing.T) {
	inFakeCluster(t, func(t *testing.T, i *interrupted) {
		now := func() map[string]float64 { return figures(t, i.cluster.env.meter) }
		idle := now()
		assert.Zero(t, idle["rebalance_in_progress "])
		assert.Zero(t, idle["rebalance_progress_ratio "])
		for _, outcome := range rebalanceWords {
			count, there := idle["rebalance_total "+outcome]
			assert.True(t, there, "a rate needs a zero to begin with")
			assert.Zero(t, count)
		}
		assert.InDelta(t, 1, idle["janitor_runs_total repaired"], 0, "of the bucket's creation")
		assert.Positive(t, idle["janitor_fixes_total state"])

		i.world.setGate(func(ctx context.Context, op fakeOp) error {
			if op.What == "takeover" {
				return after(ctx, time.Minute)
			}
			return nil
		})
		run := i.start()
		require.NoError(t, after(t.Context(), 10*time.Second))
		p := run.board.look().progress
		require.NotEmpty(t, p.InFlight)
		running := now()
		assert.InDelta(t, 1, running["rebalance_in_progress "], 0)
		assert.InDelta(t, p.Fraction, running["rebalance_progress_ratio "], 1e-9)
		assert.InDelta(t, float64(len(p.InFlight)), running["rebalance_moves running"], 0)
		assert.InDelta(t, float64(p.MovesDone), running["rebalance_moves done"], 0)
		assert.InDelta(t, float64(p.MovesPlanned-p.MovesDone-len(p.InFlight)), running["rebalance_moves waiting"], 0)
		assert.InDelta(t, float64(p.Items.Done), running["rebalance_items done"], 0)
		assert.Zero(t, running["rebalance_stuck "])

		report, err := run.Wait(t.Context())
		require.NoError(t, err)
		require.NoError(t, report.Err)
		ended := now()
		assert.Zero(t, ended["rebalance_in_progress "])
		assert.InDelta(t, 1, ended["rebalance_progress_ratio "], 0)
		assert.InDelta(t, 1, ended["rebalance_total complete"], 0)
		assert.InDelta(t, float64(report.Moves), ended["rebalance_moves_total done"], 0)
		for step, summary := range report.Buckets[0].Steps {
			assert.InDelta(t, float64(summary.Count), ended["rebalance_move_step_duration_seconds "+string(step)], 0, step)
		}
	})
}

// The gauge stays 1 until something advances (history 30).
func TestMetricsOfAStuckRebalance(t *testing.T) {
	d := newDesk()
	m := newMeter(d)
	run := &Run{id: "r1", board: newBoard()}
	d.began(run)
	stuck := func() float64 { return figures(t, m)["rebalance_stuck "] }
	assert.Zero(t, stuck())
	run.board.show(Progress{Stuck: &Stuck{}})
	assert.InDelta(t, 1, stuck(), 0)
	run.board.count(Progress{MovesDone: 1})
	assert.InDelta(t, 1, stuck(), 0)
	run.board.show(Progress{})
	assert.Zero(t, stuck())
	run.board.show(Progress{Stuck: &Stuck{}})
	d.ended(Report{ID: "r1"})
	assert.Zero(t, stuck())
}

// What the janitor leaves alone is counted by its reason, and is forgotten when it is repaired.
func TestMetricsOfTheJanitor(t *testing.T) {
	d := newDesk()
	m := newMeter(d)
	d.janitorEnded(JanitorReport{Buckets: []JanitorBucketReport{{
		Name: "orders",
		Held: map[uint16]error{
			1: &Conflict{VB: 1}, 2: &Conflict{VB: 2}, 3: &UnknownVBucket{VB: 3}, 4: &WaitingForNodes{VB: 4}, 5: &StrayData{VB: 5}, 6: &NoData{VB: 6},
			7: errInjected, 8: &HistoryNeeded{VB: 8},
		},
		Kept: map[uint16][]string{9: {"n1"}},
	}}})
	found := figures(t, m)
	for reason, n := range map[HoldKind]float64{HeldConflict: 2, HeldUnknown: 1, HeldWaiting: 2, HeldStray: 1, HeldLost: 1, HeldOther: 1} {
		assert.InDelta(t, n, found["janitor_held_vbuckets orders,"+string(reason)], 0, reason)
	}
	assert.InDelta(t, 1, found["janitor_kept_vbuckets orders"], 0)
	d.janitorEnded(JanitorReport{Buckets: []JanitorBucketReport{{Name: "orders"}}})
	found = figures(t, m)
	assert.Zero(t, found["janitor_held_vbuckets orders,conflict"])
	assert.Zero(t, found["janitor_kept_vbuckets orders"])

	before := figures(t, m)
	m.event(JanitorEnded{JanitorReport{}})
	m.event(JanitorEnded{JanitorReport{Buckets: []JanitorBucketReport{{Chains: 1, States: 2, Deletions: 3, Streams: 4}}}})
	m.event(JanitorEnded{JanitorReport{Buckets: []JanitorBucketReport{{Errs: []error{errInjected}}}}})
	m.event(FailoverEnded{})
	m.event(FailoverEnded{FailoverReport{Err: errInjected}})
	for _, outcome := range []string{"stopped", "aborted", "failed"} {
		err := map[string]error{"stopped": ErrStopped, "aborted": ErrMoveAborted, "failed": errInjected}[outcome]
		m.event(MoveEnded{Err: &MoveError{Err: err}})
		assert.InDelta(t, 1, figures(t, m)["rebalance_moves_total "+outcome], 0)
	}
	after := figures(t, m)
	for name, n := range map[string]float64{
		"janitor_runs_total clean": 1, "janitor_runs_total repaired": 1, "janitor_runs_total problem": 1, "janitor_fixes_total chain": 1,
		"janitor_fixes_total state": 2, "janitor_fixes_total deletion": 3, "janitor_fixes_total stream": 4,
		"failover_total complete": 1, "failover_total incomplete": 1,
	} {
		assert.InDelta(t, n, after[name]-before[name], 0, name)
	}
	registry := prometheus.NewPedanticRegistry()
	require.NoError(t, registry.Register(m))
	problems, err := testutil.GatherAndLint(registry)
	require.NoError(t, err)
	assert.Empty(t, problems)
}
