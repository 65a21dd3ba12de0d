package supervisor

import "time"

// Backoff puts restarts off, which OTP does not: the first restart of a child waits for Min, and each further one twice as
// long as the one before, up to Max. A child that has lived for Max begins with Min again. The zero value means no delay.
//
// While it waits the child is listed as restarting, with the time of the next attempt; under OneForAll and RestForOne its
// siblings have been stopped by then. The supervisor goes on serving meanwhile. TerminateChild ends the waiting; the siblings
// then stay down until RestartChild, or a restart that they go with, starts them. Restarts count against the intensity as they
// do without a delay.
type Backoff struct {
	// Min is the first delay. It is positive if Max is.
	Min time.Duration
	// Max bounds the delay. Zero means Min.
	Max time.Duration
}

// validate returns b with the default filled in, or what is wrong with it.
func (b Backoff) validate() (Backoff, string) {
	if b.Max == 0 {
		b.Max = b.Min
	}
	switch {
	case b.Min < 0:
		return b, "negative back-off"
	case b.Min == 0 && b.Max != 0:
		return b, "back-off without a first delay"
	case b.Max < b.Min:
		return b, "longest back-off is shorter than the first"
	}
	return b, ""
}

// delay returns how long a restart waits that follows so many others.
func (b Backoff) delay(row int) time.Duration {
	d := b.Min
	for ; row > 0 && d < b.Max; row-- {
		d = min(2*d, b.Max)
	}
	return d
}
