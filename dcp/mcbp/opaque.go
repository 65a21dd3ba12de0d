package mcbp

import (
	"encoding/binary"
	"encoding/hex"
)

// Opaque is the four raw bytes by which a response is matched to its request, and a stream message to its stream.
type Opaque [4]byte

// String gives the eight hex digits as they appear on the wire.
func (o Opaque) String() string { return hex.EncodeToString(o[:]) }

// Uint32 reads the opaque in network byte order. It is for our own counters only: the byte order of a peer's is unknown.
func (o Opaque) Uint32() uint32 { return binary.BigEndian.Uint32(o[:]) }

// OpaqueFromUint32 writes v in network byte order.
func OpaqueFromUint32(v uint32) (o Opaque) {
	binary.BigEndian.PutUint32(o[:], v)
	return o
}
