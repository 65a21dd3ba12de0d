package rebalance

import (
	"context"
	"errors"
	"log/slog"
	"slices"

	"github.com/shearpin/shearpin/actors"
)

// rebalancer is the process of one rebalance: it takes the buckets one after another, prepares each, has its mover move
// it, and finishes it. It dies with the orchestrator that started it.
type rebalancer struct {
	actors.Base
	env     *environment
	request Request
	boss    *actors.PID
	board   *board
	log     *slog.Logger

	report Report
	books  bookkeeping
	todo   []string
	at     *bucketWork
	mover  *actors.PID
	// cancel ends the preparation or the finish of a bucket.
	cancel   context.CancelFunc
	stopping bool
	// paused is how the next mover begins; the one that moves has been told.
	paused bool

	// carriedBefore is what moves had carried before this rebalance.
	carriedBefore uint64

	lastID   int
	steering map[int]underWay
}

// The messages of a rebalancer.
type (
	rebalanceBegin struct{}
	rebalanceStop  struct{}
	bucketsListed  struct {
		names  []string
		report Report
		err    error
	}
	bucketPrepared struct {
		work *bucketWork
		err  error
	}
	bucketFinished struct{ err error }
	// permissionEnded says that nothing may be discarded any more.
	permissionEnded struct{ err error }
	// rebalanceEnded tells the orchestrator the end.
	rebalanceEnded struct{ report Report }
)

func newRebalancer(e *environment, id string, request Request, boss *actors.PID, b *board) *rebalancer {
	return &rebalancer{
		env: e, request: request, boss: boss, board: b, log: e.log("rebalancer", "rebalance_id", id),
		report: Report{ID: id}, steering: map[int]underWay{},
	}
}

func (r *rebalancer) Init(c *actors.Context) error {
	c.TrapExits()
	r.carriedBefore = r.env.carriers.total()
	now := c.Clock().Now()
	r.report.Started = now
	r.books = newBookkeeping(r.env.config.Limits.Stuck, now)
	c.SendAfter(tickPause, progressTick{})
	c.Continue(rebalanceBegin{})
	return nil
}

func (r *rebalancer) HandleCall(c *actors.Context, from actors.From, msg any) error {
	order, ok := msg.(steering)
	if !ok {
		return r.Base.HandleCall(c, from, msg)
	}
	r.steer(c, from, order)
	return nil
}

func (r *rebalancer) HandleInfo(c *actors.Context, msg any) error {
	switch m := msg.(type) {
	case rebalanceBegin:
		report := r.report
		r.run(c, func(ctx context.Context) any {
			names, report, err := r.env.openAccount(ctx, report, r.request)
			return bucketsListed{names, report, err}
		})
	case bucketsListed:
		if m.err != nil {
			return r.end(c, m.err)
		}
		r.todo, r.report = m.names, m.report
		r.putUp()
		r.env.events.Publish(RebalanceBegan{ID: r.report.ID, Buckets: m.names, Nodes: r.report.Nodes, At: c.Clock().Now()})
		r.books.machine.listed(len(m.names), c.Clock().Now())
		return r.next(c)
	case bucketPrepared:
		return r.prepared(c, m)
	case moverNews:
		r.progress(c, m)
	case moverEnded:
		return r.moved(c, m)
	case bucketFinished:
		if m.err != nil {
			return r.end(c, m.err)
		}
		r.closeBucket(c, nil)
		return r.next(c)
	case permissionEnded:
		return r.end(c, m.err)
	case rebalanceStop:
		r.stop(c)
	case throttleChanged:
		if r.mover != nil {
			c.Send(r.mover, m)
		}
	case actors.Response:
		if tag, ok := m.Tag.(steered); ok {
			r.steered(tag.id, m)
		}
	case actors.Exit:
		if m.PID == r.mover && r.mover != nil && !actors.IsNormal(m.Reason) {
			return r.end(c, m.Reason)
		}
	default:
		if !r.listen(c, msg) {
			return r.Base.HandleInfo(c, msg)
		}
	}
	return nil
}

func (r *rebalancer) run(c *actors.Context, f func(ctx context.Context) any) {
	r.cancel = withContext(c, f)
}

func (r *rebalancer) stop(c *actors.Context) {
	r.stopping = true
	r.books.machine.stop(c.Clock().Now())
	if r.mover != nil {
		c.Send(r.mover, moverStop{})
		return
	}
	r.cancel()
}

// next begins the next bucket, or ends the rebalance.
func (r *rebalancer) next(c *actors.Context) error {
	switch {
	case r.stopping:
		return r.end(c, ErrStopped)
	case len(r.todo) == 0:
		return r.complete(c)
	}
	name := r.todo[0]
	r.todo = r.todo[1:]
	r.at = &bucketWork{env: r.env, name: name, run: r.report.ID, keep: r.request.Keep, giveUp: r.request.giveUp, planned: r.request.Plan}
	now := c.Clock().Now()
	r.report.Buckets = append(r.report.Buckets, BucketReport{Name: name, Started: now})
	r.putUp()
	r.books.machine.bucketBegan(name, now)
	r.env.events.Publish(BucketRebalanceStarted{ID: r.report.ID, Bucket: name, At: now})
	r.show(c)
	work, report := r.at, r.report
	r.run(c, func(ctx context.Context) any {
		err := work.prepare(ctx)
		if err == nil {
			work.account(ctx, report)
		}
		return bucketPrepared{work, err}
	})
	return nil
}

// complete ends a rebalance in which everything was done.
func (r *rebalancer) complete(c *actors.Context) error {
	kept := r.report.Nodes.Keep
	if !r.env.permitted(kept) {
		return r.end(c, nil)
	}
	r.run(c, func(ctx context.Context) any { return permissionEnded{r.env.discarded(ctx, kept)} })
	return nil
}

// putUp lays the report down as it is, for the case that this process does not come to tell its end.
func (r *rebalancer) putUp() {
	account := r.report
	account.Buckets = slices.Clone(account.Buckets)
	r.board.open(account)
}

func (r *rebalancer) bucketReport() *BucketReport { return &r.report.Buckets[len(r.report.Buckets)-1] }

func (r *rebalancer) prepared(c *actors.Context, m bucketPrepared) error {
	if m.err != nil {
		return r.end(c, m.err)
	}
	if r.stopping {
		return r.end(c, ErrStopped)
	}
	b := r.bucketReport()
	b.Epoch, b.MovesPlanned = m.work.stamp.Epoch, len(m.work.plans)
	r.report.MovesPlanned += b.MovesPlanned
	r.putUp()
	r.books.machine.plannedMoves(m.work.plans, c.Clock().Now())
	r.count(c, m.work)
	mover := newMover(r.env, m.work.name, m.work.stamp, m.work.plans, c.Self())
	mover.machine.paused = r.paused
	pid, err := c.StartLink(mover, actors.WithKind("mover"))
	if err != nil {
		return r.end(c, err)
	}
	r.mover = pid
	return nil
}

// progress shows how far the whole is.
func (r *rebalancer) progress(c *actors.Context, m moverNews) {
	b := r.bucketReport()
	r.report.Moves += m.Done - b.Moves
	b.Moves = m.Done
	r.putUp()
	now := c.Clock().Now()
	r.books.machine.moverTold(m.Done, m.Nodes, now)
	r.books.machine.leftUndone(m.Aborted, now)
	r.board.count(r.books.machine.brief(now))
}

// closeBucket completes the account of the bucket; cause is why the rebalance ends with it.
func (r *rebalancer) closeBucket(c *actors.Context, cause error) {
	if len(r.report.Buckets) == 0 {
		return
	}
	b := r.bucketReport()
	if !b.Ended.IsZero() {
		return
	}
	b.Ended = c.Clock().Now()
	r.books.machine.account(b, cause, b.Ended)
	r.env.events.Publish(BucketRebalanceEnded{ID: r.report.ID, Bucket: b.Name, Err: cause, At: b.Ended})
}

func (r *rebalancer) moved(c *actors.Context, m moverEnded) error {
	r.mover = nil
	r.bucketReport().Leftovers = m.leftovers
	r.at.leave(m.aborted)
	r.bucketReport().Aborted = r.at.aborted
	if m.err != nil {
		return r.end(c, m.err)
	}
	r.books.machine.finishing(c.Clock().Now())
	r.show(c)
	work := r.at
	r.run(c, func(ctx context.Context) any { return bucketFinished{work.finish(ctx)} })
	return nil
}

// end completes the report and tells it. What is still under way is not waited for.
func (r *rebalancer) end(c *actors.Context, err error) error {
	r.report.Ended = c.Clock().Now()
	r.books.machine.carry(r.env.carriers.total() - r.carriedBefore)
	r.closeBucket(c, err)
	progress := r.books.machine.brief(r.report.Ended)
	r.board.count(progress)
	r.report.Fraction, r.report.Items, r.report.Bytes = progress.Fraction, progress.Items, progress.Bytes
	switch {
	case err == nil:
		r.report.Outcome = Complete
		if aborted := r.report.aborted(); aborted != nil {
			r.report.Outcome, r.report.Err = Partial, aborted
		}
	case r.stopping || errors.Is(err, ErrStopped):
		r.report.Outcome, r.report.Err = Stopped, ErrStopped
	default:
		failed := &RebalanceError{Err: err}
		if r.at != nil {
			failed.Bucket = r.at.name
		}
		r.report.Outcome, r.report.Err = Failed, failed
	}
	r.report.conclude()
	c.Send(r.boss, rebalanceEnded{r.report})
	return actors.Normal
}

// Terminate ends the mover, which is linked and hears nothing of a normal end.
func (r *rebalancer) Terminate(c *actors.Context, _ error) {
	if r.mover != nil {
		c.Exit(r.mover, actors.Shutdown)
	}
}

// withContext runs f beside the mailbox with a context that cancel ends before the process dies.
func withContext(c *actors.Context, f func(ctx context.Context) any) (cancel context.CancelFunc) {
	stopped, cancel := context.WithCancel(context.Background())
	c.Go(func(ctx context.Context) any {
		ctx, done := context.WithCancel(ctx)
		defer done()
		defer context.AfterFunc(stopped, done)()
		return f(ctx)
	})
	return cancel
}
