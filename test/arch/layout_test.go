package arch

import (
	"bufio"
	"go/ast"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// The folders of the house are few and fixed; what is new finds its room inside one of them.
func TestNothingElseAtTheTop(t *testing.T) {
	entries, err := os.ReadDir(root)
	require.NoError(t, err)
	known := []string{
		"go.mod", "go.sum", "README.md", "LICENSE",
		"actors", "supervisor", "dcp", "rebalance", "test", "docs",
	}
	ignored := ignoredNames(t)
	for _, entry := range entries {
		name := entry.Name()
		if strings.HasPrefix(name, ".") || matchesAny(t, ignored, name) {
			continue
		}
		assert.Contains(t, known, name, "unexpected entry at the top of the repository")
	}
}

// ignoredNames reads the patterns of .gitignore: a built command or a profile lying about is nobody's mistake.
func ignoredNames(t *testing.T) []string {
	t.Helper()
	file, err := os.Open(filepath.Join(root, ".gitignore"))
	require.NoError(t, err)
	defer file.Close()
	var patterns []string
	for lines := bufio.NewScanner(file); lines.Scan(); {
		if line := strings.TrimSpace(lines.Text()); line != "" && !strings.HasPrefix(line, "#") {
			patterns = append(patterns, strings.Trim(line, "/"))
		}
	}
	return patterns
}

func matchesAny(t *testing.T, patterns []string, name string) bool {
	t.Helper()
	for _, pattern := range patterns {
		ok, err := path.Match(pattern, name)
		require.NoErrorf(t, err, "pattern %q of .gitignore", pattern)
		if ok {
			return true
		}
	}
	return false
}

func TestEveryPackageSaysWhatItIsFor(t *testing.T) {
	comments := map[string]int{} // by folder
	for _, s := range house(t) {
		comments[s.dir] += 0
		if s.ast.Doc == nil {
			continue
		}
		comments[s.dir]++
		opening := "Package " + s.ast.Name.Name + " "
		if s.ast.Name.Name == "main" {
			opening = "Command " + path.Base(s.dir) + " "
		}
		assert.Truef(t, strings.HasPrefix(s.ast.Doc.Text(), opening),
			"%s: its package comment should begin with %q", s.file, opening)
	}
	for dir, n := range comments {
		assert.Equalf(t, 1, n, "%s: one file, and only one, should have a package comment", dir)
	}
}

// A document that names a file which has moved sends its reader astray.
func TestDocumentsNameWhatExists(t *testing.T) {
	link := regexp.MustCompile(`\]\(([^)#\s]+)`)
	quoted := regexp.MustCompile("`((?:actors|supervisor|dcp|rebalance|test|docs)/[A-Za-z0-9_./-]*)`")
	code := regexp.MustCompile("(?ms)^```.*?^```|`[^`\n]*`") // may look like a link

	documents, err := filepath.Glob(filepath.Join(root, "docs", "*.md"))
	require.NoError(t, err)
	documents = append(documents, filepath.Join(root, "README.md"))
	for _, document := range documents {
		text, err := os.ReadFile(document)
		require.NoError(t, err)
		for _, m := range link.FindAllStringSubmatch(code.ReplaceAllString(string(text), "code"), -1) {
			if !strings.Contains(m[1], "://") {
				exists(t, document, filepath.Join(filepath.Dir(document), m[1]))
			}
		}
		for _, m := range quoted.FindAllStringSubmatch(string(text), -1) {
			if !strings.Contains(m[1], "...") {
				exists(t, document, filepath.Join(root, m[1]))
			}
		}
	}
}

func exists(t *testing.T, document, name string) {
	t.Helper()
	_, err := os.Stat(name)
	assert.NoErrorf(t, err, "%s points at it", document)
}

// A test waits for what it wants to see. Virtual time passes by actortest.Elapse, which panics in real time, and what plays somebody
// slow waits for a timer, in files that have a bubble for it.
func TestNoTestSleeps(t *testing.T) {
	for _, s := range house(t) {
		if !s.test {
			continue
		}
		virtual := slices.Contains(s.imports(), "testing/synctest")
		limits := map[ast.Stmt]bool{} // cases of a select, which do not sleep
		ast.Inspect(s.ast, func(n ast.Node) bool {
			switch n := n.(type) {
			case *ast.SelectorExpr:
				assert.Falsef(t, ofTime(n, "Sleep"), "%s: time.Sleep", s.at(n))
			case *ast.CommClause:
				limits[n.Comm] = true
			case *ast.ExprStmt:
				if receive, ok := n.X.(*ast.UnaryExpr); ok && !virtual && !limits[n] {
					call, ok := receive.X.(*ast.CallExpr)
					assert.Falsef(t, ok && ofTime(call.Fun, "After"), "%s: <-time.After in a file without testing/synctest", s.at(n))
				}
			}
			return true
		})
	}
}

// A test that is skipped is not there, and an action of a property that does not apply now does nothing.
func TestNoTestIsSkipped(t *testing.T) {
	for _, s := range house(t) {
		if !s.test {
			continue
		}
		ast.Inspect(s.ast, func(n ast.Node) bool {
			if call, ok := n.(*ast.CallExpr); ok {
				if f, ok := call.Fun.(*ast.SelectorExpr); ok {
					assert.NotContainsf(t, []string{"Skip", "Skipf", "SkipNow"}, f.Sel.Name, "%s: a skip", s.at(n))
				}
			}
			return true
		})
	}
}

// ofTime says whether an expression names that function of package time.
func ofTime(e ast.Expr, name string) bool {
	f, ok := e.(*ast.SelectorExpr)
	if !ok || f.Sel.Name != name {
		return false
	}
	from, ok := f.X.(*ast.Ident)
	return ok && from.Name == "time"
}
