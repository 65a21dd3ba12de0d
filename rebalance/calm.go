package rebalance

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/shearpin/shearpin/dcp/mcbp"
	"github.com/shearpin/shearpin/rebalance/store"
)

// A node that was given up may live, or come back, and still take itself for the active of what others are the active of by
// now. No map names it, but clients with an old one would be served by it. So it is told that its copies are dead, once
// before another becomes active, and then whenever it answers. That is all that is done to it: its data stays.

// calmLimit is how long a node that was given up has to answer. Nothing depends on it.
const calmLimit = 2 * time.Second

// calm makes the active copies of a node dead, of the vbuckets that are not its own any more.
func (e *environment) calm(ctx context.Context, bucket, node string, lost func(vb uint16) bool) error {
	_, err := within(ctx, calmLimit, func(ctx context.Context) (struct{}, error) {
		connection, err := e.connect(node, bucket)
		if err != nil {
			return struct{}{}, err
		}
		defer func() { _ = connection.Close() }()
		copies, err := connection.VBuckets(ctx)
		if err != nil {
			return struct{}{}, err
		}
		var stale []uint16
		for _, vb := range sortedKeys(copies) {
			if copies[vb].State == mcbp.VBucketActive && lost(vb) {
				stale = append(stale, vb)
			}
		}
		return struct{}{}, inParallel(ctx, stale, func(vb uint16) (uint16, error) {
			return vb, connection.SetVBucket(ctx, vb, mcbp.VBucketDead, nil)
		})
	})
	return err
}

// calmBefore calms a member that was failed over before it is added back: from then on nobody does.
func (e *environment) calmBefore(ctx context.Context, name string, docs []store.BucketDoc) error {
	if !slices.Contains(namesOf(e.nodes.failedOver()), name) {
		return nil
	}
	for _, doc := range docs {
		err := e.calm(ctx, doc.Name, name, func(vb uint16) bool { return int(vb) >= len(doc.Map) || !doc.Map[vb].Contains(name) })
		if err != nil && !errors.Is(err, mcbp.StatusKeyNotFound) {
			return &NodeError{Node: name, Err: fmt.Errorf("its copies may be active yet: %w", err)}
		}
	}
	return nil
}

// calmFailedOver calms the members that were failed over, in all buckets. It is a part of each run of the janitor.
func (e *environment) calmFailedOver(ctx context.Context) {
	nodes := namesOf(e.nodes.failedOver())
	if len(nodes) == 0 {
		return
	}
	docs, err := e.buckets.List(ctx)
	if err != nil {
		return
	}
	for _, doc := range docs {
		_, err := onNodes(nodes, "calming", func(node string) (struct{}, error) {
			return struct{}{}, e.calm(ctx, doc.Name, node, func(vb uint16) bool {
				return int(vb) >= len(doc.Map) || !doc.Map[vb].Contains(node)
			})
		})
		if err != nil && !errors.Is(err, mcbp.StatusKeyNotFound) {
			e.log("janitor", "bucket", doc.Name).Debug("failed_over_node_not_calmed", "err", err)
		}
	}
}
