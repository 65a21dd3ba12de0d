package rebalance

import (
	"context"
	"time"

	"github.com/shearpin/shearpin/actors"
)

// changeCall asks for a change of members that must not meet anything else.
type changeCall struct {
	what   string
	change func(ctx context.Context) error
}

func (m changeCall) work() operationWork {
	return func(ctx context.Context) (any, error) { return nil, m.change(ctx) }
}

// operationWork is what a failover or a change does, beside the mailbox of the orchestrator, and what it answers.
type operationWork func(ctx context.Context) (any, error)

// failoverCall asks for a failover and is answered with its *FailoverReport.
type failoverCall struct{ request FailoverRequest }

func (e *environment) failoverWork(request FailoverRequest) operationWork {
	return func(ctx context.Context) (any, error) { return e.failOver(ctx, request) }
}

type operationEnded struct {
	operation operation
	value     any
	err       error
}

// interruptBackstop bounds the wait for the janitor to leave off. Each of its waits can be broken off.
const interruptBackstop = time.Minute

func (o *orchestrator) startOperation(c *actors.Context, op operation) {
	work := o.operations[op.ID]
	delete(o.operations, op.ID)
	delete(o.failovers, op.ID)
	if op.State == FailingOver && op.Run == "" {
		o.performRetry(c, o.retry.started(""))
	}
	c.Go(func(ctx context.Context) any {
		value, err := work(ctx)
		return operationEnded{op, value, err}
	})
}

// resumeFailover goes on with a failover that an earlier orchestrator did not bring to its end.
func (o *orchestrator) resumeFailover(c *actors.Context, request FailoverRequest) {
	o.lastID++
	o.operations[o.lastID] = o.env.failoverWork(request)
	o.log.Warn("failover_resumed", "nodes", request.Nodes)
	o.perform(c, o.machine.failover(o.lastID))
}

func (o *orchestrator) operationEnded(c *actors.Context, m operationEnded) {
	if m.operation.Run != "" {
		o.gaveUp(c, m)
		return
	}
	if from, waits := o.callers[m.operation.ID]; waits {
		delete(o.callers, m.operation.ID)
		if m.err != nil {
			from.Fail(m.err)
		} else {
			from.Reply(m.value)
		}
	} else if m.err != nil {
		o.log.Warn("failover_failed", "err", m.err)
	}
	o.perform(c, o.machine.operationEnded(m.operation.ID))
}
