package kv

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"slices"
	"strconv"
	"strings"
	"time"
)

// DefaultStepTimeout bounds each step of connecting unless [Endpoint].StepTimeout says otherwise.
const DefaultStepTimeout = 10 * time.Second

// Endpoint says how to reach one node, how the connection is protected, and how to log in. Like [Credentials], it gives
// nothing away when it is formatted, logged or encoded.
type Endpoint struct {
	// Node is the node's identity, as in topologies. It is used in errors only.
	Node string
	// Addr is host:port; an IPv6 address stands in brackets, [::1]:11210.
	Addr string
	// TLS encrypts the connection; nil is plain TCP, unless there is a TLSSource. If it has no ServerName, the host of Addr
	// is verified; with InsecureSkipVerify nobody is, and the connection counts as encrypted all the same. Versions below 1.2 are not spoken, whatever its MinVersion. It is not changed, and must not be while the
	// endpoint is in use.
	TLS *tls.Config
	// TLSSource gives the configuration in place of TLS, asked anew for each connection: certificates that have changed
	// apply to the next one, and leave those alone that are open. It may be called from any goroutine and must not block.
	// If it fails or gives nil there is no connection, never a plain one. See [TLSFiles].
	TLSSource func() (*tls.Config, error)
	// Credentials are the user's. Without a user name, authentication is skipped: that is for nodes that know us by our
	// client certificate, or know no users.
	Credentials Credentials
	// Mechanisms are the SASL mechanisms that may be used, the preferred one first: the first that the node lists is
	// taken. A single one is used without asking the node what it lists. Empty means [DefaultMechanisms].
	//
	// Engines check some accounts by a hash that only [Plain] fits, those of external users and, depending on the version,
	// their own internal ones. There is no second try with a weaker mechanism when the node refuses a login.
	Mechanisms []Mechanism
	// AllowPlainAuth permits sending the password over a connection that is neither encrypted nor local to this machine,
	// if the node lists no mechanism that is preferred to [Plain].
	AllowPlainAuth bool
	// Dial makes the connection; nil is a net.Dialer. It must return when its context ends. Connections that know no
	// deadlines are closed when that of a step is over, and get no further than that: once it is made, a connection must
	// know deadlines of writes.
	Dial func(ctx context.Context, network, addr string) (net.Conn, error)
	// StepTimeout bounds each step of connecting, as a whole and however busy the peer is. 0 means [DefaultStepTimeout].
	StepTimeout time.Duration
}

// Validate checks the endpoint without connecting. Errors are *[EndpointError]. Connecting does the same first.
func (e *Endpoint) Validate() error {
	if err := validateAddr(e.Addr); err != nil {
		return &EndpointError{Field: "Addr", Err: err}
	}
	switch {
	case e.TLS != nil && e.TLSSource != nil:
		return &EndpointError{Field: "TLSSource", Err: errors.New("there is a TLS too")}
	case e.StepTimeout < 0:
		return &EndpointError{Field: "StepTimeout", Err: fmt.Errorf("%v is negative", e.StepTimeout)}
	}
	if e.TLS != nil {
		if err := validateTLS(e.TLS); err != nil {
			return &EndpointError{Field: "TLS", Err: err}
		}
	}
	for i, m := range e.Mechanisms {
		switch {
		case !slices.Contains(DefaultMechanisms(), m):
			return &EndpointError{Field: "Mechanisms", Err: fmt.Errorf("%q is none of %v", m, DefaultMechanisms())}
		case slices.Contains(e.Mechanisms[:i], m):
			return &EndpointError{Field: "Mechanisms", Err: fmt.Errorf("%q is there twice", m)}
		}
	}
	return e.Credentials.validate()
}

// validate does not repeat what it finds: a password may have been put into the wrong field.
func (c Credentials) validate() error {
	switch {
	case c.User == "" && c.Password != "":
		return &EndpointError{Field: "Credentials.User", Err: errors.New("empty, but there is a password")}
	case strings.ContainsRune(c.User, 0): // PLAIN has a NUL between its parts
		return &EndpointError{Field: "Credentials.User", Err: errors.New("contains NUL")}
	case strings.ContainsRune(c.Password, 0):
		return &EndpointError{Field: "Credentials.Password", Err: errors.New("contains NUL")}
	}
	return nil
}

func validateAddr(addr string) error {
	host, port, err := net.SplitHostPort(addr)
	if err != nil {
		return err
	}
	if host == "" {
		return fmt.Errorf("%q has no host", addr)
	}
	if n, err := strconv.ParseUint(port, 10, 16); err != nil || n == 0 {
		return fmt.Errorf("%q has no port from 1 to 65535", addr)
	}
	return nil
}

func (e *Endpoint) stepTimeout() time.Duration {
	if e.StepTimeout > 0 {
		return e.StepTimeout
	}
	return DefaultStepTimeout
}

// encrypted reports whether connections are to use TLS.
func (e *Endpoint) encrypted() bool { return e.TLS != nil || e.TLSSource != nil }

// String names the node, its address, the user, and whether the connection is encrypted.
func (e Endpoint) String() string {
	transport := "tcp"
	if e.encrypted() {
		transport = "tls"
	}
	return fmt.Sprintf("%s (%s, %s, %v)", e.Node, e.Addr, transport, e.Credentials)
}

// GoString is [Endpoint.String], for %#v.
func (e Endpoint) GoString() string { return e.String() }

// Format is [Endpoint.String], for every verb. One that fits no pointer would otherwise have the fields printed, and no method
// called on any of them.
func (e Endpoint) Format(f fmt.State, _ rune) { fmt.Fprint(f, e.String()) }

// LogValue is [Endpoint.String], for log records.
func (e Endpoint) LogValue() slog.Value { return slog.StringValue(e.String()) }

// MarshalText is [Endpoint.String], for encoders that would otherwise walk the fields.
func (e Endpoint) MarshalText() ([]byte, error) { return []byte(e.String()), nil }
