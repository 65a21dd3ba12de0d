package dcp

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"time"

	"github.com/shearpin/shearpin/actors"
	"github.com/shearpin/shearpin/dcp/kv"
)

// This file ends connections at the consumer's engine, so that nothing of them can still happen there.

// fenceLimit covers a whole handshake and the pause before it.
func (p *managerProcess) fenceLimit() time.Duration { return 6*p.opts.Limits.Connect + lastRetry }

func wrapFence(err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("fence: %w", err)
}

// Outcomes of fences that a goroutine has seen to.
type (
	takeoverFenced struct {
		key   linkKey
		after uint64
		err   error
	}
	linkFenced struct {
		call callID
		err  error
	}
	leftoversNuked struct{ err error }
	strangersEnded struct {
		ended int
		err   error
	}
)

// fence ends whatever connection of the link's name the consumer's engine has.
func (p *managerProcess) fence(c *actors.Context, e fenceLink) {
	if !e.byName {
		p.request(c, e.key, p.fenceLimit(), fenceRequest{}, e)
		return
	}
	p.nuke(c, e.key, func(err error) any { return linkFenced{call: e.call, err: err} })
}

// fenceTakeover waits until the link's consumer has been opened again, or opens it where there is no link.
func (p *managerProcess) fenceTakeover(c *actors.Context, e fenceTakeover) {
	if !e.byName {
		p.request(c, e.key, p.fenceLimit(), fenceAfter{incarnation: e.after}, e)
		return
	}
	p.nuke(c, e.key, func(err error) any { return takeoverFenced{key: e.key, after: e.after, err: err} })
}

// nuke opens and closes a consumer of the link's name.
func (p *managerProcess) nuke(c *actors.Context, key linkKey, done func(error) any) {
	name := p.machine.linkOf(key).Name()
	p.atConsumer(c, func(ctx context.Context, endpoint kv.Endpoint) any {
		return done(kv.Nuke(ctx, endpoint, p.opts.Bucket, name))
	}, done)
}

// nukeLeftovers opens and closes a connection under the name of every replication that the consumer's engine has. It is
// done before this manager has made any of its own.
func (p *managerProcess) nukeLeftovers(c *actors.Context) {
	done := func(err error) any { return leftoversNuked{err: err} }
	p.atConsumer(c, func(ctx context.Context, endpoint kv.Endpoint) any {
		_, err := nukeAll(ctx, endpoint, p.opts.Bucket, nil, p.log)
		return done(err)
	}, done)
}

// nukeStrangers does so for every replication whose name is not one of ours.
func (p *managerProcess) nukeStrangers(c *actors.Context, ours []string) {
	p.atConsumer(c, func(ctx context.Context, endpoint kv.Endpoint) any {
		ended, err := nukeAll(ctx, endpoint, p.opts.Bucket, ours, p.log)
		return strangersEnded{ended: ended, err: err}
	}, func(err error) any { return strangersEnded{err: err} })
}

// nukeAll ends the replications into a node except those kept, and counts them.
func nukeAll(ctx context.Context, endpoint kv.Endpoint, bucket string, keep []string, log *slog.Logger) (ended int, err error) {
	client, err := kv.Connect(ctx, endpoint, bucket)
	if err != nil {
		return 0, err
	}
	defer client.Close()
	connections, err := client.DCPConnections(ctx)
	if err != nil {
		return 0, err
	}
	for _, connection := range connections {
		name := connection.Name
		if connection.Type != RoleConsumer || !strings.HasPrefix(name, namePrefix) || slices.Contains(keep, name) {
			continue
		}
		if err := kv.Nuke(ctx, endpoint, bucket, name); err != nil {
			return ended, err
		}
		ended++
		log.Info("leftover_nuked", "name", name)
	}
	return ended, nil
}

// atConsumer runs f beside the mailbox, with the consumer's endpoint and the limit of a fence.
func (p *managerProcess) atConsumer(c *actors.Context, f func(context.Context, kv.Endpoint) any, failed func(error) any) {
	limit := p.fenceLimit()
	c.Go(func(ctx context.Context) any {
		endpoint, err := endpointOf(p.opts.Endpoints, p.opts.Consumer, p.opts.Limits)
		if err != nil {
			return failed(err)
		}
		ctx, cancel := context.WithTimeout(ctx, limit)
		defer cancel()
		return f(ctx, endpoint)
	})
}
