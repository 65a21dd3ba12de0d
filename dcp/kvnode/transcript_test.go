package kvnode_test

import (
	"bufio"
	"encoding/hex"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/shearpin/shearpin/dcp/mcbp"
)

// transcriptDir holds recorded conversations of a manager M with two real engines, C and P: one frame a line.
const transcriptDir = "../mcbp/testdata/transcripts"

// line is one line of a recording: a frame, or a comment about what was done.
type line struct {
	from, to byte
	frame    mcbp.Frame
	comment  string
}

func readTranscript(t testing.TB, name string) []line {
	t.Helper()
	file, err := os.Open(filepath.Join(transcriptDir, name+".txt"))
	require.NoError(t, err)
	defer file.Close()
	var lines []line
	for scanner := bufio.NewScanner(file); scanner.Scan(); {
		text := scanner.Text()
		if _, comment, ok := strings.Cut(text, "# "); ok {
			lines = append(lines, line{comment: comment})
			continue
		}
		fields := strings.Fields(text)
		require.Len(t, fields, 3, text)
		raw, err := hex.DecodeString(fields[2])
		require.NoError(t, err)
		lines = append(lines, line{from: fields[1][0], to: fields[1][2], frame: raw})
	}
	return lines
}

var stateComment = regexp.MustCompile(`^(producer|consumer)'s vb (\d+) set (\w+)`)

// stateChange reads a comment that says that somebody set a vbucket's state.
func (l line) stateChange(t testing.TB, whose string) (vb uint16, state mcbp.VBucketState, ok bool) {
	t.Helper()
	m := stateComment.FindStringSubmatch(l.comment)
	if m == nil || m[1] != whose {
		return 0, 0, false
	}
	n, err := strconv.ParseUint(m[2], 10, 16)
	require.NoError(t, err)
	state, err = mcbp.ParseVBucketState(m[3])
	require.NoError(t, err)
	return uint16(n), state, true
}
