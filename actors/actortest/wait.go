package actortest

import (
	"context"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/shearpin/shearpin/actors"
)

// patience is how long a test waits for what must happen before it fails. It is far longer than anything takes, so that a
// busy machine does not fail a correct test.
const patience = 20 * time.Second

// Eventually returns when cond holds, which it checks again and again in the calling goroutine, and fails the test if it
// does not within 20 s.
func Eventually(t testing.TB, cond func() bool, what ...any) {
	t.Helper()
	end := time.Now().Add(patience)
	pause := time.Microsecond
	for !cond() {
		if time.Now().After(end) {
			t.Fatalf("condition not reached within %v: %v", patience, what)
		}
		<-time.After(pause)
		pause = min(2*pause, 5*time.Millisecond)
	}
}

// NewSystem returns a system that is closed when the test ends. The test fails if it cannot be closed.
func NewSystem(t testing.TB, o actors.Options) *actors.System {
	t.Helper()
	sys := actors.NewSystem(o)
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		if err := sys.Close(ctx); err != nil {
			t.Error(err)
		}
	})
	return sys
}

// NoLeaks fails the test if goroutines that were started after the call are still there when the test has ended.
func NoLeaks(t testing.TB) {
	t.Helper()
	before := goleak.IgnoreCurrent()
	t.Cleanup(func() { goleak.VerifyNone(t, before) })
}
