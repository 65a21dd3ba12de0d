package actors

import "runtime"

// This package's own messages are boot, *stopOrder, *monitor (its Down), *exitSignal, *timer, *request (its
// Response), *debugRequest and helperCrash.

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
	var inHand *item // what a crash report is to say
	returned := false
	defer func() {
		if !returned {
			reason = crash(recover())
		}
		if reason != nil {
			p.end(reason, inHand)
		} else {
			p.leave()
		}
	}()
	c := &p.context
	throughput := p.sys.dispatcher.Throughput()
	for batch := p.inbox.take(nil); len(batch) > 0; batch = p.inbox.take(batch) {
		for n := 0; n < len(batch) && p.Alive(); n++ {
			it := &batch[n]
			inHand = it
			if it.kind != ours {
				c.interrupt()
			}
			switch it.kind {
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
			if reason != nil {
				returned = true
				return
			}
			if throughput--; throughput <= 0 {
				throughput = p.sys.dispatcher.Throughput()
				runtime.Gosched()
			}
		}
	}
	if c.later != nil {
		c.later.idle.arm(c)
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
	case *exitSignal:
		if m.from != nil && m.from == p.parent.Load() {
			return p.told(m.reason)
		}
	case *timer:
		if !m.claim() {
			return nil
		}
	case *stopOrder:
		return p.told(m.reason)
	case *debugRequest:
		p.handleDebug(m)
		return nil
	case helperCrash:
		return m.reason
	case boot:
		return p.boot()
	}
	c.interrupt()
	return p.impl.HandleInfo(c, m.(informing).info())
}

// informing is one of this package's own messages that HandleInfo gets in another form.
type informing interface{ info() any }

func (m *monitor) info() any    { return Down{Ref: Ref{m}, PID: m.target, Reason: m.reason} }
func (s *exitSignal) info() any { return Exit{PID: s.from, Reason: s.reason} }
func (t *timer) info() any      { return t.msg }
func (r *request) info() any    { return Response{Tag: r.tag, Value: r.value, Err: r.err} }

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
		p.context.interrupt()
		return d.HandleStop(&p.context, reason)
	}
	return reason
}

// end runs Terminate, if the process got as far as to need it and is not dead, sends the last replies, and exits.
// The message in hand is nil if the crash was in none.
func (p *PID) end(reason error, inHand *item) {
	returned := false
	defer func() {
		if !returned {
			reason = crash(recover())
		}
		// A log handler is foreign code too.
		defer p.exit(reason)
		defer p.leave()
		defer p.replyLast()
		p.report(reason, inHand)
	}()
	if p.context.started && p.Alive() {
		p.impl.Terminate(&p.context, reason)
	}
	returned = true
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
