package vbmap

import (
	"errors"
	"fmt"
	"math/rand/v2"
)

// Node is a place for copies.
type Node struct {
	// Name is the node's identity, as in chains and topologies. Not empty.
	Name string
	// Group is the server group (rack, zone) that fails together. Groups count as soon as the nodes have more than one.
	Group string
	// Weight is the node's share of the copies relative to the others; 0 means 1.
	Weight int
}

// Params is what [Generate] builds a map for.
type Params struct {
	// VBuckets is the number of chains, 1 to [MaxVBuckets].
	VBuckets int
	// Replicas is how many copies there shall be besides the active, 0 to [MaxReplicas]. Where nodes are too few, the
	// rest is undefined.
	Replicas int
	// MaxSlaves is how many nodes at most may hold replicas of one node's actives; 0 means [DefaultMaxSlaves],
	// [NoLimit] any number. It must not be smaller than Replicas.
	MaxSlaves int
	// Nodes is who shall hold data: at least one, each name once. Their order means nothing.
	Nodes []Node
	// Current is the map in force, from which the generated one shall differ as little as possible; nil if there is
	// none. Its chains may have any length and any members.
	Current Map
	// Past is maps that the bucket had before, the newest first. One that is as good as a new one for these parameters, with
	// other nodes in the place of those that are gone, is taken unless a new one takes fewer copies to get to. A node that
	// a past map knows and the current one does not is taken to have kept what it had: such copies cost half of those that
	// are built from nothing. Maps that do not fit are passed over.
	Past []Past
	// Sizes is how much data each vbucket has, in bytes or anything else that is in proportion; nil stands for as much in all.
	// With it, nodes do not hold much more or less than their share as far as that costs no copy, no handover and no balance
	// of counts.
	Sizes []int64
	// Seed decides between equally good maps. Equal parameters give equal maps.
	Seed uint64
}

const (
	// MaxVBuckets is what the wire can number.
	MaxVBuckets = 1 << 16
	// MaxReplicas is what KV nodes accept.
	MaxReplicas = 3
	// DefaultMaxSlaves is how many nodes replicate one node unless the parameters say otherwise (rebalance.md §7.1).
	DefaultMaxSlaves = 10
	// NoLimit as MaxSlaves lets every node replicate every other.
	NoLimit = -1
)

// ErrParams says that no map can be generated for the parameters. The error that wraps it says why.
var ErrParams = errors.New("vbmap: unusable parameters")

// Generate builds a map for p in which
//
//   - active counts of nodes of equal weight differ by at most 1, and so do replica counts unless groups or MaxSlaves
//     stand in the way; then they are as even as these allow;
//   - no node is twice in a chain, members are undefined only at the end and only if there are fewer nodes than copies;
//   - replicas are in other groups than the active, and than each other, as long as there are groups;
//   - every node is replicated by at most MaxSlaves others;
//   - within these, few copies have to be built to get there from the current map, and few actives handed over
//     ([Cost]). If the current map has all of this, it is returned unchanged.
//
// The error wraps [ErrParams].
func Generate(p Params) (Map, error) {
	if err := p.check(); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrParams, err)
	}
	var best *plan
	for _, leave := range []func(*plan) bool{(*plan).keep, (*plan).swap} {
		candidate := newPlan(p, rand.New(rand.NewPCG(p.Seed, 0)))
		if !leave(candidate) {
			continue
		}
		if candidate.perfect() {
			return candidate.chains(), nil
		}
		if best == nil || candidate.betterThan(best) {
			best = candidate
		}
	}
	for _, past := range p.Past {
		candidate := newPlan(p, rand.New(rand.NewPCG(p.Seed, 0)))
		if candidate.reuse(past) && (best == nil || candidate.betterThan(best)) {
			best = candidate
		}
	}
	for attempt := range p.attempts() {
		for _, way := range p.ways() {
			candidate := newPlan(p, rand.New(rand.NewPCG(p.Seed, uint64(attempt))))
			if way(candidate) && (best == nil || candidate.betterThan(best)) {
				best = candidate
			}
		}
	}
	return best.chains(), nil
}

// ways is how a plan can be made for p; the first always succeeds. See placeTogether for why there is another.
func (p Params) ways() []func(*plan) bool {
	ways := []func(*plan) bool{(*plan).placeInTurn}
	if p.Current != nil && p.free() && p.VBuckets*len(p.Nodes) <= mostForAllWays {
		ways = append(ways, (*plan).placeTogether)
	}
	return ways
}

// mostForAllWays is vbuckets × nodes up to which all ways are tried.
const mostForAllWays = 1 << 15

// free reports whether every node may have any copy: no limit of slaves, one group, equal weights.
func (p Params) free() bool {
	first := p.Nodes[0]
	for _, node := range p.Nodes {
		if node.Group != first.Group || max(1, node.Weight) != max(1, first.Weight) {
			return false
		}
	}
	return p.slaves() == len(p.Nodes)-1
}

func (p Params) check() error {
	switch {
	case p.VBuckets < 1 || p.VBuckets > MaxVBuckets:
		return fmt.Errorf("%d vbuckets, not 1 to %d", p.VBuckets, MaxVBuckets)
	case p.Replicas < 0 || p.Replicas > MaxReplicas:
		return fmt.Errorf("%d replicas, not 0 to %d", p.Replicas, MaxReplicas)
	case p.MaxSlaves < NoLimit || p.MaxSlaves > 0 && p.MaxSlaves < p.Replicas:
		return fmt.Errorf("%d slaves at most for %d replicas", p.MaxSlaves, p.Replicas)
	case len(p.Nodes) == 0:
		return errors.New("no nodes")
	case p.Current != nil && len(p.Current) != p.VBuckets:
		return fmt.Errorf("the current map has %d vbuckets, not %d", len(p.Current), p.VBuckets)
	case p.Sizes != nil && len(p.Sizes) != p.VBuckets:
		return fmt.Errorf("sizes of %d vbuckets, not %d", len(p.Sizes), p.VBuckets)
	}
	for vb, size := range p.Sizes {
		if size < 0 || size > maxSize {
			return fmt.Errorf("vb %d has size %d, not 0 to %d", vb, size, maxSize)
		}
	}
	seen := make(map[string]bool, len(p.Nodes))
	for _, node := range p.Nodes {
		switch {
		case node.Name == Undefined:
			return errors.New("a node has no name")
		case seen[node.Name]:
			return fmt.Errorf("node %q is there twice", node.Name)
		case node.Weight < 0 || node.Weight > MaxWeight:
			return fmt.Errorf("node %q has weight %d, not 0 to %d", node.Name, node.Weight, MaxWeight)
		}
		seen[node.Name] = true
	}
	return nil
}

// MaxWeight bounds the weight of a node, and keeps products of weights and vbuckets far from overflowing.
const MaxWeight = 1 << 20

// slaves is the limit in numbers: at most all other nodes.
func (p Params) slaves() int {
	others := len(p.Nodes) - 1
	switch {
	case p.MaxSlaves == NoLimit:
		return others
	case p.MaxSlaves == 0:
		return min(DefaultMaxSlaves, others)
	default:
		return min(p.MaxSlaves, others)
	}
}

// attempts is how often a map is generated, with other dice, to take the best: small ones cost nothing.
func (p Params) attempts() int {
	const most, budget = 8, 1 << 14
	return max(1, min(most, budget/(p.VBuckets*len(p.Nodes))))
}
