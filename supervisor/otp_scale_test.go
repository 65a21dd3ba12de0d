package supervisor_test

import (
	"fmt"
	"runtime"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/shearpin/shearpin/actors"
	"github.com/shearpin/shearpin/supervisor"
	"github.com/shearpin/shearpin/supervisor/internal/workers"
)

// What OTP's cases of scale were made for was a set of children that was copied for each that came or went. They measure
// the time, which a test here must not: the same fault shows in the memory that is allocated per child, which has to be the
// same for many children as for few. The time itself is measured in test/bench.

// allocated returns how many bytes f allocates for each of n.
func allocated(n int, f func()) float64 {
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	f()
	runtime.ReadMemStats(&after)
	return float64(after.TotalAlloc-before.TotalAlloc) / float64(n)
}

// A supervisor terminates one of 10 000 dynamic children as cheaply as one of 1000.
func TestOTP_simple_one_for_one_scale_many_temporary_children(t *testing.T) {
	sup := start(t, newSystem(t), simple(supervisor.Temporary, 2))
	terminateAll := func(n int) float64 {
		pids := make([]*actors.PID, n)
		for i := range pids {
			pids[i] = addWith(t, sup, workers.Worker{})
		}
		workers.RequireCounts(t, sup, 1, n, 0, n)
		each := allocated(n, func() {
			for _, pid := range pids {
				require.NoError(t, supervisor.TerminateChild(t.Context(), sup, pid))
			}
		})
		workers.RequireCounts(t, sup, 1, 0, 0, 0)
		return each
	}
	few, many := terminateAll(1000), terminateAll(10_000)
	require.Less(t, many, 1.5*few)
}

// Children with ids are started and stopped as cheaply when there are 10 000 as when there are 1000. OTP goes up to
// 100 000, which the benchmark does.
func TestOTP_scale_start_stop_many_children(t *testing.T) {
	measure := func(n int) (starts, stops float64) {
		sup := start(t, newSystem(t), often(supervisor.OneForOne, 2))
		specs := make([]supervisor.ChildSpec, n)
		for i := range specs {
			specs[i] = workers.Worker{}.Child(fmt.Sprint("child", i))
		}
		starts = allocated(n, func() {
			for _, spec := range specs {
				add(t, sup, spec)
			}
		})
		workers.RequireCounts(t, sup, n, n, 0, n)
		stops = allocated(n, func() {
			for _, spec := range specs {
				require.NoError(t, supervisor.TerminateChild(t.Context(), sup, spec.ID))
			}
		})
		workers.RequireCounts(t, sup, n, 0, 0, n)
		return starts, stops
	}
	fewStarts, fewStops := measure(1000)
	manyStarts, manyStops := measure(10_000)
	require.Less(t, manyStarts, 1.5*fewStarts)
	require.Less(t, manyStops, 1.5*fewStops)
}
