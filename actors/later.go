package actors

// later holds what the callbacks of a process leave for the time after them. Most processes leave nothing, so it is made
// when it is needed, and costs the others one look per message. It belongs to the goroutine that runs the callbacks.
type later struct {
	continued []any      // given to Continue
	replies   []lastWord // given to ReplyLast
}

// forLater returns what c keeps things in.
func (c *Context) forLater() *later {
	if c.later == nil {
		c.later = &later{}
	}
	return c.later
}

// next takes out what comes before everything in the mailbox.
func (l *later) next() (msg any, ok bool) {
	if len(l.continued) == 0 {
		return nil, false
	}
	msg = l.continued[0]
	if l.continued = l.continued[1:]; len(l.continued) == 0 {
		l.continued = nil
	}
	return msg, true
}

// handleLater handles what callbacks have left to come before the mailbox, and what handling that leaves.
func (p *PID) handleLater() (reason error) {
	c := &p.context
	for reason == nil && p.Alive() {
		msg, ok := c.later.next()
		if !ok {
			break
		}
		reason = p.impl.HandleInfo(c, msg)
	}
	return reason
}

// Continue puts a message before everything in the mailbox: it is given to HandleInfo when the current callback has
// returned nil. Several are handled in their order.
func (c *Context) Continue(msg any) {
	l := c.forLater()
	l.continued = append(l.continued, msg)
}
