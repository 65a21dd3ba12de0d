package mcbp

import (
	"bytes"
	"encoding/binary"
	"slices"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// allLayouts holds one well-laid-out frame of every kind.
func allLayouts() map[string]Frame {
	x := Opaque{1, 0, 0, 0}
	return map[string]Frame{
		"open":              Open{Opaque: x, Name: "replication:a->b:c", Flags: OpenFlagsReplicaConsumer, ConsumerName: "b"}.Append(nil),
		"add stream":        AddStream{VBucket: 7, Opaque: x, Flags: 1}.Append(nil),
		"add stream answer": AddStreamAnswer{Opaque: x, Requested: true, Stream: 1}.Append(nil),
		"close stream":      CloseStream{VBucket: 7, Opaque: x}.Append(nil),
		"stream request":    StreamRequest{VBucket: 7, Opaque: x, Flags: 1, Start: 2, End: 3, VBUUID: 4, SnapStart: 5, SnapEnd: 6}.Append(nil),
		"stream request answer": StreamRequestAnswer{
			Opaque: x, Log: []FailoverEntry{{UUID: 1, Seqno: 2}, {UUID: 3}},
		}.Append(nil),
		"rollback":          StreamRequestAnswer{Opaque: x, Status: StatusRollback, Rollback: 9}.Append(nil),
		"stream end":        StreamEnd{VBucket: 7, Opaque: x, Reason: EndStateChanged}.Append(nil),
		"marker v1":         SnapshotMarker{VBucket: 7, Opaque: x, Start: 1, End: 2, Flags: 3}.Append(nil),
		"marker v2.0":       SnapshotMarker{VBucket: 7, Opaque: x, Version: MarkerV20, Start: 1, End: 2, Flags: 3, MaxVisible: 4, HighCompleted: 5}.Append(nil),
		"marker v2.2":       SnapshotMarker{VBucket: 7, Opaque: x, Version: MarkerV22, Start: 1, End: 2, Flags: 3, MaxVisible: 4, HighCompleted: 5, Purge: 6, HighPrepared: 7}.Append(nil),
		"mutation":          (&Mutation{VBucket: 7, Opaque: x, CAS: 1, BySeqno: 2, RevSeqno: 3, Flags: 4, Expiration: 5, LockTime: 6, NRU: 7, Key: []byte("k"), Value: []byte("v")}).Append(nil),
		"deletion v1":       (&Deletion{VBucket: 7, Opaque: x, CAS: 1, BySeqno: 2, RevSeqno: 3, Key: []byte("k")}).Append(nil),
		"deletion v2":       (&Deletion{VBucket: 7, Opaque: x, Version: DeletionV2, CAS: 1, BySeqno: 2, RevSeqno: 3, DeleteTime: 4, Key: []byte("k")}).Append(nil),
		"expiration":        (&Deletion{VBucket: 7, Opaque: x, Version: DeletionByExpiry, CAS: 1, BySeqno: 2, RevSeqno: 3, DeleteTime: 4, Key: []byte("k")}).Append(nil),
		"set vbucket state": SetVBucketState{VBucket: 7, Opaque: x, State: VBucketPending, Value: []byte("{}")}.Append(nil),
		"buffer ack":        BufferAck{Opaque: x, Bytes: 17}.Append(nil),
		"control":           Control{Opaque: x, Key: "enable_noop", Value: "true"}.Append(nil),
		"seqno advanced":    SeqnoMessage{Opcode: OpDCPSeqnoAdvanced, VBucket: 7, Opaque: x, Seqno: 8}.Append(nil),
		"seqno acknowledged": SeqnoMessage{
			Opcode: OpDCPSeqnoAcknowledged, VBucket: 7, Opaque: x, Seqno: 8,
		}.Append(nil),
		"noop":             Noop{Opaque: x}.Append(nil),
		"get failover log": FailoverLogRequest{Opcode: OpDCPGetFailoverLog, VBucket: 7, Opaque: x}.Append(nil),
		"failover log": FailoverLogAnswer{
			Opcode: OpDCPGetFailoverLog, Opaque: x, Log: []FailoverEntry{{UUID: 1, Seqno: 2}},
		}.Append(nil),
		"plain get failover log": FailoverLogRequest{Opcode: OpGetFailoverLog, VBucket: 7, Opaque: x}.Append(nil),
		"plain failover log": FailoverLogAnswer{
			Opcode: OpGetFailoverLog, Opaque: x, Log: []FailoverEntry{{UUID: 1, Seqno: 2}},
		}.Append(nil),
		"system event": (&SystemEvent{
			VBucket: 7, Opaque: x, BySeqno: 1, Event: EventCollectionBegin, Version: EventPackedV1, Key: []byte("name"),
			Value: PackedEvent{Manifest: 1, Scope: 2, Collection: 3, MaxTTL: 4}.AppendPacked(nil, EventCollectionBegin, EventPackedV1),
		}).Append(nil),
		"scope drop": (&SystemEvent{
			VBucket: 7, Opaque: x, BySeqno: 1, Event: EventScopeDrop,
			Value: PackedEvent{Manifest: 1, Scope: 2}.AppendPacked(nil, EventScopeDrop, EventPackedV0),
		}).Append(nil),
		"flat system event": (&SystemEvent{
			VBucket: 7, Opaque: x, BySeqno: 1, Event: EventCollectionModify, Version: EventFlatBuffers, Value: []byte("flat"),
		}).Append(nil),
		"prepare": (&Prepare{
			VBucket: 7, Opaque: x, CAS: 1, BySeqno: 2, RevSeqno: 3, Flags: 4, Expiration: 5, LockTime: 6, NRU: 7,
			Level: DurabilityPersistToMajority, Key: []byte("k"), Value: []byte("v"),
		}).Append(nil),
		"prepared deletion": (&Prepare{
			VBucket: 7, Opaque: x, CAS: 1, BySeqno: 2, RevSeqno: 3, Deleted: true, Level: DurabilityMajority, Key: []byte("k"),
		}).Append(nil),
		"commit":             Completion{Opcode: OpDCPCommit, VBucket: 7, Opaque: x, Prepared: 1, Seqno: 2, Key: []byte("k")}.Append(nil),
		"abort":              Completion{Opcode: OpDCPAbort, VBucket: 7, Opaque: x, Prepared: 1, Seqno: 2, Key: []byte("k")}.Append(nil),
		"oso start":          OSOSnapshot{VBucket: 7, Opaque: x, Phase: OSOStart}.Append(nil),
		"cache transfer":     CacheTransfer{VBucket: 7, Opaque: x, Records: cacheRecords()}.Append(nil),
		"cache transfer end": CacheTransferEnd{VBucket: 7, Opaque: x}.Append(nil),
		"close stream answer": StatusAnswer{
			Opcode: OpDCPCloseStream, Opaque: x, Status: StatusStreamNotFound,
		}.Append(nil),
		"refusal with a reason": StatusAnswer{
			Opcode: OpDCPOpen, Opaque: x, Status: StatusInvalid, Text: Text{Datatype: DatatypeJSON, Value: []byte("{}")},
		}.Append(nil),
	}
}

// cacheRecords are two, one without a value.
func cacheRecords() []byte {
	first := CacheRecord{CAS: 1, BySeqno: 2, RevSeqno: 3, Flags: 4, Expiration: 5, Datatype: DatatypeJSON, Hint: 6, Key: []byte("\x08k"), Value: []byte("{}")}
	second := CacheRecord{CAS: 7, BySeqno: 1, RevSeqno: 8, Key: []byte("\x00key")}
	return second.Append(first.Append(nil))
}

func TestLayoutsDecodeWhatTheyEncode(t *testing.T) {
	for name, f := range allLayouts() {
		again, ok, err := reencode(f)
		require.NoError(t, err, name)
		require.True(t, ok, name)
		assert.Equal(t, []byte(f), []byte(again), name)
	}
}

// rebuilt is f with one part replaced and its lengths corrected.
func rebuilt(f Frame, change func(*Packet)) Frame {
	p := packetOf(f)
	p.Extras, p.Key, p.Value = bytes.Clone(p.Extras), bytes.Clone(p.Key), bytes.Clone(p.Value)
	change(p)
	return p.Frame()
}

func TestLayoutsRefuseWrongLengths(t *testing.T) {
	hasKey := []string{
		"open", "mutation", "deletion v1", "deletion v2", "expiration", "control", "flat system event", "prepare",
		"prepared deletion", "commit", "abort",
	}
	hasValue := []string{
		"stream request", "set vbucket state", "open", "mutation", "deletion v1", "deletion v2", "expiration", "control",
		"flat system event", "prepare", "prepared deletion", "close stream answer", "refusal with a reason",
	}
	for name, f := range allLayouts() {
		refused := func(what string, change func(*Packet)) {
			_, _, err := reencode(rebuilt(f, change))
			var layout *LayoutError
			require.ErrorAs(t, err, &layout, "%s: %s", name, what)
			assert.Equal(t, byte(f.Opcode()), layout.Header[1], "%s: %s", name, what)
		}
		refused("an extra byte of extras", func(p *Packet) { p.Extras = append(p.Extras, 0) })
		if f.ExtrasLen() > 0 {
			refused("a byte of extras less", func(p *Packet) { p.Extras = p.Extras[1:] })
		}
		if name != "system event" && !slices.Contains(hasKey, name) {
			refused("a key", func(p *Packet) { p.Key = []byte("k") })
		}
		if !slices.Contains(hasValue, name) {
			refused("another byte of value", func(p *Packet) { p.Value = append(p.Value, 1) })
		}
	}
}

func TestLayoutsRefuseWrongContents(t *testing.T) {
	all := allLayouts()
	for name, f := range map[string]Frame{
		"a name that is empty":        rebuilt(all["open"], func(p *Packet) { p.Key = nil }),
		"a name that is too long":     rebuilt(all["open"], func(p *Packet) { p.Key = make([]byte, MaxConnectionNameLen+1) }),
		"no value marked as JSON":     rebuilt(all["open"], func(p *Packet) { p.Value = nil }),
		"a compressed value":          rebuilt(all["open"], func(p *Packet) { p.Datatype |= DatatypeSnappy }),
		"a value not marked as JSON":  rebuilt(all["open"], func(p *Packet) { p.Datatype = 0 }),
		"a value that is no JSON":     rebuilt(all["open"], func(p *Packet) { p.Value = []byte("{") }),
		"a state below the known":     rebuilt(all["set vbucket state"], func(p *Packet) { p.Extras[0] = 0 }),
		"a state above the known":     rebuilt(all["set vbucket state"], func(p *Packet) { p.Extras[0] = 5 }),
		"the withdrawn marker":        rebuilt(all["marker v2.0"], func(p *Packet) { p.Extras[0] = 1 }),
		"a v2.2 marker of v2.0 size":  rebuilt(all["marker v2.0"], func(p *Packet) { p.Extras[0] = 2 }),
		"a v2.0 marker of v2.2 size":  rebuilt(all["marker v2.2"], func(p *Packet) { p.Extras[0] = 0 }),
		"a v1 marker with a value":    rebuilt(all["marker v1"], func(p *Packet) { p.Value = []byte{1} }),
		"extended metadata":           rebuilt(all["mutation"], func(p *Packet) { p.Extras[29] = 1 }),
		"deletion with metadata":      rebuilt(all["deletion v1"], func(p *Packet) { p.Extras[17] = 1 }),
		"a rollback of seven bytes":   rebuilt(all["rollback"], func(p *Packet) { p.Value = p.Value[1:] }),
		"a log of fifteen bytes":      rebuilt(all["stream request answer"], func(p *Packet) { p.Value = p.Value[:15] }),
		"a control without a key":     rebuilt(all["control"], func(p *Packet) { p.Key = nil }),
		"a buffer ack with a value":   rebuilt(all["buffer ack"], func(p *Packet) { p.Value = []byte{0} }),
		"a close with a state behind": rebuilt(all["close stream"], func(p *Packet) { p.Extras = []byte{1} }),
		"a state not marked as JSON":  rebuilt(all["set vbucket state"], func(p *Packet) { p.Datatype = 0 }),
		"reserved bytes":              rebuilt(all["stream request"], func(p *Packet) { p.Extras[7] = 1 }),
		"no filter marked as JSON":    rebuilt(all["stream request"], func(p *Packet) { p.Datatype = DatatypeJSON }),
		"an unused byte":              rebuilt(all["deletion v2"], func(p *Packet) { p.Extras[20] = 1 }),
		"a mutation without a key":    rebuilt(all["mutation"], func(p *Packet) { p.Key = nil }),
		"a commit without a key":      rebuilt(all["commit"], func(p *Packet) { p.Key = nil }),
		"a log marked as JSON":        rebuilt(all["stream request answer"], func(p *Packet) { p.Datatype = DatatypeJSON }),
		"a rollback marked as JSON":   rebuilt(all["rollback"], func(p *Packet) { p.Datatype = DatatypeJSON }),
		"another log of 15 bytes":     rebuilt(all["failover log"], func(p *Packet) { p.Value = p.Value[:15] }),
		"another log marked as JSON":  rebuilt(all["failover log"], func(p *Packet) { p.Datatype = DatatypeJSON }),
		"an add without its stream":   rebuilt(all["add stream answer"], func(p *Packet) { p.Extras = nil }),
		"an add with a text":          rebuilt(all["add stream answer"], func(p *Packet) { p.Value = []byte("why") }),
		"a success with a text":       rebuilt(all["refusal with a reason"], func(p *Packet) { p.Status = 0 }),
		"no text marked as JSON":      rebuilt(all["close stream answer"], func(p *Packet) { p.Datatype = DatatypeJSON }),
		"an event of no kind":         rebuilt(all["flat system event"], func(p *Packet) { p.Extras[11] = 2 }),
		"an event after the last":     rebuilt(all["flat system event"], func(p *Packet) { p.Extras[11] = 6 }),
		"an event of version 3":       rebuilt(all["flat system event"], func(p *Packet) { p.Extras[12] = 3 }),
		"a packed modification":       rebuilt(all["system event"], func(p *Packet) { p.Extras[11] = 5 }),
		"a begin v0 of v1 size":       rebuilt(all["system event"], func(p *Packet) { p.Extras[12] = 0 }),
		"a begin without a name":      rebuilt(all["system event"], func(p *Packet) { p.Key = nil }),
		"a drop of version 1":         rebuilt(all["scope drop"], func(p *Packet) { p.Extras[12] = 1 }),
		"a drop one byte short":       rebuilt(all["scope drop"], func(p *Packet) { p.Value = p.Value[1:] }),
		"a drop with a name":          rebuilt(all["scope drop"], func(p *Packet) { p.Key = []byte("name") }),
		"half deleted":                rebuilt(all["prepare"], func(p *Packet) { p.Extras[29] = 2 }),
		"durability of no level":      rebuilt(all["prepare"], func(p *Packet) { p.Extras[30] = 0 }),
		"durability above all":        rebuilt(all["prepare"], func(p *Packet) { p.Extras[30] = 4 }),
		"oso before the start":        rebuilt(all["oso start"], func(p *Packet) { p.Extras[3] = 0 }),
		"oso after the end":           rebuilt(all["oso start"], func(p *Packet) { p.Extras[3] = 3 }),
		"a transfer of nothing":       rebuilt(all["cache transfer"], func(p *Packet) { p.Value = nil }),
		"a record's header cut short": rebuilt(all["cache transfer"], func(p *Packet) { p.Value = p.Value[:39] }),
		"a record's value cut short":  rebuilt(all["cache transfer"], func(p *Packet) { p.Value = p.Value[:43] }),
		"a record of 4 GiB":           rebuilt(all["cache transfer"], func(p *Packet) { copy(p.Value[24:], "\xff\xff\xff\xff") }),
		"a record with a short key":   rebuilt(all["cache transfer"], func(p *Packet) { p.Value = (&CacheRecord{Key: []byte("k")}).Append(nil) }),
		"a record of no datatype":     rebuilt(all["cache transfer"], func(p *Packet) { p.Value[38] = 8 }),
	} {
		_, ok, err := reencode(f)
		require.True(t, ok, name)
		var layout *LayoutError
		assert.ErrorAs(t, err, &layout, name)
	}
}

func TestLayoutsBelongToOneOpcodeAndDirection(t *testing.T) {
	end := StreamEnd{VBucket: 7, Reason: EndClosed}.Append(nil)
	_, err := ParseStreamEnd(rebuilt(end, func(p *Packet) { p.Magic = MagicResponse }))
	assert.ErrorContains(t, err, "not a DCP_STREAM_END")
	_, err = ParseBufferAck(end)
	assert.ErrorContains(t, err, "not a DCP_BUFFER_ACK")
	_, err = ParseAddStreamAnswer(AddStream{VBucket: 7}.Append(nil))
	assert.ErrorContains(t, err, "response true")
}

func TestOtherAnswersCarryText(t *testing.T) {
	why := Text{Datatype: DatatypeJSON, Value: []byte(`"why"`)}
	f := (&Packet{
		Magic: MagicResponse, Opcode: OpDCPStreamReq, Status: StatusNotMyVBucket, Datatype: DatatypeJSON, Value: why.Value,
	}).Frame()
	m, err := ParseStreamRequestAnswer(f)
	require.NoError(t, err)
	assert.Equal(t, StreamRequestAnswer{Status: StatusNotMyVBucket, Text: why}, m)
	assert.Equal(t, []byte(f), m.Append(nil))

	refused := rebuilt(f, func(p *Packet) { p.Opcode, p.Extras = OpDCPAddStream, []byte{0, 0, 0, 9} })
	add, err := ParseAddStreamAnswer(refused)
	require.NoError(t, err)
	assert.Equal(t, AddStreamAnswer{Status: StatusNotMyVBucket, Requested: true, Stream: 9, Text: why}, add)

	log, err := ParseFailoverLogAnswer(rebuilt(f, func(p *Packet) { p.Opcode = OpDCPGetFailoverLog }))
	require.NoError(t, err)
	assert.Equal(t, FailoverLogAnswer{Opcode: OpDCPGetFailoverLog, Status: StatusNotMyVBucket, Text: why}, log)
}

func TestFailoverLogIsNewestFirst(t *testing.T) {
	log := []FailoverEntry{{UUID: 0xaabb, Seqno: 7}, {UUID: 1}}
	value := AppendFailoverLog([]byte("x"), log)
	assert.Equal(t, "x"+
		"\x00\x00\x00\x00\x00\x00\xaa\xbb\x00\x00\x00\x00\x00\x00\x00\x07"+
		"\x00\x00\x00\x00\x00\x00\x00\x01\x00\x00\x00\x00\x00\x00\x00\x00", string(value))
	again, err := ParseFailoverLog(value[1:])
	require.NoError(t, err)
	assert.Equal(t, log, again)
	empty, err := ParseFailoverLog(nil)
	require.NoError(t, err)
	assert.Empty(t, empty)
	_, err = ParseFailoverLog(value)
	assert.Error(t, err)
}

// The sizes that dcp-wire §8 gives, and the exceptions.
func TestFlowControlCost(t *testing.T) {
	all := allLayouts()
	assert.EqualValues(t, 44, FlowControlCost(all["marker v1"]))
	assert.EqualValues(t, 28, FlowControlCost(all["stream end"]))
	state := SetVBucketState{VBucket: 1, State: VBucketActive}.Append(nil)
	assert.EqualValues(t, 25, FlowControlCost(state))
	assert.EqualValues(t, len(all["mutation"]), FlowControlCost(all["mutation"]))
	assert.Zero(t, FlowControlCost(all["stream request answer"]))
	assert.Zero(t, FlowControlCost(all["control"]))
	assert.Zero(t, FlowControlCost((&Packet{Opcode: OpDCPNoop}).Frame()))
	prepare := (&Packet{Opcode: OpDCPPrepare, Extras: make([]byte, 31), Key: []byte("k"), Value: []byte("v")}).Frame()
	assert.EqualValues(t, len(prepare)+2, FlowControlCost(prepare), "the historic two bytes")
	framed := (&Packet{Magic: MagicFramingRequest, Opcode: OpDCPMutation, FramingExtras: []byte{0x22, 0, 1}, Extras: make([]byte, 31)}).Frame()
	assert.EqualValues(t, len(framed), FlowControlCost(framed))
}

func TestSeqnoMessagesAreOfTwoKinds(t *testing.T) {
	f := (&Packet{Opcode: OpDCPNoop, Extras: binary.BigEndian.AppendUint64(nil, 1)}).Frame()
	_, err := ParseSeqnoMessage(f)
	assert.Error(t, err)
}
