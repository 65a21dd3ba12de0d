package actors

import (
	"context"
	"time"
)

// request is a call for which its owner does not wait: the outcome is a message, or in a Pending.
type request struct {
	call
	atOwner node[owned]
	pending *Pending // or nil, and then these are used
	tag     any
	timer   Stopper // guarded by the owner's lock until it is set
}

// Request calls pid without waiting: exactly one [Response] with the tag arrives in HandleInfo, with the answer, with the
// reason of pid's death (NoProcess if it is dead), or after timeout with a *WaitError that wraps context.DeadlineExceeded.
// An answer that comes later is dropped.
func (c *Context) Request(pid *PID, timeout time.Duration, msg, tag any) {
	p := c.self
	r := &request{call: call{from: p, callee: pid, msg: msg}, tag: tag}
	r.call.request = r
	lockPair(p, pid)
	defer unlockPair(p, pid)
	switch {
	case !p.Alive():
	case !pid.Alive():
		r.settle(nil, NoProcess)
	default:
		pid.watchers.push(&r.at, &r.call)
		p.owned.push(&r.atOwner, r)
		r.timer = p.sys.clock.AfterFunc(timeout, r.expire)
		pid.post(called, &r.call)
	}
}

// expire is the timer's end.
func (r *request) expire() {
	if r.settle(nil, &WaitError{"call", r.callee, context.DeadlineExceeded}) {
		r.callee.unwatch(&r.at)
		r.release()
	}
}

// release gives back what r holds at its owner, after the outcome.
func (r *request) release() {
	p := r.from
	if p == nil {
		return
	}
	p.mu.Lock()
	p.owned.remove(&r.atOwner)
	timer := r.timer
	p.mu.Unlock()
	if timer != nil {
		timer.Stop()
	}
}

// abandon is the owner's death.
func (r *request) abandon() {
	r.settled.Store(true)
	r.callee.unwatch(&r.at)
	r.timer.Stop()
}
