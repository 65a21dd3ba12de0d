package kvnode

import (
	"encoding/binary"
	"time"

	"github.com/shearpin/shearpin/dcp/mcbp"
)

// firstNoop starts the opaques of NOOPs far from those of streams, which count from 1.
const firstNoop = 10_000_000

// noopState is a producer's check that its peer still answers.
type noopState struct {
	// streamed is set by the first accepted STREAM_REQ; there are no NOOPs before.
	streamed bool
	counter  uint32
	// asked is when the unanswered NOOP was sent; zero if there is none.
	asked time.Time
}

// answered takes the answer to a NOOP. One that was not asked for is a protocol error.
func (n *noopState) answered(opaque mcbp.Opaque) error {
	if n.asked.IsZero() || opaque != hostOpaque(n.counter) {
		return errStrayAnswer
	}
	n.asked = time.Time{}
	return nil
}

// tick sends a NOOP when nothing was sent for an interval and the last one was answered, and gives up on a peer that owes
// an answer for too long.
func (p *producer) tick(now time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.dead || !p.settings.noop || !p.noop.streamed {
		return
	}
	if asked := p.noop.asked; !asked.IsZero() {
		if now.Sub(asked) > p.c.node.opts.IdleTimeout {
			p.c.node.log.Warn("noop_unanswered", "conn", p.name.Name)
			p.c.close()
		}
		return
	}
	if now.Sub(p.c.lastWrite()) < p.settings.noopInterval {
		return
	}
	p.noop.counter++
	p.noop.asked = now
	p.put((&mcbp.Packet{Opcode: mcbp.OpDCPNoop, Opaque: hostOpaque(p.noop.counter)}).Frame())
	p.c.signal()
}

// hostOpaque is a counter as engines write it: in the byte order of their host, which is little-endian on every machine
// that they run on.
func hostOpaque(counter uint32) (o mcbp.Opaque) {
	binary.LittleEndian.PutUint32(o[:], counter)
	return o
}
