package kvnode_test

import (
	"encoding/hex"
	"strconv"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/shearpin/shearpin/dcp/kvnode"
	"github.com/shearpin/shearpin/dcp/mcbp"
)

// announced reads an announcement and returns its bucket, and its epoch and revision in hex.
func (c *client) announced() (bucket, version string) {
	c.t.Helper()
	f := c.read()
	require.Equal(c.t, mcbp.MagicServerRequest, f.Magic(), "%v", f)
	require.Equal(c.t, mcbp.Opcode(1), f.Opcode())
	assert.Empty(c.t, f.Value())
	return string(f.Key()), hex.EncodeToString(f.Extras())
}

func TestClientsAreToldOfANewConfiguration(t *testing.T) {
	n := startNode(t, "n0")
	admin, silent := login(t, n), login(t, n, mcbp.FeatureDuplex)
	c := login(t, n, mcbp.FeatureDuplex, mcbp.FeatureClusterMapPushBrief)
	other := login(t, n, mcbp.FeatureDuplex, mcbp.FeatureClusterMapPushBrief)
	require.NoError(t, n.CreateBucket("other", 4))
	other.ok(&mcbp.Packet{Opcode: mcbp.OpSelectBucket, Key: []byte("other")})
	outside := connect(t, n)
	outside.ok(&mcbp.Packet{Opcode: mcbp.OpSASLAuth, Key: []byte("PLAIN"), Value: []byte("\x00" + testUser + "\x00" + testPassword)})
	outside.ok(&mcbp.Packet{Opcode: mcbp.OpHello, Value: []byte{0, 0x0c, 0, 0x1f}})

	admin.ok(clusterConfig(testBucket, 1, 5, `{"rev":5}`))
	bucket, version := c.announced()
	assert.Equal(t, testBucket, bucket)
	assert.Equal(t, "00000000000000010000000000000005", version)
	c.write((&mcbp.Packet{Magic: mcbp.MagicServerResponse, Opcode: 1}).Frame())
	assert.JSONEq(t, `{"rev":5}`, string(c.ok(&mcbp.Packet{Opcode: mcbp.OpGetClusterConfig}).Value()))

	admin.ok(clusterConfig(testBucket, 1, 5, `{"rev":5}`))
	admin.ok(clusterConfig(testBucket, 1, 6, `{"rev":6}`))
	_, version = c.announced()
	assert.Equal(t, "00000000000000010000000000000006", version, "the same once more is no news")

	admin.ok(clusterConfig("other", 1, 7, `{}`))
	bucket, version = other.announced()
	assert.Equal(t, "other", bucket)
	assert.Equal(t, "00000000000000010000000000000007", version)
	admin.ok(clusterConfig("", 1, 8, `{}`))
	bucket, version = outside.announced()
	assert.Empty(t, bucket)
	assert.Equal(t, "00000000000000010000000000000008", version)

	fresh := login(t, n, mcbp.FeatureDuplex, mcbp.FeatureClusterMapPushBrief)
	admin.ok(clusterConfig("other", 1, 9, `{}`))
	_, version = other.announced()
	assert.Equal(t, "00000000000000010000000000000009", version)
	for _, quiet := range []*client{silent, c, other, outside, fresh} {
		quiet.ok(&mcbp.Packet{Opcode: mcbp.OpNoop})
	}
}

// Only who can be asked can be told; and who does not want to know any more is told no more.
func TestAnnouncementsAreNegotiated(t *testing.T) {
	n := startNode(t, "n0")
	admin, c := login(t, n), login(t, n)
	hello := func(features ...byte) string {
		return hex.EncodeToString(c.ok(&mcbp.Packet{Opcode: mcbp.OpHello, Value: features}).Value())
	}
	assert.Empty(t, hello(0, 0x1f), "not without duplex")
	assert.Equal(t, "000c001f", hello(0, 0x1f, 0, 0x0c))
	admin.ok(clusterConfig(testBucket, 1, 1, `{}`))
	c.announced()
	assert.Equal(t, "000c", hello(0, 0x0c))
	admin.ok(clusterConfig(testBucket, 1, 2, `{}`))
	c.ok(&mcbp.Packet{Opcode: mcbp.OpNoop})

	plain := login(t, n)
	plain.write((&mcbp.Packet{Magic: mcbp.MagicServerResponse, Opcode: 1}).Frame())
	plain.closed()
}

// Replications may be told as well: there another goroutine writes.
func TestADCPConnectionIsToldOfANewConfiguration(t *testing.T) {
	n := startNode(t, "n0")
	admin, c := login(t, n), login(t, n, mcbp.FeatureDuplex, mcbp.FeatureClusterMapPushBrief)
	admin.setVBucket(1, mcbp.VBucketActive)
	admin.set(1, "k", "v")
	c.write(mcbp.Open{Name: testLink, Flags: mcbp.OpenFlagsReplicaProducer}.Append(nil))
	require.Equal(t, mcbp.StatusSuccess, c.read().Status())
	admin.ok(clusterConfig(testBucket, 1, 5, `{"rev":5}`))
	bucket, _ := c.announced()
	assert.Equal(t, testBucket, bucket)
	c.write(mcbp.StreamRequest{VBucket: 1, End: 1}.Append(nil))
	for _, op := range []mcbp.Opcode{mcbp.OpDCPStreamReq, mcbp.OpDCPSnapshotMarker, mcbp.OpDCPMutation, mcbp.OpDCPStreamEnd} {
		assert.Equal(t, op, c.read().Opcode())
	}
}

// A client that does not read holds up neither who sets configurations nor the others, and learns of the newest when it reads.
func TestAClientThatDoesNotReadIsToldOfTheNewest(t *testing.T) {
	n := startNode(t, "n0", func(o *kvnode.Options) { o.IdleTimeout = time.Minute })
	admin, slow := login(t, n), login(t, n, mcbp.FeatureDuplex, mcbp.FeatureClusterMapPushBrief)
	admin.setVBucket(1, mcbp.VBucketActive)
	const requests = 40
	value := string(make([]byte, 1<<20))
	admin.set(1, "k", value)
	for range requests { // more than sockets hold
		slow.write((&mcbp.Packet{Opcode: mcbp.OpGet, VBucket: 1, Key: []byte("k")}).Frame())
	}
	const revisions = 2000
	for revision := range uint64(revisions) {
		admin.ok(clusterConfig(testBucket, 1, revision+1, strconv.Itoa(int(revision))))
	}
	answers, last := 0, ""
	for answers < requests || last != "000000000000000100000000000007d0" {
		f := slow.read()
		if f.Magic() == mcbp.MagicServerRequest {
			last = hex.EncodeToString(f.Extras())
			continue
		}
		require.Len(t, f.Value(), len(value))
		answers++
	}
}
