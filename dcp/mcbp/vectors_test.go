package mcbp

import (
	"encoding/hex"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func frameOf(t testing.TB, spaced string) Frame {
	t.Helper()
	raw, err := hex.DecodeString(strings.ReplaceAll(spaced, " ", ""))
	require.NoError(t, err)
	f, rest, err := Parse(raw, DefaultMaxBody)
	require.NoError(t, err)
	require.Empty(t, rest)
	return f
}

type appender interface{ Append(b []byte) []byte }

// The vectors of dcp-wire §15, and what the layouts make of them.
func TestWireVectors(t *testing.T) {
	five := OpaqueFromUint32(5)
	for _, v := range []struct {
		name, hex string
		want      appender
		parse     func(Frame) (any, error)
	}{
		{
			"ADD_STREAM", "80 51 0000 04 00 0005 00000004 00000005 0000000000000000 00000000",
			AddStream{VBucket: 5, Opaque: five},
			func(f Frame) (any, error) { return ParseAddStream(f) },
		},
		{
			"ADD_STREAM takeover", "80 51 0000 04 00 0005 00000004 00000005 0000000000000000 00000001",
			AddStream{VBucket: 5, Opaque: five, Flags: StreamFlagTakeover},
			func(f Frame) (any, error) { return ParseAddStream(f) },
		},
		{
			"ADD_STREAM answer", "81 51 0000 04 00 0000 00000004 00000005 0000000000000000 00001000",
			AddStreamAnswer{Opaque: five, Requested: true, Stream: 0x1000},
			func(f Frame) (any, error) { return ParseAddStreamAnswer(f) },
		},
		{
			"ADD_STREAM exists", "81 51 0000 00 00 0002 00000000 00000005 0000000000000000",
			AddStreamAnswer{Opaque: five, Status: StatusKeyExists},
			func(f Frame) (any, error) { return ParseAddStreamAnswer(f) },
		},
		{
			"CLOSE_STREAM", "80 52 0000 00 00 0005 00000000 00000005 0000000000000000",
			CloseStream{VBucket: 5, Opaque: five},
			func(f Frame) (any, error) { return ParseCloseStream(f) },
		},
		{
			"STREAM_END", "80 55 0000 04 00 0005 00000004 00100000 0000000000000000 00000002",
			StreamEnd{VBucket: 5, Opaque: Opaque{0x00, 0x10, 0x00, 0x00}, Reason: EndStateChanged},
			func(f Frame) (any, error) { return ParseStreamEnd(f) },
		},
		{
			"SET_VBUCKET_STATE", "80 5b 0000 01 00 0005 00000001 00001001 0000000000000000 03",
			SetVBucketState{VBucket: 5, Opaque: OpaqueFromUint32(0x1001), State: VBucketPending, Value: []byte{}},
			func(f Frame) (any, error) { return ParseSetVBucketState(f) },
		},
		{
			"BUFFER_ACK", "80 5d 0000 04 00 0000 00000004 00000000 0000000000000000 00001000",
			BufferAck{Bytes: 4096},
			func(f Frame) (any, error) { return ParseBufferAck(f) },
		},
	} {
		t.Run(v.name, func(t *testing.T) {
			f := frameOf(t, v.hex)
			got, err := v.parse(f)
			require.NoError(t, err)
			assert.Equal(t, v.want, got)
			assert.Equal(t, []byte(f), v.want.Append(nil))
			assert.Equal(t, append([]byte("before"), f...), v.want.Append([]byte("before")), "Append adds, it does not replace")
		})
	}
}

func TestWireVectorsOfBarePackets(t *testing.T) {
	five, seven := OpaqueFromUint32(5), OpaqueFromUint32(7)
	for name, v := range map[string]struct {
		hex  string
		want Packet
	}{
		"CLOSE_STREAM answer": {
			"81 52 0000 00 00 0001 00000000 00000005 0000000000000000",
			Packet{Magic: MagicResponse, Opcode: OpDCPCloseStream, Status: StatusKeyNotFound, Opaque: five},
		},
		"SET_VBUCKET_STATE answer": {
			"81 5b 0000 00 00 0000 00000000 00001001 0000000000000000",
			Packet{Magic: MagicResponse, Opcode: OpDCPSetVBucketState, Opaque: OpaqueFromUint32(0x1001)},
		},
		"NOOP": {
			"80 5c 0000 00 00 0000 00000000 00000007 0000000000000000", Packet{Opcode: OpDCPNoop, Opaque: seven},
		},
		"SEQNO_PERSISTENCE": {
			"80 b7 0000 08 00 000c 00000008 00000000 0000000000000000 00000000feeddeca",
			Packet{Opcode: OpSeqnoPersistence, VBucket: 12, Extras: []byte{0, 0, 0, 0, 0xfe, 0xed, 0xde, 0xca}},
		},
		"SET_VBUCKET": {
			"80 3d 0000 01 00 0005 00000001 00000000 0000000000000000 02",
			Packet{Opcode: OpSetVBucket, VBucket: 5, Extras: []byte{byte(VBucketReplica)}},
		},
		"framing extras": {
			"08 57 03 05 1f 00 0005 00000029 01000000 0000000000000000 220001" + strings.Repeat("00", 31) + "6b65793031 7677",
			Packet{
				Magic: MagicFramingRequest, Opcode: OpDCPMutation, VBucket: 5, Opaque: Opaque{1}, FramingExtras: []byte{0x22, 0, 1},
				Extras: make([]byte, 31), Key: []byte("key01"), Value: []byte("vw"),
			},
		},
	} {
		t.Run(name, func(t *testing.T) {
			f := frameOf(t, v.hex)
			assert.Equal(t, hex.EncodeToString(f), hex.EncodeToString(v.want.Frame()))
			assert.Equal(t, hex.EncodeToString(f), hex.EncodeToString(packetOf(f).Frame()))
		})
	}
}

func TestFramingExtrasMoveTheOtherParts(t *testing.T) {
	f := frameOf(t, "08 57 03 05 1f 00 0005 00000029 01000000 0000000000000000 220001"+strings.Repeat("00", 31)+"6b65793031 7677")
	assert.Equal(t, []byte{0x22, 0, 1}, f.FramingExtras())
	assert.Equal(t, 31, f.ExtrasLen())
	assert.Equal(t, "key01", string(f.Key()))
	assert.Equal(t, "vw", string(f.Value()))
	m, err := ParseMutation(f)
	require.NoError(t, err)
	assert.Equal(t, "key01", string(m.Key))
}
