package serve

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/shearpin/shearpin/rebalance"
	"github.com/shearpin/shearpin/rebalance/cmd/shearpin/internal/config"
	"github.com/shearpin/shearpin/rebalance/cmd/shearpin/internal/control"
	"github.com/shearpin/shearpin/rebalance/cmd/shearpin/internal/web"
	"github.com/shearpin/shearpin/rebalance/store"
	"github.com/shearpin/shearpin/supervisor"
)

const (
	// quick is for what needs no node.
	quick = 10 * time.Second
	// long is for what nodes have to do.
	long = control.Longest
)

// route is one path.
type route struct {
	// pattern is for a ServeMux.
	pattern string
	serve   http.HandlerFunc
}

// routes are all that there are; docs/operations.md has the table.
func (m *Manager) routes() []route {
	type work func(ctx context.Context, r *http.Request) (any, error)
	get := func(path string, do work) route {
		return route{"GET " + control.Prefix + path, m.answer(quick, http.StatusOK, do)}
	}
	change := func(method, path string, limit time.Duration, do work) route {
		return route{method + " " + control.Prefix + path, m.command(m.answer(limit, http.StatusOK, do))}
	}
	create := func(path string, limit time.Duration, do work) route {
		return route{"POST " + control.Prefix + path, m.command(m.answer(limit, http.StatusCreated, do))}
	}
	metrics := promhttp.HandlerFor(m.registry, promhttp.HandlerOpts{ErrorHandling: promhttp.ContinueOnError})
	return []route{
		{"GET /healthz", m.healthz},
		{"GET /readyz", m.readyz},
		{"GET /metrics", metrics.ServeHTTP},
		get("/status", func(ctx context.Context, _ *http.Request) (any, error) { return m.cluster.Status(ctx) }),
		get("/tree", m.tree),
		{"GET " + control.Prefix + "/events", m.events},

		create("/rebalances", quick, m.rebalance),
		{"GET " + control.Prefix + "/rebalances/{id}/progress", m.progress},
		change("POST", "/rebalances/{id}/stop", long, m.stop),
		change("POST", "/rebalances/{id}/pause", quick, m.steer((*rebalance.Run).Pause)),
		change("POST", "/rebalances/{id}/resume", quick, m.steer((*rebalance.Run).Resume)),
		change("POST", "/rebalances/{id}/abort-move", long, m.abortMove),
		change("POST", "/plan", long, m.plan),
		get("/reports", func(ctx context.Context, _ *http.Request) (any, error) { return m.cluster.Reports(ctx) }),
		get("/reports/{id}", func(ctx context.Context, r *http.Request) (any, error) {
			return m.cluster.Report(ctx, r.PathValue("id"))
		}),
		get("/throttle", func(context.Context, *http.Request) (any, error) { return m.cluster.Throttle(), nil }),
		change("PUT", "/throttle", quick, m.setThrottle),
		get("/retry", m.pendingRetry),
		change("DELETE", "/retry", quick, m.cancelRetry),

		get("/nodes", func(ctx context.Context, _ *http.Request) (any, error) { return m.cluster.Members(ctx) }),
		create("/nodes", quick, m.addNode),
		change("DELETE", "/nodes/{name}", quick, m.removeNode),
		change("POST", "/nodes/{name}/add-back", quick, m.addBack),
		change("POST", "/failover", long, m.failover),

		get("/buckets", m.buckets),
		create("/buckets", long, m.createBucket),
		get("/buckets/{name}/map", func(ctx context.Context, r *http.Request) (any, error) {
			return m.cluster.Map(ctx, r.PathValue("name"))
		}),
		change("POST", "/janitor", long, m.janitor),
	}
}

// handler serves all paths.
func (m *Manager) handler() http.Handler {
	mux := http.NewServeMux()
	for _, route := range m.routes() {
		mux.HandleFunc(route.pattern, route.serve)
	}
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		control.Refuse(w, &control.Problem{Code: control.CodeNotFound, Text: fmt.Sprintf("there is no %s %s", r.Method, r.URL.Path)})
	})
	return mux
}

func (m *Manager) healthz(w http.ResponseWriter, _ *http.Request) {
	web.Answer(w, http.StatusOK, map[string]string{"status": "ok"})
}

// command refuses what changes something while the manager closes.
func (m *Manager) command(next http.HandlerFunc) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		if m.isClosing() {
			control.Refuse(w, errClosing)
			return
		}
		next(w, r)
	}
}

func (m *Manager) isClosing() bool {
	select {
	case <-m.closing:
		return true
	default:
		return false
	}
}

// errClosing refuses what comes too late.
var errClosing = &control.Problem{Code: control.CodeClosing, Text: "the manager is closing"}

// answer runs do within the limit and answers with what it returns.
func (m *Manager) answer(limit time.Duration, status int, do func(ctx context.Context, r *http.Request) (any, error)) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		web.Extend(w, limit)
		ctx, cancel := context.WithTimeout(r.Context(), limit)
		defer cancel()
		out, err := do(ctx, r)
		if err != nil {
			control.Refuse(w, err)
			return
		}
		web.Answer(w, status, out)
	}
}

// readyz says whether the manager can do what it is there for.
func (m *Manager) readyz(w http.ResponseWriter, r *http.Request) {
	ctx, cancel := context.WithTimeout(r.Context(), 2*time.Second)
	defer cancel()
	select {
	case <-m.closing:
		control.Refuse(w, errClosing)
		return
	case <-m.ready:
	default:
		control.Refuse(w, &control.Problem{Code: control.CodeNotReady, Text: "buckets of the configuration have yet to be created"})
		return
	}
	if _, err := m.cluster.State(ctx); err != nil {
		control.Refuse(w, &control.Problem{Code: control.CodeNotReady, Text: err.Error(), Cause: rebalance.Causes(err)})
		return
	}
	web.Answer(w, http.StatusOK, map[string]string{"status": "ready"})
}

func (m *Manager) addNode(ctx context.Context, r *http.Request) (any, error) {
	node, err := read[rebalance.Node](r)
	if err != nil {
		return nil, err
	}
	return node, addNode(ctx, m.cluster, node)
}

// addNode makes a node known.
func addNode(ctx context.Context, cluster *rebalance.Cluster, node rebalance.Node) error {
	if why := config.AddrProblem(node.Addr); why != "" {
		return &control.FieldError{Field: "addr", Value: strconv.Quote(node.Addr), Why: why}
	}
	return cluster.AddNode(ctx, node)
}

func (m *Manager) removeNode(ctx context.Context, r *http.Request) (any, error) {
	return struct{}{}, m.cluster.RemoveNode(ctx, r.PathValue("name"))
}

func (m *Manager) buckets(ctx context.Context, _ *http.Request) (any, error) {
	status, err := m.cluster.Status(ctx)
	return status.Buckets, err
}

func (m *Manager) createBucket(ctx context.Context, r *http.Request) (any, error) {
	b, err := read[control.Bucket](r)
	if err != nil {
		return nil, err
	}
	err = m.cluster.CreateBucket(ctx, rebalance.BucketConfig{
		Name: b.Name, VBuckets: b.VBuckets, Replicas: b.Replicas, QuotaBytes: b.QuotaBytes, Directory: b.Directory,
	})
	if errors.Is(err, store.ErrConflict) {
		err = &control.Problem{Code: control.CodeExists, Text: fmt.Sprintf("bucket %q exists", b.Name), Field: "name", Value: b.Name}
	}
	return b, err
}

func (m *Manager) janitor(ctx context.Context, _ *http.Request) (any, error) {
	report, err := m.cluster.Janitor(ctx)
	if err != nil {
		return nil, err
	}
	out := control.Janitor{JanitorReport: report, Problems: map[string][]string{}}
	for _, b := range report.Buckets {
		note(out.Problems, b.Name, b.Errs, b.Held)
	}
	return out, nil
}

// note lists what is wrong with a bucket, if anything is.
func note(problems map[string][]string, bucket string, errs []error, byVB map[uint16]error) {
	var texts []string
	for _, err := range errs {
		texts = append(texts, err.Error())
	}
	for _, vb := range slices.Sorted(maps.Keys(byVB)) {
		texts = append(texts, byVB[vb].Error())
	}
	if texts != nil {
		problems[bucket] = texts
	}
}

func (m *Manager) tree(ctx context.Context, _ *http.Request) (any, error) {
	root, err := m.cluster.Tree(ctx)
	return process(root), err
}

// process is a node of the tree as it is told.
func process(n supervisor.Node) control.Process {
	p := control.Process{
		ID: n.ID, Kind: n.Kind, Supervisor: n.Type == supervisor.TypeSupervisor, State: n.State, Since: n.Since,
		Restarts: n.Restarts, Mailbox: n.MailboxLen,
	}
	if n.PID != nil {
		p.PID = n.PID.String()
	}
	if n.LastExit != nil {
		p.LastExit = n.LastExit.Error()
	}
	if n.Err != nil {
		p.Error = n.Err.Error()
	}
	for _, child := range n.Children {
		p.Children = append(p.Children, process(child))
	}
	return p
}
