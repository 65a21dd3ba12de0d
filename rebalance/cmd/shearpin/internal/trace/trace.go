// Package trace writes what happened, and exactly when, as JSON lines: one per log record, in the words of the part
// that saw it.
//
// Every line has t_ns, the nanoseconds on the monotonic clock since the trace began, level and event; the other keys are
// the record's attributes, part among them. Two lines of one trace can therefore be subtracted from each other, whatever
// the wall clock did meanwhile. A record is stamped where it is made and written a moment later, so lines of different
// goroutines may stand in the file in another order than their stamps: sort by t_ns before reasoning about order.
package trace

import (
	"context"
	"encoding"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"time"
)

// Trace is the destination of one run's records. Create it with [New] or [Create] and end it with Close; its handler may
// be used by any number of goroutines.
type Trace struct {
	start time.Time
	lines *lines
}

// New begins a trace at start, which must carry a monotonic clock reading (as time.Now returns it), and writes to w. If w
// is an io.Closer, Close closes it.
func New(w io.Writer, start time.Time) *Trace {
	return &Trace{start: start, lines: newLines(w)}
}

// Close writes out what is buffered and returns the first failure of the whole run: a trace with a hole must not pass
// for a whole one. Records that arrive later are dropped.
func (t *Trace) Close() error { return t.lines.Close() }

// Flush writes out what is buffered and returns the first failure so far.
func (t *Trace) Flush() error { return t.lines.Flush() }

// Handler feeds the trace, from slog.LevelDebug upwards.
func (t *Trace) Handler() slog.Handler {
	return &handler{
		start: t.start,
		json: slog.NewJSONHandler(t.lines, &slog.HandlerOptions{
			Level:       slog.LevelDebug,
			ReplaceAttr: rename,
		}),
	}
}

// handler moves each record's stamp to a clock that is zero at the trace's start: the encoder behind it strips the
// monotonic reading, and rename turns the moved stamp into plain nanoseconds.
type handler struct {
	start time.Time
	json  slog.Handler
}

func (h *handler) Enabled(ctx context.Context, level slog.Level) bool {
	return h.json.Enabled(ctx, level)
}

func (h *handler) Handle(ctx context.Context, r slog.Record) error {
	r.Time = time.Unix(0, int64(r.Time.Sub(h.start)))
	return h.json.Handle(ctx, r)
}

func (h *handler) WithAttrs(attrs []slog.Attr) slog.Handler {
	return &handler{start: h.start, json: h.json.WithAttrs(attrs)}
}

func (h *handler) WithGroup(name string) slog.Handler {
	return &handler{start: h.start, json: h.json.WithGroup(name)}
}

// rename gives the encoder's own keys their names in the trace, and shows values that know their text, such as opaques
// and end reasons, as that text rather than as bare numbers.
func rename(groups []string, a slog.Attr) slog.Attr {
	if len(groups) == 0 {
		switch {
		case a.Key == slog.TimeKey && a.Value.Kind() == slog.KindTime:
			return slog.Int64("t_ns", a.Value.Time().UnixNano())
		case a.Key == slog.MessageKey:
			return slog.Attr{Key: "event", Value: a.Value}
		}
	}
	if a.Value.Kind() != slog.KindAny {
		return a
	}
	switch v := a.Value.Any().(type) {
	case error, json.Marshaler, encoding.TextMarshaler:
		return a
	case fmt.Stringer:
		return slog.String(a.Key, v.String())
	}
	return a
}
