package dcp

import (
	"maps"
	"sync"
	"time"

	"github.com/shearpin/shearpin/dcp/relay"
)

// hearing says when a link's peers were last heard. A relay notes the time of each read anyway; what is here keeps that of
// the relays before. One belongs to a link over all its restarts.
type hearing struct {
	mu     sync.Mutex
	relay  *relay.Relay
	before [2]time.Time
}

// listen goes over to the relay of a new incarnation.
func (h *hearing) listen(r *relay.Relay) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.before = h.lastLocked()
	h.relay = r
}

// last is by [relay.Side]; the zero time means never.
func (h *hearing) last() [2]time.Time {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.lastLocked()
}

func (h *hearing) lastLocked() [2]time.Time {
	last := h.before
	if h.relay != nil {
		stats := h.relay.Stats()
		last[relay.Consumer] = later(last[relay.Consumer], stats.FromConsumer.Last)
		last[relay.Producer] = later(last[relay.Producer], stats.FromProducer.Last)
	}
	return last
}

func later(a, b time.Time) time.Time {
	if b.After(a) {
		return b
	}
	return a
}

// status adds to the machine's knowledge what was heard.
func (p *managerProcess) status() Status {
	s := p.machine.status()
	s.Heard = map[string]time.Time{}
	for key, h := range p.heard {
		last := h.last()
		for side, node := range map[relay.Side]string{relay.Consumer: p.opts.Consumer, relay.Producer: key.producer} {
			if at := last[side]; at.After(s.Heard[node]) {
				s.Heard[node] = at
			}
		}
	}
	return s
}

// forgetUnheard drops what was heard, and counted, on links that are no more.
func (p *managerProcess) forgetUnheard() {
	gone := func(key linkKey) bool { return p.machine.links[key] == nil && p.running[key] == nil }
	maps.DeleteFunc(p.heard, func(key linkKey, _ *hearing) bool { return gone(key) })
	p.opts.metrics.forget(gone)
	p.opts.carriage.forget(gone)
}
