// Package serve is a manager that runs: it holds the store, the cluster and with it the replications and the janitor, and lets
// itself be commanded over HTTP.
package serve

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"path/filepath"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"

	"github.com/shearpin/shearpin/rebalance"
	"github.com/shearpin/shearpin/rebalance/cmd/shearpin/internal/config"
	"github.com/shearpin/shearpin/rebalance/cmd/shearpin/internal/web"
	"github.com/shearpin/shearpin/rebalance/store"
)

// Manager is one that runs, from [Start] to [Manager.Close].
type Manager struct {
	config   *config.Config
	log      *slog.Logger
	registry *prometheus.Registry

	cluster      *rebalance.Cluster
	closeCluster func(ctx context.Context) error

	servers   []*http.Server
	listeners []net.Listener
	// life ends when the manager closes: what was asked of it is broken off then.
	life   context.Context //nolint:containedctx // of the background work and of all requests
	end    context.CancelFunc
	work   sync.WaitGroup
	failed chan error

	// closing is closed when the manager begins to close, ready when the buckets are there.
	closing, ready chan struct{}
	// starts are of rebalances, streams tell of them; none begins when the manager closes.
	starts, streams sync.WaitGroup

	mu        sync.Mutex // orders what enters a group with the beginning of the end
	followers map[string]*follower
}

// Start opens everything that the configuration names and returns when the manager can be commanded. It does not wait for the
// nodes. A store that another manager has open is refused with an error that wraps store.ErrInUse.
func Start(ctx context.Context, c *config.Config, log *slog.Logger) (*Manager, error) {
	m := &Manager{
		config: c, log: log.With("part", "serve"), registry: prometheus.NewRegistry(), failed: make(chan error, 3),
		closing: make(chan struct{}), ready: make(chan struct{}), followers: map[string]*follower{},
	}
	m.life, m.end = context.WithCancel(context.WithoutCancel(ctx))
	if err := m.start(ctx, log); err != nil {
		return nil, errors.Join(err, m.release(ctx))
	}
	return m, nil
}

func (m *Manager) start(ctx context.Context, log *slog.Logger) error {
	m.registry.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	var err error
	if m.cluster, m.closeCluster, err = Open(ctx, m.config, log, m.registry); err != nil {
		return err
	}
	if err := m.listen(ctx); err != nil {
		return err
	}
	m.work.Go(m.createBuckets)
	m.work.Go(m.watchCluster)
	return nil
}

// Open opens a cluster as it is configured, on its store. A store that another manager has open is refused with an error that
// wraps store.ErrInUse. closeAll closes both.
func Open(ctx context.Context, c *config.Config, log *slog.Logger, metrics prometheus.Registerer) (
	cluster *rebalance.Cluster, closeAll func(ctx context.Context) error, err error,
) {
	options, err := c.Cluster(log)
	if err != nil {
		return nil, nil, err
	}
	kept, err := store.OpenFile(c.Resolve(c.Store))
	if err != nil {
		return nil, nil, fmt.Errorf("store: %w", err)
	}
	options.Store, options.Metrics = kept, metrics
	cluster, err = rebalance.Open(ctx, options)
	if err != nil {
		return nil, nil, errors.Join(err, kept.Close())
	}
	return cluster, func(ctx context.Context) error { return errors.Join(cluster.Close(ctx), kept.Close()) }, nil
}

// listen opens the doors.
func (m *Manager) listen(ctx context.Context) error {
	handler := m.handler()
	room := make(chan struct{}, maxRequests)
	c := m.config.Control
	if c.Socket != "" {
		listener, err := listenSocket(ctx, m.config.Resolve(c.Socket))
		if err != nil {
			return err
		}
		m.serve(listener, &door{inside: handler, room: room})
	}
	if c.Listen != "" {
		token, err := m.config.Token()
		if err != nil {
			return err
		}
		listener, err := (&net.ListenConfig{}).Listen(ctx, "tcp", c.Listen)
		if err != nil {
			return fmt.Errorf("control: %w", err)
		}
		digest := sha256.Sum256([]byte(token))
		m.serve(listener, &door{inside: handler, token: &digest, anyHost: c.Anywhere, room: room})
	}
	return nil
}

// serve answers at one door until the manager closes.
func (m *Manager) serve(listener net.Listener, handler http.Handler) {
	server := web.NewServer(handler)
	server.ErrorLog = slog.NewLogLogger(m.log.Handler(), slog.LevelWarn)
	server.BaseContext = func(net.Listener) context.Context { return m.life }
	m.servers, m.listeners = append(m.servers, server), append(m.listeners, listener)
	m.work.Go(func() {
		if err := server.Serve(listener); !errors.Is(err, http.ErrServerClosed) {
			m.fail(fmt.Errorf("control: %w", err))
		}
	})
}

// fail tells that the manager cannot go on.
func (m *Manager) fail(err error) {
	select {
	case m.failed <- err:
	default: // the first ones say enough
	}
}

// Failed yields why the manager cannot go on, if that happens. It has to be closed then too.
func (m *Manager) Failed() <-chan error { return m.failed }

// Ready is closed when the buckets of the configuration are there.
func (m *Manager) Ready() <-chan struct{} { return m.ready }

// Socket is the whole path of the unix socket, empty if there is none.
func (m *Manager) Socket() string {
	path := m.config.Resolve(m.config.Control.Socket)
	if whole, err := filepath.Abs(path); err == nil && path != "" {
		return whole
	}
	return path
}

// Addr is host:port of the TCP address, empty if there is none.
func (m *Manager) Addr() string {
	for _, l := range m.listeners {
		if l.Addr().Network() == "tcp" {
			return l.Addr().String()
		}
	}
	return ""
}

// watchCluster notices that the management has ended by itself.
func (m *Manager) watchCluster() {
	select {
	case <-m.cluster.Done():
		m.fail(fmt.Errorf("the management of the cluster has ended: %w", m.cluster.Err()))
	case <-m.closing:
	}
}

// The pauses between two attempts to create a bucket.
const (
	firstPause = 200 * time.Millisecond
	lastPause  = 30 * time.Second
)

// createBuckets creates what is missing, each as soon as all nodes let it.
func (m *Manager) createBuckets() {
	for _, bucket := range m.config.BucketConfigs() {
		said := ""
		for pause := firstPause; ; pause = min(2*pause, lastPause) {
			err := m.cluster.CreateBucket(m.life, bucket)
			if err == nil || errors.Is(err, store.ErrConflict) {
				break
			}
			if m.life.Err() != nil {
				return
			}
			var taken *rebalance.BucketTakenError
			if errors.As(err, &taken) {
				m.fail(err) // two managers must not command the same nodes
				return
			}
			if text := err.Error(); text != said {
				said = text
				m.log.Warn("bucket_not_created", "bucket", bucket.Name, "err", err)
			}
			select {
			case <-time.After(pause):
			case <-m.life.Done():
				return
			}
		}
	}
	close(m.ready)
}

// Close stops a rebalance that runs, answers what can be answered, and closes everything. The nodes are left as they are. What is
// still open when ctx ends is left.
func (m *Manager) Close(ctx context.Context) error {
	m.shut(ctx)
	m.stopRebalance(ctx)
	telling, cancel := context.WithTimeout(ctx, tellLimit)
	defer cancel()
	_ = wait(telling, &m.streams) // who has not taken the report by then does not get it
	return m.release(ctx)
}

// shut lets no rebalance begin any more; one that is just being started has been when it returns, unless ctx ends before.
func (m *Manager) shut(ctx context.Context) {
	m.mu.Lock()
	close(m.closing)
	m.mu.Unlock()
	_ = wait(ctx, &m.starts) // it is broken off with all other requests then
}

// enter reports whether a group has one more, which is for the caller to take out: not when the manager closes.
func (m *Manager) enter(group *sync.WaitGroup) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.isClosing() {
		return false
	}
	group.Add(1)
	return true
}

// tellLimit is for those who follow a rebalance to take its report when the manager closes.
const tellLimit = 5 * time.Second

// wait waits for a group, but not longer than ctx.
func wait(ctx context.Context, group *sync.WaitGroup) error {
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		group.Wait()
	}()
	select {
	case <-ended:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// stopRebalance stops the one that runs, if there is one.
func (m *Manager) stopRebalance(ctx context.Context) {
	run := m.cluster.CurrentRun()
	if run == nil {
		return
	}
	m.log.Info("rebalance_stopping", "rebalance", run.ID())
	if err := run.Stop(ctx); err != nil {
		m.log.Warn("rebalance_not_stopped", "rebalance", run.ID(), "err", err)
	}
}

// release closes what is open.
func (m *Manager) release(ctx context.Context) error {
	m.end()
	var errs []error
	for _, server := range m.servers {
		if err := server.Shutdown(ctx); err != nil {
			errs = append(errs, server.Close())
		}
	}
	if m.cluster != nil {
		errs = append(errs, m.closeCluster(ctx))
	}
	errs = append(errs, wait(ctx, &m.work))
	return errors.Join(errs...)
}
