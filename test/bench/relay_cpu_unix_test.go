//go:build unix

package bench

import (
	"syscall"
	"time"
)

// cpuTime is how long this process has run so far, in its own code and in the kernel.
func cpuTime() time.Duration {
	var u syscall.Rusage
	must(syscall.Getrusage(syscall.RUSAGE_SELF, &u))
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
