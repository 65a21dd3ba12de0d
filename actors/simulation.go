package actors

import "context"

// Resumer is implemented by a Dispatcher that decides who runs, one at a time, as a simulation does. Whoever has waited in
// this package, for the answer of a call or the start of a process, calls Resume before it goes on, and goes on when Resume
// returns. who is the same whenever the same program runs in the same order: it tells processes and functions started by
// [Context.Go] apart, and is 0 for a plain goroutine. Under such a dispatcher the functions of Go are scheduled too.
//
// Waits of other kinds inside of a callback are reported by [Context.Resumed]. actortest.Simulation is such a dispatcher.
type Resumer interface {
	Dispatcher
	Resume(who uint64)
}

// Resumed is called by a callback that has waited for something by its own means, before it goes on. It matters only to a
// [Resumer]; under any other dispatcher it does nothing.
func (c *Context) Resumed() { c.self.sys.resumed(c.self.id) }

// resumed is called by whoever has waited for a process of s.
func (s *System) resumed(who uint64) {
	if s != nil && s.resumer != nil {
		s.resumer.Resume(who)
	}
}

// helperID is the context of a function started by Go, which tells who it is.
type helperID struct {
	context.Context
	id uint64
}

type helperKey struct{}

func (h helperID) Value(key any) any {
	if key == (helperKey{}) {
		return h.id
	}
	return h.Context.Value(key)
}

// waiterOf tells who waits with a context.
func waiterOf(ctx context.Context) uint64 {
	if p := callerOf(ctx); p != nil {
		return p.id
	}
	id, _ := ctx.Value(helperKey{}).(uint64)
	return id
}

// assist runs a function of Go in a goroutine of its own, when its turn comes.
func (p *PID) assist(ctx context.Context, fn func(ctx context.Context) any) {
	if p.sys.resumer == nil {
		go p.help(ctx, fn)
		return
	}
	h := helperID{ctx, p.sys.lastID.Add(1)}
	p.sys.dispatcher.Schedule(func() { p.help(h, fn) }) //nolint:contextcheck // h is ctx, and tells who waits
}
