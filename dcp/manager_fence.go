package dcp

import (
	"context"
	"fmt"
	"log/slog"
	"strings"
	"time"

	"github.com/shearpin/shearpin/actors"
	"github.com/shearpin/shearpin/dcp/kv"
)

func (p *managerProcess) resetLink(c *actors.Context, key linkKey) {
	if l, ok := p.running[key]; ok && !l.stopping {
		p.log.Info("link_reset", "producer", key.producer, "conn", key.conn)
		c.Request(l.env.replicator.Load(), p.fenceLimit(), fenceRequest{}, fenceTag{})
	}
}

// fenceLimit covers a whole handshake and the pause before it.
func (p *managerProcess) fenceLimit() time.Duration { return 6*p.opts.Limits.Connect + lastRetry }

// fence ends whatever connection of that name the consumer's engine has.
func (p *managerProcess) fence(c *actors.Context, from actors.From, msg fenceVBucket) {
	key := p.machine.key(msg.producer, msg.vb)
	if l, ok := p.running[key]; ok && !l.stopping {
		c.Request(l.env.replicator.Load(), p.fenceLimit(), fenceRequest{}, fenceTag{from: &from})
		return
	}
	name := p.machine.linkOf(key).Name()
	p.atConsumer(c, func(ctx context.Context, endpoint kv.Endpoint) any {
		return fenceDone{from: from, err: kv.Nuke(ctx, endpoint, p.opts.Bucket, name)}
	}, func(err error) any { return fenceDone{from: from, err: err} })
}

// Outcomes of fences that a goroutine has seen to.
type (
	takeoverFenced struct {
		key   linkKey
		after uint64
		err   error
	}
	leftoversNuked struct{ err error }
)

// fenceTakeover waits until the link's consumer has been opened again, or opens it where there is no link.
func (p *managerProcess) fenceTakeover(c *actors.Context, e fenceTakeover) {
	if l, ok := p.running[e.key]; ok && !l.stopping {
		c.Request(l.env.replicator.Load(), p.fenceLimit(), fenceAfter{incarnation: e.after}, e)
		return
	}
	name := p.machine.linkOf(e.key).Name()
	p.atConsumer(c, func(ctx context.Context, endpoint kv.Endpoint) any {
		return takeoverFenced{key: e.key, after: e.after, err: kv.Nuke(ctx, endpoint, p.opts.Bucket, name)}
	}, func(err error) any { return takeoverFenced{key: e.key, after: e.after, err: err} })
}

// nukeLeftovers opens and closes a connection under the name of every replication that the consumer's engine has. It is
// done before this manager has made any of its own.
func (p *managerProcess) nukeLeftovers(c *actors.Context) {
	p.atConsumer(c, func(ctx context.Context, endpoint kv.Endpoint) any {
		return leftoversNuked{err: nukeAll(ctx, endpoint, p.opts.Bucket, p.log)}
	}, func(err error) any { return leftoversNuked{err: err} })
}

func nukeAll(ctx context.Context, endpoint kv.Endpoint, bucket string, log *slog.Logger) error {
	client, err := kv.Connect(ctx, endpoint, bucket)
	if err != nil {
		return err
	}
	defer client.Close()
	connections, err := client.DCPConnections(ctx)
	if err != nil {
		return err
	}
	for _, connection := range connections {
		if connection.Type != RoleConsumer || !strings.HasPrefix(connection.Name, namePrefix) {
			continue
		}
		if err := kv.Nuke(ctx, endpoint, bucket, connection.Name); err != nil {
			return err
		}
		log.Info("leftover_nuked", "name", connection.Name)
	}
	return nil
}

// atConsumer runs f beside the mailbox, with the consumer's endpoint and the limit of a fence.
func (p *managerProcess) atConsumer(c *actors.Context, f func(context.Context, kv.Endpoint) any, failed func(error) any) {
	limit := p.fenceLimit()
	c.Go(func(ctx context.Context) any {
		endpoint, ok := p.opts.Endpoints(p.opts.Consumer)
		if !ok {
			return failed(fmt.Errorf("%w: %q", ErrUnknownNode, p.opts.Consumer))
		}
		ctx, cancel := context.WithTimeout(ctx, limit)
		defer cancel()
		return f(ctx, endpoint)
	})
}

func answerFence(from actors.From, err error) {
	if err != nil {
		from.Fail(fmt.Errorf("fence: %w", err))
		return
	}
	from.Reply(nil)
}
