package rebalance

import (
	"context"
	"sync"
)

// laneTurns lets one attempt at a time go to a node. It outlives a publisher: one that has died may have left an attempt that has
// not noticed yet. The zero value is ready.
type laneTurns struct {
	mu    sync.Mutex
	turns map[lanePlace]*laneTurn
}

// laneTurn is there while somebody has or awaits the turn.
type laneTurn struct {
	free  chan struct{}
	users int
}

// take waits for the turn, or for the end of ctx. The caller ends its turn with done.
func (l *laneTurns) take(ctx context.Context, place lanePlace) (done func(), err error) {
	l.mu.Lock()
	if l.turns == nil {
		l.turns = map[lanePlace]*laneTurn{}
	}
	t := l.turns[place]
	if t == nil {
		t = &laneTurn{free: make(chan struct{}, 1)}
		t.free <- struct{}{}
		l.turns[place] = t
	}
	t.users++
	l.mu.Unlock()
	select {
	case <-t.free:
		return func() { t.free <- struct{}{}; l.leave(place, t) }, nil
	case <-ctx.Done():
		l.leave(place, t)
		return nil, context.Cause(ctx)
	}
}

func (l *laneTurns) leave(place lanePlace, t *laneTurn) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if t.users--; t.users == 0 {
		delete(l.turns, place)
	}
}
