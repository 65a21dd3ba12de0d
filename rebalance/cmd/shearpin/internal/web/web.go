// Package web is what the HTTP servers of this command have in common: whom they let in, and how they answer.
package web

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strconv"
	"time"

	"github.com/shearpin/shearpin/rebalance/cmd/shearpin/internal/loopback"
)

// readLimit is for a request to come, and writeLimit for an answer, or for a line of a stream, to be taken by who asked.
const (
	readLimit  = 30 * time.Second
	writeLimit = 30 * time.Second
)

// NewServer is a server that nobody can keep waiting.
func NewServer(handler http.Handler) *http.Server {
	return &http.Server{
		Handler: handler, ReadHeaderTimeout: 5 * time.Second, ReadTimeout: readLimit, WriteTimeout: writeLimit,
		IdleTimeout: time.Minute, MaxHeaderBytes: 16 << 10,
	}
}

// Extend gives a request longer than others have: limit from now for what is done, besides the time that its answer has.
func Extend(w http.ResponseWriter, limit time.Duration) {
	_ = http.NewResponseController(w).SetWriteDeadline(time.Now().Add(limit + writeLimit)) // who cannot be given longer has less
}

// FieldError is a request with a field that cannot have its value.
type FieldError struct {
	// Field is its path in the body, or the name of a header or a parameter, and Value what was given.
	Field string
	Value any
	Why   string
}

func (e *FieldError) Error() string { return fmt.Sprintf("%s: %v: %s", e.Field, e.Value, e.Why) }

// Check refuses what a page in a browser on this machine could send. A name may come to mean this machine there, so that a page
// that is not ours could ask us; but it says by which name, and where it comes from, and cannot send JSON unasked. anyHost lets
// requests in that are addressed to other names than this machine's. status goes with err.
func Check(r *http.Request, anyHost bool) (status int, err *FieldError) {
	origin, kind := r.Header.Get("Origin"), r.Header.Get("Content-Type")
	reads := r.Method == http.MethodGet || r.Method == http.MethodHead
	switch {
	case !anyHost && !loopback.Is(r.Host):
		return http.StatusForbidden, &FieldError{"Host", r.Host, "is not this machine"}
	case origin != "":
		return http.StatusForbidden, &FieldError{"Origin", origin, "pages in browsers are not served"}
	case !reads && kind != "application/json":
		return http.StatusUnsupportedMediaType, &FieldError{"Content-Type", strconv.Quote(kind), "must be application/json"}
	}
	return http.StatusOK, nil
}

// Answer answers with v as JSON.
func Answer(w http.ResponseWriter, status int, v any) {
	body, err := json.Marshal(v)
	if err != nil {
		// Every type that comes here is ours and holds nothing that cannot be encoded.
		panic(err)
	}
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("X-Content-Type-Options", "nosniff")
	w.WriteHeader(status)
	_, _ = w.Write(append(body, '\n')) // whoever asked has gone
}
