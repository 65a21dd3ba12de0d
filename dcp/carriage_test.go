package dcp

import (
	"context"
	"io"
	"net"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/shearpin/shearpin/dcp/mcbp"
	"github.com/shearpin/shearpin/dcp/relay"
)

// runRelay is a relay and what sends frames through it, from the producer.
func runRelay(t *testing.T) (r *relay.Relay, send func(vb uint16) (bytes uint64)) {
	consumer, atConsumer := net.Pipe()
	producer, atProducer := net.Pipe()
	r = relay.New(relay.Config{Consumer: consumer, Producer: producer})
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- r.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		_, _ = atConsumer.Close(), atProducer.Close()
		assert.Error(t, <-ended)
	})
	return r, func(vb uint16) uint64 {
		frame := (&mcbp.Packet{Opcode: mcbp.OpDCPMutation, VBucket: vb, Extras: make([]byte, 31), Key: []byte("key")}).Frame()
		go func() { _, _ = atProducer.Write(frame) }()
		_, err := io.ReadFull(atConsumer, make([]byte, len(frame)))
		require.NoError(t, err)
		return uint64(len(frame))
	}
}

// What was carried outlives restarts, and the links.
func TestWhatWasCarriedIsNeverForgotten(t *testing.T) {
	c := newCarriage()
	a, b := linkKey{"n0", 0}, linkKey{"n1", 0}
	first, send := runRelay(t)
	c.listen(a, first)
	send(7)
	assert.Zero(t, c.carried(), "nobody has asked")
	c.count([]uint16{7, 9})
	total := send(7) + send(9)
	send(8)
	assert.Equal(t, total, c.carried())

	second, send := runRelay(t)
	c.listen(a, second)
	assert.Equal(t, total, c.carried(), "the link was restarted")
	total += send(9)
	other, sendOther := runRelay(t)
	c.listen(b, other)
	total += sendOther(7)
	assert.Equal(t, total, c.carried())

	c.forget(func(key linkKey) bool { return key == a })
	assert.Equal(t, total, c.carried(), "the link is no more")
	c.count(nil)
	sendOther(7)
	assert.Equal(t, total, c.carried())
	(*carriage)(nil).listen(a, first)
	(*carriage)(nil).forget(nil)
}
