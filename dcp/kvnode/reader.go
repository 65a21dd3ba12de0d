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

// makeRoom moves the incomplete frame to the front. The buffer doubles when it is full, so that it never grows on the
// word of a header alone, and shrinks when a large one has been emptied.
func (r *frameReader) makeRoom() {
	rest := r.to - r.from
	switch {
	case rest == 0 && len(r.buf) > readBufferKeep:
		r.buf = make([]byte, readBufferSize)
	case rest == len(r.buf):
		grown := make([]byte, 2*len(r.buf))
		copy(grown, r.buf)
		r.buf = grown
	default:
		copy(r.buf, r.buf[r.from:r.to])
	}
	r.from, r.to = 0, rest
}
