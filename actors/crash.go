package actors

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
)

// report logs a crash, in one line:
//
//	process   the process
//	kind      its kind, if it has one
//	err       the exit reason
//	type      the type of the last message, if the process crashed in one
//	caller    who called, if that was a call
//	message   that message, and
//	state     the state, but only what they show of themselves: see [StatusFormatter]
//	stack     where it panicked
//	lingering whether it was dead before, and panicked all the same
//
// A start that fails is told to the starter, so of those only panics are logged; and of what happens after a death.
func (p *PID) report(reason error, inHand *item) {
	if IsNormal(reason) {
		return
	}
	var panicked *PanicError
	level := slog.LevelInfo
	switch {
	case errors.As(reason, &panicked):
		level = slog.LevelWarn
	case !p.context.started, !p.Alive():
		return
	}
	if !p.sys.log.Enabled(context.Background(), level) {
		return
	}
	msg, asked := p.lastMessage(inHand)
	s := p.status(msg, reason)
	s.format(p.impl)
	attrs := make([]slog.Attr, 0, 10)
	attrs = append(attrs, slog.String("part", "process"), slog.Any("process", p))
	if p.kind != "" {
		attrs = append(attrs, slog.String("kind", p.kind))
	}
	switch {
	case s.Err != nil:
		attrs = append(attrs, slog.Any("err", s.Err), slog.String("reason_type", fmt.Sprintf("%T", reason)))
	case s.Reason != nil:
		attrs = append(attrs, slog.Any("err", s.Reason))
	}
	if msg != nil {
		attrs = append(attrs, typeAttr(msg))
	}
	if asked != nil && asked.from != nil {
		attrs = append(attrs, slog.Any("caller", asked.from))
	} else if asked != nil {
		attrs = append(attrs, slog.String("caller", "goroutine"))
	}
	if s.Message != nil {
		attrs = append(attrs, slog.Any("message", s.Message))
	}
	if s.State != nil {
		attrs = append(attrs, slog.Any("state", s.State))
	}
	if panicked != nil {
		attrs = append(attrs, slog.String("stack", panicked.Stack()))
	}
	if !p.Alive() {
		attrs = append(attrs, slog.Bool("lingering", true))
	}
	p.sys.log.LogAttrs(context.Background(), level, "process_crashed", attrs...)
}

// lastMessage returns the message in hand as the callback got it, and the call if it came by one.
func (p *PID) lastMessage(inHand *item) (msg any, asked *call) {
	if l := p.context.later; l != nil && l.inHand {
		return l.msg, nil
	}
	if inHand == nil {
		return nil, nil
	}
	switch m := inHand.msg.(type) {
	case *call:
		if inHand.kind == called {
			return m.msg, m
		}
	case informing:
		if inHand.kind == ours {
			return m.info(), nil
		}
	}
	if inHand.kind == ours {
		return nil, nil
	}
	return inHand.msg, nil
}
