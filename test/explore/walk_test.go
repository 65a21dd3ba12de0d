package explore

import (
	"flag"
	"math/rand/v2"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/shearpin/shearpin/dcp"
)

var (
	walks = flag.Int("explore.walks", 2000, "how many random walks to take; a quarter of them under the race detector")
	seed  = flag.Uint64("explore.seed", 1, "the first walk's seed; the others count on from it")
)

// walkSteps is how long a walk is.
const walkSteps = 400

// wild is a world in which everything may happen at once. No search gets to its end.
var wild = config{
	name: "wild", vbs: 3,
	calls: [][][]dcp.RawChange{
		{add(0, 1, 2), closing(0, 1, 2), both(closing(0), add(1, 2)), takeover(0), takeover(2), both(takeover(1), add(2))},
		{add(0), add(1), closing(0), closing(1, 2), takeover(0), bareTakeover(1), both(add(1), closing(1))},
	},
	refuse: true, rollback: 3, ends: true, lateEnds: true, drop: true, eof: true,
	mute: true, refuseClose: true, alien: true, repeat: true, malformed: true,
	time: true, progress: true, overtake: true, mail: true,
	stop: true, fence: true, cancel: true, refused: true,
}

// rare are actions that end much of what is under way; a walk that took them as often as others would see nothing else.
func rare(a action) bool {
	switch a.kind {
	case actStop, actReset, actClose, actFence, actCancel, actTick, actStrange, actGiveUp:
		return true
	}
	return false
}

func TestRandomWalks(t *testing.T) {
	t.Parallel()
	tally := newTally()
	steps, longest := 0, 0
	var choices []action
	count := *walks
	if raceEnabled {
		count /= 4
	}
	for n := range count {
		rng := rand.New(rand.NewPCG(*seed+uint64(n), 0))
		w := newWorld(&wild, tally)
		// Each walk has a temper: how often what is rare happens.
		temper := 2 << rng.IntN(7)
		var path []action
		for range walkSteps {
			if choices = w.actions(choices); len(choices) == 0 {
				break
			}
			a := choices[rng.IntN(len(choices))]
			for try := 0; try < 12 && (rare(a) && rng.IntN(temper) != 0 || a.kind == actStop && rng.IntN(100) != 0); try++ {
				a = choices[rng.IntN(len(choices))]
			}
			path = append(path, a)
			w.do(a)
			if w.broken != nil {
				s := search{found: w.broken, story: tell(&wild, path)}
				require.Failf(t, "a promise is broken", "seed %d: %s", *seed+uint64(n), s.verdict())
			}
		}
		steps += len(path)
		longest = max(longest, len(path))
	}
	t.Logf("%d walks, %d steps, the longest %d; %d cells", count, steps, longest, len(tally.cells))
}
