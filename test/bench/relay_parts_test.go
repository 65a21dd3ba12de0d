package bench

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// What is measured of a relay is measured of a process that does nothing else: the test binary, started again to play one
// part. A part gets its arguments in the environment, says what it has to say in lines on its standard output, and ends by
// itself or when its standard input ends, which it does when whoever started it dies.
const (
	partEnv = "SHEARPIN_BENCH_PART"
	argsEnv = "SHEARPIN_BENCH_ARGS"
)

var parts = map[string]func(args string, out io.Writer) error{
	"mover":    playMover,
	"producer": playProducer,
	"consumer": playConsumer,
	"engines":  playEngines,
}

// playPart plays the part that this process was started for, if it was.
func playPart() bool {
	name := os.Getenv(partEnv)
	if name == "" {
		return false
	}
	go func() {
		_, _ = io.Copy(io.Discard, os.Stdin)
		os.Exit(2)
	}()
	if err := parts[name](os.Getenv(argsEnv), os.Stdout); err != nil {
		fmt.Fprintf(os.Stderr, "%s %s: %v\n", name, os.Getenv(argsEnv), err)
		os.Exit(1)
	}
	return true
}

// part is a process that plays one.
type part struct {
	t     testing.TB
	name  string
	cmd   *exec.Cmd
	stdin io.Closer
	lines *bufio.Scanner
}

// cast starts a process for a part. The test waits for its end with done; if it does not come to that, the process is ended
// with the test. The engines stand for other machines, so they must not take the processors from what is measured.
func cast(t testing.TB, name string, args ...any) *part {
	t.Helper()
	self, err := os.Executable()
	require.NoError(t, err)
	cmd := exec.Command(self)
	if nice, err := exec.LookPath("nice"); err == nil && name == "engines" {
		cmd = exec.Command(nice, "-n", "15", self)
	}
	cmd.Env = append(os.Environ(), partEnv+"="+name, argsEnv+"="+strings.TrimSpace(fmt.Sprintln(args...)))
	return launch(t, name, cmd)
}

func launch(t testing.TB, name string, cmd *exec.Cmd) *part {
	t.Helper()
	cmd.Stderr = os.Stderr
	stdin, err := cmd.StdinPipe()
	require.NoError(t, err)
	stdout, err := cmd.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, cmd.Start())
	p := &part{t: t, name: name, cmd: cmd, stdin: stdin, lines: bufio.NewScanner(stdout)}
	t.Cleanup(func() {
		if cmd.ProcessState == nil {
			p.kill()
		}
	})
	return p
}

// hear scans the next line that the part says into values.
func (p *part) hear(values ...any) {
	p.t.Helper()
	require.True(p.t, p.lines.Scan(), "%s has nothing more to say", p.name)
	_, err := fmt.Sscan(p.lines.Text(), values...)
	require.NoError(p.t, err, "%s said %q", p.name, p.lines.Text())
}

// done waits for the part's end.
func (p *part) done() {
	p.t.Helper()
	require.NoError(p.t, p.cmd.Wait(), p.name)
}

// kill ends the part, whatever it is doing.
func (p *part) kill() {
	_ = p.cmd.Process.Kill()
	var exit *exec.ExitError
	if err := p.cmd.Wait(); !errors.As(err, &exit) {
		require.NoError(p.t, err)
	}
}
