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

// everyday is what engines do without being at fault.
func everyday(c config) config {
	c.refuse, c.rollback, c.ends, c.lateEnds, c.time = true, 1, true, true, true
	return c
}

// faults is what they should not do.
func faults(c config) config {
	c.mute, c.refuseClose, c.drop = true, true, true
	return c
}

func strangers(c config) config {
	c.alien, c.repeat, c.malformed, c.time = true, true, true, false
	return c
}

func owners(c config) config {
	c.stop, c.fence, c.cancel, c.giveUp, c.refused = true, true, true, true, true
	return c
}

func oneVBucket() [][]dcp.RawChange {
	return [][]dcp.RawChange{add(0), closing(0), takeover(0), bareTakeover(0)}
}

func one(name string) config {
	return config{name: name, vbs: 1, calls: [][][]dcp.RawChange{oneVBucket()}}
}

var configs = []config{
	faults(everyday(one("engines"))),
	strangers(everyday(one("strangers"))),
	owners(everyday(one("owners"))),
	func() config { c := everyday(one("progress")); c.progress = true; return c }(),
	func() config {
		c := owners(one("mail"))
		c.mail, c.drop, c.ends, c.time = true, true, true, true
		return c
	}(),
	func() config { c := everyday(one("overtake")); c.overtake = true; return c }(),
}

func TestExploration(t *testing.T) {
	for _, cfg := range configs {
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
