package rebalance

import (
	"crypto/rand"
	"encoding/hex"
	"errors"
	"log/slog"
	"time"

	"github.com/shearpin/shearpin/actors"
	"github.com/shearpin/shearpin/dcp"
)

// orchestrator is the process that decides what the cluster does: it starts rebalances and the janitor as its
// [orchestratorMachine] says, and tells the outcomes.
type orchestrator struct {
	actors.Base
	env *environment
	log *slog.Logger

	machine *orchestratorMachine
	lastID  int
	callers map[int]actors.From
	// cleaned is the report of the janitor's last run.
	cleaned JanitorReport

	run      *runningRebalance
	lostLink bool

	// retry decides about rebalances that failed; retryAt is when the next one begins.
	retry   *retryMachine
	retryAt time.Time

	// failovers are the requests for failovers that have not begun, by caller.
	failovers map[int]FailoverRequest
	// operations are the failovers and changes of members that have not ended, by caller.
	operations map[int]operationWork
}

// runningRebalance is the rebalance that has not ended.
type runningRebalance struct {
	*Run
	request Request
	pid     *actors.PID
	// over says that it has told its end, which is being put on record.
	over bool
	// stopped is why it was asked to stop, if not by [Run.Stop].
	stopped error
	// report is that of a graceful failover's rebalance, while its nodes are being failed over.
	report Report
}

// Request says what a rebalance is to do.
type Request struct {
	// Keep are the nodes that shall hold data when it is done; empty means all active members.
	Keep []string
	// Buckets are those to rebalance, in that order; empty means all.
	Buckets []string
	// Plan is to be executed as it is; Keep and Buckets must be empty then. If a node, a bucket or a map is not as it was
	// when [Cluster.Plan] made it, the rebalance is refused, or fails before the bucket's first move, with a
	// *[PlanChangedError].
	Plan *Plan

	// giveUp makes it a graceful failover of these nodes: they become replicas only, and are failed over at the end.
	giveUp []string
}

// The messages of the orchestrator.
type (
	startCall struct {
		run     *Run
		request Request
	}
	stopCall    struct{ run string }
	janitorCall struct{ reason string }
	stateCall   struct{}
	// idleCall is refused with the reason if something is under way.
	idleCall    struct{}
	stopOverdue struct{ run string }
	janitorTick struct{}
	linkLost    struct{}
)

// linkLostPause lets the crashes of several links, as when a node dies, be one reason for the janitor.
const linkLostPause = 500 * time.Millisecond

func newOrchestrator(e *environment) *orchestrator {
	return &orchestrator{
		env: e, log: e.log("orchestrator"), machine: newOrchestratorMachine(), callers: map[int]actors.From{}, operations: map[int]operationWork{},
		retry: newRetryMachine(e.config.Retry), failovers: map[int]FailoverRequest{},
	}
}

// Init starts the members of the buckets that are in the store, and has the janitor look after them.
func (o *orchestrator) Init(c *actors.Context) error {
	c.TrapExits()
	docs, err := o.env.buckets.List(c.Ctx())
	if err != nil {
		return err
	}
	if err := o.residual(c); err != nil {
		return err
	}
	for _, doc := range docs {
		err := o.env.ensureMembers(c.Ctx(), doc.Name, doc.Servers)
		if errors.Is(err, ErrUnknownNode) { // the janitor says it again, and does what can be done without it
			o.log.Warn("members_not_started", "bucket", doc.Name, "err", err)
		} else if err != nil {
			return err
		}
	}
	cluster, _, err := o.env.readCluster(c.Ctx())
	if err != nil {
		return err
	}
	if cluster.Failover != nil {
		o.resumeFailover(c, *cluster.Failover)
	}
	o.env.replicationEvents.Forward(c.Self(), func(e dcp.Event) any { return replicationNews{e} })
	c.SendAfter(o.env.config.JanitorInterval, janitorTick{})
	if len(docs) > 0 {
		o.perform(c, o.machine.clean(0, reasonStart))
	}
	return nil
}

func (o *orchestrator) HandleCall(c *actors.Context, from actors.From, msg any) error {
	switch m := msg.(type) {
	case startCall:
		o.start(c, from, m)
	case stopCall:
		o.perform(c, o.machine.stop(o.remember(from), m.run))
	case steerCall:
		o.perform(c, o.machine.steer(o.remember(from), m.run, m.order))
	case throttleChanged:
		o.log.Info("throttle_changed", "moves_per_node", o.env.throttle.Load().MovesPerNode,
			"bytes_per_second", o.env.throttle.Load().BytesPerSecond)
		if o.run != nil && o.run.pid != nil {
			c.Send(o.run.pid, throttleChanged{})
		}
		from.Reply(nil)
	case janitorCall:
		o.perform(c, o.machine.clean(o.remember(from), m.reason))
	case failoverCall:
		id := o.remember(from)
		o.operations[id], o.failovers[id] = o.env.failoverWork(m.request), m.request
		o.perform(c, o.machine.failover(id))
	case changeCall:
		id := o.remember(from)
		o.operations[id] = m.work()
		o.perform(c, o.machine.change(id))
	case pendingRetryCall:
		from.Reply(o.pendingRetry(c))
	case cancelRetryCall:
		o.performRetry(c, o.retry.cancel())
		from.Reply(nil)
	case stateCall:
		from.Reply(o.machine.state)
	case idleCall:
		from.Fail(o.machine.busy())
	default:
		return o.Base.HandleCall(c, from, msg)
	}
	return nil
}

func (o *orchestrator) remember(from actors.From) int {
	o.lastID++
	o.callers[o.lastID] = from
	return o.lastID
}

func (o *orchestrator) start(c *actors.Context, from actors.From, m startCall) {
	effects, accepted := o.machine.start(o.remember(from), m.run.id)
	if accepted {
		o.take(c, m.run, m.request)
	}
	o.perform(c, effects)
}

// take makes a rebalance that was accepted the one that runs, and gives up what was to be tried again.
func (o *orchestrator) take(c *actors.Context, run *Run, request Request) {
	run.started = c.Clock().Now()
	o.run = &runningRebalance{Run: run, request: request}
	o.performRetry(c, o.retry.started(run.id))
}

// newRunID names a rebalance.
func newRunID() string { return randomHex(8) }

// newUUID identifies a bucket.
func newUUID() string { return randomHex(16) }

func randomHex(bytes int) string {
	id := make([]byte, bytes)
	_, _ = rand.Read(id) // it never fails
	return hex.EncodeToString(id)
}

func (o *orchestrator) HandleInfo(c *actors.Context, msg any) error {
	switch m := msg.(type) {
	case rebalanceEnded:
		o.ended(c, m.report)
	case reportSaved:
		o.tellEnd(c, m.report)
	case actors.Exit:
		o.rebalancerDied(c, m)
	case actors.Response:
		o.answered(c, m)
	case operationEnded:
		o.operationEnded(c, m)
	case retryChecked:
		o.performRetry(c, o.retry.checked(m.check, m.err))
	case retryDue:
		o.performRetry(c, o.retry.due(m.timer))
	case stopOverdue:
		o.perform(c, o.machine.stopOverdue(m.run))
	case janitorTick:
		c.SendAfter(o.env.config.JanitorInterval, janitorTick{})
		o.perform(c, o.machine.clean(0, reasonPeriodic))
	case replicationNews:
		o.news(c, m.event)
	case linkLost:
		o.lostLink = false
		o.perform(c, o.machine.clean(0, reasonLinkLost))
	default:
		return o.Base.HandleInfo(c, msg)
	}
	return nil
}

// news takes what the replications tell: a link that is lost is a reason for the janitor.
func (o *orchestrator) news(c *actors.Context, event dcp.Event) {
	switch event.(type) {
	case dcp.LinkCrashed, dcp.LinkGaveUp:
		if !o.lostLink {
			o.lostLink = true
			c.SendAfter(linkLostPause, linkLost{})
		}
	}
}

func (o *orchestrator) perform(c *actors.Context, effects []orchestratorEffect) {
	for _, effect := range effects {
		switch e := effect.(type) {
		case startRebalance:
			o.startRebalance(c)
		case stopRebalance:
			o.log.Info("rebalance_stopping", "rebalance_id", e.Run)
			o.run.stopped = o.stopCause()
			c.Send(o.run.pid, rebalanceStop{})
			c.SendAfter(o.env.config.Limits.Stop, stopOverdue{e.Run})
		case steerRebalance:
			o.log.Info("rebalance_steered", "rebalance_id", o.run.id, "order", e.Order.String())
			c.Request(o.run.pid, requestBackstop, e.Order, steered{e.ID})
		case killRebalance:
			c.Exit(o.run.pid, actors.Killed)
		case runJanitor:
			c.Request(c.System().Whereis(janitorName), janitorBackstop, cleanCall{reason: e.Reason}, e)
		case interruptJanitor:
			c.Request(c.System().Whereis(janitorName), interruptBackstop, cleanInterrupt{}, e)
		case startOperation:
			o.startOperation(c, e.Operation)
		case answerCaller:
			o.answer(e)
		}
	}
	o.env.desk.show(o.machine.state)
	o.env.desk.retrying(o.pendingRetry(c))
	if o.run != nil {
		o.run.board.enter(o.machine.state)
	}
}

// janitorBackstop bounds a run of the janitor; every step of it has a sharper limit.
const janitorBackstop = time.Hour

func (o *orchestrator) answer(e answerCaller) {
	from := o.callers[e.ID]
	delete(o.callers, e.ID)
	delete(o.operations, e.ID)
	delete(o.failovers, e.ID)
	if e.Err != nil {
		from.Fail(e.Err)
		return
	}
	from.Reply(o.cleaned)
}

func (o *orchestrator) startRebalance(c *actors.Context) {
	run := o.run
	o.env.desk.began(run.Run)
	o.log.Info("rebalance_started", "rebalance_id", run.id, "keep", run.request.Keep)
	o.env.events.Publish(RebalanceStarted{ID: run.id, RetryOf: run.retryOf, At: run.started})
	pid, err := c.StartLink(newRebalancer(o.env, run.id, run.request, c.Self(), run.board), actors.WithKind("rebalancer"))
	if err != nil {
		o.ended(c, o.brokenReport(c, err))
		return
	}
	run.pid = pid
}

// brokenReport is for a rebalance that could not tell its end itself.
func (o *orchestrator) brokenReport(c *actors.Context, reason error) Report {
	report := o.run.board.look().account
	report.ID, report.Started, report.Ended = o.run.id, o.run.started, c.Clock().Now()
	report.Outcome, report.Err = Failed, &RebalanceError{Err: reason}
	if o.machine.state == Stopping {
		report.Outcome, report.Err = Stopped, ErrStopped
	}
	progress := o.run.board.look().progress
	report.MovesPlanned, report.Moves, report.Fraction = progress.MovesPlanned, progress.MovesDone, progress.Fraction
	report.Items, report.Bytes = progress.Items, progress.Bytes
	report.conclude()
	return report
}

func (o *orchestrator) rebalancerDied(c *actors.Context, exit actors.Exit) {
	if o.run != nil && !o.run.over && exit.PID == o.run.pid {
		o.ended(c, o.brokenReport(c, exit.Reason))
	}
}

// answered takes the answers of the janitor.
func (o *orchestrator) answered(c *actors.Context, r actors.Response) {
	if tag, ok := r.Tag.(steered); ok {
		o.perform(c, []orchestratorEffect{answerCaller{ID: tag.id, Err: steeredAnswer(r)}})
		return
	}
	if _, interrupted := r.Tag.(interruptJanitor); interrupted {
		o.perform(c, o.machine.janitorInterrupted())
		return
	}
	if report, ok := r.Value.(JanitorReport); ok {
		o.cleaned = report
	}
	o.perform(c, o.machine.cleaned(r.Err))
}

// Terminate ends the rebalance, which is linked and hears nothing of a normal end.
func (o *orchestrator) Terminate(c *actors.Context, _ error) {
	if o.run != nil && o.run.pid != nil {
		c.Exit(o.run.pid, actors.Shutdown)
	}
}
