package kvnode_test

import (
	"bufio"
	"bytes"
	"encoding/hex"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/shearpin/shearpin/dcp/kvnode"
	"github.com/shearpin/shearpin/dcp/mcbp"
)

// The conversations of testdata/observed are what real engines were seen to say, and the vectors of the protocol's
// description, byte by byte. A conversation begins with "=== name", has a node of its own, and a step a line:
//
//	node key=value …     before anything else: version=7.2, persistence=20ms
//	vb N state           the administrator sets a vbucket's state; "missing" deletes it
//	set N key value      the administrator writes a document; del N key deletes one
//	open C role [name]   a DCP connection C, with a consumer name if there is one
//	login C [feature …]  an ordinary connection C, with features in hex
//	C > frame            C sends a frame: hex, "text" and blanks; ".." is any byte, in frames that are expected
//	C < frame            the node says exactly this next
//	agree C              C plays a producer that accepts each setting, until the node asks for a stream
//	quiet C              the node has nothing to say
//	closed C             the node closes the connection, without another word
//	state N state        the vbucket has that state
//	seqno N seqno        the vbucket gets that high seqno
type script struct {
	t     *testing.T
	opts  []func(*kvnode.Options)
	n     *kvnode.Node
	admin *client
	conns map[string]*client
}

func TestObserved(t *testing.T) {
	files, err := filepath.Glob("testdata/observed/*.txt")
	require.NoError(t, err)
	require.NotEmpty(t, files)
	for _, file := range files {
		text, err := os.ReadFile(file)
		require.NoError(t, err)
		conversations := strings.Split("\n"+string(text), "\n=== ")[1:]
		require.NotEmpty(t, conversations, file)
		for _, conversation := range conversations {
			name, steps, _ := strings.Cut(conversation, "\n")
			t.Run(name, func(t *testing.T) {
				s := &script{t: t, conns: map[string]*client{}}
				for scanner := bufio.NewScanner(strings.NewReader(steps)); scanner.Scan(); {
					if line, _, _ := strings.Cut(scanner.Text(), "#"); strings.TrimSpace(line) != "" {
						s.step(line)
					}
				}
			})
		}
	}
}

func (s *script) step(line string) {
	s.t.Helper()
	words := strings.Fields(line)
	if words[0] == "node" {
		for _, word := range words[1:] {
			s.option(word)
		}
		return
	}
	if s.n == nil {
		s.n = startNode(s.t, "n0", s.opts...)
		s.admin = login(s.t, s.n)
	}
	if c := s.conns[words[0]]; c != nil {
		s.frame(c, line, words)
		return
	}
	switch words[0] {
	case "vb", "set", "del", "state", "seqno":
		s.administer(words)
	case "open":
		role, name := kvnode.RoleConsumer, ""
		if words[2] == "producer" {
			role = kvnode.RoleProducer
		}
		if len(words) > 3 {
			name = words[3]
		}
		s.conns[words[1]] = openDCP(s.t, s.n, role, "replication:"+words[1], name)
	case "login":
		var features []mcbp.Feature
		for _, word := range words[2:] {
			feature, err := strconv.ParseUint(word, 16, 16)
			require.NoError(s.t, err)
			features = append(features, mcbp.Feature(feature))
		}
		s.conns[words[1]] = login(s.t, s.n, features...)
	case "agree":
		c := s.conns[words[1]]
		f := c.agreeUntil(mcbp.OpDCPStreamReq)
		c.buf = append(f, c.buf...)
	case "quiet":
		require.Empty(s.t, s.conns[words[1]].untilQuiet(), line)
	case "closed":
		require.Empty(s.t, s.conns[words[1]].closed(), line)
	default:
		require.Fail(s.t, "no such step", line)
	}
}

func (s *script) option(word string) {
	key, value, _ := strings.Cut(word, "=")
	switch key {
	case "version":
		require.Equal(s.t, kvnode.Version72.String(), value)
		s.opts = append(s.opts, func(o *kvnode.Options) { o.Version = kvnode.Version72 })
	case "persistence":
		d, err := time.ParseDuration(value)
		require.NoError(s.t, err)
		s.opts = append(s.opts, func(o *kvnode.Options) { o.PersistenceTimeout = d })
	default:
		require.Fail(s.t, "no such option", word)
	}
}

func (s *script) administer(words []string) {
	s.t.Helper()
	id, err := strconv.ParseUint(words[1], 10, 16)
	require.NoError(s.t, err)
	vb := uint16(id)
	switch words[0] {
	case "vb":
		if words[2] == "missing" {
			s.admin.ok(&mcbp.Packet{Opcode: mcbp.OpDelVBucket, VBucket: vb})
			return
		}
		state, err := mcbp.ParseVBucketState(words[2])
		require.NoError(s.t, err)
		s.admin.setVBucket(vb, state)
	case "set":
		s.admin.set(vb, words[2], words[3])
	case "del":
		s.admin.del(vb, words[2])
	case "state":
		assert.Equal(s.t, words[2], s.admin.stat("vbucket", vb, ""))
	case "seqno":
		eventually(s.t, "seqno "+words[2], func() bool { return s.admin.stat("vbucket-seqno", vb, "high_seqno") == words[2] })
	}
}

func (s *script) frame(c *client, line string, words []string) {
	s.t.Helper()
	_, text, _ := strings.Cut(line, words[1])
	want := spelled(s.t, text)
	if words[1] == ">" {
		raw, err := hex.DecodeString(want)
		require.NoError(s.t, err, line)
		_, rest, err := mcbp.Parse(raw, 1<<20)
		require.NoError(s.t, err, line)
		require.Empty(s.t, rest, line)
		c.write(raw)
		return
	}
	require.Equal(s.t, "<", words[1], line)
	got := []byte(hex.EncodeToString(c.read()))
	for i := range min(len(got), len(want)) {
		if want[i] == '.' {
			got[i] = '.'
		}
	}
	require.Equal(s.t, want, string(got), line)
}

// spelled takes a frame's spelling apart: hex and dots stay, text between quotes becomes hex.
func spelled(t *testing.T, text string) string {
	t.Helper()
	var b bytes.Buffer
	for i, part := range strings.Split(text, `"`) {
		if i%2 == 1 {
			part = hex.EncodeToString([]byte(part))
		}
		b.WriteString(strings.ReplaceAll(part, " ", ""))
	}
	return b.String()
}

// The vectors of a stream numbered 0x1000, which takes 4095 streams before it.
func TestVectorsOfALateStream(t *testing.T) {
	n := startNode(t, "n0")
	admin := login(t, n)
	admin.setVBucket(5, mcbp.VBucketReplica)
	c := openDCP(t, n, kvnode.RoleConsumer, testLink, "")
	add := mcbp.AddStream{VBucket: 5, Opaque: mcbp.OpaqueFromUint32(5)}.Append(nil)
	for {
		c.write(add)
		request := answerNegotiation(t, c)
		if request.Opaque() == (mcbp.Opaque{0x00, 0x10, 0x00, 0x00}) {
			break
		}
		c.write(mcbp.StreamRequestAnswer{Opaque: request.Opaque(), Status: mcbp.StatusNotMyVBucket}.Append(nil))
		require.Equal(t, mcbp.OpDCPAddStream, c.read().Opcode())
	}
	raw := func(text string) []byte {
		b, err := hex.DecodeString(spelled(t, text))
		require.NoError(t, err)
		return b
	}
	c.write(raw("81 53 0000 00 00 0000 00000010 00100000 0000000000000000 0000000000000077 0000000000000000"))
	assert.Equal(t, raw("81 51 0000 04 00 0000 00000004 00000005 0000000000000000 00001000"), []byte(c.read()))
	c.write(raw("80 55 0000 04 00 0005 00000004 00100000 0000000000000000 00000002"))
	require.Empty(t, c.untilQuiet(), "an end that fits is not answered")
	c.write(add)
	assert.Equal(t, mcbp.OpDCPStreamReq, c.read().Opcode(), "the stream has ended")
}
