package kv

import (
	"fmt"
	"log/slog"
)

// Credentials are a user's name and password. However they are formatted, logged or encoded, the password is left out.
//
// Formatting cannot protect what it cannot see: a struct that keeps credentials in an unexported field keeps a pointer to
// them, or formats itself.
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
