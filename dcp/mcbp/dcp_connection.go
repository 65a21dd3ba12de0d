package mcbp

import "encoding/binary"

// BufferAck tells a producer that the consumer has processed Bytes since its last ack (dcp-wire §6.11, §8). It is not
// answered.
type BufferAck struct {
	Opaque Opaque
	Bytes  uint32
}

var bufferAckShape = shape{opcode: OpDCPBufferAck, extras: []int{4}}

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

var controlShape = shape{opcode: OpDCPControl, extras: noExtras, key: true, value: true}

// ParseControl decodes a CONTROL. An empty key is an error.
func ParseControl(f Frame) (Control, error) {
	if err := controlShape.check(f); err != nil {
		return Control{}, err
	}
	if f.KeyLen() == 0 {
		return Control{}, badLayout(f, "no key")
	}
	return Control{Opaque: f.Opaque(), Key: string(f.Key()), Value: string(f.Value())}, nil
}

// Append encodes m behind b.
func (m Control) Append(b []byte) []byte {
	return (&Packet{Opcode: OpDCPControl, Opaque: m.Opaque, Key: []byte(m.Key), Value: []byte(m.Value)}).Append(b)
}

// SeqnoMessage is a frame whose extras are one seqno: SEQNO_ADVANCED and SEQNO_ACKNOWLEDGED (dcp-wire §6.14, §6.15).
type SeqnoMessage struct {
	Opcode  Opcode
	VBucket uint16
	Opaque  Opaque
	Seqno   uint64
}

// ParseSeqnoMessage decodes a SEQNO_ADVANCED or a SEQNO_ACKNOWLEDGED.
func ParseSeqnoMessage(f Frame) (SeqnoMessage, error) {
	if op := f.Opcode(); op != OpDCPSeqnoAdvanced && op != OpDCPSeqnoAcknowledged {
		return SeqnoMessage{}, badLayout(f, "not a message of one seqno")
	}
	if err := (&shape{opcode: f.Opcode(), extras: []int{8}}).check(f); err != nil {
		return SeqnoMessage{}, err
	}
	return SeqnoMessage{
		Opcode: f.Opcode(), VBucket: f.VBucket(), Opaque: f.Opaque(), Seqno: binary.BigEndian.Uint64(f.Extras()),
	}, nil
}

// Append encodes m behind b.
func (m SeqnoMessage) Append(b []byte) []byte {
	var extras [8]byte
	binary.BigEndian.PutUint64(extras[:], m.Seqno)
	return (&Packet{Opcode: m.Opcode, VBucket: m.VBucket, Opaque: m.Opaque, Extras: extras[:]}).Append(b)
}
