package rebalance

import (
	"encoding/json"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/shearpin/shearpin/rebalance/vbmap"
)

func someConfig() clusterConfig {
	return clusterConfig{
		Bucket: "orders", UUID: "0123", Revision: 42, Replicas: 1,
		Servers: []Node{{Name: "n1", Addr: "127.0.0.1:5001"}, {Name: "n0", Addr: "[::1]:5000"}},
		Map:     vbmap.Map{{"n0", "n1"}, {"n1", ""}, {"", ""}},
	}
}

func TestClusterConfigIsWhatClientsNeed(t *testing.T) {
	text, err := someConfig().encode()
	require.NoError(t, err)
	assert.JSONEq(t, `{
		"rev": 42, "revEpoch": 1, "name": "orders", "uuid": "0123", "nodeLocator": "vbucket",
		"bucketCapabilities": ["cbhello", "collections", "durableWrite", "nodesExt"],
		"nodes": [{"hostname": "127.0.0.1:8091", "ports": {"direct": 5001}}, {"hostname": "[::1]:8091", "ports": {"direct": 5000}}],
		"nodesExt": [{"hostname": "127.0.0.1", "services": {"kv": 5001, "mgmt": 8091}}, {"hostname": "::1", "services": {"kv": 5000, "mgmt": 8091}}],
		"vBucketServerMap": {
			"hashAlgorithm": "CRC", "numReplicas": 1, "serverList": ["127.0.0.1:5001", "[::1]:5000"],
			"vBucketMap": [[1, 0], [0, -1], [-1, -1]]
		}
	}`, string(text))
}

// Where nodes are reached by TLS, that is what their ports are for, and clients without it have none.
func TestClusterConfigOfNodesWithTLS(t *testing.T) {
	c := someConfig()
	c.TLS = true
	text, err := c.encode()
	require.NoError(t, err)
	var parsed configJSON
	require.NoError(t, json.Unmarshal(text, &parsed))
	assert.Equal(t, map[string]int{"kvSSL": 5001, "mgmt": 8091, "mgmtSSL": 18091}, parsed.NodesExt[0].Services)
	assert.Equal(t, []configNode{{"127.0.0.1:8091", map[string]int{}}, {"[::1]:8091", map[string]int{}}}, parsed.Nodes)
	text, err = encodeNodeList(7, someConfig().Servers, true)
	require.NoError(t, err)
	var list nodeListJSON
	require.NoError(t, json.Unmarshal(text, &list))
	assert.Equal(t, parsed.NodesExt, list.NodesExt)
}

func TestClusterConfigTellsOfTheTarget(t *testing.T) {
	c := someConfig()
	c.Target = vbmap.Map{{"n1", "n0"}, {"n1", "n0"}, {"n0", "n1"}}
	text, err := c.encode()
	require.NoError(t, err)
	var parsed struct {
		Table struct {
			Forward [][]int `json:"vBucketMapForward"`
		} `json:"vBucketServerMap"`
	}
	require.NoError(t, json.Unmarshal(text, &parsed))
	assert.Equal(t, [][]int{{0, 1}, {0, 1}, {1, 0}}, parsed.Table.Forward)
}

func TestClusterConfigRefusesStrangers(t *testing.T) {
	c := someConfig()
	c.Map[0][1] = "n9"
	_, err := c.encode()
	require.ErrorIs(t, err, ErrUnknownNode)
	c = someConfig()
	c.Servers[0].Addr = "nowhere"
	_, err = c.encode()
	var node *NodeError
	require.ErrorAs(t, err, &node)
	assert.Equal(t, "n1", node.Node)
}

func TestTheListOfNodesIsWhatClientsNeed(t *testing.T) {
	text, err := encodeNodeList(7, someConfig().Servers, false)
	require.NoError(t, err)
	assert.JSONEq(t, `{"rev": 7, "revEpoch": 1, "nodesExt": [
		{"hostname": "127.0.0.1", "services": {"kv": 5001, "mgmt": 8091}}, {"hostname": "::1", "services": {"kv": 5000, "mgmt": 8091}}
	]}`, string(text))
	_, err = encodeNodeList(7, []Node{{Name: "n1", Addr: "nowhere"}}, false)
	var node *NodeError
	require.ErrorAs(t, err, &node)
}
