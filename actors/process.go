package actors

import "log/slog"

// Process is what a user writes: the callbacks of an OTP gen_server. The callbacks of one process never run at the same
// time, and each sees the effects of those before it, so a process needs no locks for its own state.
//
// A callback that returns nil lets the process go on. A callback that returns an error ends it: Terminate is called with
// that error and the process exits with it as reason ([Normal] for an end without a fault). A callback that panics or
// calls runtime.Goexit ends the process in the same way, with a [*PanicError] or [ErrGoexit].
//
// The Context is the same in every callback, and valid only inside of them.
type Process interface {
	// Init runs first, in the new process. The start returns when Init has returned. An error makes the start fail
	// with it (ErrIgnore: the process is not needed); Terminate is not called then, and the name is free again when
	// the start returns.
	Init(c *Context) error
	// HandleCall handles a Call, Request or SendRequest. It answers with from.Reply or from.Fail, now or later, with
	// Context.ReplyLast if it ends by it, or lets another process or goroutine answer. A caller that is never answered
	// waits until its deadline or this process' death.
	HandleCall(c *Context, from From, msg any) error
	// HandleCast handles a Cast.
	HandleCast(c *Context, msg any) error
	// HandleInfo handles everything else: plain messages, Down, Exit (when trapping), timers, the results of Go and
	// Request, and what Continue and SetIdleTimeout were given.
	HandleInfo(c *Context, msg any) error
	// Terminate runs last, when the process ends by a returned error or a panic, by Stop, or by its parent's exit
	// while trapping exits. It does not run in a process that is killed, or that dies of an exit signal it does not
	// trap. A panic in Terminate replaces the reason.
	Terminate(c *Context, reason error)
}

// Drainer is implemented by a process that cannot end at once because others have to end before it, as a supervisor's
// children do. HandleStop is called when the process is told to end, by Stop or by its parent's exit while trapping. The
// process goes on handling messages, and ends when a callback returns the reason.
type Drainer interface {
	HandleStop(c *Context, reason error) error
}

// Base is embedded by a process that does not need all callbacks.
type Base struct{}

// Init does nothing.
func (Base) Init(*Context) error { return nil }

// HandleCall answers with ErrUnexpectedCall.
func (Base) HandleCall(_ *Context, from From, _ any) error {
	from.Fail(ErrUnexpectedCall)
	return nil
}

// HandleCast logs the message's type at warn level and goes on.
func (Base) HandleCast(c *Context, msg any) error {
	c.Log().Warn("unexpected_cast", slog.String("part", "process"), typeAttr(msg))
	return nil
}

// HandleInfo logs the message's type at warn level and goes on.
func (Base) HandleInfo(c *Context, msg any) error {
	c.Log().Warn("unexpected_message", slog.String("part", "process"), typeAttr(msg))
	return nil
}

// Terminate does nothing.
func (Base) Terminate(*Context, error) {}

// Down tells a process that a process it monitors has died, or was dead when the monitor was set (NoProcess). It arrives
// in HandleInfo, once per monitor, after everything that the dead process had sent to this one.
type Down struct {
	Ref    Ref
	PID    *PID
	Reason error
}

// Exit tells a process that traps exits that a linked process has died, or that an exit signal was sent to it. PID is nil
// if a plain goroutine sent the signal. It arrives in HandleInfo, in the order of the messages of that sender.
type Exit struct {
	PID    *PID
	Reason error
}

// Response is the outcome of a [Context.Request]; exactly one arrives in HandleInfo. Err is what the callee failed the
// request with, the reason of its death, or a *WaitError that wraps context.DeadlineExceeded.
type Response struct {
	Tag   any
	Value any
	Err   error
}
