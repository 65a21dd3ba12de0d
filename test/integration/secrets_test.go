package integration

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/shearpin/shearpin/actors"
	"github.com/shearpin/shearpin/dcp"
	"github.com/shearpin/shearpin/dcp/kv"
	"github.com/shearpin/shearpin/dcp/kvnode"
	"github.com/shearpin/shearpin/supervisor"
)

// transcript is everything that was said, by anybody.
type transcript struct {
	mu  sync.Mutex
	all bytes.Buffer
}

func (w *transcript) Write(b []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.all.Write(b)
}

func (w *transcript) String() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.all.String()
}

// Whatever goes wrong, the password is in no log line, no crash report, no event, no status and no error that a caller gets.
func TestThePasswordIsInNoLogNoCrashReportAndNoError(t *testing.T) {
	const secret = "pa55w0rd-of-the-manager"
	start := func(mechanisms ...string) string {
		node, err := kvnode.Start(kvnode.Options{Name: consumer, User: user, Password: "another", Mechanisms: mechanisms})
		require.NoError(t, err)
		t.Cleanup(func() { require.NoError(t, node.Close()) })
		require.NoError(t, node.CreateBucket(bucket, vbuckets))
		return node.Addr()
	}
	good := kv.Endpoint{Node: consumer, Addr: start("PLAIN"), Credentials: kv.Credentials{User: user, Password: secret}}
	scram := start()

	for name, c := range map[string]struct {
		endpoints func(string) (kv.Endpoint, bool)
		said      string
	}{
		"refused":     {func(string) (kv.Endpoint, bool) { return good, true }, "authentication failed"},
		"disproved":   {func(string) (kv.Endpoint, bool) { e := good; e.Addr = scram; return e, true }, "SCRAM-SHA512"},
		"wrong field": {func(string) (kv.Endpoint, bool) { e := good; e.Credentials.User = ""; return e, true }, "there is a password"},
		"unreachable": {func(string) (kv.Endpoint, bool) { e := good; e.Addr = "127.0.0.1:1"; return e, true }, "dial"},
		"no PLAIN": {func(string) (kv.Endpoint, bool) {
			e := good
			e.Mechanisms = []kv.Mechanism{kv.ScramSHA512, kv.ScramSHA256}
			return e, true
		}, "no common SASL mechanism"},
		"unknown":          {func(string) (kv.Endpoint, bool) { return good, false }, "unknown node"},
		"panic of a value": {func(string) (kv.Endpoint, bool) { panic(good) }, "process_crashed"},
		"panic of an error": {func(string) (kv.Endpoint, bool) {
			panic(fmt.Errorf("no use for %+v or %#v or %d", good, &good, good.Credentials))
		}, "process_crashed"},
	} {
		t.Run(name, func(t *testing.T) {
			var out transcript
			debug := &slog.HandlerOptions{Level: slog.LevelDebug}
			log := slog.New(slog.NewMultiHandler(slog.NewTextHandler(&out, debug), slog.NewJSONHandler(&out, debug)))
			system := actors.NewSystem(actors.Options{Logger: log})
			events, tree := actors.NewBus[dcp.Event](), actors.NewBus[supervisor.Event]()
			news, exits := events.Subscribe(1024), tree.Subscribe(1024)
			ctx, cancel := context.WithTimeout(t.Context(), patience)
			defer cancel()
			m, err := dcp.Start(ctx, dcp.Options{
				System: system, Bucket: bucket, Consumer: consumer, Endpoints: c.endpoints, Log: log, Events: events, SupervisorEvents: tree,
				Limits: dcp.Limits{Join: 100 * time.Millisecond, Connect: time.Second},
			})
			require.NoError(t, err)
			show := func(values ...any) {
				for _, v := range values {
					encoded, err := json.Marshal(v)
					fmt.Fprintf(&out, "%v %+v %#v %s %v\n", v, v, v, encoded, err)
				}
			}
			show(m.Prepare(ctx, 1), m.Apply(ctx, 1, "", map[uint16]string{1: producer}))
			short, cancel := context.WithTimeout(ctx, 100*time.Millisecond)
			defer cancel()
			show(m.Fence(short, 1, producer))
			status, err := m.Status(ctx)
			show(status, err)
			require.Eventually(t, func() bool { return strings.Contains(out.String(), c.said) }, patience, time.Millisecond, c.said)
			_ = m.Stop(ctx) // it may have given up by itself
			require.NoError(t, system.Close(ctx))
			news.Close()
			exits.Close()
			for e := range news.C() {
				show(e)
			}
			for e := range exits.C() {
				show(e)
			}
			said := out.String()
			if at := strings.Index(said, secret); at >= 0 {
				assert.Fail(t, "the password is in it", "…%s", said[max(0, at-300):at+len(secret)])
			}
		})
	}
}
