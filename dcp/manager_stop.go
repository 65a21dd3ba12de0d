package dcp

import (
	"context"
	"errors"
	"slices"

	"github.com/shearpin/shearpin/actors"
	"github.com/shearpin/shearpin/supervisor"
)

// shutting is the planned stop of everything.
type shutting struct {
	callers []actors.From
	open    int
	errs    []error
}

// stopLink closes the link's streams and then terminates it, without holding up the manager.
func (p *managerProcess) stopLink(c *actors.Context, key linkKey) {
	l, ok := p.running[key]
	if !ok || l.stopping {
		return
	}
	l.stopping = true
	c.Demonitor(l.ref)
	limit := p.opts.Limits.Close
	c.Go(func(ctx context.Context) any {
		ctx, cancel := context.WithTimeout(ctx, 2*limit)
		defer cancel()
		_, err := l.env.replicator.Load().Call(ctx, shutRequest{limit: limit})
		terminated := supervisor.TerminateChild(ctx, p.links, l.env.link.Name())
		return linkStopped{key: key, err: errors.Join(err, terminated)}
	})
}

// stopped forgets a link that has stopped, or starts it anew if it was needed meanwhile.
func (p *managerProcess) stopped(c *actors.Context, msg linkStopped) {
	l := p.running[msg.key]
	delete(p.running, msg.key)
	p.log.Info("link_stopped", "producer", msg.key.producer, "conn", msg.key.conn, "err", msg.err)
	if p.shut != nil {
		for _, call := range l.held {
			p.machine.linkAnswered(call.id, nil, p.machine.linkOf(msg.key).wrap(ErrShut), 0, c.Clock().Now())
		}
		p.shut.open--
		p.shut.errs = append(p.shut.errs, p.machine.linkOf(msg.key).wrap(msg.err))
		p.answerShut()
		return
	}
	if l == nil || !l.again {
		return
	}
	p.startLink(c, msg.key)
	for _, call := range l.held {
		p.callLink(c, call)
	}
}

func (p *managerProcess) shutAll(c *actors.Context, from actors.From) {
	if p.shut == nil {
		p.shut = &shutting{}
		for _, key := range p.machine.sortedLinks() {
			p.stopLink(c, key)
		}
		p.shut.open = len(p.running)
	}
	p.shut.callers = append(p.shut.callers, from)
	p.answerShut()
}

func (p *managerProcess) answerShut() {
	if p.shut.open > 0 {
		return
	}
	err := errors.Join(slices.Clone(p.shut.errs)...)
	for _, from := range p.shut.callers {
		if err != nil {
			from.Fail(err)
		} else {
			from.Reply(nil)
		}
	}
	p.shut.callers = nil
}
