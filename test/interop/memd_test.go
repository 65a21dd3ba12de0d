package interop

import (
	"bytes"
	"encoding/binary"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/couchbase/gocbcore/v10/memd"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/shearpin/shearpin/dcp/mcbp"
)

// memd is the codec of the Go client. It knows the header, the key with its collection, and framing extras; what is in the
// extras is up to its callers. It trusts the lengths that it reads and panics on malformed frames, so it is fed none.

const (
	seed    = 20260401
	packets = 4000
)

func random(t *testing.T) *rand.Rand {
	t.Helper()
	return rand.New(rand.NewPCG(seed, uint64(len(t.Name()))))
}

// conn is a memd connection to itself: what is written can be read. Every feature that changes a frame is on, but for the
// collections.
func conn(stream *bytes.Buffer) *memd.Conn {
	c := memd.NewConn(stream)
	for _, f := range []memd.HelloFeature{
		memd.FeatureAltRequests, memd.FeatureSyncReplication, memd.FeatureDurations, memd.FeatureOpenTracing, memd.FeaturePreserveExpiry,
	} {
		c.EnableFeature(f)
	}
	return c
}

func bytesOf(r *rand.Rand, atMost int) []byte {
	b := make([]byte, r.IntN(atMost+1))
	for i := range b {
		b[i] = byte(r.Uint32())
	}
	return b
}

// packet is a random frame without framing extras, in the terms of both codecs.
func packet(r *rand.Rand) (*mcbp.Packet, *memd.Packet) {
	ours := &mcbp.Packet{
		Magic: mcbp.MagicRequest, Opcode: mcbp.Opcode(r.Uint32()), Datatype: mcbp.Datatype(r.Uint32()),
		Opaque: mcbp.OpaqueFromUint32(r.Uint32()), CAS: r.Uint64(),
		Extras: bytesOf(r, 255), Key: bytesOf(r, 250), Value: bytesOf(r, 600),
	}
	theirs := &memd.Packet{
		Magic: memd.CmdMagicReq, Command: memd.CmdCode(ours.Opcode), Datatype: uint8(ours.Datatype),
		Opaque: ours.Opaque.Uint32(), Cas: ours.CAS, Extras: ours.Extras, Key: ours.Key, Value: ours.Value,
	}
	if r.IntN(8) == 0 { // beyond what one byte of key length can say
		ours.Key = bytes.Repeat([]byte{'k'}, 256+r.IntN(65535-256))
		theirs.Key = ours.Key
	}
	if r.IntN(2) == 0 {
		ours.VBucket = uint16(r.Uint32())
		theirs.Vbucket = ours.VBucket
		return ours, theirs
	}
	ours.Magic, theirs.Magic = mcbp.MagicResponse, memd.CmdMagicRes
	ours.Status = mcbp.Status(r.Uint32())
	theirs.Status = memd.StatusCode(ours.Status)
	return ours, theirs
}

// framing gives a packet random framing extras that both codecs can say. There is one of each kind: of several, memd keeps
// the last, while we show all.
func framing(r *rand.Rand, ours *mcbp.Packet, theirs *memd.Packet) {
	add := func(id uint16, data []byte) {
		ours.FramingExtras = mcbp.FrameInfo{ID: id, Data: data}.Append(ours.FramingExtras)
	}
	ours.Key = ours.Key[:min(len(ours.Key), 255)]
	theirs.Key = ours.Key
	if theirs.Magic == memd.CmdMagicRes {
		ours.Magic = mcbp.MagicFramingResponse
		theirs.ServerDurationFrame = &memd.ServerDurationFrame{ServerDuration: time.Duration(r.Int64N(int64(time.Minute)))}
		add(mcbp.FrameInfoServerDuration, binary.BigEndian.AppendUint16(nil, memd.EncodeSrvDura16(theirs.ServerDurationFrame.ServerDuration)))
		return
	}
	ours.Magic = mcbp.MagicFramingRequest
	some := r.IntN(127) + 1
	if some&1 != 0 {
		theirs.BarrierFrame = &memd.BarrierFrame{}
		add(mcbp.FrameInfoBarrier, nil)
	}
	if some&2 != 0 {
		d := mcbp.Durability{Level: mcbp.DurabilityLevel(r.IntN(3) + 1)}
		theirs.DurabilityLevelFrame = &memd.DurabilityLevelFrame{DurabilityLevel: memd.DurabilityLevel(d.Level)}
		if r.IntN(2) == 0 {
			// 0 and 65 535 ms are reserved. memd would send them; we never do, and refuse them.
			d.Timeout = time.Duration(r.IntN(65534)+1) * time.Millisecond
			theirs.DurabilityTimeoutFrame = &memd.DurabilityTimeoutFrame{DurabilityTimeout: d.Timeout}
		}
		ours.FramingExtras = d.AppendInfo(ours.FramingExtras)
	}
	if some&4 != 0 {
		theirs.StreamIDFrame = &memd.StreamIDFrame{StreamID: uint16(r.Uint32())}
		add(mcbp.FrameInfoStreamID, binary.BigEndian.AppendUint16(nil, theirs.StreamIDFrame.StreamID))
	}
	if some&8 != 0 { // id 3 was for tracing once; memd still names it so
		theirs.OpenTracingFrame = &memd.OpenTracingFrame{TraceContext: bytesOf(r, 40)}
		add(3, theirs.OpenTracingFrame.TraceContext)
	}
	if some&16 != 0 {
		theirs.UserImpersonationFrame = &memd.UserImpersonationFrame{User: append(bytesOf(r, 60), 'u')}
		add(mcbp.FrameInfoImpersonate, theirs.UserImpersonationFrame.User)
	}
	if some&32 != 0 {
		theirs.PreserveExpiryFrame = &memd.PreserveExpiryFrame{}
		add(mcbp.FrameInfoPreserveTTL, nil)
	}
	if some&64 != 0 {
		theirs.UnsupportedFrames = []memd.UnsupportedFrame{{Type: 9, Data: bytesOf(r, 30)}}
		add(9, theirs.UnsupportedFrames[0].Data)
	}
}

// same reads a frame with both codecs and compares every field with what was meant.
func same(t *testing.T, ours *mcbp.Packet, theirs *memd.Packet, raw []byte) {
	t.Helper()
	f, rest, err := mcbp.Parse(raw, mcbp.DefaultMaxBody)
	require.NoError(t, err)
	require.Empty(t, rest)
	require.Equal(t, ours.Magic, f.Magic())
	require.Equal(t, ours.Opcode, f.Opcode())
	require.Equal(t, ours.Datatype, f.Datatype())
	require.Equal(t, ours.Opaque, f.Opaque())
	require.Equal(t, ours.CAS, f.CAS())
	if f.IsResponse() {
		require.Equal(t, ours.Status, f.Status())
	} else {
		require.Equal(t, ours.VBucket, f.VBucket())
	}
	requireBytes(t, ours.FramingExtras, f.FramingExtras())
	requireBytes(t, ours.Extras, f.Extras())
	requireBytes(t, ours.Key, f.Key())
	requireBytes(t, ours.Value, f.Value())
	require.NoError(t, mcbp.CheckFrameInfos(f.FramingExtras(), f.IsResponse()))

	read, n, err := conn(bytes.NewBuffer(raw)).ReadPacket()
	require.NoError(t, err)
	require.Len(t, raw, n)
	requireBytes(t, theirs.Extras, read.Extras)
	requireBytes(t, theirs.Key, read.Key)
	requireBytes(t, theirs.Value, read.Value)
	require.Equal(t, remaining(theirs), remaining(read))
}

func requireBytes(t *testing.T, want, got []byte) {
	t.Helper()
	require.True(t, bytes.Equal(want, got), "%x became %x", want, got)
}

// remaining is a packet without what has been compared already. Empty data are the same whether they are nil or not.
func remaining(p *memd.Packet) memd.Packet {
	q := *p
	q.Extras, q.Key, q.Value = nil, nil, nil
	if f := q.OpenTracingFrame; f != nil && len(f.TraceContext) == 0 {
		q.OpenTracingFrame = &memd.OpenTracingFrame{}
	}
	q.UnsupportedFrames = nil
	for _, f := range p.UnsupportedFrames {
		if len(f.Data) == 0 {
			f.Data = nil
		}
		q.UnsupportedFrames = append(q.UnsupportedFrames, f)
	}
	return q
}

// Both ways at once: the same packet is encoded by both, to the same bytes, and decoded by both, to the same fields.
func TestPacketsAreTheSameForBoth(t *testing.T) {
	r := random(t)
	for i := range packets {
		ours, theirs := packet(r)
		if i%2 == 1 {
			framing(r, ours, theirs)
		}
		var stream bytes.Buffer
		require.NoError(t, conn(&stream).WritePacket(theirs), "packet %d of seed %d", i, seed)
		require.True(t, bytes.Equal(stream.Bytes(), ours.Frame()), "packet %d of seed %d:\n%x\n%x", i, seed, stream.Bytes(), ours.Frame())
		if f := theirs.ServerDurationFrame; f != nil { // comes back as exact as its scale
			f.ServerDuration = memd.DecodeSrvDura16(memd.EncodeSrvDura16(f.ServerDuration))
		}
		same(t, ours, theirs, ours.Frame())
	}
}

// One stream of bytes, both forms of header and the requests of servers mixed, is cut into the same frames.
func TestAStreamIsCutIntoTheSameFrames(t *testing.T) {
	r := random(t)
	var raw []byte
	var want []*mcbp.Packet
	for range 500 {
		ours, theirs := packet(r)
		switch r.IntN(3) {
		case 0:
			framing(r, ours, theirs)
		case 1:
			ours.Magic, ours.Status, ours.VBucket = mcbp.MagicServerRequest, 0, 0
		}
		want = append(want, ours)
		raw = ours.Append(raw)
	}
	c := conn(bytes.NewBuffer(raw))
	for i, p := range want {
		f, rest, err := mcbp.Parse(raw, mcbp.DefaultMaxBody)
		require.NoError(t, err, "frame %d", i)
		raw = rest
		read, n, err := c.ReadPacket()
		require.NoError(t, err, "frame %d", i)
		require.Len(t, f, n)
		require.Equal(t, p.Opaque, f.Opaque())
		require.Equal(t, p.Opaque.Uint32(), read.Opaque)
		requireBytes(t, f.Extras(), read.Extras)
		requireBytes(t, f.Key(), read.Key)
		requireBytes(t, f.Value(), read.Value)
	}
	require.Empty(t, raw)
}

// memd reads what engines report about units; it cannot write it.
func TestUnitsInResponses(t *testing.T) {
	framing := mcbp.FrameInfo{ID: mcbp.FrameInfoReadUnits, Data: []byte{1, 2}}.Append(nil)
	framing = mcbp.FrameInfo{ID: mcbp.FrameInfoWriteUnits, Data: []byte{3, 4}}.Append(framing)
	framing = mcbp.FrameInfo{ID: mcbp.FrameInfoThrottleDuration, Data: []byte{5, 6}}.Append(framing)
	require.NoError(t, mcbp.CheckFrameInfos(framing, true))
	p := &mcbp.Packet{Magic: mcbp.MagicFramingResponse, Opcode: mcbp.OpGet, FramingExtras: framing}
	read, _, err := conn(bytes.NewBuffer(p.Frame())).ReadPacket()
	require.NoError(t, err)
	assert.EqualValues(t, 0x0102, read.ReadUnitsFrame.ReadUnits)
	assert.EqualValues(t, 0x0304, read.WriteUnitsFrame.WriteUnits)
	require.Len(t, read.UnsupportedFrames, 1)
	assert.EqualValues(t, mcbp.FrameInfoThrottleDuration, read.UnsupportedFrames[0].Type)
	assert.Equal(t, []byte{5, 6}, read.UnsupportedFrames[0].Data)
}

// Ids that do not fit into a nibble: memd reads them, and cuts them off when it writes, so it is not asked to.
func TestLongFrameInfoIDs(t *testing.T) {
	r := random(t)
	for id := uint16(15); id <= 255; id++ { // memd counts the rest in a byte
		info := mcbp.FrameInfo{ID: id, Data: append(bytesOf(r, 200), 0)}
		p := &mcbp.Packet{Magic: mcbp.MagicFramingRequest, Opcode: mcbp.OpSet, FramingExtras: info.Append(nil)}
		read, _, err := conn(bytes.NewBuffer(p.Frame())).ReadPacket()
		require.NoError(t, err)
		require.Len(t, read.UnsupportedFrames, 1)
		assert.EqualValues(t, id, read.UnsupportedFrames[0].Type)
		assert.Equal(t, info.Data, read.UnsupportedFrames[0].Data)
	}
}

func TestCollectionIDs(t *testing.T) {
	r := random(t)
	for range packets {
		id := r.Uint32() >> r.IntN(32)
		key := bytesOf(r, 20)
		encoded := mcbp.AppendCollectionID(nil, id)
		require.Equal(t, memd.AppendULEB128_32(nil, id), encoded)
		got, rest, err := mcbp.SplitCollection(append(encoded, key...))
		require.NoError(t, err)
		require.Equal(t, id, got)
		requireBytes(t, key, rest)
	}
	// What one refuses the other refuses, except for encodings that are longer than they need be: to memd a key has many
	// spellings then, to us one.
	for range packets {
		b := bytesOf(r, 7)
		for i := range b { // many ends, many zeros
			b[i] &= byte(0x80 | 0x7f>>r.IntN(8))
		}
		theirs, n, theirErr := memd.DecodeULEB128_32(b)
		ours, rest, err := mcbp.SplitCollection(b)
		if err != nil {
			require.True(t, theirErr != nil || len(memd.AppendULEB128_32(nil, theirs)) < n, "%x is %d to memd, and %v", b, theirs, err)
			continue
		}
		require.NoError(t, theirErr, "%x", b)
		require.Equal(t, theirs, ours)
		require.Len(t, b, n+len(rest))
	}
}

// With collections negotiated memd writes and reads the id in the keys of documents.
func TestKeysWithCollections(t *testing.T) {
	r := random(t)
	for _, op := range []mcbp.Opcode{
		mcbp.OpGet, mcbp.OpSet, mcbp.OpDelete, mcbp.OpDCPMutation, mcbp.OpDCPDeletion, mcbp.OpDCPExpiration,
	} {
		for range 100 {
			id, name := r.Uint32()>>r.IntN(32), append(bytesOf(r, 100), 'k')
			ours := &mcbp.Packet{Opcode: op, Key: append(mcbp.AppendCollectionID(nil, id), name...)}
			theirs := &memd.Packet{Magic: memd.CmdMagicReq, Command: memd.CmdCode(op), CollectionID: id, Key: name}
			var stream bytes.Buffer
			c := conn(&stream)
			c.EnableFeature(memd.FeatureCollections)
			require.NoError(t, c.WritePacket(theirs))
			require.True(t, bytes.Equal(ours.Frame(), stream.Bytes()))
			read, _, err := c.ReadPacket()
			require.NoError(t, err)
			require.Equal(t, id, read.CollectionID)
			requireBytes(t, name, read.Key)
		}
	}
	// PREPARE, COMMIT and ABORT are for replications only, which memd does not speak: their keys stay as they are.
	for _, op := range []mcbp.Opcode{mcbp.OpDCPPrepare, mcbp.OpDCPCommit, mcbp.OpDCPAbort} {
		assert.False(t, memd.IsCommandCollectionEncoded(memd.CmdCode(op)), "%v", op)
	}
}

// Where the two part on purpose, we are the stricter: what is reserved is neither sent nor taken, and nothing is cut off
// silently.
func TestWhereWeDiffer(t *testing.T) {
	written := func(p *memd.Packet) mcbp.Frame {
		t.Helper()
		p.Magic, p.Command = memd.CmdMagicReq, memd.CmdSet
		var stream bytes.Buffer
		require.NoError(t, conn(&stream).WritePacket(p))
		return stream.Bytes()
	}
	var framing *mcbp.FramingError

	for timeout, ours := range map[time.Duration]string{
		time.Hour:        "\x13\x01\xff\xfe", // memd says 0xffff, which is reserved
		time.Microsecond: "\x13\x01\x00\x01", // memd says 0, which is reserved
	} {
		f := written(&memd.Packet{
			DurabilityLevelFrame:   &memd.DurabilityLevelFrame{DurabilityLevel: memd.DurabilityLevelMajority},
			DurabilityTimeoutFrame: &memd.DurabilityTimeoutFrame{DurabilityTimeout: timeout},
		})
		require.ErrorAs(t, mcbp.CheckFrameInfos(f.FramingExtras(), false), &framing)
		assert.Equal(t, ours, string(mcbp.Durability{Level: mcbp.DurabilityMajority, Timeout: timeout}.AppendInfo(nil)))
	}

	// memd knows a frame info that has nothing to say by its id alone.
	preserve := mcbp.FrameInfo{ID: mcbp.FrameInfoPreserveTTL, Data: []byte{1}}.Append(nil)
	read, _, err := conn(bytes.NewBuffer((&mcbp.Packet{Magic: mcbp.MagicFramingRequest, FramingExtras: preserve}).Frame())).ReadPacket()
	require.NoError(t, err)
	assert.NotNil(t, read.PreserveExpiryFrame)
	require.ErrorAs(t, mcbp.CheckFrameInfos(preserve, false), &framing)

	// memd keeps the last of several; a message of two streams is none for us.
	two := []byte{0x22, 0, 1, 0x22, 0, 2}
	raw := (&mcbp.Packet{Magic: mcbp.MagicFramingRequest, Opcode: mcbp.OpDCPCloseStream, FramingExtras: two}).Frame()
	read, _, err = conn(bytes.NewBuffer(raw)).ReadPacket()
	require.NoError(t, err)
	assert.EqualValues(t, 2, read.StreamIDFrame.StreamID)
	_, err = mcbp.ParseCloseStream(raw)
	var layout *mcbp.LayoutError
	require.ErrorAs(t, err, &layout)

	// memd cuts the length of a key that needs more than one byte, so that the rest of it becomes value.
	long := bytes.Repeat([]byte{'k'}, 300)
	f := written(&memd.Packet{Key: long, BarrierFrame: &memd.BarrierFrame{}})
	assert.Equal(t, 300-256, f.KeyLen())
	assert.Panics(t, func() { (&mcbp.Packet{Magic: mcbp.MagicFramingRequest, Key: long}).Frame() })

	// memd stops at the answers of clients to servers, which it never has to read.
	answer := (&mcbp.Packet{Magic: mcbp.MagicServerResponse}).Frame()
	_, _, err = conn(bytes.NewBuffer(answer)).ReadPacket()
	require.Error(t, err)
	_, _, err = mcbp.Parse(answer, mcbp.DefaultMaxBody)
	require.NoError(t, err)
}
