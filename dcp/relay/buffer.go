package relay

import "sync"

// MaxBuffer is the most memory, in bytes, that a direction uses for frames on their way. Larger buffers would need fewer
// system calls, but what was read would no longer be in a processor's own cache when its headers are read and it is written.
const MaxBuffer = 512 << 10

// bufferSizes are the lengths a direction's buffer can have. Growing by a factor of four reaches the largest after four
// full reads and leaves few enough classes that pooled buffers are found again.
var bufferSizes = [...]int{4 << 10, 16 << 10, 64 << 10, 256 << 10, MaxBuffer}

// bufferPools keep unused buffers, one pool per length, for all relays of the process: most links are quiet at any moment,
// so the memory of a busy one comes from a quiet one. Their content never matters.
var bufferPools [len(bufferSizes)]sync.Pool

// buffer is the bytes of one direction that were read and not yet passed on: bytes[start:end].
type buffer struct {
	bytes      []byte
	start, end int
	class      int
	low        int // consecutive reads that would have fitted into the next smaller class
}

// lowReads is the number of small reads in a row after which a buffer shrinks by one class.
const lowReads = 32

func newBuffer() buffer {
	return buffer{bytes: takeBuffer(0)}
}

func takeBuffer(class int) []byte {
	if p, ok := bufferPools[class].Get().(*[]byte); ok {
		return *p
	}
	return make([]byte, bufferSizes[class])
}

func giveBuffer(class int, b []byte) { bufferPools[class].Put(&b) }

// free gives the buffer back; it must not be used afterwards.
func (b *buffer) free() {
	if b.bytes != nil {
		giveBuffer(b.class, b.bytes)
	}
	*b = buffer{}
}

// forget leaves the memory to whoever may still look at it: nobody else gets it. The buffer must only be freed afterwards.
func (b *buffer) forget() { *b = buffer{} }

// pending is what was read and not yet consumed.
func (b *buffer) pending() []byte { return b.bytes[b.start:b.end] }

// consume drops the first n pending bytes.
func (b *buffer) consume(n int) {
	b.start += n
	if b.start == b.end {
		b.start, b.end = 0, 0
	}
}

// room moves what is pending to the front and returns the space behind it, after making sure that need bytes, pending ones
// included, fit in all. need is at most [MaxBuffer].
func (b *buffer) room(need int) []byte {
	if class := classFor(max(need, b.end-b.start+1)); class > b.class {
		b.resize(class)
	} else if b.start > 0 {
		b.end = copy(b.bytes, b.pending())
		b.start = 0
	}
	return b.bytes[b.end:]
}

// filled says that n bytes were read into the space that room returned. A read that fills it all asks for the next larger
// class; many small ones in a row for the next smaller.
func (b *buffer) filled(n int) {
	b.end += n
	b.adapt(b.end)
}

// adapt chooses the class for the next read after one that used the first high bytes.
func (b *buffer) adapt(high int) {
	switch {
	case high == len(b.bytes):
		b.low = 0
		if b.class+1 < len(bufferSizes) {
			b.resize(b.class + 1)
		}
	case b.class > 0 && high <= bufferSizes[b.class-1]/2:
		if b.low++; b.low >= lowReads {
			b.resize(b.class - 1)
		}
	default:
		b.low = 0
	}
}

// shrink gives back all that what is pending does not need.
func (b *buffer) shrink() {
	if class := classFor(max(1, b.end-b.start)); class < b.class {
		b.resize(class)
	}
}

// small reports whether there is nothing to give back.
func (b *buffer) small() bool { return b.class == 0 }

func (b *buffer) resize(class int) {
	bytes := takeBuffer(class)
	n := copy(bytes, b.pending())
	giveBuffer(b.class, b.bytes)
	*b = buffer{bytes: bytes, end: n, class: class}
}

func classFor(n int) int {
	for class, size := range bufferSizes {
		if n <= size {
			return class
		}
	}
	return len(bufferSizes) - 1
}
