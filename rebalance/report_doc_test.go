package rebalance

import (
	"bytes"
	"encoding/json"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/shearpin/shearpin/dcp"
	"github.com/shearpin/shearpin/dcp/mcbp"
	"github.com/shearpin/shearpin/rebalance/vbmap"
)

// documentedBlock is the code block of docs/operations.md that comes first after a heading.
func documentedBlock(t *testing.T, heading, language string) string {
	t.Helper()
	page, err := os.ReadFile("../docs/operations.md")
	require.NoError(t, err)
	_, section, found := strings.Cut(string(page), "\n## "+heading+"\n")
	require.True(t, found, heading)
	_, block, found := strings.Cut(section, "```"+language+"\n")
	require.True(t, found, heading)
	block, _, found = strings.Cut(block, "```")
	require.True(t, found, heading)
	return block
}

// documentedReport is the report of a rebalance that failed with its second move, as the account of it makes it.
func documentedReport(t *testing.T) Report {
	t.Helper()
	at := time.Date(2026, 11, 27, 20, 14, 7, 0, time.UTC)
	after := func(d time.Duration) time.Time { return at.Add(d) }
	r := Report{ID: "5d1f0a7c9b3e2846", Outcome: Failed, Started: at, Ended: after(750 * time.Millisecond), MovesPlanned: 3, Moves: 1}
	r.describeNodes([]string{"n0", "n1"}, []string{"n0", "n1", "n3"})
	var plans []movePlan
	for vb, chains := range [][2]vbmap.Chain{{{"n0", "n1"}, {"n3", "n1"}}, {{"n1", "n0"}, {"n3", "n0"}}, {{"n0", "n1"}, {"n0", "n3"}}} {
		plan, err := planMove(uint16(vb), chains[0], chains[1])
		require.NoError(t, err)
		plans = append(plans, plan)
	}
	m := newProgressMachine(time.Hour, at)
	m.listed(1, at)
	m.bucketBegan("orders", at)
	m.plannedMoves(plans, after(100*time.Millisecond))
	m.counted([]copyNeed{{0, "n3", 120}, {0, "n1", 0}, {1, "n3", 80}})
	for vb := range uint16(2) {
		m.began(vb, after(100*time.Millisecond))
		for n, step := range []Step{StepReplica, StepStream, StepBackfill} {
			m.stepped(vb, step, "", after(time.Duration(100+50*n)*time.Millisecond))
		}
	}
	m.stepped(0, StepPersist, "", after(500*time.Millisecond))
	m.moverTold(1, map[string]float64{"n0": 0.5, "n3": 0.5}, after(600*time.Millisecond))
	m.ended(0, nil, after(600*time.Millisecond))
	m.told(1, "", []copyNeed{{1, "n3", 30}}, after(700*time.Millisecond))
	cause := &MoveError{VB: 1, From: "n1", To: "n3", Step: StepBackfill, Err: &dcp.LinkError{
		Producer: "n1", Consumer: "n3", Err: &dcp.CrashError{Role: dcp.RoleConsumer, Err: &dcp.UnexpectedStreamEnd{
			VB: 1, AddOpaque: mcbp.Opaque{0xff, 0, 1, 0xff}, StreamOpaque: mcbp.Opaque{1}, Reason: mcbp.EndStateChanged,
		}},
	}}
	m.ended(1, cause, r.Ended)
	b := BucketReport{Name: "orders", Epoch: 17, MovesPlanned: 3, Moves: 1, Started: at, Ended: r.Ended}
	m.account(&b, cause, r.Ended)
	m.carry(24_310)
	progress := m.brief(r.Ended)
	r.Fraction, r.Items, r.Bytes = progress.Fraction, progress.Items, progress.Bytes
	r.Buckets, r.Err = []BucketReport{b}, &RebalanceError{Bucket: "orders", Err: cause}
	r.conclude()
	return r
}

// The report in docs/operations.md is one that the code makes, to the byte.
func TestTheDocumentedReport(t *testing.T) {
	report := documentedReport(t)
	var text bytes.Buffer
	encoder := json.NewEncoder(&text)
	encoder.SetIndent("", "  ")
	encoder.SetEscapeHTML(false)
	require.NoError(t, encoder.Encode(report))
	want := compact(text.String())
	if os.Getenv("SHEARPIN_PRINT") != "" {
		t.Log("\n" + want)
	}
	assert.Equal(t, want, documentedBlock(t, "Reports", "json"))

	var again Report
	require.NoError(t, json.Unmarshal([]byte(documentedBlock(t, "Reports", "json")), &again))
	text.Reset()
	require.NoError(t, encoder.Encode(again))
	assert.Equal(t, want, compact(text.String()))
}

// compact puts objects and lists that are short on a line of their own.
func compact(text string) string {
	lines := strings.Split(text, "\n")
	for again := true; again; {
		again = false
		for i := 0; i < len(lines); i++ {
			if !strings.HasSuffix(lines[i], "{") && !strings.HasSuffix(lines[i], "[") {
				continue
			}
			joined, end := lines[i], i+1
			for ; end < len(lines); end++ {
				inner := strings.TrimSpace(lines[end])
				closes := strings.HasPrefix(inner, "}") || strings.HasPrefix(inner, "]")
				if closes || end == i+1 {
					joined += inner
				} else {
					joined += " " + inner
				}
				if closes && !strings.HasSuffix(inner, "{") {
					break
				}
				if strings.HasSuffix(inner, "{") || strings.HasSuffix(inner, "[") {
					joined = strings.Repeat("x", 200)
					break
				}
			}
			if len(joined) <= 120 && end < len(lines) {
				lines = append(append(lines[:i:i], joined), lines[end+1:]...)
				again = true
			}
		}
	}
	return strings.Join(lines, "\n")
}

// The events in docs/operations.md are as the log writes them.
func TestTheDocumentedEvents(t *testing.T) {
	block := documentedBlock(t, "The event log", "json")
	require.NotEmpty(t, block)
	for line := range strings.Lines(block) {
		var e LoggedEvent
		require.NoError(t, json.Unmarshal([]byte(line), &e), line)
		text, err := json.Marshal(e)
		require.NoError(t, err)
		assert.Equal(t, strings.TrimSpace(line), string(text))
	}
}

// Every type of event that the log has is in the table of docs/operations.md, and no other.
func TestTheDocumentedEventTypes(t *testing.T) {
	page, err := os.ReadFile("../docs/operations.md")
	require.NoError(t, err)
	_, section, _ := strings.Cut(string(page), "\n## The event log\n")
	section, _, _ = strings.Cut(section, "\n## ")
	documented := map[string]bool{}
	for line := range strings.Lines(section) {
		cell, isRow := strings.CutPrefix(line, "| `")
		if !isRow {
			continue
		}
		for name := range strings.SplitSeq(strings.SplitN(cell, "|", 2)[0], ",") {
			documented[strings.Trim(name, " `")] = true
		}
	}
	written := map[string]bool{}
	note := func(entries []LoggedEvent) {
		for _, e := range entries {
			written[e.Type] = true
		}
	}
	for _, event := range everyEvent() {
		note(logged(event))
	}
	for _, event := range everyReplicationEvent() {
		note(loggedReplication(event))
	}
	assert.Equal(t, written, documented)
}
