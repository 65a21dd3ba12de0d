package actors

import (
	"sync/atomic"
	"time"
)

// Timer is a message to oneself that is still to come. The zero Timer has none.
type Timer struct{ t *timer }

// timer is one message. It is its own generation: nothing but this object decides whether the message is handled.
type timer struct {
	p       *PID
	msg     any
	over    atomic.Bool // handled or stopped
	stopper Stopper     // guarded by p.mu until it is set
	at      node[owned]
}

// SendAfter sends msg to this process after d; it arrives in HandleInfo.
func (c *Context) SendAfter(d time.Duration, msg any) Timer {
	p := c.self
	t := &timer{p: p, msg: msg}
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.Alive() {
		return Timer{}
	}
	p.owned.push(&t.at, t)
	t.stopper = p.sys.clock.AfterFunc(d, t.fire)
	return Timer{t}
}

// Stop makes sure that the message is not handled, even if it is in the mailbox already, and reports whether that was
// still to be done: false means that the message was handled or stopped before. Any goroutine may call it.
func (t Timer) Stop() bool {
	if t.t == nil || !t.t.claim() {
		return false
	}
	t.t.p.mu.Lock()
	t.t.p.owned.remove(&t.t.at)
	stopper := t.t.stopper
	t.t.p.mu.Unlock()
	stopper.Stop()
	return true
}

// claim decides what becomes of the message; only the first caller gets true.
func (t *timer) claim() bool { return t.over.CompareAndSwap(false, true) }

func (t *timer) fire() {
	t.p.mu.Lock()
	t.p.owned.remove(&t.at)
	t.p.mu.Unlock()
	t.p.post(ours, t)
}

// abandon is the process' death.
func (t *timer) abandon() { t.stopper.Stop() }
