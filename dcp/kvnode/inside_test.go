package kvnode

import (
	"net"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/shearpin/shearpin/dcp/mcbp"
)

// What tests that look inside a node have in common.

// startInside starts a node with a bucket "b" of 4 vbuckets, of which it has vbucket 1.
func startInside(t *testing.T, state mcbp.VBucketState, change ...func(*Options)) (*Node, *bucket) {
	t.Helper()
	opts := Options{Name: "n0"}
	for _, f := range change {
		f(&opts)
	}
	n, err := Start(opts)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, n.Close()) })
	require.NoError(t, n.CreateBucket("b", 4))
	b := n.bucket("b")
	require.Equal(t, mcbp.StatusSuccess, b.setVBucket(1, state, nil))
	return n, b
}

// say connects and writes frames behind a SELECT_BUCKET.
func say(t *testing.T, n *Node, frames ...mcbp.Frame) net.Conn {
	t.Helper()
	socket, err := (&net.Dialer{}).DialContext(t.Context(), "tcp", n.Addr())
	require.NoError(t, err)
	t.Cleanup(func() { socket.Close() })
	require.NoError(t, socket.SetDeadline(time.Now().Add(20*time.Second)))
	out := (&mcbp.Packet{Opcode: mcbp.OpSelectBucket, Key: []byte("b")}).Frame()
	for _, f := range frames {
		out = append(out, f...)
	}
	_, err = socket.Write(out)
	require.NoError(t, err)
	return socket
}

// nextFrame reads a frame.
func nextFrame(t *testing.T, r *frameReader) mcbp.Frame {
	t.Helper()
	for {
		f, ok, err := r.next(maxBody)
		require.NoError(t, err)
		if ok {
			return f
		}
		require.NoError(t, r.fill())
	}
}
