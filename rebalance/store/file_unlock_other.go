//go:build !(linux || darwin || freebsd || netbsd || openbsd || dragonfly)

package store

import "os"

// unlock does nothing here: a file on which bbolt has panicked stays locked until the process ends.
func unlock(*os.File) error { return nil }
