package actors

import (
	"context"
	"errors"
	"sync/atomic"
)

// call is one call on its way: the message, and the slot for the one outcome that counts. It stands in the callee's
// watchers, so that the callee's death is an outcome like a reply; whichever comes first wins and the others go nowhere.
type call struct {
	from, callee *PID
	msg          any
	at           node[watcher]
	settled      atomic.Bool
	value        any
	err          error
	ready        chan struct{} // of a Call
	request      *request      // of a Request or SendRequest, in place of ready
}

func newCall(from, callee *PID, msg any) *call {
	return &call{from: from, callee: callee, msg: msg, ready: make(chan struct{}, 1)}
}

// settle takes the outcome if it is the first, and tells the caller.
func (k *call) settle(v any, err error) bool {
	if !k.settled.CompareAndSwap(false, true) {
		return false
	}
	k.value, k.err = v, err
	switch {
	case k.request == nil:
		k.ready <- struct{}{} // has room: there is one outcome
	case k.request.pending != nil:
		k.request.pending.arrive()
	default:
		k.from.post(ours, k.request)
	}
	return true
}

// down is the callee's death.
func (k *call) down(_ *PID, reason error) {
	if reason == Normal {
		reason = &UnansweredError{k.callee}
	}
	if k.settle(nil, reason) && k.request != nil {
		k.request.release()
	}
}

// answer settles k on behalf of its callee, under the lock that fences its sends: if it is dead, its death is the outcome,
// even if k has yet to hear of it. Others may have heard already, and a dead process answers nobody.
func (k *call) answer(v any, err error) {
	p := k.callee
	p.mu.Lock()
	won := p.Alive() && k.settle(v, err)
	if won {
		p.watchers.remove(&k.at)
	}
	p.mu.Unlock()
	if won && k.request != nil {
		k.request.release()
	}
}

// From is the way back to a caller. It may be kept and used later, by any process or goroutine; only the first answer
// counts, and none does once the caller has given up or the called process is dead. The zero From answers nobody.
type From struct{ call *call }

// Reply answers with a value.
func (f From) Reply(v any) {
	if f.call != nil {
		f.call.answer(v, nil)
	}
}

// Fail answers with an error; nil is taken as a reply of nil.
func (f From) Fail(err error) {
	if f.call != nil {
		f.call.answer(nil, err)
	}
}

// PID returns the calling process, or nil if a plain goroutine calls.
func (f From) PID() *PID {
	if f.call == nil {
		return nil
	}
	return f.call.from
}

// Call sends msg to HandleCall and waits for the answer. It fails with what the callee failed it with; at once with the
// callee's exit reason if that dies before it answers (an *UnansweredError if that is Normal), NoProcess if it was dead; with
// a *WaitError when ctx ends; with ErrCallingSelf. A ctx without an end is allowed: the call then ends at the latest with the callee.
func (p *PID) Call(ctx context.Context, msg any) (any, error) {
	from := callerOf(ctx)
	k := newCall(from, p, msg)
	return k.exchange(ctx, called, k)
}

// Call is PID.Call with a reply of a known type; a reply of another type is a *ReplyTypeError, and nil is the zero value.
func Call[T any](ctx context.Context, p *PID, msg any) (T, error) {
	v, err := p.Call(ctx, msg)
	t, ok := v.(T)
	if err == nil && !ok && v != nil {
		err = &ReplyTypeError{p, v}
	}
	return t, err
}

// stop asks a process to end and waits until it has.
func stop(ctx context.Context, from, to *PID, reason error) error {
	if reason == nil {
		reason = Normal
	}
	_, err := newCall(from, to, nil).exchange(ctx, ours, &stopOrder{reason})
	if err != NoProcess && errors.Is(to.Reason(), reason) {
		return nil
	}
	return err
}

// exchange sends m, which is k or stands for it, and waits for k's outcome.
func (k *call) exchange(ctx context.Context, as kind, m any) (any, error) {
	from, to := k.from, k.callee
	if from != nil && from == to {
		return nil, ErrCallingSelf
	}
	if ctx.Err() != nil {
		return nil, &WaitError{"call", to, context.Cause(ctx)}
	}
	if !to.watch(&k.at, k) {
		return nil, NoProcess
	}
	var callerDied <-chan struct{}
	if from == nil {
		to.post(as, m)
	} else {
		callerDied = from.Done()
		if !from.fenced(to, as, m) {
			to.unwatch(&k.at)
			return nil, &WaitError{"call", to, from.reason}
		}
	}
	v, err := k.await(ctx, callerDied)
	if to.sys.resumer != nil {
		if from != nil {
			to.sys.resumed(from.id)
		} else {
			to.sys.resumed(waiterOf(ctx))
		}
	}
	return v, err
}

// await waits for k's outcome.
func (k *call) await(ctx context.Context, callerDied <-chan struct{}) (any, error) {
	from, to := k.from, k.callee
	var cause error
	select {
	case <-k.ready:
		return k.value, k.err
	case <-ctx.Done():
		cause = context.Cause(ctx)
	case <-callerDied:
		cause = from.reason
	}
	to.unwatch(&k.at)
	if k.settled.CompareAndSwap(false, true) {
		return nil, &WaitError{"call", to, cause}
	}
	// An outcome came at the same moment; it is the truth.
	<-k.ready
	return k.value, k.err
}

// watch enters w among those that hear of p's death; false means that p is dead.
func (p *PID) watch(n *node[watcher], w watcher) bool {
	if p == nil {
		return false
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.Alive() {
		return false
	}
	p.watchers.push(n, w)
	return true
}

// unwatch undoes watch; it changes nothing if p has died meanwhile.
func (p *PID) unwatch(n *node[watcher]) {
	if p == nil {
		return
	}
	p.mu.Lock()
	p.watchers.remove(n)
	p.mu.Unlock()
}
