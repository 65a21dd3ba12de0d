package console_test

import (
	"bytes"
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"

	"github.com/shearpin/shearpin/rebalance/cmd/shearpin/internal/console"
	"github.com/shearpin/shearpin/rebalance/cmd/shearpin/internal/demo"
)

func TestPlainLinesComeNowAndThen(t *testing.T) {
	var out bytes.Buffer
	c := console.New(&out, false)
	task := c.Begin("loading", 1000)
	for done := range 1000 {
		task.Set(done + 1)
	}
	task.End()
	assert.Equal(t, "loading: 0 of 1000\nloading: 20 % (200 of 1000)\nloading: 40 % (400 of 1000)\nloading: 60 % (600 of 1000)\n"+
		"loading: 80 % (800 of 1000)\nloading: 1000 of 1000\n", out.String())
}

func TestPlainLinesOfATaskThatWasBrokenOff(t *testing.T) {
	var out bytes.Buffer
	task := console.New(&out, false).Begin("moves", 3)
	task.Set(2)
	task.End()
	assert.Equal(t, "moves: 0 of 3\nmoves: 66 % (2 of 3)\nmoves: 2 of 3\n", out.String())
}

func TestTaskWithoutUnits(t *testing.T) {
	for _, terminal := range []bool{false, true} {
		var out bytes.Buffer
		task := console.New(&out, terminal).Begin("moves", 0)
		task.Set(0)
		task.End()
		assert.Equal(t, "moves: 0 of 0\nmoves: 0 of 0\n", out.String())
	}
}

func TestBarIsRedrawnAndLeavesOneLine(t *testing.T) {
	var out bytes.Buffer
	c := console.New(&out, true)
	task := c.Begin("loading", 10)
	task.Set(4)
	fmt.Fprintln(c.Beside(&out), "a warning")
	task.Set(10)
	task.End()
	c.Step("next")

	shown := out.String()
	assert.Contains(t, shown, "\r", "a bar redraws its line")
	assert.Contains(t, shown, "a warning\n")
	before, _, _ := strings.Cut(shown, "a warning\n")
	assert.Empty(t, strings.TrimSpace(before[strings.LastIndex(before, "\r"):]), "the warning starts on a clear line")
	end, found := strings.CutSuffix(shown, " s\nnext\n")
	assert.True(t, found, "%q", shown)
	assert.Contains(t, end[strings.LastIndex(end, "\r"):], "loading: 10 of 10 in 0.")
}

func TestSummaryShowsEachCauseBelowTheOther(t *testing.T) {
	var out bytes.Buffer
	ms := demo.Decimal(0.8)
	reason := "a node did not start"
	console.New(&out, false).Summary(&demo.Result{
		Status: demo.StatusFailed, Failures: []string{"documents: 1 acknowledged write is lost"}, Error: &reason,
		Rebalances: []demo.Rebalance{
			{Outcome: "failed", MovesPlanned: 9, Moves: 2, Seconds: 1.5, Cause: []string{`rebalance of "demo" aborted`, "move of vb 17 n0→n3", "crash"}},
			{Outcome: "complete", MovesPlanned: 7, Moves: 7, Seconds: 2},
		},
		Fault:       &demo.Fault{Kind: "early-stream-end", VB: 17, Producer: "n0", Consumer: "n3", AbortMS: &ms},
		AckedWrites: 100, LostWrites: 1, ConnectionRestarts: 1, JanitorRuns: 2, Seconds: 3.25,
	})
	assert.Equal(t, `
Rebalance 1   failed: 2 of 9 moves in 1.50 s
              rebalance of "demo" aborted
              └ because move of vb 17 n0→n3
                └ because crash
Rebalance 2   complete: 7 of 7 moves in 2.00 s
Fault         early-stream-end on vb 17, n0→n3; the rebalance was reported failed 0.80 ms later
Writes        100 acknowledged, 1 lost
Replicas      0 differ from their active
Supervision   1 restart of consumer connections, 2 janitor runs
Error         a node did not start
Not as it must be: documents: 1 acknowledged write is lost
Result        failed, in 3.2 s
`, out.String())
}
