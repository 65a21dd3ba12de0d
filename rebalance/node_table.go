package rebalance

import (
	"fmt"
	"slices"
	"sync"

	"github.com/shearpin/shearpin/dcp/kv"
)

// nodeTable is the directory of the cluster's nodes: how to reach each by its name, and what part it has. It follows the
// cluster document and may be used from any goroutine.
type nodeTable struct {
	// reach makes the endpoint of a node. It is a function because it knows a password, which formatting must not find.
	reach func(Node) kv.Endpoint

	mu      sync.RWMutex
	members []Member
	// revision is that of the document that was followed last.
	revision uint64
}

func newNodeTable(c Config) *nodeTable {
	t := &nodeTable{reach: c.endpoint}
	for _, node := range c.Nodes {
		t.members = append(t.members, Member{Node: node, Membership: Active})
	}
	return t
}

// check refuses a node to which no connection could be made.
func (t *nodeTable) check(node Node) error {
	if err := node.validate(); err != nil {
		return err
	}
	endpoint := t.reach(node)
	if err := endpoint.Validate(); err != nil {
		return &NodeError{Node: node.Name, Err: err}
	}
	return nil
}

// follow takes the members of a document, unless those of a newer one are there.
func (t *nodeTable) follow(members []Member, revision uint64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if revision > t.revision {
		t.members, t.revision = slices.Clone(members), revision
	}
}

func (t *nodeTable) member(name string) (Member, bool) {
	t.mu.RLock()
	defer t.mu.RUnlock()
	i := slices.IndexFunc(t.members, func(m Member) bool { return m.Name == name })
	if i < 0 {
		return Member{}, false
	}
	return t.members[i], true
}

func (t *nodeTable) get(name string) (Node, bool) {
	member, ok := t.member(name)
	return member.Node, ok
}

// all is every node, in the order in which they were added.
func (t *nodeTable) all() []Node { return t.nodes(func(Member) bool { return true }) }

// active is every node that may hold data, in that order.
func (t *nodeTable) active() []Node {
	return t.nodes(func(m Member) bool { return m.Membership == Active })
}

// failedOver is every node that was given up, in that order.
func (t *nodeTable) failedOver() []Node {
	return t.nodes(func(m Member) bool { return m.Membership == FailedOver })
}

func (t *nodeTable) nodes(which func(Member) bool) []Node {
	t.mu.RLock()
	defer t.mu.RUnlock()
	var nodes []Node
	for _, m := range t.members {
		if which(m) {
			nodes = append(nodes, m.Node)
		}
	}
	return nodes
}

// named is the nodes of these names, in that order. It fails for a name that is not known.
func (t *nodeTable) named(names []string) ([]Node, error) {
	nodes := make([]Node, len(names))
	for i, name := range names {
		node, ok := t.get(name)
		if !ok {
			return nil, fmt.Errorf("%w %q", ErrUnknownNode, name)
		}
		nodes[i] = node
	}
	return nodes, nil
}

// keepers is the nodes that shall hold data: those of these names, or with no names all that may. It fails for a name
// that is not known, and with a *[NotActiveError] for one that was failed over.
func (t *nodeTable) keepers(names []string) ([]Node, error) {
	if len(names) == 0 {
		return t.active(), nil
	}
	for _, name := range names {
		if m, ok := t.member(name); ok && m.Membership != Active {
			return nil, &NotActiveError{Node: name, Membership: m.Membership}
		}
	}
	return t.named(names)
}

// endpoint is how to reach a node.
func (t *nodeTable) endpoint(name string) (kv.Endpoint, bool) {
	node, ok := t.get(name)
	if !ok {
		return kv.Endpoint{}, false
	}
	return t.reach(node), true
}
