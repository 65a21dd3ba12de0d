package dcp

import (
	"bufio"
	"encoding/hex"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/shearpin/shearpin/dcp/mcbp"
	"github.com/shearpin/shearpin/dcp/relay"
)

// transcriptDir holds the recorded conversations with real engines; the codec's tests keep them.
const transcriptDir = "mcbp/testdata/transcripts"

// recorded is one line of a transcript: a frame between the manager M, the consumer C and the producer P.
type recorded struct {
	from, to byte
	frame    mcbp.Frame
	note     string
}

func readTranscript(t *testing.T, name string) []recorded {
	t.Helper()
	file, err := os.Open(filepath.Join(transcriptDir, name+".txt"))
	require.NoError(t, err)
	defer file.Close()
	var lines []recorded
	scan := bufio.NewScanner(file)
	scan.Buffer(nil, 1<<20)
	for scan.Scan() {
		fields := strings.Fields(scan.Text())
		switch {
		case len(fields) == 3 && len(fields[1]) == 3:
			raw, err := hex.DecodeString(fields[2])
			require.NoError(t, err)
			lines = append(lines, recorded{from: fields[1][0], to: fields[1][2], frame: raw})
		case len(fields) > 1 && fields[1] == "#":
			lines = append(lines, recorded{note: strings.Join(fields[2:], " ")})
		}
	}
	require.NoError(t, scan.Err())
	return lines
}

// replay feeds a transcript through the verdict table and the machine. What the recording's manager asked for, the
// machine is asked for; its answers are given the opaques that the machine chose.
type replay struct {
	*script
	tables map[relay.Side]*relay.Table
	// ours maps the recording's opaque of a request to the machine's. A request that the machine did not send maps to nil.
	ours   map[mcbp.Opaque]*mcbp.Opaque
	passed map[byte][]string
}

func newReplay(t *testing.T) *replay {
	t.Helper()
	return &replay{
		script: newScript(t),
		tables: map[relay.Side]*relay.Table{relay.Consumer: relay.DefaultTable(relay.Consumer), relay.Producer: relay.DefaultTable(relay.Producer)},
		ours:   map[mcbp.Opaque]*mcbp.Opaque{}, passed: map[byte][]string{},
	}
}

func isOwnRequest(f mcbp.Frame) bool {
	switch f.Opcode() {
	case mcbp.OpDCPAddStream, mcbp.OpDCPCloseStream:
		return true
	}
	return isHandshake(f)
}

func isHandshake(f mcbp.Frame) bool { return strings.HasPrefix(f.Opaque().String(), "0000100") }

// run stops where the machine crashes and returns how many lines it took.
func (r *replay) run(lines []recorded) int {
	for i, line := range lines {
		switch {
		case line.frame == nil || isHandshake(line.frame):
		case line.from == 'M':
			if line.frame.Opcode() == mcbp.OpDCPAddStream || line.frame.Opcode() == mcbp.OpDCPCloseStream {
				r.asked(line, lines)
			}
		default:
			r.relayed(line)
		}
		if r.crash != nil {
			return i + 1
		}
	}
	return len(lines)
}

// asked makes the recording's request to the machine, if the machine makes such requests: it closes on both sides or not
// at all.
func (r *replay) asked(line recorded, all []recorded) {
	f := line.frame
	if _, done := r.ours[f.Opaque()]; done {
		return
	}
	kind := opAdd
	switch {
	case f.Opcode() == mcbp.OpDCPCloseStream:
		kind = opClose
		if !sentTo(all, f.Opaque(), 'C') || !sentTo(all, f.Opaque(), 'P') {
			r.ours[f.Opaque()] = nil
			return
		}
	case f.Extras()[3] == byte(mcbp.StreamFlagTakeover):
		kind = opTakeover
	}
	before := len(r.sent[relay.Consumer])
	r.call(kind, f.VBucket())
	r.ours[f.Opaque()] = nil
	if len(r.sent[relay.Consumer]) > before {
		opaque := r.sent[relay.Consumer][before].Opaque()
		r.ours[f.Opaque()] = &opaque
	}
}

func sentTo(lines []recorded, opaque mcbp.Opaque, to byte) bool {
	for _, l := range lines {
		if l.frame != nil && l.from == 'M' && l.to == to && l.frame.Opaque() == opaque {
			return true
		}
	}
	return false
}

func (r *replay) relayed(line recorded) {
	from, to := relay.Consumer, byte('P')
	if line.from == 'P' {
		from, to = relay.Producer, 'C'
	}
	f := line.frame
	if f.IsResponse() && (f.Opcode() == mcbp.OpDCPAddStream || f.Opcode() == mcbp.OpDCPCloseStream) {
		ours := r.ours[f.Opaque()]
		if ours == nil {
			return
		}
		opaque := *ours
		if f.Opcode() == mcbp.OpDCPCloseStream && from == relay.Producer {
			opaque = r.last(relay.Producer, mcbp.OpDCPCloseStream, r.vbOf(*ours)).Opaque()
		}
		f = append(mcbp.Frame(nil), f...)
		copy(f[12:16], opaque[:])
	}
	table := r.tables[from]
	verdict := relay.Pass
	switch table.Action(f.Magic(), f.Opcode()) {
	case relay.ActionPass:
	case relay.ActionDrop:
		verdict = relay.Drop
	case relay.ActionAsk:
		verdict = r.m.frame(from, f, r.now)
		r.perform()
	}
	if verdict == relay.Pass {
		r.passed[to] = append(r.passed[to], hex.EncodeToString(f))
	}
}

func (r *replay) vbOf(opaque mcbp.Opaque) uint16 {
	for _, f := range r.sent[relay.Consumer] {
		if f.Opaque() == opaque {
			return f.VBucket()
		}
	}
	r.t.Fatalf("opaque %v was never sent", opaque)
	return 0
}

// requirePassed compares what the machine let through with what the recording's manager passed on.
func (r *replay) requirePassed(lines []recorded, whole bool) {
	for _, to := range []byte{'C', 'P'} {
		var want []string
		for _, l := range lines {
			if l.frame != nil && l.from == 'M' && l.to == to && !isOwnRequest(l.frame) {
				want = append(want, hex.EncodeToString(l.frame))
			}
		}
		got := r.passed[to]
		if !whole {
			require.LessOrEqual(r.t, len(got), len(want))
			want = want[:len(got)]
		}
		require.Equal(r.t, want, got, "passed on to %c", to)
	}
}

// The verdicts that the recordings' page gives.
func TestTranscripts(t *testing.T) {
	for _, tc := range []struct {
		name    string
		streams []uint16
	}{
		{"7.2-add-three", []uint16{30, 31, 32}},
		{"8.0-add-three", []uint16{30, 31, 32}},
		{"7.2-refused", []uint16{34}},
		{"8.0-refused", []uint16{34}},
		// vb 38 went active on the consumer; the producer does not know and goes on.
		{"7.2-end-active", []uint16{38}},
		{"8.0-end-active", []uint16{38}},
		// vb 41 was closed at the consumer alone, which the producer does not learn either.
		{"7.2-close", []uint16{39, 41}},
		{"8.0-close", []uint16{39, 41}},
		{"7.2-rollback", []uint16{45}},
		{"8.0-rollback", []uint16{45}},
		{"7.2-takeover", nil},
		{"8.0-takeover", nil},
	} {
		t.Run(tc.name, func(t *testing.T) {
			lines := readTranscript(t, tc.name)
			r := newReplay(t)
			r.run(lines)
			require.NoError(t, r.crash)
			r.requirePassed(lines, true)
			assert.Equal(t, tc.streams, r.m.streams())
			assert.Len(t, r.answers, int(r.calls), "every caller has its answer")
		})
	}
}

func TestTranscriptsOfAnEndBeforeTheAnswer(t *testing.T) {
	for _, name := range []string{"7.2-end-before-answer", "8.0-end-before-answer"} {
		t.Run(name, func(t *testing.T) {
			lines := readTranscript(t, name)
			r := newReplay(t)
			n := r.run(lines)
			var end *UnexpectedStreamEnd
			require.ErrorAs(t, r.crash, &end)
			assert.Equal(t, mcbp.OpDCPStreamEnd, lines[n-1].frame.Opcode(), "at the STREAM_END, not later")
			assert.EqualValues(t, 35, end.VB)
			assert.Equal(t, mcbp.EndStateChanged, end.Reason)
			assert.Equal(t, lines[n-1].frame.Opaque(), end.StreamOpaque)
			r.requirePassed(lines, false)
		})
	}
}

// The recording closes a stream while it is being added, which we never do. Its end then carries the opaque of an
// unanswered add, so the first half crashes us as it must; the second stream of the vbucket must not.
func TestTranscriptsOfACloseWhileAdding(t *testing.T) {
	for _, name := range []string{"7.2-close-while-adding", "8.0-close-while-adding"} {
		t.Run(name, func(t *testing.T) {
			lines := readTranscript(t, name)
			r := newReplay(t)
			n := r.run(lines)
			var end *UnexpectedStreamEnd
			require.ErrorAs(t, r.crash, &end)
			assert.EqualValues(t, 43, end.VB)
			assert.Equal(t, mcbp.EndClosed, lines[n-1].reason())

			again := len(lines)
			for i, l := range lines {
				if l.note == "added again" {
					again = i
				}
			}
			require.Less(t, n, again)
			second := newReplay(t)
			second.run(lines[again:])
			require.NoError(t, second.crash)
			assert.Equal(t, []uint16{43}, second.m.streams())
			second.requirePassed(lines[again:], true)
		})
	}
}

func (l recorded) reason() mcbp.EndReason { return mcbp.EndReason(l.frame.Extras()[3]) }
