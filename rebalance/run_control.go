package rebalance

import (
	"context"
	"errors"
	"fmt"

	"github.com/shearpin/shearpin/actors"
)

// Pause keeps the rebalance from beginning moves, also those of the buckets that are still to come. Moves that are under
// way come to their end. When it returns no move will begin any more; to pause a rebalance that is paused is no error.
//
// A pause lasts until [Run.Resume], or the end of the rebalance: it can be stopped, and a replication that crashes ends it, as
// ever. The janitor does not run during a pause. It fails with [ErrNotRunning] if the rebalance has ended or is being stopped.
func (r *Run) Pause(ctx context.Context) error { return r.steer(ctx, pauseMoves{true}) }

// Resume ends a pause; to resume a rebalance that is not paused is no error. It fails as [Run.Pause].
func (r *Run) Resume(ctx context.Context) error { return r.steer(ctx, pauseMoves{false}) }

// AbortMove ends the move of one vbucket of the bucket that is being moved, before its switch, or takes it off the plan if it has
// not begun. The vbucket stays as it was: its chain in the map, its streams, the topology of its active. Copies that were being
// built for it are the janitor's, which comes after the rebalance. The other moves go on, and the rebalance ends as [Partial].
//
// It returns when the move has ended. It fails with an *[AbortRefused] if the vbucket is not being moved or its switch has
// begun, with [ErrNotRunning] if the rebalance has ended or ends meanwhile. To abort a move once more is no error.
func (r *Run) AbortMove(ctx context.Context, bucket string, vb uint16) error {
	return r.steer(ctx, abortMove{bucket: bucket, vb: vb})
}

func (r *Run) steer(ctx context.Context, order steering) error {
	if r.board.look().report != nil {
		return ErrNotRunning
	}
	_, err := r.orchestrator.Call(ctx, steerCall{run: r.id, order: order})
	return err
}

// steerCall asks the orchestrator to pass an order on.
type steerCall struct {
	run   string
	order steering
}

// steered is the tag of an order's answer, at the orchestrator and at the rebalancer.
type steered struct{ id int }

// steeredAnswer is the outcome of an order to a process that may have ended before it.
func steeredAnswer(r actors.Response) error {
	if errors.Is(r.Err, actors.NoProcess) || errors.Is(r.Err, actors.Normal) {
		return fmt.Errorf("%w: %w", ErrNotRunning, r.Err)
	}
	return r.Err
}

// steer takes an order that was passed on by the orchestrator.
func (r *rebalancer) steer(c *actors.Context, from actors.From, order steering) {
	switch o := order.(type) {
	case pauseMoves:
		r.paused = o.paused
		r.books.machine.pause(o.paused, c.Clock().Now())
		if r.mover == nil {
			from.Reply(nil) // the next mover begins like that
			return
		}
	case abortMove:
		if r.mover == nil || r.at == nil || r.at.name != o.bucket {
			from.Fail(&AbortRefused{Bucket: o.bucket, VB: o.vb, Err: ErrNotMoving})
			return
		}
	}
	r.lastID++
	r.steering[r.lastID] = underWay{from, order}
	c.Request(r.mover, requestBackstop, order, steered{r.lastID})
}

// underWay is an order that was passed on to the mover.
type underWay struct {
	from  actors.From
	order steering
}

// steered takes the mover's answer. If its bucket was done before it heard of the order, a pause is still one.
func (r *rebalancer) steered(id int, response actors.Response) {
	asked := r.steering[id]
	delete(r.steering, id)
	err := steeredAnswer(response)
	switch order := asked.order.(type) {
	case pauseMoves:
		if errors.Is(err, ErrNotRunning) {
			err = nil
		}
	case abortMove:
		if errors.Is(err, actors.NoProcess) || errors.Is(err, actors.Normal) {
			err = &AbortRefused{Bucket: order.bucket, VB: order.vb, Err: ErrNotMoving}
		}
	}
	if err != nil {
		asked.from.Fail(err)
		return
	}
	asked.from.Reply(nil)
}
