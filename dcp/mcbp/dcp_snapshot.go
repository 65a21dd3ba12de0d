package mcbp

import "encoding/binary"

// MarkerVersion says how a SNAPSHOT_MARKER is laid out (dcp-wire §6.6).
type MarkerVersion uint8

// The marker layouts. V1 has everything in its extras; the V2 family has a version byte there and the rest in its value.
const (
	MarkerV1 MarkerVersion = iota
	MarkerV20
	MarkerV22
)

// Flags of a SNAPSHOT_MARKER.
const (
	SnapshotMemory     uint32 = 0x01
	SnapshotDisk       uint32 = 0x02
	SnapshotCheckpoint uint32 = 0x04
	// SnapshotAck asks the consumer to answer the marker once it has the whole snapshot.
	SnapshotAck        uint32 = 0x08
	SnapshotHistory    uint32 = 0x10
	SnapshotDuplicates uint32 = 0x20
)

// SnapshotMarker opens a snapshot: the messages that follow lie in it until the next marker.
type SnapshotMarker struct {
	VBucket uint16
	Opaque  Opaque
	// StreamID tells several streams of the vbucket apart; 0 if there is only one.
	StreamID uint16
	Version  MarkerVersion
	// Start and End bound the snapshot's seqnos, both inclusive.
	Start, End uint64
	Flags      uint32
	// MaxVisible and HighCompleted are sent by the V2 family, Purge and HighPrepared by [MarkerV22] alone.
	MaxVisible, HighCompleted, Purge, HighPrepared uint64
}

const (
	markerV1Extras  = 20
	markerV20Value  = 36
	markerV22Value  = 52
	markerV20OnWire = 0x00
	markerV22OnWire = 0x02
)

var snapshotMarkerShape = shape{opcode: OpDCPSnapshotMarker, scope: ofStream, extras: []int{1, markerV1Extras}, value: optional}

// ParseSnapshotMarker decodes a SNAPSHOT_MARKER of any of the three layouts.
func ParseSnapshotMarker(f Frame) (SnapshotMarker, error) {
	if err := snapshotMarkerShape.check(f); err != nil {
		return SnapshotMarker{}, err
	}
	m := SnapshotMarker{VBucket: f.VBucket(), Opaque: f.Opaque(), StreamID: streamID(f)}
	var want int
	body := f.Value()
	switch {
	case f.ExtrasLen() == markerV1Extras:
		body = f.Extras()
		if len(f.Value()) != 0 {
			return SnapshotMarker{}, badLayout(f, "a value of %d bytes in the first layout", len(f.Value()))
		}
		want = markerV1Extras
	case f.Extras()[0] == markerV20OnWire:
		m.Version, want = MarkerV20, markerV20Value
	case f.Extras()[0] == markerV22OnWire:
		m.Version, want = MarkerV22, markerV22Value
	default:
		return SnapshotMarker{}, badLayout(f, "unknown marker version %#02x", f.Extras()[0])
	}
	if len(body) != want {
		return SnapshotMarker{}, badLayout(f, "a marker of %d bytes, not %d", len(body), want)
	}
	m.Start = binary.BigEndian.Uint64(body)
	m.End = binary.BigEndian.Uint64(body[8:])
	m.Flags = binary.BigEndian.Uint32(body[16:])
	if m.Version >= MarkerV20 {
		m.MaxVisible = binary.BigEndian.Uint64(body[20:])
		m.HighCompleted = binary.BigEndian.Uint64(body[28:])
	}
	if m.Version >= MarkerV22 {
		m.Purge = binary.BigEndian.Uint64(body[36:])
		m.HighPrepared = binary.BigEndian.Uint64(body[44:])
	}
	return m, nil
}

// Append encodes m behind b.
func (m SnapshotMarker) Append(b []byte) []byte {
	var body [markerV22Value]byte
	binary.BigEndian.PutUint64(body[:], m.Start)
	binary.BigEndian.PutUint64(body[8:], m.End)
	binary.BigEndian.PutUint32(body[16:], m.Flags)
	binary.BigEndian.PutUint64(body[20:], m.MaxVisible)
	binary.BigEndian.PutUint64(body[28:], m.HighCompleted)
	binary.BigEndian.PutUint64(body[36:], m.Purge)
	binary.BigEndian.PutUint64(body[44:], m.HighPrepared)

	p := Packet{Opcode: OpDCPSnapshotMarker, VBucket: m.VBucket, Opaque: m.Opaque}
	var version [1]byte
	switch m.Version {
	case MarkerV1:
		p.Extras = body[:markerV1Extras]
		return p.appendInStream(b, m.StreamID)
	case MarkerV20:
		version[0], p.Value = markerV20OnWire, body[:markerV20Value]
	default:
		version[0], p.Value = markerV22OnWire, body[:]
	}
	p.Extras = version[:]
	return p.appendInStream(b, m.StreamID)
}

// OSOPhase is what an OSO_SNAPSHOT says.
type OSOPhase uint32

// The phases (dcp-wire §6.15).
const (
	OSOStart OSOPhase = 1
	OSOEnd   OSOPhase = 2
)

// OSOSnapshot brackets documents that come out of seqno order. A consumer that loses the connection in between must resume
// from the highest seqno that it saw before the start.
type OSOSnapshot struct {
	VBucket uint16
	Opaque  Opaque
	// StreamID tells several streams of the vbucket apart; 0 if there is only one.
	StreamID uint16
	Phase    OSOPhase
}

var osoSnapshotShape = shape{opcode: OpDCPOSOSnapshot, scope: ofStream, extras: []int{4}}

// ParseOSOSnapshot decodes an OSO_SNAPSHOT. A phase other than the two is an error.
func ParseOSOSnapshot(f Frame) (OSOSnapshot, error) {
	if err := osoSnapshotShape.check(f); err != nil {
		return OSOSnapshot{}, err
	}
	phase := OSOPhase(binary.BigEndian.Uint32(f.Extras()))
	if phase != OSOStart && phase != OSOEnd {
		return OSOSnapshot{}, badLayout(f, "unknown phase %d", uint32(phase))
	}
	return OSOSnapshot{VBucket: f.VBucket(), Opaque: f.Opaque(), StreamID: streamID(f), Phase: phase}, nil
}

// Append encodes m behind b.
func (m OSOSnapshot) Append(b []byte) []byte {
	var extras [4]byte
	binary.BigEndian.PutUint32(extras[:], uint32(m.Phase))
	p := Packet{Opcode: OpDCPOSOSnapshot, VBucket: m.VBucket, Opaque: m.Opaque, Extras: extras[:]}
	return p.appendInStream(b, m.StreamID)
}
