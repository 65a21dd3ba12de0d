package bench

import (
	"runtime"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// workload is work that every world does, and what is measured of it.
type workload struct {
	name    string
	figures []figure
	// n is how much work a round is, few how much a check of correctness needs.
	n, few int
	// rounds is how many rounds an iteration of the benchmark is: many for quick work, which a moment's trouble spoils.
	rounds int
	// run does n of the work in a fresh world, checks that it was done, and returns the figures.
	run func(t testing.TB, w world, n int) []float64
}

// figure is one row of the table.
type figure struct {
	name, unit string
	target     target
}

// target is what we want of our figure. The zero target wants nothing.
type target struct {
	limit float64
	what  what
}

type what uint8

const (
	nothing      what = iota
	ratioAtLeast      // ours/raw
	ratioAtMost       // ours/raw
	atMost            // ours, in the figure's unit
)

const (
	perSecond = "M/s"
	micros    = "µs"
	kilobytes = "KB"
	times     = "x"
)

// manyRestarts is an intensity that no run reaches.
const manyRestarts = 1 << 30

var workloads = []workload{
	{
		name: "cast", figures: []figure{{"cast", perSecond, target{0.7, ratioAtLeast}}}, n: 300_000, few: 1000, rounds: 5,
		run: func(t testing.TB, w world, n int) []float64 {
			return rate(t, n, func() int { return w.cast(1, n) })
		},
	},
	{
		name: "cast4", figures: []figure{{"cast, 4 senders", perSecond, target{}}}, n: 300_000, few: 1001, rounds: 5,
		run: func(t testing.TB, w world, n int) []float64 {
			return rate(t, n, func() int { return w.cast(4, n) })
		},
	},
	{
		name: "castwithin", figures: []figure{{"cast by a process", perSecond, target{}}}, n: 300_000, few: 1000, rounds: 5,
		run: func(t testing.TB, w world, n int) []float64 {
			return rate(t, n, func() int { return w.castWithin(n) })
		},
	},
	{
		name: "call", figures: []figure{{"call, p50", micros, target{0.65, ratioAtMost}}}, n: 30_000, few: 300, rounds: 3,
		run: func(t testing.TB, w world, n int) []float64 {
			return p50(t, n, func(sw *stopwatch) int { return w.call(0, n, sw) })
		},
	},
	{
		name: "callbound", figures: []figure{{"call with a bound, p50", micros, target{}}}, n: 30_000, few: 300, rounds: 3,
		run: func(t testing.TB, w world, n int) []float64 {
			return p50(t, n, func(sw *stopwatch) int { return w.call(5*time.Second, n, sw) })
		},
	},
	{
		name: "callwithin", figures: []figure{{"call by a process, p50", micros, target{}}}, n: 30_000, few: 300, rounds: 3,
		run: func(t testing.TB, w world, n int) []float64 {
			return p50(t, n, func(sw *stopwatch) int { return w.callWithin(n, sw) })
		},
	},
	{
		name: "spawn", figures: []figure{
			{"spawn + stop", perSecond, target{0.7, ratioAtLeast}},
			{"spawn + stop, p50", micros, target{}},
		}, n: 30_000, few: 300, rounds: 3,
		run: func(t testing.TB, w world, n int) []float64 {
			sw := newStopwatch(n)
			return append(rate(t, n, func() int { return w.spawn(n, sw) }), sw.p50())
		},
	},
	{
		name: "spawnunseen", figures: []figure{{"spawn + stop, unseen", perSecond, target{}}}, n: 30_000, few: 300, rounds: 3,
		run: func(t testing.TB, w world, n int) []float64 {
			return rate(t, n, func() int { return w.spawnUnseen(n) })
		},
	},
	{
		name: "crash", figures: []figure{{"crash to restarted, p50", micros, target{0.9, ratioAtMost}}}, n: 3000, few: 50, rounds: 3,
		run: func(t testing.TB, w world, n int) []float64 {
			return p50(t, n, func(sw *stopwatch) int { return w.crash(0, n, sw) })
		},
	},
	{
		name: "crashperiod", figures: []figure{{"crash, counted in a period, p50", micros, target{0.9, ratioAtMost}}}, n: 3000, few: 50, rounds: 3,
		run: func(t testing.TB, w world, n int) []float64 {
			return p50(t, n, func(sw *stopwatch) int { return w.crash(5*time.Second, n, sw) })
		},
	},
	{
		name: "idle", figures: []figure{
			{"idle process, memory", kilobytes, target{1.6, atMost}},
			{"idle process, goroutines", times, target{0.01, atMost}}, // a few are kept by all together
		}, n: 100_000, few: 300, rounds: 1,
		run: idle,
	},
	{
		name: "children", figures: []figure{
			{"start, 1 000 children", micros, target{}},
			{"start, 100 000 children", micros, target{}},
			{"start, growth", times, target{aboutLinear, atMost}},
			{"stop, 1 000 children", micros, target{}},
			{"stop, 100 000 children", micros, target{}},
			{"stop, growth", times, target{aboutLinear, atMost}},
		}, n: 100_000, few: 200, rounds: 1,
		run: children,
	},
}

// aboutLinear is how much more a child may cost among a hundred times as many. Caches and the collector have their share in
// it; anything quadratic would show as a hundred.
const aboutLinear = 2

// rate is how many millions of n were done in a second.
func rate(t testing.TB, n int, work func() int) []float64 {
	t.Helper()
	begin := time.Now()
	done := work()
	took := time.Since(begin)
	require.Equal(t, n, done)
	return []float64{float64(n) / float64(took.Microseconds()+1)}
}

func p50(t testing.TB, n int, work func(*stopwatch) int) []float64 {
	t.Helper()
	w := newStopwatch(n)
	require.Equal(t, n, work(w))
	require.Len(t, w.laps, n)
	return []float64{w.p50()}
}

// idle is what a process at rest needs.
func idle(t testing.TB, w world, n int) []float64 {
	t.Helper()
	memory, goroutines := resident(), runtime.NumGoroutine()
	stop := w.idle(n)
	memory, goroutines = resident()-memory, runtime.NumGoroutine()-goroutines
	require.Equal(t, n, stop())
	return []float64{float64(memory) / float64(n) / 1000, float64(goroutines) / float64(n)}
}

// resident is the memory that is in use after a garbage collection; the second one frees what the first one's finalizers
// and pools let go.
func resident() int64 {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc) + int64(m.StackInuse)
}

// children starts and stops a family of n, and as many in families of a hundredth of that. The figures are per child.
func children(t testing.TB, w world, n int) []float64 {
	t.Helper()
	const parts = 100
	var small, large [2]time.Duration
	family := func(n int, took *[2]time.Duration) {
		begin := time.Now()
		started, stop := w.family(n)
		up := time.Now()
		stopped := stop()
		down := time.Now()
		require.Equal(t, n, started)
		require.Equal(t, n, stopped)
		took[0] += up.Sub(begin)
		took[1] += down.Sub(up)
	}
	for range parts {
		family(n/parts, &small)
	}
	runtime.GC()
	family(n, &large)
	var figures []float64
	for i := range small {
		few, many := micro(small[i], n), micro(large[i], n)
		figures = append(figures, few, many, many/few)
	}
	return figures
}

// micro is the share of each of n in a duration, in microseconds.
func micro(d time.Duration, n int) float64 {
	return float64(d) / float64(time.Microsecond) / float64(n)
}

func must(err error) {
	if err != nil {
		panic(err)
	}
}
