//go:build !(linux || darwin || freebsd || netbsd || openbsd || dragonfly)

package kvnode

import "os"

// unlock does nothing here: a file that a store could not open stays locked until the process ends.
func unlock(*os.File) error { return nil }
