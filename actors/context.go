package actors

import (
	"context"
	"log/slog"
)

// Context is what a process acts with: everything it does through it is done in its name. It is valid inside the
// callbacks of its process only. From the moment the process is dead, which a callback that is still running may not know
// yet, all of it does nothing: what was sent before that moment arrives, and nothing sent after it reaches anybody.
type Context struct {
	self    *PID
	log     *slog.Logger
	later   *later // made when a callback leaves something
	started bool
}

// Self returns the process.
func (c *Context) Self() *PID { return c.self }

// System returns the system the process belongs to.
func (c *Context) System() *System { return c.self.sys }

// Clock returns the system's clock.
func (c *Context) Clock() Clock { return c.self.sys.clock }

// Log returns the system's logger with the process' name.
func (c *Context) Log() *slog.Logger {
	if c.log == nil {
		c.log = c.self.sys.log.With("process", c.self)
	}
	return c.log
}

// Ctx returns the context that ends when the process dies; context.Cause gives the exit reason. Blocking work inside a
// callback hangs on it. It carries the identity of the process: a call made with it, or with a context derived from it,
// is a call of this process, and refused if it goes to the process itself. Goroutines that do not wait for the callback
// to return should be started by Go and use the context that they are given.
func (c *Context) Ctx() context.Context { return identity{c.self.lifetime(), c.self} }

// identity is a process' lifetime that knows whose it is.
type identity struct {
	context.Context
	p *PID
}

type identityKey struct{}

func (i identity) Value(key any) any {
	if key == (identityKey{}) {
		return i.p
	}
	return i.Context.Value(key)
}

// callerOf returns the process in whose callback ctx was made, or nil.
func callerOf(ctx context.Context) *PID {
	p, _ := ctx.Value(identityKey{}).(*PID)
	return p
}

// Send puts a plain message into the mailbox of pid.
func (c *Context) Send(pid *PID, msg any) { c.self.fenced(pid, plain, msg) }

// Cast puts a message for HandleCast into the mailbox of pid.
func (c *Context) Cast(pid *PID, msg any) { c.self.fenced(pid, casted, msg) }

// fenced posts to another process if p is alive, as one step.
func (p *PID) fenced(to *PID, k kind, msg any) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.Alive() {
		return false
	}
	to.post(k, msg)
	return true
}

// Call is PID.Call on behalf of this process. It also returns when this process dies.
func (c *Context) Call(ctx context.Context, pid *PID, msg any) (any, error) {
	k := newCall(c.self, pid, msg)
	return k.exchange(ctx, called, k)
}

// Exit sends an exit signal, as PID.Exit, on behalf of this process. To itself, any reason but Killed is a message if it
// traps exits, and ends it if not.
func (c *Context) Exit(pid *PID, reason error) { signal(c.self, pid, reason) }

// TrapExits turns exit signals into Exit messages. Only Killed, sent as a signal, still ends the process; a signal of the
// parent still ends it too, but in its turn and with Terminate.
func (c *Context) TrapExits() {
	p := c.self
	p.mu.Lock()
	defer p.mu.Unlock()
	p.state.Or(trapping)
}
