package rebalance

import (
	"encoding/json"
	"fmt"
	"net"
	"slices"
	"strconv"

	"github.com/shearpin/shearpin/rebalance/vbmap"
)

// The cluster configuration is the JSON that nodes hand to clients, and from which clients know where a vbucket is
// (kv-clients.md "Config JSON facts").

// clusterConfig is what a bucket's configuration is made from.
type clusterConfig struct {
	Bucket   string
	UUID     string
	Revision int64
	Replicas int
	// Servers are the nodes in the map, in the order that gives each its index.
	Servers []Node
	Map     vbmap.Map
	// Target is the fast-forward map, nil if nothing is being moved.
	Target vbmap.Map
	// TLS says that the addresses are those for connections by TLS.
	TLS bool
}

// The ports of management are what clients require of every node, although they need not reach them: without them they reject the
// whole configuration.
const (
	managementPort    = 8091
	managementPortTLS = 18091
)

type configJSON struct {
	Revision     int64              `json:"rev"`
	Epoch        int64              `json:"revEpoch"`
	Name         string             `json:"name"`
	UUID         string             `json:"uuid"`
	Locator      string             `json:"nodeLocator"`
	Capabilities []string           `json:"bucketCapabilities"`
	Nodes        []configNode       `json:"nodes"`
	NodesExt     []configNodeExt    `json:"nodesExt"`
	VBuckets     configVBucketTable `json:"vBucketServerMap"`
}

type configNode struct {
	Hostname string         `json:"hostname"`
	Ports    map[string]int `json:"ports"`
}

type configNodeExt struct {
	Hostname string         `json:"hostname"`
	Services map[string]int `json:"services"`
}

// nodeListJSON is the configuration for clients that have chosen no bucket.
type nodeListJSON struct {
	Revision int64           `json:"rev"`
	Epoch    int64           `json:"revEpoch"`
	NodesExt []configNodeExt `json:"nodesExt"`
}

// nodeList stands for a bucket's name where the configuration without a bucket is meant.
const nodeList = ""

type configVBucketTable struct {
	HashAlgorithm string   `json:"hashAlgorithm"`
	Replicas      int      `json:"numReplicas"`
	Servers       []string `json:"serverList"`
	Map           [][]int  `json:"vBucketMap"`
	Forward       [][]int  `json:"vBucketMapForward,omitempty"`
}

// configEpoch is the epoch of every revision: revisions never start again from below.
const configEpoch = 1

// encode gives the configuration. nodes, nodesExt and serverList have the same members in
// the same order, because clients differ in which of them they index by. It fails if a member of the map is not among
// the servers, or an address is not host:port.
func (c clusterConfig) encode() ([]byte, error) {
	out := configJSON{
		Revision: c.Revision, Epoch: configEpoch, Name: c.Bucket, UUID: c.UUID, Locator: "vbucket",
		Capabilities: []string{"cbhello", "collections", "durableWrite", "nodesExt"},
		VBuckets:     configVBucketTable{HashAlgorithm: "CRC", Replicas: c.Replicas},
	}
	for _, server := range c.Servers {
		ext, err := server.configExt(c.TLS)
		if err != nil {
			return nil, err
		}
		node := configNode{Hostname: net.JoinHostPort(ext.Hostname, strconv.Itoa(managementPort)), Ports: map[string]int{}}
		if port, ok := ext.Services["kv"]; ok {
			node.Ports["direct"] = port
		}
		out.Nodes = append(out.Nodes, node)
		out.NodesExt = append(out.NodesExt, ext)
		out.VBuckets.Servers = append(out.VBuckets.Servers, server.Addr)
	}
	var err error
	if out.VBuckets.Map, err = c.indices(c.Map); err != nil {
		return nil, err
	}
	if out.VBuckets.Forward, err = c.indices(c.Target); err != nil {
		return nil, err
	}
	return json.Marshal(out)
}

// configExt is a node as configurations list it. With TLS its address is for that alone; whether it can be reached without, nobody knows.
func (n Node) configExt(tls bool) (configNodeExt, error) {
	host, portText, err := net.SplitHostPort(n.Addr)
	if err != nil {
		return configNodeExt{}, &NodeError{Node: n.Name, Err: err}
	}
	port, err := strconv.Atoi(portText)
	if err != nil {
		return configNodeExt{}, &NodeError{Node: n.Name, Err: err}
	}
	services := map[string]int{"kv": port, "mgmt": managementPort}
	if tls {
		services = map[string]int{"kvSSL": port, "mgmt": managementPort, "mgmtSSL": managementPortTLS}
	}
	return configNodeExt{Hostname: host, Services: services}, nil
}

// encodeNodeList gives the configuration without a bucket.
func encodeNodeList(revision int64, nodes []Node, tls bool) ([]byte, error) {
	out := nodeListJSON{Revision: revision, Epoch: configEpoch, NodesExt: []configNodeExt{}}
	for _, node := range nodes {
		ext, err := node.configExt(tls)
		if err != nil {
			return nil, err
		}
		out.NodesExt = append(out.NodesExt, ext)
	}
	return json.Marshal(out)
}

// indices replaces names by their position in the servers; nobody is -1. Every chain gets replicas + 1 members.
func (c clusterConfig) indices(chains vbmap.Map) ([][]int, error) {
	if chains == nil {
		return nil, nil
	}
	table := make([][]int, len(chains))
	for vb, chain := range chains {
		row := slices.Repeat([]int{-1}, c.Replicas+1)
		for i, name := range chain {
			if name == "" || i >= len(row) {
				continue
			}
			row[i] = slices.IndexFunc(c.Servers, func(n Node) bool { return n.Name == name })
			if row[i] < 0 {
				return nil, fmt.Errorf("vb %d: %w %q", vb, ErrUnknownNode, name)
			}
		}
		table[vb] = row
	}
	return table, nil
}
