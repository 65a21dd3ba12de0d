package kv_test

import (
	"encoding/binary"
	"net"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/shearpin/shearpin/dcp/kv"
	"github.com/shearpin/shearpin/dcp/mcbp"
)

// grants answers HELLO with features, whatever was asked for.
func grants(features ...mcbp.Feature) reply {
	var list []byte
	for _, f := range features {
		list = binary.BigEndian.AppendUint16(list, uint16(f))
	}
	return value(list)
}

// s0d to s0f of the reference's traces: any feature but Snappy that is missing is an error, and it names them all.
func TestRefusedFeaturesAreNamedAllOfThem(t *testing.T) {
	for _, c := range []struct {
		granted []mcbp.Feature
		missing []mcbp.Feature
		text    string
	}{
		{nil, []mcbp.Feature{mcbp.FeatureXattr, mcbp.FeatureCollections, mcbp.FeatureJSON}, "features refused: xattr (0x06), collections (0x12), json (0x0b)"},
		{[]mcbp.Feature{mcbp.FeatureSnappy}, []mcbp.Feature{mcbp.FeatureXattr, mcbp.FeatureCollections, mcbp.FeatureJSON}, "xattr (0x06), collections (0x12), json (0x0b)"},
		{[]mcbp.Feature{mcbp.FeatureJSON, mcbp.FeatureSnappy}, []mcbp.Feature{mcbp.FeatureXattr, mcbp.FeatureCollections}, "xattr (0x06), collections (0x12)"},
		{[]mcbp.Feature{mcbp.FeatureJSON, mcbp.FeatureXattr}, []mcbp.Feature{mcbp.FeatureCollections}, "collections (0x12)"},
		{[]mcbp.Feature{0x0600, 0x1200, 0x0b00}, []mcbp.Feature{mcbp.FeatureXattr, mcbp.FeatureCollections, mcbp.FeatureJSON}, "xattr"},
	} {
		s := newServer(t)
		s.on(mcbp.OpHello, grants(c.granted...))
		_, err := kv.OpenDCP(t.Context(), s.endpoint(), consumerOpen)
		assert.Equal(t, kv.StepHello, step(t, err))
		var refused *kv.FeatureError
		require.ErrorAs(t, err, &refused)
		assert.Equal(t, c.missing, refused.Missing)
		assert.ErrorContains(t, err, c.text)
		assert.Equal(t, mcbp.OpHello, s.last().Opcode(), "it is not opened")
	}
}

// Engines list what they grant in an order of their own; more than was asked for, or the same twice, changes nothing.
func TestFeaturesAreComparedAsSets(t *testing.T) {
	for _, granted := range [][]mcbp.Feature{
		{mcbp.FeatureXattr, mcbp.FeatureSnappy, mcbp.FeatureJSON, mcbp.FeatureCollections},
		{mcbp.FeatureCollections, mcbp.FeatureJSON, mcbp.FeatureXattr},
		{mcbp.FeatureCollections, mcbp.FeatureDuplex, mcbp.FeatureJSON, mcbp.FeatureXattr, 0xffff},
		{mcbp.FeatureJSON, mcbp.FeatureJSON, mcbp.FeatureXattr, mcbp.FeatureCollections, mcbp.FeatureXattr},
	} {
		s := newServer(t)
		s.on(mcbp.OpHello, grants(granted...))
		conn, err := kv.OpenDCP(t.Context(), s.endpoint(), consumerOpen)
		require.NoError(t, err)
		require.NoError(t, conn.Close())
	}
}

func TestAFeatureListOfOddLengthIsOutOfStep(t *testing.T) {
	for _, list := range [][]byte{{0}, {0, 6, 0, 0x12, 0, 0x0b, 0}} {
		s := newServer(t)
		s.on(mcbp.OpHello, value(list))
		_, err := kv.OpenDCP(t.Context(), s.endpoint(), consumerOpen)
		assert.Equal(t, kv.StepHello, step(t, err))
		isProtocol(t, err)
	}
}

// Only JSON is needed for commands; older engines know less than we ask for.
func TestACommandConnectionNeedsJSONOnly(t *testing.T) {
	s := newServer(t)
	s.on(mcbp.OpHello, grants(mcbp.FeatureJSON))
	s.connect()
	s.on(mcbp.OpHello, grants(mcbp.FeatureMutationSeqno, mcbp.FeatureXerror, mcbp.FeatureSelectBucket))
	_, err := kv.Connect(t.Context(), s.endpoint(), "orders")
	var refused *kv.FeatureError
	require.ErrorAs(t, err, &refused)
	assert.Equal(t, []mcbp.Feature{mcbp.FeatureJSON}, refused.Missing)
}

// What both ends of a replication speak must be the same: the caller is told what was granted, and may ask for less.
func TestNegotiateDCPTellsWhatWasGrantedAndAsksForNoMoreThanItMay(t *testing.T) {
	for _, c := range []struct {
		without bool
		granted []mcbp.Feature
		snappy  bool
	}{
		{false, []mcbp.Feature{mcbp.FeatureXattr, mcbp.FeatureSnappy, mcbp.FeatureJSON, mcbp.FeatureCollections}, true},
		{false, []mcbp.Feature{mcbp.FeatureXattr, mcbp.FeatureJSON, mcbp.FeatureCollections}, false},
		{true, []mcbp.Feature{mcbp.FeatureXattr, mcbp.FeatureJSON, mcbp.FeatureCollections}, false},
		{true, []mcbp.Feature{mcbp.FeatureXattr, mcbp.FeatureSnappy, mcbp.FeatureJSON, mcbp.FeatureCollections}, false},
	} {
		s := newServer(t)
		var asked []string
		s.on(mcbp.OpHello, func(conn net.Conn, request mcbp.Frame) [][]byte {
			asked = features(request)
			return grants(c.granted...)(conn, request)
		})
		open := producerOpen
		open.WithoutSnappy = c.without
		conn, granted, err := kv.NegotiateDCP(t.Context(), s.endpoint(), open)
		require.NoError(t, err)
		require.NoError(t, conn.Close())
		assert.Equal(t, c.snappy, granted.Snappy)
		want := []string{"0006", "0012", "000a", "000b"}
		if c.without {
			want = []string{"0006", "0012", "000b"}
		}
		assert.Equal(t, want, asked)
	}
}
