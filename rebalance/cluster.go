package rebalance

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/shearpin/shearpin/actors"
	"github.com/shearpin/shearpin/dcp"
	"github.com/shearpin/shearpin/rebalance/store"
	"github.com/shearpin/shearpin/rebalance/vbmap"
	"github.com/shearpin/shearpin/supervisor"
	"github.com/shearpin/shearpin/supervisor/metrics"
)

// Cluster is a set of KV nodes under management: their replications run, and their vbuckets can be moved, for as long as
// it is open. Several clusters can be open in one process. All methods may be called from any goroutine.
type Cluster struct {
	env  *environment
	root *actors.PID
	// own is the store if it is ours to close.
	own store.Store
	// processes is on the registerer of the configuration, if there is one.
	processes *metrics.Collector
}

// Open starts the management of a cluster. Buckets that the store knows are taken up again: their replications are
// started and the janitor repairs what is not as their maps want it. Open does not wait for that, nor for any node.
func Open(ctx context.Context, config Config) (*Cluster, error) {
	config, err := config.validate()
	if err != nil {
		return nil, err
	}
	cluster := &Cluster{}
	if config.Store == nil {
		cluster.own = store.NewMemory()
		config.Store = cluster.own
	}
	buckets, err := store.NewBuckets(ctx, config.Store)
	if err != nil {
		return nil, errors.Join(err, cluster.closeStore())
	}
	return cluster.start(ctx, newEnvironment(config, buckets))
}

func (c *Cluster) start(ctx context.Context, env *environment) (*Cluster, error) {
	c.env = env
	err := env.loadMembers(ctx)
	if err == nil {
		err = env.observe(ctx)
	}
	if err == nil {
		err = c.measure(ctx)
	}
	if err != nil {
		return nil, errors.Join(err, env.system.Close(ctx), c.closeStore())
	}
	root, err := env.system.Start(ctx, supervisor.New(env.tree()), actors.WithKind("supervisor"))
	if err != nil {
		c.unmeasure()
		return nil, errors.Join(err, env.system.Close(ctx), c.closeStore())
	}
	c.root = root
	return c, nil
}

// measure shows the metrics of the processes.
func (c *Cluster) measure(ctx context.Context) error {
	registerer := c.env.config.Metrics
	if registerer == nil {
		return nil
	}
	collector, err := metrics.New(ctx, c.env.system, c.env.supervisorEvents)
	if err != nil {
		return err
	}
	if err := registerer.Register(collector); err != nil {
		return fmt.Errorf("rebalance: Config.Metrics: %w", err)
	}
	if err := registerer.Register(c.env.meter); err != nil {
		registerer.Unregister(collector)
		return fmt.Errorf("rebalance: Config.Metrics: %w", err)
	}
	c.processes = collector
	return nil
}

func (c *Cluster) unmeasure() {
	if c.processes != nil {
		c.env.config.Metrics.Unregister(c.processes)
		c.env.config.Metrics.Unregister(c.env.meter)
	}
}

func (c *Cluster) closeStore() error {
	if c.own == nil {
		return nil
	}
	return c.own.Close()
}

// Close ends the management: a rebalance that runs is broken off, all connections are closed, and with them the
// replications. It returns when every process and goroutine has ended, or with ctx. The nodes are left as they are; the
// next Open on the same store takes them up again.
func (c *Cluster) Close(ctx context.Context) error {
	err := c.root.Stop(ctx, actors.Shutdown)
	if errors.Is(err, actors.NoProcess) {
		err = nil
	}
	c.unmeasure()
	err = errors.Join(err, c.env.system.Close(ctx))
	c.env.recorder.saving.Wait() // bounded by recordLimit
	return errors.Join(err, c.closeStore())
}

// orchestrator is the process that answers. It has another pid after a restart.
func (c *Cluster) orchestrator() *actors.PID { return c.env.system.Whereis(orchestratorName) }

// closedError says so if a call failed because the cluster is closed.
func (c *Cluster) closedError(err error) error {
	if err != nil && !c.root.Alive() {
		return fmt.Errorf("%w: %w", ErrClosed, err)
	}
	return err
}

// CreateBucket creates a bucket on all active members, gives it a balanced map, and returns when its copies exist, its
// replication runs, and the nodes hand out its map to clients. It fails with [ErrRebalanceRunning], or another of the errors
// of a busy cluster, while something else goes on, with a *[NotActiveError] if a member was failed over meanwhile, and with an
// error that wraps store.ErrConflict if the bucket exists.
func (c *Cluster) CreateBucket(ctx context.Context, config BucketConfig) error {
	config, err := config.validate()
	if err != nil {
		return err
	}
	err = c.env.createBucket(ctx, config)
	if err == nil {
		c.env.events.Publish(BucketCreated{Bucket: config.Name, At: time.Now()})
	}
	return c.closedError(err)
}

// Rebalance starts to spread the buckets evenly over the nodes of the request, and returns at once. It fails with
// [ErrRebalanceRunning] if there is one already, with a *[PlanChangedError] if the request has a plan that does not fit any
// more, with a *[NotActiveError] if it names a member that was failed over, and with an error that wraps store.ErrNotFound if
// it names a bucket that does not exist.
func (c *Cluster) Rebalance(ctx context.Context, request Request) (*Run, error) {
	if err := request.validate(); err != nil {
		return nil, err
	}
	if request.Plan != nil {
		if err := c.env.checkPlan(ctx, request.Plan); err != nil {
			return nil, c.closedError(err)
		}
	}
	if _, err := c.env.nodes.keepers(request.Keep); err != nil {
		return nil, err
	}
	if len(request.Buckets) > 0 {
		if _, err := c.env.chooseBuckets(ctx, request.Buckets); err != nil {
			return nil, c.closedError(err)
		}
	}
	return c.run(ctx, request)
}

func (c *Cluster) run(ctx context.Context, request Request) (*Run, error) {
	run := newRun(c.orchestrator())
	if _, err := run.orchestrator.Call(ctx, startCall{run: run, request: request}); err != nil {
		return nil, c.closedError(err)
	}
	return run, nil
}

// Janitor has the janitor look after all buckets now, and returns its report when it has. It fails with
// [ErrRebalanceRunning] while a rebalance runs.
func (c *Cluster) Janitor(ctx context.Context) (JanitorReport, error) {
	report, err := actors.Call[JanitorReport](ctx, c.orchestrator(), janitorCall{reason: reasonDemand})
	return report, c.closedError(err)
}

// JanitorRuns is how many runs of the janitor have ended, whoever wanted them.
func (c *Cluster) JanitorRuns() int { return int(c.env.janitorRuns.Load()) }

// State is what the orchestrator is doing.
func (c *Cluster) State(ctx context.Context) (State, error) {
	state, err := actors.Call[State](ctx, c.orchestrator(), stateCall{})
	return state, c.closedError(err)
}

// Map is a bucket's map as it is in force.
func (c *Cluster) Map(ctx context.Context, bucket string) (vbmap.Map, error) {
	doc, err := c.env.buckets.Get(ctx, bucket)
	return doc.Map, err
}

// Nodes are the known nodes, whatever their membership, in the order in which they were added.
func (c *Cluster) Nodes() []Node { return c.env.nodes.all() }

// Events is where the news of the cluster is published.
func (c *Cluster) Events() *actors.Bus[Event] { return c.env.events }

// ReplicationEvents is where the news of all replications is published.
func (c *Cluster) ReplicationEvents() *actors.Bus[dcp.Event] { return c.env.replicationEvents }

// SupervisorEvents is where the starts, exits and restarts of all supervised processes are published.
func (c *Cluster) SupervisorEvents() *actors.Bus[supervisor.Event] { return c.env.supervisorEvents }

// Tree is the whole supervision tree as it is now.
func (c *Cluster) Tree(ctx context.Context) (supervisor.Node, error) {
	return supervisor.Tree(ctx, c.root)
}

// createBucket makes a bucket from nothing. The bucket exists once its document is stored: what is missing then is the
// janitor's, what was done before is done again by another call.
func (e *environment) createBucket(ctx context.Context, config BucketConfig) error {
	if err := e.idle(ctx); err != nil {
		return err
	}
	if _, err := e.buckets.Get(ctx, config.Name); !errors.Is(err, store.ErrNotFound) {
		return cmp.Or(err, fmt.Errorf("bucket %q exists: %w", config.Name, store.ErrConflict))
	}
	nodes := e.nodes.active()
	names := namesOf(nodes)
	if err := e.createBucketOnAll(ctx, names, config); err != nil {
		return err
	}
	first, err := vbmap.Generate(vbmap.Params{
		VBuckets: config.VBuckets, Replicas: config.Replicas, Nodes: places(nodes), Seed: e.config.Seed,
	})
	if err != nil {
		return err
	}
	if err := e.saveBucketConfig(ctx, config); err != nil {
		return err
	}
	if err := e.idle(ctx); err != nil { // the nodes took their time
		return err
	}
	if _, err := e.nodes.keepers(names); err != nil {
		return err
	}
	doc, err := e.buckets.Create(ctx, store.BucketDoc{
		Name: config.Name, UUID: newUUID(), VBuckets: config.VBuckets, Replicas: config.Replicas, Servers: names, Map: first,
	})
	if err != nil {
		return err
	}
	e.keepMap(ctx, doc, first, nodes)
	if err := e.ensureMembers(ctx, config.Name, names); err != nil {
		return err
	}
	report, err := actors.Call[JanitorReport](ctx, e.system.Whereis(orchestratorName), janitorCall{reason: reasonCreated})
	if err != nil {
		return err
	}
	if err := report.Problem(); err != nil {
		return err
	}
	_, err = e.system.Whereis(publisherName).Call(ctx, publishMap{config.Name})
	return err
}

// idle refuses what must not meet a rebalance, a failover or a change of members.
func (e *environment) idle(ctx context.Context) error {
	_, err := e.system.Whereis(orchestratorName).Call(ctx, idleCall{})
	return err
}

// configKey is where a bucket's configuration is kept: what another node needs to create it too.
func configKey(bucket string) string { return "bucket-config/" + bucket }

// saveBucketConfig replaces what an attempt to create the bucket may have left.
func (e *environment) saveBucketConfig(ctx context.Context, config BucketConfig) error {
	value, err := json.Marshal(config)
	if err != nil {
		return err
	}
	_, revision, err := e.config.Store.Get(ctx, configKey(config.Name))
	if err != nil && !errors.Is(err, store.ErrNotFound) {
		return err
	}
	_, err = e.config.Store.CompareAndSet(ctx, configKey(config.Name), value, revision)
	return err
}

func (e *environment) bucketConfig(ctx context.Context, bucket string) (config BucketConfig, err error) {
	value, _, err := e.config.Store.Get(ctx, configKey(bucket))
	if err != nil {
		return config, err
	}
	return config, json.Unmarshal(value, &config)
}
