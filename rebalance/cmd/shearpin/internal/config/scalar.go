package config

import (
	"errors"
	"log/slog"
	"math"
	"strconv"
	"strings"
	"time"
)

// scalar is a value that is written as text of its own kind.
type scalar interface {
	// set takes the text, or says what it must be.
	set(text string) error
}

// Duration is written as Go writes it: 500ms, 5s, 2m30s. It is more than 0; a field that is left out has its default.
type Duration time.Duration

func (d *Duration) set(text string) error {
	v, err := time.ParseDuration(text)
	if err != nil || v <= 0 {
		return errors.New("must be a duration such as 500ms, 5s or 2m30s, and more than 0")
	}
	*d = Duration(v)
	return nil
}

// Bytes is a number of bytes, with or without a unit: 1048576, 512KiB, 256MiB, 4GiB.
type Bytes int64

func (b *Bytes) set(text string) error {
	number, factor := text, int64(1)
	for i, unit := range []string{"KiB", "MiB", "GiB", "TiB"} {
		if before, found := strings.CutSuffix(text, unit); found {
			number, factor = strings.TrimRight(before, " "), 1<<(10*(i+1))
		}
	}
	v, err := strconv.ParseInt(number, 10, 64)
	if err != nil || v <= 0 || v > math.MaxInt64/factor {
		return errors.New("must be a number of bytes such as 1048576, 512KiB or 256MiB, and more than 0")
	}
	*b = Bytes(v * factor)
	return nil
}

// Level is the least level of what is logged.
type Level slog.Level

func (l *Level) set(text string) error {
	switch text {
	case "debug":
		*l = Level(slog.LevelDebug)
	case "info":
		*l = Level(slog.LevelInfo)
	case "warn":
		*l = Level(slog.LevelWarn)
	case "error":
		*l = Level(slog.LevelError)
	default:
		return errors.New("must be debug, info, warn or error")
	}
	return nil
}
