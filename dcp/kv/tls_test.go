package kv_test

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"net"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/shearpin/shearpin/dcp/kv"
	"github.com/shearpin/shearpin/dcp/mcbp"
)

// secure makes the server one that speaks TLS, over TCP, on what looks like another machine.
func (s *server) secure(config *tls.Config) {
	s.listen()
	s.wrap = func(near, far net.Conn) (net.Conn, net.Conn) { return farAway{near}, tls.Server(far, config) }
}

// tlsStep is the error of an endpoint that cannot agree with s on a protected connection.
func tlsStep(t *testing.T, s *server, ep kv.Endpoint) error {
	t.Helper()
	before := goleak.IgnoreCurrent()
	_, err := kv.OpenDCP(t.Context(), ep, consumerOpen)
	var failed *kv.ConnectError
	require.ErrorAs(t, err, &failed)
	assert.Equal(t, kv.StepTLS, failed.Step)
	assert.Equal(t, ep.Addr, failed.Addr)
	assert.NotContains(t, err.Error(), password)
	<-s.closed
	s.requireNoSockets()
	s.requireSilence()
	s.wg.Wait()
	goleak.VerifyNone(t, before)
	return err
}

func TestTLSWithTheWrongAuthorityIsRefused(t *testing.T) {
	ours, theirs := newAuthority(t), newAuthority(t)
	s := newServer(t)
	s.secure(&tls.Config{Certificates: []tls.Certificate{theirs.node("n0.example")}})
	ep := s.endpoint()
	ep.TLS = &tls.Config{RootCAs: ours.pool()}
	var unknown x509.UnknownAuthorityError
	assert.ErrorAs(t, tlsStep(t, s, ep), &unknown)
}

func TestTLSWithTheWrongNameIsRefused(t *testing.T) {
	ca := newAuthority(t)
	s := newServer(t)
	s.secure(&tls.Config{Certificates: []tls.Certificate{ca.node("n0.example")}})
	for _, c := range []struct{ addr, serverName string }{
		{"n1.example:11210", ""}, {"n0.example:11210", "n1.example"}, {"192.0.2.1:11210", ""}, {"[::1]:11210", ""},
	} {
		ep := s.endpoint()
		ep.Addr = c.addr
		ep.TLS = &tls.Config{RootCAs: ca.pool(), ServerName: c.serverName}
		var wrong x509.HostnameError
		assert.ErrorAs(t, tlsStep(t, s, ep), &wrong)
	}
}

func TestTLSWithAnExpiredCertificateIsRefused(t *testing.T) {
	ca := newAuthority(t)
	s := newServer(t)
	s.secure(&tls.Config{Certificates: []tls.Certificate{ca.node("n0.example", func(c *x509.Certificate) {
		c.NotAfter = time.Now().Add(-time.Minute)
	})}})
	ep := s.endpoint()
	ep.TLS = &tls.Config{RootCAs: ca.pool()}
	var invalid x509.CertificateInvalidError
	require.ErrorAs(t, tlsStep(t, s, ep), &invalid)
	assert.Equal(t, x509.Expired, invalid.Reason)
}

// With TLS 1.3 we hear of it only when we read the answer to our first request: it is the TLS step all the same.
func TestAClientCertificateThatIsDemandedAndMissingFailsTheTLSStep(t *testing.T) {
	ca := newAuthority(t)
	for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
		t.Run(tls.VersionName(version), func(t *testing.T) {
			s := newServer(t)
			s.secure(&tls.Config{
				Certificates: []tls.Certificate{ca.node("n0.example")}, ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: ca.pool(),
				MinVersion: version, MaxVersion: version,
			})
			ep := s.endpoint()
			ep.TLS = &tls.Config{RootCAs: ca.pool()}
			err := tlsStep(t, s, ep)
			assert.ErrorContains(t, err, "remote error: tls: ")
			assert.Empty(t, s.seen())

			stranger := newAuthority(t)
			ep.TLS.Certificates = []tls.Certificate{stranger.node("manager")}
			assert.Error(t, tlsStep(t, s, ep))
		})
	}
}

func TestAClientCertificateIsEnoughToBeKnown(t *testing.T) {
	ca := newAuthority(t)
	for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
		var shown []string
		s := newServer(t)
		s.secure(&tls.Config{
			Certificates: []tls.Certificate{ca.node("n0.example")}, ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: ca.pool(),
			MinVersion: version, MaxVersion: version,
			VerifyConnection: func(c tls.ConnectionState) error {
				shown = append(shown, c.PeerCertificates[0].Subject.CommonName)
				return nil
			},
		})
		ep := s.endpoint()
		ep.Credentials = kv.Credentials{}
		ep.TLS = &tls.Config{RootCAs: ca.pool(), Certificates: []tls.Certificate{ca.node("manager", func(c *x509.Certificate) {
			c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}
		})}}
		conn, err := kv.OpenDCP(t.Context(), ep, producerOpen)
		require.NoError(t, err)
		assert.Equal(t, version, conn.(*tls.Conn).ConnectionState().Version)
		require.NoError(t, conn.Close())
		assert.Equal(t, []string{"manager"}, shown)
	}
}

// Whatever a configuration permits.
func TestTLSBelow12IsRefused(t *testing.T) {
	ca := newAuthority(t)
	for _, version := range []uint16{tls.VersionTLS10, tls.VersionTLS11} {
		s := newServer(t)
		s.secure(&tls.Config{Certificates: []tls.Certificate{ca.node("n0.example")}, MinVersion: tls.VersionTLS10, MaxVersion: version})
		ep := s.endpoint()
		for _, oldest := range []uint16{0, tls.VersionTLS10} {
			ep.TLS = &tls.Config{RootCAs: ca.pool(), MinVersion: oldest}
			assert.ErrorContains(t, tlsStep(t, s, ep), "protocol version")
			assert.Equal(t, oldest, ep.TLS.MinVersion, "the caller's configuration is left alone")
		}
		ep.TLS = nil
		ep.TLSSource = func() (*tls.Config, error) {
			return &tls.Config{RootCAs: ca.pool(), MinVersion: tls.VersionTLS10}, nil
		}
		assert.ErrorContains(t, tlsStep(t, s, ep), "protocol version")
		ep.TLSSource = func() (*tls.Config, error) { return &tls.Config{MaxVersion: tls.VersionTLS11}, nil }
		assert.ErrorContains(t, tlsStep(t, s, ep), "below TLS 1.2")
	}
}

func TestTLS12And13AreSpoken(t *testing.T) {
	ca := newAuthority(t)
	for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
		s := newServer(t)
		s.secure(&tls.Config{Certificates: []tls.Certificate{ca.node("n0.example")}, MaxVersion: version})
		ep := s.endpoint()
		ep.TLS = &tls.Config{RootCAs: ca.pool()}
		conn, err := kv.OpenDCP(t.Context(), ep, producerOpen)
		require.NoError(t, err)
		assert.Equal(t, version, conn.(*tls.Conn).ConnectionState().Version)
		require.NoError(t, conn.Close())
	}
}

// An address of IPv6 is verified as certificates have it: without brackets, and without a zone.
func TestTLSVerifiesAddressesOfIPv6(t *testing.T) {
	ca := newAuthority(t)
	for addr, host := range map[string]string{
		"[2001:db8::7]:11210": "2001:db8::7", "[fe80::1%eth0]:11210": "fe80::1", "192.0.2.1:11210": "192.0.2.1",
		"[2001:DB8:0:0::7]:11210": "2001:db8::7",
	} {
		s := newServer(t)
		s.secure(&tls.Config{Certificates: []tls.Certificate{ca.node(host)}})
		ep := s.endpoint()
		ep.Addr = addr
		var dialled string
		ep.Dial = func(ctx context.Context, network, addr string) (net.Conn, error) {
			dialled = addr
			return s.dial(ctx, network, addr)
		}
		ep.TLS = &tls.Config{RootCAs: ca.pool()}
		client, err := kv.Connect(t.Context(), ep, "orders")
		require.NoError(t, err, addr)
		require.NoError(t, client.Close())
		assert.Equal(t, addr, dialled)
	}
}

// The certificates are those of the moment: new ones are for the next connection, and leave the open ones alone.
func TestChangedCertificatesApplyToTheNextConnection(t *testing.T) {
	before, after := newAuthority(t), newAuthority(t)
	current := before.pool()
	s := newServer(t)
	s.secure(&tls.Config{Certificates: []tls.Certificate{before.node("n0.example")}})
	ep := s.endpoint()
	asked := 0
	ep.TLSSource = func() (*tls.Config, error) {
		asked++
		return &tls.Config{RootCAs: current}, nil
	}
	s.on(mcbp.OpNoop, status(mcbp.StatusSuccess))
	open, err := kv.Connect(t.Context(), ep, "orders")
	require.NoError(t, err)
	defer open.Close()

	current = after.pool()
	_, err = kv.Connect(t.Context(), ep, "orders")
	var unknown x509.UnknownAuthorityError
	require.ErrorAs(t, err, &unknown)
	_, err = open.Do(t.Context(), noop())
	require.NoError(t, err, "the open one goes on")

	s.wrap = func(near, far net.Conn) (net.Conn, net.Conn) {
		return farAway{near}, tls.Server(far, &tls.Config{Certificates: []tls.Certificate{after.node("n0.example")}})
	}
	next, err := kv.Connect(t.Context(), ep, "orders")
	require.NoError(t, err)
	require.NoError(t, next.Close())
	assert.Equal(t, 3, asked)
}

// No configuration is no reason to go without.
func TestASourceWithoutAConfigurationNeverMeansPlainTCP(t *testing.T) {
	s := newServer(t)
	s.listen()
	ep := s.endpoint()
	reason := errors.New("no such file")
	ep.TLSSource = func() (*tls.Config, error) { return nil, reason }
	assert.ErrorIs(t, tlsStep(t, s, ep), reason)
	ep.TLSSource = func() (*tls.Config, error) { return nil, nil } //nolint:nilnil // the mistake
	assert.ErrorContains(t, tlsStep(t, s, ep), "no configuration")
	assert.Empty(t, s.seen())
}

// A peer that breaks the TLS handshake costs one attempt.
func TestAPeerThatBreaksTheTLSHandshakeCostsOneAttempt(t *testing.T) {
	record := func(length uint16) []byte { return []byte{22, 3, 3, byte(length >> 8), byte(length)} }
	faults := map[string]struct {
		do    func(conn net.Conn)
		takes time.Duration
		check func(t *testing.T, err error)
	}{
		"silent": {func(conn net.Conn) { _, _ = io.Copy(io.Discard, conn) }, kv.DefaultStepTimeout, isDeadline},
		"deaf":   {func(net.Conn) {}, kv.DefaultStepTimeout, isDeadline},
		"trickling": {func(conn net.Conn) {
			for _, b := range append(record(1000), make([]byte, 1000)...) {
				<-time.After(time.Second)
				if _, err := conn.Write([]byte{b}); err != nil {
					return
				}
			}
		}, kv.DefaultStepTimeout, isDeadline},
		"garbage": {func(conn net.Conn) { _, _ = conn.Write([]byte("HTTP/1.1 400 Bad Request\r\n\r\n")) }, 0, func(t *testing.T, err error) {
			var header tls.RecordHeaderError
			assert.ErrorAs(t, err, &header)
		}},
		"plain": {func(conn net.Conn) {
			_, _ = conn.Write((&mcbp.Packet{Magic: mcbp.MagicResponse, Status: mcbp.StatusInvalid}).Frame())
		}, 0, func(t *testing.T, err error) {
			var header tls.RecordHeaderError
			assert.ErrorAs(t, err, &header)
		}},
		"endless record": {func(conn net.Conn) { _, _ = conn.Write(record(0xffff)) }, 0, func(t *testing.T, err error) {
			assert.ErrorContains(t, err, "oversized record")
		}},
		"endless message": {func(conn net.Conn) {
			_, _ = conn.Write(append(record(4), 2, 0xff, 0xff, 0xff))
		}, 0, func(t *testing.T, err error) { assert.ErrorContains(t, err, "exceeds maximum") }},
		"closed": {func(conn net.Conn) { _ = conn.Close() }, 0, func(t *testing.T, err error) { assert.ErrorIs(t, err, io.EOF) }},
		"closed half-way": {func(conn net.Conn) {
			_, _ = conn.Write(record(100))
			_ = conn.Close()
		}, 0, func(t *testing.T, err error) { assert.ErrorIs(t, err, io.ErrUnexpectedEOF) }},
	}
	for name, fault := range faults {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				near, far := net.Pipe()
				ours := &counted{Conn: near}
				var peer sync.WaitGroup
				if name != "deaf" {
					peer.Go(func() {
						hello := make([]byte, 5)
						_, _ = io.ReadFull(far, hello)
						_, _ = io.CopyN(io.Discard, far, int64(hello[3])<<8+int64(hello[4]))
						peer.Go(func() { fault.do(far) })
						_, _ = io.Copy(io.Discard, far) // what we are told in return
					})
				}
				ep := kv.Endpoint{Node: "n0", Addr: "n0.example:11210", TLS: &tls.Config{}, Credentials: kv.Credentials{User: "user", Password: password}}
				ep.Dial = func(context.Context, string, string) (net.Conn, error) { return ours, nil }
				since := time.Now()
				_, err := kv.Connect(t.Context(), ep, "orders")
				assert.Equal(t, kv.StepTLS, step(t, err))
				fault.check(t, err)
				assert.Equal(t, fault.takes, time.Since(since))
				assert.True(t, ours.closed.Load(), "left open")
				require.NoError(t, far.Close())
				peer.Wait()
			})
		})
	}
}

func TestAPeerThatResetsInTheTLSHandshakeCostsOneAttempt(t *testing.T) {
	s := newServer(t)
	s.listen()
	s.wrap = func(near, far net.Conn) (net.Conn, net.Conn) {
		_ = far.(*net.TCPConn).SetLinger(0)
		_ = far.Close()
		return near, far
	}
	ep := s.endpoint()
	ep.TLS = &tls.Config{}
	err := tlsStep(t, s, ep)
	assert.True(t, errors.Is(err, syscall.ECONNRESET) || errors.Is(err, syscall.EPIPE) || errors.Is(err, io.EOF), err)
}

func TestScramAndPlainUnderTLS(t *testing.T) {
	ca := newAuthority(t)
	for _, m := range kv.DefaultMechanisms() {
		s := newServer(t)
		s.scram(m)
		if m == kv.Plain {
			s.on(mcbp.OpSASLAuth, status(mcbp.StatusSuccess))
		}
		s.secure(&tls.Config{Certificates: []tls.Certificate{ca.node("n0.example")}})
		ep := s.endpoint()
		ep.TLS = &tls.Config{RootCAs: ca.pool()}
		client, err := kv.Connect(t.Context(), ep, "orders")
		require.NoError(t, err)
		require.NoError(t, client.Close())
		assert.Equal(t, "SASL_AUTH "+string(m), s.logins()[1])
		assert.Equal(t, m == kv.Plain, strings.Contains(string(s.seen()[1]), password))
	}
}

// listenIPv6 makes the server one of IPv6's loopback, and returns its address. Where a machine has none, only the address is.
func (s *server) listenIPv6() (addr string, there bool) {
	listener, err := net.Listen("tcp", "[::1]:0")
	if err != nil {
		s.listen()
		return "[::1]:11210", false
	}
	s.listener = listener
	s.t.Cleanup(func() { _ = listener.Close() })
	return listener.Addr().String(), true
}

// All at once: a node that is known by an address of IPv6, by its certificate and ours, and by a password that is not sent.
func TestScramUnderTLSOverIPv6(t *testing.T) {
	ca := newAuthority(t)
	for _, m := range []kv.Mechanism{kv.ScramSHA1, kv.ScramSHA256, kv.ScramSHA512} {
		s := newServer(t)
		s.scram(m)
		addr, there := s.listenIPv6()
		s.wrap = func(near, far net.Conn) (net.Conn, net.Conn) {
			return near, tls.Server(far, &tls.Config{
				Certificates: []tls.Certificate{ca.node("::1")}, ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: ca.pool(),
			})
		}
		ep := s.endpoint()
		ep.Addr = addr
		ep.TLS = &tls.Config{RootCAs: ca.pool(), Certificates: []tls.Certificate{ca.node("manager", func(c *x509.Certificate) {
			c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}
		})}}
		conn, err := kv.OpenDCP(t.Context(), ep, consumerOpen)
		require.NoError(t, err)
		state := conn.(*tls.Conn).ConnectionState()
		require.NoError(t, state.PeerCertificates[0].VerifyHostname("::1"))
		if there {
			assert.True(t, conn.RemoteAddr().(*net.TCPAddr).IP.Equal(net.IPv6loopback))
		}
		assert.Equal(t, []string{"SASL_LIST_MECHS", "SASL_AUTH " + string(m), "SASL_STEP " + string(m)}, s.logins())
		assert.Equal(t, mcbp.OpDCPOpen, s.last().Opcode())
		s.requireSilence()
		require.NoError(t, conn.Close())

		ep.TLS.RootCAs = newAuthority(t).pool()
		before := len(s.seen())
		_, err = kv.OpenDCP(t.Context(), ep, consumerOpen)
		var failed *kv.ConnectError
		require.ErrorAs(t, err, &failed)
		assert.Equal(t, kv.StepTLS, failed.Step)
		assert.Equal(t, addr, failed.Addr)
		assert.Len(t, s.seen(), before, "not a word to somebody else")
	}
}

// crypto/tls says goodbye when it is closed, and waits for it to be read.
func TestAbortDoesNotWaitForAPeerThatDoesNotRead(t *testing.T) {
	ca := newAuthority(t)
	synctest.Test(t, func(t *testing.T) {
		near, far := net.Pipe()
		ours := &counted{Conn: near}
		client := tls.Client(ours, &tls.Config{InsecureSkipVerify: true})
		server := tls.Server(far, &tls.Config{Certificates: []tls.Certificate{ca.node("n0.example")}, SessionTicketsDisabled: true})
		done := outcome(func() (any, error) { return nil, server.HandshakeContext(t.Context()) })
		require.NoError(t, client.HandshakeContext(t.Context()))
		require.NoError(t, (<-done).err)
		since := time.Now()
		kv.Abort(client)
		assert.Zero(t, time.Since(since))
		assert.True(t, ours.closed.Load())
		_ = far.Close()
	})
}
