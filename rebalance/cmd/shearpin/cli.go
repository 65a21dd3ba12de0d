package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"runtime/debug"
	"slices"
	"strings"

	"github.com/alecthomas/kong"
	"golang.org/x/term"

	"github.com/shearpin/shearpin/rebalance/cmd/shearpin/internal/demo"
)

// Exit statuses.
const (
	exitComplete = 0
	exitFailed   = 1
	exitUsage    = 2
)

// streams is the world outside: where to write, and who interrupts.
type streams struct {
	out, err io.Writer
	signals  <-chan os.Signal
}

// commandLine is what kong fills.
type commandLine struct {
	Demo    demoCommand      `cmd:"" help:"Rebalance a cluster of embedded nodes under load, break it on request, and check that nothing was lost."`
	Kvnode  kvnodeCommand    `cmd:"" name:"kvnode" help:"Run one embedded KV node until interrupted, and break it on request, over HTTP."`
	Version kong.VersionFlag `help:"Print the version and exit."`

	// chosen is the command that the line is for.
	chosen string
}

// demoCommand is the demo with its ways of showing.
type demoCommand struct {
	demo.Options `embed:""`

	JSON  bool   `name:"json" help:"Print one JSON object on standard output and nothing else there; progress and --hold's line go to standard error."`
	Trace string `placeholder:"FILE" help:"Write what happens to FILE: JSON lines with monotonic nanoseconds (t_ns)."`
	Hold  bool   `help:"At the end leave nodes and replication up until interrupted, and print a JSON line that says how to reach them, with a file of every acknowledged key and value."`
}

// validate checks what kong cannot.
func (c *demoCommand) validate() error {
	if strings.HasPrefix(c.Trace, "-") {
		return &demo.FlagError{Flag: "--trace", Value: c.Trace, Why: "looks like a flag; if it is a file, put ./ before it"}
	}
	return c.Check()
}

// run does what args say and returns the exit status.
func run(args []string, s streams) int {
	var cmd commandLine
	status, done, err := parse(&cmd, args, s)
	if done {
		return status
	}
	if err != nil {
		return usageError(err, args, s)
	}
	if cmd.chosen == "kvnode" {
		if err := cmd.Kvnode.validate(); err != nil {
			return kvnodeUsageError(err, s)
		}
		return cmd.Kvnode.run(s)
	}
	if err := cmd.Demo.validate(); err != nil {
		return usageError(err, args, s)
	}
	return cmd.Demo.run(args, s)
}

// parse fills cmd. It says done when a flag such as --help has been served, with the status that the flag asked for.
func parse(cmd *commandLine, args []string, s streams) (status int, done bool, err error) {
	parser, err := kong.New(cmd,
		kong.Name("shearpin"),
		kong.Description("Supervised vbucket replication and rebalance for Couchbase-compatible KV nodes."),
		kong.Writers(s.out, s.err),
		kong.Exit(func(code int) { status, done = code, true }),
		kong.WithHyphenPrefixedParameters(true),
		kong.Vars{"version": version(), "faults": strings.Join(demo.Faults(), ", ")},
	)
	if err != nil {
		return 0, false, fmt.Errorf("command line: %w", err)
	}
	parsed, err := parser.Parse(args)
	if err == nil {
		cmd.chosen = parsed.Command()
	}
	return status, done, err
}

// usageError reports a command line that cannot be used, in the form that it asked for itself.
func usageError(err error, args []string, s streams) int {
	if wantsJSON(args) {
		printJSON(s.out, demo.Failed(err))
		return exitUsage
	}
	help := "--help"
	for _, command := range []string{"demo", "kvnode"} {
		if slices.Contains(args, command) {
			help = command + " --help"
			break
		}
	}
	fmt.Fprintf(s.err, "shearpin: %v\nTry: shearpin %s\n", err, help)
	return exitUsage
}

// wantsJSON finds --json anywhere, also on a command line that could not be parsed.
func wantsJSON(args []string) bool {
	return slices.ContainsFunc(args, func(arg string) bool {
		value, found := strings.CutPrefix(arg, "--json=")
		return arg == "--json" || found && slices.Contains([]string{"true", "1", "yes"}, strings.ToLower(value))
	})
}

// isTerminal says whether w can show a progress bar.
func isTerminal(w io.Writer) bool {
	f, ok := w.(*os.File)
	return ok && term.IsTerminal(int(f.Fd()))
}

func version() string {
	info, ok := debug.ReadBuildInfo()
	if !ok || info.Main.Version == "" {
		return "shearpin (unknown version)"
	}
	return "shearpin " + info.Main.Version
}

// errInterrupted is why a run ended that somebody stopped.
var errInterrupted = errors.New("interrupted")
