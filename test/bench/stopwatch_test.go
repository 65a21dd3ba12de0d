package bench

import (
	"slices"
	"time"
)

// stopwatch takes the times of single operations. It may go from one goroutine to another with the operation.
type stopwatch struct {
	last    time.Time
	laps    []time.Duration
	reading time.Duration // the cost of reading the clock, which every lap contains once
}

func newStopwatch(n int) *stopwatch {
	w := &stopwatch{laps: make([]time.Duration, 0, max(n, readings))}
	w.start()
	for range readings {
		w.lap()
	}
	w.reading = median(w.laps)
	w.reset()
	return w
}

// readings is how many readings of the clock the median of their cost is taken of.
const readings = 1000

// start begins the first operation, or the next one after a pause.
func (w *stopwatch) start() { w.last = time.Now() }

// lap ends an operation and begins the next one.
func (w *stopwatch) lap() {
	now := time.Now()
	w.laps = append(w.laps, now.Sub(w.last))
	w.last = now
}

// reset forgets the laps.
func (w *stopwatch) reset() { w.laps = w.laps[:0] }

// p50 is the median lap in microseconds.
func (w *stopwatch) p50() float64 {
	return float64(median(w.laps)-w.reading) / float64(time.Microsecond)
}

// median is the middle one of the values, of an even number the higher one of the two; zero of none.
func median[T ~int64 | ~float64](values []T) T {
	if len(values) == 0 {
		return 0
	}
	sorted := slices.Sorted(slices.Values(values))
	return sorted[len(sorted)/2]
}
