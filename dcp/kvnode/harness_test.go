package kvnode_test

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"os"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/shearpin/shearpin/dcp/kvnode"
	"github.com/shearpin/shearpin/dcp/mcbp"
)

const (
	testUser     = "@ns_server"
	testPassword = "asdasd"
	testBucket   = "default"
	// patience is how long a test waits for something that must happen.
	patience = 10 * time.Second
)

func TestMain(m *testing.M) {
	if dir := os.Getenv(processDir); dir != "" {
		if err := beNode(dir); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	goleak.VerifyTestMain(m)
}

// startNode starts a node with a bucket of 1024 vbuckets and closes it with the test.
func startNode(t testing.TB, name string, change ...func(*kvnode.Options)) *kvnode.Node {
	t.Helper()
	opts := kvnode.Options{Name: name, User: testUser, Password: testPassword}
	for _, f := range change {
		f(&opts)
	}
	n, err := kvnode.Start(opts)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, n.Close()) })
	require.NoError(t, n.CreateBucket(testBucket, 1024))
	return n
}

// client is a connection that sends and expects raw frames.
type client struct {
	t      testing.TB
	socket net.Conn
	buf    []byte
	opaque uint32
}

func connect(t testing.TB, n *kvnode.Node) *client {
	t.Helper()
	socket, err := (&net.Dialer{}).DialContext(t.Context(), "tcp", n.Addr())
	require.NoError(t, err)
	c := &client{t: t, socket: socket}
	t.Cleanup(func() { socket.Close() })
	return c
}

// login connects, authenticates, selects the bucket, and negotiates features.
func login(t testing.TB, n *kvnode.Node, features ...mcbp.Feature) *client {
	t.Helper()
	c := connect(t, n)
	c.ok(&mcbp.Packet{Opcode: mcbp.OpSASLAuth, Key: []byte("PLAIN"), Value: []byte("\x00" + testUser + "\x00" + testPassword)})
	c.ok(&mcbp.Packet{Opcode: mcbp.OpSelectBucket, Key: []byte(testBucket)})
	var list []byte
	for _, f := range features {
		list = binary.BigEndian.AppendUint16(list, uint16(f))
	}
	c.ok(&mcbp.Packet{Opcode: mcbp.OpHello, Key: []byte("test"), Value: list})
	return c
}

var replicationFeatures = []mcbp.Feature{
	mcbp.FeatureXattr, mcbp.FeatureCollections, mcbp.FeatureSnappy, mcbp.FeatureJSON,
}

// openDCP logs in and opens one end of a replication.
func openDCP(t testing.TB, n *kvnode.Node, role kvnode.Role, name, consumerName string) *client {
	t.Helper()
	c := login(t, n, replicationFeatures...)
	m := mcbp.Open{Opaque: mcbp.OpaqueFromUint32(0x1004), Name: name, Flags: mcbp.OpenFlagsReplicaConsumer, ConsumerName: consumerName}
	if role == kvnode.RoleProducer {
		m.Flags = mcbp.OpenFlagsReplicaProducer
	}
	c.write(m.Append(nil))
	require.Equal(t, mcbp.StatusSuccess, c.read().Status())
	return c
}

func (c *client) write(frame []byte) {
	c.t.Helper()
	require.NoError(c.t, c.socket.SetWriteDeadline(time.Now().Add(patience)))
	_, err := c.socket.Write(frame)
	require.NoError(c.t, err)
}

// tryRead returns the next frame, or the error that ended the connection.
func (c *client) tryRead() (mcbp.Frame, error) {
	for {
		if f, rest, err := mcbp.Parse(c.buf, 64<<20); err == nil {
			c.buf = rest
			return append(mcbp.Frame(nil), f...), nil
		}
		if err := c.socket.SetReadDeadline(time.Now().Add(patience)); err != nil {
			return nil, err
		}
		c.buf = slices.Grow(c.buf, 64<<10)
		n, err := c.socket.Read(c.buf[len(c.buf):cap(c.buf)])
		c.buf = c.buf[:len(c.buf)+n]
		if n == 0 && err != nil {
			return nil, err
		}
	}
}

func (c *client) read() mcbp.Frame {
	c.t.Helper()
	f, err := c.tryRead()
	require.NoError(c.t, err)
	return f
}

// agreeUntil plays a producer that agrees to whatever the node's consumer asks, until a frame of the opcode comes. A consumer
// asks for another buffer size whenever the number of consumers changes, in the middle of everything.
func (c *client) agreeUntil(opcode mcbp.Opcode) mcbp.Frame {
	c.t.Helper()
	for {
		f := c.read()
		switch f.Opcode() {
		case opcode:
			return f
		case mcbp.OpGetErrorMap, mcbp.OpDCPControl:
			c.write(mcbp.Response(f, mcbp.StatusSuccess).Frame())
		default:
			require.Fail(c.t, "another frame", "%v instead of %v", f, opcode)
		}
	}
}

// incoming has the consumer of a connection ask for vbucket 7, and begins a snapshot from 1 to end. What the producer, which the test
// plays, sends next carries the opaque.
func (c *client) incoming(end uint64) mcbp.Opaque {
	c.t.Helper()
	c.write(mcbp.AddStream{VBucket: 7, Opaque: mcbp.Opaque{0xff, 0, 1, 0xff}}.Append(nil))
	opaque := c.agreeUntil(mcbp.OpDCPStreamReq).Opaque()
	c.write(mcbp.StreamRequestAnswer{Opaque: opaque, Log: []mcbp.FailoverEntry{{UUID: 77}}}.Append(nil))
	c.agreeUntil(mcbp.OpDCPAddStream)
	c.write(mcbp.SnapshotMarker{VBucket: 7, Opaque: opaque, Start: 1, End: end, Flags: mcbp.SnapshotMemory}.Append(nil))
	return opaque
}

// do sends a request under a fresh opaque and returns the answer.
func (c *client) do(p *mcbp.Packet) mcbp.Frame {
	c.t.Helper()
	c.opaque++
	p.Opaque = mcbp.OpaqueFromUint32(c.opaque)
	c.write(p.Frame())
	f := c.read()
	require.Equal(c.t, p.Opaque, f.Opaque(), "answer %v to %v", f, p.Opcode)
	require.Equal(c.t, p.Opcode, f.Opcode())
	require.True(c.t, f.IsResponse())
	return f
}

func (c *client) ok(p *mcbp.Packet) mcbp.Frame {
	c.t.Helper()
	f := c.do(p)
	require.Equal(c.t, mcbp.StatusSuccess, f.Status(), "%v", p.Opcode)
	return f
}

func (c *client) setVBucket(vb uint16, state mcbp.VBucketState) {
	c.t.Helper()
	c.ok(&mcbp.Packet{Opcode: mcbp.OpSetVBucket, VBucket: vb, Extras: []byte{byte(state)}})
}

func setPacket(vb uint16, key, value string) *mcbp.Packet {
	return &mcbp.Packet{Opcode: mcbp.OpSet, VBucket: vb, Key: []byte(key), Value: []byte(value), Extras: make([]byte, 8)}
}

func (c *client) set(vb uint16, key, value string) mcbp.Frame {
	c.t.Helper()
	return c.ok(setPacket(vb, key, value))
}

func (c *client) get(vb uint16, key string) mcbp.Frame {
	c.t.Helper()
	return c.do(&mcbp.Packet{Opcode: mcbp.OpGet, VBucket: vb, Key: []byte(key)})
}

func (c *client) del(vb uint16, key string) {
	c.t.Helper()
	c.ok(&mcbp.Packet{Opcode: mcbp.OpDelete, VBucket: vb, Key: []byte(key)})
}

// stats returns a group's pairs, or the status that it was refused with.
func (c *client) stats(group string) (map[string]string, mcbp.Status) {
	c.t.Helper()
	c.opaque++
	c.write((&mcbp.Packet{Opcode: mcbp.OpStat, Key: []byte(group), Opaque: mcbp.OpaqueFromUint32(c.opaque)}).Frame())
	pairs := map[string]string{}
	for {
		f := c.read()
		require.Equal(c.t, mcbp.OpStat, f.Opcode())
		if f.KeyLen() == 0 {
			return pairs, f.Status()
		}
		pairs[string(f.Key())] = string(f.Value())
	}
}

// stat returns one value of a group about a vbucket.
func (c *client) stat(group string, vb uint16, key string) string {
	c.t.Helper()
	pairs, status := c.stats(fmt.Sprintf("%s %d", group, vb))
	require.Equal(c.t, mcbp.StatusSuccess, status)
	full := "vb_" + strconv.Itoa(int(vb))
	if key != "" {
		full += ":" + key
	}
	require.Contains(c.t, pairs, full)
	return pairs[full]
}

func statUint(t testing.TB, c *client, group string, vb uint16, key string) uint64 {
	t.Helper()
	n, err := strconv.ParseUint(c.stat(group, vb, key), 10, 64)
	require.NoError(t, err)
	return n
}

func utoa(vb uint16) string { return strconv.Itoa(int(vb)) }

// eventually polls a condition that must come true.
func eventually(t testing.TB, what string, condition func() bool) {
	t.Helper()
	require.Eventually(t, condition, patience, 2*time.Millisecond, what)
}

// closed waits until the node closes the connection, and returns the frames that came before.
func (c *client) closed() []mcbp.Frame {
	c.t.Helper()
	var frames []mcbp.Frame
	for {
		f, err := c.tryRead()
		if err != nil {
			var timeout net.Error
			require.False(c.t, errors.As(err, &timeout) && timeout.Timeout(), "the connection stayed open")
			return frames
		}
		frames = append(frames, f)
	}
}
