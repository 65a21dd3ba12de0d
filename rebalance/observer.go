package rebalance

import (
	"context"

	"github.com/shearpin/shearpin/actors"
	"github.com/shearpin/shearpin/dcp"
)

// observer is what the event log and the metrics of a cluster live and end with. It gets no messages: what is to be noted
// is noted by who publishes, so that nothing is lost and nobody waits. It is under nobody's supervision and can fail
// nothing: a rebalance does not depend on who looks at it.
type observer struct{ actors.Base }

// observe begins to note what the cluster publishes.
func (e *environment) observe(ctx context.Context) error {
	pid, err := e.system.Start(ctx, &observer{}, actors.WithKind("observer"))
	if err != nil {
		return err
	}
	e.events.Forward(pid, func(event Event) any {
		for _, entry := range logged(event) {
			e.eventLog.add(entry)
		}
		e.meter.event(event)
		return nil
	})
	e.replicationEvents.Forward(pid, func(event dcp.Event) any {
		for _, entry := range loggedReplication(event) {
			e.eventLog.add(entry)
		}
		return nil
	})
	return nil
}
