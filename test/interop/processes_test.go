package interop

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

var (
	kills     = flag.Int("kills", 2, "how often the manager is killed, and a node")
	killsSeed = flag.Uint64("kills-seed", 1, "decides when, and whom")
)

// killPatience bounds whatever a test with processes waits for.
const killPatience = 2 * time.Minute

// site is a cluster of processes: four nodes with disks, of which three hold the bucket from the start, and a manager.
type site struct {
	t       *testing.T
	dir     string
	dice    *rand.Rand
	nodes   []*process
	manager *process
}

// process is a program that can be killed and started again. It runs under a shell that kills it when lifeline is closed, which
// happens also if the test itself is killed: nothing is left behind.
type process struct {
	site     *site
	name     string
	args     []string
	log      *os.File
	cmd      *exec.Cmd
	lifeline io.Closer
}

// untilEOF runs a program until its standard input ends. No other signal than that reaches it.
const untilEOF = `trap '' HUP INT TERM; "$@" & read -r _; kill -9 $!; wait $!`

func newSite(t *testing.T) *site {
	t.Helper()
	s := &site{t: t, dir: t.TempDir(), dice: rand.New(rand.NewPCG(*killsSeed, 0))}
	t.Cleanup(func() {
		if t.Failed() {
			s.tellLogs()
		}
	})
	build := exec.CommandContext(t.Context(), "go", "build", "-o", s.path("shearpin"), "./rebalance/cmd/shearpin")
	build.Dir = "../.."
	said, err := build.CombinedOutput()
	require.NoError(t, err, "%s", said)
	var config strings.Builder
	fmt.Fprintf(&config, "credentials: {user: %s, password_env: SHEARPIN_PASSWORD}\nstore: store.db\ncontrol: {socket: c.sock}\n", user)
	fmt.Fprintf(&config, "janitor_interval: 1s\nbuckets: [{name: %s, vbuckets: %d, replicas: 2}]\nnodes:\n", bucketName, vbuckets)
	for i := range 4 {
		name := fmt.Sprintf("n%d", i)
		addr := freeAddress(t)
		fmt.Fprintf(&config, "  - {name: %s, addr: %q}\n", name, addr)
		s.nodes = append(s.nodes, s.process(name, "kvnode", "--listen", addr, "--name", name, "--data", s.path(name), "--user", user))
	}
	require.NoError(t, os.WriteFile(s.path("cluster.yaml"), []byte(config.String()), 0o600))
	for _, n := range s.nodes {
		n.start()
	}
	s.manager = s.process("manager", "serve", "--config", s.path("cluster.yaml"))
	s.manager.start()
	return s
}

func (s *site) path(name string) string { return filepath.Join(s.dir, name) }

// freeAddress is an address of this machine that nobody listens on and that the system gives to nobody who connects: a node that
// is down shall find it free again, and nobody shall be connected to himself there.
func freeAddress(t *testing.T) string {
	t.Helper()
	for range 100 {
		addr := fmt.Sprintf("127.0.0.1:%d", 20_000+rand.IntN(10_000))
		l, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", addr)
		if err == nil {
			require.NoError(t, l.Close())
			return addr
		}
	}
	require.Fail(t, "no port is free")
	return ""
}

func (s *site) process(name string, args ...string) *process {
	s.t.Helper()
	log, err := os.Create(s.path(name + ".log"))
	require.NoError(s.t, err)
	p := &process{site: s, name: name, args: args, log: log}
	s.t.Cleanup(func() {
		p.kill()
		_ = log.Close()
	})
	return p
}

// start returns when the process is ready.
func (p *process) start() {
	t := p.site.t
	t.Helper()
	ready := p.site.path(p.name + ".ready")
	if err := os.Remove(ready); !errors.Is(err, os.ErrNotExist) {
		require.NoError(t, err)
	}
	cmd := exec.Command("sh", slices.Concat(
		[]string{"-c", untilEOF, "sh", p.site.path("shearpin")}, p.args, []string{"--ready", ready},
	)...)
	cmd.Env = append(os.Environ(), "SHEARPIN_PASSWORD="+password)
	cmd.Stdout, cmd.Stderr = p.log, p.log
	lifeline, err := cmd.StdinPipe()
	require.NoError(t, err)
	require.NoError(t, cmd.Start())
	p.cmd, p.lifeline = cmd, lifeline
	p.site.eventually(p.name+" is ready", func() error {
		_, err := os.Stat(ready)
		return err
	})
}

// kill is kill -9.
func (p *process) kill() {
	if p.cmd != nil {
		_ = p.lifeline.Close()
		_ = p.cmd.Wait() // it has been killed
		p.cmd = nil
	}
}

// eventually tries until it succeeds.
func (s *site) eventually(what string, try func() error) {
	s.t.Helper()
	deadline := time.Now().Add(killPatience)
	ticker := time.NewTicker(20 * time.Millisecond)
	defer ticker.Stop()
	for {
		err := try()
		if err == nil {
			return
		}
		require.True(s.t, time.Now().Before(deadline), "%s: %v", what, err)
		<-ticker.C
	}
}

// command runs a client of the manager.
func (s *site) command(args ...string) (out []byte, err error) {
	ctx, cancel := context.WithTimeout(s.t.Context(), killPatience)
	defer cancel()
	cmd := exec.CommandContext(ctx, s.path("shearpin"), append(args, "--control", s.path("c.sock"))...)
	out, err = cmd.Output()
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		err = fmt.Errorf("shearpin %s: %w: %s%s", strings.Join(args, " "), err, out, exit.Stderr)
	}
	return out, err
}

// state is what the manager is doing.
func (s *site) state() (string, error) {
	out, err := s.command("status", "--json")
	if err != nil {
		return "", err
	}
	var status struct {
		State string `json:"state"`
	}
	return status.State, json.Unmarshal(out, &status)
}

// moveTo has the manager begin a rebalance.
func (s *site) moveTo(keep string) {
	s.t.Helper()
	_, err := s.command("rebalance", "--detach", "--keep", keep)
	require.NoError(s.t, err)
}

// soon is a moment from now on, while a rebalance runs or shortly after it.
func (s *site) soon() <-chan time.Time {
	return time.After(time.Duration(s.dice.Int64N(int64(1500 * time.Millisecond))))
}

// idle waits until no rebalance runs, and the janitor has nothing to complain about.
func (s *site) idle() {
	s.t.Helper()
	s.eventually("the manager is idle", func() error {
		state, err := s.state()
		if err == nil && state != "idle" {
			err = fmt.Errorf("it is %s", state)
		}
		return err
	})
	s.eventually("the janitor repairs", func() error {
		_, err := s.command("janitor")
		return err
	})
}

// complete has a rebalance go to its end.
func (s *site) complete(keep string) {
	s.t.Helper()
	_, err := s.command("rebalance", "--keep", keep)
	require.NoError(s.t, err)
}

func (s *site) tellLogs() {
	for _, p := range append(s.nodes, s.manager) {
		if p == nil {
			continue
		}
		text, _ := os.ReadFile(p.log.Name())
		s.t.Logf("%s:\n%s", p.name, text[max(0, len(text)-20_000):])
	}
}

const (
	allFour    = "n0,n1,n2,n3"
	firstThree = "n0,n1,n2"
)

// killed moves vbuckets to and fro, has somebody killed meanwhile, and sees that the cluster is whole afterwards.
func (s *site) killed(t *testing.T, kill func(round int)) {
	t.Helper()
	work := s.startDurableWriters()
	for round := range *kills {
		to, back := allFour, firstThree
		if round%2 == 1 {
			to, back = back, to
		}
		s.moveTo(to)
		moment := s.soon()
		<-moment
		kill(round)
		s.idle()
		s.complete(back)
		s.complete(to)
	}
	acked := work.end()
	s.idle()
	s.requireDurable(work)
	t.Logf("%d kills, %d durable writes acknowledged, all there", *kills, acked)
	assert.NotZero(t, acked)
}

// A manager that is killed at any moment finds the truth when it is started again, and can go on.
func TestAManagerIsKilled(t *testing.T) {
	s := newSite(t)
	s.idle()
	s.killed(t, func(int) {
		s.manager.kill()
		s.manager.start()
	})
	out, err := s.command("reports", "--json")
	require.NoError(t, err)
	t.Logf("reports: %.300s", out)
}

// A node that is killed at any moment and comes back keeps what was durable, and the cluster is repaired.
func TestANodeIsKilled(t *testing.T) {
	s := newSite(t)
	s.idle()
	s.killed(t, func(int) {
		n := s.nodes[s.dice.IntN(len(s.nodes))]
		n.kill()
		moment := s.soon()
		<-moment
		n.start()
	})
}
