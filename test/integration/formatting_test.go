package integration

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/shearpin/shearpin/actors"
	"github.com/shearpin/shearpin/dcp"
	"github.com/shearpin/shearpin/dcp/kv"
	"github.com/shearpin/shearpin/dcp/kvnode"
	"github.com/shearpin/shearpin/dcp/kvnode/fault"
	"github.com/shearpin/shearpin/rebalance"
)

// Verbs that fit a pointer show it; any other makes fmt follow it, and those in what it points at, and read what processes may still
// be writing that are ending.
var (
	fitting   = []string{"%v", "%+v", "%#v"}
	everyVerb = []string{"%v", "%+v", "%#v", "%s", "%q", "%d", "%x", "%X", "%t", "%f", "%c", "%U"}
)

// told is everything that package fmt, the handlers of slog and an encoder make of a value, wherever somebody puts it.
func told(value any, verbs []string) string {
	var out bytes.Buffer
	debug := &slog.HandlerOptions{Level: slog.LevelDebug}
	log := slog.New(slog.NewMultiHandler(slog.NewTextHandler(&out, debug), slog.NewJSONHandler(&out, debug)))
	for _, v := range []any{value, &value, []any{value}, map[string]any{"v": value}, struct{ Held any }{value}} {
		for _, verb := range verbs {
			fmt.Fprintf(&out, verb+"\n", v)
		}
		encoded, err := json.Marshal(v)
		fmt.Fprintf(&out, "%s %v\n", encoded, err)
		err = fmt.Errorf("no use for %+v", v)
		log.Info("said", "value", v, "err", err, slog.Group("group", "value", v))
		log.With("value", v).Error("said", "err", errors.Join(err, fmt.Errorf("as was said: %w", err)))
	}
	return out.String()
}

// requireDiscreet fails if a value, however it is shown, shows the secret, however that is written.
func requireDiscreet(t *testing.T, secret string, value any) {
	t.Helper()
	requireDiscreetIn(t, secret, value, everyVerb)
}

func requireDiscreetIn(t *testing.T, secret string, value any, verbs []string) {
	t.Helper()
	text := told(value, verbs)
	for _, form := range []string{
		secret, hex.EncodeToString([]byte(secret)), strings.ToUpper(hex.EncodeToString([]byte(secret))),
		base64.StdEncoding.EncodeToString([]byte(secret)), strings.Trim(fmt.Sprintf("%d", []byte(secret)), "[]"),
	} {
		if at := strings.Index(text, form); at >= 0 {
			assert.Failf(t, "the password is in it", "%T: …%s", value, text[max(0, at-200):at+len(form)])
		}
	}
}

// What holds a password, or leads to something that does, does not show it. Those that run are looked at when they have
// ended, and nobody changes them any more.
func TestNoConfigurationAndNoHandleShowsThePassword(t *testing.T) {
	const secret = "pa55w0rd-of-the-manager"
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	credentials := kv.Credentials{User: user, Password: secret}

	options := kvnode.Options{Name: consumer, User: user, Password: secret}
	node, err := kvnode.Start(options)
	require.NoError(t, err)
	require.NoError(t, node.CreateBucket(bucket, vbuckets))
	endpoint := kv.Endpoint{Node: consumer, Addr: node.Addr(), Credentials: credentials}
	client, err := kv.Connect(ctx, endpoint, bucket)
	require.NoError(t, err)
	session := kv.NewSession(endpoint, bucket, nil)
	_, err = session.Client(ctx)
	require.NoError(t, err)

	replications := dcp.Options{
		System: actors.NewSystem(actors.Options{Logger: slog.New(slog.DiscardHandler)}), Bucket: bucket, Consumer: consumer,
		Endpoints: func(string) (kv.Endpoint, bool) { return endpoint, true },
	}
	manager, err := dcp.Start(ctx, replications)
	require.NoError(t, err)
	require.NoError(t, manager.Prepare(ctx, 1))
	status, err := manager.Status(ctx)
	require.NoError(t, err)

	config := rebalance.Config{
		Nodes: []rebalance.Node{{Name: consumer, Addr: node.Addr()}}, Credentials: credentials,
	}
	cluster, err := rebalance.Open(ctx, config)
	require.NoError(t, err)
	wrong := config
	wrong.TLS = &tls.Config{MaxVersion: tls.VersionTLS11}
	_, refused := rebalance.Open(ctx, wrong)
	require.Error(t, refused)
	require.NoError(t, cluster.CreateBucket(ctx, rebalance.BucketConfig{Name: "other", VBuckets: vbuckets}))
	run, err := cluster.Rebalance(ctx, rebalance.Request{})
	require.NoError(t, err)
	report, err := run.Wait(ctx)
	require.NoError(t, err)
	repaired, err := cluster.Janitor(ctx)
	require.NoError(t, err)
	tree, err := cluster.Tree(ctx)
	require.NoError(t, err)

	require.NoError(t, cluster.Close(ctx))
	require.NoError(t, manager.Stop(ctx))
	require.NoError(t, replications.System.Close(ctx))
	require.NoError(t, session.Close())
	require.NoError(t, client.Close())
	require.NoError(t, node.Close())

	for _, value := range []any{replications, &replications, manager, cluster, run} {
		requireDiscreetIn(t, secret, value, fitting)
	}
	replications.System = nil
	for _, value := range []any{
		credentials, &credentials, endpoint, &endpoint, client, session,
		kv.DCPOpen{Bucket: bucket},
		client.Err(),
		options, &options, node,
		replications, &replications, status,
		config, &config, wrong, refused, report, repaired, tree,
	} {
		requireDiscreet(t, secret, value)
	}
}

// A crash tells of what went before it, on connections that began with a login.
func TestNoCrashShowsThePassword(t *testing.T) {
	p := newPair(t, fault.EarlyStreamEnd, dcp.Limits{})
	require.NoError(t, p.apply(0))
	flight, err := p.manager.Flight(p.ctx, producer, 0)
	require.NoError(t, err)
	require.NotEmpty(t, flight)
	p.plan.Arm()
	err = p.apply(10, 11)
	var crash *dcp.CrashError
	require.ErrorAs(t, err, &crash)
	require.NotEmpty(t, crash.Flight)
	p.eventually("the crash is published", func() bool { return len(p.crashes()) == 1 })
	for _, value := range []any{flight, err, crash, *crash, crash.Flight, p.crashes()[0], p.crashes()[0].Reason, p.status()} {
		requireDiscreet(t, password, value)
	}
}
