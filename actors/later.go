package actors

// later holds what the callbacks of a process leave for the time after them. Most processes leave nothing, so it is made
// when it is needed, and costs the others a look or two per message. It belongs to the goroutine that runs the callbacks.
type later struct {
	continued []any      // given to Continue
	idle      idle       // given to SetIdleTimeout
	replies   []lastWord // given to ReplyLast

	// inHand says that msg, which was left for later, is being handled.
	inHand bool
	msg    any
}

// forLater returns what c keeps things in.
func (c *Context) forLater() *later {
	if c.later == nil {
		c.later = &later{}
	}
	return c.later
}

// Continue puts a message before everything in the mailbox: it is given to HandleInfo when the current callback has
// returned nil. Several are handled in their order.
func (c *Context) Continue(msg any) {
	l := c.forLater()
	l.continued = append(l.continued, msg)
}

// next takes out what comes before everything in the mailbox.
func (l *later) next() (msg any, ok bool) {
	switch {
	case len(l.continued) > 0:
		msg = l.continued[0]
		if l.continued = l.continued[1:]; len(l.continued) == 0 {
			l.continued = nil
		}
	case l.idle.set && l.idle.d <= 0:
		msg = l.idle.msg
	default:
		return nil, false
	}
	l.idle.cancel()
	return msg, true
}

// handleLater handles what callbacks have left to come before the mailbox, and what handling that leaves.
func (p *PID) handleLater() error {
	c := &p.context
	for p.Alive() {
		l := c.later
		msg, ok := l.next()
		if !ok {
			break
		}
		l.inHand, l.msg = true, msg
		if err := p.impl.HandleInfo(c, msg); err != nil {
			return err
		}
		l.inHand, l.msg = false, nil
	}
	return nil
}

// interrupt is called before a callback that handles a message from the mailbox.
func (c *Context) interrupt() {
	if c.later != nil {
		c.later.idle.cancel()
	}
}
