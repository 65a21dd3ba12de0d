package actors

import (
	"errors"
	"runtime"
)

// This package's own messages are boot, *stopOrder, *monitor (its Down), *exitSignal, *timer, *request (its
// Response) and helperCrash.

// boot is the first message of every process.
type boot struct{}

// stopOrder is a message of Stop.
type stopOrder struct{ reason error }

// helperCrash reports that a function of this process panicked in another goroutine: one given to Go or Forward.
type helperCrash struct{ reason error }

// InvokeUserMessage handles all messages there are. The mailbox calls it after a wake-up, from one goroutine at a time.
//
// That goroutine is a new one after every rest, with a small stack that is costly to grow, so the way from here to a
// callback is kept short and flat.
func (i *invoker) InvokeUserMessage(any) {
	p := (*PID)(i)
	if !p.enter() {
		return
	}
	var reason error
	returned := false
	defer func() {
		if !returned {
			reason = crash(recover())
		}
		if reason != nil {
			p.end(reason)
		} else {
			p.leave()
		}
	}()
	c := &p.context
	throughput := p.sys.dispatcher.Throughput()
	for batch := p.inbox.take(nil); len(batch) > 0 && reason == nil; batch = p.inbox.take(batch) {
		for n := 0; n < len(batch) && reason == nil && p.Alive(); n++ {
			switch it := &batch[n]; it.kind {
			case plain:
				reason = p.impl.HandleInfo(c, it.msg)
			case casted:
				reason = p.impl.HandleCast(c, it.msg)
			case called:
				k := it.msg.(*call)
				reason = p.impl.HandleCall(c, From{k}, k.msg)
			case ours:
				reason = p.handleOurs(it.msg)
			}
			if c.later != nil && reason == nil {
				reason = p.handleLater()
			}
			if throughput--; throughput <= 0 {
				throughput = p.sys.dispatcher.Throughput()
				runtime.Gosched()
			}
		}
	}
	returned = true
}

func (p *PID) handleOurs(m any) error {
	c := &p.context
	switch m := m.(type) {
	case *monitor:
		if m.dropped {
			return nil
		}
		return p.impl.HandleInfo(c, Down{Ref: Ref{m}, PID: m.target, Reason: m.reason})
	case *exitSignal:
		if m.from != nil && m.from == p.parent {
			return p.told(m.reason)
		}
		return p.impl.HandleInfo(c, Exit{PID: m.from, Reason: m.reason})
	case *timer:
		if !m.claim() {
			return nil
		}
		return p.impl.HandleInfo(c, m.msg)
	case *request:
		return p.impl.HandleInfo(c, Response{Tag: m.tag, Value: m.value, Err: m.err})
	case *stopOrder:
		return p.told(m.reason)
	case helperCrash:
		return m.reason
	case boot:
		return p.boot()
	default:
		return nil
	}
}

// boot runs Init and decides the start, unless somebody killed the process meanwhile.
func (p *PID) boot() error {
	if err := p.impl.Init(&p.context); err != nil {
		return err
	}
	p.context.started = p.decideStart(nil)
	return nil
}

// told ends the process because its parent, or Stop, wants it to.
func (p *PID) told(reason error) error {
	if d, ok := p.impl.(Drainer); ok {
		return d.HandleStop(&p.context, reason)
	}
	return reason
}

// end runs Terminate, if the process got as far as to need it and is not dead, sends the last replies, and exits.
func (p *PID) end(reason error) {
	returned := false
	defer func() {
		if !returned {
			reason = crash(recover())
		}
		// A log handler is foreign code too.
		defer p.exit(reason)
		defer p.leave()
		defer p.replyLast()
		p.report(reason)
	}()
	if p.context.started && p.Alive() {
		p.impl.Terminate(&p.context, reason)
	}
	returned = true
}

// report logs a crash. A start that fails is told to the starter, so of those only panics are logged.
func (p *PID) report(reason error) {
	if IsNormal(reason) || !p.Alive() {
		return
	}
	var panicked *PanicError
	switch {
	case errors.As(reason, &panicked):
		p.sys.log.Warn("process_crashed", "part", "process", "process", p, "err", reason, "stack", panicked.Stack())
	case p.context.started:
		p.sys.log.Info("process_crashed", "part", "process", "process", p, "err", reason)
	}
}

// enter marks callbacks as running; false means that the process is dead and must not run one.
func (p *PID) enter() bool {
	for {
		old := p.state.Load()
		if old&dead != 0 {
			return false
		}
		if p.state.CompareAndSwap(old, old|running) {
			return true
		}
	}
}

// leave ends the mark, and the lingering of a process that was killed meanwhile.
func (p *PID) leave() {
	for {
		old := p.state.Load()
		if !p.state.CompareAndSwap(old, old&^(running|lingering)) {
			continue
		}
		if old&lingering != 0 {
			// Whoever killed p counts it before he gives up the lock.
			p.mu.Lock()
			p.forget()
			p.mu.Unlock()
			p.sys.linger(-1)
		}
		return
	}
}

// forget drops what a dead process worked with. Called with p.mu held, when its callbacks have ended.
func (p *PID) forget() { p.impl, p.context.later = nil, nil }
