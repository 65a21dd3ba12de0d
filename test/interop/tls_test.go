package interop

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"math/big"
	"net"
	"testing"
	"time"

	"github.com/couchbase/gocb/v2"
	"github.com/stretchr/testify/require"

	"github.com/shearpin/shearpin/dcp/kvnode"
	"github.com/shearpin/shearpin/rebalance"
)

// Nodes, management, replications and clients, all by TLS.
func TestTheSDKWritesThroughRebalancesByTLS(t *testing.T) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), NotBefore: time.Unix(0, 0), NotAfter: time.Now().Add(time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, IsCA: true, BasicConstraintsValid: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	require.NoError(t, err)
	leaf, err := x509.ParseCertificate(der)
	require.NoError(t, err)
	trusted := x509.NewCertPool()
	trusted.AddCert(leaf)

	w := newManagedWorld(t, func(c *rebalance.Config) {
		c.TLS = &tls.Config{RootCAs: trusted, MinVersion: tls.VersionTLS12}
	}, func(o *kvnode.Options) {
		o.TLS = &tls.Config{
			Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}}, MinVersion: tls.VersionTLS12,
		}
	})
	security := gocb.SecurityConfig{TLSRootCAs: trusted}
	c := w.sdkBy("couchbases", security)
	written := w.writeThroughRebalances(c)
	w.requireWritten(c, written)
	w.requireWritten(w.sdkBy("couchbases", security), written)
}
