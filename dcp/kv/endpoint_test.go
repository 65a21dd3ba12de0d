package kv_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"fmt"
	"log/slog"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/shearpin/shearpin/dcp/kv"
	"github.com/shearpin/shearpin/dcp/mcbp"
)

// What is wrong with an endpoint is said before anything is dialled, and by the name of the field.
func TestAnEndpointIsCheckedBeforeItIsUsed(t *testing.T) {
	source := func() (*tls.Config, error) { return nil, nil } //nolint:nilnil // never called
	for _, c := range []struct {
		field, why string
		change     func(*kv.Endpoint)
	}{
		{"Addr", "missing port", func(e *kv.Endpoint) { e.Addr = "n0.example" }},
		{"Addr", "missing port", func(e *kv.Endpoint) { e.Addr = "" }},
		{"Addr", "too many colons", func(e *kv.Endpoint) { e.Addr = "::1:11210" }},
		{"Addr", "missing port", func(e *kv.Endpoint) { e.Addr = "[::1]" }},
		{"Addr", "no host", func(e *kv.Endpoint) { e.Addr = ":11210" }},
		{"Addr", "no port from 1", func(e *kv.Endpoint) { e.Addr = "n0.example:" }},
		{"Addr", "no port from 1", func(e *kv.Endpoint) { e.Addr = "n0.example:0" }},
		{"Addr", "no port from 1", func(e *kv.Endpoint) { e.Addr = "n0.example:65536" }},
		{"Addr", "no port from 1", func(e *kv.Endpoint) { e.Addr = "n0.example:memcache" }},
		{"TLSSource", "there is a TLS too", func(e *kv.Endpoint) { e.TLS, e.TLSSource = &tls.Config{}, source }},
		{"TLS", "below TLS 1.2", func(e *kv.Endpoint) { e.TLS = &tls.Config{MaxVersion: tls.VersionTLS11} }},
		{"StepTimeout", "-1s", func(e *kv.Endpoint) { e.StepTimeout = -time.Second }},
		{"Mechanisms", `"SCRAM-SHA-512" is none of`, func(e *kv.Endpoint) { e.Mechanisms = []kv.Mechanism{"SCRAM-SHA-512"} }},
		{"Mechanisms", `"" is none of`, func(e *kv.Endpoint) { e.Mechanisms = []kv.Mechanism{kv.Plain, ""} }},
		{"Mechanisms", "twice", func(e *kv.Endpoint) { e.Mechanisms = []kv.Mechanism{kv.Plain, kv.Plain} }},
		{"Credentials.User", "there is a password", func(e *kv.Endpoint) { e.Credentials.User = "" }},
		{"Credentials.User", "NUL", func(e *kv.Endpoint) { e.Credentials.User = "user\x00" + password }},
		{"Credentials.Password", "NUL", func(e *kv.Endpoint) { e.Credentials.Password = "x\x00" + password }},
	} {
		t.Run(c.field+" "+c.why, func(t *testing.T) {
			ep := kv.Endpoint{Node: "n0", Addr: "n0.example:11210", Credentials: kv.Credentials{User: "user", Password: password}}
			ep.Dial = func(context.Context, string, string) (net.Conn, error) {
				assert.Fail(t, "dialled")
				return nil, net.ErrClosed
			}
			c.change(&ep)
			err := ep.Validate()
			var wrong *kv.EndpointError
			require.ErrorAs(t, err, &wrong)
			assert.Equal(t, c.field, wrong.Field)
			assert.ErrorContains(t, err, c.why)

			_, err = kv.Connect(t.Context(), ep, "orders")
			var failed *kv.ConnectError
			require.ErrorAs(t, err, &failed)
			assert.Equal(t, kv.StepConfig, failed.Step)
			assert.ErrorAs(t, err, &wrong)
			assert.NotContains(t, err.Error(), password)
		})
	}
}

func TestEndpointsOfAllKindsAreGood(t *testing.T) {
	for _, addr := range []string{"n0.example:1", "127.0.0.1:11210", "[::1]:65535", "[fe80::1%eth0]:11210", "[2001:db8::7]:11210"} {
		assert.NoError(t, (&kv.Endpoint{Addr: addr}).Validate())
		assert.NoError(t, (&kv.Endpoint{Addr: addr, TLS: &tls.Config{}, Mechanisms: kv.DefaultMechanisms()}).Validate())
		assert.NoError(t, (&kv.Endpoint{Addr: addr, TLS: &tls.Config{MaxVersion: tls.VersionTLS12}}).Validate())
	}
}

func TestABucketNameThatNoEngineTakesIsNotSent(t *testing.T) {
	s := newServer(t)
	_, err := kv.Connect(t.Context(), s.endpoint(), strings.Repeat("b", 1<<20))
	assert.Equal(t, kv.StepConfig, step(t, err))
	assert.Empty(t, s.all())
	client, err := kv.Connect(t.Context(), s.endpoint(), strings.Repeat("b", 100))
	require.NoError(t, err)
	require.NoError(t, client.Close())
}

func TestPasswordIsInNothingThatIsFormattedOrLogged(t *testing.T) {
	s := newServer(t)
	ep := s.endpoint()
	ep.TLS = &tls.Config{}
	session := kv.NewSession(ep, "orders", nil)
	var out bytes.Buffer
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%d", "%x", "%X", "%t", "%T", "%1000v", "%-5.3d"} {
		for _, value := range []any{
			ep.Credentials, &ep.Credentials, ep, &ep, session,
			[]kv.Endpoint{ep},
			map[string]kv.Credentials{"a": ep.Credentials},
			struct{ E kv.Endpoint }{ep},
			fmt.Errorf("with %v", ep),
		} {
			fmt.Fprintf(&out, verb+"\n", value)
		}
	}
	fmt.Fprintln(&out, ep, &ep, ep.Credentials, session)
	for _, value := range []any{ep, &ep, ep.Credentials, &ep.Credentials, session, map[string]any{"e": ep}} {
		encoded, err := json.Marshal(value)
		require.NoError(t, err)
		out.Write(encoded)
	}
	for _, h := range []slog.Handler{slog.NewTextHandler(&out, nil), slog.NewJSONHandler(&out, nil)} {
		slog.New(h).Info("x", "credentials", ep.Credentials, "endpoint", ep, "pointer", &ep, "session", session, "all", []any{ep, ep.Credentials})
	}
	require.NoError(t, session.Close())
	assert.Contains(t, out.String(), "user")
	requireNoSecret(t, out.String())
}

// requireNoSecret greps for the password as text, in hexadecimal, and as Go prints bytes.
func requireNoSecret(t *testing.T, text string) {
	t.Helper()
	text = strings.ToLower(text)
	numbers := strings.Trim(fmt.Sprintf("%d", []byte(password)), "[]")
	for _, form := range []string{
		password, fmt.Sprintf("%x", password), numbers, strings.ReplaceAll(numbers, " ", ","), strings.Trim(fmt.Sprintf("%#v", []byte(password)), "[]byte{}"),
	} {
		if at := strings.Index(text, form); at >= 0 {
			require.Fail(t, "the password is in it", "…%s", text[max(0, at-200):at+len(form)])
		}
	}
}

// A node that repeats what it was sent, in every field that it has, gets no word of it into an error or a log.
func TestPasswordIsInNoErrorOfAnyStep(t *testing.T) {
	echo := func(s mcbp.Status) reply {
		return func(_ net.Conn, request mcbp.Frame) [][]byte {
			return answer(request, mcbp.Packet{Status: s, Key: []byte(password), Value: append([]byte(password+" "), request.Value()...), Extras: []byte(password)})
		}
	}
	garbled := raw(func(f mcbp.Frame) []byte { return append([]byte(password), f...) })
	for name, r := range map[string]reply{
		"refused": echo(mcbp.StatusAuthError), "success": echo(mcbp.StatusSuccess), "continue": echo(mcbp.StatusAuthContinue),
		"garbled": garbled, "closed": func(conn net.Conn, _ mcbp.Frame) [][]byte {
			_ = conn.Close()
			return nil
		},
	} {
		for _, mechanism := range []kv.Mechanism{kv.ScramSHA1, kv.Plain} {
			for _, exchange := range exchanges {
				t.Run(name+"/"+string(mechanism)+"/"+exchange.op.String(), func(t *testing.T) {
					s := newServer(t)
					s.scram(mechanism)
					if mechanism == kv.Plain {
						s.on(mcbp.OpSASLAuth, status(mcbp.StatusSuccess))
					}
					s.on(exchange.op, r)
					var out bytes.Buffer
					log := slog.New(slog.NewMultiHandler(
						slog.NewTextHandler(&out, &slog.HandlerOptions{Level: slog.LevelDebug}),
						slog.NewJSONHandler(&out, &slog.HandlerOptions{Level: slog.LevelDebug})))
					session := kv.NewSession(s.endpoint(), "orders", log)
					_, first := session.Client(t.Context())
					_, second := kv.OpenDCP(t.Context(), s.endpoint(), consumerOpen)
					require.NoError(t, session.Close())
					for _, err := range []error{first, second} {
						for ; err != nil; err = unwrap(err) {
							fmt.Fprintf(&out, "%v %+v %#v %q %d\n", err, err, err, err, err)
							encoded, failed := json.Marshal(err)
							fmt.Fprintln(&out, string(encoded), failed)
						}
					}
					require.NotEmpty(t, out.String())
					requireNoSecret(t, out.String())
				})
			}
		}
	}
}

func unwrap(err error) error {
	if u, ok := err.(interface{ Unwrap() error }); ok {
		return u.Unwrap()
	}
	return nil
}
