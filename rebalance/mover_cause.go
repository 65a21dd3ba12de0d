package rebalance

import (
	"context"
	"errors"
	"maps"
	"slices"

	"github.com/shearpin/shearpin/actors"
	"github.com/shearpin/shearpin/dcp"
)

// vagueEnds are the errors of whoever was waiting for something that ended for another reason.
func vagueEnds() []error {
	return []error{
		actors.Killed, actors.Shutdown, actors.Normal, actors.NoProcess,
		dcp.ErrSuperseded, dcp.ErrShut, dcp.ErrFenced, context.Canceled,
	}
}

// attribute puts a move's failure down to the move that caused it: a crash that names a vbucket fails every move on that
// replication, and the first to say so need not be the one to blame.
func (m *moverMachine) attribute(err error) error {
	var failed *MoveError
	if !errors.As(err, &failed) {
		return err
	}
	named := dcp.NamedVBuckets(err)
	if len(named) == 0 || slices.Contains(named, failed.VB) {
		return err
	}
	for _, vb := range named {
		if plan, ok := m.flying[vb]; ok {
			return &MoveError{VB: vb, From: plan.From, To: plan.destination(), Err: failed.Err}
		}
	}
	return failed.Err
}

// crashCause says why a replication's crash ends the rebalance: because of the move that the crash names, or one that
// depends on the replication, or because any crash does.
func (m *moverMachine) crashCause(e dcp.LinkCrashed) error {
	cause := e.Reason
	var link *dcp.LinkError
	if !errors.As(cause, &link) {
		cause = &dcp.LinkError{Producer: e.Producer, Consumer: e.Consumer, Conn: e.Conn, Err: cause}
	}
	candidates := e.VBs
	var alien *dcp.UnknownOpaque
	if len(candidates) == 0 && errors.As(cause, &alien) {
		candidates = alien.VBs
	}
	if len(candidates) == 0 {
		candidates = slices.Sorted(maps.Keys(m.flying))
	}
	for _, vb := range candidates {
		if plan, ok := m.flying[vb]; ok && plan.uses(e.Producer, e.Consumer) {
			return &MoveError{VB: vb, From: plan.From, To: plan.destination(), Err: cause}
		}
	}
	return cause
}
