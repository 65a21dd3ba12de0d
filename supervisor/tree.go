package supervisor

import (
	"context"
	"time"

	"github.com/shearpin/shearpin/actors"
)

// ChildInfo is what a supervisor knows of a child.
type ChildInfo struct {
	// ID is empty for a dynamic child.
	ID string
	// PID is nil if the child has no process.
	PID *actors.PID
	// Name and Kind are those of the process, as given by actors.WithName and actors.WithKind.
	Name, Kind string
	Type       ChildType
	Restart    Restart
	// State is "running", "stopping", "stopped", or "restarting" for a child whose restart is still to come, because one has
	// failed or is put off.
	State string
	// Since is when the state began.
	Since time.Time
	// RetryAt is when the restart of a child is due that is restarting.
	RetryAt time.Time
	// Incarnation counts the successful starts, Restarts those of them that were automatic.
	Incarnation, Restarts int
	// LastExit is the reason of the last end, nil if there was none.
	LastExit error
	// MailboxLen is the number of messages that wait for the process.
	MailboxLen int
	// Lingering counts the dead processes of this child whose callbacks or goroutines still run: see actors.PID.Lingering.
	Lingering int
}

// SupervisorInfo is what a supervisor says of itself.
type SupervisorInfo struct {
	Strategy     Strategy
	AutoShutdown AutoShutdown
	// Restarts is how many restarts there have been within the last Period. One more than Intensity ends the supervisor.
	Restarts, Intensity int
	Period              time.Duration
	// Lingering counts the processes of forgotten children that still run.
	Lingering int
}

// Counts counts the children of a supervisor.
type Counts struct {
	// Specs is the number of children; 1, that of the template, for dynamic children.
	Specs int
	// Active is the number of children that have a process.
	Active int
	// Supervisors and Workers count the children of either type, with or without a process.
	Supervisors, Workers int
}

// Node is one process in a supervision tree.
type Node struct {
	// ChildInfo is what the supervisor above knows of it. The root has none above: its ID is Spec.Name, and Restart,
	// Incarnation, Restarts and LastExit are zero.
	ChildInfo
	// Supervisor is nil for a worker, and for a supervisor that did not answer.
	Supervisor *SupervisorInfo
	// Err says why nothing is known of what is below a supervisor.
	Err error
	// Children are in the order of their start.
	Children []Node
}

// Tree returns a supervisor and all that is below it. A supervisor below the root that does not answer, because it is
// dying or busy until ctx ends, appears without children and with Err, and keeps nobody else from being listed.
func Tree(ctx context.Context, sup *actors.PID) (Node, error) {
	l, err := actors.Call[listing](ctx, sup, listRequest{})
	if err != nil {
		return Node{}, err
	}
	root := Node{ChildInfo: ChildInfo{ID: l.name, PID: sup, Type: TypeSupervisor, State: alive.String(), Since: l.since}}
	root.describe()
	a := asking{left: make(map[*Node]bool)}
	a.enter(&root, l)
	for {
		o, err := a.requests.Receive(ctx)
		if err != nil { // all have answered, or ctx has ended
			for n := range a.left {
				n.Err = err
			}
			return root, nil
		}
		a.hear(o.Label.(*Node), o.Value, o.Err)
	}
}

// asking asks all supervisors that become known, at once.
type asking struct {
	requests actors.Collection
	left     map[*Node]bool
}

// enter fills in what a supervisor has said and asks the supervisors among its children.
func (a *asking) enter(n *Node, l listing) {
	n.fill(l)
	for i := range n.Children {
		c := &n.Children[i]
		if c.Type == TypeSupervisor && c.PID != nil && a.requests.Add(c.PID.SendRequest(listRequest{}), c) == nil {
			a.left[c] = true
		}
	}
}

func (a *asking) hear(n *Node, v any, err error) {
	delete(a.left, n)
	l, ok := v.(listing)
	switch {
	case err != nil:
		n.Err = err
	case !ok:
		n.Err = &actors.ReplyTypeError{PID: n.PID, Reply: v}
	default:
		a.enter(n, l)
	}
}

// fill adds what a supervisor has said of itself and of its children.
func (n *Node) fill(l listing) {
	n.Supervisor = &l.info
	n.Children = make([]Node, len(l.children))
	for i, info := range l.children {
		n.Children[i].ChildInfo = info
	}
}

// describe adds what the process itself can tell.
func (i *ChildInfo) describe() {
	i.Name, i.Kind, i.MailboxLen = i.PID.Name(), i.PID.Kind(), i.PID.MailboxLen()
}
