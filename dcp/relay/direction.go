package relay

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"time"

	"github.com/shearpin/shearpin/dcp/mcbp"
)

const (
	// quiet is how long a direction must have read nothing before the memory of its buffer is given back.
	quiet = time.Second
	// streamFrom is how many bytes of a frame must be missing to make it worth not waiting for them: such a frame is
	// streamed through even if it would fit into the buffer.
	streamFrom = 64 << 10
)

// direction moves the frames of one side to the other. Its goroutine is the only one that reads from that side.
type direction struct {
	r     *Relay
	from  Side
	src   net.Conn
	out   *outlet
	table *Table
	meter *meter

	buf      buffer
	deadline time.Time // of reads; zero = none
	streamed bool      // the frame before was streamed, and the next may be as long

	splicer *splicer // nil if the sockets cannot

	batch    []mcbp.Frame
	verdicts []Verdict
}

func newDirection(r *Relay, from Side) *direction {
	d := &direction{r: r, from: from, out: r.outlets[from.Other()], meter: &r.meters[from]}
	switch from {
	case Consumer:
		d.src, d.table = r.cfg.Consumer, r.cfg.ConsumerTable.counting()
	case Producer:
		d.src, d.table = r.cfg.Producer, r.cfg.ProducerTable.counting()
	}
	d.splicer = newSplicer(d)
	return d
}

// run moves frames until ctx ends or something fails, and returns why; never nil.
func (d *direction) run(ctx context.Context) error {
	d.buf = newBuffer()
	defer d.buf.free()
	defer d.splicer.release()
	for need := mcbp.HeaderLen; ; {
		limit := MaxBuffer
		if d.streamed {
			var err error
			if limit, err = d.streamNext(ctx); err != nil {
				return err
			}
			if limit == 0 {
				continue
			}
			d.streamed = false
		}
		err := d.fill(need, limit)
		if err != nil {
			return err
		}
		if need, err = d.walk(ctx); err != nil {
			return err
		}
	}
}

// fill reads once into the buffer, after making room for need bytes, pending ones included, but at most limit bytes.
func (d *direction) fill(need, limit int) error {
	n, err := d.read(need, limit)
	d.buf.filled(n)
	return d.readFailure(err, len(d.buf.pending()) > 0)
}

// copy reads once, at most n bytes of a frame, and writes them to out; a nil out discards them. It returns how many they
// were. Nothing is pending.
func (d *direction) copy(n int, out *outlet) (int, error) {
	got, err := d.read(0, n)
	if err != nil {
		return 0, d.readFailure(err, true)
	}
	if out != nil {
		if err := out.write(d.buf.bytes[:got]); err != nil {
			return 0, err
		}
	}
	d.buf.adapt(got)
	return got, nil
}

// read reads once, at most limit bytes, to behind what is pending, and leaves it to the caller to say what becomes of them.
// While there is memory to give back, a deadline notices that the peer has gone quiet.
func (d *direction) read(need, limit int) (int, error) {
	for {
		space := d.buf.room(need)
		if err := d.arm(time.Now()); err != nil {
			return 0, err
		}
		n, err := d.src.Read(space[:min(len(space), limit)])
		if n > 0 {
			d.meter.read(n, time.Since(d.r.start))
			return n, nil
		}
		if !errors.Is(err, os.ErrDeadlineExceeded) {
			return 0, err
		}
		d.buf.shrink()
		d.splicer.release()
	}
}

func (d *direction) arm(now time.Time) error {
	switch wanted := !d.buf.small() || d.splicer.holds(); {
	case wanted && d.deadline.Sub(now) < d.r.quiet/2:
		d.deadline = now.Add(d.r.quiet)
	case !wanted && !d.deadline.IsZero():
		d.deadline = time.Time{}
	default:
		return nil
	}
	return d.src.SetReadDeadline(d.deadline)
}

// readFailure says where a read failed; nil stays nil.
func (d *direction) readFailure(err error, inFrame bool) error {
	switch {
	case err == nil:
		return nil
	case inFrame && errors.Is(err, io.EOF):
		err = fmt.Errorf("in the middle of a frame: %w", err)
	}
	return &Failure{Side: d.from, Err: err}
}
