package control

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"iter"
	"mime"
	"net"
	"net/http"
	"strings"
	"time"

	"github.com/shearpin/shearpin/rebalance"
)

// Client speaks with one manager. It may be used from any goroutine.
type Client struct {
	base  string
	where string
	token *string // a pointer, which formatting does not follow
	http  *http.Client
}

// patience is how long a client waits for a connection, and between two lines of a stream.
const patience = 10 * Heartbeat

// maxAnswer bounds an answer, and one line of a stream, in bytes.
const maxAnswer = 256 << 20

// UnreachableError says that no manager answers.
type UnreachableError struct {
	Where string
	Err   error
}

func (e *UnreachableError) Error() string {
	return fmt.Sprintf("no manager answers at %s: %v", e.Where, e.Err)
}

func (e *UnreachableError) Unwrap() error { return e.Err }

// NewSocketClient is for a manager on a unix socket.
func NewSocketClient(path string) *Client {
	dialer := &net.Dialer{Timeout: patience}
	return newClient("http://localhost", path, "", func(ctx context.Context, _, _ string) (net.Conn, error) {
		return dialer.DialContext(ctx, "unix", path)
	})
}

// NewTCPClient is for a manager at host:port, which wants to see a token.
func NewTCPClient(addr, token string) *Client {
	return newClient("http://"+addr, addr, token, (&net.Dialer{Timeout: patience}).DialContext)
}

func newClient(base, where, token string, dial func(ctx context.Context, network, addr string) (net.Conn, error)) *Client {
	return &Client{base: base, where: where, token: &token, http: &http.Client{
		// No proxy: what is said is for this machine, or at least for nobody else.
		Transport:     &http.Transport{DialContext: dial, DisableCompression: true, MaxIdleConns: 1},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}}
}

// Close lets go of connections that are not in use.
func (c *Client) Close() { c.http.CloseIdleConnections() }

// Do sends a request and reads the answer into out, if that is not nil. A refusal is a *[Problem], a manager that is not there,
// or hangs, an *[UnreachableError].
func (c *Client) Do(ctx context.Context, method, path string, in, out any) error {
	ctx, cancel := context.WithTimeoutCause(ctx, Longest+patience, &UnreachableError{Where: c.where, Err: errSilent})
	defer cancel()
	answer, err := c.send(ctx, method, path, in)
	if err != nil {
		return err
	}
	defer answer.Body.Close()
	body, err := io.ReadAll(io.LimitReader(answer.Body, maxAnswer))
	if err != nil {
		return c.lost(ctx, err)
	}
	if out == nil {
		return nil
	}
	if err := json.Unmarshal(body, out); err != nil {
		return fmt.Errorf("answer of %s %s: %w", method, path, err)
	}
	return nil
}

// send returns an answer that is a success. Its body is the caller's to close.
func (c *Client) send(ctx context.Context, method, path string, in any) (*http.Response, error) {
	var body io.Reader
	if in != nil {
		text, err := json.Marshal(in)
		if err != nil {
			return nil, err
		}
		body = bytes.NewReader(text)
	}
	request, err := http.NewRequestWithContext(ctx, method, c.base+path, body)
	if err != nil {
		return nil, err
	}
	request.Header.Set("Content-Type", "application/json")
	if *c.token != "" {
		request.Header.Set("Authorization", "Bearer "+*c.token)
	}
	answer, err := c.http.Do(request)
	if err != nil {
		return nil, c.lost(ctx, err)
	}
	if answer.StatusCode >= http.StatusMultipleChoices {
		defer answer.Body.Close()
		return nil, refusal(answer)
	}
	return answer, nil
}

// lost is the error of a request that was not answered to its end.
func (c *Client) lost(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return &UnreachableError{Where: c.where, Err: err}
}

// refusal reads why a request was refused.
func refusal(answer *http.Response) error {
	text, err := io.ReadAll(io.LimitReader(answer.Body, 1<<20))
	if err != nil {
		return fmt.Errorf("status %s: %w", answer.Status, err)
	}
	var body errorBody
	kind, _, _ := mime.ParseMediaType(answer.Header.Get("Content-Type"))
	if kind != "application/json" || json.Unmarshal(text, &body) != nil || body.Error == nil {
		return &Problem{Code: CodeFailed, Text: "status " + answer.Status + ": " + strings.TrimSpace(string(text[:min(len(text), 200)]))}
	}
	return body.Error
}

// errSilent says that a manager was silent for too long.
var errSilent = errors.New("it has said nothing for too long")

// stream yields the objects of an answer that goes on, until it ends. After an error, which is the last that it yields, nothing
// is known.
func stream[T any](ctx context.Context, c *Client, path string) iter.Seq2[T, error] {
	return func(yield func(T, error) bool) {
		ctx, cancel := context.WithCancelCause(ctx)
		defer cancel(nil)
		silence := time.AfterFunc(patience, func() { cancel(&UnreachableError{Where: c.where, Err: errSilent}) })
		defer silence.Stop()

		var none T
		answer, err := c.send(ctx, http.MethodGet, Prefix+path, nil)
		if err != nil {
			yield(none, err)
			return
		}
		defer answer.Body.Close()
		for lines := json.NewDecoder(heard{answer.Body, func() { silence.Reset(patience) }}); ; {
			var line T
			switch err := lines.Decode(&line); {
			case errors.Is(err, io.EOF):
				return
			case err != nil:
				yield(none, c.lost(ctx, err))
				return
			}
			if !yield(line, nil) {
				return
			}
		}
	}
}

// heard tells of every sign of life, the empty lines of a stream included.
type heard struct {
	io.Reader
	tell func()
}

func (h heard) Read(p []byte) (int, error) {
	n, err := h.Reader.Read(p)
	if n > 0 {
		h.tell()
	}
	return n, err
}

// Follow yields what happens to a rebalance until it has ended: the last update has its report, or a problem. After an error,
// which is the last that it yields, nothing is known.
func (c *Client) Follow(ctx context.Context, id string) iter.Seq2[Update, error] {
	return func(yield func(Update, error) bool) {
		for update, err := range stream[Update](ctx, c, "/rebalances/"+id+"/progress") {
			last := err != nil || update.Report != nil || update.Problem != nil
			if !yield(update, err) || last {
				return
			}
		}
		yield(Update{}, c.lost(ctx, io.ErrUnexpectedEOF))
	}
}

// Events yields the event log since an event, and if follow is set what happens from then on until ctx ends or the manager
// closes. After an error, which is the last that it yields, nothing is known.
func (c *Client) Events(ctx context.Context, since uint64, follow bool) iter.Seq2[rebalance.LoggedEvent, error] {
	return stream[rebalance.LoggedEvent](ctx, c, fmt.Sprintf("/events?since=%d&follow=%t", since, follow))
}
