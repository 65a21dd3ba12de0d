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
	header   bool      // the frame before was streamed, and the next may be as long: read no more than its header

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
		err := d.fill(need)
		if err != nil {
			return err
		}
		if need, err = d.walk(ctx); err != nil {
			return err
		}
	}
}

// fill reads once into the buffer, after making room for need bytes, pending ones included.
func (d *direction) fill(need int) error {
	limit := MaxBuffer
	if d.header {
		limit, d.header = mcbp.HeaderLen, false
	}
	n, err := d.read(need, limit)
	d.buf.filled(n)
	return d.readFailure(err, len(d.buf.pending()) > 0)
}

// through reads n bytes of a frame and writes them to out as they come; a nil out discards them. Nothing is pending.
func (d *direction) through(n int, out *outlet) error {
	for n > 0 {
		if out != nil {
			moved, err := d.splicer.move(n)
			n -= moved
			if err != nil {
				return err
			}
			if moved > 0 {
				continue
			}
		}
		got, err := d.read(0, n)
		if err != nil {
			return d.readFailure(err, true)
		}
		if out != nil {
			if err := out.write(d.buf.bytes[:got]); err != nil {
				return err
			}
		}
		d.buf.adapt(got)
		n -= got
	}
	return nil
}

// read reads once, at most limit bytes, to behind what is pending, and leaves it to the caller to say what becomes of them.
// While the buffer is larger than it need be, a deadline notices that the peer has gone quiet.
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
	switch wanted := !d.buf.small(); {
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
