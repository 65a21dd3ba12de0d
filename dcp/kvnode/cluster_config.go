package kvnode

import (
	"bytes"
	"encoding/binary"

	"github.com/shearpin/shearpin/dcp/mcbp"
)

// clusterConfig is the map that clients route by. The node keeps and hands out what it is given; it never looks inside.
type clusterConfig struct {
	epoch, revision int64
	json            []byte
}

// clusterConfigExtras is the length of an epoch and a revision.
const clusterConfigExtras = 16

// setClusterConfig answers SET_CLUSTER_CONFIG. A lower revision replaces a higher one, as in real engines: whoever
// publishes must see to it that revisions grow. An empty key sets the configuration of connections without a bucket.
func (c *conn) setClusterConfig(f mcbp.Frame) {
	if f.ExtrasLen() != clusterConfigExtras || len(f.Value()) == 0 {
		c.answer(f, mcbp.StatusInvalid)
		return
	}
	at, b := &c.node.config, (*bucket)(nil)
	if f.KeyLen() > 0 {
		if b = c.node.bucket(string(f.Key())); b == nil {
			c.answer(f, mcbp.StatusKeyNotFound)
			return
		}
		at = &b.config
	}
	config := &clusterConfig{
		epoch:    int64(binary.BigEndian.Uint64(f.Extras())),
		revision: int64(binary.BigEndian.Uint64(f.Extras()[8:])),
		json:     append([]byte(nil), f.Value()...),
	}
	if old := at.Swap(config); old == nil || !old.equal(config) {
		c.node.announce(b)
	}
	c.answer(f, mcbp.StatusSuccess)
}

// configOf is the configuration for clients that have selected a bucket, or none; nil if nobody has set one.
func (n *Node) configOf(b *bucket) *clusterConfig {
	if b == nil {
		return n.config.Load()
	}
	return b.config.Load()
}

// getClusterConfig answers GET_CLUSTER_CONFIG with the selected bucket's configuration, or the node's. The client may say
// which one it has; if that is not older, the answer is empty.
func (c *conn) getClusterConfig(f mcbp.Frame) {
	if n := f.ExtrasLen(); n != 0 && n != clusterConfigExtras {
		c.answer(f, mcbp.StatusInvalid)
		return
	}
	config := c.node.configOf(c.bucket.Load())
	if config == nil {
		c.answer(f, mcbp.StatusKeyNotFound)
		return
	}
	p := mcbp.Response(f, mcbp.StatusSuccess)
	if f.ExtrasLen() == 0 || config.newerThan(
		int64(binary.BigEndian.Uint64(f.Extras())), int64(binary.BigEndian.Uint64(f.Extras()[8:]))) {
		p.Value = config.json
		p.Datatype = mcbp.DatatypeJSON & c.features.datatypes()
	}
	c.sent = config
	c.reply(p)
}

func (g *clusterConfig) equal(other *clusterConfig) bool {
	return g.epoch == other.epoch && g.revision == other.revision && bytes.Equal(g.json, other.json)
}

func (g *clusterConfig) newerThan(epoch, revision int64) bool {
	return g.epoch > epoch || g.epoch == epoch && g.revision > revision
}

// attachConfig puts a configuration into an answer, unless the client has had this one and negotiated that it need not
// be told twice.
func (c *conn) attachConfig(p *mcbp.Packet, config *clusterConfig) {
	if config == nil || c.sent == config && c.features.has(mcbp.FeatureDedupeNotMyVBucket) {
		return
	}
	p.Value = config.json
	p.Datatype = mcbp.DatatypeJSON & c.features.datatypes()
	c.sent = config
}
