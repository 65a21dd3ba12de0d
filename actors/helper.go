package actors

import "context"

// Go runs fn in a goroutine that belongs to this process, for work that blocks. What fn returns, unless nil, arrives in
// HandleInfo as it is. A panic in fn, or runtime.Goexit, ends the process, with Terminate, when its turn in the mailbox
// comes. The ctx that fn is given ends when the process dies; fn must return soon after that, and counts as lingering
// until it does.
//
// fn runs beside the callbacks: it must not touch their state or their Context. It may use PIDs; a call to its own
// process is allowed.
func (c *Context) Go(fn func(ctx context.Context) any) {
	p := c.self
	ctx := p.lifetime()
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.Alive() {
		p.helpers++
		p.assist(ctx, fn)
	}
}

func (p *PID) help(ctx context.Context, fn func(ctx context.Context) any) {
	returned := false
	defer func() {
		if !returned {
			p.post(ours, helperCrash{crash(recover())})
		}
		p.mu.Lock()
		p.helpers--
		outlived := !p.Alive()
		p.mu.Unlock()
		if outlived {
			p.sys.linger(-1)
		}
	}()
	if v := fn(ctx); v != nil {
		p.post(plain, v)
	}
	returned = true
}
