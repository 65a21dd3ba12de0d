package rebalance

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/shearpin/shearpin/dcp"
	"github.com/shearpin/shearpin/dcp/kv"
)

// What a cluster is told about connecting is what every connection is made with.
func TestEveryOptionOfConnectingReachesTheEndpoints(t *testing.T) {
	refused := errors.New("refused")
	config := Config{
		Nodes:       []Node{{Name: "n0", Addr: "[::1]:11210"}},
		Credentials: kv.Credentials{User: "manager", Password: "secret"},
		TLSSource:   func() (*tls.Config, error) { return nil, refused },
		Mechanisms:  []kv.Mechanism{kv.ScramSHA256}, AllowPlainAuth: true,
		Dial:   func(context.Context, string, string) (net.Conn, error) { return nil, refused },
		Limits: Limits{Replication: dcp.Limits{Connect: 3 * time.Second}},
	}
	config, err := config.validate()
	require.NoError(t, err)
	table := newNodeTable(config)
	added := Member{Node: Node{Name: "n1", Addr: "127.0.0.1:11210"}, Membership: Active}
	require.NoError(t, table.check(added.Node))
	table.follow([]Member{{Node: config.Nodes[0], Membership: Active}, added}, 1)
	for name, addr := range map[string]string{"n0": "[::1]:11210", "n1": "127.0.0.1:11210"} {
		ep, ok := table.endpoint(name)
		require.True(t, ok)
		assert.Equal(t, name, ep.Node)
		assert.Equal(t, addr, ep.Addr)
		assert.Equal(t, config.Credentials, ep.Credentials)
		assert.Equal(t, config.Mechanisms, ep.Mechanisms)
		assert.True(t, ep.AllowPlainAuth)
		assert.Equal(t, 3*time.Second, ep.StepTimeout)
		_, err := ep.TLSSource()
		require.ErrorIs(t, err, refused)
		_, err = ep.Dial(t.Context(), "tcp", addr)
		require.ErrorIs(t, err, refused)
	}
	_, ok := table.endpoint("n2")
	assert.False(t, ok)

	config.TLSSource, config.TLS = nil, &tls.Config{}
	ep, ok := newNodeTable(config).endpoint("n0")
	require.True(t, ok)
	assert.Same(t, config.TLS, ep.TLS)
}

// An option that no connection could be made with is refused when the cluster is opened, or the node added, not later.
func TestOptionsOfConnectingAreCheckedAtOnce(t *testing.T) {
	good := Config{Nodes: []Node{{Name: "n0", Addr: "127.0.0.1:11210"}}, Credentials: kv.Credentials{User: "manager", Password: "secret"}}
	for field, change := range map[string]func(*Config){
		"Addr": func(c *Config) { c.Nodes = []Node{{Name: "n0", Addr: "127.0.0.1:0"}} },
		"TLSSource": func(c *Config) {
			c.TLS, c.TLSSource = &tls.Config{}, func() (*tls.Config, error) { return &tls.Config{}, nil }
		},
		"TLS":              func(c *Config) { c.TLS = &tls.Config{MaxVersion: tls.VersionTLS11} },
		"Mechanisms":       func(c *Config) { c.Mechanisms = []kv.Mechanism{"LOGIN"} },
		"Credentials.User": func(c *Config) { c.Credentials.User = "" },
	} {
		c := good
		change(&c)
		_, err := c.validate()
		var wrong *kv.EndpointError
		require.ErrorAs(t, err, &wrong)
		assert.Equal(t, field, wrong.Field)
		var node *NodeError
		require.ErrorAs(t, err, &node)
		assert.Equal(t, "n0", node.Node)
		assert.NotContains(t, err.Error(), "secret")
	}
	table := newNodeTable(good)
	var wrong *kv.EndpointError
	require.ErrorAs(t, table.check(Node{Name: "n1", Addr: "127.0.0.1:http"}), &wrong)
	assert.Equal(t, "Addr", wrong.Field)
	_, ok := table.get("n1")
	assert.False(t, ok)
}

func TestWhatHoldsThePasswordDoesNotShowIt(t *testing.T) {
	c, err := Config{Nodes: []Node{{Name: "n0", Addr: "127.0.0.1:11210"}}, Credentials: kv.Credentials{User: "manager", Password: "pa55w0rd"}}.validate()
	require.NoError(t, err)
	env := newEnvironment(c, nil)
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%d"} {
		for _, value := range []any{c, &c, newNodeTable(c), env} {
			assert.NotContains(t, fmt.Sprintf(verb, value), "pa55w0rd")
		}
	}
	require.NoError(t, env.system.Close(t.Context()))
}
