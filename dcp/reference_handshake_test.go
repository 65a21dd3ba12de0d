package dcp

import (
	"encoding/binary"
	"io"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/shearpin/shearpin/dcp/kv"
	"github.com/shearpin/shearpin/dcp/mcbp"
)

// Handshakes: the rows s of the recording. What kv/ does with each step is tested there; here is what it means for a link.
//
// Nearly all differ in the same way: a connection process is there before its socket, so a handshake that fails is no death
// of anybody. It is tried again, and a call that waits for the link is told why there is none.

// Differs in that both ends connect at once, and in the agent's name.
func TestReference_s0(t *testing.T) {
	onStage(t, nil, func(s *stage) {
		s.up(0)
		for node, end := range map[string]struct {
			role  string
			flags uint32
			value string
		}{
			"n1": {RoleConsumer, 0x124, `{"consumer_name":"n1"}`},
			"n0": {RoleProducer, 0x125, ""},
		} {
			var asked []mcbp.Frame
			for _, f := range s.nodes[node].seen() {
				switch f.Opcode() {
				case mcbp.OpSASLListMechs, mcbp.OpDCPAddStream, mcbp.OpDCPStreamReq:
				default:
					asked = append(asked, f)
				}
			}
			require.Len(t, asked, 4, node)
			assert.Equal(t, mcbp.OpSASLAuth, asked[0].Opcode())
			assert.Equal(t, "PLAIN", string(asked[0].Key()))
			assert.Equal(t, "\x00manager\x00secret", string(asked[0].Value()))
			assert.Equal(t, mcbp.OpSelectBucket, asked[1].Opcode())
			assert.Equal(t, "orders", string(asked[1].Key()))
			assert.Equal(t, mcbp.OpHello, asked[2].Opcode())
			assert.Equal(t, "shearpin:proxy-"+end.role+"/replication:n0->n1:orders", string(asked[2].Key()))
			var features []uint16
			for v := asked[2].Value(); len(v) > 1; v = v[2:] {
				features = append(features, binary.BigEndian.Uint16(v))
			}
			assert.ElementsMatch(t, []uint16{0x06, 0x12, 0x0a, 0x0b}, features)
			open := asked[3]
			assert.Equal(t, mcbp.OpDCPOpen, open.Opcode())
			assert.Equal(t, "replication:n0->n1:orders", string(open.Key()))
			assert.Equal(t, binary.BigEndian.AppendUint32(make([]byte, 4), end.flags), open.Extras())
			assert.Equal(t, end.value, string(open.Value()))
			assert.Equal(t, end.value != "", open.Datatype() == mcbp.DatatypeJSON)
			for _, f := range asked {
				assert.Zero(t, f.VBucket())
			}
		}
	})
}

// handshakeFails lets one answer of a node's handshake go wrong. Nothing dies; a call is answered, in time, with the step
// and the cause; and when the fault is over the link comes up by itself.
func handshakeFails(t *testing.T, node string, op mcbp.Opcode, r reply, step string, cause func(error)) {
	t.Helper()
	onStage(t, nil, func(s *stage) {
		n := s.nodes[node]
		n.on(op, r)
		err := next(s, s.apply(0))
		var (
			unconnected *NotConnectedError
			failed      *kv.ConnectError
		)
		require.ErrorAs(t, err, &unconnected)
		require.ErrorAs(t, err, &failed)
		assert.Equal(t, node, failed.Node)
		assert.Equal(t, step, failed.Step)
		cause(failed)
		s.quiet()
		assert.Equal(t, "connecting", s.status().State)
		n.on(op, nil)
		s.up(1)
		s.quiet()
	})
}

func causedBy(t *testing.T, target error) func(error) {
	return func(err error) { require.ErrorIs(t, err, target) }
}

// Differs: nobody dies of it.
func TestReference_s0a(t *testing.T) {
	handshakeFails(t, "n1", mcbp.OpSASLAuth, refuse(mcbp.StatusAuthError), kv.StepSASL, causedBy(t, mcbp.StatusAuthError))
}

// Differs: nobody dies of it.
func TestReference_s0b(t *testing.T) {
	handshakeFails(t, "n1", mcbp.OpSelectBucket, refuse(mcbp.StatusKeyNotFound), kv.StepSelectBucket, causedBy(t, mcbp.StatusKeyNotFound))
}

// Differs: nobody dies of it.
func TestReference_s0c(t *testing.T) {
	handshakeFails(t, "n1", mcbp.OpDCPOpen, refuse(mcbp.StatusKeyExists), kv.StepDCPOpen, causedBy(t, mcbp.StatusKeyExists))
}

// without grants all features but one.
func without(refused mcbp.Feature) reply {
	return func(f mcbp.Frame) *mcbp.Packet {
		answer := answerTo(f, mcbp.StatusSuccess)
		for v := f.Value(); len(v) > 1; v = v[2:] {
			if binary.BigEndian.Uint16(v) != uint16(refused) {
				answer.Value = append(answer.Value, v[:2]...)
			}
		}
		return answer
	}
}

// Differs: nobody dies of it.
func TestReference_s0d(t *testing.T) {
	handshakeFails(t, "n1", mcbp.OpHello, without(mcbp.FeatureXattr), kv.StepHello, func(err error) {
		var missing *kv.FeatureError
		require.ErrorAs(t, err, &missing)
		assert.Equal(t, []mcbp.Feature{mcbp.FeatureXattr}, missing.Missing)
	})
}

// Differs if only the consumer refuses: the producer's end is given up and opened without, whatever it has granted.
func TestReference_s0e(t *testing.T) {
	onStage(t, nil, func(s *stage) {
		for _, n := range s.nodes {
			n.on(mcbp.OpHello, without(mcbp.FeatureSnappy))
		}
		s.up(0)
		s.quiet()
	})
	onStage(t, nil, func(s *stage) {
		asking, once := make(chan struct{}), new(sync.Once)
		s.nodes["n1"].on(mcbp.OpHello, func(f mcbp.Frame) *mcbp.Packet {
			<-asking // the producer's end does not know yet
			return without(mcbp.FeatureSnappy)(f)
		})
		s.nodes["n0"].on(mcbp.OpHello, func(f mcbp.Frame) *mcbp.Packet {
			once.Do(func() { close(asking) })
			virtually(time.Second) // the consumer's end is first
			answer := answerTo(f, mcbp.StatusSuccess)
			answer.Value = f.Value()
			return answer
		})
		done := s.apply(0)
		s.c = next(s, s.nodes["n1"].opened)
		next(s, s.nodes["n0"].opened).rest()
		s.p = next(s, s.nodes["n0"].opened)
		add := s.c.read()
		s.request(add.VBucket(), 1)
		s.c.write(answerTo(add, mcbp.StatusSuccess))
		require.NoError(t, next(s, done))
		s.quiet()
		var asked []int
		for _, f := range s.nodes["n0"].seen() {
			if f.Opcode() == mcbp.OpHello {
				asked = append(asked, len(f.Value())/2)
			}
		}
		assert.Equal(t, []int{4, 3}, asked)
	})
}

// Differs: nobody dies of it; and the cause is the status, not a list of features.
func TestReference_s0f(t *testing.T) {
	handshakeFails(t, "n1", mcbp.OpHello, refuse(mcbp.StatusUnknownCommand), kv.StepHello, causedBy(t, mcbp.StatusUnknownCommand))
}

// Differs: nobody dies of it.
func TestReference_s0g(t *testing.T) {
	handshakeFails(t, "n1", mcbp.OpSASLAuth, hangUp, kv.StepSASL, causedBy(t, io.EOF))
}

// Differs: nobody dies of it.
func TestReference_s0h(t *testing.T) {
	handshakeFails(t, "n0", mcbp.OpDCPOpen, refuse(mcbp.StatusKeyExists), kv.StepDCPOpen, causedBy(t, mcbp.StatusKeyExists))
}

// Differs: nobody dies of it.
func TestReference_s0i(t *testing.T) {
	handshakeFails(t, "n0", mcbp.OpSASLAuth, hangUp, kv.StepSASL, causedBy(t, io.EOF))
}

// Differs: a producer that never answers costs one attempt at a time. What the consumer says meanwhile waits in its socket.
func TestReference_s0j(t *testing.T) {
	onStage(t, nil, func(s *stage) {
		n := s.nodes["n0"]
		n.on(mcbp.OpDCPOpen, silent)
		done := s.apply(0)
		s.c = next(s, s.nodes["n1"].opened)
		go s.c.write(noop(1))
		require.ErrorContains(t, next(s, done), "dcp_open: context deadline exceeded")
		assert.Empty(t, s.c.arrived(), "nothing is added before both ends are there")
		s.quiet()
		n.on(mcbp.OpDCPOpen, nil)
		s.p = next(s, n.opened)
		assert.Equal(t, noop(1).Frame(), s.p.read())
	})
}
