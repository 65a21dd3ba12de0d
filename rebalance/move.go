package rebalance

import (
	"context"
	"fmt"
	"log/slog"
	"time"

	"github.com/shearpin/shearpin/actors"
	"github.com/shearpin/shearpin/dcp"
	"github.com/shearpin/shearpin/rebalance/store"
)

// move is the process of one vbucket's move: it performs what its [moveMachine] decides. It is linked to its mover, and
// what it has asked the agents for goes on when it dies.
type move struct {
	actors.Base
	env    *environment
	bucket string
	mover  *actors.PID
	// listener keeps the account of the moves.
	listener *actors.PID
	machine  *moveMachine
	log      *slog.Logger
	timers   map[timerSlot]actors.Timer
	// step is the one it is at, since when.
	step  Step
	since time.Time
}

// timerSlot is where a timer stands; a step's timer takes the place of the same one of the step before.
type timerSlot struct {
	kind timerKind
	node string
}

// timerDue is a timer on its way to the machine.
type timerDue struct {
	timer moveTimer
	at    time.Time
}

// requestBackstop is longer than any watchdog: the machine is to see who did not answer.
const requestBackstop = time.Hour

// The messages between a mover and its moves.
type (
	moveBegin     struct{}
	moveTell      struct{}
	moveStop      struct{}
	moveAbort     struct{}
	moveLostGuard struct{ event dcp.StreamEnded }
	moveCommitted struct {
		id  int
		err error
	}
	moveFreed struct{ vb uint16 }
	// moveAbortRefused says that the switch has begun.
	moveAbortRefused struct{ vb uint16 }
	moveEnded        struct {
		vb        uint16
		err       error
		leftovers []string
	}
)

func newMove(e *environment, bucket string, plan movePlan, epoch stamp, mover *actors.PID) *move {
	return &move{
		env: e, bucket: bucket, mover: mover, machine: newMoveMachine(plan, epoch, e.config.Limits.Move).verifying(e.config.Verify),
		log:    e.log("move", "bucket", bucket, "vb", plan.VB, "epoch", epoch.Epoch),
		timers: map[timerSlot]actors.Timer{},
	}
}

func (m *move) Init(c *actors.Context) error {
	c.Continue(moveBegin{})
	return nil
}

func (m *move) HandleInfo(c *actors.Context, msg any) error {
	switch msg := msg.(type) {
	case moveBegin:
		plan := m.machine.plan
		m.log.Debug("move_started", "producer", plan.From, "consumer", plan.destination(), "old", plan.Old, "new", plan.New)
		c.SendAfter(tickPause, moveTell{})
		return m.perform(c, m.machine.begin())
	case moveTell:
		c.SendAfter(tickPause, moveTell{})
		c.Send(m.listener, moveWaits{m.machine.plan.VB, m.machine.waitedFor(), m.machine.lacking()})
	case actors.Response:
		id, _ := msg.Tag.(int)
		value, err := responseOf(msg)
		return m.perform(c, m.machine.answered(id, value, err))
	case moveCommitted:
		return m.perform(c, m.machine.answered(msg.id, nil, msg.err))
	case timerDue:
		msg.timer.Late = c.Clock().Now().Sub(msg.at)
		return m.perform(c, m.machine.fired(msg.timer))
	case moveLostGuard:
		e := msg.event
		cause := &dcp.StreamEndedError{VB: e.VB, Reason: e.Reason}
		return m.perform(c, m.machine.streamEnded(e.Producer, e.Consumer, cause))
	case moveAbort:
		effects, possible := m.machine.abort()
		if !possible {
			c.Send(m.mover, moveAbortRefused{m.machine.plan.VB})
		}
		return m.perform(c, effects)
	case moveStop:
		return m.perform(c, m.machine.stop())
	default:
		return m.Base.HandleInfo(c, msg)
	}
	return nil
}

// responseOf takes an agent's answer apart.
func responseOf(r actors.Response) (any, error) {
	if r.Err != nil {
		return nil, r.Err
	}
	answer, ok := r.Value.(agentAnswer)
	if !ok {
		return nil, errWrongAnswer
	}
	return answer.Value, decodeError(answer.Err)
}

func (m *move) perform(c *actors.Context, effects []moveEffect) error {
	for _, effect := range effects {
		switch e := effect.(type) {
		case moveStep:
			m.stepped(c, e.Step)
		case moveAsk:
			c.Request(c.System().Whereis(agentName(m.bucket, e.Node)), requestBackstop, e.Request, e.ID)
		case moveCommit:
			m.commit(c, e.ID)
		case moveBackfillDone:
			c.Send(m.mover, moveFreed{m.machine.plan.VB})
		case moveSetTimer:
			slot := timerSlot{e.Timer.Kind, e.Timer.Node}
			m.timers[slot].Stop()
			m.timers[slot] = c.SendAfter(e.After, timerDue{e.Timer, c.Clock().Now().Add(e.After)})
		case moveFinished:
			return m.finish(c, e)
		}
	}
	return nil
}

// stepped tells that the move has come to a step; with no step, that it is over.
func (m *move) stepped(c *actors.Context, step Step) {
	now, plan := c.Clock().Now(), m.machine.plan
	news := MoveStepped{
		Bucket: m.bucket, VB: plan.VB, From: plan.From, To: plan.To, Build: plan.Build, Step: step, Previous: m.step, At: now,
	}
	if m.step != "" {
		news.Took = now.Sub(m.since)
	}
	m.step, m.since = step, now
	if step != "" {
		m.log.Debug("move_step", "step", string(step))
		c.Send(m.listener, moveStepped{plan.VB, step, m.machine.waitedFor(), now})
	}
	m.env.events.Publish(news)
}

// commit writes the new chain into the map, and has the map published.
func (m *move) commit(c *actors.Context, id int) {
	plan, epoch, env, bucket := m.machine.plan, m.machine.stamp.Epoch, m.env, m.bucket
	c.Go(func(ctx context.Context) any {
		err := env.updateChains(ctx, bucket, epoch, store.ChainChange{VB: int(plan.VB), Old: plan.Old, New: plan.New})
		if err == nil {
			env.publish(bucket)
		}
		return moveCommitted{id, err}
	})
}

func (m *move) finish(c *actors.Context, e moveFinished) error {
	ended := moveEnded{vb: m.machine.plan.VB, err: e.Err}
	for _, left := range e.Leftovers {
		ended.leftovers = append(ended.leftovers, fmt.Sprintf("vb %d: %v", ended.vb, left))
	}
	m.stepped(c, "")
	if e.Err == nil {
		m.log.Debug("move_done", "leftovers", len(e.Leftovers))
	}
	c.Send(m.mover, ended)
	return actors.Normal
}
