package actors_test

import (
	"runtime"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/shearpin/shearpin/actors"
	"github.com/shearpin/shearpin/actors/actortest"
)

// A wrap function of a bus is the subscriber's code in the publisher's goroutine. What goes wrong in it ends the
// subscriber, and the others get their events. Goexit ends the goroutine of the publisher too, because Go has no way to
// stop it, but the bus goes on.
func TestFaultyWrapEndsItsSubscriber(t *testing.T) {
	for name, f := range map[string]struct {
		wrap  func(int) any
		check func(*testing.T, error)
	}{
		"panic":  {func(int) any { panic(errBoom) }, isPanicIn("attack_callbacks_test.go")},
		"goexit": {func(int) any { runtime.Goexit(); return nil }, is(actors.ErrGoexit)},
	} {
		t.Run(name, func(t *testing.T) {
			sys := newSystem(t)
			bus := actors.NewBus[int]()
			faulty, faultyPID := start(t, sys, true)
			good, goodPID := start(t, sys, true)
			bus.Forward(goodPID, nil)
			bus.Forward(faultyPID, f.wrap)
			published := make(chan struct{})
			go func() {
				defer close(published)
				bus.Publish(1)
			}()
			<-published
			actortest.AwaitDeath(t, faultyPID)
			f.check(t, faultyPID.Reason())
			faulty.Expect(t, actortest.Terminated{Reason: faultyPID.Reason()})
			bus.Publish(2)
			settle(t, goodPID)
			require.Equal(t, []any{1, 2}, good.Received())
		})
	}
}
