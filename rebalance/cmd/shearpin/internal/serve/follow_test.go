package serve

import (
	"context"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/shearpin/shearpin/actors/actortest"
	"github.com/shearpin/shearpin/rebalance"
	"github.com/shearpin/shearpin/rebalance/cmd/shearpin/internal/control"
)

// A stream says something even when nothing happens, so that a client can tell a rebalance that waits from a manager that hangs.
func TestAStreamRepeatsItselfRatherThanBeingSilent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := follow(nil)
		ctx, cancel := context.WithCancel(t.Context())
		answer := httptest.NewRecorder()
		request := httptest.NewRequestWithContext(ctx, http.MethodGet, "/", nil)
		ended := make(chan struct{})
		go func() {
			defer close(ended)
			f.stream(answer, request)
		}()
		actortest.Elapse(control.Heartbeat / 2)
		assert.Empty(t, answer.Body.String(), "nothing has happened yet")
		f.show(control.Update{Progress: &rebalance.Progress{MovesPlanned: 7}})
		actortest.Elapse(3 * control.Heartbeat)
		cancel()
		<-ended
		lines := strings.Split(strings.TrimSpace(answer.Body.String()), "\n")
		require.Len(t, lines, 4, "once when it happened, and at each heartbeat")
		for _, line := range lines {
			assert.Contains(t, line, `"moves_planned":7`)
		}
	})
}
