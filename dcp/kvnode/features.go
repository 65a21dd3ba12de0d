package kvnode

import (
	"encoding/binary"

	"github.com/shearpin/shearpin/dcp/mcbp"
)

// featureSet is what a connection has negotiated with HELLO, one bit for each feature.
type featureSet uint64

func (s featureSet) has(f mcbp.Feature) bool { return f < 64 && s&(1<<f) != 0 }

func (s *featureSet) add(f mcbp.Feature) { *s |= 1 << f }

func (s *featureSet) remove(f mcbp.Feature) { *s &^= 1 << f }

// offered are the features that the node has. Features that change nothing for a client which does not use them, such as
// the extended error codes, count as had.
var offered = func() (s featureSet) {
	for _, f := range []mcbp.Feature{
		mcbp.FeatureMutationSeqno,
		mcbp.FeatureXattr,
		mcbp.FeatureXerror,
		mcbp.FeatureSelectBucket,
		mcbp.FeatureSnappy,
		mcbp.FeatureJSON,
		mcbp.FeatureDuplex,
		mcbp.FeatureAltRequest,
		mcbp.FeatureSyncReplication,
		mcbp.FeatureCollections,
		mcbp.FeatureClusterMapKnown,
		mcbp.FeatureDedupeNotMyVBucket,
		mcbp.FeatureClusterMapPushBrief,
	} {
		s.add(f)
	}
	return s
}()

// hello answers HELLO: the features of the list that the node has, in ascending order. They replace those of an earlier
// HELLO. To be told of new configurations a client must be willing to be asked at all; to say how durable a write is to be it must
// know requests that have a place for it.
func (c *conn) hello(f mcbp.Frame) {
	list := f.Value()
	if f.ExtrasLen() != 0 || len(list)%2 != 0 || f.KeyLen() > mcbp.MaxAgentNameLen {
		c.answer(f, mcbp.StatusInvalid)
		return
	}
	var wanted featureSet
	for ; len(list) > 0; list = list[2:] {
		if feature := mcbp.Feature(binary.BigEndian.Uint16(list)); offered.has(feature) {
			wanted.add(feature)
		}
	}
	if !wanted.has(mcbp.FeatureDuplex) {
		wanted.remove(mcbp.FeatureClusterMapPushBrief)
	}
	if !wanted.has(mcbp.FeatureAltRequest) {
		wanted.remove(mcbp.FeatureSyncReplication)
	}
	c.features = wanted
	p := mcbp.Response(f, mcbp.StatusSuccess)
	for feature := mcbp.Feature(0); feature < 64; feature++ {
		if wanted.has(feature) {
			p.Value = binary.BigEndian.AppendUint16(p.Value, uint16(feature))
		}
	}
	c.reply(p)
	c.announce()
}

// datatypes are the bits that this connection may send and receive.
func (s featureSet) datatypes() mcbp.Datatype {
	var d mcbp.Datatype
	if s.has(mcbp.FeatureJSON) {
		d |= mcbp.DatatypeJSON
	}
	if s.has(mcbp.FeatureSnappy) {
		d |= mcbp.DatatypeSnappy
	}
	if s.has(mcbp.FeatureXattr) {
		d |= mcbp.DatatypeXattr
	}
	return d
}
