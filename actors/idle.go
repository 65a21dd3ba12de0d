package actors

import "time"

// idle is a message that comes if nothing else does.
type idle struct {
	set   bool
	d     time.Duration
	msg   any
	timer Timer // armed when the process comes to rest
}

// SetIdleTimeout gives msg to HandleInfo if this process handles nothing else for d, counted from the moment at which it
// has nothing to do: OTP's {timeout, Time, Message}. The next callback cancels it, whatever that handles and however it
// came, even if msg is in the mailbox by then; a handler that wants it again sets it again. With d <= 0, msg comes before
// what is in the mailbox, as with Continue, unless a message that was given to Continue comes first and cancels it. A
// second call replaces the first. [GetStatus], [Inspect] and [Replace] are no callbacks and leave it alone.
func (c *Context) SetIdleTimeout(d time.Duration, msg any) {
	l := c.forLater()
	l.idle.cancel()
	l.idle = idle{set: true, d: d, msg: msg}
}

// cancel is the beginning of a callback.
func (i *idle) cancel() {
	if i.set {
		i.timer.Stop()
		*i = idle{}
	}
}

// arm is the moment at which the process comes to rest.
func (i *idle) arm(c *Context) {
	if i.set && i.timer == (Timer{}) {
		i.timer = c.SendAfter(i.d, i.msg)
	}
}
