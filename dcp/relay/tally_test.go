package relay_test

import (
	"net"
	"testing"

	"github.com/stretchr/testify/assert"

	"github.com/shearpin/shearpin/dcp/mcbp"
	"github.com/shearpin/shearpin/dcp/relay"
)

// Short frames and long ones, those that the kernel moves included: the sum is what the producer has sent about the vbuckets.
func TestBytesOfAVBucketAreAddedUp(t *testing.T) {
	for name, dial := range map[string]func(testing.TB) (near, far net.Conn){"pipe": pipe, "tcp": tcp} {
		t.Run(name, func(t *testing.T) {
			g := start(t, dial, relay.Config{})
			send := func(from relay.Side, frames ...mcbp.Frame) {
				g.writeAsync(from, join(frames...))
				g.read(from.Other(), len(join(frames...)))
			}
			send(relay.Producer, mutation(1, 1, 1))
			assert.Zero(t, g.relay.Tallied(), "not asked for")
			g.relay.Tally([]uint16{1, 64, 65535})
			ours := []mcbp.Frame{
				mutation(1, 1, 1), mutation(64, 1, 1000), mutation(65535, 1, 200_000), mutation(1, 2, 300_000), mutation(1, 3, 5),
			}
			response := (&mcbp.Packet{Magic: mcbp.MagicResponse, Opcode: mcbp.OpDCPMutation, Status: 1}).Frame()
			vbNoop := (&mcbp.Packet{Opcode: mcbp.OpDCPNoop, VBucket: 1}).Frame()
			send(relay.Producer, append([]mcbp.Frame{mutation(2, 1, 1), mutation(65, 1, 100_000), response, vbNoop, noop(0)}, ours...)...)
			total := uint64(len(join(ours...)))
			assert.Equal(t, total, g.relay.Tallied())
			send(relay.Consumer, mutation(1, 1, 1))
			assert.Equal(t, total, g.relay.Tallied(), "the consumer's do not count")

			g.relay.Tally([]uint16{2})
			send(relay.Producer, mutation(1, 1, 1), mutation(2, 1, 1), mutation(65535, 1, 1))
			total += uint64(len(mutation(2, 1, 1)))
			assert.Equal(t, total, g.relay.Tallied(), "it goes on with another set")
			g.relay.Tally(nil)
			send(relay.Producer, mutation(1, 1, 1), mutation(2, 1, 1))
			assert.Equal(t, total, g.relay.Tallied())
		})
	}
}
