//go:build !unix

package dcp

// isReset reports whether the peer's kernel refused or dropped the connection. Elsewhere such errors keep their own text.
func isReset(error) bool { return false }
