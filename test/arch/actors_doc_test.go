package arch

import (
	"fmt"
	"go/ast"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// actorsDoc is the document about actors/ and supervisor/.
const actorsDoc = "docs/actors.md"

func readDoc(t *testing.T, name string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(root, filepath.FromSlash(name)))
	require.NoError(t, err)
	return string(text)
}

// All Go in the document is code of an example or a test of these packages, and so compiles and does what is said.
func TestActorsDocShowsCodeThatRuns(t *testing.T) {
	var sources strings.Builder
	for _, s := range house(t) {
		if s.test && strings.HasPrefix(path.Base(s.file), "example_") && (within(s.dir, "actors") || within(s.dir, "supervisor")) {
			sources.WriteString(readDoc(t, s.file))
		}
	}
	blocks := regexp.MustCompile("(?ms)^```go\n(.*?)^```").FindAllStringSubmatch(readDoc(t, actorsDoc), -1)
	require.NotEmpty(t, blocks)
	for _, block := range blocks {
		assert.Truef(t, containsIndented(sources.String(), block[1]), "no example has this:\n%s", block[1])
	}
}

// containsIndented reports whether source has a block of whole lines, all of which may be indented in it.
func containsIndented(source, block string) bool {
	source = "\n" + source
	for range 4 {
		if strings.Contains(source, "\n"+block) {
			return true
		}
		block = regexp.MustCompile("(?m)^(.)").ReplaceAllString(block, "\t$1")
	}
	return false
}

// otpCase is a case of one of OTP's suites.
type otpCase struct {
	name string
	// mark is P, A or N, or two of them: see the files.
	mark string
}

func (c otpCase) ported() bool  { return strings.ContainsAny(c.mark, "PA") }
func (c otpCase) leftOut() bool { return strings.Contains(c.mark, "N") }

// otpCases reads the list of a suite's cases.
func otpCases(t *testing.T, dir string) (cases []otpCase) {
	t.Helper()
	for line := range strings.Lines(readDoc(t, dir+"/testdata/otp_cases.txt")) {
		if strings.HasPrefix(line, "#") {
			continue
		}
		var c otpCase
		_, err := fmt.Sscanf(line, "%s %s", &c.name, &c.mark)
		require.NoErrorf(t, err, "%s: %q", dir, line)
		require.Regexp(t, `^([PAN]|[PA]/N)$`, c.mark)
		cases = append(cases, c)
	}
	require.NotEmpty(t, cases)
	return cases
}

// suites are the suites of OTP that are ported, by the folder that holds their tests.
var suites = map[string]string{"actors": "gen_server_SUITE", "supervisor": "supervisor_SUITE"}

// A case of OTP has a test, or the document says why not; and it says how many there are.
func TestEveryCaseOfOTPHasATestOrAReason(t *testing.T) {
	tests := map[string]map[string]bool{}
	for dir := range suites {
		tests[dir] = map[string]bool{}
	}
	for _, s := range house(t) {
		for _, decl := range s.ast.Decls {
			f, ok := decl.(*ast.FuncDecl)
			if !ok || !s.test {
				continue
			}
			if name, ok := strings.CutPrefix(f.Name.Name, "TestOTP_"); ok {
				require.Containsf(t, tests, s.dir, "%s: %s", s.file, f.Name.Name)
				tests[s.dir][name] = true
			}
		}
	}
	doc := readDoc(t, actorsDoc)
	for dir, suite := range suites {
		reasons := reasonsFor(doc, suite)
		counts := map[string]int{}
		for _, c := range otpCases(t, dir) {
			counts[c.mark[:1]]++
			if c.ported() {
				assert.Truef(t, tests[dir][c.name], "%s: no TestOTP_%s", dir, c.name)
			}
			assert.Equalf(t, c.leftOut(), reasons[c.name], "%s: %s is marked %s; has a reason: %v", actorsDoc, c.name, c.mark, reasons[c.name])
			delete(tests[dir], c.name)
			delete(reasons, c.name)
		}
		assert.Emptyf(t, tests[dir], "%s: tests named after cases that OTP does not have", dir)
		assert.Emptyf(t, reasons, "%s: reasons for cases that OTP does not have", actorsDoc)
		total := fmt.Sprintf("| `%s` | %d | %d | %d | %d |", suite, counts["P"]+counts["A"]+counts["N"], counts["P"], counts["A"], counts["N"])
		assert.Contains(t, doc, total)
	}
}

// reasonsFor returns the cases that the document's section on what is left out of a suite has a reason for.
func reasonsFor(doc, suite string) map[string]bool {
	_, section, _ := strings.Cut(doc, "\n### Left out of "+suite+"\n")
	section, _, _ = strings.Cut(section, "\n#")
	reasons := map[string]bool{}
	for line := range strings.Lines(section) {
		cells := strings.Split(line, "|")
		if len(cells) != 4 || strings.TrimSpace(cells[2]) == "" {
			continue
		}
		for _, m := range regexp.MustCompile("`([a-z0-9_]+)`").FindAllStringSubmatch(cells[1], -1) {
			reasons[m[1]] = true
		}
	}
	return reasons
}

// A test that the document names is there.
func TestActorsDocNamesTestsThatExist(t *testing.T) {
	namesTestsThatExist(t, actorsDoc, readDoc(t, actorsDoc))
}

func namesTestsThatExist(t *testing.T, name, doc string) {
	t.Helper()
	tests := testFunctions(t, ".")
	named := regexp.MustCompile("`(Test[A-Z][A-Za-z0-9_]*[A-Za-z0-9])`").FindAllStringSubmatch(doc, -1)
	require.NotEmpty(t, named)
	for _, m := range named {
		assert.NotNilf(t, tests[m[1]], "%s names %s", name, m[1])
	}
}
