// Package webtest serves HTTP without a network, so that time can be virtual.
package webtest

import (
	"bufio"
	"net"
	"net/http"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// Ask sends the text of one request to a server, closes it, and returns the status of the answer.
func Ask(t *testing.T, server *http.Server, text string) int {
	t.Helper()
	ours, theirs := net.Pipe()
	listener := &listener{conns: make(chan net.Conn, 1), closed: make(chan struct{})}
	listener.conns <- theirs
	served := make(chan error, 1)
	go func() { served <- server.Serve(listener) }()
	defer func() {
		_ = ours.Close() // nothing more is said
		assert.NoError(t, server.Close())
		assert.ErrorIs(t, <-served, http.ErrServerClosed)
	}()
	_, err := ours.Write([]byte(text))
	require.NoError(t, err)
	answer, err := http.ReadResponse(bufio.NewReader(ours), nil)
	require.NoError(t, err)
	require.NoError(t, answer.Body.Close())
	return answer.StatusCode
}

// listener has one connection for whoever accepts.
type listener struct {
	conns  chan net.Conn
	closed chan struct{}
}

func (l *listener) Accept() (net.Conn, error) {
	select {
	case conn := <-l.conns:
		return conn, nil
	case <-l.closed:
		return nil, net.ErrClosed
	}
}

func (l *listener) Close() error {
	close(l.closed)
	return nil
}

func (l *listener) Addr() net.Addr { return &net.UnixAddr{Name: "pipe"} }
