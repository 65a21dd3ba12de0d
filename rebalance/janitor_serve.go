package rebalance

import (
	"context"
	"errors"
	"maps"
	"slices"

	"github.com/shearpin/shearpin/dcp/kv"
	"github.com/shearpin/shearpin/dcp/mcbp"
)

// An engine that was started again has its documents, but lets no clients in before it is told to; one that came back with an
// empty disk does not even have the bucket.

// createAgain creates the bucket on the servers that answer and say that they do not have it. Their copies are missing then, which
// is what the janitor decides about.
func (r *janitorRun) createAgain(ctx context.Context) {
	_, err := r.env.queryAgents(ctx, r.doc.Name, r.doc.Servers)
	var failed *NodesError
	if !errors.As(err, &failed) {
		return
	}
	var bare []string
	for _, f := range failed.Failed {
		if withoutBucket(f) {
			bare = append(bare, f.Node)
		}
	}
	if len(bare) == 0 {
		return
	}
	config, err := r.env.bucketConfig(ctx, r.doc.Name)
	if err == nil {
		r.env.log("janitor", "bucket", r.doc.Name).Warn("bucket_created_again", "nodes", bare)
		_, err = onNodes(bare, "creating the bucket again", func(node string) (struct{}, error) {
			return struct{}{}, r.env.createBucketOn(ctx, node, config)
		})
	}
	if err != nil {
		r.failed(err)
	}
}

// withoutBucket reports whether a node was reached and does not know the bucket.
func withoutBucket(err error) bool {
	var refused *kv.ConnectError
	return errors.As(err, &refused) && refused.Step == kv.StepSelectBucket && errors.Is(refused, mcbp.StatusKeyNotFound)
}

// admit lets clients in on the servers on which the states are now as they shall be.
func (r *janitorRun) admit(ctx context.Context, broken map[string]bool) {
	var shut []string
	for _, node := range slices.Sorted(maps.Keys(r.answers)) {
		if !r.answers[node].Admits && !broken[node] {
			shut = append(shut, node)
		}
	}
	_, err := onNodes(shut, "letting clients in", func(node string) (any, error) {
		return r.env.ask(ctx, r.env.config.Limits.Query, r.doc.Name, node, admitClients{r.stamp})
	})
	if err != nil {
		r.failed(err)
	}
}
