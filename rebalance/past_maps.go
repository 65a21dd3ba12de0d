package rebalance

import (
	"context"

	"github.com/shearpin/shearpin/rebalance/store"
	"github.com/shearpin/shearpin/rebalance/vbmap"
)

// What maps a bucket was balanced by before is worth remembering: a node that was failed over and comes back finds its old
// copies, and a rebalance that was stopped goes on to the map that it was on the way to. It is worth no more than that:
// without it everything works, with more moves.

// pastMaps are the maps of a bucket that may be of use again.
func (e *environment) pastMaps(ctx context.Context, doc store.BucketDoc) []vbmap.Past {
	past, err := e.buckets.Balanced(ctx, doc.Name, doc.UUID)
	if err != nil {
		e.log("planner", "bucket", doc.Name).Warn("past_maps_unreadable", "err", err)
	}
	return past
}

// keepMap remembers a map that was made for some nodes, before the first move towards it.
func (e *environment) keepMap(ctx context.Context, doc store.BucketDoc, m vbmap.Map, nodes []Node) {
	kept := vbmap.Past{Map: m, Nodes: places(nodes)}
	if err := e.buckets.KeepBalanced(ctx, doc.Name, doc.UUID, kept); err != nil {
		e.log("planner", "bucket", doc.Name).Warn("map_not_kept", "err", err)
	}
}

// places are nodes as a map is generated for them.
func places(nodes []Node) []vbmap.Node {
	named := make([]vbmap.Node, len(nodes))
	for i, node := range nodes {
		named[i] = vbmap.Node{Name: node.Name, Group: node.Group, Weight: node.Weight}
	}
	return named
}

// sizesOf is what stands for the sizes of a bucket's vbuckets; nil if they are not all known.
func sizesOf(doc store.BucketDoc, items map[uint16]uint64) []int64 {
	sizes := make([]int64, doc.VBuckets)
	for vb := range sizes {
		count, known := items[uint16(vb)]
		if !known && vb < len(doc.Map) && doc.Map[vb].Active() != vbmap.Undefined {
			return nil
		}
		sizes[vb] = int64(min(count, maxItems))
	}
	return sizes
}

// maxItems is more than any vbucket has.
const maxItems = 1 << 40
