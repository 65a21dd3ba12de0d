package dcp

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"math/rand/v2"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/shearpin/shearpin/actors"
	"github.com/shearpin/shearpin/dcp/kv"
	"github.com/shearpin/shearpin/supervisor"
)

// Options describe the replications of one bucket into one node.
type Options struct {
	// System runs the processes. Only [Start] needs it.
	System *actors.System
	Bucket string
	// Consumer is the name of the node that the replications lead to. It is its name in topologies and its DCP consumer
	// name too.
	Consumer string
	// Endpoints finds how to reach a node by its name. It may be called from any goroutine.
	Endpoints func(node string) (kv.Endpoint, bool)
	Limits    Limits
	// Connections is the number of links per producer, 1 to 64; vbucket vb uses link vb mod Connections. 0 means 1.
	Connections int
	// Jitter gives a random part of a pause, from 0 to what it is given; nil is random. It may be called from any
	// goroutine.
	Jitter func(time.Duration) time.Duration
	// Log gets one line per state change; nil discards them.
	Log *slog.Logger
	// Events gets the news of all links; nil drops them.
	Events *actors.Bus[Event]
	// SupervisorEvents gets the starts and exits of all processes below; nil drops them.
	SupervisorEvents *actors.Bus[supervisor.Event]
	// Metrics gets the metrics of the replications, as long as they run; nil gets none. Managers may share it. What it cannot
	// take beside what is registered there is a [MetricsError] of the start.
	Metrics prometheus.Registerer
	metrics *metrics
	// carriage counts for Manager.Carried.
	carriage *carriage
}

func (o Options) validate() (Options, error) {
	switch {
	case o.Bucket == "":
		return o, errors.New("dcp: Options.Bucket is empty")
	case o.Consumer == "":
		return o, errors.New("dcp: Options.Consumer is empty")
	case o.Endpoints == nil:
		return o, errors.New("dcp: Options.Endpoints is nil")
	case o.Connections < 0 || o.Connections > 64:
		return o, fmt.Errorf("dcp: Options.Connections is %d, must be 0 to 64", o.Connections)
	case o.Limits.Flight > maxFlight:
		return o, fmt.Errorf("dcp: Limits.Flight is %d, must be at most %d", o.Limits.Flight, maxFlight)
	}
	if o.Connections == 0 {
		o.Connections = 1
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.Jitter == nil {
		o.Jitter = func(d time.Duration) time.Duration { return rand.N(d + 1) }
	}
	o.Limits = o.Limits.withDefaults()
	o.metrics = newMetrics(o.Metrics, o.Bucket, o.Consumer)
	o.carriage = newCarriage()
	return o, nil
}

// Manager is a handle on the replications of one bucket into one node. Its methods may be called from any goroutine; each
// ends with an answer, with the exit reason of the manager's process if that dies, or with its context; the request may then
// be carried out all the same. What is given to them stays the caller's.
//
// Desired state is changed only by requests that carry the current epoch, which is the last that was asked for, once its
// [Manager.Prepare] has succeeded; others are refused with [StaleEpoch].
type Manager struct {
	opts Options
	pid  atomic.Pointer[actors.PID]
	top  *actors.PID
}

// Start runs the replications on their own, under a supervisor of their own in opts.System. Stop ends them.
func Start(ctx context.Context, opts Options) (*Manager, error) {
	opts, err := opts.validate()
	if err != nil {
		return nil, err
	}
	if opts.System == nil {
		return nil, errors.New("dcp: Options.System is nil")
	}
	m := &Manager{opts: opts}
	top := supervisor.New(m.spec())
	m.top, err = opts.System.Start(ctx, top, actors.WithKind("supervisor"))
	if err != nil {
		return nil, err
	}
	return m, nil
}

// Child is the tree of the replications of one bucket into one node, to be placed under a supervisor. ready is called
// once, before the tree starts, with the handle; the handle stays good over restarts.
func Child(id string, opts Options, ready func(*Manager)) (supervisor.ChildSpec, error) {
	opts, err := opts.validate()
	if err != nil {
		return supervisor.ChildSpec{}, err
	}
	m := &Manager{opts: opts}
	ready(m)
	return supervisor.ChildSpec{
		ID:   id,
		Type: supervisor.TypeSupervisor,
		Start: func(c *actors.Context) (*actors.PID, error) {
			return c.StartLink(supervisor.New(m.spec()), actors.WithKind("supervisor"))
		},
	}, nil
}

// spec is one_for_all: the manager's knowledge and the links live and die together.
func (m *Manager) spec() supervisor.Spec {
	name := fmt.Sprintf("%s into %s", m.opts.Bucket, m.opts.Consumer)
	var links *actors.PID
	return supervisor.Spec{
		Name:     "replications of " + name,
		Strategy: supervisor.OneForAll,
		// A manager that dies takes the links along; a few of those in a short time are worth another try.
		Intensity: connRestarts,
		Period:    connRestartPeriod,
		Log:       m.opts.Log,
		Events:    m.opts.SupervisorEvents,
		Children: []supervisor.ChildSpec{
			{ID: "replication supervisor", Type: supervisor.TypeSupervisor, Start: func(c *actors.Context) (*actors.PID, error) {
				spec := supervisor.Spec{Name: "links of " + name, Log: m.opts.Log, Events: m.opts.SupervisorEvents}
				pid, err := c.StartLink(supervisor.New(spec), actors.WithKind("supervisor"))
				links = pid
				return pid, err
			}},
			{ID: "replication manager", Start: func(c *actors.Context) (*actors.PID, error) {
				pid, err := c.StartLink(newManagerProcess(m.opts, links), actors.WithKind("replication manager"))
				if err == nil {
					m.pid.Store(pid)
				}
				return pid, err
			}},
		},
	}
}

// Stop ends what [Start] began, without talking to any node; see [Manager.Shut] for the planned way.
func (m *Manager) Stop(ctx context.Context) error {
	if m.top == nil {
		return errors.New("dcp: Stop of a manager that belongs to another supervisor")
	}
	if err := m.top.Stop(ctx, actors.Shutdown); err != nil {
		return err
	}
	return m.opts.metrics.left(ctx)
}

func (m *Manager) call(ctx context.Context, msg any) error {
	_, err := m.ask(ctx, msg)
	return err
}

func (m *Manager) ask(ctx context.Context, msg any) (any, error) {
	pid := m.pid.Load()
	if pid == nil {
		return nil, fmt.Errorf("replications into %s: %w", m.opts.Consumer, actors.NoProcess)
	}
	return pid.Call(ctx, msg)
}

// Prepare raises the epoch. Callers of lower epochs are answered [ErrSuperseded] at once. It returns when nothing that
// they asked for is on the wire any more; work that does not end within Limits.Grace has its connection rebuilt, and
// takeovers that failed are fenced. If that cannot be done it fails with [UnfencedError]: until a later Prepare succeeds
// nobody may set states on this node. The first Prepare also ends the connections that an earlier manager has left, and fails
// if it cannot. Requests are taken again once a Prepare has succeeded. A lower epoch than the last that was asked for is
// refused with [StaleEpoch].
func (m *Manager) Prepare(ctx context.Context, epoch uint64) error {
	return m.call(ctx, prepareRequest{epoch: epoch})
}

// Apply changes the desired streams of single vbuckets: vbucket to producer, "" to close. It returns when all are
// settled, that is live or closed; failures are in an [ApplyError]. A vbucket whose change failed is wanted as before.
// owner names who is at work on these vbuckets, "" nobody: while somebody is, a stream that is lost is reported and not
// opened again.
func (m *Manager) Apply(ctx context.Context, epoch uint64, owner string, changes map[uint16]string) error {
	return m.call(ctx, applyRequest{epoch: epoch, owner: owner, changes: maps.Clone(changes)})
}

// Want notes vbuckets to be streamed from producers and returns at once. The manager opens the streams by itself, those
// that it keeps apart (Status.KeptApart) alone and after their pause. A vbucket that has a stream, or is being worked on,
// is left as it is.
func (m *Manager) Want(ctx context.Context, epoch uint64, wanted map[uint16]string) error {
	return m.call(ctx, wantRequest{epoch: epoch, wanted: maps.Clone(wanted)})
}

// Retain closes every stream that is not in wanted and forgets that it was. It opens none. A vbucket that is being worked on
// counts as not wanted, so that nothing comes up behind the caller's back: see [Manager.Want].
func (m *Manager) Retain(ctx context.Context, epoch uint64, owner string, wanted map[uint16]string) error {
	return m.call(ctx, applyRequest{epoch: epoch, owner: owner, changes: maps.Clone(wanted), retain: true})
}

// Takeover makes this node active for a vbucket: the replica stream of the vbucket is closed, then a takeover stream
// from producer moves the last changes and the state. nil means that this node's engine has acknowledged active. Any
// other outcome leaves open which node is active: see [Manager.Fence].
func (m *Manager) Takeover(ctx context.Context, epoch uint64, owner string, vb uint16, producer string) error {
	return m.call(ctx, takeoverRequest{epoch: epoch, owner: owner, vb: vb, producer: producer})
}

// Release says that owner is done; from now on the manager restores its vbuckets' streams after a crash.
func (m *Manager) Release(ctx context.Context, epoch uint64, owner string) error {
	return m.call(ctx, releaseRequest{epoch: epoch, owner: owner})
}

// Fence ends the connection that carries vb from producer and opens its consumer again under the same name. When it
// returns nil the engine has ended every stream of the old connection, so that the states of the vbucket may be read and
// set again.
func (m *Manager) Fence(ctx context.Context, vb uint16, producer string) error {
	return m.call(ctx, fenceVBucket{vb: vb, producer: producer})
}

// Refresh says that what [Options].Endpoints gives has changed: certificates, credentials, features. It returns at once.
// Connections that are open are opened anew, one link after another, each when nobody is at work on its vbuckets
// (LinkStatus.Outdated until then); those opened from now on have the change anyway.
func (m *Manager) Refresh(ctx context.Context) error { return m.call(ctx, refreshRequest{}) }

// Shut is the planned stop: the streams of every link are closed at the consumer, then the links end. Each link has
// Limits.Close for it. Later calls are refused with [ErrShut].
func (m *Manager) Shut(ctx context.Context) error { return m.call(ctx, shutAll{}) }

// Status answers from what the manager knows, at once, also while peers hang.
func (m *Manager) Status(ctx context.Context) (Status, error) {
	answer, err := m.ask(ctx, statusRequest{})
	if err != nil {
		return Status{}, err
	}
	status, ok := answer.(Status)
	if !ok {
		return Status{}, fmt.Errorf("dcp: status answered with %T", answer)
	}
	return status, nil
}

// Flight is what went on last on a link, the oldest event first: that of its current connections, if they are being
// opened or open. What went on before a crash is in the [CrashError]. A link that does not run is an [ErrNoLink].
func (m *Manager) Flight(ctx context.Context, producer string, conn int) ([]FlightEvent, error) {
	answer, err := m.ask(ctx, flightRequest{key: linkKey{producer: producer, conn: conn}})
	events, _ := answer.([]FlightEvent)
	return events, err
}

// ConnectionFor is the DCP name of the connection that carries vb from producer to this node.
func (m *Manager) ConnectionFor(producer string, vb uint16) string {
	return ConnectionName(producer, m.opts.Consumer, m.opts.Bucket, int(vb)%m.opts.Connections)
}
