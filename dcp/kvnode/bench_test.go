package kvnode_test

import (
	"fmt"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/shearpin/shearpin/dcp/kvnode"
	"github.com/shearpin/shearpin/dcp/mcbp"
)

// BenchmarkSets writes small documents over four connections with 32 requests in flight each, clients and node on the same
// processors. One operation is one document.
func BenchmarkSets(b *testing.B) { sets(b) }

func sets(b *testing.B, change ...func(*kvnode.Options)) {
	b.Helper()
	const connections, inFlight, vbuckets = 4, 32, 64
	n := startNode(b, "n0", change...)
	admin := login(b, n)
	for vb := range uint16(vbuckets) {
		admin.setVBucket(vb, mcbp.VBucketActive)
	}
	clients := make([]*client, connections)
	for i := range clients {
		clients[i] = login(b, n)
	}
	b.ResetTimer()
	var wg sync.WaitGroup
	for i, c := range clients {
		share := b.N / connections
		if i == 0 {
			share += b.N % connections
		}
		wg.Go(func() { pipeline(b, c, share, inFlight, vbuckets, i) })
	}
	wg.Wait()
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "sets/s")
}

// pipeline writes documents and reads their answers in batches.
func pipeline(b *testing.B, c *client, count, batch, vbuckets, worker int) {
	value := make([]byte, 256)
	var out []byte
	for done := 0; done < count; {
		k := min(batch, count-done)
		out = out[:0]
		for i := range k {
			document := (done + i) % 25_000
			p := setPacket(uint16(document%vbuckets), fmt.Sprintf("key-%d-%d", worker, document), "")
			p.Value = value
			out = p.Append(out)
		}
		c.write(out)
		for range k {
			if f, err := c.tryRead(); err != nil || f.Status() != mcbp.StatusSuccess {
				b.Errorf("set failed: %v %v", f, err)
				return
			}
		}
		done += k
	}
}

// roomy gives a node's bucket a quota that no benchmark fills.
func roomy(b *testing.B, n *kvnode.Node) {
	c := login(b, n)
	c.ok(&mcbp.Packet{Opcode: mcbp.OpDeleteBucket, Key: []byte(testBucket)})
	c.ok(&mcbp.Packet{Opcode: mcbp.OpCreateBucket, Key: []byte(testBucket), Value: []byte("ep.so\x00max_size=1099511627776")})
}

// BenchmarkReplication streams documents that are there already from one node to another, through a relay that looks at
// every frame. One operation is one document of 256 bytes.
func BenchmarkReplication(b *testing.B) { replication(b) }

func replication(b *testing.B, change ...func(*kvnode.Options)) {
	b.Helper()
	const vbuckets = 16
	n0, n1 := startNode(b, "n0", change...), startNode(b, "n1", change...)
	roomy(b, n0)
	roomy(b, n1)
	a0, a1 := login(b, n0), login(b, n1)
	for vb := range uint16(vbuckets) {
		a0.setVBucket(vb, mcbp.VBucketActive)
		a1.setVBucket(vb, mcbp.VBucketReplica)
	}
	value := string(make([]byte, 256))
	for i := range b.N {
		a0.write(setPacket(uint16(i%vbuckets), fmt.Sprintf("key-%d", i), value).Frame())
		require.Equal(b, mcbp.StatusSuccess, a0.read().Status())
	}
	r := join(b, n0, n1, testLink)
	b.ResetTimer()
	for vb := range uint16(vbuckets) {
		r.add(vb, 0)
	}
	for vb := range uint16(min(vbuckets, b.N)) {
		want := uint64((b.N + vbuckets - 1 - int(vb)) / vbuckets)
		eventually(b, "replicated", func() bool { return statUint(b, a1, "vbucket-seqno", vb, "high_seqno") == want })
	}
}
