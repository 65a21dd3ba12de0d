package supervisor

import "time"

// window holds the times of the restarts that count against the intensity: those within the last period. Each restart is
// entered and dropped once, so that the count costs the same whatever the intensity.
type window struct {
	limit  int
	period time.Duration
	times  []time.Time // oldest first
}

// add counts a restart and reports whether it is allowed. It counts even if it is not.
func (w *window) add(now time.Time) bool {
	w.expire(now)
	w.times = append(w.times, now)
	return len(w.times) <= w.limit
}

// count returns how many restarts there have been within the last period.
func (w *window) count(now time.Time) int {
	w.expire(now)
	return len(w.times)
}

func (w *window) expire(now time.Time) {
	n := 0
	for n < len(w.times) && now.Sub(w.times[n]) > w.period {
		n++
	}
	if w.times = w.times[n:]; len(w.times) == 0 {
		w.times = nil
	}
}
