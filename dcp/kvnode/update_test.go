package kvnode_test

import (
	"encoding/binary"
	"encoding/hex"
	"math"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/assert"

	"github.com/shearpin/shearpin/dcp/mcbp"
)

func request(op mcbp.Opcode, key, value string, extras ...byte) *mcbp.Packet {
	return &mcbp.Packet{Opcode: op, VBucket: 1, Key: []byte(key), Value: []byte(value), Extras: extras}
}

func counter(op mcbp.Opcode, key string, by, initial uint64, expiry uint32) *mcbp.Packet {
	x := binary.BigEndian.AppendUint64(binary.BigEndian.AppendUint64(nil, by), initial)
	return request(op, key, "", binary.BigEndian.AppendUint32(x, expiry)...)
}

// setWith stores a document with flags and an expiry.
func (c *client) setWith(key, value string, flags, expiry uint32, datatype mcbp.Datatype) mcbp.Frame {
	c.t.Helper()
	p := setPacket(1, key, value)
	binary.BigEndian.PutUint32(p.Extras, flags)
	binary.BigEndian.PutUint32(p.Extras[4:], expiry)
	p.Datatype = datatype
	return c.ok(p)
}

// meta is GET_META: deleted, flags, expiry, revision and datatype, in hex.
func (c *client) meta(key string) string {
	c.t.Helper()
	return hex.EncodeToString(c.ok(request(mcbp.OpGetMeta, key, "", 2)).Extras())
}

// farFuture is an expiry that no test reaches.
const farFuture = 0xf0000000

func TestAppendAndPrepend(t *testing.T) {
	n := startNode(t, "n0")
	c := login(t, n, mcbp.FeatureMutationSeqno, mcbp.FeatureJSON, mcbp.FeatureSnappy)
	c.setVBucket(1, mcbp.VBucketActive)
	assert.Equal(t, mcbp.StatusNotStored, c.do(request(mcbp.OpAppend, "k", "x")).Status())
	assert.Equal(t, mcbp.StatusNotStored, c.do(request(mcbp.OpPrepend, "k", "x")).Status())

	first := c.setWith("k", "[]", 7, farFuture, mcbp.DatatypeJSON)
	f := c.ok(request(mcbp.OpAppend, "k", "b"))
	assert.Equal(t, uint64(2), binary.BigEndian.Uint64(f.Extras()[8:]), "the mutation token")
	assert.Greater(t, f.CAS(), first.CAS())
	assert.Equal(t, mcbp.StatusKeyExists, c.do(withCAS(request(mcbp.OpPrepend, "k", "a"), first.CAS())).Status())
	c.ok(withCAS(request(mcbp.OpPrepend, "k", "a"), f.CAS()))
	got := c.get(1, "k")
	assert.Equal(t, "a[]b", string(got.Value()))
	assert.Zero(t, got.Datatype(), "JSON no more")
	assert.Equal(t, "0000000000000007f0000000000000000000000300", c.meta("k"))

	c.setWith("compressed", "\x0c\x08abc\x15\x03", 0, 0, mcbp.DatatypeSnappy)
	more := request(mcbp.OpAppend, "compressed", "\x0c\x08xyz\x15\x03")
	more.Datatype = mcbp.DatatypeSnappy
	c.ok(more)
	assert.Equal(t, "abcabcabcabcxyzxyzxyzxyz", string(c.get(1, "compressed").Value()))

	for name, p := range map[string]*mcbp.Packet{
		"extras":             request(mcbp.OpAppend, "k", "x", 0),
		"no key":             request(mcbp.OpAppend, "", "x"),
		"no such datatype":   {Opcode: mcbp.OpAppend, VBucket: 1, Key: []byte("k"), Value: []byte("x"), Datatype: mcbp.DatatypeXattr},
		"broken compression": {Opcode: mcbp.OpAppend, VBucket: 1, Key: []byte("k"), Value: []byte("x"), Datatype: mcbp.DatatypeSnappy},
	} {
		assert.Equal(t, mcbp.StatusInvalid, c.do(p).Status(), name)
	}
	c.set(1, "large", strings.Repeat("x", 20<<20))
	assert.Equal(t, mcbp.StatusTooBig, c.do(request(mcbp.OpAppend, "large", "x")).Status())
	p := request(mcbp.OpAppend, "k", "x")
	p.VBucket = 2
	assert.Equal(t, mcbp.StatusNotMyVBucket, c.do(p).Status())
}

// No change is made that was to be durable and cannot be: because the command knows nothing of that, or the client does not.
func TestUpdatesThatCannotBeDurable(t *testing.T) {
	n := startNode(t, "n0")
	c := login(t, n)
	c.setVBucket(1, mcbp.VBucketActive)
	c.set(1, "k", "1")
	refused := func(c *client, want mcbp.Status, all ...*mcbp.Packet) {
		for _, p := range all {
			p.Magic, p.FramingExtras = mcbp.MagicFramingRequest, []byte{0x11, 1}
			assert.Equal(t, want, c.do(p).Status(), "%v", p.Opcode)
		}
	}
	refused(c, mcbp.StatusNotSupported, request(mcbp.OpAppend, "k", "1"), request(mcbp.OpPrepend, "k", "1"),
		counter(mcbp.OpIncrement, "k", 1, 0, 0), counter(mcbp.OpDecrement, "k", 1, 0, 0))
	c = login(t, n, durableFeatures...)
	refused(c, mcbp.StatusInvalid, request(mcbp.OpTouch, "k", "", 0, 0, 0, 9), request(mcbp.OpGetAndTouch, "k", "", 0, 0, 0, 9),
		request(mcbp.OpGet, "k", ""), request(mcbp.OpGetMeta, "k", ""), &mcbp.Packet{Opcode: mcbp.OpGetVBucket, VBucket: 1})
	refused(c, mcbp.StatusDurabilityImpossible, request(mcbp.OpAppend, "k", "1"), counter(mcbp.OpIncrement, "new", 1, 0, 0))
	assert.Equal(t, "1", c.stat("vbucket-seqno", 1, "high_seqno"))
}

func TestCounters(t *testing.T) {
	c := login(t, startNode(t, "n0"), mcbp.FeatureMutationSeqno)
	c.setVBucket(1, mcbp.VBucketActive)
	result := func(p *mcbp.Packet) uint64 {
		t.Helper()
		f := c.ok(p)
		assert.Len(t, f.Extras(), 16)
		return binary.BigEndian.Uint64(f.Value())
	}
	assert.Equal(t, mcbp.StatusKeyNotFound, c.do(counter(mcbp.OpIncrement, "n", 1, 5, math.MaxUint32)).Status())
	assert.Equal(t, mcbp.StatusKeyNotFound, c.do(withCAS(counter(mcbp.OpIncrement, "n", 1, 5, 0), 9)).Status())
	assert.EqualValues(t, 5, result(counter(mcbp.OpIncrement, "n", 1, 5, farFuture)))
	assert.EqualValues(t, 8, result(counter(mcbp.OpIncrement, "n", 3, 99, 0)))
	assert.EqualValues(t, 6, result(counter(mcbp.OpDecrement, "n", 2, 0, math.MaxUint32)))
	assert.Equal(t, "6", string(c.get(1, "n").Value()))
	assert.Equal(t, "0000000000000000f0000000000000000000000300", c.meta("n"), "it keeps the expiry it was made with")
	assert.EqualValues(t, 0, result(counter(mcbp.OpDecrement, "n", 7, 0, 0)), "no number is below 0")
	c.setWith("n", "18446744073709551615", 3, 0, 0)
	assert.EqualValues(t, 1, result(counter(mcbp.OpIncrement, "n", 2, 0, 0)), "round it goes")
	assert.Equal(t, []byte{0, 0, 0, 3}, c.get(1, "n").Extras())

	for _, text := range []string{"", "x", "-1", "1.0", " 1", "18446744073709551616"} {
		c.set(1, "text", text)
		assert.Equal(t, mcbp.StatusNotANumber, c.do(counter(mcbp.OpIncrement, "text", 1, 0, 0)).Status(), "%q", text)
	}
	assert.Equal(t, mcbp.StatusInvalid, c.do(request(mcbp.OpIncrement, "n", "", 0)).Status())
	assert.Equal(t, mcbp.StatusInvalid, c.do(request(mcbp.OpIncrement, "n", "x", make([]byte, 20)...)).Status())
}

// Who counts loses nothing, however many count at once.
func TestNoCountIsLost(t *testing.T) {
	n := startNode(t, "n0")
	admin := login(t, n)
	admin.setVBucket(1, mcbp.VBucketActive)
	const clients, each = 4, 200
	var all sync.WaitGroup
	for range clients {
		c := login(t, n)
		all.Go(func() {
			for range each {
				c.write(counter(mcbp.OpIncrement, "n", 1, 1, 0).Frame())
				f, err := c.tryRead()
				if !assert.NoError(t, err) || !assert.Equal(t, mcbp.StatusSuccess, f.Status()) {
					return
				}
			}
		})
	}
	all.Wait()
	assert.Equal(t, "800", string(admin.get(1, "n").Value()))
}

func TestTouchChangesTheExpiryAlone(t *testing.T) {
	c := login(t, startNode(t, "n0"), mcbp.FeatureJSON)
	c.setVBucket(1, mcbp.VBucketActive)
	expiry := binary.BigEndian.AppendUint32(nil, farFuture)
	assert.Equal(t, mcbp.StatusKeyNotFound, c.do(request(mcbp.OpTouch, "k", "", expiry...)).Status())
	assert.Equal(t, mcbp.StatusKeyNotFound, c.do(request(mcbp.OpGetAndTouch, "k", "", expiry...)).Status())

	first := c.setWith("k", "[]", 7, 0, mcbp.DatatypeJSON)
	f := c.ok(request(mcbp.OpTouch, "k", "", expiry...))
	assert.Greater(t, f.CAS(), first.CAS())
	assert.Empty(t, f.Value())
	assert.Empty(t, f.Extras())
	assert.Equal(t, "0000000000000007f0000000000000000000000201", c.meta("k"))
	again := c.ok(request(mcbp.OpTouch, "k", "", expiry...))
	assert.Equal(t, f.CAS(), again.CAS(), "it has that expiry already")
	assert.Equal(t, mcbp.StatusKeyExists, c.do(withCAS(request(mcbp.OpTouch, "k", "", 0, 0, 0, 0), first.CAS())).Status())

	f = c.ok(request(mcbp.OpGetAndTouch, "k", "", 0, 0, 0, 0))
	assert.Equal(t, "[]", string(f.Value()))
	assert.Equal(t, []byte{0, 0, 0, 7}, f.Extras())
	assert.Equal(t, mcbp.DatatypeJSON, f.Datatype())
	assert.Greater(t, f.CAS(), again.CAS())
	assert.Equal(t, f.CAS(), c.get(1, "k").CAS())
	assert.Equal(t, "000000000000000700000000000000000000000301", c.meta("k"))
	assert.Equal(t, "3", c.stat("vbucket-seqno", 1, "high_seqno"))

	assert.Equal(t, mcbp.StatusInvalid, c.do(request(mcbp.OpTouch, "k", "")).Status())
	assert.Equal(t, mcbp.StatusInvalid, c.do(request(mcbp.OpGetAndTouch, "k", "x", expiry...)).Status())
}

// Who is quiet hears only what he would not expect, in the order of what he asked.
func TestQuietCommands(t *testing.T) {
	c := login(t, startNode(t, "n0"))
	c.setVBucket(1, mcbp.VBucketActive)
	store := make([]byte, 8)
	c.set(1, "k", "v")
	c.set(1, "n", "1")
	type said struct {
		op     mcbp.Opcode
		status mcbp.Status
	}
	var out []byte
	for _, p := range []*mcbp.Packet{
		request(mcbp.OpGetQ, "none", ""), request(mcbp.OpGetQ, "k", ""),
		request(mcbp.OpGetKQ, "none", ""), request(mcbp.OpGetKQ, "k", ""),
		request(mcbp.OpGetAndTouchQ, "none", "", 0, 0, 0, 0), request(mcbp.OpGetAndTouchQ, "k", "", 0, 0, 0, 0),
		request(mcbp.OpSetQ, "s", "1", store...), withCAS(request(mcbp.OpSetQ, "s", "2", store...), 1),
		request(mcbp.OpAddQ, "a", "1", store...), request(mcbp.OpAddQ, "a", "2", store...),
		request(mcbp.OpReplaceQ, "a", "3", store...), request(mcbp.OpReplaceQ, "none", "3", store...),
		request(mcbp.OpAppendQ, "a", "4"), request(mcbp.OpAppendQ, "none", "4"),
		request(mcbp.OpPrependQ, "a", "5"), request(mcbp.OpPrependQ, "none", "5"),
		counter(mcbp.OpIncrementQ, "n", 4, 0, 0), counter(mcbp.OpIncrementQ, "none", 4, 0, math.MaxUint32),
		counter(mcbp.OpDecrementQ, "n", 2, 0, 0), counter(mcbp.OpDecrementQ, "none", 4, 0, math.MaxUint32),
		request(mcbp.OpDeleteQ, "s", ""), request(mcbp.OpDeleteQ, "none", ""),
		{Opcode: mcbp.OpNoop},
		{Opcode: mcbp.OpQuitQ},
		{Opcode: mcbp.OpNoop},
	} {
		out = p.Append(out)
	}
	c.write(out)
	var heard []said
	for _, f := range c.closed() {
		heard = append(heard, said{f.Opcode(), f.Status()})
		if f.Opcode() == mcbp.OpGetKQ {
			assert.Equal(t, "k", string(f.Key()))
		}
	}
	assert.Equal(t, []said{
		{mcbp.OpGetQ, 0},
		{mcbp.OpGetKQ, 0},
		{mcbp.OpGetAndTouchQ, 0},
		{mcbp.OpSetQ, mcbp.StatusKeyExists},
		{mcbp.OpAddQ, mcbp.StatusKeyExists},
		{mcbp.OpReplaceQ, mcbp.StatusKeyNotFound},
		{mcbp.OpAppendQ, mcbp.StatusNotStored},
		{mcbp.OpPrependQ, mcbp.StatusNotStored},
		{mcbp.OpIncrementQ, mcbp.StatusKeyNotFound},
		{mcbp.OpDecrementQ, mcbp.StatusKeyNotFound},
		{mcbp.OpDeleteQ, mcbp.StatusKeyNotFound},
		{mcbp.OpNoop, 0},
	}, heard)
}

func TestQuietCommandsDoWhatTheOthersDo(t *testing.T) {
	c := login(t, startNode(t, "n0"), mcbp.FeatureCollections)
	c.setVBucket(1, mcbp.VBucketActive)
	store := make([]byte, 8)
	for _, p := range []*mcbp.Packet{
		request(mcbp.OpSetQ, "\x00k", "b", store...), request(mcbp.OpAppendQ, "\x00k", "c"), request(mcbp.OpPrependQ, "\x00k", "a"),
		request(mcbp.OpAddQ, "\x00gone", "", store...), request(mcbp.OpDeleteQ, "\x00gone", ""),
		counter(mcbp.OpIncrementQ, "\x00n", 0, 7, 0), counter(mcbp.OpDecrementQ, "\x00n", 3, 0, 0),
	} {
		c.write(p.Frame())
	}
	f := c.ok(request(mcbp.OpGetK, "\x00k", ""))
	assert.Equal(t, "abc", string(f.Value()))
	assert.Equal(t, "\x00k", string(f.Key()), "as it was asked for")
	assert.Equal(t, "4", string(c.get(1, "\x00n").Value()))
	assert.Equal(t, mcbp.StatusKeyNotFound, c.get(1, "\x00gone").Status())
	assert.Equal(t, "7", c.stat("vbucket-seqno", 1, "high_seqno"))
}

// The expiry of a counter and of a touched document may be relative, and who expired is not there for any command.
func TestUpdatesAndExpiry(t *testing.T) {
	h := newHand()
	c := login(t, h.clocked(t, "n0"))
	c.setVBucket(1, mcbp.VBucketActive)
	c.ok(counter(mcbp.OpIncrement, "n", 1, 5, 10))
	c.set(1, "k", "v")
	c.ok(request(mcbp.OpTouch, "k", "", 0, 0, 0, 10))
	assert.Equal(t, "00000000000000007735940a000000000000000200", c.meta("k"))
	assert.Equal(t, "00000000000000007735940a000000000000000100", c.meta("n"))
	h.unix.Add(10)
	c.setVBucket(1, mcbp.VBucketReplica)
	assert.Equal(t, mcbp.StatusKeyNotFound, c.do(request(mcbp.OpGetReplica, "k", "")).Status())
	c.setVBucket(1, mcbp.VBucketActive)
	assert.Equal(t, mcbp.StatusKeyNotFound, c.do(request(mcbp.OpGetAndTouch, "k", "", 0, 0, 0, 10)).Status())
	assert.Equal(t, mcbp.StatusNotStored, c.do(request(mcbp.OpAppend, "k", "w")).Status())
	f := c.ok(counter(mcbp.OpIncrement, "n", 1, 5, 0))
	assert.EqualValues(t, 5, binary.BigEndian.Uint64(f.Value()), "a new counter")
}
