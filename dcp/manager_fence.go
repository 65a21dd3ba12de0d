package dcp

import (
	"context"
	"fmt"
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
	endpoint, ok := p.opts.Endpoints(p.opts.Consumer)
	if !ok {
		answerFence(from, fmt.Errorf("%w: %q", ErrUnknownNode, p.opts.Consumer))
		return
	}
	name, limit := p.machine.linkOf(key).Name(), p.fenceLimit()
	c.Go(func(ctx context.Context) any {
		ctx, cancel := context.WithTimeout(ctx, limit)
		defer cancel()
		return fenceDone{from: from, err: kv.Nuke(ctx, endpoint, p.opts.Bucket, name)}
	})
}

func answerFence(from actors.From, err error) {
	if err != nil {
		from.Fail(fmt.Errorf("fence: %w", err))
		return
	}
	from.Reply(nil)
}
