package explore

import (
	"fmt"
	"strings"
	"time"
)

// search is an exploration, breadth first: every state once, every action in every state.
type search struct {
	cfg    *config
	tally  *tally
	known  map[fingerprint]int32
	nodes  []node
	worlds map[int32]*world // of the nodes that are still to be expanded
	buffer []byte
	// progress is told how far the search is, if it is there.
	progress func(string)

	transitions int
	depth       int
	complete    bool
	took        time.Duration
	found       *violation
	story       []string
}

// node is how a state was reached first.
type node struct {
	parent int32
	depth  int32
	by     action
}

// keepWorlds bounds how many unexpanded worlds are kept; the others are made again from their story.
const keepWorlds = 100_000

// The first states of a search, and then every so many, are reached a second time from the beginning, to see that they are
// the same.
const (
	replayFirst = 1024
	replayEvery = 64
)

func explore(cfg *config, progress func(string)) *search {
	from := time.Now()
	s := &search{cfg: cfg, tally: newTally(), known: map[fingerprint]int32{}, worlds: map[int32]*world{}, progress: progress}
	defer func() { s.took = time.Since(from) }()
	s.add(newWorld(cfg, s.tally), node{parent: -1})
	var choices []action
	for i := int32(0); int(i) < len(s.nodes); i++ {
		n := s.nodes[i]
		if cfg.depth > 0 && int(n.depth) >= cfg.depth {
			return s
		}
		if i > 0 && n.depth > s.nodes[i-1].depth && s.progress != nil {
			s.progress(fmt.Sprintf("%s: depth %d, %d states, %d to expand", cfg.name, n.depth, len(s.nodes), len(s.nodes)-int(i)))
		}
		w := s.worlds[i]
		delete(s.worlds, i)
		if w == nil {
			w = s.replay(i)
		}
		choices = w.actions(choices)
		for j, a := range choices {
			next := w
			if j < len(choices)-1 {
				next = w.copy()
			}
			next.do(a)
			s.transitions++
			if next.broken != nil {
				s.report(next.broken, append(s.path(i), a))
				return s
			}
			s.add(next, node{parent: i, depth: n.depth + 1, by: a})
		}
	}
	s.complete = true
	return s
}

func (s *search) add(w *world, n node) {
	mark := w.fingerprint(&s.buffer)
	if _, old := s.known[mark]; old {
		return
	}
	id := int32(len(s.nodes))
	s.known[mark] = id
	s.nodes = append(s.nodes, n)
	s.depth = max(s.depth, int(n.depth))
	if len(s.worlds) < keepWorlds {
		s.worlds[id] = w
	}
	if id < replayFirst || id%replayEvery == 0 {
		s.tally.count(invReplay)
		if again := s.replay(id); again.text() != w.text() {
			s.report(&violation{invReplay, "the same events lead to:\n" + w.text() + "\n" + again.text()}, s.path(id))
		}
	}
}

func (s *search) path(id int32) []action {
	var back []action
	for ; s.nodes[id].parent >= 0; id = s.nodes[id].parent {
		back = append(back, s.nodes[id].by)
	}
	path := make([]action, len(back))
	for i, a := range back {
		path[len(back)-1-i] = a
	}
	return path
}

// replay makes a world again, without counting anything twice.
func (s *search) replay(id int32) *world {
	w := newWorld(s.cfg, newTally())
	for _, a := range s.path(id) {
		w.do(a)
	}
	w.tally = s.tally
	return w
}

// report keeps a violation and its story.
func (s *search) report(v *violation, path []action) {
	if s.found != nil {
		return
	}
	s.found = v
	s.story = tell(s.cfg, path)
}

// tell is the story of a path in words.
func tell(cfg *config, path []action) []string {
	var story []string
	t := newTally()
	t.story = func(line string) { story = append(story, line) }
	w := newWorld(cfg, t)
	for i, a := range path {
		before := len(story)
		w.do(a)
		if len(story) > before {
			story[before] = fmt.Sprintf("%3d  %s", i+1, story[before])
		}
		for j := before + 1; j < len(story); j++ {
			story[j] = "     " + strings.TrimLeft(story[j], " ")
		}
	}
	return story
}

// verdict is what was found, with its story.
func (s *search) verdict() string {
	if s.found == nil {
		return "nothing found"
	}
	return fmt.Sprintf("%s: %s\n\n%s\n", invariantNames[s.found.invariant], s.found.what, strings.Join(s.story, "\n"))
}

// summary is the line of one search in a table.
func (s *search) summary() string {
	var b strings.Builder
	reach := "every state"
	if !s.complete {
		reach = fmt.Sprintf("to depth %d", s.cfg.depth)
	}
	fmt.Fprintf(&b, "%-14s %9d states %10d transitions  depth %3d  %4d cells  %s", s.cfg.name, len(s.nodes), s.transitions, s.depth, len(s.tally.cells), reach)
	return b.String()
}
