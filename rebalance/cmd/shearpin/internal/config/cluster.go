package config

import (
	"fmt"
	"log/slog"

	"github.com/shearpin/shearpin/dcp"
	"github.com/shearpin/shearpin/dcp/kv"
	"github.com/shearpin/shearpin/rebalance"
	"github.com/shearpin/shearpin/rebalance/schedule"
)

// Cluster is the file as rebalance.Open wants it, without a store. It reads the password and the certificates; log gets a line
// when other certificates come into force, and a warning if the password is in the file.
func (c *Config) Cluster(log *slog.Logger) (rebalance.Config, error) {
	out := rebalance.Config{
		AllowPlainAuth: c.AllowPlainAuth, Connections: c.Connections, JanitorInterval: c.JanitorInterval.Of(),
		Seed: c.Seed, Verify: rebalance.Verification(c.Verify), Limits: c.limits(), Log: log,
		Throttle: rebalance.Throttle{MovesPerNode: c.Throttle.MovesPerNode, BytesPerSecond: int64(c.Throttle.BytesPerSecond)},
		Retry:    rebalance.RetryConfig{Enabled: c.Retry.Enabled, After: c.Retry.After.Of(), MaxAttempts: c.Retry.MaxAttempts},
	}
	for _, n := range c.Nodes {
		out.Nodes = append(out.Nodes, rebalance.Node{Name: n.Name, Addr: n.Addr, Group: n.Group, Weight: n.Weight})
	}
	for _, m := range c.Mechanisms {
		out.Mechanisms = append(out.Mechanisms, kv.Mechanism(m))
	}
	login, err := c.login()
	if err != nil {
		return out, fmt.Errorf("%s: credentials: %w", c.Path, err)
	}
	out.Credentials = login
	if c.Credentials != nil && c.Credentials.Password != "" {
		log.Warn("password_in_file", "file", c.Path, "instead", "credentials.password_file or credentials.password_env")
	}
	if c.TLS != nil {
		files, err := kv.NewTLSFiles(kv.TLSPaths{
			CA: c.Resolve(c.TLS.CA), Certificate: c.Resolve(c.TLS.Certificate), Key: c.Resolve(c.TLS.Key), ServerName: c.TLS.ServerName,
		}, log)
		if err != nil {
			return out, fmt.Errorf("%s: tls: %w", c.Path, err)
		}
		out.TLSSource = files.Config
	}
	return out, nil
}

func (c *Config) limits() rebalance.Limits {
	l, r, m := c.Limits, c.Limits.Replication, c.Limits.Move
	return rebalance.Limits{
		Grace: l.Grace.Of(), Prepare: l.Prepare.Of(), Query: l.Query.Of(), Apply: l.Apply.Of(), Ready: l.Ready.Of(), Stop: l.Stop.Of(), Stuck: l.Stuck.Of(),
		Schedule: schedule.Limits{MovesPerNode: l.MovesPerNode, BackfillsPerNode: l.BackfillsPerNode},
		Move: rebalance.MoveLimits{
			Backfill: m.Backfill.Of(), Persistence: m.Persistence.Of(), Takeover: m.Takeover.Of(), State: m.State.Of(), Stream: m.Stream.Of(),
		},
		Replication: dcp.Limits{
			Add: r.Add.Of(), AddAfterRollback: r.AddAfterRollback.Of(), Close: r.Close.Of(), Takeover: r.Takeover.Of(),
			Connect: r.Connect.Of(), Join: r.Join.Of(), Stall: r.Stall.Of(), Grace: r.Grace.Of(),
		},
	}
}

// BucketConfigs are the buckets that shall be there.
func (c *Config) BucketConfigs() []rebalance.BucketConfig {
	buckets := make([]rebalance.BucketConfig, len(c.Buckets))
	for i, b := range c.Buckets {
		buckets[i] = rebalance.BucketConfig{
			Name: b.Name, VBuckets: b.VBuckets, Replicas: b.Replicas, QuotaBytes: int64(b.Quota), Directory: b.Directory,
		}
	}
	return buckets
}
