package explore

import (
	"flag"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"

	"github.com/shearpin/shearpin/dcp"
)

var only = flag.String("explore.config", "small", "which explorations to run: small, all, or the names of some, separated by commas")

var (
	allOfOne  = [][]dcp.RawChange{add(0), closing(0), takeover(0), bareTakeover(0)}
	mostOfOne = [][]dcp.RawChange{add(0), closing(0), takeover(0)}
	allOfTwo  = [][]dcp.RawChange{
		add(0), add(1), add(0, 1), closing(0), closing(1), closing(0, 1), takeover(0), takeover(1),
		both(closing(0), add(1)), bareTakeover(0),
	}
	someOfTwo = [][]dcp.RawChange{add(0, 1), both(closing(1), add(0)), takeover(0)}
)

// small are the explorations that every run of the tests makes, large those that a flag asks for.
var small = []config{
	{
		name: "strangers", vbs: 1, calls: [][][]dcp.RawChange{allOfOne},
		refuse: true, rollback: 1, ends: true, lateEnds: true, alien: true, repeat: true, malformed: true,
	},
	{
		name: "faults", vbs: 1, calls: [][][]dcp.RawChange{mostOfOne},
		refuse: true, ends: true, mute: true, refuseClose: true, drop: true, eof: true, time: true,
	},
	{
		name: "owners", vbs: 1, calls: [][][]dcp.RawChange{mostOfOne},
		refuse: true, drop: true, time: true, stop: true, fence: true, cancel: true, giveUp: true, refused: true,
	},
	{
		name: "progress", vbs: 1, calls: [][][]dcp.RawChange{{add(0), takeover(0)}},
		rollback: 1, time: true, progress: true,
	},
	{
		name: "mail", vbs: 1, calls: [][][]dcp.RawChange{{add(0)}},
		drop: true, mail: true, stop: true, fence: true, cancel: true,
	},
	{
		name: "overtake", vbs: 1, calls: [][][]dcp.RawChange{mostOfOne},
		refuse: true, ends: true, lateEnds: true, overtake: true,
	},
	{
		name: "pair", vbs: 2, calls: [][][]dcp.RawChange{someOfTwo},
		ends: true,
	},
}

func TestExploration(t *testing.T) {
	for _, cfg := range small {
		name := cfg.name
		if *only != "small" && *only != "all" && !strings.Contains(","+*only+",", ","+name+",") {
			continue
		}
		from := time.Now()
		s := explore(&cfg, func(line string) { fmt.Fprintln(os.Stderr, line) })
		if s.found != nil {
			t.Log(strings.Join(s.story, "\n"))
		}
		t.Log(s.summary(), time.Since(from))
		assert.Nil(t, s.found, "%v", s.found)
	}
}
