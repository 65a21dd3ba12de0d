package actors_test

import (
	"context"
	"runtime"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/shearpin/shearpin/actors"
	"github.com/shearpin/shearpin/actors/actortest"
)

func inGoroutine(t testing.TB, pid *actors.PID, fn func(context.Context) any) {
	t.Helper()
	actortest.Do(t, pid, func(c *actors.Context) error {
		c.Go(fn)
		return nil
	})
}

func TestGo(t *testing.T) {
	sys := newSystem(t)
	probe, pid := start(t, sys, false)
	inGoroutine(t, pid, func(context.Context) any { return nil })
	inGoroutine(t, pid, func(context.Context) any { return "result" })
	probe.Expect(t, "result")

	ended := make(chan error, 1)
	inGoroutine(t, pid, func(ctx context.Context) any {
		<-ctx.Done()
		ended <- context.Cause(ctx)
		return "nobody is there"
	})
	pid.Exit(errBoom)
	require.ErrorIs(t, <-ended, errBoom)
	actortest.Eventually(t, func() bool { return sys.Lingering() == 0 })
	probe.Expect(t, "result")
}

// A goroutine that crashes is a crash of its process, with Terminate.
func TestGoThatCrashes(t *testing.T) {
	for name, f := range map[string]struct {
		fn    func(context.Context) any
		check func(*testing.T, error)
	}{
		"panic":  {func(context.Context) any { panic(errBoom) }, isPanicIn("helper_test.go")},
		"goexit": {func(context.Context) any { runtime.Goexit(); return nil }, is(actors.ErrGoexit)},
	} {
		t.Run(name, func(t *testing.T) {
			sys := newSystem(t)
			probe, pid := start(t, sys, true)
			inGoroutine(t, pid, f.fn)
			actortest.AwaitDeath(t, pid)
			f.check(t, pid.Reason())
			probe.Expect(t, actortest.Terminated{Reason: pid.Reason()})
		})
	}
}
