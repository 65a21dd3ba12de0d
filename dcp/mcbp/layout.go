package mcbp

import (
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

// shape is what an opcode allows in one direction. The decoders check it first, so that they may index freely.
type shape struct {
	opcode   Opcode
	response bool
	// extras lists the allowed lengths.
	extras []int
	// key and value say whether the part may be there.
	key, value bool
}

func (s *shape) check(f Frame) error {
	if f.Opcode() != s.opcode || f.IsResponse() != s.response {
		return badLayout(f, "not a %v (response %t)", s.opcode, s.response)
	}
	if !slices.Contains(s.extras, f.ExtrasLen()) {
		return badLayout(f, "extras are %d bytes, not one of %v", f.ExtrasLen(), s.extras)
	}
	if !s.key && f.KeyLen() != 0 {
		return badLayout(f, "a key of %d bytes where none belongs", f.KeyLen())
	}
	if !s.value && len(f.Value()) != 0 {
		return badLayout(f, "a value of %d bytes where none belongs", len(f.Value()))
	}
	return nil
}

var noExtras = []int{0}
