package serve

import (
	"context"
	"net/http"
	"sync"
	"time"

	"github.com/shearpin/shearpin/rebalance"
	"github.com/shearpin/shearpin/rebalance/cmd/shearpin/internal/control"
)

// follower shows one rebalance to any number of streams. Its goroutine ends with the rebalance.
type follower struct {
	run *rebalance.Run

	mu sync.Mutex
	// last is what happened last; changed is closed when something else has.
	last    control.Update
	changed chan struct{}
}

func follow(run *rebalance.Run) *follower {
	return &follower{run: run, changed: make(chan struct{})}
}

// watch returns when the rebalance has ended, or ctx has.
func (f *follower) watch(ctx context.Context) {
	for progress := range f.run.Progress() {
		f.show(control.Update{Progress: &progress})
	}
	// It has ended, or its orchestrator has: either way the answer is there.
	report, err := f.run.Wait(ctx)
	if err != nil {
		_, problem := control.NewProblem(err)
		f.show(control.Update{Problem: problem})
		return
	}
	f.show(control.Update{Report: report})
}

func (f *follower) show(update control.Update) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.last = update
	close(f.changed)
	f.changed = make(chan struct{})
}

func (f *follower) look() (last control.Update, changed <-chan struct{}) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.last, f.changed
}

// ended reports whether nothing comes after an update.
func ended(u control.Update) bool { return u.Report != nil || u.Problem != nil }

// stream writes what happens until the rebalance has ended or who asked has gone. It repeats itself rather than being silent.
func (f *follower) stream(w http.ResponseWriter, r *http.Request) {
	lines := newLines(w)
	pulse := time.NewTicker(control.Heartbeat)
	defer pulse.Stop()
	for {
		update, changed := f.look()
		if update != (control.Update{}) { // else nothing has happened yet
			if lines.write(update) != nil || lines.flush() != nil || ended(update) {
				return
			}
		}
		select {
		case <-changed:
		case <-pulse.C:
		case <-r.Context().Done():
			return
		}
	}
}
