package arch

import (
	"fmt"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// rebalanceDoc is the document about moves and the janitor.
const rebalanceDoc = "docs/rebalance.md"

// rowPrefixes are the tests of each kind of row in rebalance/testdata/rows.txt.
var rowPrefixes = map[string]string{
	"shape": "TestShape_", "interruption": "TestInterruption_", "janitor": "TestJanitor_", "order": "TestOrder_",
	"rule": "TestRule_", "watchdog": "TestWatchdog_",
}

// rebalanceRows reads the list, by kind. A mark is P, D or S: see the file.
func rebalanceRows(t *testing.T) map[string][]referenceRow {
	t.Helper()
	rows := map[string][]referenceRow{}
	for line := range strings.Lines(readDoc(t, "rebalance/testdata/rows.txt")) {
		if strings.HasPrefix(line, "#") {
			continue
		}
		fields := strings.Fields(line)
		require.Lenf(t, fields, 3, "%q", line)
		require.Contains(t, rowPrefixes, fields[0])
		require.Contains(t, []string{"P", "D", "S"}, fields[2])
		rows[fields[0]] = append(rows[fields[0]], referenceRow{id: fields[1], mark: fields[2]})
	}
	return rows
}

// Every row has its test and its place in the document, no test is named after a row that is not there, and what differs
// on purpose says so in both.
func TestEveryRowOfMovesAndRepairsHasATest(t *testing.T) {
	tests, doc, all := testFunctions(t, "rebalance"), readDoc(t, rebalanceDoc), rebalanceRows(t)
	differs := idsOf(doc, "## What differs on purpose")
	for kind, prefix := range rowPrefixes {
		rows := all[kind]
		require.NotEmptyf(t, rows, "no rows of kind %s", kind)
		known := map[string]bool{}
		for _, row := range rows {
			name := prefix + row.id
			assert.Falsef(t, known[name], "%s is there twice", row.id)
			known[name] = true
			assert.Regexpf(t, fmt.Sprintf("(?m)^\\| `%s` \\|.*`%s` \\|$", row.id, name), doc, "the row and its test in %s", rebalanceDoc)
			if f := tests[name]; assert.NotNilf(t, f, "%s has no test %s", row.id, name) {
				assert.Equalf(t, row.mark == "D", strings.Contains(f.Doc.Text(), "Differs"), "the comment of %s says that it differs", name)
			}
			assert.Equalf(t, row.mark == "D", differs[row.id], "%s is marked %s; is among what differs: %v", row.id, row.mark, differs[row.id])
			delete(differs, row.id)
		}
		for name := range tests {
			if strings.HasPrefix(name, prefix) {
				assert.Truef(t, known[name], "%s is named after a row that is not in the list", name)
			}
		}
	}
	assert.Empty(t, differs, "rows that are not in the list")
}

// A test that the document names is there, and each bug has one.
func TestRebalanceDocNamesTestsThatExist(t *testing.T) {
	doc := readDoc(t, rebalanceDoc)
	namesTestsThatExist(t, rebalanceDoc, doc)
	_, section, found := strings.Cut(doc, "\n## Bugs that others had\n")
	require.True(t, found)
	for n := 13; n <= 30; n++ {
		assert.Regexpf(t, fmt.Sprintf("(?m)^\\| %d \\|.*`Test", n), section, "no test for bug %d", n)
	}
	for name := range testFunctions(t, "rebalance") {
		if regexp.MustCompile(`^TestHistory_\d`).MatchString(name) {
			assert.Containsf(t, section, "`"+name+"`", "%s is not in %s", name, rebalanceDoc)
		}
	}
}
