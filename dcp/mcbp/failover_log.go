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
