package explore

import (
	"flag"
	"fmt"
	"runtime"
	"runtime/debug"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sync/errgroup"

	"github.com/shearpin/shearpin/dcp"
)

var only = flag.String("explore.config", "small", "which explorations to run: small, large, or the names of some, separated by commas")

var (
	allOfOne  = [][]dcp.RawChange{add(0), closing(0), takeover(0), bareTakeover(0)}
	mostOfOne = [][]dcp.RawChange{add(0), closing(0), takeover(0)}
	allOfTwo  = [][]dcp.RawChange{
		add(0), add(1), add(0, 1), closing(0), closing(1), closing(0, 1), takeover(0), takeover(1),
		both(closing(0), add(1)), bareTakeover(0),
	}
	someOfTwo = [][]dcp.RawChange{add(0, 1), both(closing(1), add(0)), takeover(0)}
)

// large are the explorations that are asked for by a flag.
var large = []config{
	{
		name: "one-all", vbs: 1, calls: [][][]dcp.RawChange{allOfOne},
		refuse: true, rollback: 1, ends: true, lateEnds: true, drop: true, mute: true, refuseClose: true, time: true, stop: true,
	},
	{
		name: "two", vbs: 2, calls: [][][]dcp.RawChange{allOfTwo},
		refuse: true, ends: true, lateEnds: true,
	},
	{
		name: "two-time", vbs: 2, calls: [][][]dcp.RawChange{someOfTwo},
		refuse: true, ends: true, mute: true, time: true, drop: true, stop: true,
	},
	{
		name: "two-all", vbs: 2, calls: [][][]dcp.RawChange{allOfTwo},
		refuse: true, ends: true, lateEnds: true, drop: true, stop: true,
	},
	{
		name: "two-fault", vbs: 2, faults: 1, calls: [][][]dcp.RawChange{allOfTwo},
		refuse: true, rollback: 1, ends: true, lateEnds: true, drop: true, eof: true, mute: true, refuseClose: true,
		alien: true, repeat: true, malformed: true, time: true, stop: true, cancel: true,
	},
	{
		name: "two-faults", vbs: 2, faults: 2, calls: [][][]dcp.RawChange{allOfTwo},
		refuse: true, rollback: 1, ends: true, lateEnds: true, drop: true, eof: true, mute: true, refuseClose: true,
		time: true, stop: true,
	},
	{
		name: "three", vbs: 3, depth: 25,
		calls: [][][]dcp.RawChange{
			{add(0, 1, 2), both(closing(0), add(1, 2)), takeover(2)},
			{add(0), closing(1), takeover(0), bareTakeover(1)},
		},
		refuse: true, rollback: 1, ends: true, lateEnds: true, drop: true, stop: true,
	},
}

// small are those that every run of the tests makes: together they visit every cell that can be. They run side by side, the
// longest first.
var small = []config{
	{
		name: "strangers", vbs: 1, calls: [][][]dcp.RawChange{allOfOne},
		refuse: true, rollback: 1, ends: true, lateEnds: true, alien: true, repeat: true, malformed: true, stop: true,
	},
	{
		name: "pair", vbs: 2, calls: [][][]dcp.RawChange{{add(0, 1), both(closing(0), add(1))}, {closing(0), add(0), bareTakeover(0)}},
		ends: true,
	},
	{
		name: "progress", vbs: 1, calls: [][][]dcp.RawChange{mostOfOne},
		refuse: true, rollback: 1, time: true, progress: true,
	},
	{
		name: "queue", vbs: 1, calls: [][][]dcp.RawChange{mostOfOne, {add(0), closing(0), bareTakeover(0)}},
		refuse: true, ends: true, rollback: 2,
	},
	{
		name: "faults", vbs: 1, calls: [][][]dcp.RawChange{mostOfOne},
		refuse: true, ends: true, mute: true, refuseClose: true, drop: true, eof: true, time: true,
	},
	{
		name: "owners", vbs: 1, calls: [][][]dcp.RawChange{mostOfOne},
		refuse: true, ends: true, drop: true, time: true, stop: true, fence: true, cancel: true, giveUp: true, refused: true,
	},
	{
		name: "progress-closing", vbs: 1, calls: [][][]dcp.RawChange{{add(0), closing(0)}},
		ends: true, refuseClose: true, time: true, progress: true, stop: true,
	},
	{
		name: "overtake", vbs: 1, calls: [][][]dcp.RawChange{mostOfOne},
		refuse: true, ends: true, lateEnds: true, overtake: true,
	},
	{
		name: "pair-odd", vbs: 2, calls: [][][]dcp.RawChange{{add(0), add(0, 1), closing(0)}},
		lateEnds: true, alien: true, repeat: true, malformed: true, stop: true,
	},
	{
		name: "mail", vbs: 1, calls: [][][]dcp.RawChange{{add(0)}},
		drop: true, mail: true, stop: true, fence: true, cancel: true,
	},
	{
		name: "two-calls", vbs: 1, calls: [][][]dcp.RawChange{{add(0)}, {closing(0)}},
		drop: true, cancel: true, time: true,
	},
}

func TestExploration(t *testing.T) {
	t.Parallel()
	// Collecting seldom saves time, as long as there is room for it.
	defer debug.SetGCPercent(debug.SetGCPercent(400))
	defer debug.SetMemoryLimit(debug.SetMemoryLimit(4 << 30))
	cells := map[cell]int{}
	var checks [invariants]int
	var table strings.Builder
	configs := chosen(t)
	for i, r := range exploreAll(t, configs) {
		fmt.Fprintf(&table, "%s  %v\n", r.summary(), r.took.Round(10*time.Millisecond))
		if !assert.Nilf(t, r.found, "%s: %s", configs[i].name, r.verdict()) {
			continue
		}
		for c, n := range r.tally.cells {
			cells[c] += n
		}
		for i, n := range r.tally.checks {
			checks[i] += n
		}
	}
	t.Logf("\n%s", table.String())
	if t.Failed() {
		return
	}
	for i, n := range checks {
		t.Logf("%-75s %10d checks", invariantNames[i], n)
	}
	if *only == "small" && !raceEnabled {
		lookAtCells(t, cells)
		for i, n := range checks {
			assert.Positivef(t, n, "nothing has asked whether %s", invariantNames[i])
		}
	}
}

// exploreAll searches side by side, as many at a time as there are processors.
func exploreAll(t *testing.T, configs []config) []*search {
	t.Helper()
	searches := make([]*search, len(configs))
	var group errgroup.Group
	group.SetLimit(runtime.GOMAXPROCS(0))
	for i := range configs {
		group.Go(func() error {
			searches[i] = explore(&configs[i], progress(t))
			return nil
		})
	}
	require.NoError(t, group.Wait())
	return searches
}

// quick are the explorations that are made under the race detector too: it makes them ten times slower, and a machine has no
// goroutines. .ci/run makes the others without it.
var quick = map[string]bool{"two-calls": true, "mail": true, "overtake": true, "pair-odd": true}

// chosen are the explorations that the flag asks for.
func chosen(t *testing.T) []config {
	t.Helper()
	var some []config
	for _, cfg := range small {
		if *only == "small" && (!raceEnabled || quick[cfg.name]) || named(cfg.name) {
			some = append(some, cfg)
		}
	}
	for _, cfg := range large {
		if *only == "large" || named(cfg.name) {
			some = append(some, cfg)
		}
	}
	for i := range some {
		some[i].asks = *ask
	}
	require.NotEmptyf(t, some, "no exploration is called %q", *only)
	return some
}

func named(name string) bool { return slices.Contains(strings.Split(*only, ","), name) }

// progress tells how far a long search is.
func progress(t *testing.T) func(string) {
	t.Helper()
	if *only == "small" {
		return nil
	}
	return func(line string) { t.Log(line) }
}
