package kvnode

import (
	"encoding/binary"
	"errors"
)

var errSnappy = errors.New("kvnode: not a snappy block")

// snappyDecode inflates a block in the raw snappy format, of at most limit bytes. The node never compresses: it keeps
// values as clients sent them, and inflates for a client that did not negotiate compression.
func snappyDecode(src []byte, limit int) ([]byte, error) {
	size, n := binary.Uvarint(src)
	if n <= 0 || size > uint64(limit) {
		return nil, errSnappy
	}
	src = src[n:]
	dst := make([]byte, 0, min(int(size), len(src)*64))
	for len(src) > 0 {
		length, offset, used := snappyElement(src)
		if used == 0 || len(dst)+length > int(size) {
			return nil, errSnappy
		}
		src = src[used:]
		if offset == 0 {
			if length > len(src) {
				return nil, errSnappy
			}
			dst, src = append(dst, src[:length]...), src[length:]
			continue
		}
		if offset > len(dst) {
			return nil, errSnappy
		}
		for range length { // source and destination may overlap: that is how runs are coded
			dst = append(dst, dst[len(dst)-offset])
		}
	}
	if len(dst) != int(size) {
		return nil, errSnappy
	}
	return dst, nil
}

// snappyElement reads one tag: a literal of length bytes that follow the used ones, with offset 0, or a copy. used is 0 if
// the tag is cut short or makes no sense.
func snappyElement(src []byte) (length, offset, used int) {
	tag := src[0]
	switch tag & 3 {
	case 0:
		length, used = int(tag>>2)+1, 1
		if extra := length - 60; extra > 0 {
			if len(src) < 1+extra {
				return 0, 0, 0
			}
			var b [8]byte
			copy(b[:], src[1:1+extra])
			return int(binary.LittleEndian.Uint64(b[:])) + 1, 0, 1 + extra
		}
		return length, 0, used
	case 1:
		if len(src) < 2 {
			return 0, 0, 0
		}
		length, offset, used = int(tag>>2&7)+4, int(tag&0xe0)<<3|int(src[1]), 2
	case 2:
		if len(src) < 3 {
			return 0, 0, 0
		}
		length, offset, used = int(tag>>2)+1, int(binary.LittleEndian.Uint16(src[1:])), 3
	case 3:
		if len(src) < 5 {
			return 0, 0, 0
		}
		length, offset, used = int(tag>>2)+1, int(binary.LittleEndian.Uint32(src[1:])), 5
	}
	if offset == 0 {
		return 0, 0, 0
	}
	return length, offset, used
}
