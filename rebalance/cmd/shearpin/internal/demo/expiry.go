package demo

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"time"

	"github.com/shearpin/shearpin/dcp"
)

// expiry notes when a connection first said that an ADD_STREAM ran out of time: the log line is written where the
// deadline is found to have expired, before anybody else hears of it. It is a slog.Handler beside the others.
type expiry struct {
	// first is shared by all handlers that were derived from one.
	first *firstTime
}

type firstTime struct {
	mu sync.Mutex
	at time.Time
}

func newExpiry() expiry { return expiry{first: new(firstTime)} }

// at is that moment; false if it has not come.
func (e expiry) at() (time.Time, bool) {
	e.first.mu.Lock()
	defer e.first.mu.Unlock()
	return e.first.at, !e.first.at.IsZero()
}

// Enabled implements slog.Handler.
func (e expiry) Enabled(_ context.Context, level slog.Level) bool { return level >= slog.LevelInfo }

// Handle implements slog.Handler. It looks at the error itself, so the names of events and keys do not matter.
func (e expiry) Handle(_ context.Context, r slog.Record) error {
	r.Attrs(func(a slog.Attr) bool {
		err, ok := a.Value.Any().(error)
		var timeout *dcp.AddStreamTimeout
		if !ok || !errors.As(err, &timeout) {
			return true
		}
		e.first.mu.Lock()
		defer e.first.mu.Unlock()
		if e.first.at.IsZero() || r.Time.Before(e.first.at) {
			e.first.at = r.Time
		}
		return false
	})
	return nil
}

// WithAttrs implements slog.Handler.
func (e expiry) WithAttrs([]slog.Attr) slog.Handler { return e }

// WithGroup implements slog.Handler.
func (e expiry) WithGroup(string) slog.Handler { return e }
