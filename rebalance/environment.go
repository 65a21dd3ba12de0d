package rebalance

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync/atomic"

	"github.com/shearpin/shearpin/actors"
	"github.com/shearpin/shearpin/dcp"
	"github.com/shearpin/shearpin/dcp/kv"
	"github.com/shearpin/shearpin/rebalance/store"
	"github.com/shearpin/shearpin/supervisor"
)

// environment is what the processes of one cluster share. Its fields do not change once the processes run; what they
// point to is safe for concurrent use.
type environment struct {
	// config has no credentials: only the node table knows how to get at those.
	config  *Config
	system  *actors.System
	nodes   *nodeTable
	buckets *store.Buckets

	events            *actors.Bus[Event]
	replicationEvents *actors.Bus[dcp.Event]
	supervisorEvents  *actors.Bus[supervisor.Event]

	// connect makes a nodeKV for a bucket on a node; the empty bucket selects none.
	connect func(node, bucket string) (nodeKV, error)
	// replicate describes the tree that holds the streams of a bucket into a node, and the handle on it.
	replicate func(bucket, node string) (supervisor.ChildSpec, replications, error)

	// publishing orders the publishers' attempts.
	publishing laneTurns

	// desk is what anybody may read at any time; recorder writes down what is to outlive the process.
	desk     *desk
	recorder recorder
	eventLog *eventLog
	meter    *meter

	// throttle is how rebalances are slowed down; carriers tell what they carry.
	throttle atomic.Pointer[Throttle]
	carriers *carriers

	// janitorRuns counts the runs that have ended.
	janitorRuns atomic.Int64
}

// newEnvironment is the real one: sockets and replications.
func newEnvironment(config Config, buckets *store.Buckets) *environment {
	nodes := newNodeTable(config)
	config.Credentials = kv.Credentials{}
	e := &environment{
		carriers: newCarriers(),
		config:   &config, buckets: buckets, nodes: nodes, desk: newDesk(),
		eventLog:          newEventLog(config.EventLog),
		system:            actors.NewSystem(actors.Options{Logger: config.Log}),
		events:            actors.NewBus[Event](),
		replicationEvents: actors.NewBus[dcp.Event](),
		supervisorEvents:  actors.NewBus[supervisor.Event](),
	}
	e.meter = newMeter(e.desk)
	e.throttle.Store(&config.Throttle)
	e.connect = func(node, bucket string) (nodeKV, error) {
		endpoint, ok := e.nodes.endpoint(node)
		if !ok {
			return nil, fmt.Errorf("%w %q", ErrUnknownNode, node)
		}
		return newSessionKV(endpoint, bucket, config.Log), nil
	}
	e.replicate = func(bucket, node string) (child supervisor.ChildSpec, manager replications, err error) {
		child, err = dcp.Child("replications", dcp.Options{
			Bucket: bucket, Consumer: node, Endpoints: e.nodes.endpoint, Limits: config.Limits.Replication,
			Connections: config.Connections, Log: config.Log, Events: e.replicationEvents,
			SupervisorEvents: e.supervisorEvents, Metrics: config.Metrics,
		}, func(m *dcp.Manager) { manager = m })
		return child, manager, err
	}
	return e
}

// log is the logger of a part.
func (e *environment) log(part string, args ...any) *slog.Logger {
	return e.config.Log.With(append([]any{"part", part}, args...)...)
}

// The registered names of the processes of which there is one.
const (
	membersName      = "members"
	publisherName    = "publisher"
	janitorName      = "janitor"
	orchestratorName = "orchestrator"
)

// publish makes the publisher bring a bucket's map to the nodes, some time soon.
func (e *environment) publish(bucket string) {
	e.system.Whereis(publisherName).Cast(publishMap{bucket})
}

// publishNow has a bucket's map brought to all nodes, and waits. A node that cannot be told now is told later.
func (e *environment) publishNow(ctx context.Context, bucket string, log *slog.Logger) {
	if _, err := within(ctx, publishLimit, func(ctx context.Context) (any, error) {
		return e.system.Whereis(publisherName).Call(ctx, publishMap{bucket})
	}); err != nil {
		log.Info("map_not_published", "err", err)
	}
}

// ensureMembers starts what is missing of the trees of a bucket's servers. One that cannot be started keeps no other from it.
func (e *environment) ensureMembers(ctx context.Context, bucket string, servers []string) error {
	failed := &NodesError{Doing: "starting"}
	for _, node := range servers {
		spec, err := e.member(bucket, node)
		if err == nil {
			err = e.startMember(ctx, spec)
		}
		if err != nil {
			failed.Failed = append(failed.Failed, &NodeError{Node: node, Err: err})
		}
	}
	if len(failed.Failed) == 0 {
		return nil
	}
	slices.SortFunc(failed.Failed, func(a, b *NodeError) int { return strings.Compare(a.Node, b.Node) })
	return failed
}

// startMember starts a member unless it runs. After the members' supervisor was lost, an agent of its time may not have
// come to its end yet; the new one waits for that.
func (e *environment) startMember(ctx context.Context, spec supervisor.ChildSpec) error {
	for {
		_, err := supervisor.StartChild(ctx, e.system.Whereis(membersName), spec)
		var running *supervisor.AlreadyStartedError
		if errors.As(err, &running) {
			return nil
		}
		if errors.Is(err, supervisor.ErrAlreadyPresent) {
			// Who ended it was ended in between.
			if err := supervisor.DeleteChild(ctx, e.system.Whereis(membersName), spec.ID); err != nil && !errors.Is(err, supervisor.ErrNotFound) {
				return err
			}
			continue
		}
		var orphan *actors.AlreadyStartedError
		if !errors.As(err, &orphan) {
			return err
		}
		select {
		case <-orphan.PID.Done():
		case <-ctx.Done():
			return err
		}
	}
}

// dropMember ends a bucket's tree on a node that does not hold it any more: its streams are closed first.
func (e *environment) dropMember(ctx context.Context, bucket, node string) error {
	if _, err := e.ask(ctx, e.config.Limits.Prepare, bucket, node, shutReplications{}); err != nil {
		e.log("agent", "bucket", bucket, "node", node).Info("agent_shut_failed", "err", err)
	}
	return e.endMember(ctx, bucket, node)
}

// endMember ends a bucket's tree on a node, if it is there. Its connections are closed, and nothing is said to the node.
func (e *environment) endMember(ctx context.Context, bucket, node string) error {
	defer e.carriers.leave(agentName(bucket, node))
	members := e.system.Whereis(membersName)
	id := memberID(bucket, node)
	if err := supervisor.TerminateChild(ctx, members, id); err != nil && !errors.Is(err, supervisor.ErrNotFound) {
		return &NodeError{Node: node, Err: err}
	}
	if err := supervisor.DeleteChild(ctx, members, id); err != nil && !errors.Is(err, supervisor.ErrNotFound) {
		return &NodeError{Node: node, Err: err}
	}
	return nil
}

func memberID(bucket, node string) string { return bucket + " on " + node }

// member describes the tree of one bucket on one node: the replications into it, and the agent that commands them. A new
// tree of replications knows nothing of what was prepared, so the agent starts anew with it.
func (e *environment) member(bucket, node string) (supervisor.ChildSpec, error) {
	if _, ok := e.nodes.get(node); !ok {
		return supervisor.ChildSpec{}, fmt.Errorf("%w %q", ErrUnknownNode, node)
	}
	child, handle, err := e.replicate(bucket, node)
	if err != nil {
		return supervisor.ChildSpec{}, err
	}
	return supervisor.Sub(memberID(bucket, node), supervisor.Spec{
		Name: memberID(bucket, node), Strategy: supervisor.RestForOne, Intensity: 3, Log: e.config.Log, Events: e.supervisorEvents,
		Children: []supervisor.ChildSpec{
			child,
			supervisor.Worker("agent", func() actors.Process { return newAgent(e, bucket, node, handle) },
				actors.WithName(agentName(bucket, node)), actors.WithKind("agent")),
		},
	}), nil
}

// tree is the whole supervision tree: first the members, then those who command them. If the former are lost, the latter
// start anew too, and read from the store which members there have to be.
func (e *environment) tree() supervisor.Spec {
	worker := func(id string, start func() actors.Process) supervisor.ChildSpec {
		return supervisor.Worker(id, start, actors.WithName(id), actors.WithKind(id))
	}
	return supervisor.Spec{
		Name: "cluster", Strategy: supervisor.RestForOne, Intensity: 3, Log: e.config.Log, Events: e.supervisorEvents,
		Children: []supervisor.ChildSpec{
			supervisor.Sub(membersName, supervisor.Spec{Name: membersName, Log: e.config.Log, Events: e.supervisorEvents},
				actors.WithName(membersName)),
			supervisor.Sub("control", supervisor.Spec{
				Name: "control", Intensity: 3, Log: e.config.Log, Events: e.supervisorEvents,
				Children: []supervisor.ChildSpec{
					worker(publisherName, func() actors.Process { return newPublisher(e) }),
					worker(janitorName, func() actors.Process { return newJanitorProcess(e) }),
					worker(orchestratorName, func() actors.Process { return newOrchestrator(e) }),
				},
			}),
		},
	}
}

// onNodes asks every node at the same time and waits for all. Nodes that failed are in a *NodesError.
func onNodes[T any](nodes []string, doing string, f func(node string) (T, error)) (map[string]T, error) {
	type outcome struct {
		node  string
		value T
		err   error
	}
	outcomes := make(chan outcome, len(nodes))
	for _, node := range nodes {
		go func() {
			value, err := f(node)
			outcomes <- outcome{node, value, err}
		}()
	}
	values := make(map[string]T, len(nodes))
	failed := &NodesError{Doing: doing}
	for range nodes {
		if o := <-outcomes; o.err != nil {
			failed.Failed = append(failed.Failed, &NodeError{Node: o.node, Err: o.err})
		} else {
			values[o.node] = o.value
		}
	}
	if len(failed.Failed) == 0 {
		return values, nil
	}
	slices.SortFunc(failed.Failed, func(a, b *NodeError) int { return strings.Compare(a.Node, b.Node) })
	return values, failed
}
