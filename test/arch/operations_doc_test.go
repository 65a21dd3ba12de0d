package arch

import (
	"context"
	"log/slog"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/shearpin/shearpin/actors"
	"github.com/shearpin/shearpin/dcp"
	"github.com/shearpin/shearpin/dcp/kv"
	"github.com/shearpin/shearpin/rebalance"
	"github.com/shearpin/shearpin/supervisor"
	"github.com/shearpin/shearpin/supervisor/metrics"
)

// described notes what is registered: name and labels.
type described struct {
	prometheus.Registerer
	names map[string]string
}

var descWords = regexp.MustCompile(`fqName: "([^"]*)".*variableLabels: \{([^}]*)\}`)

func (d described) Register(c prometheus.Collector) error {
	descs := make(chan *prometheus.Desc)
	go func() {
		defer close(descs)
		c.Describe(descs)
	}()
	for desc := range descs {
		words := descWords.FindStringSubmatch(desc.String())
		d.names[words[1]] = words[2]
	}
	return d.Registerer.Register(c)
}

// The table of the metrics in docs/operations.md is what is registered.
func TestOperationsListsTheMetrics(t *testing.T) {
	page, err := os.ReadFile(filepath.Join(root, "docs", "operations.md"))
	require.NoError(t, err)
	documented := map[string]string{}
	for line := range strings.Lines(string(page)) {
		cells := strings.Split(line, "|")
		if name := strings.Trim(strings.TrimSpace(cells[min(1, len(cells)-1)]), "`"); strings.HasPrefix(name, "shearpin_") {
			documented[name] = strings.ReplaceAll(strings.TrimSpace(cells[3]), " ", "")
		}
	}

	registered := described{Registerer: prometheus.NewRegistry(), names: map[string]string{}}
	sys := actors.NewSystem(actors.Options{Logger: slog.New(slog.DiscardHandler)})
	defer func() { assert.NoError(t, sys.Close(context.Background())) }()
	processes, err := metrics.New(t.Context(), sys, actors.NewBus[supervisor.Event]())
	require.NoError(t, err)
	require.NoError(t, registered.Register(processes))
	manager, err := dcp.Start(t.Context(), dcp.Options{
		System: sys, Bucket: "orders", Consumer: "n1", Metrics: registered,
		Endpoints: func(string) (kv.Endpoint, bool) { return kv.Endpoint{}, false },
	})
	require.NoError(t, err)
	require.NoError(t, manager.Stop(t.Context()))

	of := described{Registerer: prometheus.NewRegistry(), names: registered.names}
	cluster, err := rebalance.Open(t.Context(), rebalance.Config{
		Nodes: []rebalance.Node{{Name: "n1", Addr: "127.0.0.1:1"}}, Metrics: of,
	})
	require.NoError(t, err)
	require.NoError(t, cluster.Close(t.Context()))
	assert.Equal(t, registered.names, documented)
}
