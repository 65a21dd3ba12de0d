package serve

import (
	"bufio"
	"context"
	"log/slog"
	"net"
	"net/http"
	"testing"
	"testing/synctest"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/shearpin/shearpin/rebalance/cmd/shearpin/internal/control"
)

// oneCaller is a listener that has one connection for whoever accepts.
type oneCaller struct {
	conns  chan net.Conn
	closed chan struct{}
}

func (l *oneCaller) Accept() (net.Conn, error) {
	select {
	case conn := <-l.conns:
		return conn, nil
	case <-l.closed:
		return nil, net.ErrClosed
	}
}

func (l *oneCaller) Close() error {
	close(l.closed)
	return nil
}

func (l *oneCaller) Addr() net.Addr { return &net.UnixAddr{Name: "pipe"} }

// Whoever begins a request and does not go on with it is given up, and does not keep its place for ever.
func TestABodyThatDoesNotComeIsGivenUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := &Manager{log: slog.New(slog.DiscardHandler), life: t.Context(), failed: make(chan error, 1)}
		ours, theirs := net.Pipe()
		defer ours.Close()
		listener := &oneCaller{conns: make(chan net.Conn, 1), closed: make(chan struct{})}
		listener.conns <- theirs
		m.serve(listener, &door{room: make(chan struct{}, 1), inside: m.answer(quick, http.StatusOK, func(_ context.Context, r *http.Request) (any, error) {
			return read[control.Move](r)
		})})
		_, err := ours.Write([]byte("POST / HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 20\r\n\r\n{"))
		require.NoError(t, err)
		answer, err := http.ReadResponse(bufio.NewReader(ours), nil)
		require.NoError(t, err)
		defer answer.Body.Close()
		assert.Equal(t, http.StatusBadRequest, answer.StatusCode)
		require.NoError(t, m.servers[0].Close())
		m.work.Wait()
	})
}
