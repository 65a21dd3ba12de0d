package mcbp

import (
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"slices"
)

// LayoutError is a well-formed frame whose parts do not have the lengths or values that its opcode demands. The byte
// stream around it is sound, so the receiver may answer with [StatusInvalid] and go on.
type LayoutError struct {
	Header [HeaderLen]byte
	Why    string
}

func (e *LayoutError) Error() string {
	return fmt.Sprintf("bad layout of %v: %s (header %s)", Opcode(e.Header[1]), e.Why, hex.EncodeToString(e.Header[:]))
}

func badLayout(f Frame, format string, args ...any) error {
	e := &LayoutError{Why: fmt.Sprintf(format, args...)}
	copy(e.Header[:], f)
	return e
}

// presence says whether a part of a frame may, or must, be there.
type presence uint8

const (
	absent presence = iota
	optional
	required
)

func (p presence) allows(n int) bool {
	switch p {
	case absent:
		return n == 0
	case required:
		return n > 0
	}
	return true
}

func (p presence) String() string { return [...]string{"absent", "optional", "required"}[p] }

// scope is what the vbucket in a request's header is good for.
type scope uint8

const (
	_ scope = iota // the request is about one vbucket, which is what most are
	// ofConnection: the request is about the connection or the node, and the vbucket must be 0.
	ofConnection
	// ofStream: the request is about the stream of a vbucket, and framing extras may name which of several.
	ofStream
)

// shape is what an opcode allows in one direction. The decoders check it first, so that they may index freely. What a
// decoder does not keep has to have its only value, so that what it accepts can be encoded again, byte by byte.
type shape struct {
	opcode   Opcode
	response bool
	scope    scope
	// extras lists the allowed lengths.
	extras     []int
	key, value presence
	// datatype are the bits that may be set.
	datatype Datatype
	cas      bool
}

func (s *shape) check(f Frame) error {
	if f.Opcode() != s.opcode || f.IsResponse() != s.response {
		return badLayout(f, "not a %v (response %t)", s.opcode, s.response)
	}
	if err := s.checkForm(f); err != nil {
		return err
	}
	if !slices.Contains(s.extras, f.ExtrasLen()) {
		return badLayout(f, "extras are %d bytes, not one of %v", f.ExtrasLen(), s.extras)
	}
	if !s.key.allows(f.KeyLen()) {
		return badLayout(f, "a key of %d bytes where it is %v", f.KeyLen(), s.key)
	}
	n := len(f.Value())
	if !s.value.allows(n) {
		return badLayout(f, "a value of %d bytes where it is %v", n, s.value)
	}
	if d := f.Datatype() &^ s.datatype; d != 0 {
		return badLayout(f, "datatype %v where it does not belong", d)
	}
	if f.CAS() != 0 && !s.cas {
		return badLayout(f, "a CAS where none belongs")
	}
	return nil
}

// checkForm checks the magic and what depends on it.
func (s *shape) checkForm(f Frame) error {
	switch f.Magic() {
	case MagicResponse:
		return nil
	case MagicRequest:
		if s.scope == ofConnection && f.VBucket() != 0 {
			return badLayout(f, "vbucket %d in a request that is about none", f.VBucket())
		}
		return nil
	case MagicFramingRequest:
		if s.scope != ofStream {
			break
		}
		x := f.FramingExtras()
		if len(x) != streamIDLen || x[0] != streamIDHeader || binary.BigEndian.Uint16(x[1:]) == 0 {
			return badLayout(f, "%d bytes of framing extras that are no stream id", len(x))
		}
		return nil
	}
	return badLayout(f, "magic %#02x", byte(f.Magic()))
}

// streamID is the id in the framing extras of a frame that has been checked, 0 if there is none.
func streamID(f Frame) uint16 {
	x := f.FramingExtras()
	if len(x) == 0 {
		return 0
	}
	return binary.BigEndian.Uint16(x[1:])
}

// checkJSON demands that a value, if there is one, and nothing else, is marked as JSON.
func checkJSON(f Frame) error {
	if marked := f.Datatype() == DatatypeJSON; marked != (len(f.Value()) > 0) {
		return badLayout(f, "a value of %d bytes with datatype %v", len(f.Value()), f.Datatype())
	}
	return nil
}

var noExtras = []int{0}
