package kvnode_test

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"sync"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/shearpin/shearpin/dcp/kvnode"
	"github.com/shearpin/shearpin/dcp/mcbp"
)

func TestABrokenPeerLosesItsConnectionOnly(t *testing.T) {
	n := startNode(t, "n0")
	admin := login(t, n)
	huge := (&mcbp.Packet{Opcode: mcbp.OpSet}).Frame()
	binary.BigEndian.PutUint32(huge[8:], 1<<30)
	broken := (&mcbp.Packet{Opcode: mcbp.OpSet, Key: []byte("key")}).Frame()
	broken[4] = 200
	for name, frame := range map[string][]byte{
		"garbage":                      bytes.Repeat([]byte("GET / HTTP/1.1\r\n"), 3),
		"huge length":                  huge,
		"lengths that do not add up":   broken,
		"a server's magic":             (&mcbp.Packet{Magic: mcbp.MagicServerRequest, Opcode: mcbp.OpNoop}).Frame(),
		"an answer to nothing":         (&mcbp.Packet{Magic: mcbp.MagicResponse, Opcode: mcbp.OpNoop}).Frame(),
		"quit":                         (&mcbp.Packet{Opcode: mcbp.OpQuit}).Frame(),
		"a large body before its time": nil,
	} {
		c := login(t, n)
		if frame == nil {
			c = connect(t, n)
			frame = (&mcbp.Packet{Opcode: mcbp.OpSASLAuth, Value: make([]byte, 65<<10)}).Frame()[:mcbp.HeaderLen]
		}
		c.write(frame)
		answers := c.closed()
		if name == "quit" {
			assert.Len(t, answers, 1, name)
		} else {
			assert.Empty(t, answers, name)
		}
	}
	admin.ok(&mcbp.Packet{Opcode: mcbp.OpNoop})
}

func TestStrayAnswersCloseADCPConnection(t *testing.T) {
	for role, ops := range map[kvnode.Role][]mcbp.Opcode{
		kvnode.RoleConsumer: {mcbp.OpDCPAddStream, mcbp.OpDCPCloseStream, mcbp.OpDCPStreamReq, mcbp.OpDCPControl},
		kvnode.RoleProducer: {mcbp.OpDCPAddStream, mcbp.OpDCPCloseStream, mcbp.OpDCPStreamReq},
	} {
		for _, op := range ops {
			c := openDCP(t, startNode(t, "n0"), role, testLink, "")
			c.write((&mcbp.Packet{Magic: mcbp.MagicResponse, Opcode: op, Opaque: mcbp.Opaque{7}}).Frame())
			assert.Empty(t, c.closed(), "%v: %v", role, op)
		}
	}
}

// Secrets and documents stay out of the log, also when a peer sends nonsense.
func TestTheLogKeepsSecrets(t *testing.T) {
	var buffer syncBuffer
	n := startNode(t, "n0", func(o *kvnode.Options) {
		o.Log = slog.New(slog.NewJSONHandler(&buffer, &slog.HandlerOptions{Level: slog.LevelDebug}))
	})
	c := login(t, n)
	c.setVBucket(1, mcbp.VBucketActive)
	c.set(1, "secret-key", "secret-value")
	bad := (&mcbp.Packet{Opcode: mcbp.OpSet, Key: []byte("secret-key"), Value: []byte("secret-value")}).Frame()
	bad[0] = 0x42
	c.write(bad)
	c.closed()
	connect(t, n).do(&mcbp.Packet{Opcode: mcbp.OpSASLAuth, Key: []byte("PLAIN"), Value: []byte("\x00x\x00secret-password")})
	require.NoError(t, n.Close())
	text := buffer.String()
	assert.Contains(t, text, `"msg":"node_started"`)
	assert.Contains(t, text, `"msg":"malformed_frame"`)
	assert.Contains(t, text, `"part":"node"`)
	assert.NotContains(t, text, "secret")
	assert.NotContains(t, text, testPassword)
}

type syncBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (s *syncBuffer) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.Write(p)
}

func (s *syncBuffer) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.String()
}

// A client that does not read what it asked for is not served further, and hurts nobody.
func TestAClientThatDoesNotReadIsHeldUp(t *testing.T) {
	n := startNode(t, "n0")
	admin := login(t, n)
	admin.setVBucket(1, mcbp.VBucketActive)
	admin.set(1, "k", string(make([]byte, 256<<10)))
	greedy := login(t, n)
	get := (&mcbp.Packet{Opcode: mcbp.OpGet, VBucket: 1, Key: []byte("k")}).Frame()
	greedy.write(bytes.Repeat(get, 100))
	for range 10 {
		admin.get(1, "k")
	}
	for range 100 {
		require.Equal(t, mcbp.StatusSuccess, greedy.read().Status())
	}
	require.NoError(t, n.Close())
}

func TestClosingANodeEndsEverything(t *testing.T) {
	p := pairOf(t, 1, 2, 3)
	for vb := range uint16(3) {
		p.r.open(vb+1, 0)
	}
	require.NoError(t, p.n0.Close())
	require.NoError(t, p.n0.Close(), "twice is once")
	p.r.awaitEnd(kvnode.RoleProducer)
	pairs, _ := p.b.stats("dcp")
	assert.Equal(t, "consumer", pairs["eq_dcpq:"+testLink+":type"], "the consumer's connection outlives its producer")
	require.NoError(t, p.n1.Close())
	p.r.awaitEnd(kvnode.RoleConsumer)
}

// The last write before silence always arrives: nothing comes after it that could carry it along.
func TestTheLastWriteBeforeSilenceArrives(t *testing.T) {
	p := pairOf(t, 7)
	p.r.open(7, 0)
	for i := range 300 {
		p.a.set(7, "k", fmt.Sprint(i))
		eventually(t, "the write arrives", func() bool {
			return statUint(t, p.b, "vbucket-seqno", 7, "high_seqno") == uint64(i+1)
		})
	}
}

// Many vbuckets, writers, closes and takeovers at once; in the end each vbucket is active once, and both copies agree.
func TestManyVBucketsAtOnce(t *testing.T) {
	const vbuckets, writers, rounds = 64, 4, 30
	p := pairOf(t)
	for vb := range uint16(vbuckets) {
		p.a.setVBucket(vb, mcbp.VBucketActive)
		p.b.setVBucket(vb, mcbp.VBucketReplica)
	}
	var wg sync.WaitGroup
	for w := range writers {
		c := [2]*client{login(t, p.n0), login(t, p.n1)}
		wg.Go(func() {
			random := rand.New(rand.NewPCG(1, uint64(w)))
			for i := range rounds * vbuckets {
				vb := uint16(random.IntN(vbuckets))
				for at := 0; ; at = 1 - at {
					f := c[at].do(setPacket(vb, fmt.Sprintf("k%d-%d", w, random.IntN(20)), fmt.Sprint(i)))
					if f.Status() == mcbp.StatusSuccess {
						break
					}
				}
			}
		})
	}
	adds := make([]mcbp.Opaque, 0, vbuckets)
	for vb := range uint16(vbuckets) {
		adds = append(adds, p.r.add(vb, 0))
	}
	for _, add := range adds {
		require.Equal(t, mcbp.StatusSuccess, p.r.answer(kvnode.RoleConsumer, add).Status())
	}
	for vb := uint16(0); vb < vbuckets; vb += 2 {
		p.r.shutStream(vb)
		p.r.open(vb, mcbp.StreamFlagTakeover)
	}
	wg.Wait()
	for vb := range uint16(vbuckets) {
		if vb%2 == 0 {
			eventually(t, "taken over", func() bool { return p.stateOn(p.b, vb) == "active" && p.stateOn(p.a, vb) == "dead" })
		} else {
			p.same(t, vb)
		}
	}
}
