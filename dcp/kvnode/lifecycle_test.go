package kvnode_test

import (
	"fmt"
	"math/rand/v2"
	"net"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/shearpin/shearpin/dcp/kvnode"
	"github.com/shearpin/shearpin/dcp/mcbp"
)

// dial connects to a node that may be down.
func dial(t testing.TB, n *kvnode.Node) (*client, error) {
	socket, err := (&net.Dialer{}).DialContext(t.Context(), "tcp", n.Addr())
	if err != nil {
		return nil, err
	}
	return &client{t: t, socket: socket}, nil
}

func loopback(t *testing.T) net.Listener {
	l, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	require.NoError(t, err)
	return l
}

func TestANodeServesAListenerThatItIsGiven(t *testing.T) {
	l := loopback(t)
	n := startNode(t, "n0", func(o *kvnode.Options) { o.Listener = l })
	require.Equal(t, l.Addr().String(), n.Addr())
	login(t, n).setVBucket(1, mcbp.VBucketActive)
	require.NoError(t, n.Stop())
	require.NoError(t, n.Restart())
	require.NoError(t, n.CreateBucket(testBucket, 4))
	login(t, n)
	require.NoError(t, n.Close())
	require.ErrorIs(t, l.Close(), net.ErrClosed, "it is the node's to close")
}

func TestANodeThatCannotStartClosesItsListener(t *testing.T) {
	for name, opts := range map[string]kvnode.Options{
		"a listener too":    {Name: "n0", Addr: "127.0.0.1:1"},
		"is not a timeout":  {Name: "n0", IdleTimeout: -1},
		"not a directory":   {Name: "n0", Dir: "/dev/null"},
		"a node needs a na": {},
	} {
		l := loopback(t)
		opts.Listener = l
		_, err := kvnode.Start(opts)
		require.ErrorContains(t, err, name)
		require.ErrorIs(t, l.Close(), net.ErrClosed, name)
	}
}

// storm asks a node for anything that has to do with its disk, over connections that break whenever the node goes down.
func storm(t *testing.T, n *kvnode.Node, number uint64, stop <-chan struct{}) {
	rng := rand.New(rand.NewPCG(number, 0))
	name := func() []byte { return []byte(fmt.Sprint("bucket-", rng.IntN(3))) }
	for {
		c, err := dial(t, n)
		for err == nil {
			p := &mcbp.Packet{Opcode: mcbp.OpSelectBucket, Key: name()}
			switch rng.IntN(12) {
			case 0:
				p = &mcbp.Packet{Opcode: mcbp.OpCreateBucket, Key: name(), Value: []byte("ep.so\x00max_vbuckets=8")}
			case 1:
				p = &mcbp.Packet{Opcode: mcbp.OpDeleteBucket, Key: name()}
			case 2:
				p = &mcbp.Packet{Opcode: mcbp.OpDelVBucket, Value: []byte("async=0")}
			case 3, 4:
				p = &mcbp.Packet{Opcode: mcbp.OpSetVBucket, Extras: []byte{byte(1 + rng.IntN(4))}}
			case 5:
				p = &mcbp.Packet{Opcode: mcbp.OpSeqnoPersistence, Extras: []byte{0, 0, 0, 0, 0, 0, 0, byte(rng.IntN(9))}}
			case 6, 7, 8, 9:
				p = setPacket(0, fmt.Sprint(rng.IntN(5)), "v")
			}
			p.VBucket = uint16(rng.IntN(8))
			if _, err = c.socket.Write(p.Frame()); err == nil {
				_, err = c.tryRead()
			}
			select {
			case <-stop:
				c.socket.Close()
				return
			default:
			}
		}
		if c != nil {
			c.socket.Close()
		}
		select {
		case <-stop:
			return
		default:
		}
	}
}

// A node goes down and comes up whatever its clients are doing, and a bucket is there or is not.
func TestANodeGoesDownAndUpInAStorm(t *testing.T) {
	n, err := kvnode.Start(kvnode.Options{Name: "n0", Dir: t.TempDir(), DiskNoSync: true, PersistenceTimeout: 10 * time.Millisecond})
	require.NoError(t, err)
	stop := make(chan struct{})
	var clients sync.WaitGroup
	for i := range uint64(6) {
		clients.Go(func() { storm(t, n, i, stop) })
	}
	rates := []int64{0, 100 << 10, kvnode.DiskStalled}
	for i := range 20 {
		n.SetDiskRate(rates[i%len(rates)])
		c, err := dial(t, n)
		require.NoError(t, err)
		for range 50 { // meanwhile the others get something done
			c.ok(&mcbp.Packet{Opcode: mcbp.OpNoop})
		}
		c.socket.Close()
		if i%3 == 0 {
			require.NoError(t, n.Stop())
		} else {
			n.Kill()
		}
		require.NoError(t, n.Restart())
		n.SetDiskRate(0)
		if i%2 == 0 {
			require.NoError(t, n.Warm(t.Context()))
		}
	}
	close(stop)
	require.NoError(t, n.Close())
	clients.Wait()
}
