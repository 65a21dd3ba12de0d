//go:build linux || darwin || freebsd || netbsd || openbsd || dragonfly

package kvnode

import (
	"os"
	"syscall"
)

// unlock lets go of a file that a store has locked. Closing it is not enough while it is mapped, which a store that
// panics leaves it.
func unlock(f *os.File) error { return syscall.Flock(int(f.Fd()), syscall.LOCK_UN) }
