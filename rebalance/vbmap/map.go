package vbmap

import (
	"slices"
)

// Map is one chain per vbucket, indexed by vbucket number.
type Map []Chain

// Clone is a copy that shares nothing with m. The clone of a nil map is nil.
func (m Map) Clone() Map {
	if m == nil {
		return nil
	}
	clone := make(Map, len(m))
	for vb, chain := range m {
		clone[vb] = chain.Clone()
	}
	return clone
}

// Equal reports whether both maps have the same chains.
func (m Map) Equal(other Map) bool { return slices.EqualFunc(m, other, Chain.Equal) }

// Nodes is every node that has a copy of some vbucket, sorted.
func (m Map) Nodes() []string {
	seen := map[string]bool{}
	for _, chain := range m {
		for _, node := range chain {
			seen[node] = true
		}
	}
	delete(seen, Undefined)
	nodes := make([]string, 0, len(seen))
	for node := range seen {
		nodes = append(nodes, node)
	}
	slices.Sort(nodes)
	return nodes
}

// Aligned is the map with every chain cut or padded to copies members.
func (m Map) Aligned(copies int) Map {
	aligned := make(Map, len(m))
	for vb, chain := range m {
		aligned[vb] = chain.Aligned(copies)
	}
	return aligned
}

// Change is one vbucket whose chain differs between two maps.
type Change struct {
	VB       int
	Old, New Chain
}

// Diff lists the vbuckets whose chains differ, by number. A vbucket that only one map has counts as an empty chain in
// the other. The chains are those of the maps, not copies.
func Diff(old, updated Map) []Change {
	var changes []Change
	for vb := range max(len(old), len(updated)) {
		var before, after Chain
		if vb < len(old) {
			before = old[vb]
		}
		if vb < len(updated) {
			after = updated[vb]
		}
		if !before.Equal(after) {
			changes = append(changes, Change{VB: vb, Old: before, New: after})
		}
	}
	return changes
}

// Cost is what it takes to get from one map to another, the measure that generation keeps small (rebalance.md §7.2):
// first the copies that must be built, then the actives that must be handed over.
type Cost struct {
	// NewCopies counts the members of new chains that are not members of the old ones.
	NewCopies int
	// ActiveChanges counts the vbuckets whose position 0 differs.
	ActiveChanges int
}

// Less orders costs: fewer new copies first, then fewer active changes.
func (c Cost) Less(other Cost) bool {
	if c.NewCopies != other.NewCopies {
		return c.NewCopies < other.NewCopies
	}
	return c.ActiveChanges < other.ActiveChanges
}

// Moving is the cost of getting from old to updated, which must have the same number of vbuckets. A nil old is a bucket
// without copies.
func Moving(old, updated Map) Cost {
	var cost Cost
	for _, change := range Diff(old, updated) {
		for _, node := range change.New {
			if node != Undefined && !change.Old.Contains(node) {
				cost.NewCopies++
			}
		}
		if change.New.Active() != change.Old.Active() {
			cost.ActiveChanges++
		}
	}
	return cost
}

// Failover is the map after nodes are gone for good, as [Chain.Without] for every chain: the first surviving replica
// becomes active. A chain none of whose members survives is all undefined: its vbucket is lost.
func Failover(m Map, nodes ...string) Map {
	left := make(Map, len(m))
	for vb, chain := range m {
		left[vb] = chain.Without(nodes...)
	}
	return left
}

// GracefulFailover is the map in which nodes have no active any more where another copy can be it: of each chain the others
// come first, then the nodes, both in their old order, then undefined members (rebalance.md §7.7).
func GracefulFailover(m Map, nodes ...string) Map {
	ordered := make(Map, len(m))
	for vb, chain := range m {
		staying := chain.Without(nodes...).Members()
		leaving := chain.Without(staying...).Members()
		ordered[vb] = append(Chain(staying), leaving...).Aligned(len(chain))
	}
	return ordered
}

// Stream is one replica stream: Consumer gets vbucket VB from Producer.
type Stream struct {
	VB                 int
	Producer, Consumer string
}

// WantedStreams lists the replica streams that a map asks for: from every defined active to each of its defined
// replicas, by vbucket and position.
func WantedStreams(m Map) []Stream {
	var streams []Stream
	for vb, chain := range m {
		producer := chain.Active()
		if producer == Undefined {
			continue
		}
		for _, consumer := range chain.Replicas() {
			streams = append(streams, Stream{VB: vb, Producer: producer, Consumer: consumer})
		}
	}
	return streams
}
