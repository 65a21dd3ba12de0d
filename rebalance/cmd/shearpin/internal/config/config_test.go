package config_test

import (
	"bytes"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/shearpin/shearpin/dcp/kv"
	"github.com/shearpin/shearpin/rebalance"
	"github.com/shearpin/shearpin/rebalance/cmd/shearpin/internal/config"
)

const examples = "../../../../../docs/examples"

// small is a file that has what must be there, at lines 1 to 5.
const small = `nodes:
  - name: n0
    addr: 127.0.0.1:11210
store: s.db
control: {socket: c.sock}
`

func TestExampleForEmbeddedNodes(t *testing.T) {
	c, err := config.Load(filepath.Join(examples, "embedded.yaml"))
	require.NoError(t, err)
	cluster, err := c.Cluster(slog.New(slog.DiscardHandler))
	require.NoError(t, err)
	assert.Equal(t, []rebalance.Node{
		{Name: "n0", Addr: "127.0.0.1:11210"}, {Name: "n1", Addr: "127.0.0.1:11212"}, {Name: "n2", Addr: "127.0.0.1:11214"},
	}, cluster.Nodes)
	assert.Equal(t, []rebalance.BucketConfig{{Name: "orders", VBuckets: 128, Replicas: 1}}, c.BucketConfigs())
	assert.Equal(t, filepath.Join(examples, "shearpin.db"), c.Resolve(c.Store))
	assert.Equal(t, filepath.Join(examples, "shearpin.sock"), c.Resolve(c.Control.Socket))
	assert.Empty(t, cluster.Credentials)
	assert.Nil(t, cluster.TLSSource)
}

func TestExampleForCouchbaseNodes(t *testing.T) {
	c, err := config.Load(filepath.Join(examples, "couchbase.yaml"))
	require.NoError(t, err)
	assert.Len(t, c.Nodes, 4)
	assert.Equal(t, config.Node{Name: "kv3.example.com", Addr: "kv3.example.com:11207", Group: "rack-b"}, c.Nodes[2])
	assert.Equal(t, &config.TLS{CA: "tls/ca.pem", Certificate: "tls/manager.pem", Key: "tls/manager.key"}, c.TLS)
	assert.Equal(t, []rebalance.BucketConfig{{
		Name: "orders", VBuckets: 1024, Replicas: 1, QuotaBytes: 2 << 30, Directory: "/opt/couchbase/var/lib/couchbase/data/orders",
	}}, c.BucketConfigs())
	assert.Equal(t, "/var/lib/shearpin/store.db", c.Resolve(c.Store))

	_, err = c.Cluster(slog.New(slog.DiscardHandler))
	require.ErrorIs(t, err, os.ErrNotExist, "the password is read when it is needed")
	assert.ErrorContains(t, err, "couchbase.yaml: credentials: open "+filepath.Join(examples, "secrets/password"))
}

func TestEverythingReachesTheCluster(t *testing.T) {
	t.Setenv("SHEARPIN_TEST_LOGIN", "battery-staple")
	c, err := config.Parse("c.yaml", []byte(small+`
credentials: {user: admin, password_env: SHEARPIN_TEST_LOGIN}
mechanisms: [PLAIN]
allow_plain_auth: true
connections: 2
janitor_interval: 7s
seed: 9
verify: seqnos
retry: {enabled: true, after: 10s, max_attempts: 3}
throttle: {moves_per_node: 5, bytes_per_second: 3MiB}
limits:
  moves_per_node: 3
  backfills_per_node: 2
  grace: 1s
  prepare: 2s
  query: 3s
  apply: 4s
  ready: 5s
  stop: 6s
  stuck: 7s
  move: {backfill: 1m, persistence: 2m, takeover: 3m, state: 4m, stream: 5m}
  replication: {add: 11s, add_after_rollback: 12s, close: 13s, takeover: 14s, connect: 15s, join: 16s, stall: 17s, grace: 18s}
log: {level: warn, format: text}
`))
	require.NoError(t, err)
	got, err := c.Cluster(slog.New(slog.DiscardHandler))
	require.NoError(t, err)
	assert.Equal(t, "admin", got.Credentials.User)
	assert.Equal(t, "battery-staple", got.Credentials.Password)
	assert.Equal(t, []kv.Mechanism{kv.Plain}, got.Mechanisms)
	assert.True(t, got.AllowPlainAuth)
	assert.Equal(t, 2, got.Connections)
	assert.Equal(t, 7*time.Second, got.JanitorInterval)
	assert.Equal(t, uint64(9), got.Seed)
	assert.Equal(t, rebalance.VerifySeqnos, got.Verify)
	assert.Equal(t, rebalance.Throttle{MovesPerNode: 5, BytesPerSecond: 3 << 20}, got.Throttle)
	assert.Equal(t, rebalance.RetryConfig{Enabled: true, After: 10 * time.Second, MaxAttempts: 3}, got.Retry)
	assert.Equal(t, 3, got.Limits.Schedule.MovesPerNode)
	assert.Equal(t, 2, got.Limits.Schedule.BackfillsPerNode)
	for i, d := range []time.Duration{
		got.Limits.Grace, got.Limits.Prepare, got.Limits.Query, got.Limits.Apply, got.Limits.Ready, got.Limits.Stop, got.Limits.Stuck,
	} {
		assert.Equal(t, time.Duration(i+1)*time.Second, d)
	}
	m := got.Limits.Move
	for i, d := range []time.Duration{m.Backfill, m.Persistence, m.Takeover, m.State, m.Stream} {
		assert.Equal(t, time.Duration(i+1)*time.Minute, d)
	}
	r := got.Limits.Replication
	for i, d := range []time.Duration{r.Add, r.AddAfterRollback, r.Close, r.Takeover, r.Connect, r.Join, r.Stall, r.Grace} {
		assert.Equal(t, time.Duration(i+11)*time.Second, d)
	}
	assert.Equal(t, slog.LevelWarn, c.Log.Level.Slog())
}

func TestMistakesHaveLineColumnAndField(t *testing.T) {
	for _, c := range []struct{ name, text, want string }{
		{"unknown key", "nodes:\n  - name: a\n    host: x\n", "c.yaml:3:5: nodes[0].host: is an unknown key; there are name, addr, group, weight"},
		{"unknown key at the top", small + "bucket: []\n", "c.yaml:6:1: bucket: is an unknown key; there are nodes, "},
		{"duplicate key", "store: a\nstore: b\n", `c.yaml:2:1: is not YAML: mapping key "store" already defined at [1:1]`},
		{"duplicate node", strings.Replace(small, "store:", "  - {name: n0, addr: \"127.0.0.1:1\"}\nstore:", 1), `c.yaml:4:12: nodes[1].name: "n0" is the name of nodes[0] too`},
		{"duplicate address", strings.Replace(small, "store:", "  - {name: n1, addr: \"127.0.0.1:11210\"}\nstore:", 1), `c.yaml:4:22: nodes[1].addr: "127.0.0.1:11210" is the address of nodes[0] too`},
		{"address without a port", strings.Replace(small, ":11210", "", 1), `c.yaml:3:11: nodes[0].addr: "127.0.0.1" must be a host, a colon and a port`},
		{"address without a host", strings.Replace(small, "127.0.0.1:11210", "\":11210\"", 1), `c.yaml:3:11: nodes[0].addr: ":11210" must be a host, a colon and a port`},
		{"port by name", strings.Replace(small, ":11210", ":kv", 1), `c.yaml:3:11: nodes[0].addr: "127.0.0.1:kv": the port must be a number from 1 to 65535`},
		{"no address", strings.Replace(small, "    addr: 127.0.0.1:11210\n", "", 1), `c.yaml:2:5: nodes[0].addr: is missing`},
		{"no name", strings.Replace(small, "name: n0", "group: g", 1), `c.yaml:2:5: nodes[0].name: is missing`},
		{"number for a name", strings.Replace(small, "name: n0", "name: 7", 1), `c.yaml:2:11: nodes[0].name: must be text; a number or a word such as true is text when it is in quotes`},
		{"no nodes", "store: s\ncontrol: {socket: c}\n", `c.yaml:1:1: nodes: there must be at least one node`},
		{"nodes that are no list", "nodes: {name: a}\n", `c.yaml:1:9: nodes: must be a list`},
		{"node that is no mapping", "nodes: [a]\n", `c.yaml:1:9: nodes[0]: must have keys: name, addr, group, weight`},
		{"key without a value", "nodes:\nstore: s\n", `nodes: has no value`},
		{"no store", strings.Replace(small, "store: s.db\n", "", 1), `c.yaml:1:1: store: is missing: the file that holds maps and epochs`},
		{"bad duration", small + "janitor_interval: 5\n", `c.yaml:6:19: janitor_interval: must be a duration such as 500ms, 5s or 2m30s, and more than 0`},
		{"negative duration", small + "limits:\n  move:\n    backfill: -2m\n", `c.yaml:8:15: limits.move.backfill: must be a duration`},
		{"bad number", small + "connections: many\n", `c.yaml:6:14: connections: must be a whole number`},
		{"fraction", small + "connections: 1.5\n", `c.yaml:6:14: connections: must be a whole number`},
		{"number that is too large", small + "connections: 65\n", `c.yaml:6:14: connections: 65 must be 1 to 64`},
		{"negative seed", small + "seed: -1\n", `c.yaml:6:7: seed: must be a whole number from 0`},
		{"negative limit", small + "limits: {moves_per_node: -1}\n", `c.yaml:6:26: limits.moves_per_node: -1 must be 1 or more`},
		{"throttle that stops all", small + "throttle: {moves_per_node: 0}\n", `c.yaml:6:28: throttle.moves_per_node: 0 must be 1 or more`},
		{"word for a switch", small + "allow_plain_auth: yes\n", `c.yaml:6:19: allow_plain_auth: must be true or false`},
		{"unknown mechanism", small + "mechanisms: [PLAIN, SCRAM-SHA-512]\n", `c.yaml:6:21: mechanisms[1]: "SCRAM-SHA-512" is none of [SCRAM-SHA512`},
		{"mechanism twice", small + "mechanisms: [PLAIN, PLAIN]\n", `c.yaml:6:21: mechanisms[1]: "PLAIN" is there twice`},
		{"bad size", small + "buckets: [{name: b, quota: 1GB}]\n", `c.yaml:6:28: buckets[0].quota: must be a number of bytes such as`},
		{"size that overflows", small + "buckets: [{name: b, quota: 9999999999GiB}]\n", `buckets[0].quota: must be a number of bytes such as`},
		{"too many vbuckets", small + "buckets: [{name: b, vbuckets: 65537}]\n", `c.yaml:6:31: buckets[0].vbuckets: 65537 must be 1 to 65536`},
		{"no vbuckets", small + "buckets: [{name: b, vbuckets: 0}]\n", `buckets[0].vbuckets: 0 must be 1 to 65536`},
		{"too many replicas", small + "buckets: [{name: b, replicas: 4}]\n", `buckets[0].replicas: 4 must be 0 to 3`},
		{"bucket twice", small + "buckets: [{name: b}, {name: b}]\n", `c.yaml:6:29: buckets[1].name: "b" is the name of buckets[0] too`},
		{"bucket without a name", small + "buckets: [{replicas: 1}]\n", `buckets[0].name: is missing`},
		{"certificate without a key", small + "tls: {certificate: c.pem}\n", `c.yaml:6:7: tls: certificate and key: both or neither`},
		{"no user", small + "credentials: {password_env: X}\n", `credentials.user: is missing`},
		{"no password", small + "credentials: {user: u}\n", `c.yaml:6:15: credentials: one of password_file, password_env and password must be there, not 0 of them`},
		{"two passwords", small + "credentials: {user: u, password_env: X, password_file: f}\n", `not 2 of them`},
		{"no control", strings.Replace(small, "control: {socket: c.sock}\n", "", 1), `control: is missing: a socket, or an address to listen on`},
		{"token without an address", strings.Replace(small, "c.sock", "c.sock, token_file: f", 1), `c.yaml:5:39: control.token_file: is of use with listen only`},
		{"address without a token", strings.Replace(small, "socket: c.sock", "listen: \"127.0.0.1:1\"", 1), `control.token_file: is missing: whoever reaches the address could command the manager`},
		{"address that others reach", strings.Replace(small, "socket: c.sock", "listen: \"0.0.0.0:1\", token_file: f", 1), `c.yaml:5:19: control.listen: "0.0.0.0:1": other machines may reach it; anywhere: true allows that`},
		{"control address without a port", strings.Replace(small, "socket: c.sock", "listen: localhost, token_file: f", 1), `control.listen: "localhost" must be a host, a colon and a port`},
		{"weight that is no weight", strings.Replace(small, "name: n0", "weight: 0\n    name: n0", 1), `c.yaml:2:13: nodes[0].weight: 0 must be 1 to 1048576`},
		{"retry too soon", small + "retry: {after: 1s}\n", `c.yaml:6:16: retry.after: 1s must be 5s to 1h`},
		{"no retries", small + "retry: {max_attempts: 0}\n", `c.yaml:6:23: retry.max_attempts: 0 must be 1 to 3`},
		{"unknown verification", small + "verify: all\n", `c.yaml:6:9: verify: "all" must be seqnos or data`},
		{"log level", small + "log: {level: loud}\n", `c.yaml:6:14: log.level: must be debug, info, warn or error`},
		{"log format", small + "log: {format: xml}\n", `c.yaml:6:15: log.format: "xml" must be text or json`},
		{"alias", small + "mechanisms: &m [PLAIN]\n", `mechanisms: anchors, aliases and tags are not used here`},
		{"second document", small + "---\nstore: t\n", `c.yaml:7:1: must be one document, this is the second`},
		{"empty", "# nothing\n", `c.yaml: is empty`},
		{"no mapping", "- a\n", `c.yaml:1:1: must have keys: nodes, `},
		{"no YAML", "nodes: [\n", `c.yaml:1:8: is not YAML: sequence end token ']' not found`},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, err := config.Parse("c.yaml", []byte(c.text))
			require.Error(t, err)
			assert.Contains(t, err.Error(), c.want)
			var all config.Errors
			require.ErrorAs(t, err, &all)
		})
	}
}

func TestAllMistakesAreSaidAtOnceInTheirOrder(t *testing.T) {
	_, err := config.Parse("c.yaml", []byte("stor: x\nnodes:\n  - name: 1\n    addr: [2]\nseed: x\n"))
	var all config.Errors
	require.ErrorAs(t, err, &all)
	var fields []string
	for _, one := range all {
		fields = append(fields, fmt.Sprintf("%d %s", one.Line, one.Field))
	}
	assert.Equal(t, []string{"1 stor", "3 nodes[0].name", "4 nodes[0].addr", "5 seed"}, fields)
	var first *config.Error
	require.ErrorAs(t, err, &first)
	assert.Equal(t, "stor", first.Field)
}

func TestAddressThatOthersReachIsAllowedOnRequest(t *testing.T) {
	_, err := config.Parse("c.yaml", []byte(strings.Replace(small, "socket: c.sock", "listen: \"0.0.0.0:1\", token_file: f, anywhere: true", 1)))
	require.NoError(t, err)
}

func TestSizes(t *testing.T) {
	for text, want := range map[string]int64{"1": 1, "1048576": 1 << 20, "3KiB": 3 << 10, "256 MiB": 256 << 20, "2GiB": 2 << 30, "1TiB": 1 << 40} {
		c, err := config.Parse("c.yaml", []byte(small+"buckets: [{name: b, quota: "+text+"}]\n"))
		if assert.NoError(t, err, text) {
			assert.Equal(t, want, c.BucketConfigs()[0].QuotaBytes, text)
		}
	}
}

// The password of the file is in no error and in no dump, whatever is wrong beside it.
func TestPasswordIsNeverShown(t *testing.T) {
	const password = "battery-staple"
	for _, text := range []string{
		small + "credentials: {user: u, password: " + password + ", password_env: X}\n",
		small + "credentials: {user: u, password: [" + password + "]}\n",
		small + "credentials: {user: u, password: {x: " + password + "}}\n",
		small + "credentials: {user: u, password: &" + password + " x}\n",
		small + "credentials: {user: u, password: *" + password + "}\n",
		small + "credentials:\n  user: u\n  password: \"" + password + "\n",
		small + "credentials:\n  user: u\n  password: '" + password + "\n",
		small + "credentials:\n  user: u\n  password: " + password + ": x\n",
		small + "credentials:\n  user: u\n  password: " + password + "\n  - x\n",
		small + "credentials:\n  user: u\n  password: @" + password + "\n",
		small + "credentials:\n  user: u\n  password: " + password + "\n\tx: y\n",
	} {
		_, err := config.Parse("c.yaml", []byte(text))
		require.Error(t, err, text)
		assert.NotContains(t, err.Error(), password)
	}
	c, err := config.Parse("c.yaml", []byte(small+"credentials: {user: u, password: "+password+"}\n"))
	require.NoError(t, err)
	var log bytes.Buffer
	got, err := c.Cluster(slog.New(slog.NewTextHandler(&log, nil)))
	require.NoError(t, err)
	assert.Equal(t, password, got.Credentials.Password)
	assert.Contains(t, log.String(), "password_in_file")
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%d"} {
		assert.NotContains(t, fmt.Sprintf(verb, c), password)
		assert.NotContains(t, fmt.Sprintf(verb, *c.Credentials), password)
		assert.NotContains(t, fmt.Sprintf(verb, got), password)
	}
	assert.NotContains(t, log.String(), password)
}

func TestPasswordOfAFile(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "c.yaml")
	load := func(t *testing.T, password string) (kv.Credentials, error) {
		t.Helper()
		require.NoError(t, os.WriteFile(filepath.Join(dir, "password"), []byte(password), 0o600))
		c, err := config.Parse(path, []byte(small+"credentials: {user: u, password_file: password}\n"))
		require.NoError(t, err)
		got, err := c.Cluster(slog.New(slog.DiscardHandler))
		return got.Credentials, err
	}
	login, err := load(t, "battery staple\n")
	require.NoError(t, err)
	assert.Equal(t, "battery staple", login.Password)

	for password, want := range map[string]string{
		"":                        "is empty",
		"\n":                      "is empty",
		"battery\nstaple\n":       "has more than one line",
		strings.Repeat("b", 5000): "has more than 4096 bytes",
	} {
		_, err := load(t, password)
		require.ErrorContains(t, err, want)
		assert.NotContains(t, err.Error(), "battery")
		assert.NotContains(t, err.Error(), "bbb")
	}
}

func TestPasswordOfAnEmptyVariable(t *testing.T) {
	c, err := config.Parse("c.yaml", []byte(small+"credentials: {user: u, password_env: SHEARPIN_TEST_NOTHING}\n"))
	require.NoError(t, err)
	_, err = c.Cluster(slog.New(slog.DiscardHandler))
	assert.EqualError(t, err, "c.yaml: credentials: the environment variable is empty")
}

func TestToken(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "token")
	c, err := config.Parse(filepath.Join(dir, "c.yaml"), []byte(strings.Replace(small, "socket: c.sock", "listen: \"127.0.0.1:1\", token_file: token", 1)))
	require.NoError(t, err)

	_, err = c.Token()
	require.ErrorIs(t, err, os.ErrNotExist)
	require.NoError(t, os.WriteFile(file, []byte("0123456789abcde\n"), 0o600))
	_, err = c.Token()
	require.ErrorContains(t, err, "has less than 16 characters")
	assert.NotContains(t, err.Error(), "0123")
	require.NoError(t, os.WriteFile(file, []byte("0123456789abcdef\n"), 0o600))
	token, err := c.Token()
	require.NoError(t, err)
	assert.Equal(t, "0123456789abcdef", token)
	require.NoError(t, os.Chmod(file, 0o644))
	_, err = c.Token()
	assert.ErrorContains(t, err, "everybody may read it (mode 0644); chmod 600")
}

func TestFileThatCannotBeRead(t *testing.T) {
	_, err := config.Load(filepath.Join(t.TempDir(), "none.yaml"))
	require.ErrorIs(t, err, os.ErrNotExist)

	long := filepath.Join(t.TempDir(), "long.yaml")
	require.NoError(t, os.WriteFile(long, bytes.Repeat([]byte("#"), 1<<20+1), 0o600))
	_, err = config.Load(long)
	assert.ErrorContains(t, err, "has more than 1048576 bytes")
}

// The table of the configuration in docs/operations.md has every key, and no other.
func TestOperationsListsTheKeys(t *testing.T) {
	page, err := os.ReadFile("../../../../../docs/operations.md")
	require.NoError(t, err)
	_, section, found := strings.Cut(string(page), "### The configuration")
	require.True(t, found)
	section, _, _ = strings.Cut(section, "\n### ")
	var documented []string
	for line := range strings.Lines(section) {
		cells := strings.Split(line, "|")
		if len(cells) < 3 || !strings.HasPrefix(cells[1], " `") {
			continue
		}
		for name := range strings.SplitSeq(cells[1], ",") {
			documented = append(documented, strings.Trim(name, " `"))
		}
	}
	assert.ElementsMatch(t, config.Fields(), documented)
}
