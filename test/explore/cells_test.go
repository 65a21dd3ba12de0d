package explore

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// Every event must have been seen in every state, or be listed in testdata/impossible.txt with the reason why it cannot be.
// The lists of states and events are part of that file too, so that a state which is no longer reached does not go unnoticed.

// rule is a line that says which cells cannot be: machine | states | events | reason. States and events are names separated
// by semicolons, * for all, or, after a !, all but those.
type rule struct {
	line, reason   string
	machine        string
	states, events names
	used           int
}

type names struct {
	all    bool
	except bool
	list   []string
}

func parseNames(text string) names {
	text = strings.TrimSpace(text)
	if text == "*" {
		return names{all: true}
	}
	list, except := strings.CutPrefix(text, "!")
	n := names{except: except}
	for _, name := range strings.Split(list, ";") {
		n.list = append(n.list, strings.TrimSpace(name))
	}
	return n
}

func (n names) has(name string) bool { return n.all || slices.Contains(n.list, name) != n.except }

// atlas is what testdata/impossible.txt says.
type atlas struct {
	states, events map[string][]string // by machine
	rules          []*rule
}

func readAtlas(t *testing.T) atlas {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("testdata", "impossible.txt"))
	require.NoError(t, err)
	a := atlas{states: map[string][]string{}, events: map[string][]string{}}
	for line := range strings.Lines(string(text)) {
		line = strings.TrimSpace(line)
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		parts := strings.Split(line, "|")
		for i := range parts {
			parts[i] = strings.TrimSpace(parts[i])
		}
		switch {
		case len(parts) == 3 && parts[0] == "state":
			a.states[parts[1]] = append(a.states[parts[1]], parts[2])
		case len(parts) == 3 && parts[0] == "event":
			a.events[parts[1]] = append(a.events[parts[1]], parts[2])
		default:
			require.Lenf(t, parts, 4, "testdata/impossible.txt: %s", line)
			a.rules = append(a.rules, &rule{
				line: line, machine: parts[0], states: parseNames(parts[1]), events: parseNames(parts[2]), reason: parts[3],
			})
		}
	}
	for _, r := range a.rules {
		assert.NotEmptyf(t, r.reason, "no reason: %s", r.line)
		for _, name := range r.states.list {
			assert.Containsf(t, a.states[r.machine], name, "unknown state: %s", r.line)
		}
		for _, name := range r.events.list {
			assert.Containsf(t, a.events[r.machine], name, "unknown event: %s", r.line)
		}
	}
	return a
}

func (a atlas) impossible(c cell) *rule {
	for _, r := range a.rules {
		if r.machine == c.machine && r.states.has(c.state) && r.events.has(c.event) {
			return r
		}
	}
	return nil
}

// lookAtCells holds what was visited against what can be.
func lookAtCells(t *testing.T, visited map[cell]int) {
	t.Helper()
	a := readAtlas(t)
	for c := range visited {
		assert.Containsf(t, a.states[c.machine], c.state, "a state that is not listed: %v", c)
		assert.Containsf(t, a.events[c.machine], c.event, "an event that is not listed: %v", c)
	}
	for _, machine := range []string{"connection", "replicator"} {
		seen, impossible := 0, 0
		for _, state := range a.states[machine] {
			for _, event := range a.events[machine] {
				c := cell{machine, state, event}
				r := a.impossible(c)
				switch {
				case visited[c] > 0 && r != nil:
					assert.Failf(t, "visited, and listed as impossible", "%s\n%s", strings.Join([]string{machine, state, event}, " | "), r.line)
				case visited[c] > 0:
					seen++
				case r != nil:
					impossible++
					r.used++
				default:
					assert.Failf(t, "never visited, and not listed as impossible", "%s", strings.Join([]string{machine, state, event}, " | "))
				}
			}
		}
		t.Logf("%s: %d states x %d events: %d cells visited, %d impossible",
			machine, len(a.states[machine]), len(a.events[machine]), seen, impossible)
	}
	for _, r := range a.rules {
		assert.Positivef(t, r.used, "says nothing that another line does not: %s", r.line)
	}
}
