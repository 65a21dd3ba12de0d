package mcbp

import (
	"bytes"
	"encoding/hex"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// decoded makes a decoder comparable with others in a table.
func decoded[M any](parse func(Frame) (M, error)) func(Frame) (any, error) {
	return func(f Frame) (any, error) {
		m, err := parse(f)
		return m, err
	}
}

// decodedRef is decoded for messages that encode through a pointer.
func decodedRef[M any](parse func(Frame) (M, error)) func(Frame) (any, error) {
	return func(f Frame) (any, error) {
		m, err := parse(f)
		return &m, err
	}
}

// One frame of each layout of dcp-wire §6, written by hand from its tables, so that a field at a wrong offset cannot hide
// behind an encoder with the same mistake.
func TestLayoutsByHand(t *testing.T) {
	const (
		text    = "6b65793031"       // key01
		seqnoA  = "0000000000000a01" // no two fields of a frame have the same value
		seqnoB  = "0000000000000b02"
		seqnoC  = "0000000000000c03"
		seqnoD  = "0000000000000d04"
		seqnoE  = "0000000000000e05"
		seqnoF  = "0000000000000f06"
		flags   = "00000011"
		number1 = "12345678"
		number2 = "87654321"
		noCAS   = "0000000000000000"
		cas     = "1122334455667788"
		stream  = "01000000" // as an engine on x86 writes its first
	)
	opaque := Opaque{1, 0, 0, 0}
	for name, v := range map[string]struct {
		hex   string
		want  appender
		parse func(Frame) (any, error)
	}{
		"OPEN producer": {
			"80 50 0005 08 00 0000 0000000d ff0001ff" + noCAS + "00000000 00000125" + text,
			Open{Opaque: Opaque{0xff, 0, 1, 0xff}, Name: "key01", Flags: OpenFlagsReplicaProducer},
			decoded(ParseOpen),
		},
		"OPEN consumer": {
			"80 50 0005 08 01 0000 00000023 ff0001ff" + noCAS + "00000007 00000124" + text +
				hex.EncodeToString([]byte(`{"consumer_name":"n1"}`)),
			Open{
				Opaque: Opaque{0xff, 0, 1, 0xff}, Name: "key01", Flags: OpenFlagsReplicaConsumer, Sequence: 7, ConsumerName: "n1",
				Value: []byte(`{"consumer_name":"n1"}`),
			},
			decoded(ParseOpen),
		},
		"CLOSE_STREAM of one of several": {
			"08 52 03 00 00 00 0005 00000003" + stream + noCAS + "22 0102",
			CloseStream{VBucket: 5, Opaque: opaque, StreamID: 0x102},
			decoded(ParseCloseStream),
		},
		"STREAM_REQ": {
			"80 53 0000 30 01 0005 00000032" + stream + noCAS + flags + "00000000" + seqnoA + seqnoB + seqnoC + seqnoD + seqnoE + "7b7d",
			StreamRequest{
				VBucket: 5, Opaque: opaque, Flags: 0x11, Start: 0xa01, End: 0xb02, VBUUID: 0xc03, SnapStart: 0xd04, SnapEnd: 0xe05,
				Value: []byte("{}"),
			},
			decoded(ParseStreamRequest),
		},
		"STREAM_REQ of a client that marks nothing": {
			"80 53 0000 30 00 0005 00000032" + stream + noCAS + flags + "00000000" + seqnoA + seqnoB + seqnoC + seqnoD + seqnoE + "7b7d",
			StreamRequest{
				VBucket: 5, Opaque: opaque, Flags: 0x11, Start: 0xa01, End: 0xb02, VBUUID: 0xc03, SnapStart: 0xd04, SnapEnd: 0xe05,
				Value: []byte("{}"), Unmarked: true,
			},
			decoded(ParseStreamRequest),
		},
		"STREAM_REQ answered with a log": {
			"81 53 0000 00 00 0000 00000020" + stream + noCAS + seqnoA + seqnoB + seqnoC + seqnoD,
			StreamRequestAnswer{Opaque: opaque, Log: []FailoverEntry{{UUID: 0xa01, Seqno: 0xb02}, {UUID: 0xc03, Seqno: 0xd04}}},
			decoded(ParseStreamRequestAnswer),
		},
		"STREAM_REQ answered with a rollback": {
			"81 53 0000 00 00 0023 00000008" + stream + noCAS + seqnoA,
			StreamRequestAnswer{Opaque: opaque, Status: StatusRollback, Rollback: 0xa01},
			decoded(ParseStreamRequestAnswer),
		},
		"STREAM_REQ refused": {
			"81 53 0000 00 00 0007 00000000" + stream + noCAS,
			StreamRequestAnswer{Opaque: opaque, Status: StatusNotMyVBucket},
			decoded(ParseStreamRequestAnswer),
		},
		"GET_FAILOVER_LOG": {
			"80 54 0000 00 00 0005 00000000" + stream + noCAS,
			FailoverLogRequest{Opcode: OpDCPGetFailoverLog, VBucket: 5, Opaque: opaque},
			decoded(ParseFailoverLogRequest),
		},
		"GET_FAILOVER_LOG answered": {
			"81 54 0000 00 00 0000 00000010" + stream + noCAS + seqnoA + seqnoB,
			FailoverLogAnswer{Opcode: OpDCPGetFailoverLog, Opaque: opaque, Log: []FailoverEntry{{UUID: 0xa01, Seqno: 0xb02}}},
			decoded(ParseFailoverLogAnswer),
		},
		"GET_FAILOVER_LOG of plain clients": {
			"80 96 0000 00 00 0005 00000000" + stream + noCAS,
			FailoverLogRequest{Opcode: OpGetFailoverLog, VBucket: 5, Opaque: opaque},
			decoded(ParseFailoverLogRequest),
		},
		"its refusal": {
			"81 96 0000 00 00 0007 00000000" + stream + noCAS,
			FailoverLogAnswer{Opcode: OpGetFailoverLog, Opaque: opaque, Status: StatusNotMyVBucket},
			decoded(ParseFailoverLogAnswer),
		},
		"STREAM_END with a reason of the future": {
			"80 55 0000 04 00 0005 00000004" + stream + noCAS + "00000099",
			StreamEnd{VBucket: 5, Opaque: opaque, Reason: 0x99},
			decoded(ParseStreamEnd),
		},
		"SNAPSHOT_MARKER V1": {
			"80 56 0000 14 00 0005 00000014" + stream + noCAS + seqnoA + seqnoB + flags,
			SnapshotMarker{VBucket: 5, Opaque: opaque, Start: 0xa01, End: 0xb02, Flags: SnapshotMemory | SnapshotHistory},
			decoded(ParseSnapshotMarker),
		},
		"SNAPSHOT_MARKER V2.0": {
			"80 56 0000 01 00 0005 00000025" + stream + noCAS + "00" + seqnoA + seqnoB + flags + seqnoC + seqnoD,
			SnapshotMarker{
				VBucket: 5, Opaque: opaque, Version: MarkerV20, Start: 0xa01, End: 0xb02, Flags: 0x11, MaxVisible: 0xc03,
				HighCompleted: 0xd04,
			},
			decoded(ParseSnapshotMarker),
		},
		"SNAPSHOT_MARKER V2.2": {
			"80 56 0000 01 00 0005 00000035" + stream + noCAS + "02" + seqnoA + seqnoB + flags + seqnoC + seqnoD + seqnoE + seqnoF,
			SnapshotMarker{
				VBucket: 5, Opaque: opaque, Version: MarkerV22, Start: 0xa01, End: 0xb02, Flags: 0x11, MaxVisible: 0xc03,
				HighCompleted: 0xd04, Purge: 0xe05, HighPrepared: 0xf06,
			},
			decoded(ParseSnapshotMarker),
		},
		"MUTATION": {
			"80 57 0005 1f 06 0005 00000026" + stream + cas + seqnoA + seqnoB + flags + number1 + number2 + "0000 fd" + text + "7677",
			&Mutation{
				VBucket: 5, Opaque: opaque, Datatype: DatatypeSnappy | DatatypeXattr, CAS: 0x1122334455667788, BySeqno: 0xa01,
				RevSeqno: 0xb02, Flags: 0x11, Expiration: 0x12345678, LockTime: 0x87654321, NRU: 0xfd, Key: []byte("key01"),
				Value: []byte("vw"),
			},
			decodedRef(ParseMutation),
		},
		"MUTATION of one of several streams": {
			"08 57 03 05 1f 00 0005 00000029" + stream + cas + "220001" + seqnoA + seqnoB + flags + number1 + number2 + "0000 fd" + text + "7677",
			&Mutation{
				VBucket: 5, Opaque: opaque, StreamID: 1, CAS: 0x1122334455667788, BySeqno: 0xa01, RevSeqno: 0xb02, Flags: 0x11,
				Expiration: 0x12345678, LockTime: 0x87654321, NRU: 0xfd, Key: []byte("key01"), Value: []byte("vw"),
			},
			decodedRef(ParseMutation),
		},
		"DELETION V1": {
			"80 58 0005 12 00 0005 00000017" + stream + cas + seqnoA + seqnoB + "0000" + text,
			&Deletion{
				VBucket: 5, Opaque: opaque, CAS: 0x1122334455667788, BySeqno: 0xa01, RevSeqno: 0xb02, Key: []byte("key01"),
				Value: []byte{},
			},
			decodedRef(ParseDeletion),
		},
		"DELETION V2": {
			"80 58 0005 15 04 0005 0000001c" + stream + cas + seqnoA + seqnoB + number1 + "00" + text + "7677",
			&Deletion{
				VBucket: 5, Opaque: opaque, Version: DeletionV2, Datatype: DatatypeXattr, CAS: 0x1122334455667788, BySeqno: 0xa01,
				RevSeqno: 0xb02, DeleteTime: 0x12345678, Key: []byte("key01"), Value: []byte("vw"),
			},
			decodedRef(ParseDeletion),
		},
		"EXPIRATION": {
			"80 59 0005 14 00 0005 00000019" + stream + cas + seqnoA + seqnoB + number1 + text,
			&Deletion{
				VBucket: 5, Opaque: opaque, Version: DeletionByExpiry, CAS: 0x1122334455667788, BySeqno: 0xa01, RevSeqno: 0xb02,
				DeleteTime: 0x12345678, Key: []byte("key01"), Value: []byte{},
			},
			decodedRef(ParseDeletion),
		},
		"SET_VBUCKET_STATE with a value": {
			"80 5b 0000 01 01 0005 00000003" + stream + noCAS + "01 7b7d",
			SetVBucketState{VBucket: 5, Opaque: opaque, State: VBucketActive, Value: []byte("{}")},
			decoded(ParseSetVBucketState),
		},
		"NOOP": {
			"80 5c 0000 00 00 0000 00000000 00000007" + noCAS,
			Noop{Opaque: OpaqueFromUint32(7)},
			decoded(ParseNoop),
		},
		"NOOP answered": {
			"81 5c 0000 00 00 0000 00000000 00000007" + noCAS,
			StatusAnswer{Opcode: OpDCPNoop, Opaque: OpaqueFromUint32(7)},
			decoded(ParseStatusAnswer),
		},
		"CONTROL": {
			"80 5e 000b 00 00 0000 0000000f" + stream + noCAS + hex.EncodeToString([]byte("enable_nooptrue")),
			Control{Opaque: opaque, Key: "enable_noop", Value: "true"},
			decoded(ParseControl),
		},
		"CONTROL refused": {
			"81 5e 0000 00 00 0083 00000000" + stream + noCAS,
			StatusAnswer{Opcode: OpDCPControl, Opaque: opaque, Status: StatusNotSupported},
			decoded(ParseStatusAnswer),
		},
		"SYSTEM_EVENT, collection begins": {
			"80 5f 0005 0d 00 0005 00000026" + stream + noCAS + seqnoA + "00000000 01" + text + seqnoB + flags + number1 + number2,
			&SystemEvent{
				VBucket: 5, Opaque: opaque, BySeqno: 0xa01, Event: EventCollectionBegin, Version: EventPackedV1, Key: []byte("key01"),
				Value: unhex(t, seqnoB+flags+number1+number2),
			},
			decodedRef(ParseSystemEvent),
		},
		"SYSTEM_EVENT, scope dropped": {
			"80 5f 0000 0d 00 0005 00000019" + stream + noCAS + seqnoA + "00000004 00" + seqnoB + flags,
			&SystemEvent{
				VBucket: 5, Opaque: opaque, BySeqno: 0xa01, Event: EventScopeDrop, Key: []byte{}, Value: unhex(t, seqnoB+flags),
			},
			decodedRef(ParseSystemEvent),
		},
		"PREPARE": {
			"80 60 0005 1f 01 0005 00000026" + stream + cas + seqnoA + seqnoB + flags + number1 + number2 + "fd 01 03" + text + "7b7d",
			&Prepare{
				VBucket: 5, Opaque: opaque, Datatype: DatatypeJSON, CAS: 0x1122334455667788, BySeqno: 0xa01, RevSeqno: 0xb02,
				Flags: 0x11, Expiration: 0x12345678, LockTime: 0x87654321, NRU: 0xfd, Deleted: true,
				Level: DurabilityPersistToMajority, Key: []byte("key01"), Value: []byte("{}"),
			},
			decodedRef(ParsePrepare),
		},
		"SEQNO_ACKNOWLEDGED": {
			"80 61 0000 08 00 0005 00000008" + stream + noCAS + seqnoA,
			SeqnoMessage{Opcode: OpDCPSeqnoAcknowledged, VBucket: 5, Opaque: opaque, Seqno: 0xa01},
			decoded(ParseSeqnoMessage),
		},
		"COMMIT": {
			"80 62 0005 10 00 0005 00000015" + stream + noCAS + seqnoA + seqnoB + text,
			Completion{Opcode: OpDCPCommit, VBucket: 5, Opaque: opaque, Prepared: 0xa01, Seqno: 0xb02, Key: []byte("key01")},
			decoded(ParseCompletion),
		},
		"ABORT": {
			"80 63 0005 10 00 0005 00000015" + stream + noCAS + seqnoA + seqnoB + text,
			Completion{Opcode: OpDCPAbort, VBucket: 5, Opaque: opaque, Prepared: 0xa01, Seqno: 0xb02, Key: []byte("key01")},
			decoded(ParseCompletion),
		},
		"SEQNO_ADVANCED of one of several streams": {
			"08 64 03 00 08 00 0005 0000000b" + stream + noCAS + "22fffe" + seqnoA,
			SeqnoMessage{Opcode: OpDCPSeqnoAdvanced, VBucket: 5, Opaque: opaque, StreamID: 0xfffe, Seqno: 0xa01},
			decoded(ParseSeqnoMessage),
		},
		"OSO_SNAPSHOT": {
			"80 65 0000 04 00 0005 00000004" + stream + noCAS + "00000002",
			OSOSnapshot{VBucket: 5, Opaque: opaque, Phase: OSOEnd},
			decoded(ParseOSOSnapshot),
		},
		"CACHE_TRANSFER": {
			"80 66 0000 00 00 0005 0000002f" + stream + noCAS +
				cas + seqnoA + seqnoB + "00000002" + flags + number1 + "0005 01 fd" + text + "7b7d",
			CacheTransfer{
				VBucket: 5, Opaque: opaque, Records: unhex(t, cas+seqnoA+seqnoB+"00000002"+flags+number1+"000501fd"+text+"7b7d"),
			},
			decoded(ParseCacheTransfer),
		},
		"CACHE_TRANSFER_END": {
			"80 67 0000 00 00 0005 00000000" + stream + noCAS,
			CacheTransferEnd{VBucket: 5, Opaque: opaque},
			decoded(ParseCacheTransferEnd),
		},
	} {
		t.Run(name, func(t *testing.T) {
			f := frameOf(t, v.hex)
			got, err := v.parse(f)
			require.NoError(t, err)
			assert.Equal(t, v.want, got)
			assert.Equal(t, hex.EncodeToString(f), hex.EncodeToString(v.want.Append(nil)))
		})
	}
}

func unhex(t testing.TB, digits string) []byte {
	t.Helper()
	b, err := hex.DecodeString(strings.ReplaceAll(digits, " ", ""))
	require.NoError(t, err)
	return b
}

func TestOurOwnOpenIsSpelledAsManagersSpellIt(t *testing.T) {
	f := Frame(Open{Name: "n", Flags: OpenFlagsReplicaConsumer, ConsumerName: `a"b`}.Append(nil))
	assert.True(t, bytes.HasSuffix(f, []byte(`n{"consumer_name": "a\"b"}`)), "%q", f.Value())
	assert.Equal(t, DatatypeJSON, f.Datatype())
	m, err := ParseOpen(f)
	require.NoError(t, err)
	assert.Equal(t, `a"b`, m.ConsumerName)
}

func TestPackedSystemEvents(t *testing.T) {
	for name, v := range map[string]struct {
		event   EventID
		version uint8
		hex     string
		want    PackedEvent
	}{
		"collection begins": {
			EventCollectionBegin, EventPackedV0, "00000000000000aa 00000008 00000009", PackedEvent{Manifest: 0xaa, Scope: 8, Collection: 9},
		},
		"collection begins, with a time to live": {
			EventCollectionBegin, EventPackedV1, "00000000000000aa 00000008 00000009 0000000f",
			PackedEvent{Manifest: 0xaa, Scope: 8, Collection: 9, MaxTTL: 15},
		},
		"collection ends": {
			EventCollectionEnd, EventPackedV0, "00000000000000aa 00000008 00000009", PackedEvent{Manifest: 0xaa, Scope: 8, Collection: 9},
		},
		"scope created": {EventScopeCreate, EventPackedV0, "00000000000000aa 00000008", PackedEvent{Manifest: 0xaa, Scope: 8}},
		"scope dropped": {EventScopeDrop, EventPackedV0, "00000000000000aa 00000008", PackedEvent{Manifest: 0xaa, Scope: 8}},
	} {
		value := v.want.AppendPacked([]byte("x"), v.event, v.version)
		assert.Equal(t, "x"+string(unhex(t, v.hex)), string(value), name)
		m := SystemEvent{Event: v.event, Version: v.version, Value: value[1:]}
		if v.event == EventCollectionBegin || v.event == EventScopeCreate {
			m.Key = []byte("name")
		}
		again, err := ParseSystemEvent(m.Append(nil))
		require.NoError(t, err, name)
		packed, ok := again.Packed()
		assert.True(t, ok, name)
		assert.Equal(t, v.want, packed, name)
	}
	_, ok := (&SystemEvent{Version: EventFlatBuffers}).Packed()
	assert.False(t, ok)
	assert.Panics(t, func() { PackedEvent{}.AppendPacked(nil, EventCollectionModify, EventPackedV0) })
	assert.Panics(t, func() { PackedEvent{}.AppendPacked(nil, EventScopeDrop, EventPackedV1) })
	assert.Panics(t, func() { PackedEvent{}.AppendPacked(nil, EventScopeDrop, EventFlatBuffers) })
	assert.Equal(t, "collection ends", EventCollectionEnd.String())
	assert.Equal(t, "event 2", EventID(2).String())
}

func TestCacheRecords(t *testing.T) {
	first, rest, err := NextCacheRecord(cacheRecords())
	require.NoError(t, err)
	assert.Equal(t, CacheRecord{
		CAS: 1, BySeqno: 2, RevSeqno: 3, Flags: 4, Expiration: 5, Datatype: DatatypeJSON, Hint: 6, Key: []byte("\x08k"), Value: []byte("{}"),
	}, first)
	second, rest, err := NextCacheRecord(rest)
	require.NoError(t, err)
	assert.Equal(t, CacheRecord{CAS: 7, BySeqno: 1, RevSeqno: 8, Key: []byte("\x00key"), Value: []byte{}}, second)
	assert.Empty(t, rest)
	_, _, err = NextCacheRecord(rest)
	assert.ErrorContains(t, err, "cut short")
}

// A durable write of a client: the requirement is a frame info, before everything else.
func TestADurableSetByHand(t *testing.T) {
	f := frameOf(t, "08 01 04 05 08 00 0005 00000013 00000007 0000000000000000 13 02 01f4 0000000000000000 6b65793031 7677")
	info, rest, err := NextFrameInfo(f.FramingExtras())
	require.NoError(t, err)
	assert.Empty(t, rest)
	assert.Equal(t, FrameInfoDurability, info.ID)
	d, err := ParseDurability(info.Data)
	require.NoError(t, err)
	assert.Equal(t, Durability{Level: DurabilityMajorityAndPersist, Timeout: 500 * time.Millisecond}, d)
	p := packetOf(f)
	p.FramingExtras = d.AppendInfo(nil)
	assert.Equal(t, []byte(f), []byte(p.Frame()))
	known, err := CheckLayout(f)
	assert.False(t, known, "a client's command")
	assert.NoError(t, err)
}
