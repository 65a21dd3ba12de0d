package supervisor

import (
	"context"
	"reflect"
	"slices"
	"time"

	"github.com/shearpin/shearpin/actors"
)

// Messages of the functions below.
type (
	adminRequest struct {
		kind eventKind
		key  key
		spec ChildSpec
		arg  any
	}
	whichRequest key
	specRequest  key
	listRequest  struct{}
	countRequest struct{}
	listing      struct {
		name     string
		since    time.Time
		info     SupervisorInfo
		children []ChildInfo
	}
)

// Key tells a child of a supervisor: its ID, or, under SimpleOneForOne, its process. A dynamic child that keeps failing to
// restart is told by the process that it was.
type Key interface{ ~string | *actors.PID }

// key is a Key: a process, which may be nil, or an ID.
type key struct {
	byPID bool
	pid   *actors.PID
	id    string
}

func keyOf[K Key](child K) key {
	if pid, ok := any(child).(*actors.PID); ok {
		return key{byPID: true, pid: pid}
	}
	return key{id: reflect.ValueOf(child).String()}
}

// StartChild adds a child to a running supervisor and starts it, after the others. A start that was ignored
// (actors.ErrIgnore) gives a nil PID and no error; the spec is kept unless it is temporary. Errors: *SpecError,
// *AlreadyStartedError, ErrAlreadyPresent, ErrSimpleOneForOne, *StartError, the bare *actors.AlreadyStartedError if a
// stranger holds the child's name (nothing is kept then), or those of PID.Call.
func StartChild(ctx context.Context, sup *actors.PID, spec ChildSpec) (*actors.PID, error) {
	return actors.Call[*actors.PID](ctx, sup, adminRequest{kind: evStart, spec: spec})
}

// StartChildWith starts a child of a SimpleOneForOne supervisor: its template's StartWith is given arg. A start that was
// ignored gives a nil PID and no error, and nothing is kept. Errors: ErrNotSimpleOneForOne, that of the start as it is, or
// those of PID.Call.
func StartChildWith(ctx context.Context, sup *actors.PID, arg any) (*actors.PID, error) {
	return actors.Call[*actors.PID](ctx, sup, adminRequest{kind: evStartWith, arg: arg})
}

// TerminateChild stops a child and returns when it is dead. Its spec stays, unless it is temporary or dynamic, and it is not
// restarted. A child that is not running, or that keeps failing to restart, just stays down; a dynamic child that is dead
// is no error. Errors: ErrNotFound, also for the process of a child that has an ID; ErrSimpleOneForOne for an ID where there
// are none; or those of PID.Call.
func TerminateChild[K Key](ctx context.Context, sup *actors.PID, child K) error {
	_, err := sup.Call(ctx, adminRequest{kind: evTerminate, key: keyOf(child)})
	return err
}

// RestartChild starts a child that is down. Errors: ErrNotFound, ErrRunning, ErrRestarting, ErrSimpleOneForOne, that of the
// start as StartChild gives it (the spec stays), or those of PID.Call.
func RestartChild(ctx context.Context, sup *actors.PID, id string) (*actors.PID, error) {
	return actors.Call[*actors.PID](ctx, sup, adminRequest{kind: evRestart, key: key{id: id}})
}

// DeleteChild forgets the spec of a child that is down. Errors: ErrNotFound, ErrRunning, ErrRestarting, ErrSimpleOneForOne,
// or those of PID.Call.
func DeleteChild(ctx context.Context, sup *actors.PID, id string) error {
	_, err := sup.Call(ctx, adminRequest{kind: evDelete, key: key{id: id}})
	return err
}

// WhichChild returns what the supervisor knows of one child. Errors: as TerminateChild.
func WhichChild[K Key](ctx context.Context, sup *actors.PID, child K) (ChildInfo, error) {
	return actors.Call[ChildInfo](ctx, sup, whichRequest(keyOf(child)))
}

// WhichChildren lists the children, the youngest first.
func WhichChildren(ctx context.Context, sup *actors.PID) ([]ChildInfo, error) {
	l, err := actors.Call[listing](ctx, sup, listRequest{})
	slices.Reverse(l.children)
	return l.children, err
}

// GetChildSpec returns the spec of a child with the defaults filled in; for a dynamic child the template. That of a temporary
// child that has been started has no start function any more. Errors: as TerminateChild.
func GetChildSpec[K Key](ctx context.Context, sup *actors.PID, child K) (ChildSpec, error) {
	return actors.Call[ChildSpec](ctx, sup, specRequest(keyOf(child)))
}

// CountChildren counts the children.
func CountChildren(ctx context.Context, sup *actors.PID) (Counts, error) {
	return actors.Call[Counts](ctx, sup, countRequest{})
}
