package mcbp

import "encoding/binary"

// Mutation carries one document's new version (dcp-wire §6.7). Key and Value alias the frame that was parsed; the key
// includes the collection prefix if collections were negotiated.
type Mutation struct {
	VBucket uint16
	Opaque  Opaque
	// StreamID tells several streams of the vbucket apart; 0 if there is only one.
	StreamID   uint16
	Datatype   Datatype
	CAS        uint64
	BySeqno    uint64
	RevSeqno   uint64
	Flags      uint32
	Expiration uint32
	LockTime   uint32
	NRU        uint8
	Key, Value []byte
}

var mutationShape = shape{
	opcode: OpDCPMutation, scope: ofStream, extras: []int{31}, key: required, value: optional, datatype: datatypeAny, cas: true,
}

// ParseMutation decodes a MUTATION. Extended metadata, which no current engine sends, is an error.
func ParseMutation(f Frame) (Mutation, error) {
	if err := mutationShape.check(f); err != nil {
		return Mutation{}, err
	}
	x := f.Extras()
	if n := binary.BigEndian.Uint16(x[28:]); n != 0 {
		return Mutation{}, badLayout(f, "%d bytes of extended metadata", n)
	}
	return Mutation{
		VBucket:    f.VBucket(),
		Opaque:     f.Opaque(),
		StreamID:   streamID(f),
		Datatype:   f.Datatype(),
		CAS:        f.CAS(),
		BySeqno:    binary.BigEndian.Uint64(x),
		RevSeqno:   binary.BigEndian.Uint64(x[8:]),
		Flags:      binary.BigEndian.Uint32(x[16:]),
		Expiration: binary.BigEndian.Uint32(x[20:]),
		LockTime:   binary.BigEndian.Uint32(x[24:]),
		NRU:        x[30],
		Key:        f.Key(),
		Value:      f.Value(),
	}, nil
}

// Append encodes m behind b.
func (m *Mutation) Append(b []byte) []byte {
	var x [31]byte
	binary.BigEndian.PutUint64(x[:], m.BySeqno)
	binary.BigEndian.PutUint64(x[8:], m.RevSeqno)
	binary.BigEndian.PutUint32(x[16:], m.Flags)
	binary.BigEndian.PutUint32(x[20:], m.Expiration)
	binary.BigEndian.PutUint32(x[24:], m.LockTime)
	x[30] = m.NRU
	p := Packet{
		Opcode: OpDCPMutation, Datatype: m.Datatype, VBucket: m.VBucket, Opaque: m.Opaque, CAS: m.CAS,
		Extras: x[:], Key: m.Key, Value: m.Value,
	}
	return p.appendInStream(b, m.StreamID)
}

// DeletionVersion is the layout of a DELETION.
type DeletionVersion uint8

// The layouts. The second is used when OPEN had [OpenFlagDeleteTimes]. Expiration is an opcode of its own
// (dcp-wire §6.9) that says the same as a deletion.
const (
	DeletionV1 DeletionVersion = iota
	DeletionV2
	DeletionByExpiry
)

// Deletion says that a document is gone (dcp-wire §6.8, §6.9). Key and Value alias the frame that was parsed; a value
// holds extended attributes only.
type Deletion struct {
	VBucket uint16
	Opaque  Opaque
	// StreamID tells several streams of the vbucket apart; 0 if there is only one.
	StreamID   uint16
	Version    DeletionVersion
	Datatype   Datatype
	CAS        uint64
	BySeqno    uint64
	RevSeqno   uint64
	DeleteTime uint32
	Key, Value []byte
}

var (
	deletionShape = shape{
		opcode: OpDCPDeletion, scope: ofStream, extras: []int{18, 21}, key: required, value: optional, datatype: datatypeAny, cas: true,
	}
	expirationShape = shape{
		opcode: OpDCPExpiration, scope: ofStream, extras: []int{20}, key: required, value: optional, datatype: datatypeAny, cas: true,
	}
)

// ParseDeletion decodes a DELETION of either layout, or an EXPIRATION.
func ParseDeletion(f Frame) (Deletion, error) {
	s, version := &deletionShape, DeletionV1
	if f.Opcode() == OpDCPExpiration {
		s, version = &expirationShape, DeletionByExpiry
	} else if f.ExtrasLen() == 21 {
		version = DeletionV2
	}
	if err := s.check(f); err != nil {
		return Deletion{}, err
	}
	x := f.Extras()
	m := Deletion{
		VBucket:  f.VBucket(),
		Opaque:   f.Opaque(),
		StreamID: streamID(f),
		Version:  version,
		Datatype: f.Datatype(),
		CAS:      f.CAS(),
		BySeqno:  binary.BigEndian.Uint64(x),
		RevSeqno: binary.BigEndian.Uint64(x[8:]),
		Key:      f.Key(),
		Value:    f.Value(),
	}
	if version == DeletionV1 {
		if n := binary.BigEndian.Uint16(x[16:]); n != 0 {
			return Deletion{}, badLayout(f, "%d bytes of extended metadata", n)
		}
		return m, nil
	}
	m.DeleteTime = binary.BigEndian.Uint32(x[16:])
	if version == DeletionV2 && x[20] != 0 {
		return Deletion{}, badLayout(f, "%#02x in the unused byte", x[20])
	}
	return m, nil
}

// Append encodes m behind b.
func (m *Deletion) Append(b []byte) []byte {
	var x [21]byte
	binary.BigEndian.PutUint64(x[:], m.BySeqno)
	binary.BigEndian.PutUint64(x[8:], m.RevSeqno)
	p := Packet{
		Opcode: OpDCPDeletion, Datatype: m.Datatype, VBucket: m.VBucket, Opaque: m.Opaque, CAS: m.CAS,
		Key: m.Key, Value: m.Value,
	}
	switch m.Version {
	case DeletionV1:
		p.Extras = x[:18]
	case DeletionV2:
		binary.BigEndian.PutUint32(x[16:], m.DeleteTime)
		p.Extras = x[:]
	default:
		binary.BigEndian.PutUint32(x[16:], m.DeleteTime)
		p.Opcode, p.Extras = OpDCPExpiration, x[:20]
	}
	return p.appendInStream(b, m.StreamID)
}
