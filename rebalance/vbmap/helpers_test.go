package vbmap

import (
	"fmt"

	"pgregory.net/rapid"
)

// named is n nodes, n00 upward from first, all in one group.
func named(first, n int) []Node {
	nodes := make([]Node, n)
	for i := range nodes {
		nodes[i].Name = fmt.Sprintf("n%02d", first+i)
	}
	return nodes
}

func namesOf(nodes []Node) []string {
	names := make([]string, len(nodes))
	for i, node := range nodes {
		names[i] = node.Name
	}
	return names
}

// slavesOf is, by node, who has replicas of its actives.
func slavesOf(m Map) map[string]map[string]bool {
	slaves := map[string]map[string]bool{}
	for _, chain := range m {
		for _, replica := range chain.Replicas() {
			if slaves[chain.Active()] == nil {
				slaves[chain.Active()] = map[string]bool{}
			}
			slaves[chain.Active()][replica] = true
		}
	}
	return slaves
}

// drawMap draws a map as an operator may meet it: generated, failed over, or just anything, undefined members included.
func drawMap(t *rapid.T, p Params, nodes []Node) Map {
	names := namesOf(nodes)
	kind := rapid.SampledFrom([]string{"none", "generated", "failed over", "anything"}).Draw(t, "current map")
	switch kind {
	case "none":
		return nil
	case "anything":
		members := rapid.Custom(func(t *rapid.T) Chain {
			copies := rapid.IntRange(0, min(len(names), p.Replicas+1)).Draw(t, "copies")
			return Chain(rapid.Permutation(names).Draw(t, "members")[:copies]).Aligned(p.Replicas + 1)
		})
		return rapid.SliceOfN(members, p.VBuckets, p.VBuckets).Draw(t, "chains")
	}
	p.Nodes, p.Current, p.Seed = nodes, nil, p.Seed+1
	m, err := Generate(p)
	if err != nil {
		t.Fatal(err)
	}
	if kind == "failed over" {
		return Failover(m, rapid.SampledFrom(names).Draw(t, "failed node"))
	}
	return m
}
