package rebalance

import (
	"context"
	"iter"
	"slices"
	"sync"
)

// eventLog keeps the last events of a cluster: a ring, so that its memory is bounded, however long nobody reads it.
type eventLog struct {
	mu   sync.Mutex
	size int
	// ring holds the events up to last, the one numbered seq at place (seq-1) % size.
	ring []LoggedEvent
	last uint64
	// grown is closed when there is more, and made when somebody waits for that.
	grown chan struct{}
}

// defaultEventLog is how many events are kept: those of a rebalance that moves every vbucket of a bucket of 1024.
const (
	defaultEventLog = 20_000
	maxEventLog     = 1_000_000
)

func newEventLog(size int) *eventLog { return &eventLog{size: size} }

// add puts an event in, in place of the oldest if there is no room.
func (l *eventLog) add(e LoggedEvent) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.last++
	e.Seq = l.last
	if len(l.ring) < l.size {
		l.ring = append(l.ring, e)
	} else {
		l.ring[(e.Seq-1)%uint64(l.size)] = e
	}
	if l.grown != nil {
		close(l.grown)
		l.grown = nil
	}
}

// since is the events after the one numbered seq, oldest first, as far as they are still there; grown is closed when there
// are more.
func (l *eventLog) since(seq uint64) (events []LoggedEvent, grown <-chan struct{}) {
	l.mu.Lock()
	defer l.mu.Unlock()
	first := max(seq, l.last-uint64(len(l.ring))) // the last that is not wanted
	if first < l.last {
		events = make([]LoggedEvent, 0, l.last-first)
		for ; first < l.last; first++ {
			events = append(events, l.ring[first%uint64(l.size)])
		}
	}
	if l.grown == nil {
		l.grown = make(chan struct{})
	}
	return events, l.grown
}

// EventLog is what has happened since the event with that number, oldest first; 0 is the beginning. What has been overtaken
// meanwhile is missing: the number of the first event tells. It fails only with ctx; the log can be read after the cluster
// was closed.
func (c *Cluster) EventLog(ctx context.Context, sinceSeq uint64) ([]LoggedEvent, error) {
	events, _ := c.env.eventLog.since(sinceSeq)
	return events, context.Cause(ctx)
}

// FollowEventLog yields what has happened since the event with that number, and what happens from then on, until ctx ends or
// the cluster is closed. A reader that falls behind by no more than Config.EventLog loses nothing; one that falls
// further behind sees a gap in the numbers.
func (c *Cluster) FollowEventLog(ctx context.Context, sinceSeq uint64) iter.Seq[LoggedEvent] {
	return func(yield func(LoggedEvent) bool) {
		for {
			closed := !c.root.Alive() // before the events are read, so that the last are not missed
			events, grown := c.env.eventLog.since(sinceSeq)
			for _, e := range events {
				sinceSeq = e.Seq
				if ctx.Err() != nil || !yield(e) {
					return
				}
			}
			if len(events) > 0 {
				continue
			}
			if closed {
				return
			}
			select {
			case <-grown:
			case <-c.root.Done():
			case <-ctx.Done():
				return
			}
		}
	}
}

// listOf is a copy of a list of nodes, which others may go on to change.
func listOf(list []string) []string { return slices.Clone(list) }
