package rebalance

import (
	"errors"
	"log/slog"
	"slices"

	"github.com/shearpin/shearpin/actors"
	"github.com/shearpin/shearpin/dcp"
)

// mover is the process that moves the vbuckets of one bucket: it performs what its [moverMachine] decides. It dies with
// the rebalancer that started it, and its moves with it.
type mover struct {
	actors.Base
	env    *environment
	bucket string
	stamp  stamp
	boss   *actors.PID
	log    *slog.Logger

	machine *moverMachine
	moves   map[uint16]*actors.PID
	vbs     map[*actors.PID]uint16
	// told are the failed moves that are in the log.
	told map[uint16]bool

	// counting is what is counted on its way to each node, carriedBefore what had been before the first move.
	counting      map[string][]uint16
	carriedBefore uint64

	lastID  int
	callers map[int]abortCaller
}

// abortCaller is who waits for the abort of a move.
type abortCaller struct {
	from  actors.From
	order abortMove
}

// The messages of a mover.
type (
	moverBegin   struct{}
	moverStop    struct{}
	moverSettled struct{}
	// replicationNews is what the replications of all buckets tell.
	replicationNews struct{ event dcp.Event }
	// moverNews tells the rebalancer how far the mover is.
	moverNews struct{ moverProgressed }
	// moverEnded tells it the end.
	moverEnded struct {
		err       error
		leftovers []string
		aborted   []uint16
	}
)

func newMover(e *environment, bucket string, epoch stamp, plans []movePlan, boss *actors.PID) *mover {
	return &mover{
		env: e, bucket: bucket, stamp: epoch, boss: boss, log: e.log("mover", "bucket", bucket, "epoch", epoch.Epoch),
		machine: newMoverMachine(plans, e.config.Limits.Schedule),
		moves:   map[uint16]*actors.PID{}, vbs: map[*actors.PID]uint16{}, told: map[uint16]bool{}, callers: map[int]abortCaller{},
	}
}

func (m *mover) Init(c *actors.Context) error {
	c.TrapExits()
	// From here on no crash is missed: the first move starts later.
	m.env.replicationEvents.Forward(c.Self(), func(e dcp.Event) any { return replicationNews{e} })
	m.carriedBefore = m.env.carriers.total()
	c.Continue(moverBegin{})
	return nil
}

func (m *mover) HandleInfo(c *actors.Context, msg any) error {
	m.measure(c)
	switch msg := msg.(type) {
	case moverBegin:
		m.log.Info("mover_started", "moves", m.machine.planned)
		m.obey(c)
		return m.perform(c, m.machine.begin())
	case throttleChanged:
		m.obey(c)
		return m.perform(c, m.machine.round(nil))
	case throttleDue:
		return m.perform(c, m.machine.unthrottled())
	case moveFreed:
		return m.perform(c, m.machine.backfillDone(msg.vb))
	case moveEnded:
		return m.ended(c, msg)
	case replicationNews:
		return m.perform(c, m.news(msg.event))
	case moveAbortRefused:
		return m.perform(c, m.machine.abortRefused(msg.vb))
	case moverStop:
		m.log.Info("mover_stopping")
		return m.perform(c, m.machine.stop())
	case moverSettled:
		return m.perform(c, m.machine.settled())
	case actors.Exit:
		return m.moveDied(c, msg)
	default:
		return m.Base.HandleInfo(c, msg)
	}
}

func (m *mover) HandleCall(c *actors.Context, from actors.From, msg any) error {
	m.measure(c)
	switch msg := msg.(type) {
	case abortMove:
		m.lastID++
		m.callers[m.lastID] = abortCaller{from, msg}
		return m.perform(c, m.machine.abort(m.lastID, msg.vb))
	case pauseMoves:
		m.log.Info("mover_paused", "paused", msg.paused)
		from.Reply(nil)
		return m.perform(c, m.machine.pause(msg.paused))
	default:
		return m.Base.HandleCall(c, from, msg)
	}
}

func (m *mover) answerAbort(e answerAbort) {
	caller := m.callers[e.ID]
	delete(m.callers, e.ID)
	switch {
	case e.Err == nil:
		caller.from.Reply(nil)
	case errors.Is(e.Err, ErrNotRunning):
		caller.from.Fail(e.Err)
	default:
		caller.from.Fail(&AbortRefused{Bucket: m.bucket, VB: caller.order.vb, Err: e.Err})
	}
}

// news takes what a replication of this bucket tells.
func (m *mover) news(event dcp.Event) []moverEffect {
	switch e := event.(type) {
	case dcp.LinkCrashed:
		if e.Bucket == m.bucket {
			return m.machine.linkCrashed(e)
		}
	case dcp.StreamEnded:
		if e.Bucket == m.bucket {
			return m.machine.streamEnded(e)
		}
	}
	return nil
}

// moveDied takes the exit of a move. One that ended in good order has told its end before.
func (m *mover) moveDied(c *actors.Context, exit actors.Exit) error {
	vb, ok := m.vbs[exit.PID]
	if !ok {
		return nil
	}
	delete(m.vbs, exit.PID)
	delete(m.moves, vb)
	plan, flying := m.machine.flying[vb]
	if !flying || actors.IsNormal(exit.Reason) {
		return nil
	}
	err := &MoveError{VB: vb, From: plan.From, To: plan.destination(), Err: exit.Reason}
	return m.ended(c, moveEnded{vb: vb, err: err})
}

// ended takes the end of a move and tells it: before all that follows from it, which may be the end of the account, unless
// it is a failure, whose cause is still to be found.
func (m *mover) ended(c *actors.Context, e moveEnded) error {
	effects := m.machine.moveEnded(e.vb, e.err, e.leftovers)
	if _, failed := m.machine.flying[e.vb]; !failed {
		m.tell(c, e.vb, e.err)
	}
	err := m.perform(c, effects)
	m.tell(c, e.vb, e.err)
	return err
}

func (m *mover) perform(c *actors.Context, effects []moverEffect) error {
	m.count() // before a stream begins
	for len(effects) > 0 {
		effect := effects[0]
		effects = effects[1:]
		switch e := effect.(type) {
		case startMove:
			effects = append(effects, m.start(c, e.Plan)...)
		case stopMove:
			c.Send(m.moves[e.VB], moveStop{})
		case askAbort:
			c.Send(m.moves[e.VB], moveAbort{})
		case answerAbort:
			m.answerAbort(e)
		case armThrottle:
			c.SendAfter(e.After, throttleDue{})
		case tellStreamEnded:
			c.Send(m.moves[e.VB], moveLostGuard{e.Event})
		case armSettle:
			c.SendAfter(e.After, moverSettled{})
		case moverProgressed:
			c.Send(m.boss, moverNews{e})
		case moverFinished:
			// First of all, because a failure is to be reported at once.
			c.Send(m.boss, moverEnded{e.Err, m.machine.leftovers, slices.Clone(m.machine.aborted)})
			var failed *MoveError
			if errors.As(e.Err, &failed) {
				m.tell(c, failed.VB, failed)
			}
			m.log.Info("mover_ended", "moves", m.machine.done, "err", e.Err)
			return actors.Normal
		}
	}
	return nil
}

// tell spreads the news that a move has ended, once: a crash can end a move before that knows of it.
func (m *mover) tell(c *actors.Context, vb uint16, err error) {
	if m.told[vb] {
		return
	}
	m.told[vb] = true
	var failed *MoveError
	if errors.As(err, &failed) {
		m.log.Info("move_failed", "vb", vb, "step", string(failed.Step), "err", err)
	}
	c.Send(m.boss, moveOver{vb, err, c.Clock().Now()})
	m.env.events.Publish(MoveEnded{Bucket: m.bucket, VB: vb, Err: err, At: c.Clock().Now()})
}

// start begins a move. Its end is an effect if it could not even be started.
func (m *mover) start(c *actors.Context, plan movePlan) []moverEffect {
	m.env.events.Publish(MoveStarted{Bucket: m.bucket, VB: plan.VB, Old: plan.Old, New: plan.New, At: c.Clock().Now()})
	c.Send(m.boss, moveBegan{plan.VB, c.Clock().Now()})
	move := newMove(m.env, m.bucket, plan, m.stamp, c.Self())
	move.listener = m.boss
	pid, err := c.StartLink(move, actors.WithKind("move"))
	if err != nil {
		return m.machine.moveEnded(plan.VB, &MoveError{VB: plan.VB, From: plan.From, To: plan.destination(), Err: err}, nil)
	}
	m.moves[plan.VB], m.vbs[pid] = pid, plan.VB
	return nil
}

// Terminate ends the moves that are under way. What they have asked the agents for goes on.
func (m *mover) Terminate(c *actors.Context, _ error) {
	for node := range m.counting {
		m.env.carriers.count(agentName(m.bucket, node), nil)
	}
	for _, pid := range m.moves {
		c.Exit(pid, actors.Shutdown)
	}
}
