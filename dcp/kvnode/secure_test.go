package kvnode_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"io"
	"math/big"
	"net"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/shearpin/shearpin/dcp/kvnode"
	"github.com/shearpin/shearpin/dcp/kvnode/fault"
	"github.com/shearpin/shearpin/dcp/mcbp"
)

// certificate makes one of the loopback address, and who trusts it.
func certificate(t testing.TB) (tls.Certificate, *x509.CertPool) {
	t.Helper()
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
	pool := x509.NewCertPool()
	pool.AddCert(leaf)
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, pool
}

func secured(c *tls.Config) func(*kvnode.Options) { return func(o *kvnode.Options) { o.TLS = c } }

// loginTLS is login over TLS.
func loginTLS(t testing.TB, n *kvnode.Node, config *tls.Config) *client {
	t.Helper()
	raw := connect(t, n)
	socket := tls.Client(raw.socket, config)
	c := &client{t: t, socket: socket}
	c.ok(&mcbp.Packet{Opcode: mcbp.OpSASLAuth, Key: []byte("PLAIN"), Value: []byte("\x00" + testUser + "\x00" + testPassword)})
	c.ok(&mcbp.Packet{Opcode: mcbp.OpSelectBucket, Key: []byte(testBucket)})
	return c
}

func TestANodeSpeaksTLS(t *testing.T) {
	cert, pool := certificate(t)
	n := startNode(t, "n0", secured(&tls.Config{Certificates: []tls.Certificate{cert}}))
	c := loginTLS(t, n, &tls.Config{RootCAs: pool, ServerName: "127.0.0.1"})
	c.setVBucket(7, mcbp.VBucketActive)
	big := string(make([]byte, 1<<20))
	c.set(7, "k", big)
	assert.Equal(t, big, string(c.get(7, "k").Value()))

	plain := connect(t, n)
	plain.write((&mcbp.Packet{Opcode: mcbp.OpNoop}).Frame())
	plain.closed()

	n.Kill()
	c.closed()
	require.NoError(t, n.Restart())
	again := &client{t: t, socket: tls.Client(connect(t, n).socket, &tls.Config{RootCAs: pool, ServerName: "127.0.0.1"})}
	again.ok(&mcbp.Packet{Opcode: mcbp.OpNoop})
}

// A certificate lets a client as far as the account, and none lets nobody that far.
func TestClientsMayNeedCertificates(t *testing.T) {
	cert, pool := certificate(t)
	mine, trusted := certificate(t)
	n := startNode(t, "n0", secured(&tls.Config{
		Certificates: []tls.Certificate{cert}, ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: trusted,
	}))
	config := &tls.Config{RootCAs: pool, ServerName: "127.0.0.1", Certificates: []tls.Certificate{mine}}
	c := &client{t: t, socket: tls.Client(connect(t, n).socket, config)}
	assert.Equal(t, mcbp.StatusNoAccess, c.do(&mcbp.Packet{Opcode: mcbp.OpSelectBucket, Key: []byte(testBucket)}).Status())
	loginTLS(t, n, config)

	for _, certificates := range [][]tls.Certificate{nil, {cert}} {
		stranger := tls.Client(connect(t, n).socket, &tls.Config{RootCAs: pool, ServerName: "127.0.0.1", Certificates: certificates})
		require.NoError(t, stranger.SetDeadline(time.Now().Add(patience)))
		_, err := stranger.Read(make([]byte, 1))
		require.ErrorContains(t, err, "certificate")
	}
}

// Nobody holds a node up by beginning a handshake and not ending it: neither a node that stops, nor for ever.
func TestHandshakesEnd(t *testing.T) {
	cert, _ := certificate(t)
	n := startNode(t, "n0", secured(&tls.Config{Certificates: []tls.Certificate{cert}}), func(o *kvnode.Options) {
		o.IdleTimeout = 50 * time.Millisecond
	})
	c := connect(t, n)
	c.write([]byte{0x16, 3, 1})
	c.closed()

	n = startNode(t, "n1", secured(&tls.Config{Certificates: []tls.Certificate{cert}}))
	c = connect(t, n)
	c.write([]byte{0x16, 3, 1})
	require.NoError(t, n.Stop())
	c.closed()
}

func TestANodeWithTLSNeedsACertificate(t *testing.T) {
	_, err := kvnode.Start(kvnode.Options{Name: "n0", TLS: &tls.Config{}})
	require.ErrorContains(t, err, "TLS has no certificate")
}

// The ends of connections are what they are without TLS.
func TestConnectionsEndUnderTLS(t *testing.T) {
	cert, pool := certificate(t)
	for how, want := range map[fault.How]error{fault.FIN: io.EOF, fault.Half: io.EOF, fault.RST: syscall.ECONNRESET} {
		script := fault.NewScript(1)
		n := startNode(t, "n0", scripted(script), secured(&tls.Config{Certificates: []tls.Certificate{cert}}))
		config := &tls.Config{RootCAs: pool, ServerName: "127.0.0.1"}
		admin, c := loginTLS(t, n, config), loginTLS(t, n, config)
		admin.setVBucket(7, mcbp.VBucketActive)
		addRule(t, script, fault.Rule{Match: received(aSet), Do: fault.Close{How: how}, Times: 1})
		c.write(setPacket(7, "k", "v").Frame())
		_, err := c.tryRead()
		require.ErrorIs(t, err, want, how)
		if how == fault.Half {
			c.write(setPacket(7, "l", "v").Frame())
			eventually(t, "its own half goes on", func() bool { return admin.get(7, "l").Status() == mcbp.StatusSuccess })
		}
	}
}
