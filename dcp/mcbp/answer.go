package mcbp

// Text is what an engine adds to a status that is no success: an explanation, or, with [StatusNotMyVBucket], the cluster
// map. Nothing depends on it.
type Text struct {
	Datatype Datatype
	Value    []byte
}

// textOf takes the text out of an answer. A success has none.
func textOf(f Frame) (Text, error) {
	n, datatype := len(f.Value()), f.Datatype()
	switch {
	case n == 0 && datatype == 0:
		return Text{}, nil
	case n == 0:
		return Text{}, badLayout(f, "no value with datatype %v", datatype)
	case f.Status() == StatusSuccess:
		return Text{}, badLayout(f, "a success with a value of %d bytes", n)
	}
	return Text{Datatype: datatype, Value: f.Value()}, nil
}

func (t Text) answer(op Opcode, opaque Opaque, status Status) Packet {
	return Packet{Magic: MagicResponse, Opcode: op, Opaque: opaque, Status: status, Datatype: t.Datatype, Value: t.Value}
}

// StatusAnswer is an answer that says nothing but a status: the answers of all DCP requests but ADD_STREAM, STREAM_REQ and
// GET_FAILOVER_LOG. Messages of a stream are answered in this way only when something is wrong (dcp-wire §6).
type StatusAnswer struct {
	Opcode Opcode
	Opaque Opaque
	Status Status
	// Text is what an engine may add to a refusal. It aliases the frame that was parsed.
	Text Text
}

// ParseStatusAnswer decodes such an answer to a DCP request.
func ParseStatusAnswer(f Frame) (StatusAnswer, error) {
	op := f.Opcode()
	switch {
	case op < OpDCPOpen || op > OpDCPCacheTransferEnd, op == OpDCPFlush,
		op == OpDCPAddStream, op == OpDCPStreamReq, op == OpDCPGetFailoverLog:
		return StatusAnswer{}, badLayout(f, "answered with more than a status, or not at all")
	}
	s := shape{opcode: op, response: true, extras: noExtras, value: optional, datatype: datatypeAny}
	if err := s.check(f); err != nil {
		return StatusAnswer{}, err
	}
	text, err := textOf(f)
	if err != nil {
		return StatusAnswer{}, err
	}
	return StatusAnswer{Opcode: op, Opaque: f.Opaque(), Status: f.Status(), Text: text}, nil
}

// Append encodes m behind b.
func (m StatusAnswer) Append(b []byte) []byte {
	p := m.Text.answer(m.Opcode, m.Opaque, m.Status)
	return p.Append(b)
}
