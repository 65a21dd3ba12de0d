package actors

import "fmt"

// Errors of this package that are not exit reasons of a process.
var (
	// ErrIgnore is returned by an Init that decides that the process is not needed. The start then fails with
	// ErrIgnore, and a supervisor takes this as success without a process.
	ErrIgnore error = &sentinel{"start ignored"}
	// ErrInitTimeout is returned by a start whose Init did not return in time. The process has been killed.
	ErrInitTimeout error = &sentinel{"init timed out"}
	// ErrCallingSelf is returned to a process that calls or stops itself: it would wait for itself.
	ErrCallingSelf error = &sentinel{"process is calling itself"}
	// ErrUnexpectedCall is what [Base] answers to every call.
	ErrUnexpectedCall error = &sentinel{"unexpected call"}
	// ErrSystemClosed is returned by a start in a system that was closed.
	ErrSystemClosed error = &sentinel{"actor system is closed"}
	// ErrNoState is returned by [Replace] if the function returned nil.
	ErrNoState error = &sentinel{"no value to put in place"}
	// ErrStatusHidden is in a [Status] and in the crash report of a process whose FormatStatus did not return.
	ErrStatusHidden error = &sentinel{"FormatStatus crashed"}
	// ErrAbandoned is the outcome of a [Pending] that was abandoned before it had one.
	ErrAbandoned error = &sentinel{"request abandoned"}
	// ErrInCollection is returned by [Collection.Add] for a request that was added to a collection before.
	ErrInCollection error = &sentinel{"request is in a collection already"}
	// ErrNoRequests is returned by a collection that has nothing to wait for.
	ErrNoRequests error = &sentinel{"no requests in the collection"}
	// ErrGoexit is the exit reason of a process in which a callback, or a function started by [Context.Go], called
	// runtime.Goexit (testing's FailNow does).
	ErrGoexit error = &sentinel{"runtime.Goexit in a process"}
)

// AlreadyStartedError is returned by a start under a name that a living process holds.
type AlreadyStartedError struct {
	Name string
	PID  *PID
}

func (e *AlreadyStartedError) Error() string { return fmt.Sprintf("name %q is taken", e.Name) }

// WaitError is returned by a call, a stop, a start or a wait that was given up, because its context ended or its caller
// died, and stands in the [Response] of a request that timed out.
type WaitError struct {
	// Op is "call", "start", or "requests" if a Collection was waited for.
	Op string
	// PID is the process that was waited for; nil for a Collection.
	PID *PID
	// Err is the cause of the context's end (context.DeadlineExceeded for a request) or the caller's exit reason.
	Err error
}

func (e *WaitError) Error() string {
	if e.Op == "requests" {
		return fmt.Sprintf("wait for requests: %v", e.Err)
	}
	return fmt.Sprintf("%s of %v: %v", e.Op, e.PID, e.Err)
}

// Unwrap returns Err.
func (e *WaitError) Unwrap() error { return e.Err }

// UnansweredError is the outcome of a call whose callee ended with Normal before it answered. errors.Is(err, Normal) holds,
// but that was the callee's end and not the caller's: a process that returns this error has failed, as in OTP, where the
// reason would be {normal, {gen_server, call, …}}.
type UnansweredError struct{ PID *PID }

func (e *UnansweredError) Error() string {
	return fmt.Sprintf("%v ended before it answered: normal", e.PID)
}

// Unwrap returns Normal.
func (e *UnansweredError) Unwrap() error { return Normal }

// ReplyTypeError is returned by [Call] when the reply is not of the type that was asked for.
type ReplyTypeError struct {
	PID   *PID
	Reply any
}

func (e *ReplyTypeError) Error() string {
	return fmt.Sprintf("call of %v: unexpected reply of type %T", e.PID, e.Reply)
}

// CloseError is returned by a [System.Close] that was given up.
type CloseError struct {
	// Lingering is how many callbacks and goroutines still run.
	Lingering int
	// Err is the cause of the context's end.
	Err error
}

func (e *CloseError) Error() string {
	return fmt.Sprintf("closing actor system: %d callbacks or goroutines still run: %v", e.Lingering, e.Err)
}

// Unwrap returns Err.
func (e *CloseError) Unwrap() error { return e.Err }
