package supervisor

import (
	"context"
	"slices"
	"time"

	"github.com/shearpin/shearpin/actors"
)

// Messages of the functions below.
type (
	adminRequest struct {
		kind eventKind
		id   string
		spec ChildSpec
	}
	listRequest  struct{}
	countRequest struct{}
	listing      struct {
		name     string
		since    time.Time
		children []ChildInfo
	}
)

// StartChild adds a child to a running supervisor and starts it, after the others. A start that was ignored
// (actors.ErrIgnore) gives a nil PID and no error. Errors: *SpecError, *AlreadyStartedError, ErrAlreadyPresent,
// *StartError (nothing is kept then), or those of PID.Call.
func StartChild(ctx context.Context, sup *actors.PID, spec ChildSpec) (*actors.PID, error) {
	return actors.Call[*actors.PID](ctx, sup, adminRequest{kind: evStart, spec: spec})
}

// TerminateChild stops a child and returns when it is dead. Its spec stays, unless it is temporary, and it is not
// restarted. A child that is not running, or that keeps failing to restart, just stays down. Error: ErrNotFound.
func TerminateChild(ctx context.Context, sup *actors.PID, id string) error {
	_, err := sup.Call(ctx, adminRequest{kind: evTerminate, id: id})
	return err
}

// RestartChild starts a child that is down. Errors: ErrNotFound, ErrRunning, ErrRestarting, *StartError (the spec stays).
func RestartChild(ctx context.Context, sup *actors.PID, id string) (*actors.PID, error) {
	return actors.Call[*actors.PID](ctx, sup, adminRequest{kind: evRestart, id: id})
}

// DeleteChild forgets the spec of a child that is down. Errors: ErrNotFound, ErrRunning, ErrRestarting.
func DeleteChild(ctx context.Context, sup *actors.PID, id string) error {
	_, err := sup.Call(ctx, adminRequest{kind: evDelete, id: id})
	return err
}

// ChildInfo is what a supervisor knows of a child.
type ChildInfo struct {
	ID string
	// PID is nil if the child has no process.
	PID *actors.PID
	// Kind is that of the process, as given by actors.WithKind.
	Kind    string
	Type    ChildType
	Restart Restart
	// State is "running", "stopping", "stopped", or "restarting" for a child that keeps failing to restart.
	State string
	// Since is when the state began.
	Since time.Time
	// Incarnation counts the successful starts, Restarts those of them that were automatic.
	Incarnation, Restarts int
	// LastExit is the reason of the last end, nil if there was none.
	LastExit error
}

// WhichChildren lists the children, the youngest first.
func WhichChildren(ctx context.Context, sup *actors.PID) ([]ChildInfo, error) {
	l, err := actors.Call[listing](ctx, sup, listRequest{})
	slices.Reverse(l.children)
	return l.children, err
}

// Counts counts the children of a supervisor.
type Counts struct {
	// Specs is the number of children, Active of those that have a process.
	Specs, Active int
	// Supervisors and Workers count the children of either type, with or without a process.
	Supervisors, Workers int
}

// CountChildren counts the children.
func CountChildren(ctx context.Context, sup *actors.PID) (Counts, error) {
	return actors.Call[Counts](ctx, sup, countRequest{})
}

// Node is one process in a supervision tree.
type Node struct {
	// ChildInfo is what the supervisor above knows of it. The root has none above: its ID is Spec.Name, and Restart,
	// Incarnation, Restarts and LastExit are zero.
	ChildInfo
	// Err says why the children of a supervisor are not known.
	Err error
	// Children are in the order of their start.
	Children []Node
}

// Tree returns a supervisor and all that is below it. A supervisor below the root that does not answer, because it is
// dying or busy until ctx ends, appears without children and with Err.
func Tree(ctx context.Context, sup *actors.PID) (Node, error) {
	l, err := actors.Call[listing](ctx, sup, listRequest{})
	if err != nil {
		return Node{}, err
	}
	root := ChildInfo{ID: l.name, PID: sup, Kind: sup.Kind(), Type: TypeSupervisor, State: alive.String(), Since: l.since}
	return Node{ChildInfo: root, Children: nodes(ctx, l)}, nil
}

// nodes asks the supervisors among the children of one for theirs.
func nodes(ctx context.Context, l listing) []Node {
	all := make([]Node, 0, len(l.children))
	for _, info := range l.children {
		n := Node{ChildInfo: info}
		if info.Type == TypeSupervisor && info.PID != nil {
			below, err := actors.Call[listing](ctx, info.PID, listRequest{})
			n.Err = err
			n.Children = nodes(ctx, below)
		}
		all = append(all, n)
	}
	return all
}
