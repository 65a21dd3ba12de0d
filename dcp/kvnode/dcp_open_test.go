package kvnode_test

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/shearpin/shearpin/dcp/kvnode"
	"github.com/shearpin/shearpin/dcp/mcbp"
)

func TestOpenNeedsABucketAndItsFeatures(t *testing.T) {
	n := startNode(t, "n0")
	open := mcbp.Open{Name: testLink, Flags: mcbp.OpenFlagsReplicaConsumer, ConsumerName: "n1"}
	status := func(c *client, f mcbp.Frame) mcbp.Status {
		c.write(f)
		return c.read().Status()
	}
	c := connect(t, n)
	c.ok(&mcbp.Packet{Opcode: mcbp.OpSASLAuth, Key: []byte("PLAIN"), Value: []byte("\x00" + testUser + "\x00" + testPassword)})
	assert.Equal(t, mcbp.StatusNoBucket, status(c, open.Append(nil)))

	plain := login(t, n)
	assert.Equal(t, mcbp.StatusInvalid, status(plain, open.Append(nil)), "JSON was not negotiated")
	open.ConsumerName = ""
	notifier := open
	notifier.Flags |= 2
	assert.Equal(t, mcbp.StatusInvalid, status(plain, notifier.Append(nil)))
	assert.Equal(t, mcbp.StatusSuccess, status(plain, open.Append(nil)))
	assert.Equal(t, mcbp.StatusInvalid, status(plain, open.Append(nil)), "twice")
	again := (&mcbp.Packet{Opcode: mcbp.OpSelectBucket, Key: []byte(testBucket)}).Frame()
	assert.Equal(t, mcbp.StatusInvalid, status(plain, again), "it keeps its bucket")
}

func TestDCPConnectionsAreListed(t *testing.T) {
	n := startNode(t, "n0")
	admin := login(t, n)
	c := openDCP(t, n, kvnode.RoleConsumer, "replication:n1->n0:default", "n0")
	openDCP(t, n, kvnode.RoleProducer, testLink, "")
	listed := func() map[string]string {
		pairs, status := admin.stats("dcp")
		require.Equal(t, mcbp.StatusSuccess, status)
		return pairs
	}
	assert.Equal(t, "consumer", listed()["eq_dcpq:replication:n1->n0:default:type"])
	assert.Equal(t, "producer", listed()["eq_dcpq:"+testLink+":type"])
	c.socket.Close()
	eventually(t, "the closed one is gone", func() bool { return len(listed()) == 2 })
}

// A consumer says nothing until it is told to add a stream, so a manager may open it long before the producer.
func TestAConsumerIsSilentUntilItsFirstStream(t *testing.T) {
	n := startNode(t, "n1")
	admin := login(t, n)
	c := openDCP(t, n, kvnode.RoleConsumer, testLink, "n1")
	c.write(mcbp.AddStream{VBucket: 5, Opaque: mcbp.Opaque{0xff, 0, 1, 0xff}}.Append(nil))
	f := c.read()
	assert.Equal(t, mcbp.OpDCPAddStream, f.Opcode(), "the refusal is the first word")
	assert.Equal(t, mcbp.StatusNotMyVBucket, f.Status())
	admin.setVBucket(5, mcbp.VBucketReplica)
	c.write(mcbp.AddStream{VBucket: 5, Opaque: mcbp.Opaque{0xff, 0, 2, 0xff}}.Append(nil))
	f = c.read()
	assert.Equal(t, mcbp.OpGetErrorMap, f.Opcode())
	assert.Equal(t, mcbp.Opaque{2}, f.Opaque(), "the stream has the first number")
}

func TestAnotherConnectionOfANameEndsTheOlderOne(t *testing.T) {
	n := startNode(t, "n1")
	admin := login(t, n)
	admin.setVBucket(5, mcbp.VBucketReplica)
	older := openDCP(t, n, kvnode.RoleConsumer, testLink, "n1")
	add := mcbp.AddStream{VBucket: 5, Opaque: mcbp.Opaque{0xff, 0, 1, 0xff}}.Append(nil)
	older.write(add)
	require.Equal(t, mcbp.OpGetErrorMap, older.read().Opcode())

	other := openDCP(t, n, kvnode.RoleConsumer, "replication:n2->n1:default", "n1")
	other.write(add)
	f := other.read()
	assert.Equal(t, mcbp.StatusKeyExists, f.Status(), "a stream of any consumer connection is in the way")

	newer := openDCP(t, n, kvnode.RoleConsumer, testLink, "n1")
	newer.write(add)
	assert.Equal(t, mcbp.OpGetErrorMap, newer.read().Opcode(), "the older connection's streams ended before the OPEN was answered")
	older.closed()
}

func TestANameKicksAcrossRoles(t *testing.T) {
	n := startNode(t, "n1")
	older := openDCP(t, n, kvnode.RoleProducer, testLink, "")
	openDCP(t, n, kvnode.RoleConsumer, testLink, "n1")
	older.closed()
}

// The buffer is a twentieth of the quota, divided among the consumers, and said again when their number changes.
func TestConsumersShareTheBuffer(t *testing.T) {
	n0, n1 := startNode(t, "n0"), startNode(t, "n1")
	a, b := login(t, n0), login(t, n1)
	a.setVBucket(1, mcbp.VBucketActive)
	b.setVBucket(1, mcbp.VBucketReplica)
	r := join(t, n0, n1, testLink)
	r.open(1, 0)
	buffer := func(size string) func(seen) bool {
		return func(s seen) bool { return !s.frame.IsResponse() && isBuffer(s.frame, size) }
	}
	_, at := r.await("the whole buffer", 0, buffer("13421773"))
	other := openDCP(t, n1, kvnode.RoleConsumer, "replication:n2->n1:default", "n1")
	_, at = r.await("half of it", at, buffer("6710886"))
	other.socket.Close()
	r.await("the whole again", at, buffer("13421773"))
}

func TestControls(t *testing.T) {
	p := openDCP(t, startNode(t, "n0"), kvnode.RoleProducer, testLink, "")
	for _, c := range []struct {
		key, value string
		want       mcbp.Status
	}{
		{"enable_noop", "true", mcbp.StatusSuccess},
		{"enable_noop", "perhaps", mcbp.StatusInvalid},
		{"set_noop_interval", "0.100000", mcbp.StatusSuccess},
		{"set_noop_interval", "180", mcbp.StatusSuccess},
		{"set_noop_interval", "0", mcbp.StatusInvalid},
		{"set_noop_interval", "NaN", mcbp.StatusInvalid},
		{"set_noop_interval", "-1", mcbp.StatusInvalid},
		{"set_priority", "low", mcbp.StatusSuccess},
		{"connection_buffer_size", "20971520", mcbp.StatusSuccess},
		{"connection_buffer_size", "4294967296", mcbp.StatusInvalid},
		{"max_marker_version", "2.2", mcbp.StatusSuccess},
		{"max_marker_version", "3", mcbp.StatusInvalid},
		{"send_stream_end_on_client_close_stream", "true", mcbp.StatusSuccess},
		{"change_streams", "true", mcbp.StatusNotSupported},
		{"enable_stream_id", "true", mcbp.StatusNotSupported},
		{"", "true", mcbp.StatusInvalid},
	} {
		p.write(mcbp.Control{Key: c.key, Value: c.value}.Append(nil))
		f := p.read()
		assert.Equal(t, mcbp.OpDCPControl, f.Opcode())
		assert.Equal(t, c.want, f.Status(), "%s=%s", c.key, c.value)
	}
}

func TestFramesForTheOtherEndAreRefused(t *testing.T) {
	n := startNode(t, "n0")
	p := openDCP(t, n, kvnode.RoleProducer, testLink, "")
	p.write(mcbp.AddStream{VBucket: 1}.Append(nil))
	assert.Equal(t, mcbp.StatusNotSupported, p.read().Status())
	c := openDCP(t, n, kvnode.RoleConsumer, "replication:n2->n0:default", "n0")
	c.write(mcbp.StreamRequest{VBucket: 1}.Append(nil))
	assert.Equal(t, mcbp.StatusNotSupported, c.read().Status())
	c.write(persistence(1, 1).Frame())
	assert.Equal(t, mcbp.StatusNotSupported, c.read().Status(), "waiting would hold the stream up")
	outside := login(t, n)
	assert.Equal(t, mcbp.StatusUnknownCommand, outside.do(mcbpPacket(mcbp.OpDCPStreamReq)).Status())
}

func mcbpPacket(op mcbp.Opcode) *mcbp.Packet { return &mcbp.Packet{Opcode: op} }
