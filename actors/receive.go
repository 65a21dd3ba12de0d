package actors

import "errors"

// What a mailbox holds, apart from users' plain messages, is one of: boot, cast, plain, *call, *stopOrder, *monitor (its
// Down), *exitSignal, *timer, *request (its Response), helperCrash.

// boot is the first message of every process.
type boot struct{}

// cast is a message for HandleCast.
type cast struct{ msg any }

// stopOrder is a message of Stop.
type stopOrder struct{ reason error }

// helperCrash reports that a goroutine started by Go panicked.
type helperCrash struct{ reason error }

// receive handles one message. The mailbox calls it from one goroutine at a time.
func (p *PID) receive(m any) {
	if !p.enter() {
		return
	}
	returned := false
	defer func() {
		if !returned {
			p.end(crash(recover()))
		}
	}()
	reason := p.handle(m)
	for reason == nil && len(p.context.continued) > 0 && p.Alive() {
		msg := p.context.continued[0]
		p.context.continued = p.context.continued[1:]
		reason = p.impl.HandleInfo(&p.context, msg)
	}
	returned = true
	if reason == nil {
		p.leave()
		return
	}
	p.end(reason)
}

// handle gives a message to its callback.
func (p *PID) handle(m any) error {
	c := &p.context
	switch m := m.(type) {
	case *call:
		return p.impl.HandleCall(c, From{m}, m.msg)
	case cast:
		return p.impl.HandleCast(c, m.msg)
	case *monitor:
		if m.dropped {
			return nil
		}
		return p.impl.HandleInfo(c, Down{Ref: Ref{m}, PID: m.target, Reason: m.reason})
	case *exitSignal:
		if m.from == p.parent {
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
	case helperCrash:
		return m.reason
	case *stopOrder:
		return p.told(m.reason)
	case boot:
		return p.boot()
	case plain:
		return p.impl.HandleInfo(c, m.msg)
	default:
		return p.impl.HandleInfo(c, m)
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

// end runs Terminate, if the process got as far as to need it and is not dead, and exits.
func (p *PID) end(reason error) {
	returned := false
	defer func() {
		if !returned {
			reason = crash(recover())
		}
		p.report(reason)
		p.leave()
		p.exit(reason)
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

// enter marks a callback as running; false means that the process is dead and must not run one.
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
			p.impl = nil
			p.mu.Unlock()
			p.sys.linger(-1)
		}
		return
	}
}
