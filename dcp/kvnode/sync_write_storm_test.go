package kvnode_test

import (
	"flag"
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/shearpin/shearpin/dcp/kvnode"
	"github.com/shearpin/shearpin/dcp/mcbp"
)

// durableStorm writes to the active of a pair, durably and otherwise, while its topology and its stream come and go.
type durableStorm struct {
	t      *testing.T
	p      *pair
	random *rand.Rand
	open   bool
	// values is what the active must have, by key.
	values map[string]string
	count  int
}

var storms = flag.Int("storms", 6, "how many storms of durable writes there are")

const (
	thisOne  = `[["n0"]]`
	withBoth = `[["n0","n1"]]`
	tooMany  = `[["n0","n1","n2","n3"]]`
)

func (s *durableStorm) write() (key, value string, p *mcbp.Packet) {
	s.count++
	key, value = fmt.Sprintf("k%d", s.random.IntN(12)), fmt.Sprintf("v%d", s.count)
	return key, value, setPacket(7, key, value)
}

func (s *durableStorm) step() {
	key, value, p := s.write()
	switch n := s.random.IntN(100); {
	case n < 25:
		s.sent(key, value, s.p.a.do(p).Status())
	case n < 35:
		p.Opcode, p.Extras, p.Value = mcbp.OpDelete, nil, nil
		status := s.p.a.do(p).Status()
		if status != mcbp.StatusKeyNotFound {
			s.sent(key, "", status)
		}
	case n < 60: // with a majority at hand, or with one that is far away
		chains := []string{thisOne, withBoth}[s.random.IntN(2)]
		s.p.a.topology(7, chains)
		s.settle()
		timeout := time.Duration(1)
		if s.open || chains == thisOne {
			timeout = time.Minute
		}
		s.sent(key, value, s.p.a.do(durably(p, majority, timeout)).Status())
	case n < 75: // undecided: the client goes, and what becomes of the write depends on what comes
		s.p.a.topology(7, tooMany)
		timeout := time.Millisecond
		if s.random.IntN(2) == 0 {
			timeout = time.Minute
		}
		w, before := login(s.t, s.p.n0, durableFeatures...), s.p.prepared(s.p.a)
		answer := w.begin(durably(p, majority, timeout))
		eventually(s.t, "an answer, or a prepare", func() bool { return len(answer) > 0 || s.p.prepared(s.p.a) != before })
		w.socket.Close()
	case n < 80:
		s.p.a.topology(7, thisOne) // commits what is undecided
		s.settle()
	case n < 85:
		s.p.a.setVBucket(7, mcbp.VBucketActive) // aborts it
	case s.open:
		s.p.r.shutStream(7)
		s.open = false
	default:
		s.p.r.open(7, 0)
		s.open = true
	}
}

// sent notes what an answer promises.
func (s *durableStorm) sent(key, value string, status mcbp.Status) {
	switch status {
	case mcbp.StatusSuccess:
		s.values[key] = value
		f := s.p.a.get(7, key)
		if value == "" {
			require.Equal(s.t, mcbp.StatusKeyNotFound, f.Status())
		} else {
			require.Equal(s.t, value, string(f.Value()))
		}
	case mcbp.StatusSyncWriteInProgress, mcbp.StatusSyncWriteAmbiguous:
		delete(s.values, key)
	default:
		require.Fail(s.t, "an answer that fits nothing", "%v", status)
	}
}

// settle forgets what undecided writes may have changed.
func (s *durableStorm) settle() { clear(s.values) }

// Whatever comes in between, a replica has the documents of its active in the end, and nothing that is undecided.
func TestAStormOfDurableWritesIsReplicated(t *testing.T) {
	for seed := range uint64(*storms) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			p := durablePair(t, withBoth)
			s := &durableStorm{t: t, p: p, random: rand.New(rand.NewPCG(seed, 1)), open: true, values: map[string]string{}}
			for range 120 {
				s.step()
			}
			p.a.topology(7, thisOne)
			p.a.setVBucket(7, mcbp.VBucketActive)
			if !s.open {
				p.r.open(7, 0)
			}
			p.same(t, 7)
			for _, key := range []string{"high_prepared_seqno", "high_completed_seqno", "max_visible_seqno"} {
				assert.Equal(t, p.a.stat("vbucket-seqno", 7, key), p.b.stat("vbucket-seqno", 7, key), key)
			}
			assert.Equal(t, p.a.stat("vbucket-seqno", 7, "high_prepared_seqno"), p.a.stat("vbucket-seqno", 7, "high_completed_seqno"))
			p.b.setVBucket(7, mcbp.VBucketActive)
			for i := range 12 {
				p.b.set(7, fmt.Sprintf("k%d", i), "nothing is undecided")
			}
			for _, s := range p.r.frames(0) {
				if f := s.frame; s.from == kvnode.RoleConsumer && f.IsResponse() && f.Opcode() >= mcbp.OpDCPPrepare && f.Opcode() <= mcbp.OpDCPAbort {
					require.Equal(t, mcbp.StatusOpaqueNoMatch, f.Status(), "only what came for a stream that was closed is refused: %v", f)
				}
			}
		})
	}
}
