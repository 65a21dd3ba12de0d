package actors

import (
	"context"
	"sync/atomic"
)

// Pending is a call whose outcome can be asked for later: OTP's request id. It has exactly one outcome, which stays: the
// answer, or an error as that of PID.Call. All methods may be called from any goroutine.
//
// One that nobody answers is remembered by the called process until that dies, so what is not wanted any more should be
// abandoned.
type Pending struct {
	request request
	done    chan struct{}

	// collection is set once, by the Collection that it is added to, whose lock guards the other two.
	collection atomic.Pointer[Collection]
	label      any
	place      node[*Pending]
}

func newPending(from, to *PID, msg any) *Pending {
	k := &Pending{done: make(chan struct{})}
	k.request = request{call: call{from: from, callee: to, msg: msg}, pending: k}
	k.request.call.request = &k.request
	return k
}

// SendRequest calls p without waiting.
func (p *PID) SendRequest(msg any) *Pending {
	k := newPending(nil, p, msg)
	if !p.watch(&k.request.at, &k.request.call) {
		k.request.settle(nil, NoProcess)
		return k
	}
	p.post(called, &k.request.call)
	return k
}

// SendRequest is PID.SendRequest on behalf of this process: when it dies, the outcome is a *WaitError with its reason. A
// request to oneself is allowed. The outcome is no message; for one, see [Context.Request].
func (c *Context) SendRequest(pid *PID, msg any) *Pending {
	p := c.self
	k := newPending(p, pid, msg)
	lockPair(p, pid)
	defer unlockPair(p, pid)
	switch {
	case !p.Alive():
		k.request.settle(nil, &WaitError{"call", pid, p.reason})
	case !pid.Alive():
		k.request.settle(nil, NoProcess)
	default:
		pid.watchers.push(&k.request.at, &k.request.call)
		p.owned.push(&k.request.atOwner, k)
		pid.post(called, &k.request.call)
	}
	return k
}

// PID returns the process that is called.
func (k *Pending) PID() *PID { return k.request.callee }

// Done returns a channel that is closed when the outcome is there.
func (k *Pending) Done() <-chan struct{} { return k.done }

// Wait waits for the outcome and returns it. If ctx ends first it returns a *WaitError and the request goes on: it can be
// waited for again. It returns ErrCallingSelf if ctx is that of the called process, which would wait for itself.
func (k *Pending) Wait(ctx context.Context) (any, error) {
	if v, done, err := k.Check(); done {
		return v, err
	}
	if p := callerOf(ctx); p != nil && p == k.PID() {
		return nil, ErrCallingSelf
	}
	select {
	case <-k.done:
	case <-ctx.Done():
	}
	k.PID().sys.resumed(waiterOf(ctx))
	// If an outcome came at the same moment, it is the truth.
	if v, done, err := k.Check(); done {
		return v, err
	}
	return nil, &WaitError{"call", k.PID(), context.Cause(ctx)}
}

// Check returns the outcome if it is there, and whether it is.
func (k *Pending) Check() (v any, done bool, err error) {
	select {
	case <-k.done:
		return k.request.value, true, k.request.err
	default:
		return nil, false, nil
	}
}

// Abandon gives up what has no outcome yet: it is ErrAbandoned now, and an answer that comes later is dropped.
func (k *Pending) Abandon() { k.giveUp(ErrAbandoned) }

func (k *Pending) giveUp(err error) {
	if k.request.settle(nil, err) {
		k.PID().unwatch(&k.request.at)
		k.request.release()
	}
}

// abandon is the owner's death.
func (k *Pending) abandon() {
	k.giveUp(&WaitError{"call", k.PID(), k.request.from.reason})
}

// arrive is called when the outcome is there, maybe with the lock of the called process held.
func (k *Pending) arrive() {
	close(k.done)
	if c := k.collection.Load(); c != nil {
		c.hear(k)
	}
}
