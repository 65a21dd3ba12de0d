package rebalance

import (
	"context"
	"log/slog"
	"time"

	"github.com/shearpin/shearpin/actors"
)

// agent is the process through which alone the vbucket states and the inbound streams of one bucket on one node are
// changed (design §6). What it may do when is decided by its [agentMachine]; the work itself runs beside the mailbox, so
// that the agent answers at any time. An agent that was started again serves only reads until it is prepared.
type agent struct {
	actors.Base
	env          *environment
	bucket, node string
	replications replications
	limits       Limits
	log          *slog.Logger
	nodes        agentNodes

	machine *agentMachine
	lastID  int
	callers map[int]actors.From
	// fence ends when a higher epoch begins: work of several parts does not go on to its next part then.
	fence    context.Context
	endFence context.CancelFunc
}

// agentNodes are the connections of an agent to its node. Persistence has one of its own, because nodes answer in order
// and the wait for a disk would hold up all else.
type agentNodes struct{ main, persistence nodeKV }

// agentName is under what name the agent of a (node, bucket) is registered.
func agentName(bucket, node string) string { return "agent/" + bucket + "/" + node }

// The agent's own messages.
type (
	orderEnded struct {
		id  int
		err error
	}
	readEnded struct {
		from  actors.From
		value any
		err   error
	}
	replicationsSettled struct {
		epoch uint64
		err   error
	}
	graceOver struct{ epoch uint64 }
)

// agentAnswer is what every request to an agent is answered with.
type agentAnswer struct {
	Value any
	Err   *errorData
}

func newAgent(e *environment, bucket, node string, r replications) *agent {
	return &agent{
		env: e, bucket: bucket, node: node, replications: r, limits: e.config.Limits,
		log: e.log("agent", "bucket", bucket, "node", node),
	}
}

// Init makes the agent's own connections. They end with it, and with them what an earlier agent had under way.
func (a *agent) Init(c *actors.Context) error {
	for _, kv := range []*nodeKV{&a.nodes.main, &a.nodes.persistence} {
		connection, err := a.env.connect(a.node, a.bucket)
		if err != nil {
			return err
		}
		*kv = connection
		_ = closeWith(c, connection) // not before the agent's end
	}
	a.env.carriers.enter(agentName(a.bucket, a.node), a.replications)
	a.machine = newAgentMachine()
	a.callers = map[int]actors.From{}
	a.fence, a.endFence = context.WithCancel(c.Ctx())
	return nil
}

// closeWith closes a connection when the process dies, however it does, or before that, when it is told to.
func closeWith(c *actors.Context, connection nodeKV) context.CancelFunc {
	open, end := context.WithCancel(c.Ctx())
	c.Go(func(context.Context) any {
		<-open.Done()
		_ = connection.Close()
		return nil
	})
	return end
}

func (a *agent) HandleCall(c *actors.Context, from actors.From, msg any) error {
	switch m := msg.(type) {
	case prepare:
		a.perform(c, a.machine.prepare(a.remember(from), m.Epoch))
	case order:
		a.perform(c, a.machine.submit(a.remember(from), m))
	case agentRequest:
		c.Go(func(ctx context.Context) any {
			value, err := a.read(ctx, m)
			return readEnded{from, value, err}
		})
	default:
		return a.Base.HandleCall(c, from, msg)
	}
	return nil
}

func (a *agent) remember(from actors.From) int {
	a.lastID++
	a.callers[a.lastID] = from
	return a.lastID
}

func (a *agent) HandleInfo(c *actors.Context, msg any) error {
	switch m := msg.(type) {
	case orderEnded:
		a.answer(m.id, m.err)
		a.perform(c, a.machine.ended(m.id))
	case readEnded:
		m.from.Reply(agentAnswer{Value: m.value, Err: encodeError(m.err)})
	case replicationsSettled:
		a.perform(c, a.machine.replicationsSettled(m.epoch, m.err))
	case graceOver:
		a.perform(c, a.machine.graceOver(m.epoch))
	default:
		return a.Base.HandleInfo(c, msg)
	}
	return nil
}

func (a *agent) answer(id int, err error) {
	a.callers[id].Reply(agentAnswer{Err: encodeError(err)})
	delete(a.callers, id)
}

func (a *agent) perform(c *actors.Context, effects []agentEffect) {
	for _, effect := range effects {
		switch e := effect.(type) {
		case runOrder:
			fence := a.fence
			c.Go(func(ctx context.Context) any { return orderEnded{e.ID, a.run(ctx, fence, e.Order)} })
		case answerRequest:
			a.answer(e.ID, e.Err)
		case settleReplications:
			a.endFence()
			a.fence, a.endFence = context.WithCancel(c.Ctx())
			a.log.Debug("agent_preparing", "epoch", e.Epoch)
			c.Go(func(ctx context.Context) any {
				// Whoever waited for persistence in an older epoch is gone or must ask again; a wait that the node never
				// answers would hold up all that come after it.
				a.nodes.persistence.Reset()
				return replicationsSettled{e.Epoch, a.replications.Prepare(ctx, e.Epoch)}
			})
		case armGrace:
			c.SendAfter(a.limits.Grace, graceOver{e.Epoch})
		case resetNode:
			a.log.Warn("agent_reset_node", "err", "orders of an older epoch were not answered")
			c.Go(func(context.Context) any {
				a.nodes.main.Reset()
				return nil
			})
		case nowServing:
			a.log.Debug("agent_prepared", "epoch", e.Epoch)
		}
	}
}

// ask sends a request to an agent from a plain goroutine and waits for its answer, but not longer than limit.
func (e *environment) ask(ctx context.Context, limit time.Duration, bucket, node string, r agentRequest) (any, error) {
	return within(ctx, limit, func(ctx context.Context) (any, error) {
		answer, err := actors.Call[agentAnswer](ctx, e.system.Whereis(agentName(bucket, node)), r)
		if err != nil {
			return nil, err
		}
		return answer.Value, decodeError(answer.Err)
	})
}

// within runs f with a deadline.
func within[T any](ctx context.Context, limit time.Duration, f func(context.Context) (T, error)) (T, error) {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	return f(ctx)
}
