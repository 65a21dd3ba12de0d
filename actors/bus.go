package actors

import (
	"slices"
	"sync"
)

// Bus carries typed events from anybody to everybody who subscribed. All subscribers see the events in the same order.
// Publishing never blocks: a subscription that is not read fast enough loses events and counts them; only the mailbox of
// a process takes all of them. The zero Bus is ready for use, and a nil *Bus swallows what is published. All methods may
// be called from any goroutine.
type Bus[T any] struct {
	mu   sync.Mutex
	subs []subscriber[T]
}

// subscriber takes an event without blocking. It is called with the lock of the bus held.
type subscriber[T any] interface{ deliver(T) }

// NewBus returns a bus without subscribers.
func NewBus[T any]() *Bus[T] { return &Bus[T]{} }

// Publish gives an event to all who have subscribed by now.
func (b *Bus[T]) Publish(event T) {
	if b == nil {
		return
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, s := range b.subs {
		s.deliver(event)
	}
}

func (b *Bus[T]) add(s subscriber[T]) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.subs = append(b.subs, s)
}

// remove reports whether s had been there.
func (b *Bus[T]) remove(s subscriber[T]) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	i := slices.Index(b.subs, s)
	if i >= 0 {
		b.subs = slices.Delete(b.subs, i, i+1)
	}
	return i >= 0
}

// Subscription is a bounded window on a bus.
type Subscription[T any] struct {
	bus     *Bus[T]
	c       chan T
	dropped uint64 // guarded by bus.mu
}

// Subscribe opens a subscription that holds up to buffer events, at least one, that nobody has read yet. It must be
// closed.
func (b *Bus[T]) Subscribe(buffer int) *Subscription[T] {
	s := &Subscription[T]{bus: b, c: make(chan T, max(buffer, 1))}
	b.add(s)
	return s
}

func (s *Subscription[T]) deliver(event T) {
	select {
	case s.c <- event:
	default:
		s.dropped++
	}
}

// C returns the channel of events. Close closes it.
func (s *Subscription[T]) C() <-chan T { return s.c }

// Dropped returns how many events were lost because the buffer was full.
func (s *Subscription[T]) Dropped() uint64 {
	s.bus.mu.Lock()
	defer s.bus.mu.Unlock()
	return s.dropped
}

// Close ends the subscription. What is in the buffer can still be read. It may be called more than once.
func (s *Subscription[T]) Close() {
	if s.bus.remove(s) {
		close(s.c)
	}
}

// forward is a process that takes a bus' events as messages.
type forward[T any] struct {
	bus  *Bus[T]
	pid  *PID
	wrap func(T) any
	at   node[watcher]
}

// Forward sends every event to pid as a plain message, lossless and in order, until cancel is called or pid dies. A
// message that was sent before cancel may still arrive after it. A non-nil wrap makes the message out of the event; it is
// called by the publisher, must not block nor use the bus, and drops the event by returning nil. With a nil wrap the event
// is the message. A panic in wrap, or runtime.Goexit, is a fault of the subscriber: it ends pid, as one in a function of Go
// does. Goexit ends the goroutine of the publisher too, which Go has no way to stop.
func (b *Bus[T]) Forward(pid *PID, wrap func(T) any) (cancel func()) {
	f := &forward[T]{bus: b, pid: pid, wrap: wrap}
	b.add(f)
	if !pid.watch(&f.at, f) {
		b.remove(f)
	}
	return func() {
		if b.remove(f) {
			pid.unwatch(&f.at)
		}
	}
}

func (f *forward[T]) deliver(event T) {
	if f.wrap == nil {
		f.pid.Send(event)
		return
	}
	returned := false
	defer func() {
		if !returned {
			f.pid.post(ours, helperCrash{crash(recover())})
		}
	}()
	if msg := f.wrap(event); msg != nil {
		f.pid.Send(msg)
	}
	returned = true
}

func (f *forward[T]) down(*PID, error) { f.bus.remove(f) }
