package main

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"net/http/httptest"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/shearpin/shearpin/dcp/kv"
)

// certified writes a certificate of this machine and its key into a folder, and returns their paths and who trusts it.
func certified(t *testing.T) (certificate, key string, trust *x509.CertPool) {
	t.Helper()
	server := httptest.NewTLSServer(nil)
	defer server.Close()
	secret, err := x509.MarshalPKCS8PrivateKey(server.TLS.Certificates[0].PrivateKey)
	require.NoError(t, err)
	certificate, key = filepath.Join(t.TempDir(), "cert.pem"), filepath.Join(t.TempDir(), "key.pem")
	for path, block := range map[string]*pem.Block{
		certificate: {Type: "CERTIFICATE", Bytes: server.Certificate().Raw}, key: {Type: "PRIVATE KEY", Bytes: secret},
	} {
		require.NoError(t, os.WriteFile(path, pem.EncodeToMemory(block), 0o600))
	}
	trust = x509.NewCertPool()
	trust.AddCert(server.Certificate())
	return certificate, key, trust
}

func TestANodeSpeaksTLSAsItIsTold(t *testing.T) {
	certificate, key, trust := certified(t)
	for name, c := range map[string]struct {
		flags []string
		fails bool
	}{
		"a certificate of its own": {},
		"and of its clients":       {flags: []string{"--tls-ca", certificate}, fails: true},
	} {
		t.Run(name, func(t *testing.T) {
			s := start("node_started", append([]string{"kvnode", "--listen", "127.0.0.1:0", "--bucket", "orders:4", "--tls-cert", certificate, "--tls-key", key}, c.flags...)...)
			s.reached(t)
			var up ready
			require.Eventually(t, func() bool { return json.Unmarshal([]byte(s.out.String()), &up) == nil }, within, time.Millisecond)
			client, err := kv.Connect(t.Context(), kv.Endpoint{Addr: up.Addr, TLS: &tls.Config{RootCAs: trust}}, "orders")
			if c.fails {
				require.Error(t, err, "who has no certificate does not come in")
			} else {
				require.NoError(t, err)
				require.NoError(t, client.Close())
			}
			_, err = kv.Connect(t.Context(), kv.Endpoint{Addr: up.Addr}, "orders")
			require.Error(t, err, "nothing is said in the clear")
			s.signals <- os.Interrupt
			assert.Equal(t, exitComplete, s.wait(t))
		})
	}
}

func TestFilesForTLSThatCannotBeUsed(t *testing.T) {
	certificate, key, _ := certified(t)
	for want, c := range map[string]struct {
		status int
		flags  []string
	}{
		`--tls-cert "": and --tls-key: both or neither`: {exitUsage, []string{"--tls-key", key}},
		`is of use with --tls-cert only`:                {exitUsage, []string{"--tls-ca", certificate}},
		`--tls-key --tls-ca: looks like a flag`:         {exitUsage, []string{"--tls-cert", certificate, "--tls-key", "--tls-ca"}},
		`--tls-cert, --tls-key: open nowhere: no such`:  {exitFailed, []string{"--tls-cert", "nowhere", "--tls-key", key}},
		`--tls-ca: open nowhere: no such file`:          {exitFailed, []string{"--tls-cert", certificate, "--tls-key", key, "--tls-ca", "nowhere"}},
		`: has no certificate in it`:                    {exitFailed, []string{"--tls-cert", certificate, "--tls-key", key, "--tls-ca", key}},
	} {
		var out, errs bytes.Buffer
		assert.Equal(t, c.status, run(append([]string{"kvnode", "--listen", "127.0.0.1:0"}, c.flags...), streams{out: &out, err: &errs}), want)
		assert.Contains(t, errs.String(), want)
		assert.Empty(t, out.String())
	}
}
