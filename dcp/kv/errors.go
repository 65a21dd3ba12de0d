package kv

import (
	"errors"
	"fmt"
	"strings"

	"github.com/shearpin/shearpin/dcp/mcbp"
)

// The steps of connecting, as a [ConnectError] names them, in their order.
const (
	// StepConfig: the endpoint or the bucket's name is wrong; nothing was dialled.
	StepConfig       = "config"
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
	// ErrServerUnproven says that the node did not prove, as SCRAM has it, that it knows the password: it is not the node
	// that it seems to be, or does not speak SCRAM.
	ErrServerUnproven = errors.New("the node did not prove that it knows the password")
	// ErrNukeUnanswered says that a [Nuke] has sent its OPEN and got no answer: the older connection may be gone, or not.
	ErrNukeUnanswered = errors.New("the open was not answered: whether the older connection is gone is not known")
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

// EndpointError is an [Endpoint] that cannot be used.
type EndpointError struct {
	// Field is the name of the field.
	Field string
	Err   error
}

func (e *EndpointError) Error() string { return fmt.Sprintf("Endpoint.%s: %v", e.Field, e.Err) }

// Unwrap gives the cause.
func (e *EndpointError) Unwrap() error { return e.Err }

// TLSFileError is a file of a [TLSFiles] that cannot be used.
type TLSFileError struct {
	File string
	Err  error
}

func (e *TLSFileError) Error() string { return fmt.Sprintf("TLS file %q: %v", e.File, e.Err) }

// Unwrap gives the cause.
func (e *TLSFileError) Unwrap() error { return e.Err }

// MechanismError is a node that lists no SASL mechanism that may be used.
type MechanismError struct {
	// Allowed are the mechanisms that may be used on this connection.
	Allowed []Mechanism
	// Listed are those that the node lists, as far as we know them at all.
	Listed []Mechanism
	// PlainRefused says that all would have been well over an encrypted connection. errors.Is finds [ErrPlainRefused] then.
	PlainRefused bool
}

func (e *MechanismError) Error() string {
	text := fmt.Sprintf("no common SASL mechanism: allowed %v, listed %v", e.Allowed, e.Listed)
	if e.PlainRefused {
		text += ": " + ErrPlainRefused.Error()
	}
	return text
}

// Unwrap gives [ErrPlainRefused], or nil.
func (e *MechanismError) Unwrap() error {
	if e.PlainRefused {
		return ErrPlainRefused
	}
	return nil
}

// AuthError is a login that failed.
type AuthError struct {
	User      string
	Mechanism Mechanism
	Err       error
}

func (e *AuthError) Error() string {
	return fmt.Sprintf("login of %q by %s: %v", e.User, e.Mechanism, e.Err)
}

// Unwrap gives the cause.
func (e *AuthError) Unwrap() error { return e.Err }

// FeatureError is a HELLO that refused features we cannot do without.
type FeatureError struct {
	Missing []mcbp.Feature
}

func (e *FeatureError) Error() string {
	names := make([]string, len(e.Missing))
	for i, f := range e.Missing {
		names[i] = f.String()
	}
	return "features refused: " + strings.Join(names, ", ")
}

// ProtocolError is an answer that fits no request, or lacks what was asked for: the two ends do not agree about what is going
// on.
type ProtocolError struct {
	// Answer is the header of the frame in words, or what was asked for.
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
