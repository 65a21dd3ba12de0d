package actortest

import (
	"context"
	"testing"

	"github.com/shearpin/shearpin/actors"
)

// State looks at the value of a process, between two of its callbacks, and returns what look made of it: a copy of what the
// test wants to know. The test fails if that takes too long, if the process is dead, or no P. See actors.Inspect.
func State[P actors.Process, T any](t testing.TB, pid *actors.PID, look func(P) T) T {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	var seen T
	if err := actors.Inspect(ctx, pid, func(p P) { seen = look(p) }); err != nil {
		t.Fatalf("state of %v: %v", pid, err)
	}
	return seen
}

// Replace puts another value in the place of that of a process, and fails the test if that is not possible. See
// actors.Replace.
func Replace[P actors.Process](t testing.TB, pid *actors.PID, f func(P) P) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	if err := actors.Replace(ctx, pid, f); err != nil {
		t.Fatalf("replacing the state of %v: %v", pid, err)
	}
}
