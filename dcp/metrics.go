package dcp

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// Metrics of the replications. They are fed by what happens to links and streams, never by a frame of a document; how much a
// relay has moved is read from it when somebody scrapes. All managers that were given the same registerer share one
// collector on it, which is registered while at least one of them lives. Labels are names of buckets and nodes, and words of
// closed sets: nothing is kept by vbucket.

// Descriptions of what a registerer gets.
var (
	pairLabels = []string{"bucket", "consumer", "producer"}

	connectionsDesc = prometheus.NewDesc("shearpin_replication_connections",
		"Links, that is pairs of DCP connections, by state: connecting, up, or down until they are tried again.",
		[]string{"bucket", "consumer", "state"}, nil)
	linkUpDesc = prometheus.NewDesc("shearpin_replication_link_up",
		"Whether all links from the producer to the consumer are up.", pairLabels, nil)
	streamsDesc = prometheus.NewDesc("shearpin_replication_streams",
		"Streams of vbuckets, by state: adding, live, closing or takeover.", append(pairLabels[:3:3], "state"), nil)
	restartsDesc = prometheus.NewDesc("shearpin_replication_restarts_total",
		"How often the connections of a link crashed or were closed, to be opened afresh.", append(pairLabels[:3:3], "reason"), nil)
	giveUpsDesc = prometheus.NewDesc("shearpin_replication_give_ups_total",
		"How often a link was given up for a while.", append(pairLabels[:3:3], "reason"), nil)
	connectFailuresDesc = prometheus.NewDesc("shearpin_replication_connect_failures_total",
		"Attempts to open a DCP connection that failed, by whose it was and the step that failed.",
		append(pairLabels[:3:3], "role", "step"), nil)
	streamEndsDesc = prometheus.NewDesc("shearpin_stream_ends_total",
		"STREAM_ENDs, by their reason and by what the stream was doing: adding, live, closing, takeover; stale if it had ended "+
			"before, unknown if nobody had heard of it.", append(pairLabels[:3:3], "status", "phase"), nil)
	setupDesc = prometheus.NewDesc("shearpin_stream_setup_duration_seconds",
		"From an ADD_STREAM to the answer that makes its stream live.", []string{"bucket", "consumer"}, nil)
	bytesDesc = prometheus.NewDesc("shearpin_proxy_bytes_total",
		"Bytes that were read from one node to be passed on to the other.", append(pairLabels[:3:3], "direction"), nil)
	framesDesc = prometheus.NewDesc("shearpin_proxy_frames_total",
		"Frames that were read from one node to be passed on to the other.", append(pairLabels[:3:3], "direction"), nil)

	allDescs = []*prometheus.Desc{
		connectionsDesc, linkUpDesc, streamsDesc, restartsDesc, giveUpsDesc, connectFailuresDesc, streamEndsDesc, setupDesc, bytesDesc, framesDesc,
	}
)

// setupBuckets are the upper bounds of the set-up durations in seconds.
var setupBuckets = [...]float64{0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300}

// metrics is what one manager counts. It belongs to the handle and outlives the manager's process. A nil *metrics, and a nil
// *linkMeter, count nothing. Locks are taken in this order: life, the collector's two, mu, a linkMeter's.
type metrics struct {
	registerer       prometheus.Registerer
	bucket, consumer string

	// life is held while the registerer is at work. live is how many processes of the manager there are.
	life sync.Mutex
	live int
	in   *collector

	mu    sync.Mutex
	links map[linkKey]*linkMeter
	setup durations
	// gone is closed when there is no process any more and nothing on the registerer.
	gone chan struct{}
}

// durations is a histogram: how many were in each bucket, the last one without bound.
type durations struct {
	counts [len(setupBuckets) + 1]uint64
	sum    float64
}

func (d *durations) observe(seconds float64) {
	i, _ := slices.BinarySearch(setupBuckets[:], seconds)
	d.counts[i]++
	d.sum += seconds
}

func newMetrics(registerer prometheus.Registerer, bucket, consumer string) *metrics {
	if registerer == nil {
		return nil
	}
	return &metrics{
		registerer: registerer, links: map[linkKey]*linkMeter{},
		bucket: label(bucket), consumer: label(consumer),
	}
}

// label makes a name fit for Prometheus, which takes nothing but UTF-8.
func label(name string) string { return strings.ToValidUTF8(name, "�") }

// MetricsError says that [Options].Metrics did not take our collector.
type MetricsError struct{ Err error }

func (e *MetricsError) Error() string { return fmt.Sprintf("dcp: Options.Metrics: %v", e.Err) }

func (e *MetricsError) Unwrap() error { return e.Err }

// join shows the metrics on the registerer until process ends.
func (m *metrics) join(process context.Context) error {
	if m == nil {
		return nil
	}
	m.life.Lock()
	defer m.life.Unlock()
	if m.live == 0 {
		in, err := enter(m)
		if err != nil {
			return &MetricsError{Err: err}
		}
		m.in = in
		m.mu.Lock()
		m.gone = make(chan struct{})
		m.mu.Unlock()
	}
	m.live++
	context.AfterFunc(process, m.leave)
	return nil
}

func (m *metrics) leave() {
	m.life.Lock()
	defer m.life.Unlock()
	m.live--
	if m.live > 0 {
		return
	}
	m.in.exit(m)
	m.mu.Lock()
	defer m.mu.Unlock()
	close(m.gone)
}

// left waits until what the dead processes of a manager had joined is left.
func (m *metrics) left(ctx context.Context) error {
	if m == nil {
		return nil
	}
	m.mu.Lock()
	gone := m.gone
	m.mu.Unlock()
	if gone == nil {
		return nil
	}
	select {
	case <-gone:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// link is the meter of a link, which lasts over its restarts.
func (m *metrics) link(key linkKey) *linkMeter {
	if m == nil {
		return nil
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	l, ok := m.links[key]
	if !ok {
		l = newLinkMeter(m)
		m.links[key] = l
	}
	return l
}

// forget drops the meters of links that are no more.
func (m *metrics) forget(gone func(linkKey) bool) {
	if m == nil {
		return
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	maps.DeleteFunc(m.links, func(key linkKey, _ *linkMeter) bool { return gone(key) })
}

func (m *metrics) setUp(took time.Duration) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.setup.observe(took.Seconds())
}

// collector is what is registered: one for all managers of a registerer.
type collector struct {
	// turn is held by who enters or leaves, also while the registerer is at work; a scrape does not wait for that.
	turn   sync.Mutex
	closed bool

	mu      sync.Mutex
	members map[*metrics]struct{}
}

// entries is how often in a row a collector may be met whose last member has just left. Each is taken away before it can be
// met again, unless the registerer keeps what it was told to drop.
const entries = 1000

// enter puts m into the collector of its registerer, which is made if there is none.
func enter(m *metrics) (*collector, error) {
	for range entries {
		c := &collector{members: map[*metrics]struct{}{}}
		if err := m.registerer.Register(c); err != nil {
			var there prometheus.AlreadyRegisteredError
			if !errors.As(err, &there) {
				return nil, err
			}
			other, ok := there.ExistingCollector.(*collector)
			if !ok {
				return nil, err
			}
			c = other
		}
		if c.add(m) {
			return c, nil
		}
	}
	return nil, errors.New("keeps a collector that was to be dropped")
}

// add is false if the last member has left meanwhile.
func (c *collector) add(m *metrics) bool {
	c.turn.Lock()
	defer c.turn.Unlock()
	if c.closed {
		return false
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.members[m] = struct{}{}
	return true
}

// exit takes m out; the last one turns off the light. Nobody enters meanwhile: a registerer knows collectors by what they
// describe, so that a late word would take the next one away.
func (c *collector) exit(m *metrics) {
	c.turn.Lock()
	defer c.turn.Unlock()
	c.mu.Lock()
	delete(c.members, m)
	left := len(c.members)
	c.mu.Unlock()
	if left == 0 {
		c.closed = true
		m.registerer.Unregister(c)
	}
}

// Describe implements prometheus.Collector.
func (c *collector) Describe(out chan<- *prometheus.Desc) {
	for _, d := range allDescs {
		out <- d
	}
}

// Collect implements prometheus.Collector.
func (c *collector) Collect(out chan<- prometheus.Metric) {
	c.mu.Lock()
	members := slices.Collect(maps.Keys(c.members))
	c.mu.Unlock()
	s := newScrape()
	for _, m := range members {
		m.collect(s)
	}
	s.emit(out)
}
