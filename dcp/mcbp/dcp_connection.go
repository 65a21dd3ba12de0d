package mcbp

import "encoding/binary"

// BufferAck tells a producer that the consumer has processed Bytes since its last ack (dcp-wire §6.11, §8). It is not
// answered.
type BufferAck struct {
	Opaque Opaque
	Bytes  uint32
}

var bufferAckShape = shape{opcode: OpDCPBufferAck, scope: ofConnection, extras: []int{4}}

// ParseBufferAck decodes a BUFFER_ACK.
func ParseBufferAck(f Frame) (BufferAck, error) {
	if err := bufferAckShape.check(f); err != nil {
		return BufferAck{}, err
	}
	return BufferAck{Opaque: f.Opaque(), Bytes: binary.BigEndian.Uint32(f.Extras())}, nil
}

// Append encodes m behind b.
func (m BufferAck) Append(b []byte) []byte {
	var extras [4]byte
	binary.BigEndian.PutUint32(extras[:], m.Bytes)
	return (&Packet{Opcode: OpDCPBufferAck, Opaque: m.Opaque, Extras: extras[:]}).Append(b)
}

// FlowControlCost is what f adds to the bytes that a producer has outstanding, and that its consumer acknowledges
// (dcp-wire §8): its whole size, but nothing for responses, CONTROL and NOOP, and two bytes more for a PREPARE. Both
// ends must count alike, to the byte. f must be a frame that a producer sends to a consumer.
func FlowControlCost(f Frame) uint32 {
	if f.IsResponse() {
		return 0
	}
	size := HeaderLen + f.BodyLen()
	switch f.Opcode() {
	case OpDCPNoop, OpDCPControl:
		return 0
	case OpDCPPrepare:
		return size + 2
	}
	return size
}

// Control sets one property of a DCP connection (dcp-wire §6.12, §7).
type Control struct {
	Opaque     Opaque
	Key, Value string
}

var controlShape = shape{opcode: OpDCPControl, scope: ofConnection, extras: noExtras, key: required, value: optional}

// ParseControl decodes a CONTROL. An empty key is an error, an empty value the receiver's to judge.
func ParseControl(f Frame) (Control, error) {
	if err := controlShape.check(f); err != nil {
		return Control{}, err
	}
	return Control{Opaque: f.Opaque(), Key: string(f.Key()), Value: string(f.Value())}, nil
}

// Append encodes m behind b.
func (m Control) Append(b []byte) []byte {
	return (&Packet{Opcode: OpDCPControl, Opaque: m.Opaque, Key: []byte(m.Key), Value: []byte(m.Value)}).Append(b)
}

// Noop asks a consumer whether it is still there (dcp-wire §6.11). The answer, a bare header with the same opaque, is due at
// once.
type Noop struct{ Opaque Opaque }

var noopShape = shape{opcode: OpDCPNoop, scope: ofConnection, extras: noExtras}

// ParseNoop decodes a DCP NOOP.
func ParseNoop(f Frame) (Noop, error) {
	if err := noopShape.check(f); err != nil {
		return Noop{}, err
	}
	return Noop{Opaque: f.Opaque()}, nil
}

// Append encodes m behind b.
func (m Noop) Append(b []byte) []byte {
	return (&Packet{Opcode: OpDCPNoop, Opaque: m.Opaque}).Append(b)
}

// SeqnoMessage is a frame whose extras are one seqno: SEQNO_ADVANCED and SEQNO_ACKNOWLEDGED (dcp-wire §6.14, §6.15).
type SeqnoMessage struct {
	Opcode  Opcode
	VBucket uint16
	Opaque  Opaque
	// StreamID tells several streams of the vbucket apart; 0 if there is only one.
	StreamID uint16
	Seqno    uint64
}

var (
	seqnoAdvancedShape     = shape{opcode: OpDCPSeqnoAdvanced, scope: ofStream, extras: []int{8}}
	seqnoAcknowledgedShape = shape{opcode: OpDCPSeqnoAcknowledged, scope: ofStream, extras: []int{8}}
)

// ParseSeqnoMessage decodes a SEQNO_ADVANCED or a SEQNO_ACKNOWLEDGED.
func ParseSeqnoMessage(f Frame) (SeqnoMessage, error) {
	s := &seqnoAdvancedShape
	if f.Opcode() == OpDCPSeqnoAcknowledged {
		s = &seqnoAcknowledgedShape
	}
	if err := s.check(f); err != nil {
		return SeqnoMessage{}, err
	}
	return SeqnoMessage{
		Opcode: f.Opcode(), VBucket: f.VBucket(), Opaque: f.Opaque(), StreamID: streamID(f),
		Seqno: binary.BigEndian.Uint64(f.Extras()),
	}, nil
}

// Append encodes m behind b.
func (m SeqnoMessage) Append(b []byte) []byte {
	var extras [8]byte
	binary.BigEndian.PutUint64(extras[:], m.Seqno)
	return (&Packet{Opcode: m.Opcode, VBucket: m.VBucket, Opaque: m.Opaque, Extras: extras[:]}).appendInStream(b, m.StreamID)
}
