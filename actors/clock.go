package actors

import "time"

// Clock is where a system takes the time and its timers from. The zero Options use [RealClock]; tests and simulations
// inject their own (actortest has one that is stepped by hand).
type Clock interface {
	// Now returns the current time.
	Now() time.Time
	// AfterFunc calls f after d, once, in a goroutine of the clock's choice, and never before AfterFunc has returned.
	AfterFunc(d time.Duration, f func()) Stopper
}

// Stopper cancels a timer of a Clock.
type Stopper interface {
	// Stop prevents the call and reports whether it did so in time.
	Stop() bool
}

// RealClock is the clock of the machine, or that of the bubble under testing/synctest.
type RealClock struct{}

// Now returns time.Now().
func (RealClock) Now() time.Time { return time.Now() }

// AfterFunc is time.AfterFunc.
func (RealClock) AfterFunc(d time.Duration, f func()) Stopper { return time.AfterFunc(d, f) }
