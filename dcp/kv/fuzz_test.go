package kv

import (
	"bufio"
	"bytes"
	"context"
	"encoding/hex"
	"errors"
	"io"
	"net"
	"os"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/shearpin/shearpin/dcp/mcbp"
)

// tape is a peer that says what it has to say, a few bytes at a time, whatever it is told.
type tape struct {
	net.Conn // nil: nothing else may be used
	says     *bytes.Reader
	few      int
	sent     int
	closed   bool
}

func (p *tape) Read(b []byte) (int, error)      { return p.says.Read(b[:min(len(b), p.few)]) }
func (p *tape) Write(b []byte) (int, error)     { p.sent += len(b); return len(b), nil }
func (p *tape) Close() error                    { p.closed = true; return nil }
func (p *tape) SetDeadline(time.Time) error     { return nil }
func (p *tape) RemoteAddr() net.Addr            { return &net.TCPAddr{IP: net.IPv6loopback, Port: 11210} }
func (p *tape) SetReadDeadline(time.Time) error { return nil }

// endpoint is one that leads to the tape.
func (p *tape) endpoint(mechanisms ...Mechanism) Endpoint {
	return Endpoint{
		Node: "n0", Addr: "[::1]:11210", Credentials: Credentials{User: "user", Password: "battery-staple"}, Mechanisms: mechanisms,
		Dial: func(context.Context, string, string) (net.Conn, error) { return p, nil },
	}
}

// FuzzHandshake lets a peer say anything. Whatever it is, connecting ends, with a connection or a typed error that does not
// repeat the password; it reads no byte more than it needs, asks for little memory, and closes what it does not hand over.
func FuzzHandshake(f *testing.F) {
	for _, answers := range recordedAnswers(f) {
		f.Add(answers, false, uint8(1))
		f.Add(answers, false, uint8(255))
		f.Add(answers[:len(answers)/2], false, uint8(7))
		list := (&mcbp.Packet{Magic: mcbp.MagicResponse, Opcode: mcbp.OpSASLListMechs, Opaque: mcbp.OpaqueFromUint32(1), Value: []byte("PLAIN SCRAM-SHA1")}).Frame()
		f.Add([]byte(append(list, answers...)), true, uint8(24))
	}
	challenge := mcbp.Packet{
		Magic: mcbp.MagicResponse, Opcode: mcbp.OpSASLAuth, Opaque: mcbp.OpaqueFromUint32(2), Status: mcbp.StatusAuthContinue,
		Value: []byte("r=x,s=c2FsdA==,i=4096"),
	}
	f.Add([]byte(challenge.Frame()), true, uint8(3))
	f.Add([]byte("HTTP/1.1 400 Bad Request\r\n\r\n"), true, uint8(100))
	f.Fuzz(func(t *testing.T, says []byte, list bool, few uint8) {
		peer := &tape{says: bytes.NewReader(says), few: 1 + int(few)}
		ep := peer.endpoint(Plain)
		if list {
			ep = peer.endpoint()
		}
		conn, err := OpenDCP(t.Context(), ep, DCPOpen{Bucket: "default", Name: "a name", Role: Producer})
		if err == nil {
			if conn != net.Conn(peer) || peer.closed {
				t.Fatal("not the connection, or a closed one")
			}
			if left := peer.says.Len(); !list && left != len(says)-consumed(says, 4) {
				t.Fatalf("%d bytes of %d are left", left, len(says))
			}
			return
		}
		if conn != nil || !peer.closed {
			t.Fatal("an error, and the connection is open")
		}
		var failed *ConnectError
		if !errors.As(err, &failed) || failed.Step == "" || failed.Node != "n0" {
			t.Fatalf("an error of no kind: %v", err)
		}
		if strings.Contains(err.Error(), "battery") || strings.Contains(err.Error(), hex.EncodeToString([]byte("battery"))) {
			t.Fatalf("the password is in it: %v", err)
		}
		if peer.sent > 2000 {
			t.Fatalf("%d bytes were sent to a peer that failed", peer.sent)
		}
	})
}

// FuzzScramChallenge lets a node challenge us with anything. It is answered with a proof, or refused with a reason in our own
// words; a challenge that would be much work is refused.
func FuzzScramChallenge(f *testing.F) {
	for _, rest := range []string{
		"x,s=c2FsdA==,i=4096", "x,s=c2FsdA==,i=1048577", "x,s=,i=4096", ",s=c2FsdA==,i=4096", "x,s=c2FsdA==", "x,s=c2FsdA==,i=4096,x=1", "x,m=1,s=c2FsdA==,i=4096",
	} {
		f.Add(true, rest)
		f.Add(false, "r="+rest)
	}
	f.Fuzz(func(t *testing.T, extends bool, rest string) {
		c, _, err := newScramConversation(ScramSHA1, Credentials{User: "user", Password: "battery-staple"})
		if err != nil {
			t.Fatal(err)
		}
		challenge := rest
		if extends {
			challenge = "r=" + c.nonce + rest
		}
		if _, iterations, _ := strings.Cut(challenge, ",i="); len(iterations) > 4 {
			if why := badChallenge(challenge, c.nonce); why != "" && len(why) > 100 {
				t.Fatalf("%q", why)
			}
			return // the work would only be slow
		}
		proof, why := c.answer(challenge)
		if (proof == "") == (why == "") || len(why) > 100 {
			t.Fatalf("proof %q, and why not %q", proof, why)
		}
		if err := c.verify(rest); !errors.Is(err, ErrServerUnproven) {
			t.Fatalf("%v", err)
		}
	})
}

// consumed is the length of the first n frames.
func consumed(b []byte, n int) (length int) {
	for range n {
		l, err := mcbp.FrameLen(b[length:], maxHandshakeBody)
		if err != nil {
			return -1
		}
		length += l
	}
	return length
}

// recordedAnswers are those that real engines gave, with our opaques, one after the other.
func recordedAnswers(t testing.TB) (all [][]byte) {
	t.Helper()
	file, err := os.Open("testdata/handshakes.txt")
	require.NoError(t, err)
	defer func() { require.NoError(t, file.Close()) }()
	opaque := uint32(0)
	for lines := bufio.NewScanner(file); lines.Scan(); {
		mark, rest, _ := strings.Cut(lines.Text(), " ")
		switch mark {
		case "#":
			all, opaque = append(all, nil), 0
		case "<":
			frame, err := hex.DecodeString(rest)
			require.NoError(t, err)
			opaque++
			o := mcbp.OpaqueFromUint32(opaque)
			copy(frame[12:], o[:])
			all[len(all)-1] = append(all[len(all)-1], frame...)
		}
	}
	return all
}

// The recorded answers are good ones; without this the fuzzer might know no way in.
func TestTheFuzzersSeedsOpenAConnection(t *testing.T) {
	for _, says := range recordedAnswers(t) {
		peer := &tape{says: bytes.NewReader(append(says, "and what follows"...)), few: 3}
		conn, err := OpenDCP(t.Context(), peer.endpoint(Plain), DCPOpen{Bucket: "default", Name: "a name", Role: Producer})
		require.NoError(t, err)
		rest, err := io.ReadAll(conn)
		require.NoError(t, err)
		assert.Equal(t, "and what follows", string(rest))
	}
}

// A length is believed up to the limit, and memory is taken only for that.
func TestAHugeLengthCostsNoMemory(t *testing.T) {
	header := mcbp.Frame(make([]byte, mcbp.HeaderLen))
	header[0] = byte(mcbp.MagicResponse)
	allocated := func(claim uint32) uint64 {
		header[8], header[9], header[10], header[11] = byte(claim>>24), byte(claim>>16), byte(claim>>8), byte(claim)
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		for range 100 {
			_, err := readFrame(bytes.NewReader(header), maxHandshakeBody)
			require.Error(t, err)
		}
		runtime.ReadMemStats(&after)
		return (after.TotalAlloc - before.TotalAlloc) / 100
	}
	assert.Less(t, allocated(1<<32-1), uint64(4<<10))
	assert.Less(t, allocated(maxHandshakeBody+1), uint64(4<<10))
	assert.Less(t, allocated(maxHandshakeBody), uint64(2*maxHandshakeBody))
}
