package kvnode

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
)

// A node with certificates speaks TLS and nothing else on its port. Who a client is, it still has to say by SASL: a certificate that the
// configuration asks for only lets it that far.

var errNoCertificate = errors.New("kvnode: Options.TLS has no certificate")

// validTLS checks that a configuration can be a server's.
func validTLS(c *tls.Config) error {
	if c != nil && len(c.Certificates) == 0 && c.GetCertificate == nil && c.GetConfigForClient == nil {
		return errNoCertificate
	}
	return nil
}

// wrap puts TLS on a socket, if the node has it. Nothing is read or written yet.
func (n *Node) wrap(socket net.Conn) net.Conn {
	if n.opts.TLS == nil {
		return socket
	}
	return tls.Server(socket, n.opts.TLS)
}

// secure makes the handshake, if there is one to make. A peer that does not take its part in time loses the connection.
func (c *conn) secure() error {
	secured, ok := c.socket.(*tls.Conn)
	if !ok {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.Background(), c.node.opts.IdleTimeout)
	defer cancel()
	err := secured.HandshakeContext(ctx)
	if err != nil && !c.closed() {
		c.node.log.Warn("tls_handshake_failed", "peer", c.socket.RemoteAddr().String(), "err", err)
	}
	return err
}

// closed reports whether close was called.
func (c *conn) closed() bool {
	select {
	case <-c.done:
		return true
	default:
		return false
	}
}

// underneath is the socket itself: what is closed there is closed at once, whatever the peer does. TLS would take its leave first.
func underneath(socket net.Conn) net.Conn {
	if secured, ok := socket.(*tls.Conn); ok {
		return secured.NetConn()
	}
	return socket
}
