package rebalance

import (
	"fmt"
	"strings"

	"github.com/shearpin/shearpin/actors"
	"github.com/shearpin/shearpin/rebalance/store"
	"github.com/shearpin/shearpin/rebalance/vbmap"
)

// A graceful failover is a rebalance to the same copies in another order, the nodes last, and then a failover of nodes that
// are the active of nothing (rebalance.md §9.7). The order is made from the map as the janitor has left it.

// gracefulTarget is the map that the moves of a graceful failover shall lead to. It refuses one in which a node would stay
// active.
func gracefulTarget(doc store.BucketDoc, nodes []string) (vbmap.Map, error) {
	target := vbmap.GracefulFailover(doc.Map, nodes...)
	unsafe := &UnsafeFailover{Nodes: nodes, Lost: map[string][]uint16{}}
	for vb, chain := range target {
		if len(without(chain.Members(), nodes...)) == 0 && len(chain.Members()) > 0 {
			unsafe.Lost[doc.Name] = append(unsafe.Lost[doc.Name], uint16(vb))
		}
	}
	if len(unsafe.Lost) > 0 {
		return nil, unsafe
	}
	return target, nil
}

// giveUp begins the failover at the end of a graceful failover's rebalance. If that was asked to stop meanwhile, it has
// ended as stopped.
func (o *orchestrator) giveUp(c *actors.Context, report *Report) bool {
	o.lastID++
	effects, ok := o.machine.giveUp(o.lastID, report.ID)
	if !ok {
		report.Outcome, report.Err = Stopped, ErrStopped
		report.conclude()
		return false
	}
	o.run.over, o.run.report = true, *report
	o.operations[o.lastID] = o.env.failoverWork(FailoverRequest{Nodes: o.run.request.giveUp})
	o.perform(c, effects)
	return true
}

// gaveUp takes the end of that failover. The rebalance is as complete as it is.
func (o *orchestrator) gaveUp(c *actors.Context, m operationEnded) {
	report := o.run.report
	report.Failover, _ = m.value.(*FailoverReport)
	err := m.err
	if report.Failover != nil {
		err = report.Failover.Err
	}
	if err != nil {
		report.Outcome, report.Err = Failed, &RebalanceError{Err: err}
	}
	report.Ended = c.Clock().Now()
	report.conclude()
	o.conclude(c, report)
}

// StoppedByFailover is why a rebalance ended that was in the way of a failover; errors.Is finds [ErrStopped] in it.
type StoppedByFailover struct {
	// Nodes are those that were given up.
	Nodes []string
}

func (e *StoppedByFailover) Error() string {
	return fmt.Sprintf("stopped for the failover of %s", strings.Join(e.Nodes, ", "))
}

// Unwrap gives errors.Is ErrStopped.
func (e *StoppedByFailover) Unwrap() error { return ErrStopped }

// stopCause is why the rebalance is being stopped: for the failover that waits, or because somebody asked for it.
func (o *orchestrator) stopCause() error {
	if request, ok := o.failovers[o.machine.waiting.ID]; ok {
		return &StoppedByFailover{Nodes: request.Nodes}
	}
	return nil
}
