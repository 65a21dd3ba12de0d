package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/shearpin/shearpin/rebalance/cmd/shearpin/internal/demo"
)

func TestMain(m *testing.M) {
	testscript.Main(leakChecked{m}, map[string]func(){"shearpin": main})
}

// leakChecked fails a run of tests that leaves goroutines behind.
type leakChecked struct{ tests testscript.TestingM }

func (l leakChecked) Run() int {
	status := l.tests.Run()
	if status == 0 {
		if err := goleak.Find(); err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
	}
	return status
}

// The scripts run the program itself, as people and other programs do.
func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir: "testdata/script",
		Cmds: map[string]func(ts *testscript.TestScript, neg bool, args []string){
			"result": checkResult,
			"trace":  checkTrace,
			"reach":  reach,
			"http":   askHTTP,
			"write":  write,

			"configure": configure,
			"addr":      setAddr,
			"managed":   managed,
			"state":     awaitState,
		},
		Deadline: time.Now().Add(5 * time.Minute),
	})
}

func TestDefaultsOfTheFlags(t *testing.T) {
	var cmd commandLine
	_, done, err := parse(&cmd, []string{"demo"}, streams{out: io.Discard, err: io.Discard})
	require.NoError(t, err)
	require.False(t, done)
	assert.Equal(t, demo.Options{
		Nodes: 3, Add: 1, Remove: 0, VBuckets: 1024, Replicas: 1, Docs: 100_000, ValueSize: 256, Writers: 2, Seed: 1,
		Fault: "none", FaultVB: -1, AddTimeout: 2 * time.Second, Timeout: 5 * time.Minute,
	}, cmd.Demo.Options)
	assert.False(t, cmd.Demo.JSON || cmd.Demo.Hold)
	assert.Empty(t, cmd.Demo.Trace)
}

func TestJSONIsFoundOnCommandLinesThatCannotBeParsed(t *testing.T) {
	for _, args := range [][]string{{"--json"}, {"demo", "--json", "--nodes", "x"}, {"demo", "--bad", "--json"}, {"demo", "--json=true"}} {
		assert.True(t, wantsJSON(args), "%q", args)
	}
	for _, args := range [][]string{{}, {"demo", "--jsonx"}, {"demo", "--json=false"}, {"demo", "--json=maybe"}, {"json"}} {
		assert.False(t, wantsJSON(args), "%q", args)
	}
}

func TestBadCommandLines(t *testing.T) {
	for want, args := range map[string][]string{
		`--nodes 0: must be between 1 and 64`:      {"demo", "--nodes", "0"},
		`--fault boom: unknown kind; there are `:   {"demo", "--fault", "boom"},
		`--fault-vb -7: must be between -1`:        {"demo", "--fault-vb", "-7"},
		`--nodes: expected a valid 64 bit int`:     {"demo", "--nodes", "x"},
		`unknown flag --frob`:                      {"demo", "--frob"},
		`unexpected argument extra`:                {"demo", "extra"},
		`--trace /does/not/exist: open `:           {"demo", "--trace", "/does/not/exist"},
		`--trace --hold: looks like a flag; if it`: {"demo", "--json", "--trace", "--hold"},
		`--add-timeout: expected duration but go`:  {"demo", "--add-timeout", "soon"},
	} {
		var out, errs bytes.Buffer
		if !wantsJSON(args) {
			assert.Equal(t, exitUsage, run(args, streams{out: &out, err: &errs}), "%q", args)
			assert.Empty(t, out.String(), "%q", args)
			assert.Contains(t, errs.String(), "shearpin: "+want, "%q", args)
			errs.Reset()
		}

		assert.Equal(t, exitUsage, run(append(slices.Clone(args), "--json"), streams{out: &out, err: &errs}), "%q", args)
		assert.Empty(t, errs.String(), "%q", args)
		var r demo.Result
		require.NoError(t, json.Unmarshal(out.Bytes(), &r), "%q: %s", args, out.String())
		assert.Equal(t, demo.StatusFailed, r.Status)
		require.NotNil(t, r.Error)
		assert.Contains(t, *r.Error, want)
	}
}

func TestNoCommand(t *testing.T) {
	var out, errs bytes.Buffer
	assert.Equal(t, exitUsage, run(nil, streams{out: &out, err: &errs}))
	assert.Equal(t, "shearpin: expected one of \"demo\", \"kvnode\", \"serve\", \"rebalance\", \"plan\", ...\nTry: shearpin --help\n", errs.String())
	assert.Empty(t, out.String())
}

// The help that is offered is that of the command which the line is for, wherever names of commands stand otherwise.
func TestTheRightHelpIsOffered(t *testing.T) {
	for want, lines := range map[string][][]string{
		"--help":        {{"--frob"}, {"frob"}, {"--frob", "kvnode"}},
		"demo --help":   {{"demo", "--frob"}, {"demo", "kvnode"}, {"demo", "--trace", "kvnode", "--nodes", "0"}},
		"kvnode --help": {{"kvnode", "--frob"}, {"kvnode", "demo"}, {"kvnode", "--name", "demo", "--bucket", "x"}, {"kvnode", "--seed", "x"}, {"kvnode", "--json"}},
	} {
		for _, args := range lines {
			var out, errs bytes.Buffer
			assert.Equal(t, exitUsage, run(args, streams{out: &out, err: &errs}), "%q", args)
			assert.Empty(t, out.String(), "%q", args)
			assert.Contains(t, errs.String(), "\nTry: shearpin "+want+"\n", "%q", args)
		}
	}
}

func TestHelpAndVersionAreNotErrors(t *testing.T) {
	for _, args := range [][]string{{"--help"}, {"demo", "--help"}, {"--version"}} {
		var out bytes.Buffer
		assert.Equal(t, exitComplete, run(args, streams{out: &out, err: os.Stderr}), "%q", args)
		assert.Contains(t, out.String(), "shearpin", "%q", args)
	}
}

// The tables of docs/operations.md have every command of a manager and its clients, and every exit status.
func TestOperationsListsTheCommands(t *testing.T) {
	page, err := os.ReadFile("../../../docs/operations.md")
	require.NoError(t, err)
	_, section, found := strings.Cut(string(page), "### The commands")
	require.True(t, found)
	section, _, _ = strings.Cut(section, "\n### ")
	var commands, statuses []string
	for line := range strings.Lines(section) {
		cells := strings.Split(line, "|")
		switch {
		case len(cells) < 3:
		case strings.HasPrefix(cells[1], " `"):
			for name := range strings.SplitSeq(cells[1], ",") {
				commands = append(commands, strings.Trim(name, " `"))
			}
		case strings.TrimSpace(cells[1]) != "Command" && strings.TrimSpace(cells[1]) != "Exit status" && !strings.HasPrefix(cells[1], "---"):
			statuses = append(statuses, strings.TrimSpace(cells[1]))
		}
	}
	parser, err := grammar(&commandLine{}, streams{out: io.Discard, err: io.Discard}, func(int) {})
	require.NoError(t, err)
	var known []string
	for _, leaf := range parser.Model.Leaves(true) {
		name := strings.TrimPrefix(leaf.Path(), "shearpin ")
		name = strings.TrimSuffix(strings.TrimSuffix(name, " list"), " show") // what a group does by itself
		if name != demoName && name != "kvnode" {
			known = append(known, name)
		}
	}
	assert.ElementsMatch(t, known, commands)
	assert.Equal(t, []string{
		strconv.Itoa(exitComplete), strconv.Itoa(exitFailed), strconv.Itoa(exitUsage), strconv.Itoa(exitStopped), strconv.Itoa(exitUnreachable),
	}, statuses)
}
