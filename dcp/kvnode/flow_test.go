package kvnode_test

import (
	"encoding/binary"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/shearpin/shearpin/dcp/kvnode"
	"github.com/shearpin/shearpin/dcp/mcbp"
)

// control makes one setting at a producer.
func (c *client) control(key, value string) {
	c.t.Helper()
	c.write(mcbp.Control{Key: key, Value: value}.Append(nil))
	require.Equal(c.t, mcbp.StatusSuccess, c.read().Status())
}

// quiet reports which stream messages come until the node answers a NOOP behind them.
func (c *client) untilQuiet() (messages []mcbp.Frame) {
	c.t.Helper()
	c.write((&mcbp.Packet{Opcode: mcbp.OpDCPNoop, Opaque: mcbp.Opaque{0xab}}).Frame())
	for {
		f := c.read()
		if f.Opcode() == mcbp.OpDCPNoop && f.IsResponse() {
			return messages
		}
		messages = append(messages, f)
	}
}

// The producer sends while less than the buffer is outstanding, so that one message may go over it, and not a byte more.
func TestAProducerStopsAtTheBuffer(t *testing.T) {
	n := startNode(t, "n0")
	admin := login(t, n)
	admin.setVBucket(1, mcbp.VBucketActive)
	for i := range 100 {
		admin.set(1, fmt.Sprintf("k%02d", i), strings.Repeat("x", 100))
	}
	const window = 44 + 5*(24+31+4+100) // a marker and five documents fill it exactly
	p := openDCP(t, n, kvnode.RoleProducer, testLink, "")
	p.control("connection_buffer_size", fmt.Sprint(window))
	p.control("send_stream_end_on_client_close_stream", "true")
	p.write(mcbp.StreamRequest{VBucket: 1, Opaque: mcbp.Opaque{1}, End: mcbp.EndSeqnoForever}.Append(nil))
	require.Equal(t, mcbp.StatusSuccess, p.read().Status())

	outstanding, received, exact := 0, 0, false
	for received < 100 {
		last := 0
		for outstanding < window && received < 100 {
			f := p.read()
			if f.Opcode() == mcbp.OpDCPMutation {
				received++
			}
			last = int(mcbp.FlowControlCost(f))
			require.Equal(t, len(f), last)
			outstanding += last
		}
		require.Less(t, outstanding-last, window)
		exact = exact || outstanding == window
		require.Empty(t, p.untilQuiet(), "nothing goes over a full buffer")
		p.write(mcbp.BufferAck{Bytes: uint32(outstanding)}.Append(nil))
		outstanding = 0
	}
	require.Empty(t, p.untilQuiet())

	require.True(t, exact)

	p.control("connection_buffer_size", "10")
	for i := range 5 {
		admin.set(1, fmt.Sprintf("k%02d", i), "x")
	}
	for seqno := uint64(0); seqno < 105; {
		f := p.read()
		require.Empty(t, p.untilQuiet(), "one message goes over a buffer that is free")
		if f.Opcode() == mcbp.OpDCPMutation {
			m, err := mcbp.ParseMutation(f)
			require.NoError(t, err)
			seqno = m.BySeqno
		}
		p.write(mcbp.BufferAck{Bytes: 10000}.Append(nil)) // more than is outstanding: it counts as all of it
	}
	p.control("connection_buffer_size", "0")
	for i := range 100 {
		admin.set(1, fmt.Sprintf("k%02d", i), "y")
	}
	last := mcbp.Frame(nil)
	for last == nil || string(last.Key()) != "\x00k99" {
		last = p.read()
	}
}

// Whatever mix of streams and closes: when all is quiet, every byte that the producer sent has been acknowledged, but for
// less than a fifth of the buffer, which follows after five seconds.
func TestEveryByteIsAcknowledged(t *testing.T) {
	t.Parallel() // it waits for a timer
	vbs := []uint16{1, 2, 3, 4}
	p := pairOf(t, vbs...)
	for _, vb := range vbs {
		p.r.open(vb, 0)
	}
	value := strings.Repeat("x", 60<<10)
	for i := range 40 {
		for _, vb := range vbs {
			p.a.set(vb, fmt.Sprintf("k%d", i), value)
		}
		if i == 20 {
			p.r.shutStream(2) // what was sent and is not wanted any more counts as well
			p.r.open(2, 0)
		}
	}
	for _, vb := range vbs {
		p.same(t, vb)
	}
	const buffer = 13421773
	count := func() (sent, acked int) {
		for _, s := range p.r.frames(0) {
			switch {
			case s.from == kvnode.RoleProducer:
				sent += int(mcbp.FlowControlCost(s.frame))
			case s.frame.Opcode() == mcbp.OpDCPBufferAck:
				acked += int(binary.BigEndian.Uint32(s.frame.Extras()))
			}
		}
		return sent, acked
	}
	sent, acked := count()
	require.Greater(t, acked, 2*buffer/5, "acknowledged while it went on")
	assert.LessOrEqual(t, sent-acked, buffer/5)
	eventually(t, "the rest after five seconds", func() bool {
		sent, acked = count()
		return sent == acked
	})
}

func TestNoops(t *testing.T) {
	n := startNode(t, "n0", func(o *kvnode.Options) { o.IdleTimeout = 300 * time.Millisecond })
	admin := login(t, n)
	admin.setVBucket(1, mcbp.VBucketActive)
	p := openDCP(t, n, kvnode.RoleProducer, testLink, "")
	p.control("enable_noop", "true")
	p.control("set_noop_interval", "0.001")
	p.write(mcbp.StreamRequest{VBucket: 1, Opaque: mcbp.Opaque{1}, End: mcbp.EndSeqnoForever}.Append(nil))
	require.Equal(t, mcbp.OpDCPStreamReq, p.read().Opcode(), "none before the first stream")
	for i := range 3 {
		f := p.read()
		require.Equal(t, mcbp.OpDCPNoop, f.Opcode())
		assert.Equal(t, mcbp.Opaque{0x81 + byte(i), 0x96, 0x98, 0}, f.Opaque(), "counted far from the streams")
		p.write(mcbp.Response(f, mcbp.StatusSuccess).Frame())
	}
	require.Equal(t, mcbp.OpDCPNoop, p.read().Opcode())
	assert.Empty(t, p.closed(), "no second NOOP while the first is unanswered, and the connection closes")
}

func TestAnAnswerToNoNoopClosesTheConnection(t *testing.T) {
	n := startNode(t, "n0")
	p := openDCP(t, n, kvnode.RoleProducer, testLink, "")
	p.write((&mcbp.Packet{Magic: mcbp.MagicResponse, Opcode: mcbp.OpDCPNoop, Opaque: mcbp.Opaque{1}}).Frame())
	p.closed()
}

// The producer that falls silent is given up, however long the consumer has had nothing to do.
func TestASilentProducerIsGivenUp(t *testing.T) {
	n := startNode(t, "n1", func(o *kvnode.Options) { o.IdleTimeout = 200 * time.Millisecond })
	login(t, n).setVBucket(7, mcbp.VBucketReplica)
	c := openDCP(t, n, kvnode.RoleConsumer, testLink, "")
	c.write(mcbp.AddStream{VBucket: 7, Opaque: mcbp.Opaque{0xff, 0, 1, 0xff}}.Append(nil))
	answerNegotiation(t, c)
	c.closed()
}
