package rebalance

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/shearpin/shearpin/dcp/mcbp"
	"github.com/shearpin/shearpin/rebalance/store"
)

// BucketTakenError refuses to take a bucket of a node that another manager has published a map of: two managers, each with a
// store of its own, would undo each other's work. It is also what a manager meets that has lost its store.
type BucketTakenError struct {
	Bucket, Node string
	// UUID is what the bucket is to the other manager.
	UUID string
}

func (e *BucketTakenError) Error() string {
	return fmt.Sprintf("bucket %q is on node %s already and belongs to another manager, or to another store (uuid %s)", e.Bucket, e.Node, e.UUID)
}

// checkOwner refuses a bucket that is on a node already if somebody has published a map of it under another UUID than ours. What
// an attempt of our own has left has no map.
func (e *environment) checkOwner(ctx context.Context, kv nodeKV, node, bucket string) error {
	published, err := kv.ClusterConfig(ctx)
	var status mcbp.Status
	switch {
	case errors.As(err, &status):
		return nil // there is none
	case err != nil:
		return err
	}
	var config struct {
		Name string `json:"name"`
		UUID string `json:"uuid"`
	}
	if err := json.Unmarshal(published, &config); err != nil || config.Name != bucket || config.UUID == "" {
		return nil //nolint:nilerr // it is no map of this bucket, whatever it is
	}
	doc, err := e.buckets.Get(ctx, bucket)
	if err != nil && !errors.Is(err, store.ErrNotFound) {
		return err
	}
	if config.UUID != doc.UUID {
		return &BucketTakenError{Bucket: bucket, Node: node, UUID: config.UUID}
	}
	return nil
}
