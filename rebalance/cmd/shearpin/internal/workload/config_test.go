package workload_test

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/shearpin/shearpin/rebalance/cmd/shearpin/internal/workload"
)

func TestVBucketOfKnownKeys(t *testing.T) {
	// crc32("foo") = 0x8c736521, crc32("bar") = 0x76ff8caa: bits 16 to 30 modulo 1024.
	assert.Equal(t, uint16(0x0c73%1024), workload.VBucketOf("foo", 1024))
	assert.Equal(t, uint16(0x76ff%1024), workload.VBucketOf("bar", 1024))
	assert.Equal(t, uint16(0), workload.VBucketOf("foo", 1))
}

func TestConfigCountsNodesAsNodesExtDoes(t *testing.T) {
	c, err := workload.ParseConfig([]byte(`{"rev":7,"revEpoch":2,"nodeLocator":"vbucket",
		"vBucketServerMap":{"serverList":["b:2","a:1"],"vBucketMap":[[0,1],[1,0],[-1,1],[2,0],[]]},
		"nodesExt":[{"hostname":"a","services":{"kv":1,"mgmt":9}},{"services":{"kv":3,"mgmt":9}},{"hostname":"c","services":{"mgmt":9}}]}`),
		"127.0.0.1")
	require.NoError(t, err)
	assert.Equal(t, []int64{2, 7}, []int64{c.Epoch, c.Rev})
	assert.Equal(t, 5, c.VBuckets())
	for vb, want := range []string{"a:1", "127.0.0.1:3", "", "", ""} {
		addr, ok := c.Active(uint16(vb))
		assert.Equal(t, want, addr, "vb %d", vb)
		assert.Equal(t, want != "", ok, "vb %d", vb)
	}
	assert.Equal(t, []string{"a:1", "127.0.0.1:3"}, c.Addrs())
}

func TestConfigWithoutNodesExtCountsAsServerList(t *testing.T) {
	c, err := workload.ParseConfig([]byte(`{"rev":1,"vBucketServerMap":{"serverList":["$HOST:11210","b:2"],"vBucketMap":[[0],[1]]}}`), "::1")
	require.NoError(t, err)
	addr, _ := c.Active(0)
	assert.Equal(t, "[::1]:11210", addr)
	addr, _ = c.Active(1)
	assert.Equal(t, "b:2", addr)
}

func TestConfigThatCannotBeUsed(t *testing.T) {
	_, err := workload.ParseConfig([]byte(`{"rev":3,"nodesExt":[]}`), "h")
	assert.ErrorIs(t, err, workload.ErrNoMap)
	_, err = workload.ParseConfig([]byte(`{"rev":3,"vBucketServerMap":{"serverList":["a:1"],"vBucketMap":[[0],[1]]}}`), "h")
	assert.ErrorContains(t, err, "vbucket 1 names node 1 of 1")
	_, err = workload.ParseConfig([]byte(`<html>`), "h")
	assert.ErrorContains(t, err, "cluster configuration")
}

func TestConfigOrder(t *testing.T) {
	at := func(epoch, rev int64) *workload.Config { return &workload.Config{Epoch: epoch, Rev: rev} }
	assert.True(t, at(1, 1).NewerThan(nil))
	assert.True(t, at(1, 2).NewerThan(at(1, 1)))
	assert.True(t, at(2, 1).NewerThan(at(1, 9)))
	assert.False(t, at(1, 9).NewerThan(at(2, 1)))
	assert.False(t, at(1, 1).NewerThan(at(1, 1)))
}
