package dcp

import (
	"fmt"

	"github.com/shearpin/shearpin/actors"
)

// producerConn is the process of the producer's end of a link: it opens the socket to the node that holds the active
// copy. The bytes are moved by the relay, which belongs to the consumer connection; what is left here is to fail when
// that side of the relay fails, so that the supervisor and the replicator see whose socket it was.
type producerConn struct {
	actors.Base
	env     *linkEnv
	connect connecting
}

// relayFailed tells the producer connection that the relay lost its socket, and what went on before.
type relayFailed struct {
	err    error
	flight []FlightEvent
}

func (p *producerConn) Init(c *actors.Context) error {
	p.connect = connecting{env: p.env, role: RoleProducer}
	p.connect.begin(c)
	return nil
}

func (p *producerConn) HandleInfo(c *actors.Context, msg any) error {
	switch msg := msg.(type) {
	case retryConnect:
		p.connect.attempt(c)
	case connectFailed:
		p.connect.failed(c, msg.err)
	case socketOpened:
		p.connect.opened(c, msg.conn)
	case relayFailed:
		reason := &CrashError{Role: RoleProducer, Err: msg.err, Flight: msg.flight}
		p.env.logger("connection").Info("connection_crashed", "role", RoleProducer, "err", reason)
		return reason
	default:
		return fmt.Errorf("producer connection: unexpected message %T", msg)
	}
	return nil
}
