package faulthttp

import (
	"context"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/shearpin/shearpin/dcp/kv"
	"github.com/shearpin/shearpin/dcp/kvnode"
	"github.com/shearpin/shearpin/dcp/kvnode/fault"
	"github.com/shearpin/shearpin/dcp/mcbp"
	"github.com/shearpin/shearpin/rebalance/cmd/shearpin/internal/web"
	"github.com/shearpin/shearpin/rebalance/cmd/shearpin/internal/web/webtest"
)

// The goroutine of a connection whose request was too long lingers for half a second, as long as goleak waits: it is net/http's.
func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m, goleak.IgnoreAnyFunction("net/http.(*conn).closeWriteAndWait"))
}

// site is a node with its server.
type site struct {
	t      *testing.T
	node   *kvnode.Node
	url    string
	client *http.Client
}

func newSite(t *testing.T, anywhere bool) *site {
	t.Helper()
	script := fault.NewScript(1)
	node, err := kvnode.Start(kvnode.Options{Name: "n0", Faults: script})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, node.Close()) })
	require.NoError(t, node.CreateBucket("orders", 16))
	listener, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	require.NoError(t, err)
	server := NewServer(script, node, anywhere)
	done := make(chan error)
	go func() { done <- server.Serve(listener) }()
	transport := &http.Transport{}
	t.Cleanup(func() {
		transport.CloseIdleConnections()
		require.NoError(t, server.Close())
		require.ErrorIs(t, <-done, http.ErrServerClosed)
	})
	return &site{t: t, node: node, url: "http://" + listener.Addr().String(), client: &http.Client{Transport: transport}}
}

// ask sends a request; change may spoil it.
func (s *site) ask(method, path, body string, change ...func(*http.Request)) (int, map[string]any) {
	s.t.Helper()
	code, text := s.raw(method, path, body, change...)
	var out map[string]any
	if text != "" {
		require.NoError(s.t, json.Unmarshal([]byte(text), &out), text)
	}
	return code, out
}

func (s *site) raw(method, path, body string, change ...func(*http.Request)) (int, string) {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(s.t.Context(), time.Minute)
	defer cancel()
	r, err := http.NewRequestWithContext(ctx, method, s.url+path, strings.NewReader(body))
	require.NoError(s.t, err)
	r.Header.Set("Content-Type", "application/json")
	for _, f := range change {
		f(r)
	}
	answer, err := s.client.Do(r)
	require.NoError(s.t, err)
	defer answer.Body.Close()
	text, err := io.ReadAll(answer.Body)
	require.NoError(s.t, err)
	return answer.StatusCode, string(text)
}

func (s *site) connect() *kv.Client {
	s.t.Helper()
	c, err := kv.Connect(s.t.Context(), kv.Endpoint{Node: "n0", Addr: s.node.Addr()}, "orders")
	require.NoError(s.t, err)
	s.t.Cleanup(func() { _ = c.Close() })
	return c
}

func TestRulesOverHTTP(t *testing.T) {
	s := newSite(t, false)
	client := s.connect()
	require.NoError(t, client.SetVBucket(t.Context(), 7, mcbp.VBucketActive, nil))
	code, added := s.ask("POST", "/faults", `{
		"name": "full",
		"match": {"direction": "received", "opcodes": ["set"], "vbuckets": [7]},
		"do": {"action": "answer", "status": "0x82"}}`)
	require.Equal(t, http.StatusCreated, code, added)
	assert.Equal(t, map[string]any{"id": 1.0, "name": "full", "action": "answer no memory (0x82)", "happened": 0.0}, added)

	_, err := client.Set(t.Context(), 7, "k", []byte("v"), 0, 0, 0)
	require.ErrorIs(t, err, mcbp.StatusNoMemory)
	code, seen := s.ask("GET", "/faults/1?happened=1&timeout=30s", "")
	require.Equal(t, http.StatusOK, code)
	assert.InDelta(t, 1, seen["happened"], 0)

	code, text := s.raw("GET", "/strikes", "")
	require.Equal(t, http.StatusOK, code)
	var strikes []strikeJSON
	require.NoError(t, json.Unmarshal([]byte(text), &strikes))
	require.Len(t, strikes, 1)
	assert.Equal(t, "SET", strikes[0].Opcode)
	assert.Equal(t, 7, *strikes[0].VBucket)
	assert.Equal(t, "received", strikes[0].Direction)
	assert.Equal(t, "full", strikes[0].Name)

	code, _ = s.ask("POST", "/faults", `{"do": {"action": "drop"}, "match": {"node": "other"}}`)
	require.Equal(t, http.StatusCreated, code)
	_, text = s.raw("GET", "/faults", "")
	assert.JSONEq(t, `[{"id":1,"name":"full","action":"answer no memory (0x82)","happened":1},{"id":2,"action":"drop","happened":0}]`, text)
	code, _ = s.ask("DELETE", "/faults/1", "")
	assert.Equal(t, http.StatusOK, code)
	_, err = client.Set(t.Context(), 7, "k", []byte("v"), 0, 0, 0)
	require.NoError(t, err)
	code, gone := s.ask("DELETE", "/faults/1", "")
	assert.Equal(t, http.StatusNotFound, code)
	assert.Equal(t, "id", gone["field"])

	code, late := s.ask("GET", "/faults/2?happened=1&timeout=1ms", "")
	assert.Equal(t, http.StatusGatewayTimeout, code)
	assert.Contains(t, late["error"], "happened 0 times, not 1")
}

// Whoever waits for a rule that is removed is told so.
func TestWaitingForARuleThatIsRemoved(t *testing.T) {
	script := fault.NewScript(1)
	f, err := script.Add(fault.Rule{Do: fault.Drop{}})
	require.NoError(t, err)
	h := &handler{script: script, anyHost: true, faults: map[uint64]*fault.Fault{f.ID(): f}}
	f.Remove() // before the handler has heard of it
	r := httptest.NewRequestWithContext(t.Context(), "GET", "/faults/1?happened=1", nil)
	r.SetPathValue("id", "1")
	w := httptest.NewRecorder()
	h.get(w, r)
	assert.Equal(t, http.StatusGone, w.Code)
	assert.Contains(t, w.Body.String(), "was removed; it happened 0 times, not 1")
}

// A request may wait longer than others have.
func TestWaitingForAFaultThatTakesItsTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		script := fault.NewScript(1)
		f, err := script.Add(fault.Rule{Do: fault.Drop{}})
		require.NoError(t, err)
		mux := http.NewServeMux()
		mux.HandleFunc("GET /faults/{id}", (&handler{faults: map[uint64]*fault.Fault{f.ID(): f}}).get)
		began := time.Now()
		status := webtest.Ask(t, web.NewServer(mux), "GET /faults/1?happened=1&timeout=50s HTTP/1.1\r\nHost: x\r\n\r\n")
		assert.Equal(t, http.StatusGatewayTimeout, status)
		assert.Equal(t, 50*time.Second, time.Since(began))
	})
}

func TestPauseOverHTTP(t *testing.T) {
	s := newSite(t, false)
	client := s.connect()
	code, _ := s.ask("POST", "/pause", "")
	assert.Equal(t, http.StatusNoContent, code)
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Millisecond)
	defer cancel()
	_, err := client.VBuckets(ctx)
	require.ErrorIs(t, err, context.DeadlineExceeded)
	code, _ = s.ask("POST", "/resume", "")
	assert.Equal(t, http.StatusNoContent, code)
	_, err = s.connect().VBuckets(t.Context())
	require.NoError(t, err)
}

func TestANodeGoesDownAndUpOverHTTP(t *testing.T) {
	s := newSite(t, false)
	for _, path := range []string{"/kill", "/stop"} {
		code, _ := s.ask("POST", path, "")
		require.Equal(t, http.StatusNoContent, code)
		_, err := kv.Connect(t.Context(), kv.Endpoint{Node: "n0", Addr: s.node.Addr()}, "orders")
		require.Error(t, err)
		code, _ = s.ask("POST", "/restart", "")
		require.Equal(t, http.StatusNoContent, code)
		require.NoError(t, s.node.CreateBucket("orders", 16), "a node without a directory forgets")
		s.connect()
	}
	code, running := s.ask("POST", "/restart", "")
	assert.Equal(t, http.StatusConflict, code)
	assert.Contains(t, running["error"], "is running")
}

func TestRequestsThatAreRefused(t *testing.T) {
	s := newSite(t, false)
	for name, c := range map[string]struct {
		method, path, body string
		change             func(*http.Request)
		code               int
		field, says        string
	}{
		"another host": {
			method: "GET", path: "/strikes", change: func(r *http.Request) { r.Host = "evil.example:80" }, code: 403, field: "Host",
		},
		"another origin": {
			method: "GET", path: "/strikes", change: func(r *http.Request) { r.Header.Set("Origin", "http://localhost") }, code: 403, field: "Origin",
		},
		"a form": {
			method: "POST", path: "/pause", change: func(r *http.Request) { r.Header.Set("Content-Type", "text/plain") },
			code: 415, field: "Content-Type",
		},
		"too long":     {method: "POST", path: "/faults", body: `{"name": "` + strings.Repeat("x", 1<<17) + `"}`, code: 413, says: "too large"},
		"no such rule": {method: "GET", path: "/faults/x", code: 404, field: "id"},
		"happened":     {method: "GET", path: "/faults/1?happened=-1", code: 400, field: "happened"},
		"timeout":      {method: "GET", path: "/faults/1?timeout=2h", code: 400, field: "timeout", says: "2h"},
	} {
		if name == "happened" || name == "timeout" {
			s.ask("POST", "/faults", `{"do": {"action": "cut"}, "match": {"node": "none"}}`)
		}
		change := c.change
		if change == nil {
			change = func(*http.Request) {}
		}
		code, out := s.ask(c.method, c.path, c.body, change)
		assert.Equal(t, c.code, code, name)
		if c.field != "" {
			assert.Equal(t, c.field, out["field"], name)
		}
		assert.Contains(t, out["error"], c.says, name)
	}
	s = newSite(t, true)
	code, _ := s.raw("GET", "/strikes", "", func(r *http.Request) { r.Host = "node.example" })
	assert.Equal(t, http.StatusOK, code, "if it may be reached from anywhere")
}

func TestThereIsALimitOfRules(t *testing.T) {
	s := newSite(t, false)
	for range maxRules {
		code, _ := s.raw("POST", "/faults", `{"do": {"action": "drop"}, "match": {"node": "none"}}`)
		require.Equal(t, http.StatusCreated, code)
	}
	code, out := s.ask("POST", "/faults", `{"do": {"action": "drop"}}`)
	assert.Equal(t, http.StatusTooManyRequests, code)
	assert.Contains(t, out["error"], "1000 rules")
	s.raw("DELETE", "/faults/7", "")
	code, _ = s.raw("POST", "/faults", `{"do": {"action": "drop"}, "match": {"node": "none"}}`)
	assert.Equal(t, http.StatusCreated, code)
}
