package mcbp

import "encoding/binary"

// AddStream asks a consumer to open a stream for one vbucket (dcp-wire §6.2).
type AddStream struct {
	VBucket uint16
	Opaque  Opaque
	// Flags are StreamFlag values; the consumer copies them into its STREAM_REQ.
	Flags uint32
}

var addStreamShape = shape{opcode: OpDCPAddStream, extras: []int{4}}

// ParseAddStream decodes an ADD_STREAM.
func ParseAddStream(f Frame) (AddStream, error) {
	if err := addStreamShape.check(f); err != nil {
		return AddStream{}, err
	}
	return AddStream{VBucket: f.VBucket(), Opaque: f.Opaque(), Flags: binary.BigEndian.Uint32(f.Extras())}, nil
}

// Append encodes m behind b.
func (m AddStream) Append(b []byte) []byte {
	var extras [4]byte
	binary.BigEndian.PutUint32(extras[:], m.Flags)
	return (&Packet{Opcode: OpDCPAddStream, VBucket: m.VBucket, Opaque: m.Opaque, Extras: extras[:]}).Append(b)
}

// AddStreamAnswer is the consumer's answer, given when its STREAM_REQ was answered, or at once if it refuses.
type AddStreamAnswer struct {
	Opaque Opaque
	Status Status
	// Requested says that a STREAM_REQ was sent; only then does the answer have extras.
	Requested bool
	// Stream is the counter value behind the stream's opaque. On the wire of this answer it is in network order, unlike in
	// the stream's own headers: never compare the two.
	Stream uint32
	// Text is what an engine may add to a refusal. It aliases the frame that was parsed.
	Text Text
}

var addStreamAnswerShape = shape{
	opcode: OpDCPAddStream, response: true, extras: []int{0, 4}, value: optional, datatype: datatypeAny,
}

// ParseAddStreamAnswer decodes the answer of an ADD_STREAM. A success must name the stream.
func ParseAddStreamAnswer(f Frame) (AddStreamAnswer, error) {
	if err := addStreamAnswerShape.check(f); err != nil {
		return AddStreamAnswer{}, err
	}
	text, err := textOf(f)
	if err != nil {
		return AddStreamAnswer{}, err
	}
	m := AddStreamAnswer{Opaque: f.Opaque(), Status: f.Status(), Requested: f.ExtrasLen() == 4, Text: text}
	if m.Status == StatusSuccess && !m.Requested {
		return AddStreamAnswer{}, badLayout(f, "success without a stream's opaque")
	}
	if m.Requested {
		m.Stream = binary.BigEndian.Uint32(f.Extras())
	}
	return m, nil
}

// Append encodes m behind b.
func (m AddStreamAnswer) Append(b []byte) []byte {
	p := m.Text.answer(OpDCPAddStream, m.Opaque, m.Status)
	var extras [4]byte
	if m.Requested {
		binary.BigEndian.PutUint32(extras[:], m.Stream)
		p.Extras = extras[:]
	}
	return p.Append(b)
}

// CloseStream asks either end to close a stream (dcp-wire §6.3). Its answer is a bare header.
type CloseStream struct {
	VBucket uint16
	Opaque  Opaque
	// StreamID tells several streams of the vbucket apart; 0 if there is only one.
	StreamID uint16
}

var closeStreamShape = shape{opcode: OpDCPCloseStream, scope: ofStream, extras: noExtras}

// ParseCloseStream decodes a CLOSE_STREAM.
func ParseCloseStream(f Frame) (CloseStream, error) {
	if err := closeStreamShape.check(f); err != nil {
		return CloseStream{}, err
	}
	return CloseStream{VBucket: f.VBucket(), Opaque: f.Opaque(), StreamID: streamID(f)}, nil
}

// Append encodes m behind b.
func (m CloseStream) Append(b []byte) []byte {
	return (&Packet{Opcode: OpDCPCloseStream, VBucket: m.VBucket, Opaque: m.Opaque}).appendInStream(b, m.StreamID)
}
