package interop

import (
	"bytes"
	"encoding/binary"
	"testing"

	"github.com/couchbase/gocbcore/v10/memd"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/shearpin/shearpin/dcp/mcbp"
)

type message interface{ Append(b []byte) []byte }

// reader takes an opcode's extras apart as the Go client does, with offsets written down here a second time.
type reader struct {
	t *testing.T
	b []byte
}

func (r *reader) u64() uint64 { return binary.BigEndian.Uint64(r.take(8)) }
func (r *reader) u32() uint32 { return binary.BigEndian.Uint32(r.take(4)) }
func (r *reader) u8() uint8   { return r.take(1)[0] }

func (r *reader) take(n int) []byte {
	r.t.Helper()
	require.GreaterOrEqual(r.t, len(r.b), n)
	head := r.b[:n]
	r.b = r.b[n:]
	return head
}

// throughMemd sends a message of ours through both directions of memd: what memd decodes is returned, and what memd encodes
// of it again are the same bytes.
func throughMemd(t *testing.T, m message) *memd.Packet {
	t.Helper()
	raw := m.Append(nil)
	read, _, err := conn(bytes.NewBuffer(raw)).ReadPacket()
	require.NoError(t, err)
	var stream bytes.Buffer
	require.NoError(t, conn(&stream).WritePacket(read))
	require.True(t, bytes.Equal(raw, stream.Bytes()), "%x became %x", raw, stream.Bytes())
	return read
}

// A message of ours means to memd's readers what it means to us.
func TestMessages(t *testing.T) {
	r := random(t)
	for range packets / 10 {
		vb, opaque := uint16(r.Uint32()), mcbp.OpaqueFromUint32(r.Uint32())
		sid := uint16(0)
		if r.IntN(2) == 0 {
			sid = uint16(r.IntN(65535) + 1)
		}
		header := func(p *memd.Packet, op memd.CmdCode) *reader {
			t.Helper()
			require.Equal(t, op, p.Command)
			require.Equal(t, vb, p.Vbucket)
			require.Equal(t, opaque.Uint32(), p.Opaque)
			if sid == 0 {
				require.Nil(t, p.StreamIDFrame)
			} else {
				require.Equal(t, &memd.StreamIDFrame{StreamID: sid}, p.StreamIDFrame)
			}
			return &reader{t, p.Extras}
		}
		ended := func(x *reader) {
			t.Helper()
			require.Empty(t, x.b)
		}

		mutation := mcbp.Mutation{
			VBucket: vb, Opaque: opaque, StreamID: sid, Datatype: mcbp.DatatypeSnappy | mcbp.DatatypeJSON, CAS: r.Uint64(),
			BySeqno: r.Uint64(), RevSeqno: r.Uint64(), Flags: r.Uint32(), Expiration: r.Uint32(), LockTime: r.Uint32(),
			NRU: uint8(r.Uint32()), Key: append(bytesOf(r, 200), 'k'), Value: bytesOf(r, 300),
		}
		p := throughMemd(t, &mutation)
		x := header(p, memd.CmdDcpMutation)
		require.Equal(t, mutation.BySeqno, x.u64())
		require.Equal(t, mutation.RevSeqno, x.u64())
		require.Equal(t, mutation.Flags, x.u32())
		require.Equal(t, mutation.Expiration, x.u32())
		require.Equal(t, mutation.LockTime, x.u32())
		require.Zero(t, x.u8())
		require.Zero(t, x.u8())
		require.Equal(t, mutation.NRU, x.u8())
		ended(x)
		require.Equal(t, memd.DatatypeFlagCompressed|memd.DatatypeFlagJSON, memd.DatatypeFlag(p.Datatype))
		require.Equal(t, mutation.CAS, p.Cas)
		requireBytes(t, mutation.Key, p.Key)
		requireBytes(t, mutation.Value, p.Value)

		deletion := mcbp.Deletion{
			VBucket: vb, Opaque: opaque, StreamID: sid, Version: mcbp.DeletionVersion(r.IntN(3)), CAS: r.Uint64(), BySeqno: r.Uint64(),
			RevSeqno: r.Uint64(), Key: append(bytesOf(r, 200), 'k'),
		}
		op, length := memd.CmdDcpDeletion, 18
		switch deletion.Version {
		case mcbp.DeletionV2:
			length, deletion.DeleteTime = 21, r.Uint32()
		case mcbp.DeletionByExpiry:
			op, length, deletion.DeleteTime = memd.CmdDcpExpiration, 20, r.Uint32()
		}
		x = header(throughMemd(t, &deletion), op)
		require.Len(t, x.b, length)
		require.Equal(t, deletion.BySeqno, x.u64())
		require.Equal(t, deletion.RevSeqno, x.u64())
		if length > 18 {
			require.Equal(t, deletion.DeleteTime, x.u32())
		}

		marker := mcbp.SnapshotMarker{
			VBucket: vb, Opaque: opaque, StreamID: sid, Version: mcbp.MarkerVersion(r.IntN(3)), Start: r.Uint64(), End: r.Uint64(),
			Flags: r.Uint32(), MaxVisible: r.Uint64(), HighCompleted: r.Uint64(), Purge: r.Uint64(), HighPrepared: r.Uint64(),
		}
		p = throughMemd(t, marker)
		x = header(p, memd.CmdDcpSnapshotMarker)
		if marker.Version != mcbp.MarkerV1 { // the Go client reads the rest from the value
			require.Equal(t, map[mcbp.MarkerVersion]uint8{mcbp.MarkerV20: 0, mcbp.MarkerV22: 2}[marker.Version], x.u8())
			ended(x)
			x = &reader{t, p.Value}
		}
		require.Equal(t, marker.Start, x.u64())
		require.Equal(t, marker.End, x.u64())
		require.Equal(t, marker.Flags, x.u32())
		if marker.Version != mcbp.MarkerV1 {
			require.Equal(t, marker.MaxVisible, x.u64())
			require.Equal(t, marker.HighCompleted, x.u64())
		}
		if marker.Version == mcbp.MarkerV22 {
			require.Equal(t, marker.Purge, x.u64())
			require.Equal(t, marker.HighPrepared, x.u64())
		}
		ended(x)

		event := mcbp.SystemEvent{
			VBucket: vb, Opaque: opaque, StreamID: sid, BySeqno: r.Uint64(), Event: mcbp.EventCollectionEnd,
			Value: mcbp.PackedEvent{Manifest: r.Uint64(), Scope: r.Uint32(), Collection: r.Uint32()}.AppendPacked(nil, mcbp.EventCollectionEnd, 0),
		}
		packed, _ := event.Packed()
		p = throughMemd(t, &event)
		x = header(p, memd.CmdDcpEvent)
		require.Equal(t, event.BySeqno, x.u64())
		require.EqualValues(t, memd.StreamEventCollectionDelete, x.u32())
		require.Zero(t, x.u8())
		ended(x)
		x = &reader{t, p.Value}
		require.Equal(t, packed.Manifest, x.u64())
		require.Equal(t, packed.Scope, x.u32())
		require.Equal(t, packed.Collection, x.u32())
		ended(x)

		end := mcbp.StreamEnd{VBucket: vb, Opaque: opaque, StreamID: sid, Reason: mcbp.EndFilterEmpty}
		x = header(throughMemd(t, end), memd.CmdDcpStreamEnd)
		require.EqualValues(t, memd.StreamEndFilterEmpty, x.u32())
		ended(x)

		advanced := mcbp.SeqnoMessage{Opcode: mcbp.OpDCPSeqnoAdvanced, VBucket: vb, Opaque: opaque, StreamID: sid, Seqno: r.Uint64()}
		x = header(throughMemd(t, advanced), memd.CmdDcpSeqNoAdvanced)
		require.Equal(t, advanced.Seqno, x.u64())
		ended(x)

		oso := mcbp.OSOSnapshot{VBucket: vb, Opaque: opaque, StreamID: sid, Phase: mcbp.OSOEnd}
		x = header(throughMemd(t, oso), memd.CmdDcpOsoSnapshot)
		require.EqualValues(t, 2, x.u32())
		ended(x)
	}
}

// What a DCP client of memd's builds, our decoders understand.
func TestMessagesOfTheGoClient(t *testing.T) {
	r := random(t)
	write := func(p *memd.Packet) mcbp.Frame {
		t.Helper()
		p.Magic = memd.CmdMagicReq
		var stream bytes.Buffer
		require.NoError(t, conn(&stream).WritePacket(p))
		known, err := mcbp.CheckLayout(stream.Bytes())
		require.NoError(t, err)
		require.True(t, known)
		return stream.Bytes()
	}
	for range packets / 10 {
		vb, opaque := uint16(r.Uint32()), r.Uint32()
		ours := mcbp.OpaqueFromUint32(opaque)

		flags := r.Uint32()
		open, err := mcbp.ParseOpen(write(&memd.Packet{
			Command: memd.CmdDcpOpenConnection, Opaque: opaque, Key: []byte("stream"), Extras: numbers(uint32(0), flags),
		}))
		require.NoError(t, err)
		require.Equal(t, mcbp.Open{Opaque: ours, Name: "stream", Flags: flags}, open)

		// The client does not mark its filter as JSON.
		want := mcbp.StreamRequest{
			VBucket: vb, Opaque: ours, Flags: r.Uint32(), Start: r.Uint64(), End: r.Uint64(), VBUUID: r.Uint64(), SnapStart: r.Uint64(),
			SnapEnd: r.Uint64(), Value: []byte(`{"collections":["8"]}`), Unmarked: true,
		}
		request, err := mcbp.ParseStreamRequest(write(&memd.Packet{
			Command: memd.CmdDcpStreamReq, Vbucket: vb, Opaque: opaque, Value: want.Value,
			Extras: numbers(want.Flags, uint32(0), want.Start, want.End, want.VBUUID, want.SnapStart, want.SnapEnd),
		}))
		require.NoError(t, err)
		require.Equal(t, want, request)

		sid := uint16(r.IntN(65535) + 1)
		closing, err := mcbp.ParseCloseStream(write(&memd.Packet{
			Command: memd.CmdDcpCloseStream, Vbucket: vb, Opaque: opaque, StreamIDFrame: &memd.StreamIDFrame{StreamID: sid},
		}))
		require.NoError(t, err)
		require.Equal(t, mcbp.CloseStream{VBucket: vb, Opaque: ours, StreamID: sid}, closing)

		ack, err := mcbp.ParseBufferAck(write(&memd.Packet{Command: memd.CmdDcpBufferAck, Opaque: opaque, Extras: numbers(flags)}))
		require.NoError(t, err)
		require.Equal(t, mcbp.BufferAck{Opaque: ours, Bytes: flags}, ack)

		control, err := mcbp.ParseControl(write(&memd.Packet{
			Command: memd.CmdDcpControl, Opaque: opaque, Key: []byte("enable_noop"), Value: []byte("true"),
		}))
		require.NoError(t, err)
		require.Equal(t, mcbp.Control{Opaque: ours, Key: "enable_noop", Value: "true"}, control)

		log, err := mcbp.ParseFailoverLogRequest(write(&memd.Packet{Command: memd.CmdDcpGetFailoverLog, Vbucket: vb, Opaque: opaque}))
		require.NoError(t, err)
		require.Equal(t, mcbp.FailoverLogRequest{Opcode: mcbp.OpDCPGetFailoverLog, VBucket: vb, Opaque: ours}, log)

		write(&memd.Packet{Command: memd.CmdHello, Opaque: opaque, Key: []byte("gocb"), Value: numbers(uint16(memd.FeatureXattr), uint16(memd.FeatureJSON))})
		write(&memd.Packet{Command: memd.CmdSelectBucket, Opaque: opaque, Key: []byte("orders")})
		write(&memd.Packet{Command: memd.CmdSASLAuth, Opaque: opaque, Key: []byte("PLAIN"), Value: []byte("\x00u\x00p")})
		write(&memd.Packet{Command: memd.CmdGetErrorMap, Opaque: opaque, Value: numbers(uint16(2))})
		write(&memd.Packet{Command: memd.CmdGetClusterConfig, Opaque: opaque})
		write(&memd.Packet{Command: memd.CmdStat, Opaque: opaque, Key: []byte("vbucket")})
		write(&memd.Packet{Command: memd.CmdGetAllVBSeqnos, Opaque: opaque, Extras: numbers(uint32(1), uint32(8))})
	}
}

func numbers(all ...any) []byte {
	var b []byte
	for _, n := range all {
		b, _ = binary.Append(b, binary.BigEndian, n)
	}
	return b
}

// The numbers of the protocol, as both have written them down.
func TestNumbers(t *testing.T) {
	for ours, theirs := range map[mcbp.Opcode]memd.CmdCode{
		mcbp.OpGet: memd.CmdGet, mcbp.OpSet: memd.CmdSet, mcbp.OpAdd: memd.CmdAdd, mcbp.OpReplace: memd.CmdReplace,
		mcbp.OpDelete: memd.CmdDelete, mcbp.OpNoop: memd.CmdNoop, mcbp.OpStat: memd.CmdStat, mcbp.OpHello: memd.CmdHello,
		mcbp.OpSASLListMechs: memd.CmdSASLListMechs, mcbp.OpSASLAuth: memd.CmdSASLAuth, mcbp.OpSASLStep: memd.CmdSASLStep,
		mcbp.OpGetAllVBSeqnos: memd.CmdGetAllVBSeqnos, mcbp.OpDCPOpen: memd.CmdDcpOpenConnection,
		mcbp.OpDCPAddStream: memd.CmdDcpAddStream, mcbp.OpDCPCloseStream: memd.CmdDcpCloseStream,
		mcbp.OpDCPStreamReq: memd.CmdDcpStreamReq, mcbp.OpDCPGetFailoverLog: memd.CmdDcpGetFailoverLog,
		mcbp.OpDCPStreamEnd: memd.CmdDcpStreamEnd, mcbp.OpDCPSnapshotMarker: memd.CmdDcpSnapshotMarker,
		mcbp.OpDCPMutation: memd.CmdDcpMutation, mcbp.OpDCPDeletion: memd.CmdDcpDeletion, mcbp.OpDCPExpiration: memd.CmdDcpExpiration,
		mcbp.OpDCPFlush: memd.CmdDcpFlush, mcbp.OpDCPSetVBucketState: memd.CmdDcpSetVbucketState, mcbp.OpDCPNoop: memd.CmdDcpNoop,
		mcbp.OpDCPBufferAck: memd.CmdDcpBufferAck, mcbp.OpDCPControl: memd.CmdDcpControl, mcbp.OpDCPSystemEvent: memd.CmdDcpEvent,
		mcbp.OpDCPSeqnoAdvanced: memd.CmdDcpSeqNoAdvanced, mcbp.OpDCPOSOSnapshot: memd.CmdDcpOsoSnapshot,
		mcbp.OpSelectBucket: memd.CmdSelectBucket, mcbp.OpGetClusterConfig: memd.CmdGetClusterConfig,
		mcbp.OpGetErrorMap: memd.CmdGetErrorMap,
	} {
		assert.EqualValues(t, theirs, ours, "%v", ours)
	}
	for ours, theirs := range map[mcbp.Status]memd.StatusCode{
		mcbp.StatusSuccess: memd.StatusSuccess, mcbp.StatusKeyNotFound: memd.StatusKeyNotFound, mcbp.StatusKeyExists: memd.StatusKeyExists,
		mcbp.StatusTooBig: memd.StatusTooBig, mcbp.StatusInvalid: memd.StatusInvalidArgs, mcbp.StatusNotStored: memd.StatusNotStored,
		mcbp.StatusNotMyVBucket: memd.StatusNotMyVBucket, mcbp.StatusNoBucket: memd.StatusNoBucket,
		mcbp.StatusAuthStale: memd.StatusAuthStale, mcbp.StatusAuthError: memd.StatusAuthError,
		mcbp.StatusAuthContinue: memd.StatusAuthContinue, mcbp.StatusRange: memd.StatusRangeError,
		mcbp.StatusRollback: memd.StatusRollback, mcbp.StatusNoAccess: memd.StatusAccessError,
		mcbp.StatusUnknownCommand: memd.StatusUnknownCommand, mcbp.StatusNoMemory: memd.StatusOutOfMemory,
		mcbp.StatusNotSupported: memd.StatusNotSupported, mcbp.StatusInternalError: memd.StatusInternalError,
		mcbp.StatusBusy: memd.StatusBusy, mcbp.StatusTemporaryFailure: memd.StatusTmpFail,
		mcbp.StatusUnknownCollection: memd.StatusCollectionUnknown, mcbp.StatusUnknownScope: memd.StatusScopeUnknown,
	} {
		assert.EqualValues(t, theirs, ours, "%v", ours)
	}
	for ours, theirs := range map[mcbp.Feature]memd.HelloFeature{
		mcbp.FeatureTLS: memd.FeatureTLS, mcbp.FeatureMutationSeqno: memd.FeatureSeqNo, mcbp.FeatureXattr: memd.FeatureXattr,
		mcbp.FeatureXerror: memd.FeatureXerror, mcbp.FeatureSelectBucket: memd.FeatureSelectBucket, mcbp.FeatureSnappy: memd.FeatureSnappy,
		mcbp.FeatureJSON: memd.FeatureJSON, mcbp.FeatureDuplex: memd.FeatureDuplex, mcbp.FeatureAltRequest: memd.FeatureAltRequests,
		mcbp.FeatureSyncReplication: memd.FeatureSyncReplication, mcbp.FeatureCollections: memd.FeatureCollections,
		mcbp.FeatureClusterMapKnown:     memd.FeatureClusterMapKnownVersion,
		mcbp.FeatureDedupeNotMyVBucket:  memd.FeatureDedupeNotMyVbucketClustermap,
		mcbp.FeatureClusterMapPushBrief: memd.FeatureClustermapChangeNotificationBrief,
	} {
		assert.EqualValues(t, theirs, ours)
	}
	for ours, theirs := range map[mcbp.EndReason]memd.StreamEndStatus{
		mcbp.EndOK: memd.StreamEndOK, mcbp.EndClosed: memd.StreamEndClosed, mcbp.EndStateChanged: memd.StreamEndStateChanged,
		mcbp.EndDisconnected: memd.StreamEndDisconnected, mcbp.EndTooSlow: memd.StreamEndTooSlow,
		mcbp.EndBackfillFailed: memd.StreamEndBackfillFailed, mcbp.EndFilterEmpty: memd.StreamEndFilterEmpty,
	} {
		assert.EqualValues(t, theirs, ours, "%v", ours)
	}
	for ours, theirs := range map[mcbp.EventID]memd.StreamEventCode{
		mcbp.EventCollectionBegin: memd.StreamEventCollectionCreate, mcbp.EventCollectionEnd: memd.StreamEventCollectionDelete,
		mcbp.EventScopeCreate: memd.StreamEventScopeCreate, mcbp.EventScopeDrop: memd.StreamEventScopeDelete,
		mcbp.EventCollectionModify: memd.StreamEventCollectionChanged,
	} {
		assert.EqualValues(t, theirs, ours, "%v", ours)
	}
	for ours, theirs := range map[mcbp.VBucketState]memd.VbucketState{
		mcbp.VBucketActive: memd.VbucketStateActive, mcbp.VBucketReplica: memd.VbucketStateReplica,
		mcbp.VBucketPending: memd.VbucketStatePending, mcbp.VBucketDead: memd.VbucketStateDead,
	} {
		assert.EqualValues(t, theirs, ours, "%v", ours)
	}
	for ours, theirs := range map[mcbp.DurabilityLevel]memd.DurabilityLevel{
		mcbp.DurabilityMajority:           memd.DurabilityLevelMajority,
		mcbp.DurabilityMajorityAndPersist: memd.DurabilityLevelMajorityAndPersistOnMaster,
		mcbp.DurabilityPersistToMajority:  memd.DurabilityLevelPersistToMajority,
	} {
		assert.EqualValues(t, theirs, ours)
	}
	for ours, theirs := range map[uint32]memd.DcpOpenFlag{
		mcbp.OpenFlagProducer: memd.DcpOpenFlagProducer, mcbp.OpenFlagNotifier: memd.DcpOpenFlagNotifier,
		mcbp.OpenFlagXattrs: memd.DcpOpenFlagIncludeXattrs, mcbp.OpenFlagNoValue: memd.DcpOpenFlagNoValue,
		mcbp.OpenFlagDeleteTimes: memd.DcpOpenFlagIncludeDeleteTimes,
	} {
		assert.EqualValues(t, theirs, ours)
	}
	for ours, theirs := range map[uint32]memd.DcpStreamAddFlag{
		mcbp.StreamFlagDiskOnly: memd.DcpStreamAddFlagDiskOnly, mcbp.StreamFlagToLatest: memd.DcpStreamAddFlagLatest,
		mcbp.StreamFlagActiveOnly: memd.DcpStreamAddFlagActiveOnly, mcbp.StreamFlagStrictVBUUID: memd.DcpStreamAddFlagStrictVBUUID,
	} {
		assert.EqualValues(t, theirs, ours)
	}
	for ours, theirs := range map[mcbp.Datatype]memd.DatatypeFlag{
		mcbp.DatatypeJSON: memd.DatatypeFlagJSON, mcbp.DatatypeSnappy: memd.DatatypeFlagCompressed, mcbp.DatatypeXattr: memd.DatatypeFlagXattrs,
	} {
		assert.EqualValues(t, theirs, ours, "%v", ours)
	}
}
