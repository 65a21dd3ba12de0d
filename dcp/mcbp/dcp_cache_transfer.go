package mcbp

import (
	"encoding/binary"
	"fmt"
)

// CacheTransfer carries documents of a producer's cache, in no order of seqnos (dcp-wire §6.16).
type CacheTransfer struct {
	VBucket uint16
	Opaque  Opaque
	// StreamID tells several streams of the vbucket apart; 0 if there is only one.
	StreamID uint16
	// Records are one or more encoded [CacheRecord]. They alias the frame that was parsed.
	Records []byte
}

// CacheRecord is one document of a [CacheTransfer].
type CacheRecord struct {
	CAS        uint64
	BySeqno    uint64
	RevSeqno   uint64
	Flags      uint32
	Expiration uint32
	Datatype   Datatype
	Hint       uint8
	// Key includes the collection id. An empty Value means that only key and metadata are sent.
	Key, Value []byte
}

const (
	cacheRecordHeader = 40
	minCacheKeyLen    = 2
)

var (
	cacheTransferShape    = shape{opcode: OpDCPCacheTransfer, scope: ofStream, extras: noExtras, value: required}
	cacheTransferEndShape = shape{opcode: OpDCPCacheTransferEnd, scope: ofStream, extras: noExtras}
)

// ParseCacheTransfer decodes a CACHE_TRANSFER. Every record must be whole.
func ParseCacheTransfer(f Frame) (CacheTransfer, error) {
	if err := cacheTransferShape.check(f); err != nil {
		return CacheTransfer{}, err
	}
	for rest := f.Value(); len(rest) > 0; {
		_, next, why := cutCacheRecord(rest)
		if why != "" {
			return CacheTransfer{}, badLayout(f, "%s, %d bytes before the end", why, len(rest))
		}
		rest = next
	}
	return CacheTransfer{VBucket: f.VBucket(), Opaque: f.Opaque(), StreamID: streamID(f), Records: f.Value()}, nil
}

// Append encodes m behind b.
func (m CacheTransfer) Append(b []byte) []byte {
	p := Packet{Opcode: OpDCPCacheTransfer, VBucket: m.VBucket, Opaque: m.Opaque, Value: m.Records}
	return p.appendInStream(b, m.StreamID)
}

// NextCacheRecord takes the first record off those of a parsed [CacheTransfer], which must not be empty, and returns it with
// the rest.
func NextCacheRecord(records []byte) (r CacheRecord, rest []byte, err error) {
	r, rest, why := cutCacheRecord(records)
	if why != "" {
		return CacheRecord{}, records, fmt.Errorf("mcbp: bad cache record: %s", why)
	}
	return r, rest, nil
}

func cutCacheRecord(b []byte) (r CacheRecord, rest []byte, why string) {
	if len(b) < cacheRecordHeader {
		return CacheRecord{}, nil, "a record is cut short"
	}
	valueLen := uint64(binary.BigEndian.Uint32(b[24:]))
	keyLen := uint64(binary.BigEndian.Uint16(b[36:]))
	r = CacheRecord{
		CAS:        binary.BigEndian.Uint64(b),
		BySeqno:    binary.BigEndian.Uint64(b[8:]),
		RevSeqno:   binary.BigEndian.Uint64(b[16:]),
		Flags:      binary.BigEndian.Uint32(b[28:]),
		Expiration: binary.BigEndian.Uint32(b[32:]),
		Datatype:   Datatype(b[38]),
		Hint:       b[39],
	}
	rest = b[cacheRecordHeader:]
	switch {
	case keyLen < minCacheKeyLen:
		return CacheRecord{}, nil, fmt.Sprintf("a record with a key of %d bytes", keyLen)
	case keyLen+valueLen > uint64(len(rest)):
		return CacheRecord{}, nil, fmt.Sprintf("a record with a key of %d bytes and a value of %d", keyLen, valueLen)
	case r.Datatype&^datatypeAny != 0:
		return CacheRecord{}, nil, fmt.Sprintf("a record of datatype %v", r.Datatype)
	}
	r.Key, rest = rest[:keyLen:keyLen], rest[keyLen:]
	r.Value, rest = rest[:valueLen:valueLen], rest[valueLen:]
	return r, rest, ""
}

// Append encodes the record behind b.
func (r *CacheRecord) Append(b []byte) []byte {
	var h [cacheRecordHeader]byte
	binary.BigEndian.PutUint64(h[:], r.CAS)
	binary.BigEndian.PutUint64(h[8:], r.BySeqno)
	binary.BigEndian.PutUint64(h[16:], r.RevSeqno)
	binary.BigEndian.PutUint32(h[24:], uint32(len(r.Value)))
	binary.BigEndian.PutUint32(h[28:], r.Flags)
	binary.BigEndian.PutUint32(h[32:], r.Expiration)
	binary.BigEndian.PutUint16(h[36:], uint16(len(r.Key)))
	h[38], h[39] = byte(r.Datatype), r.Hint
	b = append(b, h[:]...)
	b = append(b, r.Key...)
	return append(b, r.Value...)
}

// CacheTransferEnd says that the stream goes on with what is not in the cache.
type CacheTransferEnd struct {
	VBucket uint16
	Opaque  Opaque
	// StreamID tells several streams of the vbucket apart; 0 if there is only one.
	StreamID uint16
}

// ParseCacheTransferEnd decodes a CACHE_TRANSFER_END.
func ParseCacheTransferEnd(f Frame) (CacheTransferEnd, error) {
	if err := cacheTransferEndShape.check(f); err != nil {
		return CacheTransferEnd{}, err
	}
	return CacheTransferEnd{VBucket: f.VBucket(), Opaque: f.Opaque(), StreamID: streamID(f)}, nil
}

// Append encodes m behind b.
func (m CacheTransferEnd) Append(b []byte) []byte {
	return (&Packet{Opcode: OpDCPCacheTransferEnd, VBucket: m.VBucket, Opaque: m.Opaque}).appendInStream(b, m.StreamID)
}
