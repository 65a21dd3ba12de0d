package serve

import (
	"context"
	"net/http"
	"testing"
	"testing/synctest"

	"github.com/stretchr/testify/assert"

	"github.com/shearpin/shearpin/rebalance/cmd/shearpin/internal/control"
	"github.com/shearpin/shearpin/rebalance/cmd/shearpin/internal/web"
	"github.com/shearpin/shearpin/rebalance/cmd/shearpin/internal/web/webtest"
)

// Whoever begins a request and does not go on with it is given up, and does not keep its place for ever.
func TestABodyThatDoesNotComeIsGivenUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		inside := (&Manager{}).answer(quick, http.StatusOK, func(_ context.Context, r *http.Request) (any, error) { return read[control.Move](r) })
		status := webtest.Ask(t, web.NewServer(&door{room: make(chan struct{}, 1), inside: inside}),
			"POST / HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 20\r\n\r\n{")
		assert.Equal(t, http.StatusBadRequest, status)
	})
}
