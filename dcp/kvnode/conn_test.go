package kvnode

import (
	"log/slog"
	"net"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/shearpin/shearpin/dcp/mcbp"
)

// A peer that asks and does not read makes the node wait, not grow: on a DCP connection too, where another goroutine writes.
func TestWhatWaitsForASlowPeerIsBounded(t *testing.T) {
	n, b := startInside(t, mcbp.VBucketActive)
	const size, requests = 256 << 10, 200
	_, status := b.vb(1).write(mcbp.OpSet, &item{key: "k", value: make([]byte, size)}, 0, time.Now())
	require.Equal(t, mcbp.StatusSuccess, status)

	out := []mcbp.Frame{mcbp.Open{Name: "replication:x", Flags: mcbp.OpenFlagsReplicaProducer}.Append(nil)}
	for range requests {
		out = append(out, (&mcbp.Packet{Opcode: mcbp.OpGet, VBucket: 1, Key: []byte("k")}).Frame())
	}
	socket := say(t, n, out...)

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

// For a client that does not read one announcement is under way and one waits, however often the configuration changes.
func TestWhatWaitsToBeAnnouncedIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := &Node{opts: Options{IdleTimeout: time.Minute}, log: slog.New(slog.DiscardHandler), conns: map[*conn]struct{}{}}
		near, far := net.Pipe()
		c := newConn(n, near)
		n.conns[c] = struct{}{}
		c.features.add(mcbp.FeatureClusterMapPushBrief)
		c.announce()
		c.reply(announcement(nil, &clusterConfig{}))
		n.wg.Go(c.flush) // as the reader does with an answer
		synctest.Wait()
		for revision := range int64(100) {
			n.config.Store(&clusterConfig{revision: revision + 1})
			n.announce(nil)
			synctest.Wait()
			require.LessOrEqual(t, c.out.len(), mcbp.HeaderLen+clusterConfigExtras)
		}
		r := newFrameReader(far)
		for _, want := range []byte{0, 1, 100} {
			assert.Equal(t, want, nextFrame(t, r).Extras()[clusterConfigExtras-1])
		}
		synctest.Wait()
		c.out.mu.Lock()
		assert.False(t, c.out.writing, "the newest is told once")
		c.out.mu.Unlock()
		c.close()
		n.wg.Wait()
	})
}

// Who has not logged in is not told of configurations that it may not ask for either.
func TestStrangersAreToldOfNoConfiguration(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		opts := Options{User: "u", Password: "p", IdleTimeout: time.Minute}
		n := &Node{opts: opts, log: slog.New(slog.DiscardHandler), conns: map[*conn]struct{}{}}
		near, far := net.Pipe()
		c := newConn(n, near)
		n.conns[c] = struct{}{}
		n.wg.Go(c.serve)
		defer n.wg.Wait()
		defer c.close()
		r := newFrameReader(far)
		ask := func(p *mcbp.Packet) mcbp.Frame {
			_, err := far.Write(p.Frame())
			require.NoError(t, err)
			return nextFrame(t, r)
		}
		announceRevision := func(revision int64) {
			n.config.Store(&clusterConfig{revision: revision})
			n.announce(nil)
			synctest.Wait()
		}
		hello := &mcbp.Packet{Opcode: mcbp.OpHello, Value: []byte{0, byte(mcbp.FeatureDuplex), 0, byte(mcbp.FeatureClusterMapPushBrief)}}
		require.Equal(t, hello.Value, ask(hello).Value())
		announceRevision(1)
		login := &mcbp.Packet{Opcode: mcbp.OpSASLAuth, Key: []byte(mechPlain), Value: []byte("\x00u\x00p")}
		f := ask(login)
		require.Equal(t, mcbp.OpSASLAuth, f.Opcode())
		require.Equal(t, mcbp.StatusSuccess, f.Status())
		synctest.Wait()
		announceRevision(2)
		f = nextFrame(t, r)
		assert.Equal(t, mcbp.MagicServerRequest, f.Magic())
		assert.EqualValues(t, 2, f.Extras()[clusterConfigExtras-1], "whoever is in is told, though the HELLO came first")
	})
}
