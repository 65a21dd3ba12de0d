package kv

import (
	"errors"
	"fmt"
	"strings"

	"github.com/shearpin/shearpin/dcp/mcbp"
)

// The steps of connecting, as a [ConnectError] names them, in their order.
const (
	StepDial         = "dial"
	StepTLS          = "tls"
	StepSASL         = "sasl"
	StepSelectBucket = "select_bucket"
	StepHello        = "hello"
	StepDCPOpen      = "dcp_open"
)

var (
	// ErrClosed says that a call failed, or could not begin, because its connection was closed or has broken.
	ErrClosed = errors.New("connection closed")
	// ErrPlainRefused says that the password was not sent because the connection is neither encrypted nor local, and
	// Endpoint.AllowPlainAuth is not set.
	ErrPlainRefused = errors.New("SASL PLAIN refused: the connection is neither encrypted nor local")
	// ErrBacklog says that a call's answers came faster than they were taken, and were too many to keep.
	ErrBacklog = errors.New("too many answers not yet taken")
)

// ConnectError is a connection that could not be made.
type ConnectError struct {
	Node, Addr string
	// Step is one of the Step constants.
	Step string
	Err  error
}

func (e *ConnectError) Error() string {
	return fmt.Sprintf("connecting to %s (%s): %s: %v", e.Node, e.Addr, e.Step, e.Err)
}

// Unwrap gives the cause.
func (e *ConnectError) Unwrap() error { return e.Err }

// FeatureError is a HELLO that refused features we cannot do without.
type FeatureError struct {
	Missing []mcbp.Feature
}

func (e *FeatureError) Error() string {
	codes := make([]string, len(e.Missing))
	for i, f := range e.Missing {
		codes[i] = fmt.Sprintf("%#02x", uint16(f))
	}
	return "features refused: " + strings.Join(codes, " ")
}

// ProtocolError is an answer that fits no request: the two ends no longer agree about what is going on.
type ProtocolError struct {
	// Answer is the header of the frame in words.
	Answer string
	Why    string
}

func (e *ProtocolError) Error() string { return fmt.Sprintf("%s: %s", e.Why, e.Answer) }

// closedError is why calls on a broken connection fail: ErrClosed, and what broke it.
type closedError struct {
	node  string
	cause error
}

func (e *closedError) Error() string {
	if e.cause == nil {
		return fmt.Sprintf("kv %s: %v", e.node, ErrClosed)
	}
	return fmt.Sprintf("kv %s: %v: %v", e.node, ErrClosed, e.cause)
}

func (e *closedError) Unwrap() []error {
	if e.cause == nil {
		return []error{ErrClosed}
	}
	return []error{ErrClosed, e.cause}
}
