package arch

import (
	"fmt"
	"go/ast"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// dcpDoc is the document about dcp/.
const dcpDoc = "docs/dcp.md"

// referenceRow is a row of what the reference was recorded doing, or of its state tables.
type referenceRow struct {
	id string
	// mark is P, D or N: see the file.
	mark string
}

// name is the row's part of a test's name.
func (r referenceRow) name() string { return strings.ReplaceAll(r.id, ".", "_") }

// referenceRows reads the list, by kind: trace and state.
func referenceRows(t *testing.T) map[string][]referenceRow {
	t.Helper()
	rows := map[string][]referenceRow{}
	for line := range strings.Lines(readDoc(t, "dcp/testdata/reference_rows.txt")) {
		if strings.HasPrefix(line, "#") {
			continue
		}
		fields := strings.Fields(line)
		require.Lenf(t, fields, 3, "%q", line)
		require.Contains(t, []string{"trace", "state"}, fields[0])
		require.Contains(t, []string{"P", "D", "N"}, fields[2])
		rows[fields[0]] = append(rows[fields[0]], referenceRow{id: fields[1], mark: fields[2]})
	}
	return rows
}

// testFunctions are the tests of a folder and below, by name.
func testFunctions(t *testing.T, dir string) map[string]*ast.FuncDecl {
	t.Helper()
	tests := map[string]*ast.FuncDecl{}
	for _, s := range house(t) {
		for _, decl := range s.ast.Decls {
			if f, ok := decl.(*ast.FuncDecl); ok && s.test && f.Recv == nil && (dir == "." || within(s.dir, dir)) {
				tests[f.Name.Name] = f
			}
		}
	}
	return tests
}

// rowsOf takes a test's name apart into the rows that it is named after; nil if it names something else too.
func rowsOf(name string, rows []referenceRow) []referenceRow {
	longest := slices.SortedFunc(slices.Values(rows), func(a, b referenceRow) int { return len(b.id) - len(a.id) })
	var named []referenceRow
	for name != "" {
		i := slices.IndexFunc(longest, func(r referenceRow) bool { return name == r.name() || strings.HasPrefix(name, r.name()+"_") })
		if i < 0 {
			return nil
		}
		named = append(named, longest[i])
		name = strings.TrimPrefix(strings.TrimPrefix(name, longest[i].name()), "_")
	}
	return named
}

// Every row of the reference has its test, or the document says why not; and a test whose rows differ on purpose says so.
func TestEveryRowOfTheReferenceHasATestOrAReason(t *testing.T) {
	tests := testFunctions(t, "dcp")
	doc := readDoc(t, dcpDoc)
	differs, left := idsOf(doc, "### What differs on purpose"), idsOf(doc, "### What has no counterpart")
	for kind, prefix := range map[string]string{"trace": "TestReference_", "state": "TestState_"} {
		rows := referenceRows(t)[kind]
		require.NotEmpty(t, rows)
		tested := map[string]bool{}
		for name, f := range tests {
			rest, ok := strings.CutPrefix(name, prefix)
			if !ok {
				continue
			}
			named := rowsOf(rest, rows)
			require.NotEmptyf(t, named, "%s is named after rows that the reference does not have", name)
			says := strings.Contains(f.Doc.Text(), "Differs")
			purpose := slices.ContainsFunc(named, func(r referenceRow) bool { return r.mark == "D" })
			assert.Equalf(t, purpose, says, "the comment of %s says that it differs: %v", name, says)
			for _, r := range named {
				tested[r.id] = true
			}
		}
		counts := map[string]int{}
		for _, r := range rows {
			counts[r.mark]++
			assert.Equalf(t, r.mark != "N", tested[r.id], "%s is marked %s; has a test: %v", r.id, r.mark, tested[r.id])
			assert.Equalf(t, r.mark == "D", differs[r.id], "%s is marked %s; is among what differs: %v", r.id, r.mark, differs[r.id])
			assert.Equalf(t, r.mark == "N", left[r.id], "%s is marked %s; is among what is left out: %v", r.id, r.mark, left[r.id])
			delete(differs, r.id)
			delete(left, r.id)
		}
		assert.Contains(t, doc, fmt.Sprintf("| `%s` | %d | %d | %d | %d |", prefix, len(rows), counts["P"], counts["D"], counts["N"]))
	}
	assert.Empty(t, differs, "rows that the reference does not have")
	assert.Empty(t, left, "rows that the reference does not have")
}

// idsOf are the rows named in the first column of the tables of a section.
func idsOf(doc, heading string) map[string]bool {
	_, section, _ := strings.Cut(doc, "\n"+heading+"\n")
	section, _, _ = strings.Cut(section, "\n#")
	ids := map[string]bool{}
	for line := range strings.Lines(section) {
		cells := strings.Split(line, "|")
		if len(cells) < 4 || strings.TrimSpace(cells[len(cells)-2]) == "" {
			continue
		}
		for _, m := range regexp.MustCompile("`([a-z0-9_.]+)`").FindAllStringSubmatch(cells[1], -1) {
			ids[m[1]] = true
		}
	}
	return ids
}

// A test that the document names is there, and each bug and each rule has one.
func TestDCPDocNamesTestsThatExist(t *testing.T) {
	doc := readDoc(t, dcpDoc)
	namesTestsThatExist(t, dcpDoc, doc)
	_, section, _ := strings.Cut(doc, "\n## Bugs that others had\n")
	section, _, _ = strings.Cut(section, "\n## ")
	for _, n := range []int{1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 31, 32, 33, 34, 35, 36, 37} {
		assert.Regexpf(t, fmt.Sprintf("(?m)^\\| %d \\|.*`Test", n), section, "no test for bug %d", n)
	}
}
