package control_test

import (
	"context"
	"errors"
	"fmt"
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

	"github.com/shearpin/shearpin/rebalance"
	"github.com/shearpin/shearpin/rebalance/cmd/shearpin/internal/control"
	"github.com/shearpin/shearpin/rebalance/cmd/shearpin/internal/web"
	"github.com/shearpin/shearpin/rebalance/store"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const token = "0123456789abcdef"

// answering is a client of a server that answers as handler does.
func answering(t *testing.T, handler http.HandlerFunc) *control.Client {
	t.Helper()
	server := httptest.NewServer(handler)
	client := control.NewTCPClient(strings.TrimPrefix(server.URL, "http://"), token)
	t.Cleanup(func() {
		client.Close()
		server.Close()
	})
	return client
}

func TestAClientShowsItsTokenAndHidesIt(t *testing.T) {
	client := answering(t, func(w http.ResponseWriter, r *http.Request) {
		assert.Equal(t, "Bearer "+token, r.Header.Get("Authorization"))
		web.Answer(w, http.StatusOK, "fine")
	})
	var out string
	require.NoError(t, client.Do(t.Context(), http.MethodGet, "/", nil, &out))
	assert.Equal(t, "fine", out)
	for _, verb := range []string{"%v", "%+v", "%#v"} {
		assert.NotContains(t, fmt.Sprintf(verb, client), token)
	}
}

func TestNobodyAnswers(t *testing.T) {
	listener, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	require.NoError(t, err)
	addr := listener.Addr().String()
	require.NoError(t, listener.Close())
	client := control.NewTCPClient(addr, token)
	err = client.Do(t.Context(), http.MethodGet, "/", nil, nil)
	var unreachable *control.UnreachableError
	require.ErrorAs(t, err, &unreachable)
	assert.Equal(t, addr, unreachable.Where)

	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(errEnough)
	require.ErrorIs(t, client.Do(ctx, http.MethodGet, "/", nil, nil), errEnough, "whoever gave up says why")
}

var errEnough = errors.New("enough")

func TestAnswersThatAreNotOurs(t *testing.T) {
	for body, want := range map[string]string{
		"<html>proxy</html>": "status 502 Bad Gateway: <html>proxy</html>",
		"{}":                 "status 502 Bad Gateway: {}",
		`{"error": null}`:    "status 502 Bad Gateway",
	} {
		client := answering(t, func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "application/json")
			w.WriteHeader(http.StatusBadGateway)
			_, _ = w.Write([]byte(body))
		})
		require.ErrorContains(t, client.Do(t.Context(), http.MethodGet, "/", nil, nil), want)
	}
	client := answering(t, func(w http.ResponseWriter, r *http.Request) {
		http.Redirect(w, r, "http://example.com", http.StatusFound)
	})
	require.ErrorContains(t, client.Do(t.Context(), http.MethodGet, "/", nil, nil), "status 302", "the token is for nobody else")
}

// The stream of a manager that was killed ends in the middle, which may be between two lines.
func TestAStreamThatIsCutIsNoReport(t *testing.T) {
	for _, rest := range []string{"", `{"progr`} {
		client := answering(t, func(w http.ResponseWriter, _ *http.Request) {
			_, _ = w.Write([]byte(`{"progress":{"moves_planned":3}}` + "\n" + rest))
		})
		var heard []int
		var last error
		for update, err := range client.Follow(t.Context(), "abc") {
			if last = err; err == nil {
				heard = append(heard, update.Progress.MovesPlanned)
			}
		}
		assert.Equal(t, []int{3}, heard)
		var unreachable *control.UnreachableError
		require.ErrorAs(t, last, &unreachable)
	}
}

// A manager that hangs is noticed: with a stream open, in the middle of an answer, or before it.
func TestAManagerThatIsSilentIsGivenUp(t *testing.T) {
	follow := func(ctx context.Context, client *control.Client) (last error) {
		for _, err := range client.Follow(ctx, "abc") {
			last = err
		}
		return last
	}
	ask := func(ctx context.Context, client *control.Client) error {
		return client.Do(ctx, http.MethodGet, "/", nil, nil)
	}
	for name, c := range map[string]struct {
		says  string
		ask   func(context.Context, *control.Client) error
		after time.Duration
	}{
		"stream": {
			says: "HTTP/1.1 200 OK\r\nContent-Type: application/x-ndjson\r\n\r\n" + `{"progress":{}}` + "\n", ask: follow, after: 20 * time.Second,
		},
		"half an answer": {says: "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n{", ask: ask, after: control.Longest + 20*time.Second},
		"no answer":      {ask: ask, after: control.Longest + 20*time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				ours, theirs := net.Pipe()
				defer theirs.Close()
				client := control.NewClientOn(func(context.Context, string, string) (net.Conn, error) { return ours, nil })
				go func() {
					buffer := make([]byte, 4096)
					_, _ = theirs.Read(buffer)
					_, _ = theirs.Write([]byte(c.says))
				}()
				began := time.Now()
				err := c.ask(t.Context(), client)
				var unreachable *control.UnreachableError
				require.ErrorAs(t, err, &unreachable)
				require.ErrorContains(t, err, "it has said nothing for too long")
				assert.Equal(t, c.after, time.Since(began))
				client.Close()
			})
		})
	}
}

func TestProblems(t *testing.T) {
	for _, c := range []struct {
		err    error
		status int
		code   string
	}{
		{fmt.Errorf("x: %w", rebalance.ErrClosed), http.StatusServiceUnavailable, control.CodeClosing},
		{rebalance.ErrRebalanceRunning, http.StatusConflict, control.CodeRunning},
		{rebalance.ErrFailoverRunning, http.StatusConflict, control.CodeFailover},
		{rebalance.ErrMembersChanging, http.StatusConflict, control.CodeMembers},
		{rebalance.ErrNotRunning, http.StatusConflict, control.CodeNotRunning},
		{rebalance.ErrNoNodesLeft, http.StatusConflict, control.CodeNoNodesLeft},
		{&rebalance.UnsafeFailover{}, http.StatusConflict, control.CodeUnsafe},
		{&rebalance.AbortRefused{Err: rebalance.ErrSwitchBegun}, http.StatusConflict, control.CodeNotAborted},
		{rebalance.ErrMapChanged, http.StatusConflict, control.CodeConflict},
		{&rebalance.BucketTakenError{}, http.StatusConflict, control.CodeTaken},
		{&rebalance.KeptCopies{}, http.StatusConflict, control.CodeKeptCopies},
		{&rebalance.PlanChangedError{}, http.StatusConflict, control.CodePlanChanged},
		{&rebalance.NodeInUseError{}, http.StatusConflict, control.CodeNodeInUse},
		{&rebalance.NotActiveError{}, http.StatusConflict, control.CodeNotActive},
		{&store.ConflictError{}, http.StatusConflict, control.CodeConflict},
		{store.ErrNotFound, http.StatusNotFound, control.CodeNotFound},
		{context.DeadlineExceeded, http.StatusGatewayTimeout, control.CodeTimeout},
		{&control.FieldError{Field: "f", Value: 1, Why: "w"}, http.StatusBadRequest, control.CodeBadRequest},
		{&control.Problem{Code: control.CodeBusy}, http.StatusServiceUnavailable, control.CodeBusy},
		{errEnough, http.StatusInternalServerError, control.CodeFailed},
	} {
		status, p := control.NewProblem(c.err)
		assert.Equal(t, c.status, status, "%v", c.err)
		assert.Equal(t, c.code, p.Code, "%v", c.err)
	}
	_, p := control.NewProblem(&rebalance.RebalanceError{Bucket: "orders", Err: &rebalance.NodeError{Node: "n1", Err: errEnough}})
	assert.Equal(t, []string{`rebalance of "orders" aborted`, "node n1", "enough"}, p.Cause)
}
