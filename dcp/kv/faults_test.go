package kv_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"github.com/xdg-go/scram"
	"go.uber.org/goleak"

	"github.com/shearpin/shearpin/dcp/kv"
	"github.com/shearpin/shearpin/dcp/mcbp"
)

// exchanges are all that a handshake consists of, with the step that each belongs to.
var exchanges = []struct {
	op   mcbp.Opcode
	step string
}{
	{mcbp.OpSASLListMechs, kv.StepSASL},
	{mcbp.OpSASLAuth, kv.StepSASL},
	{mcbp.OpSASLStep, kv.StepSASL},
	{mcbp.OpSelectBucket, kv.StepSelectBucket},
	{mcbp.OpHello, kv.StepHello},
	{mcbp.OpDCPOpen, kv.StepDCPOpen},
}

// raw answers with a good answer that change has spoilt.
func raw(change func(f mcbp.Frame) []byte) reply {
	return func(_ net.Conn, request mcbp.Frame) [][]byte {
		return [][]byte{change(answer(request, mcbp.Packet{})[0])}
	}
}

func header(at int, b ...byte) reply {
	return raw(func(f mcbp.Frame) []byte {
		copy(f[at:], b)
		return f
	})
}

// trickle sends an answer one byte a second.
func trickle(p mcbp.Packet) reply {
	return func(conn net.Conn, request mcbp.Frame) [][]byte {
		for _, b := range answer(request, p)[0] {
			<-time.After(time.Second)
			if _, err := conn.Write([]byte{b}); err != nil {
				return nil
			}
		}
		return nil
	}
}

func isDeadline(t *testing.T, err error) {
	t.Helper()
	assert.ErrorIs(t, err, context.DeadlineExceeded)
}

func isMalformed(t *testing.T, err error) {
	t.Helper()
	var malformed *mcbp.MalformedError
	assert.ErrorAs(t, err, &malformed)
}

func isProtocol(t *testing.T, err error) {
	t.Helper()
	var protocol *kv.ProtocolError
	assert.ErrorAs(t, err, &protocol)
}

// Each exchange, gone wrong in each way, ends in time with an error that names the step, the peer and what was wrong, closes
// the connection, and leaves no goroutine behind: the bubble would not end.
func TestEveryStepFailsByNameAndInTime(t *testing.T) {
	const timeout = 3 * time.Second
	faults := map[string]struct {
		reply reply
		takes time.Duration
		check func(t *testing.T, err error)
	}{
		"silent":                {silence, timeout, isDeadline},
		"trickling":             {trickle(mcbp.Packet{}), timeout, isDeadline},
		"trickling in the body": {trickle(mcbp.Packet{Value: make([]byte, 1000)}), timeout, isDeadline},
		"trickling without end": {func(conn net.Conn, _ mcbp.Frame) [][]byte {
			head := mcbp.Packet{Magic: mcbp.MagicResponse, Value: make([]byte, 1000)}
			for at := 0; ; at = (at + 1) % mcbp.HeaderLen {
				if _, err := conn.Write(head.Frame()[at : at+1]); err != nil {
					return nil
				}
				<-time.After(time.Second)
			}
		}, timeout, isDeadline},
		"garbage": {func(net.Conn, mcbp.Frame) [][]byte {
			return [][]byte{[]byte("HTTP/1.1 400 Bad Request\r\n\r\n")}
		}, 0, isMalformed},
		"too long":       {value(make([]byte, 1<<20)), 0, isMalformed},
		"endless":        {header(8, 0xff, 0xff, 0xff, 0xff), 0, isMalformed},
		"parts too long": {header(2, 0xff, 0xff), 0, isMalformed},
		"refused": {func(_ net.Conn, request mcbp.Frame) [][]byte {
			return answer(request, mcbp.Packet{Status: mcbp.StatusAuthError, Value: request.Value()}) // repeats our words
		}, 0, func(t *testing.T, err error) {
			var refused *kv.StatusError
			if assert.ErrorAs(t, err, &refused) {
				assert.Equal(t, mcbp.StatusAuthError, refused.Status)
				assert.Empty(t, refused.Message)
			}
		}},
		"unheard-of status":                       {status(0xbeef), 0, func(t *testing.T, err error) { assert.ErrorIs(t, err, mcbp.Status(0xbeef)) }},
		"another opaque":                          {header(12, 9, 9, 9, 9), 0, isProtocol},
		"another command":                         {header(1, byte(mcbp.OpNoop)), 0, isProtocol},
		"magic of a request":                      {header(0, byte(mcbp.MagicRequest)), 0, isProtocol},
		"magic of a request, client's side":       {header(0, byte(mcbp.MagicServerRequest)), 0, isProtocol},
		"magic of a response, client's side":      {header(0, byte(mcbp.MagicServerResponse)), 0, isProtocol},
		"magic of a response with framing extras": {header(0, byte(mcbp.MagicFramingResponse)), 0, isProtocol},
		"no magic at all":                         {header(0, 0x7f), 0, isMalformed},
		"our own request": {func(_ net.Conn, request mcbp.Frame) [][]byte { return [][]byte{request} }, 0, func(t *testing.T, err error) {
			assert.Error(t, err)
		}},
		"closed": {func(conn net.Conn, _ mcbp.Frame) [][]byte {
			_ = conn.Close()
			return nil
		}, 0, func(t *testing.T, err error) { assert.ErrorIs(t, err, io.EOF) }},
		"closed in the header": {func(conn net.Conn, request mcbp.Frame) [][]byte {
			_, _ = conn.Write(answer(request, mcbp.Packet{})[0][:5])
			_ = conn.Close()
			return nil
		}, 0, func(t *testing.T, err error) { assert.ErrorIs(t, err, io.ErrUnexpectedEOF) }},
		"closed half-way": {func(conn net.Conn, request mcbp.Frame) [][]byte {
			_, _ = conn.Write(answer(request, mcbp.Packet{Value: make([]byte, 8)})[0][:mcbp.HeaderLen])
			_ = conn.Close()
			return nil
		}, 0, func(t *testing.T, err error) { assert.ErrorIs(t, err, io.ErrUnexpectedEOF) }},
	}
	for name, fault := range faults {
		for _, exchange := range exchanges {
			t.Run(name+"/"+exchange.op.String(), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					s := newServer(t)
					s.scram(kv.ScramSHA1)
					s.on(exchange.op, fault.reply)
					ep := s.endpoint()
					ep.StepTimeout = timeout
					since := time.Now()
					_, err := kv.OpenDCP(t.Context(), ep, consumerOpen)
					assert.Equal(t, fault.takes, time.Since(since))
					assert.Equal(t, exchange.step, step(t, err))
					fault.check(t, err)
					<-s.closed
					s.requireNoSockets()
					assert.Equal(t, exchange.op, s.last().Opcode(), "nothing is sent after the fault")
				})
			})
		}
	}
}

// A reset can only be had from a real socket.
func TestAPeerThatResetsCostsOneAttempt(t *testing.T) {
	for _, exchange := range exchanges {
		t.Run(exchange.op.String(), func(t *testing.T) {
			before := goleak.IgnoreCurrent()
			s := newServer(t)
			s.listen()
			s.scram(kv.ScramSHA1)
			s.on(exchange.op, func(conn net.Conn, _ mcbp.Frame) [][]byte {
				_ = conn.(*net.TCPConn).SetLinger(0)
				_ = conn.Close()
				return nil
			})
			_, err := kv.OpenDCP(t.Context(), s.endpoint(), consumerOpen)
			assert.Equal(t, exchange.step, step(t, err))
			assert.ErrorIs(t, err, syscall.ECONNRESET)
			<-s.closed
			s.requireNoSockets()
			s.wg.Wait()
			goleak.VerifyNone(t, before)
		})
	}
}

// A step may take several exchanges; its deadline is one.
func TestAStepHasOneDeadlineForAllItsExchanges(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newServer(t)
		s.scram(kv.ScramSHA1)
		for _, op := range []mcbp.Opcode{mcbp.OpSASLListMechs, mcbp.OpSASLAuth, mcbp.OpSASLStep} {
			at := s.replies[op]
			s.on(op, func(conn net.Conn, request mcbp.Frame) [][]byte {
				<-time.After(4 * time.Second)
				return at(conn, request)
			})
		}
		since := time.Now()
		_, err := kv.OpenDCP(t.Context(), s.endpoint(), consumerOpen)
		assert.Equal(t, kv.StepSASL, step(t, err))
		isDeadline(t, err)
		assert.Equal(t, kv.DefaultStepTimeout, time.Since(since))
		assert.Equal(t, mcbp.OpSASLStep, s.last().Opcode())
	})
}

// deaf is a connection that knows no deadlines, as those through some proxies.
type deaf struct{ net.Conn }

func (deaf) SetDeadline(time.Time) error { return errors.ErrUnsupported }

func TestAConnectionWithoutDeadlinesIsClosedInstead(t *testing.T) {
	for _, exchange := range exchanges {
		t.Run(exchange.op.String(), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := newServer(t)
				s.scram(kv.ScramSHA1)
				s.wrap = func(near, far net.Conn) (net.Conn, net.Conn) { return deaf{near}, far }
				s.on(exchange.op, silence)
				since := time.Now()
				_, err := kv.OpenDCP(t.Context(), s.endpoint(), consumerOpen)
				assert.Equal(t, exchange.step, step(t, err))
				isDeadline(t, err)
				assert.Equal(t, kv.DefaultStepTimeout, time.Since(since))
				s.requireNoSockets()
			})
		})
	}
}

func TestADialerThatGivesNothingIsAnError(t *testing.T) {
	ep := kv.Endpoint{Node: "n0", Addr: "n0.example:11210"}
	ep.Dial = func(context.Context, string, string) (net.Conn, error) { return nil, nil } //nolint:nilnil // the mistake
	_, err := kv.Connect(t.Context(), ep, "")
	assert.Equal(t, kv.StepDial, step(t, err))
}

func TestADialerThatComesTooLateFailsTheDialAndItsConnectionIsClosed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newServer(t)
		ep := s.endpoint()
		ep.Dial = func(ctx context.Context, network, addr string) (net.Conn, error) {
			<-ctx.Done()
			return s.dial(ctx, network, addr)
		}
		_, err := kv.Connect(t.Context(), ep, "orders")
		assert.Equal(t, kv.StepDial, step(t, err))
		isDeadline(t, err)
		<-s.closed
		s.requireNoSockets()
		assert.Empty(t, s.seen())
	})
}

// scram makes the server list mechanisms, and log in who proves to know the password by one of the SCRAM ones among them.
func (s *server) scram(list ...kv.Mechanism) {
	hashes := map[kv.Mechanism]scram.HashGeneratorFcn{
		kv.ScramSHA512: scram.SHA512, kv.ScramSHA256: scram.SHA256, kv.ScramSHA1: scram.SHA1,
	}
	var mu sync.Mutex
	logins := map[net.Conn]*scram.ServerConversation{}
	s.on(mcbp.OpSASLListMechs, func(_ net.Conn, request mcbp.Frame) [][]byte {
		var words [][]byte
		for _, m := range list {
			words = append(words, []byte(m))
		}
		return answer(request, mcbp.Packet{Value: bytes.Join(words, []byte(" "))})
	})
	respond := func(conn net.Conn, request mcbp.Frame, good mcbp.Status) [][]byte {
		mu.Lock()
		defer mu.Unlock()
		text, err := logins[conn].Step(string(request.Value()))
		if err != nil {
			return answer(request, mcbp.Packet{Status: mcbp.StatusAuthError})
		}
		return answer(request, mcbp.Packet{Status: good, Value: []byte(text)})
	}
	s.on(mcbp.OpSASLAuth, func(conn net.Conn, request mcbp.Frame) [][]byte {
		m := kv.Mechanism(request.Key())
		hash, known := hashes[m]
		if !known {
			return answer(request, mcbp.Packet{Status: mcbp.StatusAuthError})
		}
		mu.Lock()
		logins[conn] = newLogin(s.t, m, hash, s.user, s.password)
		mu.Unlock()
		return respond(conn, request, mcbp.StatusAuthContinue)
	})
	s.on(mcbp.OpSASLStep, func(conn net.Conn, request mcbp.Frame) [][]byte { return respond(conn, request, mcbp.StatusSuccess) })
}

// accounts are what a node would have stored for each mechanism and user: it takes its time to derive.
var accounts sync.Map

// newLogin is a node's side of SCRAM for one account.
func newLogin(t testing.TB, m kv.Mechanism, hash scram.HashGeneratorFcn, user, password string) *scram.ServerConversation {
	key := [3]string{string(m), user, password}
	if _, known := accounts.Load(key); !known {
		account, err := hash.NewClientUnprepped(user, password, "")
		require.NoError(t, err)
		stored, err := account.GetStoredCredentialsWithError(scram.KeyFactors{Salt: "salt", Iters: 4096})
		require.NoError(t, err)
		accounts.Store(key, stored)
	}
	server, err := hash.NewServer(func(name string) (scram.StoredCredentials, error) {
		stored, known := accounts.Load([3]string{string(m), name, password})
		if !known {
			return scram.StoredCredentials{}, errors.New("nobody of that name")
		}
		return stored.(scram.StoredCredentials), nil
	})
	require.NoError(t, err)
	return server.NewConversation()
}

// The length in a header is what a peer says, not what it costs us.
func TestAHugeLengthIsRefusedWhateverItSays(t *testing.T) {
	for _, claim := range []uint32{64<<10 + 1, 1 << 20, 1 << 31, 1<<32 - 1} {
		s := newServer(t)
		s.on(mcbp.OpSASLAuth, raw(func(f mcbp.Frame) []byte {
			binary.BigEndian.PutUint32(f[8:], claim)
			return f
		}))
		_, err := kv.Connect(t.Context(), s.endpoint(), "orders")
		assert.Equal(t, kv.StepSASL, step(t, err))
		isMalformed(t, err)
	}
}
