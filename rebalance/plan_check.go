package rebalance

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/shearpin/shearpin/rebalance/store"
	"github.com/shearpin/shearpin/rebalance/vbmap"
)

// validate refuses a request that contradicts itself.
func (r Request) validate() error {
	switch {
	case r.Plan == nil:
		return nil
	case len(r.Keep) > 0:
		return errors.New("rebalance: Request.Keep and Request.Plan exclude each other: the plan says which nodes are kept")
	case len(r.Buckets) > 0:
		return errors.New("rebalance: Request.Buckets and Request.Plan exclude each other: the plan says which buckets are moved")
	case r.Plan.Version != planVersion:
		return fmt.Errorf("rebalance: Request.Plan.Version is %d, must be %d", r.Plan.Version, planVersion)
	}
	return nil
}

// checkPlan says what does not let a plan be executed now, with a *[PlanChangedError] if it is that something has changed.
func (e *environment) checkPlan(ctx context.Context, plan *Plan) error {
	if _, err := e.plannedNodes(plan); err != nil {
		return err
	}
	for i := range plan.Buckets {
		bucket := &plan.Buckets[i]
		if slices.ContainsFunc(plan.Buckets[:i], func(other BucketPlan) bool { return other.Name == bucket.Name }) {
			return fmt.Errorf("rebalance: Request.Plan has bucket %q twice", bucket.Name)
		}
		doc, err := e.buckets.Get(ctx, bucket.Name)
		switch {
		case errors.Is(err, store.ErrNotFound):
			return &PlanChangedError{Bucket: bucket.Name, What: "the bucket does not exist"}
		case err != nil:
			return err
		}
		if err := bucket.fits(doc); err != nil {
			return err
		}
		if err := bucket.startsFrom(doc, plan.names()); err != nil {
			return err
		}
	}
	return nil
}

// plannedNodes are the nodes of a plan as they are known now.
func (e *environment) plannedNodes(plan *Plan) ([]Node, error) {
	if len(plan.Nodes) == 0 {
		return nil, errors.New("rebalance: Request.Plan has no nodes")
	}
	nodes := make([]Node, len(plan.Nodes))
	for i, planned := range plan.Nodes {
		member, known := e.nodes.member(planned.Name)
		node := member.Node
		switch {
		case !known:
			return nil, &PlanChangedError{What: fmt.Sprintf("node %q is not known", planned.Name)}
		case member.Membership != Active:
			return nil, &PlanChangedError{What: fmt.Sprintf("node %q is %s", node.Name, member.Membership)}
		case node.Group != planned.Group:
			return nil, &PlanChangedError{What: fmt.Sprintf("node %q is in group %q, was in %q", node.Name, node.Group, planned.Group)}
		}
		if node.Weight != planned.Weight {
			return nil, &PlanChangedError{What: fmt.Sprintf("node %q has weight %d, had %d", node.Name, node.Weight, planned.Weight)}
		}
		nodes[i] = node
	}
	return nodes, nil
}

// fits says whether the bucket is held by the servers that the plan was made for.
func (p *BucketPlan) fits(doc store.BucketDoc) error {
	before, now := slices.Sorted(slices.Values(p.Servers)), slices.Sorted(slices.Values(doc.Servers))
	if !slices.Equal(before, now) {
		return &PlanChangedError{Bucket: p.Name, What: fmt.Sprintf("its servers are %s, were %s", strings.Join(now, ", "), strings.Join(before, ", "))}
	}
	return nil
}

// startsFrom says whether the bucket is still what the plan was made for, and the plan one that leads from its map to a
// map on these nodes.
func (p *BucketPlan) startsFrom(doc store.BucketDoc, nodes []string) error {
	changed := func(format string, args ...any) error {
		return &PlanChangedError{Bucket: p.Name, What: fmt.Sprintf(format, args...)}
	}
	switch {
	case doc.UUID != p.UUID:
		return changed("it has UUID %s, had %s", doc.UUID, p.UUID)
	case len(p.Target) != doc.VBuckets:
		return changed("it has %d vbuckets, the plan %d", doc.VBuckets, len(p.Target))
	}
	moves := vbmap.Diff(doc.Map, p.Target)
	if digestOf(doc) != p.Digest {
		return changed("%s", p.whatChanged(doc, moves))
	}
	if err := vbmap.Validate(p.Target, vbmap.Rules{Copies: doc.Replicas + 1, Nodes: nodes}); err != nil {
		return fmt.Errorf("rebalance: Request.Plan: target of %q: %w", p.Name, err)
	}
	if !slices.EqualFunc(moves, p.Moves, func(c vbmap.Change, m PlannedMove) bool {
		return c.VB == int(m.VB) && c.Old.Equal(m.Old) && c.New.Equal(m.New)
	}) {
		return fmt.Errorf("rebalance: Request.Plan: the moves of %q are not those that lead to its target", p.Name)
	}
	return nil
}

// whatChanged finds a chain that shows that the map is another one than the plan starts from.
func (p *BucketPlan) whatChanged(doc store.BucketDoc, moves []vbmap.Change) string {
	planned := map[int]PlannedMove{}
	for _, move := range p.Moves {
		planned[int(move.VB)] = move
		if int(move.VB) >= len(doc.Map) {
			return fmt.Sprintf("it has no vb %d", move.VB)
		}
		if now := doc.Map[move.VB]; !now.Equal(move.Old) {
			return fmt.Sprintf("vb %d has chain %v, had %v", move.VB, now, move.Old)
		}
	}
	for _, move := range moves {
		if _, known := planned[move.VB]; !known {
			return fmt.Sprintf("vb %d has chain %v, had %v", move.VB, move.Old, move.New)
		}
	}
	return "its number of replicas is another"
}
