// Package faulthttp lets other processes break a node: rules of a fault script as JSON over HTTP.
//
//	POST   /faults            add a rule; the answer has its number
//	GET    /faults            all rules, with how often each has happened
//	GET    /faults/1          one of them; ?happened=3&timeout=10s waits until it has happened three times
//	DELETE /faults/1          remove it
//	GET    /strikes           what happened, in order
//	POST   /pause, /resume    stop the whole node, and let it go on
//	POST   /kill, /stop       take the node down, as a crash or in good order; its port stays
//	POST   /restart           bring it up again
//
// A rule has the fields of [fault.Rule] in snake case; its action is an object with the action's name:
//
//	{"match": {"role": "producer", "opcodes": ["DCP_MUTATION"], "vbuckets": [7]}, "after": 100, "times": 1,
//	 "do": {"action": "end-stream", "reason": 2}}
//
// Whoever reaches it can break the node, and do nothing else. Requests that a browser could be tricked into are refused: those
// that change something must say that they are JSON, and all must be addressed to this machine, unless told otherwise.
package faulthttp

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/shearpin/shearpin/dcp/kvnode"
	"github.com/shearpin/shearpin/dcp/kvnode/fault"
	"github.com/shearpin/shearpin/rebalance/cmd/shearpin/internal/web"
)

const (
	// maxBody is the longest rule, in bytes.
	maxBody = 64 << 10
	// maxRules is how many rules there may be at a time.
	maxRules = 1000
	// maxWait is the longest that a request waits for a fault, and the default.
	maxWait = time.Minute
)

// handler serves one node's faults.
type handler struct {
	script *fault.Script
	node   *kvnode.Node
	// anyHost serves requests that are addressed to other names than this machine's.
	anyHost bool

	mu     sync.Mutex
	faults map[uint64]*fault.Fault
}

// NewServer makes a server for a node that was started with the script. anywhere says that it may be reached from other
// machines. It is closed by its Close.
func NewServer(script *fault.Script, node *kvnode.Node, anywhere bool) *http.Server {
	h := &handler{script: script, node: node, anyHost: anywhere, faults: map[uint64]*fault.Fault{}}
	mux := http.NewServeMux()
	mux.HandleFunc("POST /faults", h.add)
	mux.HandleFunc("GET /faults", h.list)
	mux.HandleFunc("GET /faults/{id}", h.get)
	mux.HandleFunc("DELETE /faults/{id}", h.remove)
	mux.HandleFunc("GET /strikes", h.strikes)
	for path, do := range map[string]func() error{
		"/pause":   func() error { node.Pause(); return nil },
		"/resume":  func() error { node.Resume(); return nil },
		"/kill":    func() error { node.Kill(); return nil },
		"/stop":    node.Stop,
		"/restart": node.Restart,
	} {
		mux.HandleFunc("POST "+path, func(w http.ResponseWriter, _ *http.Request) {
			web.Extend(w, maxWait)
			if err := do(); err != nil {
				refuse(w, http.StatusConflict, err)
				return
			}
			w.WriteHeader(http.StatusNoContent)
		})
	}
	server := web.NewServer(h.guard(mux))
	server.ReadTimeout = 10 * time.Second // a rule is short
	return server
}

// guard refuses what a page in a browser on this machine could send.
func (h *handler) guard(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if status, err := web.Check(r, h.anyHost); err != nil {
			refuse(w, status, err)
			return
		}
		r.Body = http.MaxBytesReader(w, r.Body, maxBody)
		next.ServeHTTP(w, r)
	})
}

// faultJSON is a rule that was added.
type faultJSON struct {
	ID       uint64 `json:"id"`
	Name     string `json:"name,omitempty"`
	Action   string `json:"action"`
	Happened int    `json:"happened"`
}

func shown(f *fault.Fault) faultJSON {
	return faultJSON{ID: f.ID(), Name: f.Rule().Name, Action: f.Rule().Do.String(), Happened: f.Count()}
}

func (h *handler) add(w http.ResponseWriter, r *http.Request) {
	rule, err := ParseRule(r.Body)
	if err != nil {
		code := http.StatusBadRequest
		var long *http.MaxBytesError
		if errors.As(err, &long) {
			code = http.StatusRequestEntityTooLarge
		}
		refuse(w, code, err)
		return
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if len(h.faults) >= maxRules {
		refuse(w, http.StatusTooManyRequests, fmt.Errorf("there are %d rules already; remove some", maxRules))
		return
	}
	f, err := h.script.Add(rule)
	if err != nil {
		refuse(w, http.StatusBadRequest, err)
		return
	}
	h.faults[f.ID()] = f
	web.Answer(w, http.StatusCreated, shown(f))
}

func (h *handler) list(w http.ResponseWriter, _ *http.Request) {
	h.mu.Lock()
	defer h.mu.Unlock()
	all := make([]faultJSON, 0, len(h.faults))
	for _, id := range slices.Sorted(maps.Keys(h.faults)) {
		all = append(all, shown(h.faults[id]))
	}
	web.Answer(w, http.StatusOK, all)
}

// find is the fault of the path, or nil after having said that there is none.
func (h *handler) find(w http.ResponseWriter, r *http.Request) *fault.Fault {
	id, err := strconv.ParseUint(r.PathValue("id"), 10, 64)
	h.mu.Lock()
	defer h.mu.Unlock()
	f := h.faults[id]
	if err != nil || f == nil {
		refuse(w, http.StatusNotFound, &FieldError{Field: "id", Value: strconv.Quote(r.PathValue("id")), Why: "there is no such rule"})
		return nil
	}
	return f
}

func (h *handler) get(w http.ResponseWriter, r *http.Request) {
	f := h.find(w, r)
	if f == nil {
		return
	}
	times, limit := 0, maxWait
	var err error
	if text := r.FormValue("happened"); text != "" {
		if times, err = strconv.Atoi(text); err != nil || times < 0 {
			refuse(w, http.StatusBadRequest, &FieldError{Field: "happened", Value: strconv.Quote(text), Why: "must be a number from 0"})
			return
		}
	}
	if text := r.FormValue("timeout"); text != "" {
		if limit, err = time.ParseDuration(text); err != nil || limit <= 0 || limit > maxWait {
			refuse(w, http.StatusBadRequest, &FieldError{Field: "timeout", Value: strconv.Quote(text), Why: "must be a duration up to " + maxWait.String()})
			return
		}
	}
	web.Extend(w, limit)
	ctx, cancel := context.WithTimeout(r.Context(), limit)
	defer cancel()
	if err := f.Wait(ctx, times); err != nil {
		code := http.StatusGatewayTimeout
		if ctx.Err() == nil {
			code = http.StatusGone
		}
		refuse(w, code, err)
		return
	}
	web.Answer(w, http.StatusOK, shown(f))
}

func (h *handler) remove(w http.ResponseWriter, r *http.Request) {
	f := h.find(w, r)
	if f == nil {
		return
	}
	f.Remove()
	h.mu.Lock()
	delete(h.faults, f.ID())
	h.mu.Unlock()
	web.Answer(w, http.StatusOK, shown(f))
}

// strikeJSON is a [fault.Strike].
type strikeJSON struct {
	Seq        uint64    `json:"seq"`
	At         time.Time `json:"at"`
	Rule       uint64    `json:"rule"`
	Name       string    `json:"name,omitempty"`
	Action     string    `json:"action"`
	Node       string    `json:"node"`
	Bucket     string    `json:"bucket,omitempty"`
	Connection string    `json:"connection,omitempty"`
	Peer       string    `json:"peer,omitempty"`
	Role       string    `json:"role,omitempty"`
	Direction  string    `json:"direction,omitempty"`
	Opcode     string    `json:"opcode,omitempty"`
	Answer     bool      `json:"answer,omitempty"`
	VBucket    *int      `json:"vbucket,omitempty"`
	Opaque     string    `json:"opaque,omitempty"`
	Disk       string    `json:"disk,omitempty"`
}

func (h *handler) strikes(w http.ResponseWriter, _ *http.Request) {
	all := []strikeJSON{}
	for _, s := range h.script.Strikes() {
		out := strikeJSON{
			Seq: s.Seq, At: s.At, Rule: s.Rule, Name: s.Name, Action: s.Action.String(), Node: s.Node, Bucket: s.Bucket,
			Connection: s.Connection, Peer: s.Peer, Disk: s.Disk,
		}
		if s.Disk == "" {
			out.Role = s.Role.String()
		}
		if s.Direction != fault.Either {
			out.Direction, out.Opcode, out.Answer, out.Opaque = s.Direction.String(), s.Opcode.String(), s.Answer, s.Opaque.String()
		}
		if s.VBucket >= 0 {
			out.VBucket = &s.VBucket
		}
		all = append(all, out)
	}
	web.Answer(w, http.StatusOK, all)
}

// errorJSON is what a request is refused with.
type errorJSON struct {
	Error string `json:"error"`
	Field string `json:"field,omitempty"`
	Value string `json:"value,omitempty"`
}

func refuse(w http.ResponseWriter, code int, err error) {
	out := errorJSON{Error: err.Error()}
	var field *FieldError
	var rule *fault.RuleError
	switch {
	case errors.As(err, &field):
		out.Field, out.Value = field.Field, fmt.Sprint(field.Value)
	case errors.As(err, &rule):
		out.Field, out.Value = rule.Field, fmt.Sprint(rule.Value)
	}
	web.Answer(w, code, out)
}
