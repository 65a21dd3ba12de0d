package dcp

import (
	"context"
	"fmt"
	"net"
	"time"

	"github.com/shearpin/shearpin/actors"
	"github.com/shearpin/shearpin/dcp/kv"
)

const (
	firstRetry = 100 * time.Millisecond
	lastRetry  = 10 * time.Second
)

// connecting is the part that both connection processes share: they open their own socket, and try again by themselves,
// so that a peer that is down does not use up the supervisor's restarts.
type connecting struct {
	env      *linkEnv
	role     string
	attempts int
}

// Messages of a connection process to itself and to its replicator.
type (
	retryConnect  struct{}
	socketOpened  struct{ conn net.Conn }
	connectFailed struct{ err error }

	connStarted struct {
		role string
		pid  *actors.PID
	}
	connOpened struct {
		role string
		pid  *actors.PID
		conn net.Conn
	}
	connRefused struct {
		role string
		err  error
	}
)

// begin registers the process with its replicator and starts the first attempt.
func (k *connecting) begin(c *actors.Context) {
	c.Send(k.env.replicator.Load(), connStarted{role: k.role, pid: c.Self()})
	k.attempt(c)
}

// attempt opens the socket in the background. The socket closes with the process, whatever either is doing.
func (k *connecting) attempt(c *actors.Context) {
	process := c.Ctx()
	c.Go(func(ctx context.Context) any {
		conn, err := k.dial(ctx)
		if err != nil {
			return connectFailed{err: err}
		}
		context.AfterFunc(process, func() { kv.Abort(conn) })
		return socketOpened{conn: conn}
	})
}

func (k *connecting) dial(ctx context.Context) (net.Conn, error) {
	link := k.env.link
	node, open := link.Consumer, kv.DCPOpen{Bucket: link.Bucket, Name: link.Name(), Role: kv.Consumer, ConsumerName: link.Consumer}
	if k.role == RoleProducer {
		node, open = link.Producer, kv.DCPOpen{Bucket: link.Bucket, Name: link.Name(), Role: kv.Producer}
	}
	endpoint, err := endpointOf(k.env.endpoints, node, k.env.limits)
	if err != nil {
		return nil, err
	}
	if k.role == RoleConsumer {
		conn, granted, err := kv.NegotiateDCP(ctx, endpoint, open)
		if err == nil {
			k.env.snappy.atConsumer(granted.Snappy)
		}
		return conn, err
	}
	open.WithoutSnappy = k.env.snappy.refused()
	conn, granted, err := kv.NegotiateDCP(ctx, endpoint, open)
	if err == nil && granted.Snappy && k.env.snappy.refused() { // the consumer's end was slower
		kv.Abort(conn)
		open.WithoutSnappy = true
		conn, granted, err = kv.NegotiateDCP(ctx, endpoint, open)
	}
	if err == nil {
		k.env.snappy.atProducer(granted.Snappy)
	}
	return conn, err
}

// endpointOf finds a node. Its handshakes have Limits.Connect for each step, unless the endpoint says otherwise.
func endpointOf(endpoints func(string) (kv.Endpoint, bool), node string, limits Limits) (kv.Endpoint, error) {
	endpoint, ok := endpoints(node)
	if !ok {
		return endpoint, fmt.Errorf("%w: %q", ErrUnknownNode, node)
	}
	if endpoint.StepTimeout <= 0 {
		endpoint.StepTimeout = limits.withDefaults().Connect
	}
	return endpoint, nil
}

// failed plans the next attempt and tells the replicator why this one failed.
func (k *connecting) failed(c *actors.Context, err error) {
	c.Send(k.env.replicator.Load(), connRefused{role: k.role, err: err})
	wait := backoff(k.attempts, firstRetry, lastRetry, k.env.jitter)
	if k.attempts == 0 {
		k.env.logger("connection").Info("connection_refused", "role", k.role, "err", err, "retry_in", wait)
	}
	k.attempts++
	c.SendAfter(wait, retryConnect{})
}

// opened hands the socket to the replicator.
func (k *connecting) opened(c *actors.Context, conn net.Conn) {
	k.env.logger("connection").Info("connection_open", "role", k.role, "attempts", k.attempts+1)
	c.Send(k.env.replicator.Load(), connOpened{role: k.role, pid: c.Self(), conn: conn})
}

// backoff doubles from first to last and adds up to a quarter, so that many links do not retry in step.
func backoff(attempt int, first, last time.Duration, jitter func(time.Duration) time.Duration) time.Duration {
	d := last
	if attempt < 20 {
		d = min(first<<attempt, last)
	}
	return d + jitter(d/4)
}
