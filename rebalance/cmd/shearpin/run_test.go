package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"io"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/shearpin/shearpin/dcp/kv"
	"github.com/shearpin/shearpin/rebalance/cmd/shearpin/internal/demo"
	"github.com/shearpin/shearpin/rebalance/cmd/shearpin/internal/workload"
)

// log is a destination that tests wait on: found is closed when the text has been written.
type log struct {
	mu    sync.Mutex
	text  bytes.Buffer
	await string
	found chan struct{}
}

func newLog(await string) *log { return &log{await: await, found: make(chan struct{})} }

func (l *log) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.text.Write(p)
	if l.await != "" && strings.Contains(l.text.String(), l.await) {
		l.await = ""
		close(l.found)
	}
	return len(p), nil
}

func (l *log) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}

// started is a run of the program inside this one.
type started struct {
	signals  chan os.Signal
	out, err *log
	status   chan int
}

// start runs the program; the log for people is awaited to contain text.
func start(text string, args ...string) *started {
	s := &started{signals: make(chan os.Signal, 2), out: newLog(""), err: newLog(text), status: make(chan int, 1)}
	go func() { s.status <- run(args, streams{out: s.out, err: s.err, signals: s.signals}) }()
	return s
}

func (s *started) wait(t *testing.T) int {
	t.Helper()
	select {
	case status := <-s.status:
		return status
	case <-time.After(time.Minute):
		require.FailNow(t, "the program does not end", "out: %s\nerr: %s", s.out, s.err)
	}
	return 0
}

func (s *started) reached(t *testing.T) {
	t.Helper()
	select {
	case <-s.err.found:
	case status := <-s.status:
		require.FailNow(t, "the program ended before that", "status %d\nout: %s\nerr: %s", status, s.out, s.err)
	case <-time.After(time.Minute):
		require.FailNow(t, "the program does not get there", "out: %s\nerr: %s", s.out, s.err)
	}
}

func (s *started) result(t *testing.T) demo.Result {
	t.Helper()
	var r demo.Result
	require.NoError(t, json.Unmarshal([]byte(s.out.String()), &r), "%s", s.out)
	return r
}

func TestHoldLetsAnyClientCheckEveryAcknowledgedWrite(t *testing.T) {
	s := start(`"nodes":[`, "demo", "--json", "--hold", "--vbuckets", "8", "--docs", "200", "--nodes", "2")
	s.reached(t)
	assert.Equal(t, demo.StatusComplete, s.result(t).Status, "the result does not wait for the interrupt")

	var held demo.Held
	lines := strings.Split(strings.TrimSpace(s.err.String()), "\n")
	require.NoError(t, json.Unmarshal([]byte(lines[len(lines)-1]), &held))
	require.Len(t, held.Nodes, 3)
	require.Len(t, held.Map, 8)

	nodes := make(map[string]*kv.Client)
	for _, node := range held.Nodes {
		client, err := kv.Connect(t.Context(), kv.Endpoint{
			Node: node.Name, Addr: node.Addr, Credentials: kv.Credentials{User: held.User, Password: held.Password},
		}, held.Bucket)
		require.NoError(t, err)
		defer func() { assert.NoError(t, client.Close()) }()
		nodes[node.Name] = client
	}
	acked, err := os.ReadFile(held.Acked)
	require.NoError(t, err)
	docs := 0
	for line := range bytes.Lines(acked) {
		var doc struct{ Key, Value string }
		require.NoError(t, json.Unmarshal(line, &doc))
		vb := workload.VBucketOf(doc.Key, len(held.Map))
		item, err := nodes[held.Map[vb][0]].Get(t.Context(), vb, doc.Key)
		require.NoError(t, err)
		require.Equal(t, doc.Value, string(item.Value))
		docs++
	}
	assert.Equal(t, 200, docs)

	s.signals <- os.Interrupt
	assert.Equal(t, exitComplete, s.wait(t))
	assert.NoFileExists(t, held.Acked)
	_, err = kv.Connect(t.Context(), kv.Endpoint{Addr: held.Nodes[0].Addr}, "")
	assert.Error(t, err, "the nodes are gone")
}

func TestFirstInterruptStopsCleanly(t *testing.T) {
	s := start("loading documents: 0 of", "demo", "--json", "--docs", "2000000", "--vbuckets", "8")
	s.reached(t)
	s.signals <- os.Interrupt
	assert.Equal(t, exitFailed, s.wait(t))
	r := s.result(t)
	assert.Equal(t, demo.StatusFailed, r.Status)
	assert.Contains(t, *r.Error, "interrupted while loading documents")
}

func TestInterruptStopsTheRebalance(t *testing.T) {
	s := start("rebalance, moves: 0 of", "demo", "--json", "--docs", "500", "--vbuckets", "16",
		"--fault", "no-add-response", "--add-timeout", "1m", "--timeout", "2m")
	s.reached(t)
	s.signals <- os.Interrupt
	assert.Equal(t, exitFailed, s.wait(t))
	r := s.result(t)
	assert.Contains(t, *r.Error, "interrupted while rebalance to")
	require.Len(t, r.Rebalances, 1)
	assert.Equal(t, "stopped", r.Rebalances[0].Outcome)
}

func TestSecondInterruptQuitsAtOnce(t *testing.T) {
	s := start("loading documents: 0 of", "demo", "--json", "--docs", "2000000", "--vbuckets", "8")
	s.reached(t)
	s.signals <- os.Interrupt
	s.signals <- os.Interrupt
	assert.Equal(t, exitFailed, s.wait(t))
	assert.Contains(t, *s.result(t).Error, "interrupted twice")
}

func TestTimeoutBoundsTheRun(t *testing.T) {
	s := start("", "demo", "--json", "--docs", "2000000", "--vbuckets", "8", "--timeout", "1s", "--add-timeout", "500ms")
	assert.Equal(t, exitFailed, s.wait(t))
	r := s.result(t)
	assert.Regexp(t, `^--timeout 1s ran out while (starting 3 nodes, 8 vbuckets, 1 replicas|loading documents)$`, *r.Error)
	assert.Contains(t, r.Failures, "documents: not all were read back")
	assert.Contains(t, r.Failures, "rebalance 1: must be complete, did not run")
}

func TestLinesForPeople(t *testing.T) {
	var out, errs bytes.Buffer
	status := run([]string{"demo", "--docs", "100", "--vbuckets", "8"}, streams{out: &out, err: &errs})
	assert.Equal(t, exitComplete, status)
	assert.Empty(t, errs.String())
	var lines []string
	for scan := bufio.NewScanner(&out); scan.Scan(); {
		assert.NotContains(t, scan.Text(), "\r", "no bar where nothing can be redrawn")
		lines = append(lines, scan.Text())
	}
	assert.Equal(t, "starting 3 nodes, 8 vbuckets, 1 replicas", lines[0])
	assert.Contains(t, lines, "adding node n3")
	assert.Regexp(t, `^Result        complete, in \d+\.\d s$`, lines[len(lines)-1])
}

func TestTraceThatCannotBeWrittenIsAFailure(t *testing.T) {
	// A pipe that nobody reads from breaks on the first write.
	r, w, err := os.Pipe()
	require.NoError(t, err)
	require.NoError(t, r.Close())
	var out bytes.Buffer
	cmd := demoCommand{JSON: true}
	var parsed commandLine
	_, _, err = parse(&parsed, []string{"demo", "--docs", "100", "--vbuckets", "8"}, streams{out: io.Discard, err: io.Discard})
	require.NoError(t, err)
	cmd.Options = parsed.Demo.Options
	status := cmd.show(w, streams{out: &out, err: io.Discard})
	assert.Equal(t, exitFailed, status)
	assert.Contains(t, out.String(), "--trace")
}
