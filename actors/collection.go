package actors

import (
	"context"
	"sync"
)

// Collection is a set of requests that are under way, each with a label, of which the outcomes are taken in the order in
// which they come: OTP's request id collection. The zero Collection is empty and ready for use. Requests may be added at
// any time, from any goroutine; one goroutine at a time takes outcomes.
type Collection struct {
	mu      sync.Mutex
	pending list[*Pending] // without an outcome
	arrived list[*Pending] // with an outcome that nobody has taken yet
	wake    chan struct{}  // has one element if something has arrived since somebody looked
	sys     *System        // of the first request to a process
}

// Outcome is what became of one request of a [Collection].
type Outcome struct {
	Label   any
	Request *Pending
	// Value and Err are those of Pending.Wait.
	Value any
	Err   error
}

// Add puts a request into the collection. A request is added once, to one collection; the second time is ErrInCollection.
func (c *Collection) Add(k *Pending, label any) error {
	c.mu.Lock()
	if c.wake == nil {
		c.wake = make(chan struct{}, 1)
	}
	if c.sys == nil {
		c.sys = k.PID().System()
	}
	added := k.collection.CompareAndSwap(nil, c)
	if added {
		k.label = label
		c.pending.push(&k.place, k)
	}
	c.mu.Unlock()
	if !added {
		return ErrInCollection
	}
	if _, done, _ := k.Check(); done {
		c.hear(k) // the outcome may have come before it was known to belong here
	}
	return nil
}

// Len returns the number of requests whose outcome has not been taken.
func (c *Collection) Len() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.pending.n + c.arrived.n
}

// Receive waits for the next outcome and takes it out. If ctx ends first, it abandons all requests that are left, so that
// their answers are dropped, empties the collection and returns a *WaitError. ErrNoRequests: it is empty. ErrCallingSelf,
// as of Wait, empties it too.
func (c *Collection) Receive(ctx context.Context) (Outcome, error) {
	o, err := c.Wait(ctx)
	if err != nil && err != ErrNoRequests { // else there is nothing to abandon but what somebody has added since
		c.abandon()
	}
	return o, err
}

// Wait waits for the next outcome and takes it out. If ctx ends first it returns a *WaitError and the requests go on:
// the next Wait may get what this one did not. ErrNoRequests: the collection is empty. ErrCallingSelf: ctx is that of a
// process, and all that are left are requests to that process, which would wait for itself.
func (c *Collection) Wait(ctx context.Context) (Outcome, error) {
	for {
		o, ok, left := c.take()
		switch {
		case ok:
			return o, nil
		case !left:
			return Outcome{}, ErrNoRequests
		case ctx.Err() != nil:
			return Outcome{}, &WaitError{"requests", nil, context.Cause(ctx)}
		case c.waitsOnlyFor(callerOf(ctx)):
			return Outcome{}, ErrCallingSelf
		}
		select {
		case <-c.wake:
		case <-ctx.Done():
		}
		c.sys.resumed(waiterOf(ctx))
	}
}

// waitsOnlyFor reports whether nothing but p can bring an outcome.
func (c *Collection) waitsOnlyFor(p *PID) bool {
	if p == nil {
		return false
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	for n := c.pending.first; n != nil; n = n.next {
		if n.item.PID() != p {
			return false
		}
	}
	return c.arrived.n == 0
}

// Check takes out the next outcome if there is one, and reports whether there was.
func (c *Collection) Check() (Outcome, bool) {
	o, ok, _ := c.take()
	return o, ok
}

// take takes out the next outcome if there is one; left says whether others may come.
func (c *Collection) take() (o Outcome, ok, left bool) {
	c.mu.Lock()
	k, ok := c.arrived.pop()
	left = c.pending.n > 0
	c.mu.Unlock()
	if !ok {
		return Outcome{}, false, left
	}
	return Outcome{Label: k.label, Request: k, Value: k.request.value, Err: k.request.err}, true, left
}

// hear is called when k has an outcome, maybe with the lock of the called process held; also twice.
func (c *Collection) hear(k *Pending) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.pending.remove(&k.place) {
		return
	}
	c.arrived.push(&k.place, k)
	select {
	case c.wake <- struct{}{}:
	default:
	}
}

// abandon empties the collection.
func (c *Collection) abandon() {
	for {
		c.mu.Lock()
		k, ok := c.pending.pop()
		if !ok {
			c.arrived = list[*Pending]{}
		}
		c.mu.Unlock()
		if !ok {
			return
		}
		k.Abandon()
	}
}
