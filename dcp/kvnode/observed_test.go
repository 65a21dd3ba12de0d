package kvnode_test

import (
	"fmt"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/shearpin/shearpin/dcp/kvnode"
	"github.com/shearpin/shearpin/dcp/mcbp"
)

func olderEngine(o *kvnode.Options) { o.Version = kvnode.Version72 }

// A producer whose consumer acknowledges nothing still asks whether it is there, and loses nothing.
func TestAFullBufferStopsNoNoops(t *testing.T) {
	n := startNode(t, "n0")
	admin := login(t, n)
	admin.setVBucket(1, mcbp.VBucketActive)
	p := openDCP(t, n, kvnode.RoleProducer, testLink, "")
	p.control("enable_noop", "true")
	p.control("set_noop_interval", "0.001")
	p.control("connection_buffer_size", "44") // the first marker fills it
	p.write(mcbp.StreamRequest{VBucket: 1, Opaque: mcbp.Opaque{1}, End: mcbp.EndSeqnoForever}.Append(nil))
	require.Equal(t, mcbp.OpDCPStreamReq, p.read().Opcode())
	admin.set(1, "k", "v")
	seen := map[mcbp.Opcode]int{}
	for seen[mcbp.OpDCPNoop] < 5 {
		f := p.read()
		seen[f.Opcode()]++
		if f.Opcode() == mcbp.OpDCPNoop {
			p.write(mcbp.Response(f, mcbp.StatusSuccess).Frame())
		}
	}
	assert.LessOrEqual(t, seen[mcbp.OpDCPSnapshotMarker], 1)
	assert.Zero(t, seen[mcbp.OpDCPMutation])
	p.write(mcbp.BufferAck{Bytes: 44}.Append(nil))
	for f := p.read(); f.Opcode() != mcbp.OpDCPMutation; f = p.read() {
		if f.Opcode() == mcbp.OpDCPNoop {
			p.write(mcbp.Response(f, mcbp.StatusSuccess).Frame())
		}
	}
}

// The opaque of an acknowledgement is the next of the consumer's sequence.
func TestBufferAcksCountOn(t *testing.T) {
	n := startNode(t, "n1")
	login(t, n).setVBucket(7, mcbp.VBucketReplica)
	c := openDCP(t, n, kvnode.RoleConsumer, testLink, "")
	c.write(mcbp.AddStream{VBucket: 7, Opaque: mcbp.Opaque{0xff, 0, 1, 0xff}}.Append(nil))
	r := answerNegotiation(t, c)
	c.write(mcbp.StreamRequestAnswer{Opaque: r.Opaque(), Log: []mcbp.FailoverEntry{{UUID: 1}}}.Append(nil))
	c.agreeUntil(mcbp.OpDCPAddStream)
	c.write(mcbp.SnapshotMarker{VBucket: 7, Opaque: r.Opaque(), End: 10, Flags: mcbp.SnapshotMemory}.Append(nil))
	value := make([]byte, 3<<20) // more than a fifth of the buffer
	for i := range uint64(2) {
		m := mcbp.Mutation{VBucket: 7, Opaque: r.Opaque(), BySeqno: i + 1, RevSeqno: 1, Key: fmt.Append(nil, "\x00", i), Value: value}
		c.write(m.Append(nil))
		ack, err := mcbp.ParseBufferAck(c.read())
		require.NoError(t, err)
		assert.Equal(t, mcbp.Opaque{0x10 + byte(i)}, ack.Opaque, "1 is the stream, 2 to 0x0f are settings")
	}
}

func TestTheOlderEngineHasItsOwnWordForNoConnection(t *testing.T) {
	c := login(t, startNode(t, "n0", olderEngine))
	c.setVBucket(7, mcbp.VBucketActive)
	assert.Equal(t, "does_not_exist 0 0 0", c.progress("nobody"))
}

// A vbucket goes from either version to the other, and back.
func TestVersionsMix(t *testing.T) {
	older, newer := startNode(t, "n0", olderEngine), startNode(t, "n1")
	a, b := login(t, older), login(t, newer)
	a.setVBucket(7, mcbp.VBucketActive)
	b.setVBucket(7, mcbp.VBucketReplica)
	a.set(7, "k", "v")
	for i := range 2 {
		r := join(t, older, newer, fmt.Sprintf("replication:%d", i))
		r.open(7, 0)
		r.shutStream(7)
		a.set(7, "tail", fmt.Sprint(i))
		r.open(7, mcbp.StreamFlagTakeover)
		eventually(t, "taken over", func() bool {
			return a.stat("vbucket", 7, "") == "dead" && b.stat("vbucket", 7, "") == "active"
		})
		assert.Equal(t, fmt.Sprint(i), string(b.get(7, "tail").Value()))
		a.setVBucket(7, mcbp.VBucketReplica)
		older, newer, a, b = newer, older, b, a
	}
}
