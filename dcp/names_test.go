package dcp

import (
	"fmt"
	"testing"

	"github.com/stretchr/testify/assert"
)

// The vectors of rebalance.md §2.2.
func TestConnectionNameVectors(t *testing.T) {
	x := func(i int) string {
		return fmt.Sprintf("n@kv-00%d.region-a.db.example-cloud-provider.internal.cluster-of-seven-nodes.example.org", i)
	}
	const y = "orders-history-archive-with-a-quite-long-name-2024-2025-2026-and-more"
	const long = "replication:2.region-a.db.example-cloud-provide->1.region-a.db.example-cloud-provide:" +
		"orders-history-archive-with-a-quite-long-name-2024-2025-2026:"
	for _, v := range []struct {
		consumer, producer, bucket string
		conn                       int
		name                       string
	}{
		{"node-a.example", "node-b.example", "orders", 0, "replication:node-b.example->node-a.example:orders"},
		{"node-a.example", "node-b.example", "orders", 3, "replication:node-b.example->node-a.example:orders/3"},
		{x(1), x(2), "orders", 0, "replication:" + x(2) + "->" + x(1) + ":orders"},
		{x(1), x(2), y, 0, long + "YqGPIcfjMy3aedzqPfEUiGLr3uA="},
		{x(1), x(2), y, 5, long + "ge4MDhWMUvOUjOBgFiOzN2bPXbU="},
	} {
		assert.Equal(t, v.name, ConnectionName(v.producer, v.consumer, v.bucket, v.conn))
		assert.LessOrEqual(t, len(v.name), 200)
	}
}
