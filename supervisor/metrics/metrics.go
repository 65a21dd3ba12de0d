// Package metrics shows as Prometheus metrics what the processes and supervisors of a system do: how many processes there are
// of each kind, how often supervisors restarted one, how often they gave up, and what still runs of processes that are dead.
//
// It is a package of its own, so that who uses processes and supervisors without Prometheus has none of it.
//
//	events := actors.NewBus[supervisor.Event]() // for the Events of every supervisor.Spec
//	collector, err := metrics.New(ctx, system, events)
//	err = registerer.Register(collector)
//
// Systems that share a registerer must be told apart, by prometheus.WrapRegistererWith.
package metrics

import (
	"context"
	"maps"
	"strings"
	"sync"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/shearpin/shearpin/actors"
	"github.com/shearpin/shearpin/supervisor"
)

var (
	processesDesc = prometheus.NewDesc("shearpin_actor_processes",
		"Living processes, by kind.", []string{"kind"}, nil)
	restartsDesc = prometheus.NewDesc("shearpin_actor_restarts_total",
		"Processes that a supervisor started again, by kind.", []string{"kind"}, nil)
	giveUpsDesc = prometheus.NewDesc("shearpin_actor_give_ups_total",
		"Supervisors that ended because too many restarts were needed.", nil, nil)
	lingeringDesc = prometheus.NewDesc("shearpin_actor_lingering",
		"Callbacks and goroutines that still run of processes that are dead.", nil, nil)
)

// Collector is a prometheus.Collector of one system. Its methods may be called from any goroutine. It counts as long as the
// system is open, and needs no stopping; who registered it takes it off.
type Collector struct {
	system *actors.System

	mu       sync.Mutex
	restarts map[string]uint64
	giveUps  uint64
}

// New begins to count what the supervisors publish on events. The system has one more process for it, of kind metrics. A kind
// is what actors.WithKind was given, and becomes a label: it should be one of few words.
func New(ctx context.Context, system *actors.System, events *actors.Bus[supervisor.Event]) (*Collector, error) {
	c := &Collector{system: system, restarts: map[string]uint64{}}
	// The process gets no messages: everything is done by who publishes, so that nothing is lost or waits.
	pid, err := system.Start(ctx, &counting{}, actors.WithKind("metrics"))
	if err != nil {
		return nil, err
	}
	events.Forward(pid, func(e supervisor.Event) any {
		c.count(e)
		return nil
	})
	return c, nil
}

// counting is what the subscription to the events lives and ends with.
type counting struct{ actors.Base }

func (c *Collector) count(e supervisor.Event) {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case e.Kind == supervisor.ChildStarted && e.Incarnation > 1:
		c.restarts[e.PID.Kind()]++
	case e.Kind == supervisor.GaveUp:
		c.giveUps++
	}
}

// Describe implements prometheus.Collector.
func (c *Collector) Describe(out chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{processesDesc, restartsDesc, giveUpsDesc, lingeringDesc} {
		out <- d
	}
}

// Collect implements prometheus.Collector.
func (c *Collector) Collect(out chan<- prometheus.Metric) {
	processes := map[string]uint64{}
	for _, pid := range c.system.Processes() {
		processes[pid.Kind()]++
	}
	c.mu.Lock()
	restarts, giveUps := maps.Clone(c.restarts), c.giveUps
	c.mu.Unlock()
	byKind := func(desc *prometheus.Desc, kind prometheus.ValueType, figures map[string]uint64) {
		for name, n := range figures {
			out <- prometheus.MustNewConstMetric(desc, kind, float64(n), strings.ToValidUTF8(name, "�"))
		}
	}
	byKind(processesDesc, prometheus.GaugeValue, processes)
	byKind(restartsDesc, prometheus.CounterValue, restarts)
	out <- prometheus.MustNewConstMetric(giveUpsDesc, prometheus.CounterValue, float64(giveUps))
	out <- prometheus.MustNewConstMetric(lingeringDesc, prometheus.GaugeValue, float64(c.system.Lingering()))
}
