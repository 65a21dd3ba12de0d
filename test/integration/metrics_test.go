package integration

import (
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/shearpin/shearpin/actors"
	"github.com/shearpin/shearpin/dcp"
	"github.com/shearpin/shearpin/dcp/kv"
	"github.com/shearpin/shearpin/dcp/kvnode/fault"
	"github.com/shearpin/shearpin/supervisor"
)

// measured makes the pair's manager show its metrics on a registry that refuses what is inconsistent.
func measured(registry prometheus.Registerer) func(*pair) {
	return func(p *pair) { p.tune = func(o *dcp.Options) { o.Metrics = registry } }
}

// figure is the sum of the series of a family that have all of the labels, given as name=value; of a histogram it is the
// count. All that we count is whole.
func figure(t *testing.T, from prometheus.Gatherer, name string, labels ...string) int {
	t.Helper()
	families, err := from.Gather()
	require.NoError(t, err)
	sum := 0
	for _, f := range families {
		for _, s := range f.GetMetric() {
			if f.GetName() == name && hasLabels(s.GetLabel(), labels) {
				sum += int(s.GetGauge().GetValue()+s.GetCounter().GetValue()) + int(s.GetHistogram().GetSampleCount())
			}
		}
	}
	return sum
}

func hasLabels[L interface {
	GetName() string
	GetValue() string
}](labels []L, want []string) bool {
	var all []string
	for _, l := range labels {
		all = append(all, l.GetName()+"="+l.GetValue())
	}
	text := " " + strings.Join(all, " ") + " "
	for _, l := range want {
		if !strings.Contains(text, " "+l+" ") {
			return false
		}
	}
	return true
}

func TestMetricsOfAHealthyLink(t *testing.T) {
	registry := prometheus.NewPedanticRegistry()
	p := newPair(t, healthy, dcp.Limits{}, measured(registry))
	require.NoError(t, p.apply(0, 1, 2))
	p.write(0, 100)
	p.requireReplicated(0)
	require.NoError(t, p.manager.Apply(p.ctx, 1, "", map[uint16]string{2: ""}))
	require.NoError(t, testutil.GatherAndCompare(registry, strings.NewReader(`
# HELP shearpin_replication_connections Links, that is pairs of DCP connections, by state: connecting, up, or down until they are tried again.
# TYPE shearpin_replication_connections gauge
shearpin_replication_connections{bucket="orders",consumer="n1",state="connecting"} 0
shearpin_replication_connections{bucket="orders",consumer="n1",state="down"} 0
shearpin_replication_connections{bucket="orders",consumer="n1",state="up"} 1
# HELP shearpin_replication_link_up Whether all links from the producer to the consumer are up.
# TYPE shearpin_replication_link_up gauge
shearpin_replication_link_up{bucket="orders",consumer="n1",producer="n0"} 1
# HELP shearpin_replication_streams Streams of vbuckets, by state: adding, live, closing or takeover.
# TYPE shearpin_replication_streams gauge
shearpin_replication_streams{bucket="orders",consumer="n1",producer="n0",state="adding"} 0
shearpin_replication_streams{bucket="orders",consumer="n1",producer="n0",state="closing"} 0
shearpin_replication_streams{bucket="orders",consumer="n1",producer="n0",state="live"} 2
shearpin_replication_streams{bucket="orders",consumer="n1",producer="n0",state="takeover"} 0
`), "shearpin_replication_connections", "shearpin_replication_link_up", "shearpin_replication_streams",
		"shearpin_replication_restarts_total", "shearpin_replication_give_ups_total", "shearpin_replication_connect_failures_total"))
	assert.Equal(t, 3, figure(t, registry, "shearpin_stream_setup_duration_seconds"))
	for _, name := range []string{"shearpin_proxy_bytes_total", "shearpin_proxy_frames_total"} {
		assert.GreaterOrEqual(t, figure(t, registry, name, "direction=producer_to_consumer"), 100)
		assert.Positive(t, figure(t, registry, name, "direction=consumer_to_producer"))
	}

	for range 2 { // the first one closes the streams, the second one finds the link idle
		require.NoError(t, p.manager.Retain(p.ctx, 1, "", nil))
	}
	p.eventually("a link that is no more has no series", func() bool {
		n, err := testutil.GatherAndCount(registry, "shearpin_replication_link_up", "shearpin_proxy_bytes_total")
		return err == nil && n == 0
	})
	assert.Equal(t, 3, figure(t, registry, "shearpin_stream_setup_duration_seconds"))
}

func TestMetricsOfACrash(t *testing.T) {
	registry := prometheus.NewPedanticRegistry()
	p := newPair(t, fault.EarlyStreamEnd, dcp.Limits{}, measured(registry))
	require.NoError(t, p.apply(0, 1, 2))
	p.write(0, 100)
	p.requireReplicated(0)
	before := figure(t, registry, "shearpin_proxy_bytes_total")
	p.plan.Arm()
	require.Error(t, p.apply(10, 11, 12))
	assert.Equal(t, 1, figure(t, registry, "shearpin_stream_ends_total", "status=state_changed", "phase=adding", "producer=n0"))
	p.eventually("the streams come back", func() bool { return len(p.streams()) == 3 })
	assert.Equal(t, 3, figure(t, registry, "shearpin_replication_streams"))
	assert.Equal(t, 1, figure(t, registry, "shearpin_replication_link_up", "producer=n0"))
	assert.Equal(t, 1, figure(t, registry, "shearpin_replication_restarts_total"))
	assert.Equal(t, 1, figure(t, registry, "shearpin_replication_restarts_total", "reason=unexpected_stream_end", "producer=n0", "consumer=n1", "bucket=orders"))
	assert.Greater(t, figure(t, registry, "shearpin_proxy_bytes_total"), before, "the bytes of the connections before still count")
	require.NoError(t, p.manager.Fence(p.ctx, 0, producer))
	assert.Equal(t, 1, figure(t, registry, "shearpin_replication_restarts_total", "reason=fenced"))
}

// What a takeover ends is no failure, and what comes late is told apart from it.
func TestMetricsOfATakeover(t *testing.T) {
	registry := prometheus.NewPedanticRegistry()
	p := newPair(t, fault.StaleStreamEnd, dcp.Limits{}, measured(registry))
	require.NoError(t, p.apply(5))
	p.plan.Arm()
	require.NoError(t, p.manager.Takeover(p.ctx, 1, "move", 5, producer))
	p.eventually("the takeover's stream has ended too", func() bool { return figure(t, registry, "shearpin_stream_ends_total") == 2 })
	assert.Equal(t, 1, figure(t, registry, "shearpin_stream_ends_total", "phase=stale", "status=closed"))
	assert.Equal(t, 1, figure(t, registry, "shearpin_stream_setup_duration_seconds"), "a takeover is no set-up")
	assert.Zero(t, figure(t, registry, "shearpin_replication_streams"))
	assert.Zero(t, figure(t, registry, "shearpin_replication_restarts_total"))
}

func TestMetricsOfAPeerThatIsNotThere(t *testing.T) {
	registry := prometheus.NewPedanticRegistry()
	p := newPair(t, healthy, dcp.Limits{Join: 50 * time.Millisecond}, measured(registry))
	require.ErrorIs(t, p.manager.Apply(p.ctx, 1, "", map[uint16]string{0: "n7"}), dcp.ErrUnknownNode)
	assert.Positive(t, figure(t, registry, "shearpin_replication_connect_failures_total", "producer=n7", "role=producer", "step=unknown_node"))
	assert.Zero(t, figure(t, registry, "shearpin_replication_connect_failures_total", "role=consumer"))
	assert.Zero(t, figure(t, registry, "shearpin_replication_link_up", "producer=n7"))
	assert.Equal(t, 1, figure(t, registry, "shearpin_replication_connections", "state=connecting"))
}

// A manager that ends, under its own supervisor or another one, leaves nothing on the registerer, and to the others what is
// theirs.
func TestMetricsEndWithTheirManager(t *testing.T) {
	registry := prometheus.NewPedanticRegistry()
	p := newPair(t, healthy, dcp.Limits{})
	opts := func(node string) dcp.Options {
		return dcp.Options{
			System: p.system, Bucket: bucket, Consumer: node, Metrics: registry,
			Endpoints: func(node string) (kv.Endpoint, bool) { return p.endpoint(node), true },
		}
	}
	shown := func() (nodes []string) {
		for _, node := range []string{producer, consumer} {
			if hasSeries(t, registry, "consumer="+node) {
				nodes = append(nodes, node)
			}
		}
		return nodes
	}
	one, err := dcp.Start(p.ctx, opts(producer))
	require.NoError(t, err)
	child, err := dcp.Child("replications", opts(consumer), func(*dcp.Manager) {})
	require.NoError(t, err)
	two, err := p.system.Start(p.ctx, supervisor.New(supervisor.Spec{Name: "top", Children: []supervisor.ChildSpec{child}}))
	require.NoError(t, err)
	assert.Equal(t, []string{producer, consumer}, shown())

	managers := func() (pids []*actors.PID) {
		for _, pid := range p.system.Processes() {
			if pid.Kind() == "replication manager" {
				pids = append(pids, pid)
			}
		}
		return pids
	}
	killed := managers()
	for _, pid := range killed {
		pid.Kill()
	}
	p.eventually("killed managers are restarted", func() bool { return len(managers()) == len(killed) && len(shown()) == 2 })

	require.NoError(t, one.Stop(p.ctx))
	assert.Equal(t, []string{consumer}, shown())
	require.NoError(t, two.Stop(p.ctx, actors.Shutdown))
	p.eventually("nothing is left", func() bool {
		families, err := registry.Gather()
		return err == nil && len(families) == 0
	})
}

// hasSeries reports whether any series has the labels.
func hasSeries(t *testing.T, from prometheus.Gatherer, labels ...string) bool {
	t.Helper()
	families, err := from.Gather()
	require.NoError(t, err)
	for _, f := range families {
		for _, s := range f.GetMetric() {
			if hasLabels(s.GetLabel(), labels) {
				return true
			}
		}
	}
	return false
}
