package rebalance

import (
	"slices"
	"strings"
	"sync"

	"github.com/prometheus/client_golang/prometheus"
)

// Metrics of what a cluster does. What happens is counted when it is published; what is, is read from the desk when somebody
// scrapes. Labels are names of buckets and words of closed sets: nothing is kept by vbucket.

// Descriptions of what a registerer gets.
var (
	inProgressDesc = prometheus.NewDesc("shearpin_rebalance_in_progress",
		"Whether a rebalance has begun and not ended.", nil, nil)
	ratioDesc = prometheus.NewDesc("shearpin_rebalance_progress_ratio",
		"How far the rebalance is that has not ended, or the last one was, 0 to 1.", nil, nil)
	stuckDesc = prometheus.NewDesc("shearpin_rebalance_stuck",
		"Whether a rebalance runs in which nothing has advanced for too long.", nil, nil)
	movesDesc = prometheus.NewDesc("shearpin_rebalance_moves",
		"Moves of the rebalance that has not ended, by state: waiting, running, done.", []string{"state"}, nil)
	itemsDesc = prometheus.NewDesc("shearpin_rebalance_items",
		"Documents that the new copies of the rebalance need that has not ended, as far as they are counted: left, done.", []string{"state"}, nil)
	movesTotalDesc = prometheus.NewDesc("shearpin_rebalance_moves_total",
		"Moves that have ended, by outcome: done, failed, stopped, aborted.", []string{"outcome"}, nil)
	stepsDesc = prometheus.NewDesc("shearpin_rebalance_move_step_duration_seconds",
		"How long a step of a move took.", []string{"step"}, nil)
	rebalancesDesc = prometheus.NewDesc("shearpin_rebalance_total",
		"Rebalances that have ended, by outcome: complete, partial, stopped, failed, interrupted.", []string{"outcome"}, nil)
	janitorRunsDesc = prometheus.NewDesc("shearpin_janitor_runs_total",
		"Runs of the janitor, by outcome: clean, repaired, problem.", []string{"outcome"}, nil)
	janitorFixesDesc = prometheus.NewDesc("shearpin_janitor_fixes_total",
		"What the janitor changed, by kind: chain, state, deletion, stream.", []string{"kind"}, nil)
	heldDesc = prometheus.NewDesc("shearpin_janitor_held_vbuckets",
		"VBuckets that the janitor left alone when it last looked, by reason: conflict, unknown, waiting, stray, lost, other.",
		[]string{"bucket", "reason"}, nil)
	keptDesc = prometheus.NewDesc("shearpin_janitor_kept_vbuckets",
		"VBuckets of which a copy that no chain needs has data that the active lacks.", []string{"bucket"}, nil)
	failoversDesc = prometheus.NewDesc("shearpin_failover_total",
		"Failovers that have ended, by outcome: complete, incomplete.", []string{"outcome"}, nil)

	clusterDescs = []*prometheus.Desc{
		inProgressDesc, ratioDesc, stuckDesc, movesDesc, itemsDesc, movesTotalDesc, stepsDesc, rebalancesDesc, janitorRunsDesc, janitorFixesDesc,
		heldDesc, keptDesc, failoversDesc,
	}
)

// stepBuckets are the upper bounds of the durations of steps, in seconds.
var stepBuckets = [...]float64{0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1, 5, 10, 30, 60, 300, 1800}

// The words of the labels that are there from the start, so that a rate has a zero to begin with.
var (
	rebalanceWords = []string{string(Complete), string(Partial), string(Stopped), string(Failed), string(Interrupted)}
	moveWords      = []string{string(MoveDone), string(MoveFailed), string(MoveStopped), string(MoveAborted)}
	janitorWords   = []string{"clean", "repaired", "problem"}
	fixWords       = []string{"chain", "state", "deletion", "stream"}
	failoverWords  = []string{"complete", "incomplete"}
	holdWords      = []HoldKind{HeldConflict, HeldUnknown, HeldWaiting, HeldStray, HeldLost, HeldOther}
)

// meter counts what happens in a cluster, and is what is registered. Its methods may be called from any goroutine.
type meter struct {
	desk *desk

	mu         sync.Mutex
	rebalances map[string]uint64
	moves      map[string]uint64
	steps      map[Step]*stepDurations
	runs       map[string]uint64
	fixes      map[string]uint64
	failovers  map[string]uint64
}

// stepDurations is a histogram: how many were in each bucket, the last one without bound.
type stepDurations struct {
	counts [len(stepBuckets) + 1]uint64
	sum    float64
}

func newMeter(d *desk) *meter {
	return &meter{
		desk: d, rebalances: zeros(rebalanceWords), moves: zeros(moveWords), steps: map[Step]*stepDurations{},
		runs: zeros(janitorWords), fixes: zeros(fixWords), failovers: zeros(failoverWords),
	}
}

func zeros(words []string) map[string]uint64 {
	counts := map[string]uint64{}
	for _, word := range words {
		counts[word] = 0
	}
	return counts
}

// event counts what is published.
func (m *meter) event(event Event) {
	m.mu.Lock()
	defer m.mu.Unlock()
	switch e := event.(type) {
	case RebalanceEnded:
		m.rebalances[string(e.Report.Outcome)]++
	case MoveStepped:
		if e.Previous != "" {
			m.step(e.Previous, e.Took.Seconds())
		}
	case MoveEnded:
		m.moves[string(outcomeOf(e.Err))]++
	case JanitorEnded:
		m.janitor(e.Report)
	case FailoverEnded:
		word := "complete"
		if e.Report.Err != nil {
			word = "incomplete"
		}
		m.failovers[word]++
	}
}

func (m *meter) step(step Step, seconds float64) {
	d := m.steps[step]
	if d == nil {
		d = &stepDurations{}
		m.steps[step] = d
	}
	i, _ := slices.BinarySearch(stepBuckets[:], seconds)
	d.counts[i]++
	d.sum += seconds
}

func (m *meter) janitor(r JanitorReport) {
	switch {
	case r.Problem() != nil:
		m.runs["problem"]++
	case r.Fixes() > 0:
		m.runs["repaired"]++
	default:
		m.runs["clean"]++
	}
	for _, b := range r.Buckets {
		for i, n := range []int{b.Chains, b.States, b.Deletions, b.Streams} {
			m.fixes[fixWords[i]] += uint64(n)
		}
	}
}

// Describe implements prometheus.Collector.
func (m *meter) Describe(out chan<- *prometheus.Desc) {
	for _, d := range clusterDescs {
		out <- d
	}
}

// Collect implements prometheus.Collector.
func (m *meter) Collect(out chan<- prometheus.Metric) {
	view := m.desk.look()
	collectProgress(out, view)
	collectJanitor(out, view)
	m.mu.Lock()
	defer m.mu.Unlock()
	for desc, counts := range map[*prometheus.Desc]map[string]uint64{
		rebalancesDesc: m.rebalances, movesTotalDesc: m.moves, janitorRunsDesc: m.runs, janitorFixesDesc: m.fixes, failoversDesc: m.failovers,
	} {
		for word, n := range counts {
			out <- prometheus.MustNewConstMetric(desc, prometheus.CounterValue, float64(n), word)
		}
	}
	for step, d := range m.steps {
		var count uint64
		buckets := map[float64]uint64{}
		for i, n := range d.counts {
			count += n
			if i < len(stepBuckets) {
				buckets[stepBuckets[i]] = count
			}
		}
		out <- prometheus.MustNewConstHistogram(stepsDesc, count, d.sum, buckets, string(step))
	}
}

func collectProgress(out chan<- prometheus.Metric, view deskView) {
	gauge := func(desc *prometheus.Desc, value float64, labels ...string) {
		out <- prometheus.MustNewConstMetric(desc, prometheus.GaugeValue, value, labels...)
	}
	var p Progress
	running, stuck := 0.0, 0.0
	if view.current != nil {
		running, p = 1, view.current.board.look().progress
		if p.Stuck != nil {
			stuck = 1
		}
	} else if len(view.reports) > 0 {
		p.Fraction = view.reports[0].Fraction
	}
	gauge(inProgressDesc, running)
	gauge(ratioDesc, p.Fraction)
	gauge(stuckDesc, stuck)
	gauge(movesDesc, float64(max(p.MovesPlanned-p.MovesDone-len(p.InFlight), 0)), "waiting")
	gauge(movesDesc, float64(len(p.InFlight)), "running")
	gauge(movesDesc, float64(p.MovesDone), "done")
	gauge(itemsDesc, float64(p.Items.Left()), "left")
	gauge(itemsDesc, float64(p.Items.Done), "done")
}

func collectJanitor(out chan<- prometheus.Metric, view deskView) {
	for bucket, cleaned := range view.cleaned {
		held := map[HoldKind]int{}
		for _, err := range cleaned.bucket.Held {
			held[holdKind(err)]++
		}
		for _, word := range holdWords {
			out <- prometheus.MustNewConstMetric(heldDesc, prometheus.GaugeValue, float64(held[word]), metricLabel(bucket), string(word))
		}
		out <- prometheus.MustNewConstMetric(keptDesc, prometheus.GaugeValue, float64(len(cleaned.bucket.Kept)), metricLabel(bucket))
	}
}

// metricLabel makes a name fit for Prometheus, which takes nothing but UTF-8.
func metricLabel(name string) string { return strings.ToValidUTF8(name, "�") }
