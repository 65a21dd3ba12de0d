package arch

import (
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// kvnodeDoc is the document about the embedded node.
const kvnodeDoc = "docs/kvnode.md"

// conversations are the names in the files of observed conversations.
func conversations(t *testing.T) []string {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(root, "dcp/kvnode/testdata/observed/*.txt"))
	require.NoError(t, err)
	var names []string
	for _, file := range files {
		text, err := os.ReadFile(file)
		require.NoError(t, err)
		for _, m := range regexp.MustCompile(`(?m)^=== (.*)$`).FindAllStringSubmatch(string(text), -1) {
			names = append(names, m[1])
		}
	}
	require.NotEmpty(t, names)
	return names
}

// What the document says of the node has a test, and each conversation has its row.
func TestEveryRowOfTheNodesDocumentHasATest(t *testing.T) {
	doc := readDoc(t, kvnodeDoc)
	namesTestsThatExist(t, kvnodeDoc, doc)

	var named []string
	for _, m := range regexp.MustCompile("`TestObserved/([^`]*)`").FindAllStringSubmatch(doc, -1) {
		named = append(named, m[1])
	}
	there := conversations(t)
	slices.Sort(there)
	assert.Equal(t, slices.Compact(slices.Clone(there)), there, "a name twice")
	slices.Sort(named)
	assert.Equal(t, there, slices.Compact(named), "the conversations that are there, and those that the document names")

	_, rest, _ := strings.Cut(doc, "\n## What real engines do\n")
	promises, reasons, found := strings.Cut(rest, "\n## What it does not do\n")
	require.True(t, found)
	rows := tableRows(promises)
	require.Greater(t, len(rows), 50)
	for _, row := range rows {
		assert.Regexp(t, "\\| `Test[^|]*\\|$", row, "a row without a test")
	}
	require.NotEmpty(t, tableRows(reasons))
}

// tableRows are the rows of a text's tables, without their heads.
func tableRows(text string) []string {
	var rows []string
	lines := strings.Split(text, "\n")
	for i, line := range lines {
		head := i+1 < len(lines) && strings.HasPrefix(lines[i+1], "|---")
		if strings.HasPrefix(line, "|") && !strings.HasPrefix(line, "|---") && !head {
			rows = append(rows, line)
		}
	}
	return rows
}
