package kvnode

import (
	"net"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/shearpin/shearpin/dcp/mcbp"
)

// A peer that asks and does not read makes the node wait, not grow: on a DCP connection too, where another goroutine writes.
func TestWhatWaitsForASlowPeerIsBounded(t *testing.T) {
	n, err := Start(Options{Name: "n0"})
	require.NoError(t, err)
	defer func() { require.NoError(t, n.Close()) }()
	require.NoError(t, n.CreateBucket("b", 4))
	b := n.bucket("b")
	require.Equal(t, mcbp.StatusSuccess, b.setVBucket(1, mcbp.VBucketActive, nil))
	const size, requests = 256 << 10, 200
	_, status := b.vb(1).write(mcbp.OpSet, &item{key: "k", value: make([]byte, size)}, 0, time.Now())
	require.Equal(t, mcbp.StatusSuccess, status)

	socket, err := (&net.Dialer{}).DialContext(t.Context(), "tcp", n.Addr())
	require.NoError(t, err)
	defer socket.Close()
	require.NoError(t, socket.SetDeadline(time.Now().Add(20*time.Second)))
	out := (&mcbp.Packet{Opcode: mcbp.OpSelectBucket, Key: []byte("b")}).Frame()
	out = mcbp.Open{Name: "replication:x", Flags: mcbp.OpenFlagsReplicaProducer}.Append(out)
	for range requests {
		out = (&mcbp.Packet{Opcode: mcbp.OpGet, VBucket: 1, Key: []byte("k")}).Append(out)
	}
	_, err = socket.Write(out)
	require.NoError(t, err)

	largest, received := 0, 0
	chunk := make([]byte, 64<<10)
	for received < requests*size {
		for _, c := range n.dcpConns() {
			largest = max(largest, c.out.len())
		}
		k, err := socket.Read(chunk)
		require.NoError(t, err)
		received += k
	}
	assert.Greater(t, largest, size, "it was never slow")
	assert.LessOrEqual(t, largest, outboxLimit+size+mcbp.HeaderLen+4)
}
