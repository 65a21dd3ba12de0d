package supervisor

import (
	"time"

	"github.com/shearpin/shearpin/actors"
)

// EventKind says what happened to a child or to the supervisor.
type EventKind uint8

const (
	// ChildStarted follows every successful start; Incarnation is 1 the first time.
	ChildStarted EventKind = iota
	// ChildExited is the end of a child, with its reason, whoever wanted it.
	ChildExited
	// ChildRestarting is the decision to restart; Reason is why, Incarnation the one that ended.
	ChildRestarting
	// ChildIgnored is a start that decided that the child is not needed (actors.ErrIgnore).
	ChildIgnored
	// ChildStartFailed is a start or restart that failed.
	ChildStartFailed
	// GaveUp is the decision to end because too many restarts were needed; ID is the child that needed the last one.
	GaveUp
	// AutoShutdownBegun is the decision to end because of a significant child.
	AutoShutdownBegun
)

func (k EventKind) String() string {
	return name(k, "child_started", "child_exited", "child_restarting", "child_ignored", "child_start_failed", "gave_up", "auto_shutdown")
}

// Event is one change in a supervisor. Events of one supervisor are published in the order in which they happened.
type Event struct {
	At   time.Time
	Kind EventKind
	// Supervisor is Spec.Name, ID the child's.
	Supervisor, ID string
	// PID is the child that started or exited, else nil.
	PID *actors.PID
	// Incarnation counts the successful starts of the child under this supervisor.
	Incarnation int
	Reason      error
}
