package mcbp

import (
	"encoding/binary"
	"fmt"
	"math"
)

// Packet is a frame to be encoded. Its zero value with an opcode is a bare request.
type Packet struct {
	// Magic defaults to [MagicRequest].
	Magic    Magic
	Opcode   Opcode
	Datatype Datatype
	// VBucket is sent by requests, Status by responses.
	VBucket uint16
	Status  Status
	Opaque  Opaque
	CAS     uint64

	// FramingExtras is sent only with the framing magics.
	FramingExtras []byte
	Extras        []byte
	Key           []byte
	Value         []byte
}

// Response starts the answer to a request: same opcode and opaque, with a status.
func Response(to Frame, status Status) *Packet {
	return &Packet{Magic: MagicResponse, Opcode: to.Opcode(), Opaque: to.Opaque(), Status: status}
}

// Len is the encoded length in bytes.
func (p *Packet) Len() int {
	return HeaderLen + len(p.FramingExtras) + len(p.Extras) + len(p.Key) + len(p.Value)
}

// Append encodes p behind b and returns the extended slice.
//
// It panics if a part is longer than its length field can say (extras and framing extras 255 bytes, key 65 535, with
// framing extras 255; body 4 GiB): lengths come from our own code, never from a peer.
func (p *Packet) Append(b []byte) []byte {
	magic := p.Magic
	if magic == 0 {
		magic = MagicRequest
	}
	return p.encode(b, magic, p.FramingExtras)
}

// appendInStream encodes p as a message of the stream with that id, or of the only one if the id is 0.
func (p *Packet) appendInStream(b []byte, id uint16) []byte {
	if id == 0 {
		return p.encode(b, MagicRequest, nil)
	}
	framing := [streamIDLen]byte{streamIDHeader, byte(id >> 8), byte(id)}
	return p.encode(b, MagicFramingRequest, framing[:])
}

// encode does not look at p.Magic and p.FramingExtras.
func (p *Packet) encode(b []byte, magic Magic, framing []byte) []byte {
	body := len(framing) + len(p.Extras) + len(p.Key) + len(p.Value)
	maxKey := math.MaxUint16
	if magic.hasFraming() {
		maxKey = math.MaxUint8
	} else if len(framing) > 0 {
		panic(fmt.Sprintf("mcbp: %v with magic %#02x cannot carry framing extras", p.Opcode, byte(magic)))
	}
	if len(p.Extras) > math.MaxUint8 || len(framing) > math.MaxUint8 || len(p.Key) > maxKey || uint64(body) > math.MaxUint32 {
		panic(fmt.Sprintf("mcbp: %v with framing extras %d, extras %d, key %d, body %d bytes does not fit",
			p.Opcode, len(framing), len(p.Extras), len(p.Key), body))
	}
	var h [HeaderLen]byte
	h[0], h[1] = byte(magic), byte(p.Opcode)
	if magic.hasFraming() {
		h[2], h[3] = byte(len(framing)), byte(len(p.Key))
	} else {
		binary.BigEndian.PutUint16(h[2:], uint16(len(p.Key)))
	}
	h[4], h[5] = byte(len(p.Extras)), byte(p.Datatype)
	if magic.IsResponse() {
		binary.BigEndian.PutUint16(h[6:], uint16(p.Status))
	} else {
		binary.BigEndian.PutUint16(h[6:], p.VBucket)
	}
	binary.BigEndian.PutUint32(h[8:], uint32(body))
	copy(h[12:], p.Opaque[:])
	binary.BigEndian.PutUint64(h[16:], p.CAS)

	b = append(b, h[:]...)
	b = append(b, framing...)
	b = append(b, p.Extras...)
	b = append(b, p.Key...)
	return append(b, p.Value...)
}

// Frame encodes p into a new slice.
func (p *Packet) Frame() Frame { return p.Append(make([]byte, 0, p.Len())) }
