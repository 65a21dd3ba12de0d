package kv_test

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/shearpin/shearpin/dcp/kv"
	"github.com/shearpin/shearpin/dcp/mcbp"
)

var consumerOpen = kv.DCPOpen{
	Bucket: "default", Name: "replication:n_A@127.0.0.1->n_B@127.0.0.1:default", Role: kv.Consumer, ConsumerName: "n_B@127.0.0.1",
}

var producerOpen = kv.DCPOpen{Bucket: consumerOpen.Bucket, Name: consumerOpen.Name, Role: kv.Producer}

// recorded is one handshake of testdata: requests and answers in turn.
type recorded struct {
	title             string
	requests, answers []mcbp.Frame
}

func recordings(t *testing.T) (all []recorded) {
	t.Helper()
	file, err := os.Open("testdata/handshakes.txt")
	require.NoError(t, err)
	defer func() { require.NoError(t, file.Close()) }()
	lines := bufio.NewScanner(file)
	for lines.Scan() {
		mark, rest, _ := strings.Cut(lines.Text(), " ")
		if mark == "#" {
			all = append(all, recorded{title: rest})
			continue
		}
		f, err := hex.DecodeString(rest)
		require.NoError(t, err)
		r := &all[len(all)-1]
		if mark == ">" {
			r.requests = append(r.requests, f)
		} else {
			r.answers = append(r.answers, f)
		}
	}
	require.NoError(t, lines.Err())
	return all
}

// We must send what opened a connection to real engines, but for the opaques, the agent's name and white space in JSON;
// and the engines' own answers must satisfy us.
func TestOpenDCPSaysWhatRealEnginesWereTold(t *testing.T) {
	all := recordings(t)
	require.Len(t, all, 4)
	for _, r := range all {
		t.Run(r.title, func(t *testing.T) {
			require.Len(t, r.requests, 4)
			open, agent := consumerOpen, "shearpin:proxy-consumer/"+consumerOpen.Name
			if strings.Contains(r.title, "producer") {
				open, agent = producerOpen, "shearpin:proxy-producer/"+producerOpen.Name
			}
			s := newServer(t)
			for _, f := range r.answers {
				s.on(f.Opcode(), func(_ net.Conn, request mcbp.Frame) [][]byte {
					out := append(mcbp.Frame(nil), f...)
					opaque := request.Opaque()
					copy(out[12:], opaque[:])
					return [][]byte{out}
				})
			}
			ep := s.endpoint()
			_, secret, _ := bytes.Cut(r.requests[0].Value()[1:], []byte{0})
			ep.Credentials = kv.Credentials{User: "@ns_server", Password: string(secret)}
			ep.Mechanisms = []kv.Mechanism{kv.Plain}
			conn, err := kv.OpenDCP(t.Context(), ep, open)
			require.NoError(t, err)
			require.NoError(t, conn.Close())

			got := s.seen()
			require.Len(t, got, 4)
			for i, want := range r.requests {
				assert.Equal(t, want.Opcode(), got[i].Opcode())
				assert.Equal(t, want.Extras(), got[i].Extras())
				assert.Equal(t, want.Datatype(), got[i].Datatype())
				assert.Equal(t, want.VBucket(), got[i].VBucket())
				if want.Opcode() == mcbp.OpHello {
					assert.Equal(t, agent, string(got[i].Key()))
					assert.ElementsMatch(t, features(want), features(got[i]))
					continue
				}
				assert.Equal(t, want.Key(), got[i].Key())
				if want.Datatype() == mcbp.DatatypeJSON {
					assert.JSONEq(t, string(want.Value()), string(got[i].Value()))
				} else {
					assert.Equal(t, want.Value(), got[i].Value())
				}
			}
		})
	}
}

func features(f mcbp.Frame) (all []string) {
	for v := f.Value(); len(v) >= 2; v = v[2:] {
		all = append(all, hex.EncodeToString(v[:2]))
	}
	return all
}

func TestOpenDCPReadsNothingBeyondTheAnswer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newServer(t)
		next := (&mcbp.Packet{Opcode: mcbp.OpDCPNoop, Opaque: mcbp.Opaque{1, 2, 3, 4}}).Frame()
		s.on(mcbp.OpDCPOpen, func(_ net.Conn, request mcbp.Frame) [][]byte {
			return append(answer(request, mcbp.Packet{}), next)
		})
		conn, err := kv.OpenDCP(t.Context(), s.endpoint(), producerOpen)
		require.NoError(t, err)
		<-time.After(10 * kv.DefaultStepTimeout) // no deadline is left behind
		got := make([]byte, len(next))
		_, err = io.ReadFull(conn, got)
		require.NoError(t, err)
		assert.Equal(t, []byte(next), got)
		require.NoError(t, conn.Close())
	})
}

func TestOnlySnappyMayBeRefusedByADCPConnection(t *testing.T) {
	for _, refused := range []mcbp.Feature{mcbp.FeatureXattr, mcbp.FeatureCollections, mcbp.FeatureJSON, mcbp.FeatureSnappy} {
		s := newServer(t)
		s.on(mcbp.OpHello, func(_ net.Conn, request mcbp.Frame) [][]byte {
			var granted []byte
			for v := request.Value(); len(v) >= 2; v = v[2:] {
				if mcbp.Feature(v[1]) != refused {
					granted = append(granted, v[:2]...)
				}
			}
			return answer(request, mcbp.Packet{Value: granted})
		})
		conn, err := kv.OpenDCP(t.Context(), s.endpoint(), consumerOpen)
		if refused == mcbp.FeatureSnappy {
			require.NoError(t, err)
			require.NoError(t, conn.Close())
			continue
		}
		var missing *kv.FeatureError
		require.ErrorAs(t, err, &missing)
		assert.Equal(t, []mcbp.Feature{refused}, missing.Missing)
		assert.Equal(t, kv.StepHello, step(t, err))
	}
}

func TestAgentNameIsCutAt250Bytes(t *testing.T) {
	s := newServer(t)
	open := consumerOpen
	open.Name = strings.Repeat("n", mcbp.MaxConnectionNameLen)
	conn, err := kv.OpenDCP(t.Context(), s.endpoint(), open)
	require.NoError(t, err)
	require.NoError(t, conn.Close())
	requests := s.seen()
	hello := slices.IndexFunc(requests, func(f mcbp.Frame) bool { return f.Opcode() == mcbp.OpHello })
	assert.Len(t, requests[hello].Key(), len("shearpin:proxy-consumer/")+mcbp.MaxConnectionNameLen)

	open.Name = strings.Repeat("n", 300)
	_, err = kv.OpenDCP(t.Context(), s.endpoint(), open)
	assert.Equal(t, kv.StepDCPOpen, step(t, err))
	assert.Len(t, s.last().Key(), mcbp.MaxAgentNameLen)
}

// step is the step that a ConnectError names, after checking the rest of it.
func step(t *testing.T, err error) string {
	t.Helper()
	var failed *kv.ConnectError
	require.ErrorAs(t, err, &failed)
	assert.Equal(t, "n0", failed.Node)
	assert.Equal(t, "n0.example:11210", failed.Addr)
	assert.NotContains(t, fmt.Sprintf("%v %+v %#v %q", err, err, err, err), password)
	return failed.Step
}

var steps = map[string]mcbp.Opcode{
	kv.StepSASL: mcbp.OpSASLAuth, kv.StepSelectBucket: mcbp.OpSelectBucket, kv.StepHello: mcbp.OpHello, kv.StepDCPOpen: mcbp.OpDCPOpen,
}

func TestPeerThatDoesNotEvenReadFailsInTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		near, far := net.Pipe()
		ep := kv.Endpoint{Node: "n0", Addr: "n0.example:11210", Credentials: kv.Credentials{User: "u"}}
		ep.Dial = func(context.Context, string, string) (net.Conn, error) { return near, nil }
		since := time.Now()
		_, err := kv.Connect(t.Context(), ep, "")
		assert.Equal(t, kv.StepSASL, step(t, err))
		assert.Equal(t, kv.DefaultStepTimeout, time.Since(since))
		require.NoError(t, far.Close())
	})
}

func TestDialFailsByNameAndInTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ep := kv.Endpoint{Node: "n0", Addr: "n0.example:11210"}
		ep.Dial = func(ctx context.Context, _, _ string) (net.Conn, error) {
			<-ctx.Done()
			return nil, ctx.Err()
		}
		since := time.Now()
		_, err := kv.Connect(t.Context(), ep, "")
		assert.Equal(t, kv.StepDial, step(t, err))
		assert.ErrorIs(t, err, context.DeadlineExceeded)
		assert.Equal(t, kv.DefaultStepTimeout, time.Since(since))
	})
}

func TestConnectingEndsWithItsContext(t *testing.T) {
	for stepName, op := range steps {
		t.Run(stepName, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				reason := errors.New("superseded")
				ctx, cancel := context.WithCancelCause(t.Context())
				s := newServer(t)
				s.on(op, func(net.Conn, mcbp.Frame) [][]byte {
					cancel(reason)
					return nil
				})
				since := time.Now()
				_, err := kv.OpenDCP(ctx, s.endpoint(), consumerOpen)
				assert.Equal(t, stepName, step(t, err))
				assert.ErrorIs(t, err, reason)
				assert.Zero(t, time.Since(since))
				<-s.closed
			})
		})
	}
}

// far makes a connection look as if it led to another machine.
type farAway struct{ net.Conn }

func (farAway) RemoteAddr() net.Addr { return &net.TCPAddr{IP: net.IPv4(192, 0, 2, 1), Port: 11210} }

type loopback struct{ net.Conn }

func (loopback) RemoteAddr() net.Addr { return &net.TCPAddr{IP: net.IPv6loopback, Port: 11210} }

func TestPasswordIsNotSentWhereOthersCanListen(t *testing.T) {
	s := newServer(t)
	s.wrap = func(near, far net.Conn) (net.Conn, net.Conn) { return farAway{near}, far }
	ep := s.endpoint()
	ep.Mechanisms = []kv.Mechanism{kv.Plain}
	_, err := kv.Connect(t.Context(), ep, "orders")
	assert.Equal(t, kv.StepSASL, step(t, err))
	assert.ErrorIs(t, err, kv.ErrPlainRefused)
	<-s.closed
	assert.Empty(t, s.seen(), "not one byte")

	ep.AllowPlainAuth = true
	c, err := kv.Connect(t.Context(), ep, "orders")
	require.NoError(t, err)
	require.NoError(t, c.Close())

	ep.AllowPlainAuth, ep.Credentials = false, kv.Credentials{}
	c, err = kv.Connect(t.Context(), ep, "orders")
	require.NoError(t, err, "without a user there is no password to protect")
	require.NoError(t, c.Close())

	s.wrap = func(near, far net.Conn) (net.Conn, net.Conn) { return loopback{near}, far }
	ep.Credentials = s.endpoint().Credentials
	c, err = kv.Connect(t.Context(), ep, "orders")
	require.NoError(t, err)
	require.NoError(t, c.Close())
}

func TestTLSVerifiesTheHostOfTheAddress(t *testing.T) {
	ca := newAuthority(t)
	cert, pool := ca.node("n0.example"), ca.pool()
	s := newServer(t)
	s.listen() // who refuses a certificate says so, at a moment when a pipe might block
	s.wrap = func(near, far net.Conn) (net.Conn, net.Conn) {
		return farAway{near}, tls.Server(far, &tls.Config{Certificates: []tls.Certificate{cert}})
	}
	ep := s.endpoint()
	ep.TLS = &tls.Config{RootCAs: pool}
	c, err := kv.Connect(t.Context(), ep, "orders")
	require.NoError(t, err, "PLAIN is allowed under TLS")
	require.NoError(t, c.Close())
	assert.Empty(t, ep.TLS.ServerName, "the caller's configuration is left alone")

	ep.Addr = "n1.example:11210"
	_, err = kv.Connect(t.Context(), ep, "orders")
	var failed *kv.ConnectError
	require.ErrorAs(t, err, &failed)
	assert.Equal(t, kv.StepTLS, failed.Step)
	var verification *tls.CertificateVerificationError
	assert.ErrorAs(t, err, &verification)
}

func TestTLSPeerThatStaysSilentFailsInTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		near, far := net.Pipe()
		go func() { _, _ = io.Copy(io.Discard, far) }()
		ep := kv.Endpoint{Node: "n0", Addr: "n0.example:11210", TLS: &tls.Config{}}
		ep.Dial = func(context.Context, string, string) (net.Conn, error) { return near, nil }
		since := time.Now()
		_, err := kv.Connect(t.Context(), ep, "")
		assert.Equal(t, kv.StepTLS, step(t, err))
		assert.Equal(t, kv.DefaultStepTimeout, time.Since(since))
		require.NoError(t, far.Close())
	})
}

func TestNukeOpensAConsumerOfTheNameAndClosesIt(t *testing.T) {
	s := newServer(t)
	require.NoError(t, kv.Nuke(t.Context(), s.endpoint(), "default", consumerOpen.Name))
	<-s.closed
	open := s.last()
	assert.Equal(t, mcbp.OpDCPOpen, open.Opcode())
	assert.Equal(t, consumerOpen.Name, string(open.Key()))
	assert.Equal(t, []byte{0, 0, 0, 0, 0, 0, 1, 0x24}, open.Extras())
}

// Only an OPEN that was answered has ended the older connection (kv-observed, Corrections and traps). One that was not may have
// been carried out: somebody opened the name again, say, and ended ours. A caller who has to be sure asks again.
func TestANukeThatIsNotAnsweredSaysThatNothingIsKnown(t *testing.T) {
	closed := func(conn net.Conn, _ mcbp.Frame) [][]byte {
		_ = conn.Close()
		return nil
	}
	for name, c := range map[string]struct {
		op    mcbp.Opcode
		reply reply
		cause error
		known bool
	}{
		"closed":            {mcbp.OpDCPOpen, closed, io.EOF, false},
		"silent":            {mcbp.OpDCPOpen, silence, context.DeadlineExceeded, false},
		"another answer":    {mcbp.OpDCPOpen, header(12, 9, 9, 9, 9), nil, false},
		"refused":           {mcbp.OpDCPOpen, status(mcbp.StatusNoAccess), mcbp.StatusNoAccess, true},
		"closed before it":  {mcbp.OpHello, closed, io.EOF, true},
		"refused before it": {mcbp.OpSelectBucket, status(mcbp.StatusKeyNotFound), mcbp.StatusKeyNotFound, true},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := newServer(t)
				s.on(c.op, c.reply)
				err := kv.Nuke(t.Context(), s.endpoint(), "default", consumerOpen.Name)
				step(t, err)
				if c.cause != nil {
					require.ErrorIs(t, err, c.cause)
				}
				assert.Equal(t, !c.known, errors.Is(err, kv.ErrNukeUnanswered), err)
				s.requireNoSockets()
			})
		})
	}
	s := newServer(t)
	err := kv.Nuke(t.Context(), s.endpoint(), "default", "")
	assert.Equal(t, kv.StepDCPOpen, step(t, err))
	assert.NotErrorIs(t, err, kv.ErrNukeUnanswered, "it was not even sent")
}
