package explore

import (
	"encoding/json"
	"flag"
	"go/format"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

var (
	mistakes = flag.Bool("mistakes", false, "make every deliberate mistake of testdata/mistakes and see that it is found")
	ask      = flag.String("explore.ask", "", "ask for one promise only, by its sentence")
)

// An exploration that finds nothing may be blind. Each file of testdata/mistakes is a mistake that somebody could make, or has
// made: a sentence, the exploration that must find it, the promise that must be found broken, and the change. The machines
// are compiled with it by way of an overlay; the sources in the repository stay as they are.
type mistake struct {
	name, about   string
	search, finds string
	// story are words that the story of the violation must contain.
	story   []string
	changes []change
}

// change replaces a piece of one file.
type change struct{ file, old, new string }

func readMistakes(t *testing.T) []mistake {
	t.Helper()
	files, err := filepath.Glob(filepath.Join("testdata", "mistakes", "*.txt"))
	require.NoError(t, err)
	require.NotEmpty(t, files)
	all := make([]mistake, len(files))
	for i, file := range files {
		text, err := os.ReadFile(file)
		require.NoError(t, err)
		all[i] = parseMistake(t, strings.TrimSuffix(filepath.Base(file), ".txt"), string(text))
	}
	return all
}

// parseMistake reads the sections "-- key: value --" of a file.
func parseMistake(t *testing.T, name, text string) mistake {
	t.Helper()
	m := mistake{name: name}
	for _, section := range strings.Split("\n"+text, "\n-- ")[1:] {
		head, body, _ := strings.Cut(section, "\n")
		key, value, _ := strings.Cut(strings.TrimSuffix(head, " --"), ": ")
		switch key {
		case "about":
			m.about = value
		case "search":
			m.search = value
		case "finds":
			m.finds = value
		case "story":
			m.story = append(m.story, value)
		case "was":
			m.changes = append(m.changes, change{file: value, old: body})
		case "is":
			require.NotEmptyf(t, m.changes, "%s: %s", name, head)
			m.changes[len(m.changes)-1].new = body
		default:
			require.Failf(t, "unknown section", "%s: %s", name, head)
		}
	}
	return m
}

// apply gives the changed files.
func (m mistake) apply(t *testing.T) map[string][]byte {
	t.Helper()
	root, err := filepath.Abs(filepath.Join("..", ".."))
	require.NoError(t, err)
	changed := map[string][]byte{}
	for _, c := range m.changes {
		file := filepath.Join(root, filepath.FromSlash(c.file))
		text, ok := changed[file]
		if !ok {
			text, err = os.ReadFile(file)
			require.NoError(t, err)
		}
		require.Equalf(t, 1, strings.Count(string(text), c.old), "%s: %s has changed; say where the mistake is made now:\n%s", m.name, c.file, c.old)
		text, err = format.Source([]byte(strings.Replace(string(text), c.old, c.new, 1)))
		require.NoErrorf(t, err, "%s: %s", m.name, c.file)
		changed[file] = text
	}
	return changed
}

func TestMistakes(t *testing.T) {
	for _, m := range readMistakes(t) {
		t.Run(m.name, func(t *testing.T) {
			require.Contains(t, invariantNames, m.finds)
			require.NotEmpty(t, m.about)
			changed := m.apply(t)
			if !*mistakes {
				return
			}
			out, err := m.make(t, changed)
			var failed *exec.ExitError
			require.ErrorAsf(t, err, &failed, "not found: %s\n%s", m.about, out)
			assert.Containsf(t, out, m.finds+": ", "%s\n%s", m.about, out)
			for _, words := range m.story {
				assert.Contains(t, out, words)
			}
			t.Logf("%s\nfound by %s\n%s", m.about, m.search, storyOf(out))
		})
	}
}

// make explores the machines with the mistake and gives what the search has to say.
func (m mistake) make(t *testing.T, changed map[string][]byte) (string, error) {
	t.Helper()
	dir := t.TempDir()
	replace := map[string]string{}
	for file, text := range changed {
		name := filepath.Join(dir, filepath.Base(file))
		require.NoError(t, os.WriteFile(name, text, 0o600))
		replace[file] = name
	}
	overlay, err := json.Marshal(map[string]any{"Replace": replace})
	require.NoError(t, err)
	file := filepath.Join(dir, "overlay.json")
	require.NoError(t, os.WriteFile(file, overlay, 0o600))
	cmd := exec.CommandContext(t.Context(), "go", "test", "-overlay", file, "-run", "^TestExploration$", "-count=1", ".",
		"-explore.config="+m.search, "-explore.ask="+m.finds)
	out, err := cmd.CombinedOutput()
	return string(out), err
}

// storyOf cuts the story out of a test's output.
func storyOf(out string) string {
	var lines []string
	in := false
	for line := range strings.Lines(out) {
		_, message, found := strings.Cut(line, "Messages:")
		switch {
		case found:
			in = true
			lines = append(lines, strings.TrimSpace(message))
		case strings.Contains(line, "_test.go:"):
			in = false
		case in:
			lines = append(lines, strings.TrimRight(strings.TrimPrefix(line, "        \t            \t"), "\n"))
		}
	}
	return strings.TrimRight(strings.Join(lines, "\n"), "\n")
}
