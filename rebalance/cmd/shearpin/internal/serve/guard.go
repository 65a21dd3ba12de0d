package serve

import (
	"crypto/sha256"
	"crypto/subtle"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"

	"github.com/shearpin/shearpin/rebalance/cmd/shearpin/internal/control"
	"github.com/shearpin/shearpin/rebalance/cmd/shearpin/internal/web"
)

const (
	// maxBody bounds a request, in bytes, and maxPlan one that may have a plan: the largest bucket makes some 20 MiB.
	maxBody = 1 << 20
	maxPlan = 64 << 20
	// maxRequests bounds the requests that are being served, streams included.
	maxRequests = 64
)

// door decides who comes in to the handlers: those that know the token, where there is one, and no page in a browser.
type door struct {
	inside http.Handler
	// token is the digest of what has to be shown; nil is nothing.
	token *[sha256.Size]byte
	// anyHost serves requests that are addressed to other names than this machine's.
	anyHost bool
	// room has an entry for each request that is being served.
	room chan struct{}
}

func (d *door) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if err := d.check(r); err != nil {
		if err.Code == control.CodeUnauthorised {
			w.Header().Set("WWW-Authenticate", "Bearer")
		}
		control.Refuse(w, err)
		return
	}
	select {
	case d.room <- struct{}{}:
		defer func() { <-d.room }()
	default:
		control.Refuse(w, &control.Problem{Code: control.CodeBusy, Text: "too many requests at the same time"})
		return
	}
	limit := int64(maxBody)
	if path := strings.TrimPrefix(r.URL.Path, control.Prefix); path == "/rebalances" || path == "/plan" {
		limit = maxPlan
	}
	r.Body = http.MaxBytesReader(w, r.Body, limit)
	d.inside.ServeHTTP(w, r)
}

// check says why a request does not come in. What comes by the socket says nothing of a host.
func (d *door) check(r *http.Request) *control.Problem {
	if status, err := web.Check(r, d.token == nil || d.anyHost); err != nil {
		p := &control.Problem{Code: control.CodeForbidden, Text: err.Error(), Field: err.Field, Value: fmt.Sprint(err.Value)}
		if status == http.StatusUnsupportedMediaType {
			p.Code = control.CodeNotJSON
		}
		return p
	}
	if probe := r.URL.Path == "/healthz" || r.URL.Path == "/readyz"; d.token != nil && !probe && !d.knows(r) {
		return &control.Problem{Code: control.CodeUnauthorised, Text: "Authorization: the token is missing or another one"}
	}
	return nil
}

// knows compares digests, in a time that tells nothing about either.
func (d *door) knows(r *http.Request) bool {
	shown, found := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
	digest := sha256.Sum256([]byte(shown))
	return subtle.ConstantTimeCompare(digest[:], d.token[:]) == 1 && found
}

// read decodes the one JSON value of a request. No body at all is an empty object.
func read[T any](r *http.Request) (in T, err error) {
	decoder := json.NewDecoder(r.Body)
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(&in); errors.Is(err, io.EOF) {
		return in, nil
	} else if err != nil {
		return in, unreadable(err)
	}
	if _, err := decoder.Token(); !errors.Is(err, io.EOF) {
		return in, &control.Problem{Code: control.CodeBadRequest, Text: "body: there is more after the object"}
	}
	return in, nil
}

// unreadable is why a body could not be decoded.
func unreadable(err error) error {
	var long *http.MaxBytesError
	if errors.As(err, &long) {
		return err
	}
	p := &control.Problem{Code: control.CodeBadRequest, Text: "body: " + err.Error()}
	var kind *json.UnmarshalTypeError
	if errors.As(err, &kind) {
		p.Field, p.Value = kind.Field, kind.Value
	}
	return p
}
