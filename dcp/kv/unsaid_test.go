package kv_test

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"net"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/shearpin/shearpin/dcp/kv"
	"github.com/shearpin/shearpin/dcp/mcbp"
)

var shownHeader = regexp.MustCompile(`header ([0-9a-f]{48})`)

// requireUnsaid fails if an error shows n bytes in a row of what must not be said, or a number made of four of them.
func requireUnsaid(t *testing.T, err error, words string, n int) {
	t.Helper()
	text := fmt.Sprintf("%v %+v %#v %q", err, err, err, err)
	require.NotContains(t, text, words)
	for _, shown := range shownHeader.FindAllStringSubmatch(text, -1) {
		header, err := hex.DecodeString(shown[1])
		require.NoError(t, err)
		for at := range max(0, len(words)-n+1) {
			require.NotContains(t, string(header), words[at:at+n], "%s", text)
		}
	}
	for at := range max(0, len(words)-3) {
		require.NotContains(t, text, fmt.Sprint(binary.BigEndian.Uint32([]byte(words[at:]))), text)
	}
}

// Peers that have no idea of the protocol may send back what they did not understand, at once or later, from any byte on. Some of
// its bytes may look like the beginning of a frame.
func TestAMalformedFrameThatRepeatsALoginIsNotShown(t *testing.T) {
	const words = "p\u00c0ssw\u00f6rd-\u0100-correct-horse-battery-\u0081-staple-\u0103-x"
	for _, m := range []kv.Mechanism{kv.Plain, kv.ScramSHA1} {
		s := newServer(t)
		s.user, s.password = "us", words
		s.closed = make(chan struct{}, 10_000) // nobody waits for them
		s.scram(m)
		if m == kv.Plain {
			s.on(mcbp.OpSASLAuth, status(mcbp.StatusSuccess))
		}
		ep := s.endpoint()
		ep.Mechanisms = []kv.Mechanism{m}
		ops := []mcbp.Opcode{mcbp.OpSelectBucket, mcbp.OpHello, mcbp.OpDCPOpen, mcbp.OpNoop}
		last := mcbp.OpSASLAuth
		if m == kv.ScramSHA1 {
			last, ops = mcbp.OpSASLStep, ops[2:]
		}
		for _, op := range append(ops, last) {
			normal := s.replies[op]
			for at := 1; ; at++ {
				var repeated []byte
				s.on(op, func(net.Conn, mcbp.Frame) [][]byte {
					for _, f := range s.seen() {
						if f.Opcode() == last {
							repeated = f
						}
					}
					repeated = repeated[min(at, len(repeated)):]
					return [][]byte{repeated, bytes.Repeat([]byte{0xff}, mcbp.HeaderLen)}
				})
				err := attempt(t, ep)
				require.Error(t, err)
				requireUnsaid(t, err, words, 2)
				if m == kv.ScramSHA1 {
					requireUnsaid(t, err, string(s.proof()), 4)
				}
				if len(repeated) == 0 {
					break
				}
			}
			s.on(op, normal)
		}
	}
}

// attempt does all that a connection can be for, and returns the first error.
func attempt(t *testing.T, ep kv.Endpoint) error {
	t.Helper()
	conn, err := kv.OpenDCP(t.Context(), ep, consumerOpen)
	if err != nil {
		return err
	}
	require.NoError(t, conn.Close())
	c, err := kv.Connect(t.Context(), ep, "orders")
	if err != nil {
		return err
	}
	defer c.Close()
	_, err = c.Do(t.Context(), &mcbp.Packet{Opcode: mcbp.OpNoop})
	return err
}

// proof is the last part of the last SCRAM message.
func (s *server) proof() (p []byte) {
	for _, f := range s.seen() {
		if f.Opcode() == mcbp.OpSASLStep {
			_, proof, _ := strings.Cut(string(f.Value()), ",p=")
			p = []byte(proof)
		}
	}
	return p
}

// What has nothing to do with the login is shown, whoever logged in.
func TestAMalformedFrameShowsItsHeader(t *testing.T) {
	s := newServer(t)
	s.on(mcbp.OpNoop, header(0, 0x7f))
	_, err := s.connect().Do(t.Context(), &mcbp.Packet{Opcode: mcbp.OpNoop})
	isMalformed(t, err)
	assert.ErrorContains(t, err, "unknown magic (header 7f0a0000")
	s.on(mcbp.OpHello, header(0, 0x7f))
	_, err = kv.Connect(t.Context(), s.endpoint(), "orders")
	assert.ErrorContains(t, err, "unknown magic (header 7f1f0000")
}
