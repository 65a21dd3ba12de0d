package rebalance

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"time"

	"github.com/shearpin/shearpin/rebalance/store"
	"github.com/shearpin/shearpin/rebalance/vbmap"
)

// Plan is what a rebalance would do. [Cluster.Plan] makes it, somebody looks at it, and [Request.Plan] has exactly that
// done, or nothing. It survives encoding to JSON and back.
type Plan struct {
	// Version is 1. A plan of another version is refused.
	Version int `json:"version"`
	// Made is when the plan was made.
	Made time.Time `json:"made"`
	// Nodes are those that shall hold data in the end, by name.
	Nodes []PlannedNode `json:"nodes"`
	// Buckets are in the order in which they will be moved.
	Buckets []BucketPlan `json:"buckets"`
}

// PlannedNode is a node as the plan was made for it. Its address may change until the plan is executed.
type PlannedNode struct {
	Name  string `json:"name"`
	Group string `json:"group,omitempty"`
	// Weight is as in [Node].
	Weight int `json:"weight,omitempty"`
}

// BucketPlan is what would be done with one bucket.
type BucketPlan struct {
	Name string `json:"name"`
	UUID string `json:"uuid"`
	// Digest stands for what the plan starts from: the bucket's map and the number of its replicas.
	Digest string `json:"digest"`
	// Servers are the nodes that hold the bucket now.
	Servers []string `json:"servers"`
	// Target is the map that the moves lead to: one chain per vbucket.
	Target vbmap.Map `json:"target"`
	// Moves are by vbucket. The order in which they will begin depends on how long each takes.
	Moves []PlannedMove `json:"moves"`
	// ByNode says what comes to each node that holds the bucket now or in the end.
	ByNode map[string]NodePlan `json:"by_node"`
	// Items is the number of documents in the copies that are to be built, nil if a node did not tell. Nodes do not tell the
	// bytes of a vbucket.
	Items *uint64 `json:"items,omitempty"`
}

// MoveKind is what becomes of a vbucket.
type MoveKind string

// The kinds of moves.
const (
	// MoveActive gives the vbucket another active; its replicas may change too.
	MoveActive MoveKind = "active"
	// MoveReplicas changes replicas only.
	MoveReplicas MoveKind = "replicas"
	// MoveCreate makes an empty vbucket of which no copy is left anywhere.
	MoveCreate MoveKind = "create"
)

// PlannedMove is the move of one vbucket.
type PlannedMove struct {
	VB   uint16      `json:"vb"`
	Kind MoveKind    `json:"kind"`
	Old  vbmap.Chain `json:"old"`
	New  vbmap.Chain `json:"new"`
	// Items is the number of documents in the active, nil if its node did not tell.
	Items *uint64 `json:"items,omitempty"`
}

// NodePlan counts copies of vbuckets on one node.
type NodePlan struct {
	ActivesBefore  int `json:"actives_before"`
	ActivesAfter   int `json:"actives_after"`
	ReplicasBefore int `json:"replicas_before"`
	ReplicasAfter  int `json:"replicas_after"`
	// Built are the copies that the node does not have now, Dropped those that it will not have any more.
	Built   int `json:"built"`
	Dropped int `json:"dropped"`
}

const planVersion = 1

// PlanChangedError refuses a plan that does not fit any more, before anything was moved.
type PlanChangedError struct {
	// Bucket is the one that is not as it was, empty if it is the nodes.
	Bucket string
	// What says what has changed.
	What string
}

func (e *PlanChangedError) Error() string {
	if e.Bucket == "" {
		return "the plan does not fit any more: " + e.What
	}
	return fmt.Sprintf("the plan does not fit %q any more: %s", e.Bucket, e.What)
}

// digestOf stands for what a plan starts from.
func digestOf(doc store.BucketDoc) string {
	hash := sha256.New()
	fmt.Fprintf(hash, "%d vbuckets, %d replicas\n", doc.VBuckets, doc.Replicas)
	for _, chain := range doc.Map {
		fmt.Fprintf(hash, "%q\n", []string(chain))
	}
	return hex.EncodeToString(hash.Sum(nil))
}

// bucket is the part of the plan that is about a bucket, nil if there is none.
func (p *Plan) bucket(name string) *BucketPlan {
	for i := range p.Buckets {
		if p.Buckets[i].Name == name {
			return &p.Buckets[i]
		}
	}
	return nil
}

// names are the nodes that shall hold data.
func (p *Plan) names() []string {
	names := make([]string, len(p.Nodes))
	for i, node := range p.Nodes {
		names[i] = node.Name
	}
	return names
}

func (p *Plan) bucketNames() []string {
	names := make([]string, len(p.Buckets))
	for i, bucket := range p.Buckets {
		names[i] = bucket.Name
	}
	return names
}
