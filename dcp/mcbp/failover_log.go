package mcbp

import (
	"encoding/binary"
	"fmt"
)

// FailoverEntry is one line of a vbucket's failover log: a history called UUID begins after Seqno.
type FailoverEntry struct {
	UUID  uint64
	Seqno uint64
}

const failoverEntryLen = 16

// AppendFailoverLog encodes a log, newest entry first, as the value of STREAM_REQ and GET_FAILOVER_LOG answers.
func AppendFailoverLog(b []byte, log []FailoverEntry) []byte {
	for _, e := range log {
		b = binary.BigEndian.AppendUint64(b, e.UUID)
		b = binary.BigEndian.AppendUint64(b, e.Seqno)
	}
	return b
}

// ParseFailoverLog decodes such a value. Its length must be a multiple of 16 bytes; an empty one is an empty log.
func ParseFailoverLog(value []byte) ([]FailoverEntry, error) {
	if len(value)%failoverEntryLen != 0 {
		return nil, fmt.Errorf("mcbp: a failover log of %d bytes is not made of entries of %d", len(value), failoverEntryLen)
	}
	log := make([]FailoverEntry, 0, len(value)/failoverEntryLen)
	for ; len(value) > 0; value = value[failoverEntryLen:] {
		log = append(log, FailoverEntry{UUID: binary.BigEndian.Uint64(value), Seqno: binary.BigEndian.Uint64(value[8:])})
	}
	return log, nil
}

// FailoverLogRequest asks for a vbucket's failover log.
type FailoverLogRequest struct {
	// Opcode is [OpDCPGetFailoverLog] on a DCP connection, [OpGetFailoverLog] on others.
	Opcode  Opcode
	VBucket uint16
	Opaque  Opaque
}

var (
	failoverLogShape    = shape{opcode: OpGetFailoverLog, extras: noExtras}
	dcpFailoverLogShape = shape{opcode: OpDCPGetFailoverLog, extras: noExtras}
)

// ParseFailoverLogRequest decodes either GET_FAILOVER_LOG.
func ParseFailoverLogRequest(f Frame) (FailoverLogRequest, error) {
	s := &failoverLogShape
	if f.Opcode() == OpDCPGetFailoverLog {
		s = &dcpFailoverLogShape
	}
	if err := s.check(f); err != nil {
		return FailoverLogRequest{}, err
	}
	return FailoverLogRequest{Opcode: f.Opcode(), VBucket: f.VBucket(), Opaque: f.Opaque()}, nil
}

// Append encodes m behind b.
func (m FailoverLogRequest) Append(b []byte) []byte {
	return (&Packet{Opcode: m.Opcode, VBucket: m.VBucket, Opaque: m.Opaque}).Append(b)
}

// FailoverLogAnswer is the answer. Log has a meaning when Status is [StatusSuccess], Text otherwise.
type FailoverLogAnswer struct {
	Opcode Opcode
	Opaque Opaque
	Status Status
	Log    []FailoverEntry
	// Text aliases the frame that was parsed.
	Text Text
}

// ParseFailoverLogAnswer decodes the answer to either GET_FAILOVER_LOG.
func ParseFailoverLogAnswer(f Frame) (FailoverLogAnswer, error) {
	s := shape{opcode: OpGetFailoverLog, response: true, extras: noExtras, value: optional, datatype: datatypeAny}
	if f.Opcode() == OpDCPGetFailoverLog {
		s.opcode = OpDCPGetFailoverLog
	}
	if err := s.check(f); err != nil {
		return FailoverLogAnswer{}, err
	}
	m := FailoverLogAnswer{Opcode: f.Opcode(), Opaque: f.Opaque(), Status: f.Status()}
	if m.Status != StatusSuccess {
		var err error
		m.Text, err = textOf(f)
		return m, err
	}
	if f.Datatype() != 0 {
		return FailoverLogAnswer{}, badLayout(f, "datatype %v where it does not belong", f.Datatype())
	}
	log, err := ParseFailoverLog(f.Value())
	if err != nil {
		return FailoverLogAnswer{}, badLayout(f, "%v", err)
	}
	m.Log = log
	return m, nil
}

// Append encodes m behind b.
func (m FailoverLogAnswer) Append(b []byte) []byte {
	p := m.Text.answer(m.Opcode, m.Opaque, m.Status)
	if m.Status == StatusSuccess {
		p.Datatype, p.Value = 0, AppendFailoverLog(nil, m.Log)
	}
	return p.Append(b)
}
