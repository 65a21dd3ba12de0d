package store

import (
	"container/list"
	"context"
	"sync"
)

// watch holds the changes that its receiver has not taken yet: the last one of each key, oldest first.
type watch struct {
	prefix string
	out    chan Change
	// news has room for one: a signal that is still there says all that another would.
	news chan struct{}

	mu      sync.Mutex
	waiting *list.List // of Change
	byKey   map[string]*list.Element
}

func newWatch(prefix string) *watch {
	return &watch{
		prefix:  prefix,
		out:     make(chan Change),
		news:    make(chan struct{}, 1),
		waiting: list.New(),
		byKey:   map[string]*list.Element{},
	}
}

// add never blocks.
func (w *watch) add(change Change) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if older, ok := w.byKey[change.Key]; ok {
		w.waiting.Remove(older)
	}
	w.byKey[change.Key] = w.waiting.PushBack(change)
	select {
	case w.news <- struct{}{}:
	default:
	}
}

// next takes the oldest change that waits.
func (w *watch) next() (Change, bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	oldest := w.waiting.Front()
	if oldest == nil {
		return Change{}, false
	}
	change, ok := w.waiting.Remove(oldest).(Change)
	delete(w.byKey, change.Key)
	return change, ok
}

// deliver hands changes to the receiver until ctx ends or closed is closed, then closes the receiver's channel.
func (w *watch) deliver(ctx context.Context, closed <-chan struct{}) {
	defer close(w.out)
	for {
		change, ok := w.next()
		if !ok {
			select {
			case <-w.news:
				continue
			case <-ctx.Done():
				return
			case <-closed:
				return
			}
		}
		select {
		case w.out <- change:
		case <-ctx.Done():
			return
		case <-closed:
			return
		}
	}
}
