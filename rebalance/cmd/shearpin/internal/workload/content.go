package workload

import (
	"encoding/hex"
	"fmt"
	"hash/fnv"
	"math/rand/v2"
	"strconv"
)

// MinValueSize is the smallest value, in bytes, that can tell which version of which document it is.
const MinValueSize = 16

// versionDigits is the length of the version number that a value starts with, in hexadecimal digits.
const versionDigits = 8

// Content derives the text of all documents from a seed. Values are printable ASCII, so that they can be shown and
// written to text files. A Content is immutable.
type Content struct {
	seed uint64
	size int
}

// NewContent makes values of size bytes, at least [MinValueSize].
func NewContent(seed uint64, size int) Content {
	if size < MinValueSize {
		panic(fmt.Sprintf("workload: value of %d bytes; at least %d are needed", size, MinValueSize))
	}
	return Content{seed: seed, size: size}
}

// Key is the key of document doc, counted from 0.
func (c Content) Key(doc int) string { return fmt.Sprintf("doc-%08d", doc) }

// Value is what version of document doc holds: the version in hexadecimal, then digits drawn from seed, document and
// version. Equal arguments give equal bytes; values of different documents or versions differ.
func (c Content) Value(doc int, version uint32) []byte {
	h := fnv.New64a()
	fmt.Fprintf(h, "%d/%d", doc, version)
	draw := rand.NewPCG(c.seed, h.Sum64())

	b := make([]byte, 0, c.size+versionDigits*2)
	b = fmt.Appendf(b, "%0*x", versionDigits, version)
	var word [8]byte
	for len(b) < c.size {
		v := draw.Uint64()
		for i := range word {
			word[i] = byte(v >> (8 * i))
		}
		b = hex.AppendEncode(b, word[:])
	}
	return b[:c.size]
}

// Version recognises a value of document doc: the version it is, or false if it is none.
func (c Content) Version(doc int, value []byte) (uint32, bool) {
	if len(value) < versionDigits {
		return 0, false
	}
	version, err := strconv.ParseUint(string(value[:versionDigits]), 16, 32)
	if err != nil || string(value) != string(c.Value(doc, uint32(version))) {
		return 0, false
	}
	return uint32(version), true
}
