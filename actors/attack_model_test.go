package actors_test

import (
	"errors"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/shearpin/shearpin/actors"
)

// A diary is what one process did and what it heard, in the order in which it happened to it. The rules of doc.go are rules
// about diaries, and checkDiary is all of them.
//
// Entries are those below, and Down, Exit and Response as they arrived.
type (
	monitored   struct{ ref actors.Ref }
	demonitored struct{ ref actors.Ref }
	linked      struct{ pid *actors.PID }
	unlinked    struct{ pid *actors.PID }
	requested   struct{ tag int }
	armed       struct{ timer int }
	disarmed    struct{ timer int } // Stop said that it was in time
	fired       struct{ timer int }
	// numbered is a message that says who sent it and which of his messages and signals to this process it is.
	numbered struct {
		from *actors.PID
		seq  int
	}
)

// numberedSignal is the reason of an exit signal that is numbered like a message.
type numberedSignal struct{ numbered }

func (*numberedSignal) Error() string { return "numbered" }

// world is what is known of the processes that a diary speaks of, when everything is over.
type world struct {
	reason    func(*actors.PID) error // nil for a living one
	confirmed func(from *actors.PID) int
}

// checkDiary returns what is wrong with a diary. Its owner may have died in the middle of it; if not, it must also have
// heard of everything that it was entitled to.
func checkDiary(diary []any, survived bool, w world) []string {
	c := &diaryChecker{
		w: w, refs: map[actors.Ref]string{}, dead: map[*actors.PID]bool{}, seqs: map[*actors.PID]int{}, links: map[*actors.PID]*linkStory{},
		tags: map[int]int{}, timers: map[int]string{},
	}
	for _, entry := range diary {
		c.enter(entry)
	}
	if survived {
		c.finish()
	}
	return c.faults
}

type diaryChecker struct {
	w      world
	refs   map[actors.Ref]string
	dead   map[*actors.PID]bool // a Down has said so
	seqs   map[*actors.PID]int
	links  map[*actors.PID]*linkStory
	tags   map[int]int
	timers map[int]string
	faults []string
}

// linkStory is what one process had to do with another by links.
type linkStory struct {
	made, exits, truths int
	owed                int // links that were neither cut nor answered
	open                bool
}

func (c *diaryChecker) must(ok bool, fault string) {
	if !ok {
		c.faults = append(c.faults, fault)
	}
}

func (c *diaryChecker) link(pid *actors.PID) *linkStory {
	if c.links[pid] == nil {
		c.links[pid] = &linkStory{}
	}
	return c.links[pid]
}

func (c *diaryChecker) enter(entry any) {
	switch e := entry.(type) {
	case monitored:
		c.must(c.refs[e.ref] == "", "a ref was given twice")
		c.refs[e.ref] = "held"
	case demonitored:
		c.refs[e.ref] = "dropped"
	case actors.Down:
		c.must(c.refs[e.Ref] != "", "Down without a monitor")
		c.must(c.refs[e.Ref] != "dropped", "Down after Demonitor")
		c.must(c.refs[e.Ref] != "told", "second Down")
		c.refs[e.Ref] = "told"
		truth := c.w.reason(e.PID)
		c.must(truth != nil, "Down of a living process")
		c.must(e.Reason == truth || e.Reason == actors.NoProcess, "Down with another reason")
		c.must(c.seqs[e.PID] >= c.w.confirmed(e.PID), "Down before a message sent before")
		c.dead[e.PID] = true
	case numbered:
		c.number(e)
	case linked:
		s := c.link(e.pid)
		s.made++
		if !s.open {
			s.open = true
			s.owed++
		}
	case unlinked:
		if s := c.link(e.pid); s.open {
			s.open = false
			s.owed--
		}
	case actors.Exit:
		c.exit(e)
	case requested:
		c.tags[e.tag] = 1
	case actors.Response:
		tag := e.Tag.(int)
		c.must(c.tags[tag] == 1, "Response to nothing, or a second one")
		c.tags[tag] = 2
		c.must(e.Err != nil || e.Value == tag, "the answer to another request")
	case armed:
		c.timers[e.timer] = "armed"
	case disarmed:
		c.must(c.timers[e.timer] == "armed", "stopped after it was handled")
		c.timers[e.timer] = "over"
	case fired:
		c.must(c.timers[e.timer] == "armed", "timer handled twice, or though it was stopped")
		c.timers[e.timer] = "over"
	}
}

// number takes a message or signal that its sender has numbered.
func (c *diaryChecker) number(e numbered) {
	c.must(e.seq == c.seqs[e.from]+1, "a message was lost, doubled or overtaken")
	c.must(!c.dead[e.from], "a message after its sender's Down")
	c.seqs[e.from] = e.seq
}

func (c *diaryChecker) exit(e actors.Exit) {
	if s := new(numberedSignal); errors.As(e.Reason, &s) && s.from == e.PID {
		c.number(s.numbered)
		return
	}
	s := c.link(e.PID)
	s.exits++
	truth := c.w.reason(e.PID)
	c.must(s.exits <= s.made, "more Exits than links")
	c.must(truth != nil, "Exit of a living process")
	c.must(e.Reason == truth || e.Reason == actors.NoProcess, "Exit with another reason")
	if e.Reason == truth && truth != actors.NoProcess {
		s.truths++
		c.must(s.truths == 1, "the same death by two Exits")
	}
	c.must(c.seqs[e.PID] >= c.w.confirmed(e.PID), "Exit before a message sent before")
	s.open = false
}

// finish checks that a process that is still alive has heard of everything.
func (c *diaryChecker) finish() {
	for _, state := range c.refs {
		c.must(state != "held", "a Down is missing")
	}
	for pid, s := range c.links {
		c.must(c.w.reason(pid) == nil || s.exits >= s.owed, "an Exit is missing")
	}
	for _, n := range c.tags {
		c.must(n == 2, "a Response is missing")
	}
	for _, state := range c.timers {
		c.must(state == "over", "a timer was lost")
	}
}

// The checker finds what it is there to find.
func TestDiaryCheckerFindsFaults(t *testing.T) {
	sys := newSystem(t)
	probe, watcher := start(t, sys, true)
	_, gone := start(t, sys, false)
	_, other := start(t, sys, false)
	ref, second := monitor(t, watcher, gone), monitor(t, watcher, gone)
	link(t, watcher, gone)
	gone.Exit(errBoom)
	probe.Await(t, actors.Exit{PID: gone, Reason: errBoom})
	w := world{reason: (*actors.PID).Reason, confirmed: func(*actors.PID) int { return 1 }}

	first := numbered{gone, 1}
	down := actors.Down{Ref: ref, PID: gone, Reason: errBoom}
	exit := actors.Exit{PID: gone, Reason: errBoom}
	late := actors.Exit{PID: gone, Reason: actors.NoProcess}
	good := []any{
		monitored{ref},
		monitored{second},
		linked{gone},
		requested{1},
		armed{1},
		armed{2},
		first,
		actors.Exit{PID: gone, Reason: &numberedSignal{numbered{gone, 2}}},
		down,
		actors.Down{Ref: second, PID: gone, Reason: errBoom},
		exit,
		linked{gone},
		late,
		actors.Response{Tag: 1, Value: 1},
		fired{1},
		disarmed{2},
	}
	require.Empty(t, checkDiary(good, true, w))
	require.Empty(t, checkDiary([]any{first, linked{gone}, unlinked{gone}, exit, monitored{ref}, demonitored{ref}}, true, w))
	require.Empty(t, checkDiary(good[:6], false, w), "who dies need not hear of all")

	for fault, diary := range map[string][]any{
		"a ref was given twice":                         {monitored{ref}, monitored{ref}},
		"Down without a monitor":                        {first, down},
		"Down after Demonitor":                          {monitored{ref}, demonitored{ref}, first, down},
		"second Down":                                   {monitored{ref}, first, down, down},
		"Down of a living process":                      {monitored{ref}, actors.Down{Ref: ref, PID: other, Reason: errBoom}},
		"Down with another reason":                      {monitored{ref}, first, actors.Down{Ref: ref, PID: gone, Reason: actors.Killed}},
		"Down before a message sent before":             {monitored{ref}, down},
		"a message after its sender's Down":             {monitored{ref}, first, down, numbered{gone, 2}},
		"a message was lost, doubled or overtaken":      {first, numbered{gone, 3}},
		"more Exits than links":                         {first, linked{gone}, exit, late},
		"Exit of a living process":                      {linked{other}, actors.Exit{PID: other, Reason: errBoom}},
		"Exit with another reason":                      {first, linked{gone}, actors.Exit{PID: gone, Reason: actors.Killed}},
		"the same death by two Exits":                   {first, linked{gone}, linked{gone}, exit, exit},
		"Exit before a message sent before":             {linked{gone}, exit},
		"Response to nothing, or a second one":          {requested{1}, actors.Response{Tag: 1, Value: 1}, actors.Response{Tag: 1, Value: 1}},
		"the answer to another request":                 {requested{1}, actors.Response{Tag: 1, Value: 2}},
		"stopped after it was handled":                  {armed{1}, fired{1}, disarmed{1}},
		"timer handled twice, or though it was stopped": {armed{1}, disarmed{1}, fired{1}},
		"a Down is missing":                             {monitored{ref}},
		"an Exit is missing":                            {linked{gone}, unlinked{gone}, linked{gone}},
		"a Response is missing":                         {requested{1}},
		"a timer was lost":                              {armed{1}},
	} {
		require.Contains(t, checkDiary(diary, true, w), fault)
	}
}
