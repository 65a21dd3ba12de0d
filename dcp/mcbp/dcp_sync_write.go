package mcbp

import "encoding/binary"

// Prepare carries a durable write that is not yet decided (dcp-wire §6.14). Key and Value alias the frame that was parsed.
// Flow control counts two bytes more than its size, see [FlowControlCost].
type Prepare struct {
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
	// Deleted says that the write is a deletion.
	Deleted    bool
	Level      DurabilityLevel
	Key, Value []byte
}

var prepareShape = shape{
	opcode: OpDCPPrepare, scope: ofStream, extras: []int{31}, key: required, value: optional, datatype: datatypeAny, cas: true,
}

// ParsePrepare decodes a PREPARE. A durability level that no engine knows is an error.
func ParsePrepare(f Frame) (Prepare, error) {
	if err := prepareShape.check(f); err != nil {
		return Prepare{}, err
	}
	x := f.Extras()
	if x[29] > 1 {
		return Prepare{}, badLayout(f, "%d where deleted is 0 or 1", x[29])
	}
	level := DurabilityLevel(x[30])
	if !level.known() {
		return Prepare{}, badLayout(f, "unknown durability level %d", x[30])
	}
	return Prepare{
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
		NRU:        x[28],
		Deleted:    x[29] == 1,
		Level:      level,
		Key:        f.Key(),
		Value:      f.Value(),
	}, nil
}

// Append encodes m behind b.
func (m *Prepare) Append(b []byte) []byte {
	var x [31]byte
	binary.BigEndian.PutUint64(x[:], m.BySeqno)
	binary.BigEndian.PutUint64(x[8:], m.RevSeqno)
	binary.BigEndian.PutUint32(x[16:], m.Flags)
	binary.BigEndian.PutUint32(x[20:], m.Expiration)
	binary.BigEndian.PutUint32(x[24:], m.LockTime)
	x[28], x[30] = m.NRU, byte(m.Level)
	if m.Deleted {
		x[29] = 1
	}
	p := Packet{
		Opcode: OpDCPPrepare, Datatype: m.Datatype, VBucket: m.VBucket, Opaque: m.Opaque, CAS: m.CAS,
		Extras: x[:], Key: m.Key, Value: m.Value,
	}
	return p.appendInStream(b, m.StreamID)
}

// Completion says how a prepared write ended: COMMIT or ABORT (dcp-wire §6.14). Key aliases the frame that was parsed.
type Completion struct {
	// Opcode is [OpDCPCommit] or [OpDCPAbort].
	Opcode  Opcode
	VBucket uint16
	Opaque  Opaque
	// StreamID tells several streams of the vbucket apart; 0 if there is only one.
	StreamID uint16
	CAS      uint64
	// Prepared is the seqno of the PREPARE, Seqno that of its end.
	Prepared, Seqno uint64
	Key             []byte
}

var (
	commitShape = shape{opcode: OpDCPCommit, scope: ofStream, extras: []int{16}, key: required, cas: true}
	abortShape  = shape{opcode: OpDCPAbort, scope: ofStream, extras: []int{16}, key: required, cas: true}
)

// ParseCompletion decodes a COMMIT or an ABORT.
func ParseCompletion(f Frame) (Completion, error) {
	s := &commitShape
	if f.Opcode() == OpDCPAbort {
		s = &abortShape
	}
	if err := s.check(f); err != nil {
		return Completion{}, err
	}
	x := f.Extras()
	return Completion{
		Opcode: f.Opcode(), VBucket: f.VBucket(), Opaque: f.Opaque(), StreamID: streamID(f), CAS: f.CAS(),
		Prepared: binary.BigEndian.Uint64(x), Seqno: binary.BigEndian.Uint64(x[8:]), Key: f.Key(),
	}, nil
}

// Append encodes m behind b.
func (m Completion) Append(b []byte) []byte {
	var x [16]byte
	binary.BigEndian.PutUint64(x[:], m.Prepared)
	binary.BigEndian.PutUint64(x[8:], m.Seqno)
	p := Packet{Opcode: m.Opcode, VBucket: m.VBucket, Opaque: m.Opaque, CAS: m.CAS, Extras: x[:], Key: m.Key}
	return p.appendInStream(b, m.StreamID)
}
