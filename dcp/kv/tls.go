package kv

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/netip"
)

// minTLS is the oldest version that is spoken, whatever a configuration says.
const minTLS = tls.VersionTLS12

// errNoTLSConfig is a source that gave neither a configuration nor an error.
var errNoTLSConfig = errors.New("TLSSource gave no configuration")

func validateTLS(c *tls.Config) error {
	if c.MaxVersion != 0 && c.MaxVersion < minTLS {
		return fmt.Errorf("MaxVersion %s is below %s", tls.VersionName(c.MaxVersion), tls.VersionName(minTLS))
	}
	return nil
}

// encrypt makes the connection a TLS one. The configuration is the one of this moment.
func (h *handshake) encrypt(ctx context.Context) error {
	config := h.ep.TLS
	if h.ep.TLSSource != nil {
		var err error
		if config, err = h.ep.TLSSource(); err != nil {
			return err
		}
		if config == nil {
			return errNoTLSConfig
		}
		if err := validateTLS(config); err != nil {
			return err
		}
	}
	config = config.Clone()
	config.MinVersion = max(config.MinVersion, minTLS)
	if config.ServerName == "" && !config.InsecureSkipVerify {
		config.ServerName = serverName(h.ep.Addr)
	}
	conn := tls.Client(h.conn, config)
	if err := conn.HandshakeContext(ctx); err != nil {
		return err
	}
	h.conn = conn
	return nil
}

// serverName is the host of an address as certificates have it: the zone of an IPv6 address means something on this
// machine only.
func serverName(addr string) string {
	host, _, err := net.SplitHostPort(addr)
	if err != nil {
		return ""
	}
	if ip, err := netip.ParseAddr(host); err == nil {
		return ip.WithZone("").String()
	}
	return host
}

// refusedTLS reports whether err is the peer's refusal of what we showed it in the TLS handshake. With TLS 1.3 it comes
// only after the handshake is over for us, in the middle of a later step.
func refusedTLS(err error) bool {
	var alert *net.OpError // crypto/tls wraps the alerts of the peer in these
	return errors.As(err, &alert) && alert.Op == "remote error"
}

// private reports whether nobody but the peer can read what is sent over conn: it is encrypted, or stays on this machine.
func private(conn net.Conn) bool {
	if _, ok := conn.(*tls.Conn); ok {
		return true
	}
	switch addr := conn.RemoteAddr().(type) {
	case *net.TCPAddr:
		return addr.IP.IsLoopback()
	case *net.UnixAddr:
		return true
	default:
		return addr != nil && addr.Network() == "pipe"
	}
}

// Abort closes conn at once, without the words of farewell for which TLS would wait on a peer that does not read.
func Abort(conn net.Conn) {
	if t, ok := conn.(*tls.Conn); ok {
		_ = t.NetConn().Close()
	}
	_ = conn.Close()
}
