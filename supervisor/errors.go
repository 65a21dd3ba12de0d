package supervisor

import (
	"errors"
	"fmt"

	"github.com/shearpin/shearpin/actors"
)

// SpecError says what is wrong with a Spec or ChildSpec.
type SpecError struct {
	// Supervisor is Spec.Name, Child the child's ID; Child is empty if the supervisor's own fields are wrong.
	Supervisor, Child string
	Problem           string
}

func (e *SpecError) Error() string {
	if e.Child == "" {
		return fmt.Sprintf("supervisor %q: %s", e.Supervisor, e.Problem)
	}
	return fmt.Sprintf("supervisor %q: child %q: %s", e.Supervisor, e.Child, e.Problem)
}

// Errors of the child administration.
var (
	ErrNotFound       = errors.New("no such child")
	ErrRunning        = errors.New("child is running")
	ErrRestarting     = errors.New("child is restarting")
	ErrAlreadyPresent = errors.New("child is present but not running")
	// ErrSimpleOneForOne is the answer to what makes no sense where children have no ids, ErrNotSimpleOneForOne to
	// StartChildWith where they have.
	ErrSimpleOneForOne    = errors.New("supervisor is simple_one_for_one")
	ErrNotSimpleOneForOne = errors.New("supervisor is not simple_one_for_one")
)

// AlreadyStartedError is the answer to StartChild with the ID of a running child.
type AlreadyStartedError struct {
	ID  string
	PID *actors.PID
}

func (e *AlreadyStartedError) Error() string { return fmt.Sprintf("child %q is already started", e.ID) }

// StartError says which child could not be started, and why.
type StartError struct {
	Supervisor, ID string
	Err            error
}

func (e *StartError) Error() string {
	return fmt.Sprintf("supervisor %q failed to start child %q: %v", e.Supervisor, e.ID, e.Err)
}

func (e *StartError) Unwrap() error { return e.Err }

// GaveUpError says which child needed more restarts than allowed, and what its last death or failed start was.
type GaveUpError struct {
	Supervisor, ID string
	Err            error
}

func (e *GaveUpError) Error() string {
	return fmt.Sprintf("supervisor %q gave up on child %q: %v", e.Supervisor, e.ID, e.Err)
}

func (e *GaveUpError) Unwrap() error { return e.Err }

// ArgumentError is the failure of a start whose argument is not of the type that the Template takes.
type ArgumentError struct {
	// ID is that of the template.
	ID  string
	Arg any
}

func (e *ArgumentError) Error() string {
	return fmt.Sprintf("child %q cannot be started with a %T", e.ID, e.Arg)
}
