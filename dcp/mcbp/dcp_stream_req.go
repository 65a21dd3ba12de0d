package mcbp

import "encoding/binary"

// StreamRequest asks a producer for one vbucket's changes (dcp-wire §6.4). Its opaque names the stream from here on.
type StreamRequest struct {
	VBucket uint16
	Opaque  Opaque
	// Flags are StreamFlag values.
	Flags uint32
	// Start is the last seqno that the consumer has; End the last that it wants, [EndSeqnoForever] for replication.
	Start, End uint64
	// VBUUID names the history that Start belongs to; 0 starts from scratch.
	VBUUID uint64
	// SnapStart and SnapEnd bound the snapshot that Start lies in.
	SnapStart, SnapEnd uint64
	// Value is the optional JSON filter, passed through undecoded. It aliases the frame that was parsed.
	Value []byte
	// Unmarked says that the datatype does not call the value JSON. Some clients leave that out, and engines accept it.
	Unmarked bool
}

var streamRequestShape = shape{opcode: OpDCPStreamReq, extras: []int{48}, value: optional, datatype: DatatypeJSON}

// ParseStreamRequest decodes a STREAM_REQ. The order of the seqnos is the producer's to judge.
func ParseStreamRequest(f Frame) (StreamRequest, error) {
	if err := streamRequestShape.check(f); err != nil {
		return StreamRequest{}, err
	}
	x := f.Extras()
	if reserved := binary.BigEndian.Uint32(x[4:]); reserved != 0 {
		return StreamRequest{}, badLayout(f, "%#08x in the reserved bytes", reserved)
	}
	marked, n := f.Datatype() == DatatypeJSON, len(f.Value())
	if marked && n == 0 {
		return StreamRequest{}, badLayout(f, "no value with datatype %v", f.Datatype())
	}
	return StreamRequest{
		VBucket:   f.VBucket(),
		Opaque:    f.Opaque(),
		Flags:     binary.BigEndian.Uint32(x),
		Start:     binary.BigEndian.Uint64(x[8:]),
		End:       binary.BigEndian.Uint64(x[16:]),
		VBUUID:    binary.BigEndian.Uint64(x[24:]),
		SnapStart: binary.BigEndian.Uint64(x[32:]),
		SnapEnd:   binary.BigEndian.Uint64(x[40:]),
		Value:     f.Value(),
		Unmarked:  n > 0 && !marked,
	}, nil
}

// Append encodes m behind b. A value is sent with datatype JSON, unless it is to be unmarked.
func (m StreamRequest) Append(b []byte) []byte {
	var x [48]byte
	binary.BigEndian.PutUint32(x[:], m.Flags)
	binary.BigEndian.PutUint64(x[8:], m.Start)
	binary.BigEndian.PutUint64(x[16:], m.End)
	binary.BigEndian.PutUint64(x[24:], m.VBUUID)
	binary.BigEndian.PutUint64(x[32:], m.SnapStart)
	binary.BigEndian.PutUint64(x[40:], m.SnapEnd)
	p := Packet{Opcode: OpDCPStreamReq, VBucket: m.VBucket, Opaque: m.Opaque, Extras: x[:], Value: m.Value}
	if len(m.Value) > 0 && !m.Unmarked {
		p.Datatype = DatatypeJSON
	}
	return p.Append(b)
}

// StreamRequestAnswer is the producer's answer. At most one of Log, Rollback and Text has a meaning, by Status.
type StreamRequestAnswer struct {
	Opaque Opaque
	Status Status
	// Log is the producer's failover log when Status is [StatusSuccess].
	Log []FailoverEntry
	// Rollback is the seqno to roll back to when Status is [StatusRollback].
	Rollback uint64
	// Text is what an engine may add to any other status. It aliases the frame that was parsed.
	Text Text
}

var streamRequestAnswerShape = shape{
	opcode: OpDCPStreamReq, response: true, extras: noExtras, value: optional, datatype: datatypeAny,
}

// ParseStreamRequestAnswer decodes the answer of a STREAM_REQ.
func ParseStreamRequestAnswer(f Frame) (StreamRequestAnswer, error) {
	if err := streamRequestAnswerShape.check(f); err != nil {
		return StreamRequestAnswer{}, err
	}
	m := StreamRequestAnswer{Opaque: f.Opaque(), Status: f.Status()}
	if m.Status != StatusSuccess && m.Status != StatusRollback {
		var err error
		m.Text, err = textOf(f)
		return m, err
	}
	if f.Datatype() != 0 {
		return StreamRequestAnswer{}, badLayout(f, "datatype %v where it does not belong", f.Datatype())
	}
	switch m.Status {
	case StatusSuccess:
		log, err := ParseFailoverLog(f.Value())
		if err != nil {
			return StreamRequestAnswer{}, badLayout(f, "%v", err)
		}
		m.Log = log
	case StatusRollback:
		if len(f.Value()) != 8 {
			return StreamRequestAnswer{}, badLayout(f, "a rollback seqno of %d bytes, not 8", len(f.Value()))
		}
		m.Rollback = binary.BigEndian.Uint64(f.Value())
	}
	return m, nil
}

// Append encodes m behind b.
func (m StreamRequestAnswer) Append(b []byte) []byte {
	p := Packet{Magic: MagicResponse, Opcode: OpDCPStreamReq, Opaque: m.Opaque, Status: m.Status}
	switch m.Status {
	case StatusSuccess:
		p.Value = AppendFailoverLog(nil, m.Log)
	case StatusRollback:
		p.Value = binary.BigEndian.AppendUint64(nil, m.Rollback)
	default:
		p.Datatype, p.Value = m.Text.Datatype, m.Text.Value
	}
	return p.Append(b)
}
