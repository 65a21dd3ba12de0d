package vbmap

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
	// VBuckets is the number of chains, at least 1.
	VBuckets int
	// Replicas is how many copies there shall be besides the active. Where nodes are too few, the rest is undefined.
	Replicas int
	// MaxSlaves is how many nodes at most may hold replicas of one node's actives; 0 means [DefaultMaxSlaves],
	// [NoLimit] any number.
	MaxSlaves int
	// Nodes is who shall hold data, at least one, each once.
	Nodes []Node
	// Current is the map in force, from which the generated one shall differ as little as possible; nil if there is
	// none. Its chains may have any length and any members.
	Current Map
	// Seed decides between equally good maps. Equal parameters give the equal map.
	Seed uint64
}

const (
	// DefaultMaxSlaves is how many nodes replicate one node unless the parameters say otherwise (rebalance.md §7.1).
	DefaultMaxSlaves = 10
	// NoLimit as MaxSlaves lets every node replicate every other.
	NoLimit = -1
)

// Generate builds a balanced map for p.
func Generate(p Params) (Map, error) {
	copies := min(p.Replicas+1, len(p.Nodes))
	m := make(Map, p.VBuckets)
	for vb := range m {
		chain := make(Chain, p.Replicas+1)
		for i := range copies {
			step := 1 + (vb/len(p.Nodes))%max(1, len(p.Nodes)-1)
			chain[i] = p.Nodes[(vb+i*step)%len(p.Nodes)].Name
		}
		m[vb] = chain
	}
	return m, nil
}
