package mcbp

import (
	"errors"
	"math"
)

// ErrCollectionID says that a key does not begin with a collection id: unsigned LEB128 of at most 32 bits, in its shortest
// form.
var ErrCollectionID = errors.New("mcbp: no collection id at the start of the key")

// AppendCollectionID encodes id behind b, as keys carry it once collections have been negotiated (dcp-wire §4).
func AppendCollectionID(b []byte, id uint32) []byte {
	for ; id >= 0x80; id >>= 7 {
		b = append(b, byte(id)|0x80)
	}
	return append(b, byte(id))
}

// SplitCollection takes the collection id off a key. The rest aliases it, and may be empty. The error is
// [ErrCollectionID].
func SplitCollection(key []byte) (id uint32, rest []byte, err error) {
	var v uint64
	for i, c := range key {
		v |= uint64(c&0x7f) << (7 * i)
		switch {
		case v > math.MaxUint32, i > 0 && c == 0:
			return 0, nil, ErrCollectionID
		case c < 0x80:
			return uint32(v), key[i+1:], nil
		case i == 4:
			return 0, nil, ErrCollectionID
		}
	}
	return 0, nil, ErrCollectionID
}
