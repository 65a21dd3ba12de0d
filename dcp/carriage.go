package dcp

import (
	"maps"
	"slices"
	"sync"

	"github.com/shearpin/shearpin/dcp/relay"
)

// carriage adds up what the streams of some vbuckets make the links of a manager carry. It outlives the links and the
// manager's process. It is read without asking anybody, so a peer that hangs holds up nobody who wants to know.
type carriage struct {
	mu     sync.Mutex
	vbs    []uint16
	relays map[linkKey]*relay.Relay // of the latest incarnations
	before uint64                   // what the others have carried
}

func newCarriage() *carriage { return &carriage{relays: map[linkKey]*relay.Relay{}} }

// listen goes over to the relay of a link's new incarnation.
func (c *carriage) listen(key linkKey, r *relay.Relay) {
	if c == nil {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if last := c.relays[key]; last != nil {
		c.before += last.Tallied()
	}
	c.relays[key] = r
	r.Tally(c.vbs)
}

// forget drops the relays of links that are no more.
func (c *carriage) forget(gone func(linkKey) bool) {
	if c == nil {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	maps.DeleteFunc(c.relays, func(key linkKey, r *relay.Relay) bool {
		if !gone(key) {
			return false
		}
		c.before += r.Tallied()
		return true
	})
}

func (c *carriage) count(vbs []uint16) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.vbs = slices.Clone(vbs)
	for _, r := range c.relays {
		r.Tally(c.vbs)
	}
}

func (c *carriage) carried() uint64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	total := c.before
	for _, r := range c.relays {
		total += r.Tallied()
	}
	return total
}

// Count replaces the set of vbuckets of which [Manager.Carried] adds up the bytes; an empty set makes that free. It waits for
// nobody.
func (m *Manager) Count(vbs []uint16) { m.opts.carriage.count(vbs) }

// Carried is how many bytes the producers have sent over the links of this manager about vbuckets while they were in the set
// of [Manager.Count], over all restarts. It never falls, and waits for nobody.
func (m *Manager) Carried() uint64 { return m.opts.carriage.carried() }
