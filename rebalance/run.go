package rebalance

import (
	"context"
	"fmt"
	"iter"
	"maps"
	"sync"
	"time"

	"github.com/shearpin/shearpin/actors"
)

// Run is a handle on one rebalance. Its methods may be called from any goroutine, also after its end.
type Run struct {
	id           string
	orchestrator *actors.PID
	board        *board
	started      time.Time // set before the handle is given away
	retryOf      string    // as in [Report]
}

func newRun(orchestrator *actors.PID) *Run {
	return &Run{id: newRunID(), orchestrator: orchestrator, board: newBoard()}
}

// Started is when it was accepted.
func (r *Run) Started() time.Time { return r.started }

// ID is the rebalance's own name; it is in its report and in every line of its log.
func (r *Run) ID() string { return r.id }

// Progress yields how far the rebalance is, each time that changes, and ends when it does. A consumer that is slow
// misses what was overtaken meanwhile, but never the last.
func (r *Run) Progress() iter.Seq[Progress] {
	return func(yield func(Progress) bool) {
		for seen := 0; ; {
			over := !r.orchestrator.Alive() // before the board is looked at, so that the last is not missed
			view := r.board.look()
			if view.version != seen {
				seen = view.version
				if !yield(view.progress) {
					return
				}
			}
			if over || view.report != nil {
				return
			}
			select {
			case <-view.changed:
			case <-r.orchestrator.Done():
			}
		}
	}
}

// Wait returns the report when the rebalance has ended, however it did. It fails only with ctx, or if the orchestrator
// itself died, whose exit reason is then the error.
func (r *Run) Wait(ctx context.Context) (*Report, error) {
	for {
		view := r.board.look()
		if view.report != nil {
			return view.report, nil
		}
		select {
		case <-view.changed:
		case <-r.orchestrator.Done():
			if view := r.board.look(); view.report != nil {
				return view.report, nil
			}
			return nil, fmt.Errorf("rebalance %s: orchestrator died: %w", r.id, r.orchestrator.Reason())
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
	}
}

// Stop asks the rebalance to stop and waits until it has ended. Moves whose switch has begun may come to their end
// first. Stopping a rebalance that has ended is no error; how it ended is in its report.
func (r *Run) Stop(ctx context.Context) error {
	if r.board.look().report != nil {
		return nil
	}
	if _, err := r.orchestrator.Call(ctx, stopCall{run: r.id}); err != nil {
		return err
	}
	_, err := r.Wait(ctx)
	return err
}

// board is where a rebalance shows how far it is. Who looks never holds up who writes.
type board struct {
	mu sync.Mutex
	boardView
}

// boardView is what the board shows at one moment; changed is closed when it shows something else.
type boardView struct {
	version  int
	progress Progress
	// account is the report as far as it is known beforehand, for a rebalance that cannot tell its end itself.
	account Report
	report  *Report
	changed chan struct{}
}

func newBoard() *board {
	first := Progress{State: Rebalancing, Items: Amount{Known: Uncounted}, Bytes: Amount{Known: Uncounted}}
	return &board{boardView: boardView{version: 1, progress: first, changed: make(chan struct{})}}
}

func (b *board) look() boardView {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.boardView
}

// show puts up progress. The fraction does not fall, whatever is shown; the state is the orchestrator's.
func (b *board) show(p Progress) {
	p.Nodes = maps.Clone(p.Nodes)
	b.change(func(v *boardView) {
		p.State = v.progress.State
		p.Fraction = min(max(p.Fraction, v.progress.Fraction), 1)
		v.progress = p
		v.version++
	})
}

// count puts up progress without the single moves, which stay as they were shown last.
func (b *board) count(p Progress) {
	view := b.look().progress
	p.InFlight, p.Stuck = view.InFlight, view.Stuck
	b.show(p)
}

// open puts up the report as far as it is known.
func (b *board) open(account Report) {
	b.change(func(v *boardView) { v.account = account })
}

// enter puts up the state.
func (b *board) enter(state State) {
	if b.look().progress.State != state {
		b.change(func(v *boardView) {
			v.progress.State = state
			v.version++
		})
	}
}

// end puts up the report, once.
func (b *board) end(report *Report) {
	b.change(func(v *boardView) {
		v.report = report
		v.progress.State, v.progress.Stage, v.progress.InFlight, v.progress.Stuck = Idle, "", nil, nil
		v.progress.Remaining, v.progress.RemainingKnown = 0, true
		if report.Outcome == Complete {
			v.progress.Fraction = 1
		}
		v.version++
	})
}

func (b *board) change(f func(*boardView)) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.report != nil {
		return
	}
	f(&b.boardView)
	close(b.changed)
	b.changed = make(chan struct{})
}
