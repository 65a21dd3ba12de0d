package rebalance_test

import (
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/shearpin/shearpin/rebalance"
)

// A cluster shows the metrics of its replications and processes as long as it is open.
func TestMetricsOfACluster(t *testing.T) {
	registry := prometheus.NewPedanticRegistry()
	w := newWorld(t, 3, 3, orders, noFault, func(c *rebalance.Config) { c.Metrics = registry })
	live := func() (streams float64) {
		families, err := registry.Gather()
		require.NoError(t, err)
		for _, f := range families {
			for _, s := range f.GetMetric() {
				if f.GetName() == "shearpin_replication_streams" {
					streams += s.GetGauge().GetValue()
				}
			}
		}
		return streams
	}
	require.Eventually(t, func() bool { return live() == 16 }, 20*time.Second, time.Millisecond, "one replica of each vbucket")
	for name, series := range map[string]int{
		"shearpin_replication_link_up":           6,
		"shearpin_stream_setup_duration_seconds": 3,
		"shearpin_actor_lingering":               1,
	} {
		n, err := testutil.GatherAndCount(registry, name)
		require.NoError(t, err)
		assert.Equal(t, series, n, name)
	}

	_, err := rebalance.Open(t.Context(), rebalance.Config{Nodes: []rebalance.Node{w.node("n0")}, Metrics: registry})
	var there prometheus.AlreadyRegisteredError
	require.ErrorAs(t, err, &there)
	assert.ErrorContains(t, err, "Config.Metrics")

	require.NoError(t, w.cluster.Close(t.Context()))
	require.Eventually(t, func() bool {
		families, err := registry.Gather()
		return err == nil && len(families) == 0
	}, 20*time.Second, time.Millisecond, "nothing is left")
}
