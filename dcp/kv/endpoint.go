package kv

import (
	"context"
	"crypto/tls"
	"log/slog"
	"net"
	"time"
)

// DefaultStepTimeout bounds each step of connecting unless [Endpoint].StepTimeout says otherwise.
const DefaultStepTimeout = 10 * time.Second

// Credentials are a user's name and password. However they are formatted or logged, the password is left out.
type Credentials struct {
	User     string
	Password string
}

const redacted = "[redacted]"

// String names the user only.
func (c Credentials) String() string { return c.User + ":" + redacted }

// GoString is [Credentials.String], for %#v.
func (c Credentials) GoString() string { return c.String() }

// LogValue is [Credentials.String], for log records.
func (c Credentials) LogValue() slog.Value { return slog.StringValue(c.String()) }

// MarshalText is [Credentials.String], for encoders that would otherwise walk the fields.
func (c Credentials) MarshalText() ([]byte, error) { return []byte(c.String()), nil }

// Endpoint says how to reach one node.
type Endpoint struct {
	// Node is the node's identity, as in topologies. It is used in errors only.
	Node string
	// Addr is host:port.
	Addr string
	// TLS encrypts the connection; nil is plain TCP. If it has no ServerName, the host of Addr is verified.
	TLS *tls.Config
	// Credentials are the user's. Without a user name, authentication is skipped.
	Credentials Credentials
	// AllowPlainAuth permits sending the password over a connection that is neither encrypted nor local to this machine.
	AllowPlainAuth bool
	// Dial makes the connection; nil is a net.Dialer.
	Dial func(ctx context.Context, network, addr string) (net.Conn, error)
	// StepTimeout bounds each step of connecting. 0 means [DefaultStepTimeout].
	StepTimeout time.Duration
}

func (e *Endpoint) stepTimeout() time.Duration {
	if e.StepTimeout > 0 {
		return e.StepTimeout
	}
	return DefaultStepTimeout
}
