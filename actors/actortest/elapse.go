package actortest

import (
	"testing/synctest"
	"time"
)

// Elapse lets d of a bubble's virtual time pass: it returns when everything that is due by then has happened and the bubble has
// come to rest. It is for the goroutine of a test within [synctest.Test], and panics everywhere else, so that no test waits in
// real time by mistake.
func Elapse(d time.Duration) {
	synctest.Wait()
	<-time.After(d)
	synctest.Wait()
}
