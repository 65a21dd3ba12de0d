package workload

import (
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"net"
	"strconv"
	"strings"
)

// Config is what a client needs of the cluster configuration that nodes hand out: where each vbucket's active is. It is
// immutable.
type Config struct {
	// Epoch and Rev order configurations, Epoch first.
	Epoch, Rev int64
	// addrs are the nodes' addresses, in the order that chains count them; "" if a node has no data service.
	addrs []string
	// chains has one chain per vbucket: positions in addrs, -1 for undefined, the active first.
	chains [][]int
}

// ErrNoMap says that a configuration has no vbucket map, as before a bucket was selected.
var ErrNoMap = errors.New("configuration without a vbucket map")

// configJSON names the parts of the document that matter (spec/kv-clients.md, "Config JSON facts").
type configJSON struct {
	Rev      int64 `json:"rev"`
	RevEpoch int64 `json:"revEpoch"`
	NodesExt []struct {
		Hostname string         `json:"hostname"`
		Services map[string]int `json:"services"`
	} `json:"nodesExt"`
	Map *struct {
		ServerList []string `json:"serverList"`
		Chains     [][]int  `json:"vBucketMap"`
	} `json:"vBucketServerMap"`
}

// ParseConfig reads a configuration that was got from the node at host (no port), which stands in for "$HOST" and for
// names that are left out. The order of nodesExt is the one that chains count in; serverList serves if there is no
// nodesExt. It fails with [ErrNoMap], or if a chain points outside the list.
func ParseConfig(raw []byte, host string) (*Config, error) {
	var doc configJSON
	if err := json.Unmarshal(raw, &doc); err != nil {
		return nil, fmt.Errorf("cluster configuration: %w", err)
	}
	if doc.Map == nil || len(doc.Map.Chains) == 0 {
		return nil, ErrNoMap
	}
	c := &Config{Epoch: doc.RevEpoch, Rev: doc.Rev, chains: doc.Map.Chains}
	for _, node := range doc.NodesExt {
		c.addrs = append(c.addrs, nodeAddr(node.Hostname, host, node.Services["kv"]))
	}
	if len(doc.NodesExt) == 0 {
		for _, server := range doc.Map.ServerList {
			c.addrs = append(c.addrs, withHost(server, host))
		}
	}
	for vb, chain := range c.chains {
		for _, at := range chain {
			if at < -1 || at >= len(c.addrs) {
				return nil, fmt.Errorf("cluster configuration: vbucket %d names node %d of %d", vb, at, len(c.addrs))
			}
		}
	}
	return c, nil
}

func nodeAddr(name, host string, port int) string {
	if port == 0 {
		return ""
	}
	if name == "" || name == "$HOST" {
		name = host
	}
	return net.JoinHostPort(name, strconv.Itoa(port))
}

// NewerThan says whether c was published after old; a nil old is older than all.
func (c *Config) NewerThan(old *Config) bool {
	switch {
	case old == nil:
		return true
	case c.Epoch != old.Epoch:
		return c.Epoch > old.Epoch
	}
	return c.Rev > old.Rev
}

// VBuckets is the number of vbuckets.
func (c *Config) VBuckets() int { return len(c.chains) }

// Active is the address of vbucket vb's active node; false if it has none now.
func (c *Config) Active(vb uint16) (addr string, ok bool) {
	chain := c.chains[vb]
	if len(chain) == 0 || chain[0] < 0 {
		return "", false
	}
	addr = c.addrs[chain[0]]
	return addr, addr != ""
}

// Addrs are the addresses of all nodes with data service.
func (c *Config) Addrs() []string {
	var out []string
	for _, addr := range c.addrs {
		if addr != "" {
			out = append(out, addr)
		}
	}
	return out
}

// VBucketOf maps a key to one of n vbuckets, as all clients do.
func VBucketOf(key string, n int) uint16 {
	return uint16(int(crc32.ChecksumIEEE([]byte(key))>>16&0x7fff) % n)
}

// withHost puts the dialled host in the place of "$HOST", in brackets if it is an IPv6 address.
func withHost(server, host string) string {
	if rest, ok := strings.CutPrefix(server, "$HOST:"); ok {
		return net.JoinHostPort(host, rest)
	}
	return server
}
