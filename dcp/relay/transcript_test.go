package relay_test

import (
	"bufio"
	"context"
	"encoding/hex"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/shearpin/shearpin/dcp/mcbp"
	"github.com/shearpin/shearpin/dcp/relay"
)

// transcript is a conversation of real engines: what each of them sent, and what the manager in the middle passed on.
type transcript struct {
	read, passed [2][]mcbp.Frame // by the side that sent, and by the side that received
}

func readTranscript(t *testing.T, path string) (tr transcript) {
	t.Helper()
	file, err := os.Open(path)
	require.NoError(t, err)
	defer func() { require.NoError(t, file.Close()) }()
	lines := bufio.NewScanner(file)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		fields := strings.Fields(lines.Text())
		if len(fields) != 3 || fields[0] == "#" {
			continue
		}
		b, err := hex.DecodeString(fields[2])
		if err != nil {
			continue // a remark
		}
		f := mcbp.Frame(b)
		if strings.HasPrefix(f.Opaque().String(), "0000100") && f.Opcode() != mcbp.OpDCPMutation {
			continue // the handshake
		}
		own := f.Opaque()[0] == 0xff && f.Opaque()[3] == 0xff
		switch {
		case fields[1] == "C>M":
			tr.read[relay.Consumer] = append(tr.read[relay.Consumer], f)
		case fields[1] == "P>M":
			tr.read[relay.Producer] = append(tr.read[relay.Producer], f)
		case fields[1] == "M>C" && !own:
			tr.passed[relay.Consumer] = append(tr.passed[relay.Consumer], f)
		case fields[1] == "M>P" && !own:
			tr.passed[relay.Producer] = append(tr.passed[relay.Producer], f)
		}
	}
	require.NoError(t, lines.Err())
	return tr
}

// dropAnswers drops the answers to what a manager asked; they must never reach the other engine.
func dropAnswers(_ context.Context, _ relay.Side, frames []mcbp.Frame, verdicts []relay.Verdict) error {
	for i, f := range frames {
		if f.IsResponse() && (f.Opcode() == mcbp.OpDCPAddStream || f.Opcode() == mcbp.OpDCPCloseStream) {
			verdicts[i] = relay.Drop
		}
	}
	return nil
}

func TestRecordedConversationsPassAsTheyDid(t *testing.T) {
	files, err := filepath.Glob("../mcbp/testdata/transcripts/*.txt")
	require.NoError(t, err)
	require.NotEmpty(t, files)
	for _, path := range files {
		t.Run(filepath.Base(path), func(t *testing.T) {
			tr := readTranscript(t, path)
			g := start(t, pipe, relay.Config{Decider: deciderFunc(dropAnswers)})
			for _, from := range []relay.Side{relay.Consumer, relay.Producer} {
				require.NotEmpty(t, tr.read[from])
				g.writeAsync(from, join(tr.read[from]...))
				for _, want := range tr.passed[from.Other()] {
					got := mcbp.Frame(g.read(from.Other(), len(want)))
					require.Equal(t, want, got, "%v instead of %v", got, want)
				}
			}
		})
	}
}
