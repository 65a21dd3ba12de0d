package rebalance

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/shearpin/shearpin/dcp"
	"github.com/shearpin/shearpin/dcp/kv"
	"github.com/shearpin/shearpin/rebalance/schedule"
	"github.com/shearpin/shearpin/rebalance/store"
	"github.com/shearpin/shearpin/rebalance/vbmap"
)

// Node is one KV node.
type Node struct {
	// Name is its identity: in maps, topologies and connection names. It never changes.
	Name string `json:"name"`
	// Addr is host:port of its KV service.
	Addr string `json:"addr"`
	// Group is its server group; replicas go to other groups than their active where there are several.
	Group string `json:"group,omitempty"`
	// Weight is its share of the copies relative to the others, at most 1 048 576; 0 means 1.
	Weight int `json:"weight,omitempty"`
}

func (n Node) validate() error {
	if n.Name == "" {
		return errors.New("node without a name")
	}
	if n.Weight < 0 || n.Weight > vbmap.MaxWeight {
		return &NodeError{Node: n.Name, Err: fmt.Errorf("weight %d, must be 0 to %d", n.Weight, vbmap.MaxWeight)}
	}
	if _, _, err := net.SplitHostPort(n.Addr); err != nil {
		return &NodeError{Node: n.Name, Err: err}
	}
	return nil
}

// Config describes a cluster to [Open].
type Config struct {
	// Nodes are KV nodes to know from the start, besides those that the store knows from an earlier time; of a node that both
	// have, what is said here counts. At least one must be known in the end; [Cluster.AddNode] adds others.
	Nodes []Node
	// Credentials are those of the cluster manager's user on every node.
	Credentials kv.Credentials
	// TLS encrypts the connections to all nodes; nil is plain TCP, unless there is a TLSSource.
	TLS *tls.Config
	// TLSSource gives the configuration in place of TLS, asked anew for each connection, so that certificates can change
	// while the cluster is open. See [kv.Endpoint] and [kv.TLSFiles].
	TLSSource func() (*tls.Config, error)
	// Mechanisms are the SASL mechanisms that may be used, the preferred one first; see [kv.Endpoint]. Empty means all.
	Mechanisms []kv.Mechanism
	// AllowPlainAuth permits sending the password over a connection that is neither encrypted nor local.
	AllowPlainAuth bool
	// Dial makes all connections; nil is a net.Dialer.
	Dial func(ctx context.Context, network, addr string) (net.Conn, error)
	// Store holds maps and epochs. It stays the caller's to close. Nil means one in memory, which ends with the cluster.
	Store store.Store
	// Log gets one line per state change; nil discards them.
	Log *slog.Logger
	// Metrics gets the metrics of the replications and of the processes (docs/operations.md), as long as the cluster is open;
	// nil gets none. Clusters that share a registerer must be told apart, by prometheus.WrapRegistererWith.
	Metrics prometheus.Registerer
	// Limits bound how long things may take and how many may be under way.
	Limits Limits
	// Connections is the number of DCP connections per pair of nodes and bucket, 1 to 64; 0 means 1.
	Connections int
	// Verify is what is compared before a vbucket's switch, besides what the moves wait for anyway.
	Verify Verification
	// Throttle slows rebalances down; [Cluster.SetThrottle] changes it.
	Throttle Throttle
	// JanitorInterval is the time between two periodic runs of the janitor; 0 means 5 s.
	JanitorInterval time.Duration
	// Retry says whether rebalances that failed are started again by themselves.
	Retry RetryConfig
	// EventLog is how many events [Cluster.EventLog] keeps, up to 1 000 000; 0 means 20 000, which take some 10 MB.
	EventLog int
	// Seed makes the maps that are generated reproducible.
	Seed uint64
}

// encrypted reports whether connections to nodes are.
func (c *Config) encrypted() bool { return c.TLS != nil || c.TLSSource != nil }

// String names the nodes, the user, and whether connections are encrypted.
func (c Config) String() string {
	names := make([]string, len(c.Nodes))
	for i, n := range c.Nodes {
		names[i] = n.Name
	}
	transport := "tcp"
	if c.encrypted() {
		transport = "tls"
	}
	return fmt.Sprintf("cluster of %v (%s, %v)", names, transport, c.Credentials)
}

// Format is [Config.String], for every verb: the password would be found among the fields.
func (c Config) Format(f fmt.State, _ rune) { fmt.Fprint(f, c.String()) }

// LogValue is [Config.String], for log records.
func (c Config) LogValue() slog.Value { return slog.StringValue(c.String()) }

// Limits are the deadlines and bounds of a cluster. A zero field means its default.
type Limits struct {
	// Replication are the limits of the connections and their streams.
	Replication dcp.Limits
	// Move are the limits of the steps of a move.
	Move MoveLimits
	// Schedule bounds the moves that are under way at the same time.
	Schedule schedule.Limits
	// Grace is how long a new epoch waits for a node's answers to orders of older ones, before it closes the connections
	// on which they are outstanding. Default 5 s.
	Grace time.Duration
	// Prepare is for all agents to serve a new epoch. Default 30 s.
	Prepare time.Duration
	// Query is for one node to tell the states of its vbuckets. Default 10 s.
	Query time.Duration
	// Apply is for one node to carry out one of the janitor's two phases. Default 5 min.
	Apply time.Duration
	// Ready is for a node to create a bucket and serve it. Default 60 s.
	Ready time.Duration
	// Stop is how long a rebalance that was asked to stop may go on with moves whose switch has begun. Default 8 s.
	Stop time.Duration
	// Stuck is how long nothing may advance before a rebalance counts as stuck, which is told and ends nothing: that is for
	// the limits of the steps to do. Default 30 min.
	Stuck time.Duration
}

func (l Limits) withDefaults() Limits {
	set := func(d *time.Duration, v time.Duration) {
		if *d <= 0 {
			*d = v
		}
	}
	l.Move = l.Move.withDefaults()
	set(&l.Grace, 5*time.Second)
	set(&l.Prepare, 30*time.Second)
	set(&l.Query, 10*time.Second)
	set(&l.Apply, 5*time.Minute)
	set(&l.Ready, time.Minute)
	set(&l.Stop, 8*time.Second)
	set(&l.Stuck, 30*time.Minute)
	return l
}

// endpoint is how to reach a node.
func (c *Config) endpoint(node Node) kv.Endpoint {
	return kv.Endpoint{
		Node: node.Name, Addr: node.Addr, TLS: c.TLS, TLSSource: c.TLSSource, Credentials: c.Credentials,
		Mechanisms: c.Mechanisms, AllowPlainAuth: c.AllowPlainAuth, Dial: c.Dial, StepTimeout: c.Limits.Replication.Connect,
	}
}

// validate checks a configuration and fills in its defaults.
func (c Config) validate() (Config, error) {
	seen := map[string]bool{}
	for _, node := range c.Nodes {
		if err := node.validate(); err != nil {
			return c, fmt.Errorf("rebalance: Config.Nodes: %w", err)
		}
		endpoint := c.endpoint(node)
		if err := endpoint.Validate(); err != nil {
			return c, fmt.Errorf("rebalance: Config: %w", &NodeError{Node: node.Name, Err: err})
		}
		if seen[node.Name] {
			return c, fmt.Errorf("rebalance: Config.Nodes: %q is there twice", node.Name)
		}
		seen[node.Name] = true
	}
	if err := c.Verify.validate(); err != nil {
		return c, err
	}
	if err := c.Throttle.validate(); err != nil {
		return c, fmt.Errorf("rebalance: Config.%w", err)
	}
	if c.Connections < 0 || c.Connections > 64 {
		return c, fmt.Errorf("rebalance: Config.Connections is %d, must be 0 to 64", c.Connections)
	}
	if c.Connections == 0 {
		c.Connections = 1
	}
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	if c.EventLog < 0 || c.EventLog > maxEventLog {
		return c, fmt.Errorf("rebalance: Config.EventLog is %d, must be 0 to %d", c.EventLog, maxEventLog)
	}
	if c.EventLog == 0 {
		c.EventLog = defaultEventLog
	}
	if c.JanitorInterval <= 0 {
		c.JanitorInterval = 5 * time.Second
	}
	c.Limits = c.Limits.withDefaults()
	retry, err := c.Retry.validate()
	if err != nil {
		return c, err
	}
	c.Retry = retry
	return c, nil
}

// BucketConfig describes a bucket to [Cluster.CreateBucket].
type BucketConfig struct {
	Name string
	// VBuckets is fixed for the bucket's life, 1 to 65 536; 0 means 1024. Engines expect 1024 or 128.
	VBuckets int
	// Replicas is the number of copies besides the active, 0 to 3.
	Replicas int
	// QuotaBytes is the memory that each node may use for it; 0 means 256 MiB.
	QuotaBytes int64
	// Directory is where each node keeps its files, a path on that node; empty means "data". Embedded nodes ignore it.
	Directory string
}

const (
	maxVBuckets = 65536
	maxReplicas = 3
)

func (b BucketConfig) validate() (BucketConfig, error) {
	if b.VBuckets == 0 {
		b.VBuckets = 1024
	}
	if b.QuotaBytes == 0 {
		b.QuotaBytes = 256 << 20
	}
	if b.Directory == "" {
		b.Directory = "data"
	}
	switch {
	case b.Name == "":
		return b, errors.New("rebalance: BucketConfig.Name is empty")
	case b.VBuckets < 1 || b.VBuckets > maxVBuckets:
		return b, fmt.Errorf("rebalance: BucketConfig.VBuckets is %d, must be 1 to %d", b.VBuckets, maxVBuckets)
	case b.Replicas < 0 || b.Replicas > maxReplicas:
		return b, fmt.Errorf("rebalance: BucketConfig.Replicas is %d, must be 0 to %d", b.Replicas, maxReplicas)
	case b.QuotaBytes < 0:
		return b, fmt.Errorf("rebalance: BucketConfig.QuotaBytes is %d", b.QuotaBytes)
	}
	return b, nil
}
