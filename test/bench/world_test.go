package bench

import "time"

// world is one way to have processes. Each method does a piece of work and returns how much of it the other side saw done,
// which is the n that it was given unless something is wrong. A world is used by one goroutine and closed at the end.
type world interface {
	// cast sends n messages to one process, from a number of goroutines that share them evenly, and returns how many it
	// has counted.
	cast(senders, n int) int
	// castWithin is cast with another process as the one sender.
	castWithin(n int) int

	// call makes n calls to one process, one after the other, and returns how many gave the right answer. A bound of
	// zero is none. It laps after each call.
	call(bound time.Duration, n int, w *stopwatch) int
	// callWithin is call by another process, without bound.
	callWithin(n int, w *stopwatch) int

	// spawn starts a process and stops it, n times, and returns how many were seen to be dead before the next start. It
	// laps after each.
	spawn(n int, w *stopwatch) int
	// spawnUnseen is spawn without waiting for the single ends; it returns when all have ended.
	spawnUnseen(n int) int

	// crash makes a supervised child panic, n times, and returns how many new incarnations came. It laps in the first
	// callback of each. Restarts are counted within a period; a world that is faster if it counts them all does that if
	// the period is zero.
	crash(period time.Duration, n int, w *stopwatch) int

	// idle starts n processes. When it returns they rest. stop ends them and returns how many.
	idle(n int) (stop func() int)
	// family starts a supervisor with n children. When it returns all have run their first callback, and started says
	// how many did. stop ends the supervisor with all its children and returns how many had died when that was over.
	family(n int) (started int, stop func() int)

	// close ends the world and returns how many processes are still there.
	close() int
}

// contenders are the worlds, in the order of the columns.
var contenders = [...]struct {
	name string
	open func() world
}{
	{"ours", openOurs},
	{"raw", openRaw},
	{"plain", openPlain},
}

const ours, raw, plain = 0, 1, 2

// Messages are the same in all worlds and boxed once, so that no world pays for making them.
type (
	tick  struct{} // is counted
	total struct{} // asks for the count
	ping  struct{} // asks for a pong
	pong  struct{}
	boom  struct{} // is panicked over
)

var (
	aTick  any = tick{}
	aTotal any = total{}
	aPing  any = ping{}
	aPong  any = pong{}
	aBoom  any = boom{}
)

// share divides n among a number of senders; the first one takes the rest.
func share(n, senders, sender int) int {
	part := n / senders
	if sender == 0 {
		part += n % senders
	}
	return part
}
