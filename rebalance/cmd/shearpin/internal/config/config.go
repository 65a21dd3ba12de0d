// Package config reads the file that describes a cluster to its manager.
//
// A file is refused as a whole, and every mistake in it is said with file, line, column and field: a key that nobody knows, a
// node that is there twice, an address without a port, a number where text belongs. Nothing is converted in silence.
package config

import (
	"log/slog"
	"path/filepath"
	"time"
)

// Config is a file that was read. Paths in it are as written; [Config.Resolve] makes them relative to the file.
type Config struct {
	// Path is the file's own.
	Path string `yaml:"-"`

	Nodes       []Node       `yaml:"nodes"`
	Credentials *Credentials `yaml:"credentials"`
	TLS         *TLS         `yaml:"tls"`
	// Mechanisms are the SASL mechanisms that may be used, the preferred one first; empty means all.
	Mechanisms     []string `yaml:"mechanisms"`
	AllowPlainAuth bool     `yaml:"allow_plain_auth"`

	// Store is the file that holds maps, epochs and reports. One manager has it open at a time.
	Store string `yaml:"store"`
	// Buckets are created if they are not there.
	Buckets         []Bucket `yaml:"buckets"`
	Connections     int      `yaml:"connections"`
	JanitorInterval Duration `yaml:"janitor_interval"`
	Seed            uint64   `yaml:"seed"`
	// Verify is what is compared before a vbucket's switch; empty is nothing.
	Verify   string   `yaml:"verify"`
	Retry    Retry    `yaml:"retry"`
	Throttle Throttle `yaml:"throttle"`
	Limits   Limits   `yaml:"limits"`

	Control Control `yaml:"control"`
	Log     Log     `yaml:"log"`
}

// Node is one KV node.
type Node struct {
	Name   string `yaml:"name"`
	Addr   string `yaml:"addr"`
	Group  string `yaml:"group"`
	Weight int    `yaml:"weight"`
}

// TLS names the files for connections to nodes, all PEM.
type TLS struct {
	CA          string `yaml:"ca"`
	Certificate string `yaml:"certificate"`
	Key         string `yaml:"key"`
	ServerName  string `yaml:"server_name"`
}

// Bucket is a bucket that shall be there.
type Bucket struct {
	Name      string `yaml:"name"`
	VBuckets  int    `yaml:"vbuckets"`
	Replicas  int    `yaml:"replicas"`
	Quota     Bytes  `yaml:"quota"`
	Directory string `yaml:"directory"`
}

// Retry says whether rebalances that failed are started again by themselves.
type Retry struct {
	Enabled     bool     `yaml:"enabled"`
	After       Duration `yaml:"after"`
	MaxAttempts int      `yaml:"max_attempts"`
}

// Throttle slows rebalances down.
type Throttle struct {
	MovesPerNode   int   `yaml:"moves_per_node"`
	BytesPerSecond Bytes `yaml:"bytes_per_second"`
}

// Limits are the limits of rebalance.Limits that somebody may want to change.
type Limits struct {
	MovesPerNode     int               `yaml:"moves_per_node"`
	BackfillsPerNode int               `yaml:"backfills_per_node"`
	Grace            Duration          `yaml:"grace"`
	Prepare          Duration          `yaml:"prepare"`
	Query            Duration          `yaml:"query"`
	Apply            Duration          `yaml:"apply"`
	Ready            Duration          `yaml:"ready"`
	Stop             Duration          `yaml:"stop"`
	Stuck            Duration          `yaml:"stuck"`
	Move             MoveLimits        `yaml:"move"`
	Replication      ReplicationLimits `yaml:"replication"`
}

// MoveLimits are for the steps of a move without progress.
type MoveLimits struct {
	Backfill    Duration `yaml:"backfill"`
	Persistence Duration `yaml:"persistence"`
	Takeover    Duration `yaml:"takeover"`
	State       Duration `yaml:"state"`
	Stream      Duration `yaml:"stream"`
}

// ReplicationLimits are for the steps of a replication without progress.
type ReplicationLimits struct {
	Add              Duration `yaml:"add"`
	AddAfterRollback Duration `yaml:"add_after_rollback"`
	Close            Duration `yaml:"close"`
	Takeover         Duration `yaml:"takeover"`
	Connect          Duration `yaml:"connect"`
	Join             Duration `yaml:"join"`
	Stall            Duration `yaml:"stall"`
	Grace            Duration `yaml:"grace"`
}

// Control is where the manager is commanded: on a unix socket, over TCP, or both.
type Control struct {
	// Socket is the path of a unix socket that only its owner may use.
	Socket string `yaml:"socket"`
	// Listen is a host and a port. TokenFile holds what a caller has to show there.
	Listen    string `yaml:"listen"`
	TokenFile string `yaml:"token_file"`
	// Anywhere lets Listen be an address that other machines reach.
	Anywhere bool `yaml:"anywhere"`
}

// Log is what the manager says on standard error.
type Log struct {
	Level  Level  `yaml:"level"`
	Format string `yaml:"format"`
}

// The formats of a log. Without one it is text on a terminal and JSON elsewhere.
const (
	FormatText = "text"
	FormatJSON = "json"
)

// Resolve is a path of the file, which is relative to the folder that the file is in. Empty stays empty.
func (c *Config) Resolve(path string) string {
	if path == "" || filepath.IsAbs(path) {
		return path
	}
	return filepath.Join(filepath.Dir(c.Path), path)
}

// Slog is the level as the log wants it.
func (l Level) Slog() slog.Level { return slog.Level(l) }

// Of is the duration.
func (d Duration) Of() time.Duration { return time.Duration(d) }
