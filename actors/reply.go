package actors

// lastWord is an answer that waits for the end of its process.
type lastWord struct {
	from  From
	value any
}

// ReplyLast answers a call when this process has ended its work, as OTP's {stop, Reason, Reply, State}: Terminate runs,
// then the answer is sent, then the process exits. It is for a HandleCall that goes on to return the exit reason: whoever
// gets the answer knows that Terminate has run, but the process may still be alive for a moment and hold its name. The
// answer is sent even if Terminate crashes. If the process goes on instead, the caller waits until it ends; if it is
// killed or dies of an exit signal, the caller gets that reason. Several answers are sent in their order.
func (c *Context) ReplyLast(from From, v any) {
	l := c.forLater()
	l.replies = append(l.replies, lastWord{from, v})
}

// replyLast sends what ReplyLast kept. It changes nothing if the process has been killed meanwhile; the calls may be
// another one's.
func (p *PID) replyLast() {
	if p.context.later == nil || !p.Alive() {
		return
	}
	for _, w := range p.context.later.replies {
		w.from.Reply(w.value)
	}
}
