package kv

import (
	"fmt"
	"log/slog"
)

// Credentials are a user's name and password. However they are formatted, logged or encoded, the password is left out.
//
// Formatting cannot protect what it cannot see: package fmt calls no methods on what lies in an unexported field, nor, if a verb
// does not fit, on any field. A struct that keeps credentials keeps a pointer to them, or has a Format method of its own.
type Credentials struct {
	User     string
	Password string
}

const redacted = "[redacted]"

// String names the user only.
func (c Credentials) String() string { return c.User + ":" + redacted }

// GoString is [Credentials.String], for %#v.
func (c Credentials) GoString() string { return c.String() }

// Format is [Credentials.String], for every verb: package fmt asks a Stringer only for those that it thinks fit a string.
func (c Credentials) Format(f fmt.State, _ rune) { fmt.Fprint(f, c.String()) }

// LogValue is [Credentials.String], for log records.
func (c Credentials) LogValue() slog.Value { return slog.StringValue(c.String()) }

// MarshalText is [Credentials.String], for encoders that would otherwise walk the fields.
func (c Credentials) MarshalText() ([]byte, error) { return []byte(c.String()), nil }
