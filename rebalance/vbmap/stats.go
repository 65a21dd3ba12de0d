package vbmap

// Load is how many copies one node has.
type Load struct {
	Actives, Replicas int
}

// Total is all copies of the node.
func (l Load) Total() int { return l.Actives + l.Replicas }

// Stats sums up who has how much.
type Stats struct {
	// Nodes has one entry for every node that was asked about or has a copy.
	Nodes map[string]Load
	// Lost counts the vbuckets without an active.
	Lost int
	// Missing counts the undefined members, those of lost vbuckets included.
	Missing int
}

// Stats counts the copies of the map. The nodes given appear also if they have none.
func (m Map) Stats(nodes ...string) Stats {
	stats := Stats{Nodes: make(map[string]Load, len(nodes))}
	for _, node := range nodes {
		stats.Nodes[node] = Load{}
	}
	for _, chain := range m {
		if chain.Active() == Undefined {
			stats.Lost++
		}
		for position, node := range chain {
			if node == Undefined {
				stats.Missing++
				continue
			}
			load := stats.Nodes[node]
			if position == 0 {
				load.Actives++
			} else {
				load.Replicas++
			}
			stats.Nodes[node] = load
		}
	}
	return stats
}

// ActiveRange is the largest number of actives on a node minus the smallest.
func (s Stats) ActiveRange() int {
	return s.spread(func(l Load) int { return l.Actives })
}

// ReplicaRange is the largest number of replicas on a node minus the smallest.
func (s Stats) ReplicaRange() int {
	return s.spread(func(l Load) int { return l.Replicas })
}

func (s Stats) spread(of func(Load) int) int {
	first := true
	var least, most int
	for _, load := range s.Nodes {
		n := of(load)
		if first {
			least, most, first = n, n, false
		}
		least, most = min(least, n), max(most, n)
	}
	return most - least
}

// balancedReplicaRange is how far apart the replica counts of two nodes may be in a map that needs no rebalance
// (rebalance.md §7.8): generation gets within 1 where nothing stands in its way, but nobody moves data for less than
// this.
const balancedReplicaRange = 5

// Balanced reports whether the map needs no rebalance to serve exactly nodes, all of equal weight: nobody else has
// copies, no copy is missing that a node could hold, active counts differ by at most 1 and replica counts by at most 5.
func (m Map) Balanced(nodes ...string) bool {
	if Validate(m, Rules{Nodes: nodes, Complete: true}) != nil {
		return false
	}
	stats := m.Stats(nodes...)
	return stats.ActiveRange() <= 1 && stats.ReplicaRange() <= balancedReplicaRange
}
