package kvnode_test

import (
	"bytes"
	"encoding/binary"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/shearpin/shearpin/dcp/mcbp"
)

func withCAS(p *mcbp.Packet, cas uint64) *mcbp.Packet {
	p.CAS = cas
	return p
}

func deletePacket(vb uint16, key string) *mcbp.Packet {
	return &mcbp.Packet{Opcode: mcbp.OpDelete, VBucket: vb, Key: []byte(key)}
}

func TestDocumentCommandsAndTheirConditions(t *testing.T) {
	c := login(t, startNode(t, "n0"))
	c.setVBucket(1, mcbp.VBucketActive)
	as := func(op mcbp.Opcode, key, value string) *mcbp.Packet {
		p := setPacket(1, key, value)
		p.Opcode = op
		return p
	}
	refused := func(status mcbp.Status, p *mcbp.Packet) {
		t.Helper()
		f := c.do(p)
		assert.Equal(t, status, f.Status(), "%v", p.Opcode)
		assert.Zero(t, f.CAS())
	}

	refused(mcbp.StatusKeyNotFound, &mcbp.Packet{Opcode: mcbp.OpGet, VBucket: 1, Key: []byte("k")})
	refused(mcbp.StatusKeyNotFound, as(mcbp.OpReplace, "k", "v"))
	refused(mcbp.StatusKeyNotFound, deletePacket(1, "k"))
	refused(mcbp.StatusKeyNotFound, withCAS(as(mcbp.OpSet, "k", "v"), 77))

	first := c.ok(as(mcbp.OpAdd, "k", "1"))
	require.NotZero(t, first.CAS())
	refused(mcbp.StatusKeyExists, as(mcbp.OpAdd, "k", "2"))
	second := c.ok(withCAS(as(mcbp.OpSet, "k", "2"), first.CAS()))
	require.Greater(t, second.CAS(), first.CAS())
	refused(mcbp.StatusKeyExists, withCAS(as(mcbp.OpSet, "k", "3"), first.CAS()))
	refused(mcbp.StatusKeyExists, withCAS(as(mcbp.OpReplace, "k", "3"), first.CAS()))
	refused(mcbp.StatusKeyExists, withCAS(deletePacket(1, "k"), first.CAS()))
	third := c.ok(as(mcbp.OpReplace, "k", "3"))
	got := c.get(1, "k")
	assert.Equal(t, "3", string(got.Value()))
	assert.Equal(t, third.CAS(), got.CAS())

	c.ok(withCAS(deletePacket(1, "k"), third.CAS()))
	refused(mcbp.StatusKeyNotFound, &mcbp.Packet{Opcode: mcbp.OpGet, VBucket: 1, Key: []byte("k")})
	refused(mcbp.StatusKeyNotFound, deletePacket(1, "k"))
	c.ok(as(mcbp.OpAdd, "k", "again"))
	assert.Equal(t, "5", c.stat("vbucket-seqno", 1, "high_seqno"), "each change has a seqno, refusals have none")
	assert.Equal(t, "1", c.stat("vbucket-details", 1, "num_items"))
}

func TestFlagsComeBackAndAnswersCarryTheMutationToken(t *testing.T) {
	n := startNode(t, "n0")
	plain, c := login(t, n), login(t, n, mcbp.FeatureMutationSeqno)
	c.setVBucket(1, mcbp.VBucketActive)
	p := setPacket(1, "k", "v")
	binary.BigEndian.PutUint32(p.Extras, 0xdeadbeef)
	f := c.ok(p)
	require.Equal(t, 16, f.ExtrasLen())
	assert.Equal(t, statUint(t, c, "vbucket-seqno", 1, "uuid"), binary.BigEndian.Uint64(f.Extras()))
	assert.EqualValues(t, 1, binary.BigEndian.Uint64(f.Extras()[8:]))

	got := plain.get(1, "k")
	assert.Equal(t, []byte{0xde, 0xad, 0xbe, 0xef}, got.Extras())
	assert.Zero(t, plain.set(1, "k", "w").ExtrasLen(), "the token was not asked for")
}

func TestDocumentsAreRefusedWhereTheyDoNotBelong(t *testing.T) {
	n := startNode(t, "n0")
	c := login(t, n)
	for state, want := range map[mcbp.VBucketState]mcbp.Status{
		mcbp.VBucketReplica: mcbp.StatusNotMyVBucket,
		mcbp.VBucketDead:    mcbp.StatusNotMyVBucket,
		mcbp.VBucketPending: mcbp.StatusTemporaryFailure,
	} {
		c.setVBucket(1, state)
		assert.Equal(t, want, c.get(1, "k").Status(), "get, %v", state)
		assert.Equal(t, want, c.do(setPacket(1, "k", "v")).Status(), "set, %v", state)
	}
	assert.Equal(t, mcbp.StatusNotMyVBucket, c.get(2, "k").Status(), "missing")
	assert.Equal(t, mcbp.StatusNotMyVBucket, c.get(5000, "k").Status(), "out of range")
}

func TestMalformedDocumentCommandsAreRefused(t *testing.T) {
	c := login(t, startNode(t, "n0"))
	c.setVBucket(1, mcbp.VBucketActive)
	for name, v := range map[string]struct {
		status mcbp.Status
		p      *mcbp.Packet
	}{
		"no key":              {mcbp.StatusInvalid, setPacket(1, "", "v")},
		"long key":            {mcbp.StatusInvalid, setPacket(1, string(make([]byte, 251)), "v")},
		"set without extras":  {mcbp.StatusInvalid, &mcbp.Packet{Opcode: mcbp.OpSet, VBucket: 1, Key: []byte("k")}},
		"get with extras":     {mcbp.StatusInvalid, &mcbp.Packet{Opcode: mcbp.OpGet, VBucket: 1, Key: []byte("k"), Extras: []byte{1}}},
		"get with a value":    {mcbp.StatusInvalid, &mcbp.Packet{Opcode: mcbp.OpGet, VBucket: 1, Key: []byte("k"), Value: []byte{1}}},
		"delete with a value": {mcbp.StatusInvalid, &mcbp.Packet{Opcode: mcbp.OpDelete, VBucket: 1, Key: []byte("k"), Value: []byte{1}}},
		"value too big":       {mcbp.StatusTooBig, setPacket(1, "k", string(make([]byte, 20<<20+1)))},
		"datatype that was not negotiated": {mcbp.StatusInvalid, &mcbp.Packet{
			Opcode: mcbp.OpSet, VBucket: 1, Key: []byte("k"), Extras: make([]byte, 8), Datatype: mcbp.DatatypeJSON,
		}},
		"durable": {mcbp.StatusNotSupported, &mcbp.Packet{
			Magic: mcbp.MagicFramingRequest, Opcode: mcbp.OpSet, VBucket: 1, FramingExtras: []byte{0x11, 1}, Key: []byte("k"), Extras: make([]byte, 8),
		}},
		"unknown command": {mcbp.StatusUnknownCommand, &mcbp.Packet{Opcode: 0xc1}},
	} {
		assert.Equal(t, v.status, c.do(v.p).Status(), name)
	}
	assert.Equal(t, "0", c.stat("vbucket-seqno", 1, "high_seqno"))
}

func TestTheLargestDocumentFits(t *testing.T) {
	c := login(t, startNode(t, "n0"))
	c.setVBucket(1, mcbp.VBucketActive)
	value := bytes.Repeat([]byte("0123456789abcdef"), 20<<20/16)
	c.set(1, "k", string(value))
	assert.True(t, bytes.Equal(value, c.get(1, "k").Value()))
}

func TestFramingExtrasThatDemandNothingAreIgnored(t *testing.T) {
	c := login(t, startNode(t, "n0"))
	c.setVBucket(1, mcbp.VBucketActive)
	p := setPacket(1, "k", "v")
	p.Magic, p.FramingExtras = mcbp.MagicFramingRequest, []byte{0x50}
	c.ok(p)
	assert.Equal(t, "v", string(c.get(1, "k").Value()))
}

func TestCollectionsPrefixTheKeyOnlyForThoseWhoKnowThem(t *testing.T) {
	n := startNode(t, "n0")
	plain, c := login(t, n), login(t, n, mcbp.FeatureCollections)
	plain.setVBucket(1, mcbp.VBucketActive)
	plain.set(1, "k", "v")
	assert.Equal(t, "v", string(c.get(1, "\x00k").Value()))
	c.set(1, "\x00other", "w")
	assert.Equal(t, "w", string(plain.get(1, "other").Value()))
	assert.Equal(t, mcbp.StatusUnknownCollection, c.get(1, "\x08k").Status())
	assert.Equal(t, mcbp.StatusInvalid, c.get(1, "\x00").Status())
	assert.Equal(t, mcbp.StatusInvalid, c.get(1, "").Status())
}

func TestCompressedValuesAreInflatedForThoseWhoNeedIt(t *testing.T) {
	n := startNode(t, "n0")
	plain, c := login(t, n), login(t, n, mcbp.FeatureSnappy, mcbp.FeatureJSON)
	c.setVBucket(1, mcbp.VBucketActive)
	p := setPacket(1, "k", "\x0c\x08abc\x15\x03")
	p.Datatype = mcbp.DatatypeSnappy
	c.ok(p)
	got := c.get(1, "k")
	assert.Equal(t, mcbp.DatatypeSnappy, got.Datatype())
	assert.Equal(t, "\x0c\x08abc\x15\x03", string(got.Value()))
	got = plain.get(1, "k")
	assert.Zero(t, got.Datatype())
	assert.Equal(t, "abcabcabcabc", string(got.Value()))

	p = setPacket(1, "bad", "not snappy at all")
	p.Datatype = mcbp.DatatypeSnappy
	c.ok(p)
	assert.Equal(t, mcbp.StatusInternalError, plain.get(1, "bad").Status())
}

func TestAFullBucketTakesNoMoreDocuments(t *testing.T) {
	n := startNode(t, "n0")
	c := login(t, n)
	c.ok(&mcbp.Packet{Opcode: mcbp.OpCreateBucket, Key: []byte("small"), Value: []byte("ep.so\x00max_size=3000;max_vbuckets=4")})
	c.ok(&mcbp.Packet{Opcode: mcbp.OpSelectBucket, Key: []byte("small")})
	c.setVBucket(1, mcbp.VBucketActive)
	c.set(1, "a", string(make([]byte, 2000)))
	assert.Equal(t, mcbp.StatusNoMemory, c.do(setPacket(1, "b", string(make([]byte, 2000)))).Status())
	c.del(1, "a")
	c.set(1, "b", string(make([]byte, 2000)))
}

// A compressed value goes to replicas as it is, and to a reader that did not negotiate compression as it was.
func TestCompressedValuesPassThroughReplications(t *testing.T) {
	const compressed = "\x0c\x08abc\x15\x03"
	p := pairOf(t, 7)
	c := login(t, p.n0, mcbp.FeatureSnappy, mcbp.FeatureJSON)
	doc := setPacket(7, "k", compressed)
	doc.Datatype = mcbp.DatatypeSnappy | mcbp.DatatypeJSON
	c.ok(doc)
	p.r.open(7, 0)
	p.same(t, 7)
	f, _ := p.r.await("the document", 0, isRequest(mcbp.OpDCPMutation, 7))
	assert.Equal(t, doc.Datatype, f.Datatype())
	assert.Equal(t, compressed, string(f.Value()))
	p.b.setVBucket(7, mcbp.VBucketActive)
	assert.Equal(t, "abcabcabcabc", string(p.b.get(7, "k").Value()))

	for features, want := range map[mcbp.Feature]struct {
		datatype mcbp.Datatype
		value    string
	}{
		mcbp.FeatureSnappy: {mcbp.DatatypeSnappy, compressed},
		mcbp.FeatureJSON:   {mcbp.DatatypeJSON, "abcabcabcabc"},
		mcbp.FeatureXattr:  {0, "abcabcabcabc"},
	} {
		reader := login(t, p.n0, features)
		reader.write(mcbp.Open{Name: "reader", Flags: mcbp.OpenFlagProducer}.Append(nil))
		require.Equal(t, mcbp.StatusSuccess, reader.read().Status())
		reader.write(mcbp.StreamRequest{VBucket: 7, End: mcbp.EndSeqnoForever}.Append(nil))
		require.Equal(t, mcbp.StatusSuccess, reader.read().Status())
		require.Equal(t, mcbp.OpDCPSnapshotMarker, reader.read().Opcode())
		f := reader.read()
		assert.Equal(t, want.datatype, f.Datatype(), "%v", features)
		assert.Equal(t, want.value, string(f.Value()), "%v", features)
	}
}
