package rebalance

import (
	"fmt"
	"slices"
	"sync"

	"github.com/shearpin/shearpin/dcp/kv"
)

// nodeTable is the directory of the cluster's nodes: how to reach each by its name. It may be used from any goroutine;
// nodes are added and never changed.
type nodeTable struct {
	// reach makes the endpoint of a node. It is a function because it knows a password, which formatting must not find.
	reach func(Node) kv.Endpoint

	mu    sync.RWMutex
	nodes []Node
}

func newNodeTable(c Config) *nodeTable {
	return &nodeTable{reach: c.endpoint, nodes: slices.Clone(c.Nodes)}
}

// add refuses a name that is taken, unless it is the same node again.
func (t *nodeTable) add(node Node) error {
	if err := node.validate(); err != nil {
		return err
	}
	endpoint := t.reach(node)
	if err := endpoint.Validate(); err != nil {
		return &NodeError{Node: node.Name, Err: err}
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, known := range t.nodes {
		if known == node {
			return nil
		}
		if known.Name == node.Name {
			return fmt.Errorf("node name %q is taken by %s", node.Name, known.Addr)
		}
	}
	t.nodes = append(t.nodes, node)
	return nil
}

func (t *nodeTable) get(name string) (Node, bool) {
	t.mu.RLock()
	defer t.mu.RUnlock()
	i := slices.IndexFunc(t.nodes, func(n Node) bool { return n.Name == name })
	if i < 0 {
		return Node{}, false
	}
	return t.nodes[i], true
}

// all is every node, in the order in which they were added.
func (t *nodeTable) all() []Node {
	t.mu.RLock()
	defer t.mu.RUnlock()
	return slices.Clone(t.nodes)
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

// endpoint is how to reach a node.
func (t *nodeTable) endpoint(name string) (kv.Endpoint, bool) {
	node, ok := t.get(name)
	if !ok {
		return kv.Endpoint{}, false
	}
	return t.reach(node), true
}
