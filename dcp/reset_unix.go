//go:build unix

package dcp

import (
	"errors"
	"syscall"
)

// isReset reports whether the peer's kernel refused or dropped the connection.
func isReset(err error) bool {
	return errors.Is(err, syscall.ECONNRESET) || errors.Is(err, syscall.EPIPE)
}
