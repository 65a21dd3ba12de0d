package kvnode

import (
	"encoding/binary"
	"sync/atomic"

	"github.com/shearpin/shearpin/dcp/mcbp"
)

// opClusterMapChanged is what a node asks a client to take note of. It shares its number with a client's command.
const opClusterMapChanged mcbp.Opcode = 0x01

// announcements tell a client that has logged in and negotiated it that there is a new cluster configuration: its epoch and
// revision, so that the client fetches it if it is new to it. They have a goroutine of their own, because whoever sets the
// configuration must not wait for a client that does not read. Such a client is told of the newest when it reads again, and of no
// other.
type announcements struct {
	wanted atomic.Bool
	// running belongs to the reader: the goroutine has been started.
	running bool
	wake    chan struct{}
}

func newAnnouncements() announcements { return announcements{wake: make(chan struct{}, 1)} }

// announce begins or ends the announcements to a connection, by what is known of it now. Only the reader calls it.
func (c *conn) announce() {
	wanted := c.authenticated && c.features.has(mcbp.FeatureClusterMapPushBrief)
	c.news.wanted.Store(wanted)
	if wanted && !c.news.running {
		c.news.running = true
		c.node.wg.Go(c.announcer)
	}
}

// announce lets every client know that wants to, and has selected the bucket, that there is a new configuration. Those who have
// selected none hear of the node's own, for which b is nil. It waits for nobody.
func (n *Node) announce(b *bucket) {
	n.mu.Lock()
	defer n.mu.Unlock()
	for c := range n.conns {
		if !c.news.wanted.Load() || c.bucket.Load() != b {
			continue
		}
		select {
		case c.news.wake <- struct{}{}:
		default:
		}
	}
}

// announcer is the goroutine that has the announcements written, one at a time.
func (c *conn) announcer() {
	var told *clusterConfig
	for {
		select {
		case <-c.done:
			return
		case <-c.news.wake:
		}
		c.out.waitBelow(1)
		b := c.bucket.Load()
		config := c.node.configOf(b)
		if !c.news.wanted.Load() || config == nil || config == told {
			continue
		}
		told = config
		c.reply(announcement(b, config))
		if c.end() != nil {
			c.signal() // the pump writes
		} else {
			c.flush()
		}
	}
}

func announcement(b *bucket, config *clusterConfig) *mcbp.Packet {
	extras := binary.BigEndian.AppendUint64(nil, uint64(config.epoch))
	p := &mcbp.Packet{Magic: mcbp.MagicServerRequest, Opcode: opClusterMapChanged, Extras: extras}
	p.Extras = binary.BigEndian.AppendUint64(p.Extras, uint64(config.revision))
	if b != nil {
		p.Key = []byte(b.name)
	}
	return p
}
