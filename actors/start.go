package actors

import (
	"context"
	"sync/atomic"
	"time"
)

// DefaultInitTimeout is how long a start waits for Init if neither WithInitTimeout nor the process says otherwise.
const DefaultInitTimeout = time.Minute

// NoInitTimeout lets Init take as long as it needs. It is meant for processes whose Init only waits for things that have
// bounds of their own.
const NoInitTimeout time.Duration = -1

// InitTimeouter is implemented by a process that knows how long its Init may take. WithInitTimeout overrides it.
type InitTimeouter interface{ InitTimeout() time.Duration }

// StartOption changes how a process is started.
type StartOption func(*startOptions)

type startOptions struct {
	name, kind  string
	initTimeout time.Duration
}

// WithName registers the process under a name. The start fails with *AlreadyStartedError while a living process of the
// system holds it. "" registers nothing.
func WithName(name string) StartOption { return func(o *startOptions) { o.name = name } }

// WithKind says in listings, logs and errors what sort of process this is.
func WithKind(kind string) StartOption { return func(o *startOptions) { o.kind = kind } }

// WithInitTimeout bounds Init; when it is over the process is killed and the start fails with ErrInitTimeout. Zero means
// the default.
func WithInitTimeout(d time.Duration) StartOption { return func(o *startOptions) { o.initTimeout = d } }

// Start starts a process that is linked to nobody. It returns when Init has returned: the process, or the error that Init
// returned, *PanicError or ErrGoexit if it crashed, ErrIgnore, ErrInitTimeout, *AlreadyStartedError, ErrSystemClosed,
// Killed or another reason if an exit signal ended it, or a *WaitError if ctx ended; ctx matters only until Start
// returns. A start that fails leaves no trace: its name is free when Start returns.
func (s *System) Start(ctx context.Context, impl Process, opts ...StartOption) (*PID, error) {
	return s.start(ctx, nil, nil, impl, opts)
}

// Start is System.Start on behalf of this process, which waits until the other one's Init has returned. The two are not
// linked. If this process dies while it waits, the other is killed.
func (c *Context) Start(impl Process, opts ...StartOption) (*PID, error) {
	if !c.self.Alive() {
		return nil, c.self.reason
	}
	return c.start(nil, impl, opts)
}

// StartLink is Start with a link that is there before the new process is, so that no death can be missed. This process
// is the new one's parent. A start that fails is told by the error alone: no Exit arrives and this process does not die.
func (c *Context) StartLink(impl Process, opts ...StartOption) (*PID, error) {
	return c.self.sys.start(c.Ctx(), c.self, nil, impl, opts)
}

// StartMonitor is Start with a monitor that is there before the new process is, so that no death can be missed: once it
// has started, exactly one Down with the Ref tells what it died of, never NoProcess. A start that fails is told by the
// error alone: no Down arrives, and the Ref is zero.
func (c *Context) StartMonitor(impl Process, opts ...StartOption) (*PID, Ref, error) {
	m := &monitor{owner: c.self}
	pid, err := c.start(m, impl, opts)
	if err != nil {
		c.Demonitor(Ref{m})
		return nil, Ref{}, err
	}
	return pid, Ref{m}, nil
}

// start starts a process that is not linked to this one.
func (c *Context) start(m *monitor, impl Process, opts []StartOption) (*PID, error) {
	pid, err := c.self.sys.start(c.Ctx(), nil, m, impl, opts)
	if err == nil && !c.self.Alive() {
		// The start and the death were decided at the same moment.
		pid.Kill()
		return nil, &WaitError{"start", pid, c.self.reason}
	}
	return pid, err
}

// start starts a process with a link to a parent, or with a monitor whose owner is set, or with neither.
func (s *System) start(ctx context.Context, parent *PID, m *monitor, impl Process, opts []StartOption) (*PID, error) {
	var o startOptions
	if t, ok := impl.(InitTimeouter); ok {
		o.initTimeout = t.InitTimeout()
	}
	for _, opt := range opts {
		opt(&o)
	}
	if o.initTimeout == 0 {
		o.initTimeout = DefaultInitTimeout
	}

	decided := make(chan error, 1)
	p := &PID{sys: s, id: s.lastID.Add(1), name: o.name, kind: o.kind, impl: impl, starter: decided}
	p.parent.Store(parent)
	p.context.self = p
	s.attach(p)
	if err := p.tieToStarter(m); err != nil {
		s.detach(p)
		return nil, err
	}
	if err := s.enrol(p); err != nil {
		p.exit(err)
		return nil, err
	}

	var late atomic.Bool
	if o.initTimeout > 0 {
		defer s.clock.AfterFunc(o.initTimeout, func() {
			late.Store(true)
			p.abortStart()
		}).Stop()
	}
	var err error
	select {
	case err = <-decided:
	case <-ctx.Done():
		p.abortStart()
		if err = <-decided; err == Killed {
			err = &WaitError{"start", p, context.Cause(ctx)}
		}
	}
	if s.resumer != nil {
		s.resumed(waiterOf(ctx))
	}
	switch {
	case err == nil:
		return p, nil
	case err == Killed && late.Load():
		return nil, ErrInitTimeout
	default:
		return nil, err
	}
}

// tieToStarter links or monitors a process that nobody knows yet. It fails if who wants that is dead.
func (p *PID) tieToStarter(m *monitor) error {
	starter := p.parent.Load()
	if m != nil {
		starter = m.owner
	}
	if starter == nil {
		return nil
	}
	starter.mu.Lock()
	defer starter.mu.Unlock()
	if !starter.Alive() {
		return starter.reason
	}
	// p's own lock is not needed, and could not be waited for, because nobody else can have it.
	if m != nil {
		m.set(p)
	} else {
		tie(starter, p)
	}
	return nil
}

// decideStart tells the starter the outcome, once, and reports whether it was this call.
func (p *PID) decideStart(err error) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.starter == nil || (err == nil && !p.Alive()) {
		return false
	}
	p.starter <- err
	p.starter = nil
	return true
}

// abortStart kills p if its start is still undecided.
func (p *PID) abortStart() {
	p.mu.Lock()
	marked := p.starter != nil && p.markDead(Killed)
	p.mu.Unlock()
	if marked {
		bury(p)
	}
}
