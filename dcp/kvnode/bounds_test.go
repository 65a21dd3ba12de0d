package kvnode

import (
	"io"
	"net"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/shearpin/shearpin/dcp/mcbp"
)

// endOf opens one end of a replication in a node with a bucket of 4 vbuckets, and gives the socket and the node's view of it.
func endOf(t *testing.T, flags uint32, state mcbp.VBucketState) (net.Conn, dcpEnd) {
	t.Helper()
	n, _ := startInside(t, state)
	socket := say(t, n, mcbp.Open{Name: "x", Flags: flags}.Append(nil))
	_, err := io.ReadFull(socket, make([]byte, 2*mcbp.HeaderLen))
	require.NoError(t, err)
	return socket, n.dcpConns()[0].end()
}

// sendAll writes the frames and reads until the last one, a NOOP under its own opaque, is answered. It counts the answers of
// an opcode by status.
func sendAll(t *testing.T, socket net.Conn, out []byte, op mcbp.Opcode) map[mcbp.Status]int {
	t.Helper()
	last := mcbp.Opaque{0xab, 1, 2, 3}
	out = (&mcbp.Packet{Opcode: mcbp.OpDCPNoop, Opaque: last}).Append(out)
	written := make(chan error, 1)
	go func() { _, err := socket.Write(out); written <- err }()
	answers := map[mcbp.Status]int{}
	for r := newFrameReader(socket); ; {
		f := nextFrame(t, r)
		switch {
		case f.IsResponse() && f.Opaque() == last:
			require.NoError(t, <-written)
			return answers
		case f.IsResponse() && f.Opcode() == op:
			answers[f.Status()]++
		}
	}
}

// A peer that opens and closes streams and never takes what they say does not fill the node with their ends.
func TestStreamsThatCannotEndAreBounded(t *testing.T) {
	socket, end := endOf(t, mcbp.OpenFlagProducer, mcbp.VBucketActive)
	out := mcbp.Control{Key: "connection_buffer_size", Value: "1"}.Append(nil)
	out = mcbp.Control{Key: "send_stream_end_on_client_close_stream", Value: "true"}.Append(out)
	const rounds = 1000
	for range rounds {
		out = mcbp.StreamRequest{VBucket: 1, End: mcbp.EndSeqnoForever}.Append(out)
		out = mcbp.CloseStream{VBucket: 1}.Append(out)
	}
	answers := sendAll(t, socket, out, mcbp.OpDCPStreamReq)
	assert.Equal(t, rounds, answers[mcbp.StatusSuccess]+answers[mcbp.StatusTemporaryFailure])
	assert.Positive(t, answers[mcbp.StatusTemporaryFailure])
	assert.LessOrEqual(t, end.(*producer).ready.len(), 20)
}

// A manager that adds and closes streams of a producer that answers nothing does not fill the node with their requests.
func TestRequestsThatNobodyAnswersAreBounded(t *testing.T) {
	socket, end := endOf(t, 0, mcbp.VBucketReplica)
	c := end.(*consumer)
	c.mu.Lock()
	c.negotiation = negotiation{started: true, finishedOnce: true}
	c.mu.Unlock()
	r := newFrameReader(socket)
	for range 200 {
		for _, out := range [][]byte{mcbp.AddStream{VBucket: 1}.Append(nil), mcbp.CloseStream{VBucket: 1}.Append(nil)} {
			_, err := socket.Write(out)
			require.NoError(t, err)
			f := nextFrame(t, r)
			if f.IsResponse() {
				require.Equal(t, mcbp.StatusSuccess, f.Status())
			} else {
				require.Equal(t, mcbp.OpDCPStreamReq, f.Opcode())
			}
		}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	assert.LessOrEqual(t, len(c.requests), 4)
}

// again acts on each GET many times over, and notes how much waits to be written at most.
type again struct {
	times, most int
	session     *Session
}

func (a *again) Accepted(s *Session) Tap { a.session = s; return a }

func (a *again) Disk(DiskOp, <-chan struct{}) {}

func (a *again) Receive(f mcbp.Frame) error {
	times := 1
	if f.Opcode() == mcbp.OpGet {
		times = a.times
	}
	for range times {
		if err := a.session.Act(f); err != nil {
			return err
		}
		a.most = max(a.most, a.session.c.out.len())
	}
	return nil
}

func (a *again) Send(frames []byte) error { return a.session.Write(frames) }

func (a *again) Closed() {}

// What a fault makes of one frame does not fill the node with answers.
func TestAnswersToAFrameThatIsRepeatedAreBounded(t *testing.T) {
	const times, size = 300, 64 << 10
	faults := &again{times: times}
	n, _ := startInside(t, mcbp.VBucketActive, func(o *Options) { o.Faults = faults })
	r := newFrameReader(say(t, n,
		(&mcbp.Packet{Opcode: mcbp.OpSet, VBucket: 1, Extras: make([]byte, 8), Key: []byte("k"), Value: make([]byte, size)}).Frame(),
		(&mcbp.Packet{Opcode: mcbp.OpGet, VBucket: 1, Key: []byte("k")}).Frame(),
	))
	require.Equal(t, mcbp.OpSelectBucket, nextFrame(t, r).Opcode())
	require.Equal(t, mcbp.StatusSuccess, nextFrame(t, r).Status())
	for range times {
		require.Len(t, nextFrame(t, r).Value(), size)
	}
	require.NoError(t, n.Stop())
	assert.Less(t, faults.most, outboxLimit+size+100)
	assert.Greater(t, faults.most, size)
}
