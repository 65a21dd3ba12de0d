package serve

import (
	"github.com/prometheus/client_golang/prometheus"

	"github.com/shearpin/shearpin/rebalance"
)

// Cluster is what is managed.
func (m *Manager) Cluster() *rebalance.Cluster { return m.cluster }

// MaxRequests bounds the requests that are being served.
const MaxRequests = maxRequests

// Routes are the patterns of all paths.
func Routes() (patterns []string) {
	for _, route := range (&Manager{registry: prometheus.NewRegistry()}).routes() {
		patterns = append(patterns, route.pattern)
	}
	return patterns
}
