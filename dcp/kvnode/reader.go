package kvnode

import (
	"errors"
	"io"

	"github.com/shearpin/shearpin/dcp/mcbp"
)

const (
	readBufferSize = 32 << 10
	// readBufferKeep is the largest buffer, in bytes, that a connection keeps once it is empty.
	readBufferKeep = 256 << 10
)

// frameReader cuts a byte stream into frames. The frames alias its buffer.
type frameReader struct {
	r   io.Reader
	buf []byte
	// buf[from:to] has been read and not been handed out.
	from, to int
}

func newFrameReader(r io.Reader) *frameReader {
	return &frameReader{r: r, buf: make([]byte, readBufferSize)}
}

// next returns the next frame if all of it has been read; ok is false if more must be read first. The frame is valid
// until the next fill. The error, a [mcbp.MalformedError], is final.
func (r *frameReader) next(maxBody uint32) (f mcbp.Frame, ok bool, err error) {
	f, _, err = mcbp.Parse(r.buf[r.from:r.to], maxBody)
	if errors.Is(err, mcbp.ErrShortHeader) {
		return nil, false, nil
	}
	if err != nil {
		return nil, false, err
	}
	r.from += len(f)
	return f, true, nil
}

// fill reads what is there, blocking until something is. It must only be called after next said that more is needed.
func (r *frameReader) fill() error {
	r.makeRoom()
	n, err := r.r.Read(r.buf[r.to:])
	r.to += n
	if n > 0 {
		return nil
	}
	return err
}

// makeRoom sees to it that there is room behind what has been read. The buffer doubles when it is full of one frame, so
// that it never grows on the word of a header alone, and shrinks when a large one has been emptied.
func (r *frameReader) makeRoom() {
	rest := r.buf[r.from:r.to]
	switch {
	case len(rest) == 0 && len(r.buf) > readBufferKeep:
		r.buf = make([]byte, readBufferSize)
	case len(rest) == len(r.buf):
		r.buf = make([]byte, 2*len(r.buf))
		copy(r.buf, rest)
	case r.from > 0:
		copy(r.buf, rest)
	default:
		return
	}
	r.from, r.to = 0, len(rest)
}
