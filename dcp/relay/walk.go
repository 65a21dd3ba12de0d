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
	tally   *tallySet // likewise

	seen, controls, tallied uint64
	glance                  byte // what hurry has seen ahead: of no use, but without it the compiler would leave the looking out
}

// How far hurry looks ahead, in bytes: to the next headers, and to the next pages.
const (
	headersAhead = 1 << 10
	pageSize     = 4 << 10
	pagesAhead   = 6 * pageSize
)

// walk handles the frames in the buffer, and what is missing of the last one if that need not be assembled. It returns how
// many bytes the buffer must be able to hold to get on. What passes has been written when it returns, also with an error.
func (d *direction) walk(ctx context.Context) (need int, err error) {
	w := d.pass()
	w.data = d.buf.pending()
	return w.run(ctx)
}

func (d *direction) pass() walk {
	w := walk{direction: d}
	if d.from == Producer {
		w.watched, w.tally = d.r.watched.Load(), d.r.tallySet.Load()
	}
	return w
}

func (w *walk) run(ctx context.Context) (need int, err error) {
	for {
		w.hurry()
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

// hurry steps over the ordinary frames in a row that only have to pass, which are nearly all: run does the same for any
// frame, but takes several times as long. Whatever is special about a frame stops it: its action, a magic with framing
// extras or none at all, parts that cannot be right, bytes that are missing.
//
// Its time is that of waiting for memory, one header after the other, since the place of the next is known only then. So it
// glances at bytes ahead of it, whatever they are: a little ahead, so that short frames are near when their turn comes, and
// once in each page far ahead, so that its address is looked up meanwhile. That takes a third off the time of a frame of
// 64 bytes to 1 KiB, and costs nothing for longer ones.
func (w *walk) hurry() {
	data, pos, seen, glance := w.data, w.pos, uint64(0), byte(0)
	table, watched, tally, maxBody := w.table, w.watched, w.tally, w.r.cfg.MaxBody
	for page := pos; len(data)-pos >= mcbp.HeaderLen; {
		if near := pos + headersAhead; near < len(data) {
			glance += data[near]
		}
		if pos >= page {
			glance += data[min(pos+pagesAhead, len(data)-1)]
			page = pos + pageSize
		}
		f := mcbp.Frame(data[pos : pos+mcbp.HeaderLen])
		body := f.BodyLen()
		n := mcbp.HeaderLen + int(body)
		if f[0]&^3 != byte(mcbp.MagicRequest) || table.rows[f[0]&3][f[1]] != ActionPass || body > maxBody ||
			uint32(f[2])<<8+uint32(f[3])+uint32(f[4]) > body || n > len(data)-pos {
			break
		}
		if watched != nil {
			watched.count(f)
		}
		if tally != nil {
			w.tallied += tally.weigh(f)
		}
		seen++
		pos += n
	}
	w.pos, w.glance = pos, glance
	w.seen += seen
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
	if w.tally != nil {
		w.tallied += w.tally.weigh(f)
	}
}

// publish makes what was counted visible: always before the frames are written, so that nobody who has seen their effect
// finds them uncounted.
func (w *walk) publish() {
	w.meter.frames.Add(w.seen)
	if w.controls > 0 {
		w.r.controls.Add(w.controls)
	}
	if w.tallied > 0 {
		w.r.tallied.Add(w.tallied)
	}
	w.seen, w.controls, w.tallied = 0, 0, 0
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
		w.buf.forget() // a process that was too late with its verdicts may be reading the frames
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

// stream passes on a frame of which missing bytes have not been read, without assembling it, and the long frames right
// behind it. The turn is kept from the first byte of a frame to its last, so nothing can be injected into it.
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
	w.streamed = true
	return w.long(missing)
}

// streamNext waits for the frame after a streamed one, and streams it as well if it is long: then not even its header is
// read. Else it returns how many bytes may be read into the buffer: no more than the header of a frame that may be long,
// because what follows should not pass through the buffer. Nothing is pending.
func (d *direction) streamNext(ctx context.Context) (limit int, err error) {
	h, err := d.splicer.await()
	switch {
	case err != nil:
		return 0, err
	case h == nil:
		return mcbp.HeaderLen, nil
	}
	w := d.pass()
	if w.longFrame(h) == 0 {
		return MaxBuffer, nil
	}
	if err := w.out.take(ctx); err != nil {
		return 0, err
	}
	defer w.out.give()
	return 0, w.long(0)
}

// runLength is how many bytes of long frames are moved at once, at least, if they are there. It has to do with the size of
// the pipe: the longer the runs, the fewer and fuller the packets.
const runLength = 1 << 20

// long moves what is left of a frame, and the long frames right behind it, as they come. The caller holds the turn.
func (w *walk) long(left int) error {
	for {
		left += w.extend(left)
		if left == 0 {
			return nil
		}
		moved, err := w.splicer.move(left)
		if err == nil && moved == 0 {
			moved, err = w.copy(left, w.out)
		}
		if err != nil {
			return err
		}
		left -= moved
	}
}

// extend looks for long frames that have arrived behind the next left bytes and counts them. It returns how many bytes they
// have. It does not look while injected frames wait for the end of the run.
func (w *walk) extend(left int) (more int) {
	for left+more < runLength && !w.out.wanted() {
		h := w.splicer.peek(left + more)
		if h == nil {
			break
		}
		n := w.longFrame(h)
		if n == 0 {
			break
		}
		w.count(h, w.table.rows[row(h.Magic())][h.Opcode()])
		more += n
	}
	w.publish()
	return more
}

// longFrame returns the length of a frame of which we have the header, if it passes and is worth streaming, and else 0.
func (w *walk) longFrame(h mcbp.Frame) int {
	n, err := mcbp.FrameLen(h, w.r.cfg.MaxBody)
	if err != nil || n < streamFrom || w.table.rows[row(h.Magic())][h.Opcode()]&^actionCount != ActionPass {
		return 0
	}
	return n
}

// discard reads the rest of a frame that is dropped.
func (w *walk) discard(missing int) error {
	w.buf.consume(len(w.data))
	for missing > 0 {
		n, err := w.copy(missing, nil)
		if err != nil {
			return err
		}
		missing -= n
	}
	return nil
}

func tooLongToAsk(f mcbp.Frame) error {
	e := &mcbp.MalformedError{Why: fmt.Sprintf("body of %d bytes in a frame that is limited to %d", f.BodyLen(), MaxAskBody)}
	copy(e.Header[:], f)
	return e
}
