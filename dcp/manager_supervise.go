package dcp

import (
	"context"
	"errors"
	"time"

	"github.com/shearpin/shearpin/actors"
	"github.com/shearpin/shearpin/supervisor"
)

// runningLink is a link's supervisor while it lives, or is being started or stopped.
type runningLink struct {
	env      *linkEnv
	ref      actors.Ref
	stopping bool
}

// Outcomes of what a goroutine has asked the replication supervisor for.
type (
	linkLaunched struct {
		env *linkEnv
		sup *actors.PID
		err error
	}
	linkTerminated struct {
		env *linkEnv
		err error
	}
)

// startLink starts the link's supervisor beside the mailbox: the replication supervisor may be waiting for another link to
// end.
func (p *managerProcess) startLink(c *actors.Context, key linkKey) {
	if p.heard[key] == nil {
		p.heard[key] = &hearing{}
	}
	env := &linkEnv{
		link:      p.machine.linkOf(key),
		limits:    p.opts.Limits,
		endpoints: p.opts.Endpoints,
		log:       p.opts.Log,
		events:    p.opts.Events,
		tree:      p.opts.SupervisorEvents,
		manager:   c.Self(),
		jitter:    p.opts.Jitter,
		heard:     p.heard[key],
		meter:     p.opts.metrics.link(key),
		carriage:  p.opts.carriage,
	}
	env.meter.starts()
	p.running[key] = &runningLink{env: env}
	limit := p.opts.Limits.Connect
	c.Go(func(ctx context.Context) any {
		sup, err := within(ctx, limit, func(ctx context.Context) (*actors.PID, error) {
			return supervisor.StartChild(ctx, p.links, linkChild(env))
		})
		if err != nil {
			// It may be there all the same, or an earlier one of its name still be.
			_, _ = within(ctx, limit, func(ctx context.Context) (any, error) {
				return nil, supervisor.TerminateChild(ctx, p.links, env.link.Name())
			})
		}
		return linkLaunched{env: env, sup: sup, err: err}
	})
}

func within[T any](ctx context.Context, limit time.Duration, f func(context.Context) (T, error)) (T, error) {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	return f(ctx)
}

// launched is the outcome of a start. The link may have sent news before it, and even been stopped.
func (p *managerProcess) launched(c *actors.Context, msg linkLaunched, now time.Time) {
	key := keyOf(msg.env.link)
	l, ok := p.running[key]
	if !ok || l.env != msg.env || l.stopping {
		return
	}
	if msg.err != nil {
		delete(p.running, key)
		p.machine.linkGone(key, msg.err, now)
		return
	}
	l.ref = c.Monitor(msg.sup)
	p.machine.linkStarted(key)
}

// stopLink closes the link's streams and then terminates it, beside the mailbox.
func (p *managerProcess) stopLink(c *actors.Context, key linkKey) {
	l := p.running[key]
	l.stopping = true
	c.Demonitor(l.ref)
	limit := p.opts.Limits.Close
	c.Go(func(ctx context.Context) any {
		ctx, cancel := context.WithTimeout(ctx, 2*limit)
		defer cancel()
		_, err := l.env.replicator.Load().Call(ctx, shutRequest{limit: limit})
		terminated := supervisor.TerminateChild(ctx, p.links, l.env.link.Name())
		return linkTerminated{env: l.env, err: errors.Join(err, terminated)}
	})
}

func (p *managerProcess) terminated(msg linkTerminated, now time.Time) {
	key := keyOf(msg.env.link)
	delete(p.running, key)
	p.log.Info("link_stopped", "producer", key.producer, "conn", key.conn, "err", msg.err)
	p.machine.linkStopped(key, msg.err, now)
}

// linkDown is the end of a link's supervisor that we did not ask for.
func (p *managerProcess) linkDown(down actors.Down, now time.Time) {
	for key, l := range p.running {
		if l.ref == down.Ref {
			delete(p.running, key)
			p.machine.linkGone(key, down.Reason, now)
			return
		}
	}
}
