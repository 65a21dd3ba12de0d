package serve_test

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/shearpin/shearpin/actors"
	"github.com/shearpin/shearpin/dcp/kvnode"
	"github.com/shearpin/shearpin/dcp/kvnode/fault"
	"github.com/shearpin/shearpin/dcp/mcbp"
	"github.com/shearpin/shearpin/rebalance"
	"github.com/shearpin/shearpin/rebalance/cmd/shearpin/internal/config"
	"github.com/shearpin/shearpin/rebalance/cmd/shearpin/internal/control"
	"github.com/shearpin/shearpin/rebalance/cmd/shearpin/internal/serve"
	"github.com/shearpin/shearpin/rebalance/store"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// within bounds what a test waits for.
const within = time.Minute

// token is what callers over TCP have to show.
const token = "0123456789abcdef"

// site is a manager of two nodes, which can be commanded on a socket and over TCP.
type site struct {
	t       *testing.T
	dir     string
	script  *fault.Script // of the second node
	fault   *fault.Fault  // what was added last
	text    string        // of the configuration, without what was added
	config  *config.Config
	manager *serve.Manager
	client  *control.Client
}

// newSite starts the nodes and the manager; rest is added to its configuration.
func newSite(t *testing.T, rest string) *site {
	t.Helper()
	dir, err := os.MkdirTemp("", "serve") //nolint:usetesting // the path of a socket must be short, and that has the test's name in it
	require.NoError(t, err)
	t.Cleanup(func() { assert.NoError(t, os.RemoveAll(dir)) })
	s := &site{t: t, dir: dir, script: fault.NewScript(1)}
	text := "nodes:\n"
	for i := range 2 {
		options := kvnode.Options{Name: fmt.Sprintf("n%d", i)}
		if i == 1 {
			options.Faults = s.script
		}
		node, err := kvnode.Start(options)
		require.NoError(t, err)
		t.Cleanup(func() { assert.NoError(t, node.Close()) })
		text += fmt.Sprintf("  - {name: n%d, addr: %q}\n", i, node.Addr())
	}
	require.NoError(t, os.WriteFile(filepath.Join(dir, "token"), []byte(token+"\n"), 0o600))
	text += "store: s.db\njanitor_interval: 1h\ncontrol: {socket: c.sock, listen: \"127.0.0.1:0\", token_file: token}\n"
	s.text = text
	s.config, err = config.Parse(filepath.Join(dir, "c.yaml"), []byte(text+rest))
	require.NoError(t, err)
	s.manager, err = serve.Start(t.Context(), s.config, slog.New(slog.DiscardHandler))
	require.NoError(t, err)
	s.client = control.NewSocketClient(s.manager.Socket())
	t.Cleanup(func() {
		s.close()
		s.client.Close()
	})
	return s
}

// close ends the manager, once.
func (s *site) close() {
	if s.manager == nil {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), within)
	defer cancel()
	assert.NoError(s.t, s.manager.Close(ctx))
	s.manager = nil
}

func (s *site) ready() {
	select {
	case <-s.manager.Ready():
	case <-time.After(within):
		require.Fail(s.t, "the buckets did not come")
	}
}

// send is a request over TCP, with the token unless edit takes it away.
func (s *site) send(method, path, body string, edit func(*http.Request)) (status int, answer string) {
	s.t.Helper()
	r, err := http.NewRequestWithContext(s.t.Context(), method, "http://"+s.manager.Addr()+path, strings.NewReader(body))
	require.NoError(s.t, err)
	r.Header.Set("Authorization", "Bearer "+token)
	r.Header.Set("Content-Type", "application/json")
	r.Close = true
	if edit != nil {
		edit(r)
	}
	out, err := http.DefaultClient.Do(r)
	require.NoError(s.t, err)
	defer out.Body.Close()
	text, err := io.ReadAll(out.Body)
	require.NoError(s.t, err)
	return out.StatusCode, string(text)
}

// code is that of the problem in an answer.
func code(t *testing.T, answer string) string {
	t.Helper()
	var body struct{ Error control.Problem }
	require.NoError(t, json.Unmarshal([]byte(answer), &body), answer)
	return body.Error.Code
}

func TestOnlyWhoKnowsTheTokenComesInOverTCP(t *testing.T) {
	s := newSite(t, "")
	for name, header := range map[string]string{
		"none": "", "another": "Bearer 0123456789abcdeX", "a part": "Bearer 0123", "more": "Bearer " + token + "0",
		"another scheme": "Basic " + token, "no scheme": token, "an empty one": "Bearer ",
	} {
		for _, path := range []string{"/api/v1/status", "/metrics", "/nothing"} {
			status, answer := s.send(http.MethodGet, path, "", func(r *http.Request) { r.Header.Set("Authorization", header) })
			assert.Equal(t, http.StatusUnauthorized, status, name)
			assert.Equal(t, control.CodeUnauthorised, code(t, answer), name)
		}
	}
	status, _ := s.send(http.MethodGet, "/api/v1/status", "", nil)
	assert.Equal(t, http.StatusOK, status)
	status, answer := s.send(http.MethodGet, "/healthz", "", func(r *http.Request) { r.Header.Del("Authorization") })
	assert.Equal(t, http.StatusOK, status, "a probe has no token")
	assert.JSONEq(t, `{"status":"ok"}`, answer)
}

// A page in a browser on this machine could send requests to it, by another name of the machine or from another origin.
func TestBrowsersDoNotComeIn(t *testing.T) {
	s := newSite(t, "")
	status, answer := s.send(http.MethodGet, "/api/v1/status", "", func(r *http.Request) { r.Host = "example.com:80" })
	assert.Equal(t, http.StatusForbidden, status)
	assert.Contains(t, answer, `"field":"Host","value":"example.com:80"`)
	status, answer = s.send(http.MethodGet, "/healthz", "", func(r *http.Request) { r.Host = "example.com" })
	assert.Equal(t, http.StatusForbidden, status, answer)
	status, answer = s.send(http.MethodGet, "/api/v1/status", "", func(r *http.Request) { r.Header.Set("Origin", "http://localhost") })
	assert.Equal(t, http.StatusForbidden, status)
	assert.Contains(t, answer, `"field":"Origin"`)
	status, answer = s.send(http.MethodPost, "/api/v1/janitor", "", func(r *http.Request) { r.Header.Set("Content-Type", "text/plain") })
	assert.Equal(t, http.StatusUnsupportedMediaType, status)
	assert.Equal(t, control.CodeNotJSON, code(t, answer))
	for _, host := range []string{"localhost:1", "127.0.0.1", "[::1]:7"} {
		status, _ = s.send(http.MethodGet, "/api/v1/status", "", func(r *http.Request) { r.Host = host })
		assert.Equal(t, http.StatusOK, status, host)
	}
}

func TestWhatIsWrongWithARequestIsSaidWithItsCode(t *testing.T) {
	s := newSite(t, "buckets: [{name: orders, vbuckets: 4, replicas: 1}]\n")
	s.ready()
	for _, c := range []struct {
		method, path, body string
		status             int
		code, text         string
	}{
		{http.MethodGet, "/api/v1/nothing", "", 404, control.CodeNotFound, "there is no GET /api/v1/nothing"},
		{http.MethodPut, "/api/v1/status", "", 404, control.CodeNotFound, "there is no PUT /api/v1/status"},
		{http.MethodPost, "/api/v1/rebalances", "{", 400, control.CodeBadRequest, "unexpected EOF"},
		{http.MethodPost, "/api/v1/rebalances", `{"kep": []}`, 400, control.CodeBadRequest, `unknown field \"kep\"`},
		{http.MethodPost, "/api/v1/rebalances", `{"keep": 7}`, 400, control.CodeBadRequest, `"field":"keep","value":"number"`},
		{http.MethodPost, "/api/v1/rebalances", `{} {}`, 400, control.CodeBadRequest, "there is more after the object"},
		{http.MethodPost, "/api/v1/rebalances", `{"keep": ["n7"]}`, 404, control.CodeUnknownNode, `unknown node \"n7\"`},
		{http.MethodPost, "/api/v1/rebalances", `{"remove": ["n7"]}`, 404, control.CodeUnknownNode, `unknown node \"n7\"`},
		{http.MethodPost, "/api/v1/rebalances", `{"remove": ["n0", "n1"]}`, 400, control.CodeBadRequest, "nobody would be left"},
		{http.MethodPost, "/api/v1/rebalances", `{"remove": ["n0"], "keep": ["n1"]}`, 400, control.CodeBadRequest, "cannot be together"},
		{http.MethodPost, "/api/v1/rebalances", `{"buckets": ["none"]}`, 404, control.CodeNotFound, `Request.Buckets: bucket \"none\"`},
		{http.MethodPost, "/api/v1/plan", `{"buckets": ["none"]}`, 404, control.CodeNotFound, `Request.Buckets: bucket \"none\"`},
		{http.MethodPost, "/api/v1/plan", `{"add": [{"name": "n2", "addr": "127.0.0.1:1"}]}`, 400, control.CodeBadRequest, "a plan changes nothing"},
		{http.MethodPost, "/api/v1/rebalances", `{"keep": ["n0"], "plan": {"version": 1}}`, 400, control.CodeBadRequest, "comes alone"},
		{http.MethodGet, "/api/v1/rebalances/current/progress", "", 404, control.CodeNoRebalance, "no rebalance is running"},
		{http.MethodPost, "/api/v1/rebalances/current/stop", "", 404, control.CodeNoRebalance, "no rebalance is running"},
		{http.MethodPost, "/api/v1/rebalances/abc/pause", "", 404, control.CodeNoRebalance, `no rebalance \"abc\"`},
		{http.MethodPost, "/api/v1/rebalances/abc/abort-move", `{"bucket": "orders", "vb": 1}`, 404, control.CodeNoRebalance, `no rebalance \"abc\"`},
		{http.MethodGet, "/api/v1/reports/abc", "", 404, control.CodeNotFound, `no such report: \"abc\"`},
		{http.MethodGet, "/api/v1/buckets/none/map", "", 404, control.CodeNotFound, "not found"},
		{http.MethodPost, "/api/v1/buckets", `{"name": "orders"}`, 409, control.CodeExists, `bucket \"orders\" exists`},
		{http.MethodPost, "/api/v1/nodes", `{"name": "n2", "addr": "nowhere"}`, 400, control.CodeBadRequest, `"field":"addr"`},
		{http.MethodDelete, "/api/v1/nodes/n1", "", 409, control.CodeNodeInUse, `is in use by bucket \"orders\"`},
		{http.MethodDelete, "/api/v1/nodes/n7", "", 404, control.CodeUnknownNode, `unknown node`},
		{http.MethodPost, "/api/v1/nodes/n7/add-back", "{}", 404, control.CodeUnknownNode, `unknown node`},
		{http.MethodPost, "/api/v1/failover", `{"nodes": ["n0", "n1"]}`, 409, control.CodeNoNodesLeft, "no node would be left"},
		{http.MethodPost, "/api/v1/failover", `{"nodes": ["n7"]}`, 404, control.CodeUnknownNode, "unknown node"},
		{http.MethodPost, "/api/v1/failover", `{"nodes": ["n0"], "graceful": true, "allow_unsafe": true}`, 400, control.CodeBadRequest, "cannot be together with graceful"},
		{http.MethodPost, "/api/v1/plan", `{"keep": ["` + strings.Repeat("x", 2<<20) + `"]}`, 404, control.CodeUnknownNode, "unknown node"},
		{http.MethodPost, "/api/v1/nodes", `{"name": "` + strings.Repeat("x", 1<<20) + `"}`, 413, control.CodeTooLarge, "too large"},
	} {
		status, answer := s.send(c.method, c.path, c.body, nil)
		name := c.method + " " + c.path + " " + c.body[:min(len(c.body), 60)]
		assert.Equal(t, c.status, status, name+": "+answer)
		assert.Equal(t, c.code, code(t, answer), name)
		assert.Contains(t, answer, c.text, name)
	}
}

func TestReadyOnceTheBucketsAreThere(t *testing.T) {
	s := newSite(t, "")
	s.ready()
	assert.NoError(t, s.client.Do(t.Context(), http.MethodGet, "/readyz", nil, nil))
	s.close()

	s.restart("buckets: [{name: orders, vbuckets: 4, replicas: 1}]\n", fault.Rule{
		Match: fault.Match{Direction: fault.Received, Opcodes: []mcbp.Opcode{mcbp.OpCreateBucket}},
		Do:    fault.Answer{Status: mcbp.StatusTemporaryFailure},
	})
	require.NoError(t, s.fault.Wait(t.Context(), 2), "it is tried again")
	problem := &control.Problem{}
	require.ErrorAs(t, s.client.Do(t.Context(), http.MethodGet, "/readyz", nil, nil), &problem)
	assert.Equal(t, control.CodeNotReady, problem.Code)
	s.fault.Remove()
	s.ready()
	assert.NoError(t, s.client.Do(t.Context(), http.MethodGet, "/readyz", nil, nil))
}

// restart closes the manager and starts another with more in its configuration, after the second node was given a fault.
func (s *site) restart(rest string, rule fault.Rule) {
	s.t.Helper()
	s.close()
	var err error
	s.fault, err = s.script.Add(rule)
	require.NoError(s.t, err)
	s.config, err = config.Parse(s.config.Path, []byte(s.text+rest))
	require.NoError(s.t, err)
	s.manager, err = serve.Start(s.t.Context(), s.config, slog.New(slog.DiscardHandler))
	require.NoError(s.t, err)
}

// silent is a fault of a node that answers no request to add a stream.
var silent = fault.Rule{Match: fault.Match{Direction: fault.Received, Opcodes: []mcbp.Opcode{mcbp.OpDCPAddStream}}, Do: fault.Drop{}}

// hanging starts a rebalance that does not end by itself: a replica of each vbucket has to be built on the second node, which
// answers no request for a stream.
func (s *site) hanging() string {
	s.t.Helper()
	require.NoError(s.t, s.client.Do(s.t.Context(), http.MethodPost, control.Prefix+"/rebalances", control.RebalanceRequest{Keep: []string{"n0"}}, &control.Started{}))
	s.idle()
	var err error
	s.fault, err = s.script.Add(silent)
	require.NoError(s.t, err)
	var started control.Started
	require.NoError(s.t, s.client.Do(s.t.Context(), http.MethodPost, control.Prefix+"/rebalances", nil, &started))
	return started.ID
}

func (s *site) idle() {
	s.t.Helper()
	require.Eventually(s.t, func() bool {
		var status rebalance.Status
		return assert.NoError(s.t, s.client.Do(s.t.Context(), http.MethodGet, control.Prefix+"/status", nil, &status)) && status.State == rebalance.Idle
	}, within, time.Millisecond)
}

// slow are limits that do not end a rebalance that hangs, nor let its end wait.
const slow = "buckets: [{name: orders, vbuckets: 4, replicas: 1}]\n" +
	"limits: {grace: 100ms, replication: {add: 1h, grace: 100ms}, move: {stream: 1h}}\n"

func TestAStreamEndsWithTheReport(t *testing.T) {
	s := newSite(t, slow)
	s.ready()
	id := s.hanging()
	var updates []control.Update
	for update, err := range s.client.Follow(t.Context(), id) {
		require.NoError(t, err)
		updates = append(updates, update)
		if p := update.Progress; p != nil && p.MovesPlanned > 0 && p.State == rebalance.Rebalancing {
			s.fault.Remove()
			var report rebalance.Report
			require.NoError(t, s.client.Do(t.Context(), http.MethodPost, control.Prefix+"/rebalances/"+id+"/stop", nil, &report))
			assert.Equal(t, rebalance.Stopped, report.Outcome)
		}
	}
	last := updates[len(updates)-1]
	require.NotNil(t, last.Report)
	assert.Equal(t, id, last.Report.ID)
	assert.Equal(t, rebalance.Stopped, last.Report.Outcome)
	assert.Equal(t, []string{"stopped on request"}, last.Report.Cause)

	// Also for those who come afterwards, by its name.
	for update, err := range s.client.Follow(t.Context(), id) {
		require.NoError(t, err)
		last = update
	}
	require.NotNil(t, last.Report)
	assert.Equal(t, id, last.Report.ID)
}

// A rebalance belongs to the manager, not to who asked for it.
func TestWhoStopsListeningStopsNothing(t *testing.T) {
	s := newSite(t, slow)
	s.ready()
	id := s.hanging()
	for range 3 {
		for _, err := range s.client.Follow(t.Context(), id) {
			require.NoError(t, err)
			break
		}
	}
	var status rebalance.Status
	require.NoError(t, s.client.Do(t.Context(), http.MethodGet, control.Prefix+"/status", nil, &status))
	assert.Equal(t, id, status.Run)
}

func TestTheEndOfTheManagerStopsARebalanceAndTellsThoseWhoFollowIt(t *testing.T) {
	s := newSite(t, slow)
	s.ready()
	id := s.hanging()
	heard := make(chan control.Update, 1)
	following := make(chan struct{})
	go func() {
		defer close(heard)
		var last control.Update
		for update, err := range s.client.Follow(context.Background(), id) {
			if err != nil {
				return
			}
			if last == (control.Update{}) {
				close(following)
			}
			last = update
		}
		heard <- last
	}()
	<-following
	s.close()
	last, told := <-heard
	require.True(t, told)
	require.NotNil(t, last.Report)
	assert.Equal(t, rebalance.Stopped, last.Report.Outcome)
}

func TestASecondManagerIsRefused(t *testing.T) {
	s := newSite(t, "")
	_, err := serve.Start(t.Context(), s.config, slog.New(slog.DiscardHandler))
	require.ErrorIs(t, err, store.ErrInUse)
	assert.ErrorContains(t, err, filepath.Join(s.dir, "s.db"))
	assert.NoError(t, s.client.Do(t.Context(), http.MethodGet, "/healthz", nil, nil), "the first one is where it was")

	// With a store of its own it is the socket that is taken.
	other, err := config.Parse(s.config.Path, []byte(strings.Replace(s.text, "s.db", "t.db", 1)))
	require.NoError(t, err)
	_, err = serve.Start(t.Context(), other, slog.New(slog.DiscardHandler))
	var taken *serve.SocketInUseError
	require.ErrorAs(t, err, &taken)
	assert.Equal(t, s.manager.Socket(), taken.Path)
	assert.NoError(t, s.client.Do(t.Context(), http.MethodGet, "/healthz", nil, nil), "the first one is where it was")
}

func TestAManagerWhoseClusterHasDiedSaysSo(t *testing.T) {
	s := newSite(t, "")
	s.ready()
	tree, err := s.manager.Cluster().Tree(t.Context())
	require.NoError(t, err)
	tree.PID.Exit(actors.Killed)
	select {
	case err := <-s.manager.Failed():
		require.ErrorIs(t, err, actors.Killed)
		require.ErrorContains(t, err, "the management of the cluster has ended")
	case <-time.After(within):
		require.Fail(t, "it goes on as if nothing had happened")
	}
	problem := &control.Problem{}
	require.ErrorAs(t, s.client.Do(t.Context(), http.MethodGet, "/readyz", nil, nil), &problem)
	assert.Equal(t, control.CodeNotReady, problem.Code)
}

func TestTheSocketIsItsOwnersOnly(t *testing.T) {
	s := newSite(t, "")
	info, err := os.Lstat(s.manager.Socket())
	require.NoError(t, err)
	assert.Equal(t, os.ModeSocket|0o600, info.Mode())
	entries, err := filepath.Glob(filepath.Join(s.dir, ".s*"))
	require.NoError(t, err)
	assert.Empty(t, entries, "nothing else is left behind")
	path := s.manager.Socket()
	s.close()
	assert.NoFileExists(t, path)
}

func TestASocketThatADeadManagerLeftIsReplaced(t *testing.T) {
	s := newSite(t, "")
	s.close()
	listener, err := (&net.ListenConfig{}).Listen(t.Context(), "unix", filepath.Join(s.dir, "c.sock"))
	require.NoError(t, err)
	listener.(*net.UnixListener).SetUnlinkOnClose(false)
	require.NoError(t, listener.Close())
	s.restart("", silent)
	assert.NoError(t, s.client.Do(t.Context(), http.MethodGet, "/healthz", nil, nil))
}

// The path may be somebody else's by the time that the manager closes.
func TestASocketOfAnotherIsLeftAlone(t *testing.T) {
	s := newSite(t, "")
	path := s.manager.Socket()
	require.NoError(t, os.Remove(path))
	require.NoError(t, os.WriteFile(path, nil, 0o600))
	s.close()
	assert.FileExists(t, path)
	_, err := serve.Start(t.Context(), s.config, slog.New(slog.DiscardHandler))
	assert.ErrorContains(t, err, "is there and no socket")
}

func TestMetricsAreThoseOfTheCluster(t *testing.T) {
	s := newSite(t, "buckets: [{name: orders, vbuckets: 4, replicas: 1}]\n")
	s.ready()
	status, answer := s.send(http.MethodGet, "/metrics", "", nil)
	assert.Equal(t, http.StatusOK, status)
	assert.Contains(t, answer, `shearpin_replication_link_up{bucket="orders",consumer="n0",producer="n1"} 1`)
	assert.Contains(t, answer, "go_goroutines")
}

func TestTheTreeIsThatOfTheCluster(t *testing.T) {
	s := newSite(t, "")
	var root control.Process
	require.NoError(t, s.client.Do(t.Context(), http.MethodGet, control.Prefix+"/tree", nil, &root))
	assert.Equal(t, "cluster", root.ID)
	assert.True(t, root.Supervisor)
	var ids []string
	var walk func(p control.Process)
	walk = func(p control.Process) {
		ids = append(ids, p.ID)
		for _, child := range p.Children {
			walk(child)
		}
	}
	walk(root)
	assert.Subset(t, ids, []string{"members", "control", "janitor", "orchestrator"})
}

// The table of the control API in docs/operations.md has every path, and no other.
func TestOperationsListsThePaths(t *testing.T) {
	page, err := os.ReadFile("../../../../../docs/operations.md")
	require.NoError(t, err)
	var documented []string
	for _, m := range regexp.MustCompile("(?m)^\\| `((?:GET|POST|PUT|DELETE) /[^`?]*)").FindAllStringSubmatch(string(page), -1) {
		documented = append(documented, m[1])
	}
	assert.ElementsMatch(t, serve.Routes(), documented)
}

func TestNoMoreThanSomeRequestsAreServedAtATime(t *testing.T) {
	s := newSite(t, slow)
	s.ready()
	id := s.hanging()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	refused := make(chan error, 1)
	for range serve.MaxRequests + 1 {
		go func() {
			for _, err := range s.client.Follow(ctx, id) {
				if err != nil && ctx.Err() == nil {
					select {
					case refused <- err:
					default:
					}
				}
			}
		}()
	}
	problem := &control.Problem{}
	require.ErrorAs(t, <-refused, &problem)
	assert.Equal(t, control.CodeBusy, problem.Code)
}

func TestTheEventLogCanBeFollowed(t *testing.T) {
	s := newSite(t, slow)
	s.ready()
	var before []rebalance.LoggedEvent
	for event, err := range s.client.Events(t.Context(), 0, false) {
		require.NoError(t, err)
		before = append(before, event)
	}
	require.NotEmpty(t, before)
	for i, event := range before {
		assert.Equal(t, uint64(i+1), event.Seq)
	}
	id, seen := "", before[len(before)-1].Seq
	for event, err := range s.client.Events(t.Context(), seen-1, true) {
		require.NoError(t, err)
		if id == "" {
			assert.Equal(t, seen, event.Seq, "the one after that which was asked for")
			id = s.hanging()
		}
		if event.Type == "rebalanceStart" && event.Run == id {
			break
		}
	}
	for query, field := range map[string]string{"since=x": "since", "since=-1": "since", "follow=maybe": "follow"} {
		status, answer := s.send(http.MethodGet, "/api/v1/events?"+query, "", nil)
		assert.Equal(t, http.StatusBadRequest, status, query)
		assert.Contains(t, answer, `"field":"`+field+`"`)
	}
}

// Who follows the event log is let go when the manager closes.
func TestTheEndOfTheManagerEndsTheEventLog(t *testing.T) {
	s := newSite(t, "")
	first, ended := make(chan struct{}), make(chan error, 1)
	go func() {
		var last error
		began := false
		for _, err := range s.client.Events(context.Background(), 0, true) {
			if last = err; !began {
				began = true
				close(first)
			}
		}
		ended <- last
	}()
	require.NoError(t, s.client.Do(t.Context(), http.MethodPost, control.Prefix+"/janitor", nil, nil))
	<-first
	s.close()
	assert.NoError(t, <-ended)
}

func TestTheThrottleIsChangedWhileTheManagerRuns(t *testing.T) {
	s := newSite(t, "throttle: {moves_per_node: 3}\n")
	var now rebalance.Throttle
	require.NoError(t, s.client.Do(t.Context(), http.MethodGet, control.Prefix+"/throttle", nil, &now))
	assert.Equal(t, rebalance.Throttle{MovesPerNode: 3}, now)
	want := rebalance.Throttle{MovesPerNode: 1, BytesPerSecond: 1000}
	require.NoError(t, s.client.Do(t.Context(), http.MethodPut, control.Prefix+"/throttle", want, nil))
	require.NoError(t, s.client.Do(t.Context(), http.MethodGet, control.Prefix+"/throttle", nil, &now))
	assert.Equal(t, want, now)
	problem := &control.Problem{}
	require.ErrorAs(t, s.client.Do(t.Context(), http.MethodPut, control.Prefix+"/throttle", rebalance.Throttle{MovesPerNode: -1}, nil), &problem)
	assert.Equal(t, "throttle", problem.Field)
}
