package rebalance

import (
	"context"
	"slices"
	"strings"
	"time"

	"github.com/shearpin/shearpin/rebalance/store"
	"github.com/shearpin/shearpin/rebalance/vbmap"
)

// Plan says what [Cluster.Rebalance] would do with the same request, and does nothing: no epoch is taken, no janitor runs,
// nothing is written. Nodes are asked for the number of their documents only; one that does not tell leaves the
// estimates open. A bucket that needs repair is planned as its map is now: if the repair changes the map, the plan does
// not fit any more. Plan fails with [ErrRebalanceRunning], or another of the errors of a busy cluster, while something else
// goes on, and with a *[NoActive] for a vbucket that cannot be moved.
func (c *Cluster) Plan(ctx context.Context, request Request) (*Plan, error) {
	if err := request.validate(); err != nil {
		return nil, err
	}
	if request.Plan != nil {
		return request.Plan, c.closedError(c.env.checkPlan(ctx, request.Plan))
	}
	if err := c.env.idle(ctx); err != nil {
		return nil, c.closedError(err)
	}
	return c.env.makePlan(ctx, request)
}

func (e *environment) makePlan(ctx context.Context, request Request) (*Plan, error) {
	names, err := e.chooseBuckets(ctx, request.Buckets)
	if err != nil {
		return nil, err
	}
	kept, err := e.nodes.keepers(request.Keep)
	if err != nil {
		return nil, err
	}
	plan := &Plan{Version: planVersion, Made: time.Now().UTC().Round(0)}
	for _, node := range kept {
		plan.Nodes = append(plan.Nodes, PlannedNode{Name: node.Name, Group: node.Group, Weight: node.Weight})
	}
	slices.SortFunc(plan.Nodes, func(a, b PlannedNode) int { return strings.Compare(a.Name, b.Name) })
	for _, name := range names {
		doc, err := e.buckets.Get(ctx, name)
		if err != nil {
			return nil, err
		}
		items := e.countItems(ctx, doc)
		target, err := e.target(ctx, doc, kept, items)
		if err != nil {
			return nil, err
		}
		bucket, err := planBucket(doc, target, items)
		if err != nil {
			return nil, err
		}
		plan.Buckets = append(plan.Buckets, bucket)
	}
	return plan, nil
}

// target is the map that a bucket shall have on the nodes. If the number of documents is known for all vbuckets, nodes
// get about as many.
func (e *environment) target(ctx context.Context, doc store.BucketDoc, kept []Node, items map[uint16]uint64) (vbmap.Map, error) {
	return vbmap.Generate(vbmap.Params{
		VBuckets: doc.VBuckets, Replicas: doc.Replicas, Nodes: places(kept), Seed: e.config.Seed,
		Current: doc.Map, Past: e.pastMaps(ctx, doc), Sizes: sizesOf(doc, items),
	})
}

// countItems is the number of documents in each active, for those whose node tells.
func (e *environment) countItems(ctx context.Context, doc store.BucketDoc) map[uint16]uint64 {
	// A node that does not answer leaves the estimates open, no more.
	answers, _ := e.queryAgents(ctx, doc.Name, doc.Servers)
	items := map[uint16]uint64{}
	for vb, chain := range doc.Map {
		if copied, ok := answers[chain.Active()].Copies[uint16(vb)]; ok {
			items[uint16(vb)] = copied.Items
		}
	}
	return items
}

// planBucket says what leads from a bucket's map to the target.
func planBucket(doc store.BucketDoc, target vbmap.Map, items map[uint16]uint64) (BucketPlan, error) {
	plan := BucketPlan{
		Name: doc.Name, UUID: doc.UUID, Digest: digestOf(doc), Servers: slices.Clone(doc.Servers), Target: target.Clone(),
		ByNode: countCopies(doc, target),
	}
	total, known := uint64(0), true
	for _, change := range vbmap.Diff(doc.Map, target) {
		move, err := planMove(uint16(change.VB), change.Old, change.New)
		if err != nil {
			return plan, err
		}
		planned := PlannedMove{VB: move.VB, Kind: move.kind(), Old: change.Old.Clone(), New: change.New.Clone()}
		built := uint64(len(without(move.Build, change.Old...)))
		if count, ok := items[move.VB]; ok {
			planned.Items = &count
			total += built * count
		} else if built > 0 {
			known = false
		}
		plan.Moves = append(plan.Moves, planned)
	}
	if known {
		plan.Items = &total
	}
	return plan, nil
}

func (p movePlan) kind() MoveKind {
	switch {
	case p.fromNothing():
		return MoveCreate
	case p.movesActive():
		return MoveActive
	}
	return MoveReplicas
}

// countCopies says what comes to each node.
func countCopies(doc store.BucketDoc, target vbmap.Map) map[string]NodePlan {
	counts := map[string]NodePlan{}
	count := func(node string, add func(*NodePlan)) {
		if node != vbmap.Undefined {
			c := counts[node]
			add(&c)
			counts[node] = c
		}
	}
	for _, node := range doc.Servers {
		count(node, func(*NodePlan) {})
	}
	for vb, chain := range doc.Map {
		count(chain.Active(), func(c *NodePlan) { c.ActivesBefore++ })
		for _, node := range chain.Replicas() {
			count(node, func(c *NodePlan) { c.ReplicasBefore++ })
		}
		for _, node := range without(chain, target[vb]...) {
			count(node, func(c *NodePlan) { c.Dropped++ })
		}
	}
	for vb, chain := range target {
		count(chain.Active(), func(c *NodePlan) { c.ActivesAfter++ })
		for _, node := range chain.Replicas() {
			count(node, func(c *NodePlan) { c.ReplicasAfter++ })
		}
		for _, node := range without(chain, doc.Map[vb]...) {
			count(node, func(c *NodePlan) { c.Built++ })
		}
	}
	return counts
}
