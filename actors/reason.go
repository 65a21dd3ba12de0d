package actors

import (
	"errors"
	"fmt"
	"runtime"
	"slices"
	"strings"
)

// sentinel is the type of the reasons and errors that this package itself gives. Its values are compared by identity.
type sentinel struct{ text string }

func (s *sentinel) Error() string { return s.text }

// Exit reasons. A reason is an error, so that whoever observes a death can ask errors.Is and errors.As about it.
var (
	// Normal is the reason of a process that ended because its work was done.
	Normal error = &sentinel{"normal"}
	// Shutdown is the reason of a process that was asked to stop, usually by its supervisor.
	Shutdown error = &sentinel{"shutdown"}
	// Killed is the reason of a process that was killed. Sent as an exit signal it cannot be trapped.
	Killed error = &sentinel{"killed"}
	// NoProcess is reported about a process that was dead before it was asked for.
	NoProcess error = &sentinel{"no process"}
)

// ShutdownReason is OTP's {shutdown, Detail}: an orderly stop that says why. errors.Is(reason, Shutdown) holds, and
// Detail is reached by errors.Is and errors.As.
type ShutdownReason struct{ Detail error }

// ShutdownWith returns an orderly exit reason with a detail; a nil detail gives Shutdown itself.
func ShutdownWith(detail error) error {
	if detail == nil {
		return Shutdown
	}
	return &ShutdownReason{Detail: detail}
}

func (r *ShutdownReason) Error() string { return "shutdown: " + r.Detail.Error() }

// Is makes every ShutdownReason a Shutdown.
func (r *ShutdownReason) Is(target error) bool { return target == Shutdown }

// Unwrap returns the detail.
func (r *ShutdownReason) Unwrap() error { return r.Detail }

// IsNormal reports whether a reason is one of an orderly end: normal, shutdown, or shutdown with a detail. Only other
// reasons are logged as crashes and make a supervisor restart a transient child.
func IsNormal(reason error) bool {
	switch {
	case reason == nil, reason == Normal, errors.Is(reason, Shutdown):
		return true
	case errors.As(reason, new(*UnansweredError)):
		return false // the normal end was another process'
	default:
		return errors.Is(reason, Normal)
	}
}

// PanicError is the exit reason of a process that panicked. errors.Is and errors.As see the panic's value if it was an
// error.
type PanicError struct {
	// Value is what panic was called with.
	Value any
	pcs   []uintptr
}

// maxStack bounds the frames kept of a panic.
const maxStack = 64

// NewPanicError makes the reason out of what recover returned. Called from the deferred function that recovered, it keeps
// the program counters of the panic. Formatting them is left to Stack, because a crash is an ordinary event here and must
// be cheap.
func NewPanicError(value any) *PanicError {
	var pcs [maxStack]uintptr
	// The first two are runtime.Callers and this function.
	return &PanicError{Value: value, pcs: slices.Clone(pcs[:runtime.Callers(2, pcs[:])])}
}

func (e *PanicError) Error() string { return fmt.Sprintf("panic: %v", e.Value) }

// Unwrap returns the panic's value if it is an error, else nil.
func (e *PanicError) Unwrap() error {
	err, _ := e.Value.(error)
	return err
}

// Stack formats the stack of the panic, innermost function first: the one that panicked, or the runtime's own functions on
// its behalf.
func (e *PanicError) Stack() string {
	var b strings.Builder
	frames := runtime.CallersFrames(e.pcs)
	for {
		f, more := frames.Next()
		if f.Function == "runtime.gopanic" {
			b.Reset() // so far it was the way from the panic to the recovery
		} else {
			fmt.Fprintf(&b, "%s\n\t%s:%d\n", f.Function, f.File, f.Line)
		}
		if !more {
			return b.String()
		}
	}
}

// crash turns what a deferred function recovered into an exit reason. It must be called from that deferred function;
// nothing recovered means that the goroutine is ending by runtime.Goexit.
func crash(recovered any) error {
	if recovered == nil {
		return ErrGoexit
	}
	return NewPanicError(recovered)
}
