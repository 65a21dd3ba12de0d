package mcbp

import (
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
)

// HeaderLen is the length in bytes of every frame's header.
const HeaderLen = 24

// DefaultMaxBody is the largest total body, in bytes, that is accepted unless a caller says otherwise.
const DefaultMaxBody = 64 << 20

// Magic is the first byte of a frame.
type Magic byte

// The magics. The framing variants carry one-byte key lengths and framing extras (dcp-wire §1, §2).
const (
	MagicRequest         Magic = 0x80
	MagicResponse        Magic = 0x81
	MagicServerRequest   Magic = 0x82
	MagicServerResponse  Magic = 0x83
	MagicFramingRequest  Magic = 0x08
	MagicFramingResponse Magic = 0x18
)

// Known reports whether m starts a frame whose length we can read.
func (m Magic) Known() bool {
	switch m {
	case MagicRequest, MagicResponse, MagicServerRequest, MagicServerResponse, MagicFramingRequest, MagicFramingResponse:
		return true
	}
	return false
}

// IsResponse reports whether the header's bytes 6 and 7 are a status rather than a vbucket.
func (m Magic) IsResponse() bool {
	return m == MagicResponse || m == MagicServerResponse || m == MagicFramingResponse
}

func (m Magic) hasFraming() bool { return m == MagicFramingRequest || m == MagicFramingResponse }

// ErrShortHeader says that fewer than [HeaderLen] bytes are there yet; more input may help.
var ErrShortHeader = errors.New("mcbp: header incomplete")

// MalformedError is a frame that breaks the rules of the protocol. The connection it came from cannot be trusted further.
type MalformedError struct {
	Header [HeaderLen]byte
	Why    string
}

func (e *MalformedError) Error() string {
	return fmt.Sprintf("malformed frame: %s (header %s)", e.Why, hex.EncodeToString(e.Header[:]))
}

// FrameLen returns the length in bytes, header included, of the frame that starts at b[0].
//
// It returns [ErrShortHeader] if b holds less than a header, and a *[MalformedError] for an unknown magic, a body longer
// than maxBody, or parts that are together longer than the body.
func FrameLen(b []byte, maxBody uint32) (int, error) {
	if len(b) < HeaderLen {
		return 0, ErrShortHeader
	}
	f := Frame(b)
	body := f.BodyLen()
	switch {
	case !f.Magic().Known():
		return 0, malformed(b, "unknown magic")
	case body > maxBody:
		return 0, malformed(b, fmt.Sprintf("body of %d bytes is over the limit of %d", body, maxBody))
	case uint64(f.framingLen())+uint64(f.ExtrasLen())+uint64(f.KeyLen()) > uint64(body):
		return 0, malformed(b, fmt.Sprintf("framing extras, extras and key are longer than the body of %d bytes", body))
	}
	return HeaderLen + int(body), nil
}

func malformed(b []byte, why string) error {
	e := &MalformedError{Why: why}
	copy(e.Header[:], b)
	return e
}

// Frame is one whole frame, or, for the header accessors only, at least its header. Use [FrameLen] or [Parse] first: the
// accessors of the parts trust the lengths in the header.
type Frame []byte

// Parse takes the first frame off b and returns it with the rest. The frame aliases b. Errors are those of [FrameLen];
// [ErrShortHeader] is also returned, wrapped, when the body is incomplete.
func Parse(b []byte, maxBody uint32) (Frame, []byte, error) {
	n, err := FrameLen(b, maxBody)
	if err != nil {
		return nil, b, err
	}
	if len(b) < n {
		return nil, b, fmt.Errorf("%w: %d of %d bytes", ErrShortHeader, len(b), n)
	}
	return Frame(b[:n:n]), b[n:], nil
}

// Magic is byte 0.
func (f Frame) Magic() Magic { return Magic(f[0]) }

// Opcode is byte 1. Requests of servers and their answers (0x82, 0x83) count in a space of their own, of which nothing is
// named here.
func (f Frame) Opcode() Opcode { return Opcode(f[1]) }

// IsResponse reports whether the frame answers a request.
func (f Frame) IsResponse() bool { return f.Magic().IsResponse() }

// KeyLen is the length in bytes of the key: 16 bits wide, or 8 in frames with framing extras.
func (f Frame) KeyLen() int {
	if f.Magic().hasFraming() {
		return int(f[3])
	}
	return int(binary.BigEndian.Uint16(f[2:]))
}

func (f Frame) framingLen() int {
	if f.Magic().hasFraming() {
		return int(f[2])
	}
	return 0
}

// ExtrasLen is the length in bytes of the extras.
func (f Frame) ExtrasLen() int { return int(f[4]) }

// Datatype is the set of datatype bits of the value.
func (f Frame) Datatype() Datatype { return Datatype(f[5]) }

// VBucket is the vbucket of a request. In a response these bytes are the status.
func (f Frame) VBucket() uint16 { return binary.BigEndian.Uint16(f[6:]) }

// Status is the status of a response. In a request these bytes are the vbucket.
func (f Frame) Status() Status { return Status(binary.BigEndian.Uint16(f[6:])) }

// BodyLen is the length in bytes of everything after the header.
func (f Frame) BodyLen() uint32 { return binary.BigEndian.Uint32(f[8:]) }

// Opaque is the raw opaque.
func (f Frame) Opaque() Opaque { return Opaque(f[12:16]) }

// CAS is the compare-and-swap value of the document.
func (f Frame) CAS() uint64 { return binary.BigEndian.Uint64(f[16:]) }

// FramingExtras is the part before the extras in frames with framing extras; empty in others.
func (f Frame) FramingExtras() []byte { return f[HeaderLen : HeaderLen+f.framingLen()] }

// Extras is the fixed part that belongs to the opcode.
func (f Frame) Extras() []byte {
	at := HeaderLen + f.framingLen()
	return f[at : at+f.ExtrasLen()]
}

// Key is the key.
func (f Frame) Key() []byte {
	at := HeaderLen + f.framingLen() + f.ExtrasLen()
	return f[at : at+f.KeyLen()]
}

// Value is all that follows the key.
func (f Frame) Value() []byte {
	return f[HeaderLen+f.framingLen()+f.ExtrasLen()+f.KeyLen():]
}

// String names the frame for logs and errors: never its key or value.
func (f Frame) String() string {
	if len(f) < HeaderLen {
		return fmt.Sprintf("frame of %d bytes", len(f))
	}
	if m := f.Magic(); m == MagicServerRequest || m == MagicServerResponse {
		return fmt.Sprintf("server opcode %#02x (response %t) opaque=%v body=%d", f[1], f.IsResponse(), f.Opaque(), f.BodyLen())
	}
	if f.IsResponse() {
		return fmt.Sprintf("%v response %v opaque=%v body=%d", f.Opcode(), f.Status(), f.Opaque(), f.BodyLen())
	}
	return fmt.Sprintf("%v request vb=%d opaque=%v body=%d", f.Opcode(), f.VBucket(), f.Opaque(), f.BodyLen())
}
