package relay

import (
	"context"
	"errors"
	"fmt"

	"github.com/shearpin/shearpin/dcp/mcbp"
)

// maxBatch bounds how many asked frames are handed over at once.
const maxBatch = 4096

// walk is one pass over the frames in a direction's buffer.
type walk struct {
	*direction
	data    []byte
	pos     int       // where the frame in hand begins; all before it is handled
	sent    int       // data[sent:pos] passes and has not been written
	watched *watchSet // nil if nobody counts

	seen, controls uint64
}

// walk handles the frames in the buffer, and what is missing of the last one if that need not be assembled. It returns how
// many bytes the buffer must be able to hold to get on. What passes has been written when it returns, also with an error.
func (d *direction) walk(ctx context.Context) (need int, err error) {
	w := walk{direction: d, data: d.buf.pending()}
	if d.from == Producer {
		w.watched = d.r.watched.Load()
	}
	return w.run(ctx)
}

func (w *walk) run(ctx context.Context) (need int, err error) {
	for {
		rest := w.data[w.pos:]
		n, err := mcbp.FrameLen(rest, w.r.cfg.MaxBody)
		switch {
		case errors.Is(err, mcbp.ErrShortHeader):
			return mcbp.HeaderLen, w.pause(ctx)
		case err != nil:
			return 0, w.refuse(ctx, err)
		}
		f := mcbp.Frame(rest)
		action := w.table.rows[row(f.Magic())][f.Opcode()]
		missing := n - len(rest)
		switch action &^ actionCount {
		case ActionAsk:
			if n > mcbp.HeaderLen+MaxAskBody {
				return 0, w.refuse(ctx, tooLongToAsk(f))
			}
			if missing > 0 {
				return n, w.pause(ctx)
			}
			if err := w.ask(ctx); err != nil {
				return 0, err
			}
		case ActionDrop:
			w.count(f, action)
			if err := w.flush(ctx); err != nil {
				return 0, err
			}
			if missing > 0 {
				return mcbp.HeaderLen, w.discard(missing)
			}
			w.skip(n)
		default:
			if missing > 0 && missing < streamFrom && n <= MaxBuffer {
				return n, w.pause(ctx)
			}
			w.count(f, action)
			if missing > 0 {
				return mcbp.HeaderLen, w.stream(ctx, missing)
			}
			w.pos += n
		}
	}
}

// count enters the frame in hand into the statistics. Each frame comes here once.
func (w *walk) count(f mcbp.Frame, action Action) {
	w.seen++
	if action&actionCount != 0 {
		w.controls++
	}
	if w.watched != nil {
		w.watched.count(f)
	}
}

// publish makes what was counted visible: always before the frames are written, so that nobody who has seen their effect
// finds them uncounted.
func (w *walk) publish() {
	w.meter.frames.Add(w.seen)
	if w.controls > 0 {
		w.r.controls.Add(w.controls)
	}
	w.seen, w.controls = 0, 0
}

// ask hands over the frame in hand and the asked ones right behind it, and carries out the verdicts.
func (w *walk) ask(ctx context.Context) error {
	if err := w.flush(ctx); err != nil {
		return err
	}
	w.collect()
	if cap(w.verdicts) < len(w.batch) {
		w.verdicts = make([]Verdict, len(w.batch))
	}
	verdicts := w.verdicts[:len(w.batch)]
	clear(verdicts)
	if err := w.r.cfg.Decider.Decide(ctx, w.from, w.batch, verdicts); err != nil {
		return &Failure{Side: w.from, Err: err}
	}
	for i, f := range w.batch {
		if verdicts[i] != Drop {
			w.pos += len(f)
			continue
		}
		if err := w.flush(ctx); err != nil {
			return err
		}
		w.skip(len(f))
	}
	clear(w.batch)
	return nil
}

// collect gathers the batch that begins with the frame in hand, which is whole. A frame behind it that is incomplete or in
// error ends the batch and is met again.
func (w *walk) collect() {
	w.batch = w.batch[:0]
	for rest := w.data[w.pos:]; len(w.batch) < maxBatch; {
		f, next, err := mcbp.Parse(rest, MaxAskBody)
		if err != nil {
			return
		}
		action := w.table.rows[row(f.Magic())][f.Opcode()]
		if action&^actionCount != ActionAsk {
			return
		}
		w.count(f, action)
		w.batch = append(w.batch, f)
		rest = next
	}
}

// flush writes the run of frames that pass and are not yet written.
func (w *walk) flush(ctx context.Context) error {
	w.publish()
	if w.sent == w.pos {
		return nil
	}
	if err := w.out.take(ctx); err != nil {
		return err
	}
	defer w.out.give()
	run := w.data[w.sent:w.pos]
	w.sent = w.pos
	return w.out.write(run)
}

// skip leaves out n bytes; all before them has been written.
func (w *walk) skip(n int) {
	w.pos += n
	w.sent = w.pos
}

// pause ends the pass: the frame in hand needs more bytes.
func (w *walk) pause(ctx context.Context) error {
	err := w.flush(ctx)
	w.buf.consume(w.pos)
	return err
}

// refuse ends the relay because of the frame in hand, after all that came before it has been passed on.
func (w *walk) refuse(ctx context.Context, reason error) error {
	if err := w.flush(ctx); err != nil {
		return err
	}
	return &Failure{Side: w.from, Err: reason}
}

// stream passes on a frame of which missing bytes have not been read, without assembling it. The turn is kept for the whole
// frame, so nothing can be injected into it.
func (w *walk) stream(ctx context.Context, missing int) error {
	w.publish()
	if err := w.out.take(ctx); err != nil {
		return err
	}
	defer w.out.give()
	if err := w.out.write(w.data[w.sent:]); err != nil {
		return err
	}
	w.buf.consume(len(w.data))
	w.header = true
	return w.through(missing, w.out)
}

// discard reads the rest of a frame that is dropped.
func (w *walk) discard(missing int) error {
	w.buf.consume(len(w.data))
	return w.through(missing, nil)
}

func tooLongToAsk(f mcbp.Frame) error {
	e := &mcbp.MalformedError{Why: fmt.Sprintf("body of %d bytes in a frame that is limited to %d", f.BodyLen(), MaxAskBody)}
	copy(e.Header[:], f)
	return e
}
