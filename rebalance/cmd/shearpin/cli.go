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
	// exitStopped is a rebalance that was stopped on request, exitUnreachable a manager that does not answer.
	exitStopped     = 3
	exitUnreachable = 4
)

// streams is the world outside: where to write, and who interrupts.
type streams struct {
	out, err io.Writer
	signals  <-chan os.Signal
}

// commandLine is what kong fills.
type commandLine struct {
	Demo   demoCommand   `cmd:"" name:"demo" help:"Rebalance a cluster of embedded nodes under load, break it on request, and check that nothing was lost."`
	Kvnode kvnodeCommand `cmd:"" name:"kvnode" help:"Run one embedded KV node until interrupted, and break it on request, over HTTP."`
	Serve  serveCommand  `cmd:"" name:"serve" help:"Manage a cluster until interrupted: replications, janitor, and a control API for the commands below."`

	Rebalance rebalanceCommand `cmd:"" help:"Spread the vbuckets over the nodes, and show it until it has ended."`
	Plan      planCommand      `cmd:"" help:"Show what a rebalance would do, and do nothing."`
	Status    statusCommand    `cmd:"" help:"Show what the manager is doing and how the buckets are."`
	Stop      stopCommand      `cmd:"" help:"Stop the rebalance that runs."`
	Pause     pauseCommand     `cmd:"" help:"Let the rebalance that runs begin no more moves."`
	Resume    resumeCommand    `cmd:"" help:"Go on with a rebalance that is paused."`
	AbortMove abortMoveCommand `cmd:"" help:"End the move of one vbucket before its switch; the others go on."`
	Retry     retryCommand     `cmd:"" help:"Show, or cancel, the rebalance that failed and is to be started again."`
	Failover  failoverCommand  `cmd:"" help:"Give nodes up: other copies of their vbuckets become active."`
	AddBack   addBackCommand   `cmd:"" help:"Take a node back that was failed over."`
	Nodes     nodesCommand     `cmd:"" help:"Show the nodes, add and remove them."`
	Buckets   bucketsCommand   `cmd:"" help:"Show the buckets, create one."`
	Janitor   janitorCommand   `cmd:"" help:"Have the janitor look after all buckets now."`
	Tree      treeCommand      `cmd:"" help:"Show the supervision tree."`
	Reports   reportsCommand   `cmd:"" help:"Show the reports of the last rebalances."`

	Events   eventsCommand   `cmd:"" help:"Show the event log, one event per line."`
	Throttle throttleCommand `cmd:"" help:"Show or change how rebalances are slowed down."`

	Version kong.VersionFlag `help:"Print the version and exit."`

	// chosen is the command that the line is for, as far as it could be read, and name what it is called; nil and "" are none.
	chosen command
	name   string
}

// command is something that the program can do.
type command interface {
	// validate checks what kong cannot.
	validate() error
	// run does it and returns the exit status. args are the whole command line, for errors.
	run(args []string, s streams) int
}

// demoName is the command whose errors may be asked for as JSON, even if the line cannot be parsed.
const demoName = "demo"

// demoCommand is the demo with its ways of showing.
type demoCommand struct {
	demo.Options `embed:""`

	JSON  bool   `name:"json" help:"Print one JSON object on standard output and nothing else there; progress and --hold's line go to standard error."`
	Trace string `placeholder:"FILE" help:"Write what happens to FILE: JSON lines with monotonic nanoseconds (t_ns)."`
	Hold  bool   `help:"At the end leave nodes and replication up until interrupted, and print a JSON line that says how to reach them, with a file of every acknowledged key and value."`
}

func (c *demoCommand) validate() error {
	if err := checkPath("--trace", c.Trace); err != nil {
		return err
	}
	return c.Check()
}

// checkPath refuses a flag that stands where the value of the one before should.
func checkPath(flag, value string) error {
	if strings.HasPrefix(value, "-") {
		return &demo.FlagError{Flag: flag, Value: value, Why: "looks like a flag; if it is a file, put ./ before it"}
	}
	return nil
}

// run does what args say and returns the exit status.
func run(args []string, s streams) int {
	var cmd commandLine
	status, done, err := parse(&cmd, args, s)
	if done {
		return status
	}
	if err == nil {
		err = cmd.chosen.validate()
	}
	if err != nil {
		return usageError(err, cmd.name, args, s)
	}
	return cmd.chosen.run(args, s)
}

// parse fills cmd. It says done when a flag such as --help has been served, with the status that the flag asked for.
func parse(cmd *commandLine, args []string, s streams) (status int, done bool, err error) {
	parser, err := grammar(cmd, s, func(code int) { status, done = code, true })
	if err != nil {
		return 0, false, fmt.Errorf("command line: %w", err)
	}
	parsed, err := parser.Parse(args)
	var wrong *kong.ParseError
	if errors.As(err, &wrong) {
		parsed = wrong.Context
	}
	if parsed != nil && parsed.Selected() != nil {
		node := parsed.Selected()
		cmd.name = strings.TrimPrefix(node.FullPath(), "shearpin ")
		cmd.chosen, _ = node.Target.Addr().Interface().(command)
	}
	return status, done, err
}

// grammar is what a command line may be; exit is called by flags such as --help.
func grammar(cmd *commandLine, s streams, exit func(code int)) (*kong.Kong, error) {
	return kong.New(cmd,
		kong.Name("shearpin"),
		kong.Description("Supervised vbucket replication and rebalance for Couchbase-compatible KV nodes."),
		kong.Writers(s.out, s.err),
		kong.Exit(exit),
		kong.WithHyphenPrefixedParameters(true),
		kong.Vars{"version": version(), "faults": strings.Join(demo.Faults(), ", ")},
	)
}

// usageError reports a line, for a command or for none, that cannot be used. The demo's may ask for JSON.
func usageError(err error, command string, args []string, s streams) int {
	if (command == "" || command == demoName) && wantsJSON(args) {
		printJSON(s.out, demo.Failed(err))
		return exitUsage
	}
	help := strings.TrimPrefix(command+" --help", " ")
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
