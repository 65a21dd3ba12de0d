package arch

import (
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/shearpin/shearpin/dcp/kv"
	"github.com/shearpin/shearpin/dcp/kvnode"
	"github.com/shearpin/shearpin/rebalance"
)

// grow adds a node to a cluster and moves its share of the vbuckets to it.
func grow(ctx context.Context, out io.Writer, nodes []rebalance.Node, added rebalance.Node, admin kv.Credentials) error {
	cluster, err := rebalance.Open(ctx, rebalance.Config{Nodes: nodes, Credentials: admin})
	if err != nil {
		return err
	}
	defer cluster.Close(context.WithoutCancel(ctx)) // replication runs as long as the cluster is open

	if err := cluster.CreateBucket(ctx, rebalance.BucketConfig{Name: "orders", VBuckets: 128, Replicas: 1}); err != nil {
		return err
	}
	if err := cluster.AddNode(ctx, added); err != nil {
		return err
	}
	run, err := cluster.Rebalance(ctx, rebalance.Request{})
	if err != nil {
		return err
	}
	for p := range run.Progress() {
		fmt.Fprintf(out, "%d of %d moves\n", p.MovesDone, p.MovesPlanned)
	}
	report, err := run.Wait(ctx)
	if err != nil {
		return err
	}
	fmt.Fprintf(out, "%s: %s\n", report.Outcome, strings.Join(report.Cause, "\n  because "))
	return report.Err
}

// The example of the README is the code above, and it works.
func TestReadmeExample(t *testing.T) {
	defer goleak.VerifyNone(t)
	readme, err := os.ReadFile(filepath.Join(root, "README.md"))
	require.NoError(t, err)
	source, err := os.ReadFile("readme_test.go")
	require.NoError(t, err)
	_, rest, found := strings.Cut(string(readme), "\n```go\n")
	require.True(t, found, "README.md has no example")
	example, _, _ := strings.Cut(rest, "```")
	assert.Contains(t, string(source), example)

	admin := kv.Credentials{User: "manager", Password: "secret"}
	var nodes []rebalance.Node
	for i := range 3 {
		name := fmt.Sprintf("n%d", i)
		node, err := kvnode.Start(kvnode.Options{Name: name, User: admin.User, Password: admin.Password})
		require.NoError(t, err)
		defer node.Close()
		nodes = append(nodes, rebalance.Node{Name: name, Addr: node.Addr()})
	}
	var out strings.Builder
	require.NoError(t, grow(t.Context(), &out, nodes[:2], nodes[2], admin))
	assert.Contains(t, out.String(), "complete: ")
}
