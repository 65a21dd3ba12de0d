package rebalance

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/shearpin/shearpin/rebalance/store"
)

// Membership says what part a node has in the cluster.
type Membership string

// The memberships.
const (
	// Active members may hold data.
	Active Membership = "active"
	// FailedOver members were given up: nothing is asked of them, no map names them, and no rebalance moves anything to
	// them until they are added back with [Cluster.AddBack].
	FailedOver Membership = "failed over"
)

// Member is a node that the cluster knows.
type Member struct {
	Node
	Membership Membership `json:"membership"`
	// DiscardDiverged says that the node was added back with [DiscardDiverged] and no rebalance has taken it up since.
	DiscardDiverged bool `json:"discard_diverged,omitempty"`
}

// NotActiveError refuses to give data to a member that was failed over.
type NotActiveError struct {
	Node       string
	Membership Membership
}

func (e *NotActiveError) Error() string {
	return fmt.Sprintf("node %q is %s: it has to be added back first", e.Node, e.Membership)
}

// NodeInUseError refuses to forget a node that a bucket still needs.
type NodeInUseError struct {
	Node string
	// Bucket is the first one, by name, that has the node among its servers, or in one of its maps.
	Bucket string
}

func (e *NodeInUseError) Error() string {
	return fmt.Sprintf("node %q is in use by bucket %q: a rebalance without it, or a failover, has to come first", e.Node, e.Bucket)
}

// Members are the nodes that the cluster knows, in the order in which they were added, as the store has them.
func (c *Cluster) Members(ctx context.Context) ([]Member, error) {
	doc, _, err := c.env.readCluster(ctx)
	return doc.Members, c.closedError(err)
}

// AddNode makes a node known; the store keeps it. It holds nothing until a rebalance moves something to it. Adding the
// same node again is no error; a name that is taken by another address or group is refused.
func (c *Cluster) AddNode(ctx context.Context, node Node) error {
	if err := c.env.nodes.check(node); err != nil {
		return err
	}
	added := false
	err := c.env.changeCluster(ctx, func(doc *clusterDocument) error {
		added = false
		for _, known := range doc.Members {
			if known.Node == node {
				return nil
			}
			if known.Name == node.Name {
				return fmt.Errorf("node name %q is taken by %s", node.Name, known.Addr)
			}
		}
		doc.Members = append(doc.Members, Member{Node: node, Membership: Active})
		added = true
		return nil
	})
	if err != nil {
		return c.closedError(err)
	}
	if added {
		c.env.log("orchestrator").Info("node_added", "node", node.Name, "addr", node.Addr)
	}
	return nil
}

// RemoveNode makes the cluster forget a node. It is refused with a *[NodeInUseError] while a bucket has it among its
// servers or in a map, with [ErrUnknownNode] if nobody knows it, and with [ErrRebalanceRunning] or another of the errors of
// a busy cluster while something else goes on. Nothing is deleted on the node. A node that is also in [Config.Nodes] is
// known again after the next [Open].
func (c *Cluster) RemoveNode(ctx context.Context, name string) error {
	_, err := c.orchestrator().Call(ctx, changeCall{what: "remove " + name, change: func(ctx context.Context) error {
		return c.env.removeNode(ctx, name)
	}})
	return c.closedError(err)
}

func (e *environment) removeNode(ctx context.Context, name string) error {
	docs, err := e.buckets.List(ctx)
	if err != nil {
		return err
	}
	if i := slices.IndexFunc(docs, func(doc store.BucketDoc) bool { return needs(doc, name) }); i >= 0 {
		return &NodeInUseError{Node: name, Bucket: docs[i].Name}
	}
	err = e.changeCluster(ctx, func(doc *clusterDocument) error {
		i, err := doc.known(name)
		if err != nil {
			return err
		}
		doc.Members = slices.Delete(doc.Members, i, i+1)
		return nil
	})
	if err == nil {
		e.log("orchestrator").Info("node_removed", "node", name)
	}
	return err
}

// needs says whether a bucket depends on a node.
func needs(doc store.BucketDoc, node string) bool {
	return slices.Contains(doc.Servers, node) || slices.Contains(doc.Map.Nodes(), node) || slices.Contains(doc.Target.Nodes(), node)
}

// AddBackOption changes what becomes of the copies of a node that is added back.
type AddBackOption func(*Member)

// DiscardDiverged lets the next rebalance delete those copies of the node that hold data which their active lacks: writes
// that were acknowledged and never replicated before the node was given up. Without it such a rebalance is refused with
// *[KeptCopies], and the copies stay.
func DiscardDiverged() AddBackOption { return func(m *Member) { m.DiscardDiverged = true } }

// AddBack makes a member that was failed over active again. It holds nothing until the next rebalance, which takes up its
// old copies where their histories allow: their streams resume where they ended. Adding back an active member is no error.
// The node has to answer, or the error is a *[NodeError]: it may not know yet that it was given up, and is told so first. It
// is refused as [Cluster.RemoveNode] is.
func (c *Cluster) AddBack(ctx context.Context, name string, options ...AddBackOption) error {
	_, err := c.orchestrator().Call(ctx, changeCall{what: "add back " + name, change: func(ctx context.Context) error {
		return c.env.addBack(ctx, name, options)
	}})
	return c.closedError(err)
}

func (e *environment) addBack(ctx context.Context, name string, options []AddBackOption) error {
	docs, err := e.buckets.List(ctx)
	if err != nil {
		return err
	}
	if err := e.calmBefore(ctx, name, docs); err != nil {
		return err
	}
	changed := false
	err = e.changeCluster(ctx, func(doc *clusterDocument) error {
		changed = false
		i, err := doc.known(name)
		if err != nil {
			return err
		}
		member := doc.Members[i]
		if member.Membership == Active {
			return nil
		}
		member.Membership = Active
		for _, option := range options {
			option(&member)
		}
		doc.Members[i] = member
		changed = true
		return nil
	})
	if err != nil || !changed {
		return err
	}
	e.log("orchestrator").Info("node_added_back", "node", name)
	// Where its failover was refused for some vbuckets it is a server still.
	for _, doc := range docs {
		if slices.Contains(doc.Servers, name) {
			err = errors.Join(err, e.ensureMembers(ctx, doc.Name, []string{name}))
		}
	}
	return err
}

// errNoNodes refuses a cluster of nothing.
var errNoNodes = errors.New("rebalance: Config.Nodes is empty, and the store knows no nodes")

// loadMembers brings the members of the store and of the configuration together: where they differ the configuration
// wins, except that a member which was failed over stays that.
func (e *environment) loadMembers(ctx context.Context) error {
	var changes []string
	configured := e.nodes.all()
	err := e.changeCluster(ctx, func(doc *clusterDocument) error {
		changes = nil
		for _, member := range doc.Members {
			if err := e.nodes.check(member.Node); err != nil {
				return fmt.Errorf("rebalance: %w", &store.CorruptError{Key: clusterKey, Err: err})
			}
		}
		for _, node := range configured {
			i := doc.index(node.Name)
			switch {
			case i < 0:
				doc.Members = append(doc.Members, Member{Node: node, Membership: Active})
			case doc.Members[i].Node != node:
				changes = append(changes, fmt.Sprintf("%s: %s %s weight %d", node.Name, node.Addr, node.Group, node.Weight))
				doc.Members[i].Node = node
			}
		}
		if len(doc.Members) == 0 {
			return errNoNodes
		}
		return nil
	})
	if err == nil && len(changes) > 0 {
		e.log("orchestrator").Warn("nodes_changed_by_configuration", "nodes", strings.Join(changes, "; "))
	}
	return err
}
