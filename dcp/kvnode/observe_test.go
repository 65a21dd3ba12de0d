package kvnode_test

import (
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"testing"

	"github.com/stretchr/testify/assert"

	"github.com/shearpin/shearpin/dcp/mcbp"
)

func TestReplicasAreReadByThoseWhoAskForOne(t *testing.T) {
	c := login(t, startNode(t, "n0"))
	c.setVBucket(1, mcbp.VBucketActive)
	c.set(1, "k", "v")
	c.set(1, "gone", "v")
	c.del(1, "gone")
	assert.Equal(t, mcbp.StatusNotMyVBucket, c.do(request(mcbp.OpGetReplica, "k", "")).Status(), "it is active")
	c.setVBucket(1, mcbp.VBucketReplica)
	f := c.ok(request(mcbp.OpGetReplica, "k", ""))
	assert.Equal(t, "v", string(f.Value()))
	assert.Len(t, f.Extras(), 4)
	assert.Equal(t, mcbp.StatusKeyNotFound, c.do(request(mcbp.OpGetReplica, "gone", "")).Status())
	assert.Equal(t, mcbp.StatusKeyNotFound, c.do(request(mcbp.OpGetReplica, "none", "")).Status())
	assert.Equal(t, mcbp.StatusInvalid, c.do(request(mcbp.OpGetReplica, "k", "", 0)).Status())
	assert.Equal(t, mcbp.StatusNotMyVBucket, c.get(1, "k").Status())
	c.setVBucket(1, mcbp.VBucketDead)
	assert.Equal(t, mcbp.StatusNotMyVBucket, c.do(request(mcbp.OpGetReplica, "k", "")).Status())
}

func TestMetaTellsOfDeletionsToo(t *testing.T) {
	c := login(t, startNode(t, "n0"), mcbp.FeatureJSON)
	c.setVBucket(1, mcbp.VBucketActive)
	assert.Equal(t, mcbp.StatusKeyNotFound, c.do(request(mcbp.OpGetMeta, "k", "")).Status())
	stored := c.setWith("k", "{}", 0xdeadbeef, farFuture, mcbp.DatatypeJSON)
	f := c.ok(request(mcbp.OpGetMeta, "k", ""))
	assert.Equal(t, stored.CAS(), f.CAS())
	assert.Equal(t, "00000000deadbeeff00000000000000000000001", hex.EncodeToString(f.Extras()))
	assert.Empty(t, f.Value())
	assert.Equal(t, "00000000deadbeeff0000000000000000000000101", c.meta("k"), "with the datatype, if asked for")
	f = c.ok(request(mcbp.OpGetMeta, "k", "", 1))
	assert.Len(t, f.Extras(), 20)
	c.del(1, "k")
	assert.Regexp(t, "^0000000100000000[0-9a-f]{8}000000000000000200$", c.meta("k"), "deleted, when, its revision")
	assert.Equal(t, mcbp.StatusInvalid, c.do(request(mcbp.OpGetMeta, "k", "", 3)).Status())
	c.setVBucket(1, mcbp.VBucketReplica)
	assert.Equal(t, mcbp.StatusNotMyVBucket, c.do(request(mcbp.OpGetMeta, "k", "")).Status())
}

func TestObserveSeqno(t *testing.T) {
	c := login(t, startNode(t, "n0"))
	observe := func(uuid uint64) mcbp.Frame {
		return c.do(&mcbp.Packet{Opcode: mcbp.OpObserveSeqno, VBucket: 1, Value: binary.BigEndian.AppendUint64(nil, uuid)})
	}
	assert.Equal(t, mcbp.StatusNotMyVBucket, observe(1).Status())
	c.setVBucket(1, mcbp.VBucketActive)
	c.set(1, "k", "1")
	c.set(1, "k", "2")
	before := statUint(t, c, "vbucket-seqno", 1, "uuid")
	assert.Equal(t, fmt.Sprintf("000001%016x%016x%016x", before, 2, 2), hex.EncodeToString(observe(before).Value()))
	assert.Equal(t, mcbp.StatusKeyNotFound, observe(before+1).Status(), "a history that never was")

	c.setVBucket(1, mcbp.VBucketReplica)
	assert.Equal(t, mcbp.StatusSuccess, observe(before).Status(), "replicas are asked as well")
	c.setVBucket(1, mcbp.VBucketActive)
	c.set(1, "k", "3")
	after := statUint(t, c, "vbucket-seqno", 1, "uuid")
	assert.Equal(t, fmt.Sprintf("010001%016x%016x%016x%016x%016x", after, 3, 3, before, 2), hex.EncodeToString(observe(before).Value()),
		"after a failover: where the old history ended")
	assert.Equal(t, fmt.Sprintf("000001%016x%016x%016x", after, 3, 3), hex.EncodeToString(observe(after).Value()))
	c.setVBucket(1, mcbp.VBucketDead)
	assert.Equal(t, mcbp.StatusNotMyVBucket, observe(after).Status())
	assert.Equal(t, mcbp.StatusInvalid, c.do(&mcbp.Packet{Opcode: mcbp.OpObserveSeqno, VBucket: 1, Value: []byte{1}}).Status())
}

func TestTheDefaultCollectionIsTheOnlyOne(t *testing.T) {
	c := login(t, startNode(t, "n0"), mcbp.FeatureCollections, mcbp.FeatureJSON)
	f := c.ok(&mcbp.Packet{Opcode: mcbp.OpCollectionsManifest})
	assert.JSONEq(t, `{"uid":"0","scopes":[{"name":"_default","uid":"0","collections":[{"name":"_default","uid":"0"}]}]}`, string(f.Value()))
	assert.Equal(t, mcbp.DatatypeJSON, f.Datatype())
	assert.Equal(t, mcbp.StatusInvalid, c.do(&mcbp.Packet{Opcode: mcbp.OpCollectionsManifest, Key: []byte("k")}).Status())

	id := func(key, value string) mcbp.Frame {
		return c.do(&mcbp.Packet{Opcode: mcbp.OpGetCollectionID, Key: []byte(key), Value: []byte(value)})
	}
	for _, f := range []mcbp.Frame{id("_default._default", ""), id("", "_default._default"), id("", "."), id("_default.", "")} {
		assert.Equal(t, mcbp.StatusSuccess, f.Status())
		assert.Equal(t, make([]byte, 12), f.Extras(), "manifest 0, collection 0")
	}
	assert.Equal(t, mcbp.StatusUnknownCollection, id("", "_default.others").Status())
	assert.Equal(t, mcbp.StatusUnknownScope, id("", "others._default").Status())
	assert.Equal(t, mcbp.StatusInvalid, id("", "_default").Status())
	assert.Equal(t, mcbp.StatusInvalid, id("", "").Status())
}
