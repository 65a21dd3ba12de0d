package kvnode_test

import (
	"bytes"
	"encoding/hex"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/shearpin/shearpin/dcp/kvnode"
	"github.com/shearpin/shearpin/dcp/kvnode/fault"
	"github.com/shearpin/shearpin/dcp/mcbp"
)

// consumerReplay plays a recording's manager towards a node, which must say what the recorded consumer said, byte by byte
// and in the same order.
type consumerReplay struct {
	t     testing.TB
	admin *client
	c     *client
	// uuids are what the node has drawn in the place of the recorded engine's own.
	uuids map[string][]byte
	// pending is what the manager says before the consumer is heard again.
	pending []mcbp.Frame
	// asked says that the consumer has asked its producer for something.
	asked bool
}

func TestConsumerSaysWhatTheRecordedOneSaid(t *testing.T) {
	for _, name := range []string{"add-three", "refused", "close", "close-while-adding", "takeover", "rollback", "end-active"} {
		for _, version := range []kvnode.Version{kvnode.Version80, kvnode.Version72} {
			t.Run(version.String()+"-"+name, func(t *testing.T) {
				n := startNode(t, "n_B@127.0.0.1", func(o *kvnode.Options) { o.Version = version })
				replayConsumer(t, n, version.String()+"-"+name)
			})
		}
	}
}

// In the recording of the STREAM_END that comes first the consumer never answers. The node would, but for the fault.
func TestFaultyConsumerSaysWhatTheRecordedOneSaid(t *testing.T) {
	plan := fault.New(fault.Options{Kind: fault.EarlyStreamEnd, VB: 35})
	n := startNode(t, "n_B@127.0.0.1", func(o *kvnode.Options) { o.Hooks = plan.For("n_B@127.0.0.1") })
	plan.Arm()
	replayConsumer(t, n, "8.0-end-before-answer")
}

func replayConsumer(t *testing.T, n *kvnode.Node, name string) {
	t.Helper()
	r := &consumerReplay{t: t, admin: login(t, n), uuids: map[string][]byte{}}
	lines := readTranscript(t, name)
	for _, l := range lines {
		if l.to == 'C' && l.frame.Opcode() == mcbp.OpDCPAddStream {
			r.admin.setVBucket(l.frame.VBucket(), mcbp.VBucketReplica)
		}
	}
	if strings.HasSuffix(name, "refused") {
		r.admin.ok(&mcbp.Packet{Opcode: mcbp.OpDelVBucket, VBucket: 901})
		r.admin.setVBucket(33, mcbp.VBucketActive)
	}
	var crowd *client
	for _, l := range lines { // half the buffer, or the least of an older engine: there was another consumer at first
		if crowd == nil && l.from == 'C' && (isBuffer(l.frame, "6710886") || isBuffer(l.frame, "10485760")) {
			crowd = openDCP(t, n, kvnode.RoleConsumer, "replication:other", "")
		}
	}
	r.c = connect(t, n)
	for _, l := range lines {
		if vb, state, ok := l.stateChange(t, "consumer"); ok {
			r.say()
			r.settled()
			r.admin.setVBucket(vb, state)
		}
		if strings.HasPrefix(l.comment, "replica was active for a while") {
			r.say()
			r.settled()
			r.diverge(45, 4)
		}
		switch {
		case l.frame == nil || l.frame.Opcode() == mcbp.OpDCPNoop:
			// The recorded consumer answers a NOOP before or after what it is doing, as it comes.
		case l.to == 'C':
			r.pending = append(r.pending, l.frame)
		case l.from == 'C' && l.frame.Opcode() == mcbp.OpDCPBufferAck:
			return // after five quiet seconds; what follows are NOOPs
		case l.from == 'C':
			if crowd != nil && (isBuffer(l.frame, "13421773") || isBuffer(l.frame, "13421772")) {
				crowd.socket.Close()
				crowd = nil
				eventually(t, "the other consumer is gone", func() bool {
					pairs, _ := r.admin.stats("dcp")
					return pairs["eq_dcpq:replication:other:type"] == ""
				})
				if len(r.pending) == 0 && strings.HasPrefix(name, kvnode.Version72.String()) {
					r.settled() // an older engine says it when it hears something
				}
			}
			if first := l.frame.Opcode() == mcbp.OpGetErrorMap || l.frame.Opcode() == mcbp.OpDCPControl; first && !r.asked {
				r.asked = true
				r.sayFirst(int(l.frame.Opaque()[0]) - 1)
			} else {
				r.say()
			}
			r.expect(l.frame)
		}
	}
	r.say()
	r.silent()
}

func isBuffer(f mcbp.Frame, size string) bool {
	return !f.IsResponse() && f.Opcode() == mcbp.OpDCPControl && string(f.Key()) == "connection_buffer_size" &&
		string(f.Value()) == size
}

func (r *consumerReplay) say() { r.sayFirst(len(r.pending)) }

// sayFirst writes some of what is pending, in one piece. Recorded consumers read one or all of the first ADD_STREAMs before
// they went on, which shows in the numbers of their opaques.
func (r *consumerReplay) sayFirst(n int) {
	if n > 0 {
		r.c.write(bytes.Join(raw(r.pending[:n]), nil))
		r.pending = r.pending[n:]
	}
}

func raw(frames []mcbp.Frame) [][]byte {
	list := make([][]byte, len(frames))
	for i, f := range frames {
		list[i] = f
	}
	return list
}

func (r *consumerReplay) expect(want mcbp.Frame) {
	r.t.Helper()
	got := r.c.read()
	require.Equal(r.t, want.Opcode(), got.Opcode(), "%v instead of %v", got, want)
	if want.Opcode() == mcbp.OpDCPStreamReq {
		want = r.ownUUID(want, got)
	}
	require.Equal(r.t, hex.EncodeToString(want), hex.EncodeToString(got), "%v", want)
}

// ownUUID puts the node's UUID in the place of the recorded engine's, if it is one that the engine drew itself: those that
// the producer has sent must come back unchanged.
func (r *consumerReplay) ownUUID(want, got mcbp.Frame) mcbp.Frame {
	const at, end = mcbp.HeaderLen + 24, mcbp.HeaderLen + 32
	if mine, ok := r.uuids[string(want[at:end])]; ok {
		want = bytes.Clone(want)
		copy(want[at:end], mine)
		require.Equal(r.t, want[at:end], got[at:end])
	}
	return want
}

// settled waits until the node has acted on everything that was said: it answers in order.
func (r *consumerReplay) settled() {
	r.t.Helper()
	probe := (&mcbp.Packet{Opcode: mcbp.OpDCPNoop, Opaque: mcbp.Opaque{0xab, 0xcd}}).Frame()
	r.c.write(probe)
	f := r.c.read()
	require.Equal(r.t, mcbp.OpDCPNoop, f.Opcode(), "unexpected %v", f)
	require.Equal(r.t, probe.Opaque(), f.Opaque())
}

// silent checks that the node has nothing more to say.
func (r *consumerReplay) silent() {
	r.t.Helper()
	r.settled()
}

// diverge makes the replica active, writes, and makes it a replica again: it has a history of its own then.
func (r *consumerReplay) diverge(vb uint16, writes int) {
	r.t.Helper()
	r.admin.setVBucket(vb, mcbp.VBucketActive)
	for range writes {
		r.admin.set(vb, "own-"+r.admin.stat("vbucket-seqno", vb, "high_seqno"), "x")
	}
	r.admin.setVBucket(vb, mcbp.VBucketReplica)
	log := r.admin.ok(&mcbp.Packet{Opcode: mcbp.OpGetFailoverLog, VBucket: vb}).Value()
	for _, recorded := range []string{"\x00\x00\x97\x71\x22\x58\xc3\x00", "\x00\x00\xce\x6a\xa7\x4e\xc6\x70"} {
		r.uuids[recorded] = bytes.Clone(log[:8])
	}
}
